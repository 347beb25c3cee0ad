//! A proxy between device and server that breaks what goes through: on the loopback, below TLS.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{http, listener::Listener};

/// What happens to bytes on their way from the server to the device. Counts are per connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The connection ends after so many bytes.
    CutAfter(u64),
    /// After so many bytes nothing more comes, and the connection stays open.
    StallAfter(u64),
    /// The byte at this place is another one.
    Corrupt(u64),
    /// Nobody listens: connections end at once.
    Refuse,
}

/// A running proxy. Ends when it is dropped.
pub struct Proxy {
    listener: Listener,
    shared: Arc<Shared>,
}

struct Shared {
    target: Mutex<SocketAddr>,
    fault: Mutex<Fault>,
    connections: AtomicU64,
    bytes_down: AtomicU64,
    bytes_up: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Listens on a free port and passes everything on to `target`.
    pub fn to(target: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            fault: Mutex::new(Fault::None),
            connections: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
            bytes_up: AtomicU64::new(0),
            open: Mutex::new(Vec::new()),
        });
        let serving = shared.clone();
        let listener = Listener::start(move |device| serving.serve(device));
        Self { listener, shared }
    }

    pub const fn address(&self) -> SocketAddr {
        self.listener.address
    }

    /// Breaks connections that are opened from now on.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
    }

    /// Passes new connections on to somewhere else.
    pub fn retarget(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap() = target;
    }

    /// Ends every open connection.
    pub fn cut(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            // It may have ended already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Bytes that went from devices to the server.
    pub fn bytes_up(&self) -> u64 {
        self.shared.bytes_up.load(Ordering::SeqCst)
    }

    /// Bytes that went from the server to devices.
    pub fn bytes_down(&self) -> u64 {
        self.shared.bytes_down.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.end();
        self.cut();
    }
}

impl Shared {
    fn serve(self: &Arc<Self>, device: TcpStream) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let fault = *self.fault.lock().unwrap();
        let target = *self.target.lock().unwrap();
        if fault == Fault::Refuse {
            return;
        }
        let Ok(server) = http::connect(target) else {
            return;
        };
        let (Ok(up_from), Ok(up_to)) = (device.try_clone(), server.try_clone()) else {
            return;
        };
        let mut open = self.open.lock().unwrap();
        open.extend(device.try_clone());
        open.extend(server.try_clone());
        drop(open);
        let shared = self.clone();
        std::thread::spawn(move || {
            pump(up_from, up_to, |bytes, _| {
                shared.bytes_up.fetch_add(u64::try_from(bytes.len()).unwrap(), Ordering::SeqCst);
                Some(bytes.len())
            });
        });
        let shared = self.clone();
        std::thread::spawn(move || {
            pump(server, device, |bytes, before| {
                let len = u64::try_from(bytes.len()).unwrap();
                shared.bytes_down.fetch_add(len, Ordering::SeqCst);
                match fault {
                    Fault::CutAfter(at) if before + len > at => return Some(usize::try_from(at - before).unwrap()),
                    Fault::StallAfter(at) if before + len > at => return None,
                    Fault::Corrupt(at) if (before..before + len).contains(&at) => {
                        bytes[usize::try_from(at - before).unwrap()] ^= 0x01;
                    }
                    _ => {}
                }
                Some(bytes.len())
            });
        });
    }
}

/// Copies until either side ends. `change` sees each piece and the bytes before it, and says how much goes on: less
/// than all ends the connection, `None` swallows this piece and all others.
fn pump(mut from: TcpStream, mut to: TcpStream, mut change: impl FnMut(&mut [u8], u64) -> Option<usize>) {
    let mut buffer = [0; 16 * 1024];
    let mut before = 0;
    let mut stalled = false;
    // Reads may take as long as the test: an idle connection is not a broken one.
    let _ = from.set_read_timeout(None);
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 {
            break;
        }
        if stalled {
            continue;
        }
        match change(&mut buffer[..n], before) {
            Some(len) => {
                if to.write_all(&buffer[..len]).is_err() || len < n {
                    break;
                }
            }
            None => stalled = true,
        }
        before += u64::try_from(n).unwrap();
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
