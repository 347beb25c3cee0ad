//! An HTTP proxy as shops have it: passes `CONNECT` on for whoever knows the password, to hosts that it allows.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::listener::Listener;

/// A running proxy. Ends when it is dropped.
pub struct ConnectProxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _listener: Listener,
}

struct Shared {
    /// What `Proxy-Authorization` has to say.
    wanted: Option<String>,
    /// Where connections to any name go; the proxy resolves names, not the device.
    target: SocketAddr,
    allowed: AtomicBool,
    /// First lines of the requests.
    asked: Mutex<Vec<String>>,
}

impl ConnectProxy {
    /// Passes on to `target`, for those who send `wanted` as `Proxy-Authorization`.
    pub fn to(target: SocketAddr, wanted: Option<&str>) -> Self {
        let shared = Arc::new(Shared {
            wanted: wanted.map(str::to_owned),
            target,
            allowed: AtomicBool::new(true),
            asked: Mutex::new(Vec::new()),
        });
        let serving = shared.clone();
        let listener = Listener::start(move |client| {
            let shared = serving.clone();
            std::thread::spawn(move || shared.serve(client));
        });
        Self { address: listener.address, shared, _listener: listener }
    }

    /// Allows no host from now on.
    pub fn allow_nothing(&self) {
        self.shared.allowed.store(false, Ordering::SeqCst);
    }

    /// The first lines of the requests.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }
}

impl Shared {
    fn serve(&self, mut client: TcpStream) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
            match client.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        self.asked.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
        let authorization = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("proxy-authorization").then(|| value.to_owned())
        });
        let refusal = if self.wanted.is_some() && authorization != self.wanted {
            Some("407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"shop\"")
        } else if !self.allowed.load(Ordering::SeqCst) || !head.starts_with("CONNECT ") {
            Some("403 Forbidden")
        } else {
            None
        };
        // Who has hung up needs no answer.
        if let Some(refusal) = refusal {
            let _ = write!(client, "HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n");
            return;
        }
        let Ok(server) = TcpStream::connect(self.target) else { return };
        let _ = write!(client, "HTTP/1.1 200 Connection established\r\n\r\n");
        let (back, up) = ((server.try_clone().unwrap(), client.try_clone().unwrap()), (client, server));
        let pump = |(mut from, mut to): (TcpStream, TcpStream)| {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        };
        let down = std::thread::spawn(move || pump(back));
        pump(up);
        let _ = down.join();
    }
}
