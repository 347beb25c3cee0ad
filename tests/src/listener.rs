//! Whoever takes connections on the loopback: proxies, firewalls and servers that lie.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// A listener on a free port. Ends when it is dropped.
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    over: Arc<AtomicBool>,
}

impl Listener {
    /// Gives each connection to `take`, one after the other.
    pub(crate) fn start(mut take: impl FnMut(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        std::thread::spawn(move || {
            for incoming in listener.incoming().flatten() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                take(incoming);
            }
        });
        Self { address, over }
    }

    /// Takes no connection any more.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.end();
    }
}
