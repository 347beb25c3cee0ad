//! A server that lies: TLS and HTTP by hand, of which every byte is the test's.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::{listener::Listener, wait::LIMIT};

mod kit;

pub use kit::{Kit, Software, Stolen, pack, seal};

/// Between two bytes of a trickle.
const DRIP: Duration = Duration::from_millis(100);
/// An endless body ends here, so that a test that goes wrong does.
const ENDLESS: usize = 256 << 20;

/// What the server was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub range: Option<String>,
    pub body: Vec<u8>,
    /// Requests for the same path before this one.
    pub before: usize,
}

/// One answer. It has the length of its body, unless a header says another one.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub end: End,
}

/// What comes after the head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The body, and the next request is heard.
    Proper,
    /// The body, and then the connection ends.
    Cut,
    /// The body, and then nothing more.
    Silence,
    /// The body, a byte now and then.
    Trickle,
    /// The body over and over.
    Endless,
}

impl Answer {
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into(), end: End::Proper }
    }

    pub fn status(status: u16) -> Self {
        Self { status, ..Self::ok([]) }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn end(self, end: End) -> Self {
        Self { end, ..self }
    }

    /// The bytes of `whole` that `range` asks for, as an honest server sends them.
    pub fn part(whole: &[u8], range: Option<&str>) -> Self {
        let Some(range) = range.and_then(|range| range.strip_prefix("bytes=")) else { return Self::ok(whole) };
        let (start, end) = range.split_once('-').unwrap();
        let start: usize = start.parse().unwrap();
        let end = if end.is_empty() { whole.len() } else { end.parse::<usize>().unwrap() + 1 };
        let header = format!("bytes {start}-{}/{}", end - 1, whole.len());
        Self { status: 206, ..Self::ok(&whole[start..end]) }.header("content-range", header)
    }

    fn send(&self, tls: &mut Tls) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} As it pleases\r\n", self.status);
        let has = |wanted: &str| self.headers.iter().any(|(name, _)| *name == wanted);
        if !has("content-length") && !has("transfer-encoding") && self.end != End::Endless {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        tls.get_mut().write_all(head.as_bytes())?;
        match self.end {
            End::Trickle => {
                // Nobody sends: the receiver is a pause that cannot be cut short.
                let (_sender, pause) = std::sync::mpsc::channel::<()>();
                for byte in &self.body {
                    tls.get_mut().write_all(&[*byte])?;
                    tls.get_mut().flush()?;
                    let _ = pause.recv_timeout(DRIP);
                }
            }
            End::Endless => {
                for _ in 0..ENDLESS / self.body.len().max(1) {
                    tls.get_mut().write_all(&self.body)?;
                }
            }
            _ => tls.get_mut().write_all(&self.body)?,
        }
        tls.get_mut().flush()?;
        match self.end {
            End::Proper | End::Trickle => Ok(()),
            End::Silence => {
                // Until the device has had enough.
                let _ = tls.read(&mut [0])?;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            End::Cut | End::Endless => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

type Tls = BufReader<StreamOwned<ServerConnection, TcpStream>>;
type Handler = dyn Fn(&Asked) -> Answer + Send + Sync;

/// A running server. Ends when it is dropped.
pub struct Hostile {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _listener: Listener,
}

struct Shared {
    seen: Mutex<Seen>,
    news: Condvar,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub struct Seen {
    pub asked: Vec<Asked>,
    pub connections: usize,
}

impl Hostile {
    /// Listens on a free port, shows a certificate and answers as `handler` says.
    pub fn start(tls: Arc<ServerConfig>, handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared { seen: Mutex::default(), news: Condvar::new() });
        let (serving, handler): (_, Arc<Handler>) = (shared.clone(), Arc::new(handler));
        let listener = Listener::start(move |tcp| {
            let (tls, handler, shared) = (tls.clone(), handler.clone(), serving.clone());
            // How a connection ends is the device's business.
            std::thread::spawn(move || drop(shared.serve(tcp, tls, &*handler)));
        });
        Self { address: listener.address, shared, _listener: listener }
    }

    /// Waits until what has happened is `enough`; gives it.
    ///
    /// # Panics
    /// When it is not within the time that anything may take; says what was waited for and what has happened.
    pub fn wait_until(&self, what: &str, enough: impl Fn(&Seen) -> bool) -> Vec<Asked> {
        let seen = self.shared.seen.lock().unwrap();
        let (seen, timeout) = self.shared.news.wait_timeout_while(seen, LIMIT, |seen| !enough(seen)).unwrap();
        let lines: Vec<String> = seen.asked.iter().map(|one| format!("{} {}", one.method, one.path)).collect();
        assert!(!timeout.timed_out(), "waited {LIMIT:?} in vain for: {what}; asked was {lines:#?}");
        seen.asked.clone()
    }
}

impl Shared {
    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap());
        self.news.notify_all();
    }

    fn serve(&self, tcp: TcpStream, tls: Arc<ServerConfig>, handler: &Handler) -> io::Result<()> {
        self.note(|seen| seen.connections += 1);
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(LIMIT))?;
        tcp.set_write_timeout(Some(LIMIT))?;
        let connection = ServerConnection::new(tls).map_err(io::Error::other)?;
        let mut tls = BufReader::new(StreamOwned::new(connection, tcp));
        while let Some(mut asked) = read(&mut tls)? {
            self.note(|seen| {
                asked.before = seen.asked.iter().filter(|one| one.path == asked.path).count();
                seen.asked.push(asked.clone());
            });
            handler(&asked).send(&mut tls)?;
        }
        Ok(())
    }
}

fn read(tls: &mut Tls) -> io::Result<Option<Asked>> {
    let (mut first, mut length, mut range) = (String::new(), 0, None);
    if tls.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    loop {
        let mut line = String::new();
        tls.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().map_err(io::Error::other)?,
            "range" => range = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    tls.read_exact(&mut body)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Ok(Some(Asked { method, path, range, body, before: 0 }))
}
