//! A small HTTP/1.1 client over any stream: tests need to see and to break what libraries hide.

use std::{
    collections::BTreeMap,
    io::{self, BufReader, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
};

use callboard_proto::problem::{Code, MEDIA_TYPE, Problem};
use serde::{Serialize, de::DeserializeOwned};

use crate::wait::LIMIT;

/// Both directions of a connection.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// Opens a connection on which nothing waits for ever.
pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    ready(TcpStream::connect_timeout(&address, LIMIT)?)
}

/// The same from an address of this machine that is not the one that the system would choose.
pub fn connect_from(source: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddr::new(source, 0))?;
    connect(&socket, &address)?;
    ready(socket.into())
}

fn ready(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection without TLS.
pub struct Plain(BufReader<TcpStream>);

impl Plain {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self(BufReader::new(connect(address)?)))
    }
}

impl Read for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Plain {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.get_mut().flush()
    }
}

/// What is asked. The host is `localhost` unless a header says otherwise.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
}

impl Request {
    pub fn new(method: &str, path: impl Into<String>) -> Self {
        Self { method: method.to_owned(), path: path.into(), headers: Vec::new(), body: None }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    pub fn post(path: impl Into<String>) -> Self {
        Self::new("POST", path)
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn body(mut self, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self.header("content-type", kind)
    }

    pub fn json(self, body: &impl Serialize) -> Self {
        self.body("application/json", serde_json::to_vec(body).unwrap())
    }

    fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        if !self.has("host") {
            head.push_str("host: localhost\r\n");
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = self.body.as_ref().filter(|_| !self.has("content-length")) {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        head
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known == name)
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// By lower-case name; the last of a name counts.
    pub headers: BTreeMap<String, String>,
    /// What was set, cookie by cookie.
    pub cookies: Vec<String>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body of a success.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// Some success.
    #[track_caller]
    pub fn ok(&self) {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.text());
    }

    /// The detail of a problem with this code, in its form.
    #[track_caller]
    pub fn problem(&self, code: Code) -> String {
        let (word, title, status) = code.row();
        assert_eq!(self.status, status, "wanted {word}, got: {}", self.text());
        assert_eq!(self.header("content-type"), Some(MEDIA_TYPE));
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!((problem.code.as_str(), problem.title.as_str(), problem.status), (word, title, status));
        problem.detail
    }
}

/// Sends a request and reads its answer.
pub fn exchange(stream: &mut dyn Stream, request: &Request) -> io::Result<Response> {
    stream.write_all(request.head().as_bytes())?;
    if let Some(body) = &request.body {
        // A server that refuses early may stop reading; its answer counts.
        let _ = stream.write_all(body);
    }
    let _ = stream.flush();
    read(stream, request.method == "HEAD")
}

/// Reads one answer and not a byte more, so that the connection can be used again.
pub fn read(stream: &mut dyn Stream, head_only: bool) -> io::Result<Response> {
    let (status, headers, cookies) = read_head_with_cookies(stream)?;
    let mut body = Vec::new();
    let bare = head_only || status == 204 || status == 304;
    if !bare && headers.get("transfer-encoding").is_some_and(|value| value == "chunked") {
        read_chunks(stream, &mut body)?;
    } else if !bare && let Some(length) = headers.get("content-length") {
        let length: usize = length.parse().map_err(io::Error::other)?;
        body.resize(length, 0);
        stream.read_exact(&mut body)?;
    }
    Ok(Response { status, headers, cookies, body })
}

/// Reads status and headers, up to the empty line.
pub fn read_head(stream: &mut dyn Stream) -> io::Result<(u16, BTreeMap<String, String>)> {
    read_head_with_cookies(stream).map(|(status, headers, _)| (status, headers))
}

/// The same, and every cookie: a server may set several.
fn read_head_with_cookies(stream: &mut dyn Stream) -> io::Result<(u16, BTreeMap<String, String>, Vec<String>)> {
    let first = read_line(stream)?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("not HTTP: {first:?}")))?;
    let (mut headers, mut cookies) = (BTreeMap::new(), Vec::new());
    loop {
        let line = read_line(stream)?;
        let Some((name, value)) = line.split_once(':') else {
            return Ok((status, headers, cookies));
        };
        if name.eq_ignore_ascii_case("set-cookie") {
            cookies.push(value.trim().to_owned());
        }
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
}

fn read_chunks(stream: &mut dyn Stream, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let size = usize::from_str_radix(&read_line(stream)?, 16).map_err(io::Error::other)?;
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(&mut body[start..])?;
        read_line(stream)?;
        if size == 0 {
            return Ok(());
        }
    }
}

fn read_line(stream: &mut dyn Stream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    line.truncate(line.len() - 2);
    String::from_utf8(line).map_err(io::Error::other)
}
