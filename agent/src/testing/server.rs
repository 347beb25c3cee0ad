//! A small HTTPS server on loopback whose answers a test decides.

use std::{
    cell::RefCell,
    collections::VecDeque,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_rustls::TlsAcceptor;

use crate::{
    client::{Client, Endpoint, Line},
    clock::Clock,
    config::{Network, Shows, Way},
};

/// What the server was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) range: Option<String>,
    /// What is said of the request's signature.
    pub(crate) signed: Option<String>,
    pub(crate) body: Vec<u8>,
    /// Which connection it came over, from 0.
    pub(crate) connection: usize,
}

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// After the body: end it, cut the connection, or say nothing more.
    pub(crate) end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Proper,
    Cut,
    Silence,
    /// Instead of a body, a byte of it now and then.
    Trickle,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into(), end: End::Proper }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::ok([]) }
    }

    /// The connection ends instead.
    pub(crate) fn none() -> Self {
        Self::status(0)
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn end(self, end: End) -> Self {
        Self { end, ..self }
    }

    /// The bytes of `whole` that `range` asks for, as a well-behaved server sends them.
    pub(crate) fn part(whole: &[u8], range: Option<&str>) -> Self {
        let Some(range) = range.and_then(|range| range.strip_prefix("bytes=")) else { return Self::ok(whole) };
        let (start, end) = range.split_once('-').expect("a range");
        let start: usize = start.parse().expect("a number");
        let end = if end.is_empty() { whole.len() } else { end.parse::<usize>().expect("a number") + 1 };
        let header = format!("bytes {start}-{}/{}", end - 1, whole.len());
        Self { status: 206, ..Self::ok(&whole[start..end]) }.header("content-range", header)
    }
}

pub(crate) type Handler = dyn FnMut(&Asked) -> Answer;

/// Connections without a network to a server that answers as `handler` says. Needs a `LocalSet`.
pub(crate) fn line(handler: Rc<RefCell<Handler>>) -> Line {
    Rc::new(move || {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let handler = Rc::clone(&handler);
        tokio::task::spawn_local(async move {
            let seen = Arc::default();
            let service = service_fn(|request| answer(request, 0, &handler, &seen));
            // It ends with whoever asks.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(far), service).await;
        });
        near
    })
}

/// The server; it ends with the runtime of the test.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// From when to when the server's certificate is valid, in years.
pub(crate) type Years = (i32, i32);

impl TestServer {
    /// Starts a server that answers as `handler` says. Needs a `LocalSet`.
    pub(crate) async fn start(years: Years, handler: impl FnMut(&Asked) -> Answer + 'static) -> Self {
        let (acceptor, ca_pem) = tls(years);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let handler: Rc<RefCell<Handler>> = Rc::new(RefCell::new(handler));
        tokio::task::spawn_local(async move {
            for connection in 0.. {
                let (tcp, _) = listener.accept().await.expect("a connection");
                let (acceptor, handler, seen) = (acceptor.clone(), Rc::clone(&handler), Arc::clone(&seen));
                tokio::task::spawn_local(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(|request| answer(request, connection, &handler, &seen));
                    // Cut connections are what these tests are about.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
                });
            }
        });
        Self { address, ca_pem, asked }
    }

    /// Everything asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("not poisoned").clone()
    }

    /// A client of this server with short timeouts.
    pub(crate) fn client(&self, clock: &Arc<Clock>) -> Client {
        self.client_at(self.address, clock)
    }

    /// The same, where nobody listens: at a port that was free a moment ago.
    pub(crate) fn client_of_nobody(&self, clock: &Arc<Clock>) -> Client {
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        self.client_at(port.local_addr().expect("an address"), clock)
    }

    fn client_at(&self, address: SocketAddr, clock: &Arc<Clock>) -> Client {
        let endpoint = Endpoint::parse(&format!("https://{address}")).expect("an address");
        Client::new(endpoint, &self.ca_pem, None, clock, NETWORK).expect("a client")
    }
}

/// Between the bytes of a trickle: far less than a stall, and far fewer bytes than a line brings.
const DRIP: Duration = Duration::from_millis(5);

pub(crate) const NETWORK: Network = Network {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(5),
    stall: Duration::from_millis(300),
    way: Way::Straight,
    extra_ca_file: None,
    shows: Shows::Certificate,
};

async fn answer(
    request: Request<Incoming>,
    connection: usize,
    handler: &Rc<RefCell<Handler>>,
    seen: &Arc<Mutex<Vec<Asked>>>,
) -> Result<Response<Body>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let field = |name| parts.headers.get(name).map(|value| value.to_str().expect("text").to_owned());
    let (range, signed) = (field("range"), field("signature-input"));
    let body = body.collect().await.expect("a body").to_bytes().to_vec();
    let asked = Asked { line: format!("{} {}", parts.method, parts.uri), range, signed, body, connection };
    let answer = (handler.borrow_mut())(&asked);
    seen.lock().expect("not poisoned").push(asked);
    if answer.status == 0 {
        return Err(std::io::ErrorKind::ConnectionAborted.into());
    }
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(*name, value);
    }
    Ok(response.body(Body::new(answer)).expect("a response"))
}

/// A body that ends as the test wants.
struct Body {
    pieces: VecDeque<Bytes>,
    end: End,
    flushed: bool,
    /// Until the next byte of a trickle.
    drip: std::pin::Pin<Box<tokio::time::Sleep>>,
    // Never sent to: keeps a silent body pending.
    silence: (mpsc::Sender<()>, mpsc::Receiver<()>),
}

impl Body {
    fn new(answer: Answer) -> Self {
        let piece = if answer.end == End::Trickle { 1 } else { 16 * 1024 };
        let pieces = answer.body.chunks(piece).map(Bytes::copy_from_slice).collect();
        let drip = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { pieces, end: answer.end, flushed: false, drip, silence: mpsc::channel(1) }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        use std::task::Poll;
        if self.end == End::Trickle {
            std::task::ready!(self.drip.as_mut().poll(context));
            self.drip = Box::pin(tokio::time::sleep(DRIP));
        }
        if let Some(piece) = self.pieces.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match self.end {
            End::Proper | End::Trickle => Poll::Ready(None),
            // Once pending, so that everything before the cut is on its way.
            End::Cut if !self.flushed => {
                self.flushed = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            End::Cut => Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into()))),
            End::Silence => {
                assert!(self.silence.1.poll_recv(context).is_pending());
                Poll::Pending
            }
        }
    }
}

fn tls(years: Years) -> (TlsAcceptor, String) {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().expect("a key");
    let ca_pem = ca.self_signed(&ca_key).expect("a certificate").pem();
    let issuer = Issuer::new(ca, ca_key);
    let mut leaf = CertificateParams::default();
    leaf.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().expect("an address"))];
    leaf.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    leaf.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = leaf.signed_by(&key, &issuer).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("a configuration");
    (TlsAcceptor::from(Arc::new(config)), ca_pem)
}
