//! HTTP/1.1 over TLS 1.3 to the one server of this device.
//!
//! One connection is kept from check-in over documents to payloads and closed when nothing is left to ask. Every
//! answer has a size limit and a time limit; redirects and content encodings are errors.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::Duration,
};

use callboard_proto::{problem::Code as Problem, time::Timestamp};
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
};
use tokio::time::{Instant, timeout};

pub(crate) use connection::Connection;
pub(crate) use endpoint::Endpoint;
pub(crate) use error::{ClientError, plain};
pub(crate) use look::{Seen, look};
use sign::Signer;
use tls::Connectors;
pub(crate) use tls::{Credentials, TlsError, belong_together};

use crate::{
    clock::Clock,
    config::{Network, Shows},
};

mod connection;
mod endpoint;
mod error;
mod look;
mod sign;
mod tls;
mod way;

/// A problem document is a few hundred bytes.
const MAX_PROBLEM_BYTES: usize = 16 * 1024;

/// Whether a request may go out although the server's certificate is out of date by this device's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dates {
    /// Never: releases, payloads, reports.
    Matter,
    /// If nothing but the dates is wrong: check-in, whose answer tells the time, and enrolment, which comes before it.
    MayBeWrong,
}

/// The server as seen from this device.
pub(crate) struct Client {
    endpoint: Endpoint,
    tls: RefCell<Connectors>,
    /// What the device shows of itself, in the handshake or with its signatures.
    shown: RefCell<Option<Credentials>>,
    /// Where the device signs its requests.
    signer: RefCell<Option<Signer>>,
    clock: Arc<Clock>,
    network: Network,
    idle: RefCell<Option<Connection>>,
    /// What the server last said the time was. Nobody signed it.
    date: Cell<Option<Timestamp>>,
    /// Where tests get connections without a network.
    #[cfg(test)]
    line: RefCell<Option<Line>>,
}

/// Brings one end of a connection; a server is at the other.
#[cfg(test)]
pub(crate) type Line = std::rc::Rc<dyn Fn() -> tokio::io::DuplexStream>;

/// Makes a request; another signature each time, where requests are signed.
type Making<'a> = dyn Fn() -> Result<Request<Full<Bytes>>, ClientError> + 'a;
/// What was answered, and what its body comes over.
type Answer = (Connection, Response<Incoming>);

/// An answer whose body is still arriving.
pub(crate) struct Stream {
    pub(crate) response: Response<Incoming>,
    // Last, so that the body is dropped before what feeds it.
    _connection: Connection,
}

impl Client {
    /// A client that believes certificates of `ca_pem` alone and shows `credentials`, if there are any yet.
    pub(crate) fn new(
        endpoint: Endpoint,
        ca_pem: &str,
        credentials: Option<Credentials>,
        clock: &Arc<Clock>,
        network: Network,
    ) -> Result<Self, TlsError> {
        let (tls, signer) = prepare(ca_pem, credentials.as_ref(), clock, &network)?;
        Ok(Self {
            endpoint,
            tls: RefCell::new(tls),
            shown: RefCell::new(credentials),
            signer: RefCell::new(signer),
            clock: Arc::clone(clock),
            network,
            idle: RefCell::new(None),
            date: Cell::new(None),
            #[cfg(test)]
            line: RefCell::new(None),
        })
    }

    /// Talks over this from now on, and not over a network.
    #[cfg(test)]
    pub(crate) fn talk_over(&self, line: Line) {
        self.line.replace(Some(line));
    }

    /// `POST` of JSON; the whole body of a successful answer, at most `cap` bytes.
    pub(crate) async fn post(&self, path: &str, body: Vec<u8>, cap: usize, dates: Dates) -> Result<Bytes, ClientError> {
        self.post_and_wait(path, body, cap, dates, Duration::ZERO).await
    }

    /// The same; the server may take `wait` longer to answer. Such a request is not sent again over another connection: a
    /// server that ends lets all its devices go at once, and they must not come back at once.
    pub(crate) async fn post_and_wait(
        &self,
        path: &str,
        body: Vec<u8>,
        cap: usize,
        dates: Dates,
        wait: Duration,
    ) -> Result<Bytes, ClientError> {
        self.whole(Method::POST, path, Bytes::from(body), cap, (dates, wait)).await
    }

    /// `GET` of a document of at most `cap` bytes.
    pub(crate) async fn get(&self, path: &str, cap: usize, dates: Dates) -> Result<Bytes, ClientError> {
        self.whole(Method::GET, path, Bytes::new(), cap, (dates, Duration::ZERO)).await
    }

    /// `GET` of some bytes of a payload, as `bytes=...` says.
    pub(crate) async fn range(&self, path: &str, range: &str) -> Result<Stream, ClientError> {
        let request = || {
            let builder = self.request(&Method::GET, path, &[])?.header(header::RANGE, range);
            builder.body(Full::default()).map_err(ClientError::request)
        };
        let (connection, response) = self.ask(&request, Dates::Matter, Duration::ZERO).await?;
        Ok(Stream { response, _connection: connection })
    }

    /// How long a body may make no progress.
    pub(crate) const fn network(&self) -> &Network {
        &self.network
    }

    /// A client of another address that shows the same: the key may be sealed, and opening it takes a program.
    pub(crate) fn elsewhere(&self, endpoint: Endpoint, ca_pem: &str) -> Result<Self, TlsError> {
        let shown = self.shown.borrow().as_ref().map(Credentials::again);
        Self::new(endpoint, ca_pem, shown, &self.clock, self.network.clone())
    }

    /// Shows another certificate from now on, and over a new connection.
    pub(crate) fn show(&self, ca_pem: &str, credentials: Credentials) -> Result<(), TlsError> {
        let (tls, signer) = prepare(ca_pem, Some(&credentials), &self.clock, &self.network)?;
        self.tls.replace(tls);
        self.shown.replace(Some(credentials));
        self.signer.replace(signer);
        self.close();
        Ok(())
    }

    /// What the server said the time was with its last answer. Nobody signed it: for people, not for trust.
    pub(crate) fn date(&self) -> Option<Timestamp> {
        self.date.get()
    }

    /// Closes the kept connection: idle sockets cost the server more than new handshakes.
    pub(crate) fn close(&self) {
        self.idle.take();
    }

    /// The whole answer.
    async fn whole(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        cap: usize,
        (dates, wait): (Dates, Duration),
    ) -> Result<Bytes, ClientError> {
        let request = || {
            let mut builder = self.request(&method, path, &body)?;
            if method == Method::POST {
                builder = builder.header(header::CONTENT_TYPE, "application/json");
            }
            builder.body(Full::new(body.clone())).map_err(ClientError::request)
        };
        let (connection, response) = self.ask(&request, dates, wait).await?;
        let bytes = self.collect(response, cap).await?;
        self.keep(connection);
        Ok(bytes)
    }

    /// A successful answer. A request that was signed at a time that is none to the server is signed again, by the
    /// server's clock: only for that is it believed.
    async fn ask(&self, request: &Making<'_>, dates: Dates, wait: Duration) -> Result<Answer, ClientError> {
        let first = self.once(request, dates, wait).await;
        let signed_off = |error: &ClientError| error.code() == Problem::SignatureExpired.as_str();
        match (&first, self.date.get()) {
            (Err(error), Some(date)) if signed_off(error) => {
                if let Some(signer) = self.signer.borrow_mut().as_mut() {
                    signer.set_clock(&self.clock, date);
                }
            }
            _ => return first,
        }
        self.once(request, dates, wait).await
    }

    async fn once(&self, request: &Making<'_>, dates: Dates, wait: Duration) -> Result<Answer, ClientError> {
        let (connection, response) = self.send(request, dates, wait).await?;
        Ok((connection, self.accept(response).await?))
    }

    fn request(&self, method: &Method, path: &str, body: &[u8]) -> Result<hyper::http::request::Builder, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.endpoint.authority())
            .header(header::USER_AGENT, concat!("callboard-agent/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT_ENCODING, "identity");
        let signer = self.signer.borrow();
        let Some(signer) = &*signer else { return Ok(request) };
        let fields = signer.fields(method.as_str(), path, body, &self.clock).map_err(ClientError::Sign)?;
        Ok(fields.into_iter().fold(request, |request, (name, value)| request.header(name, value)))
    }

    /// Sends over the kept connection or a new one. A kept one may just have been closed by the server, so a failure
    /// there says nothing yet; every request of ours may be repeated.
    async fn send(&self, request: &Making<'_>, dates: Dates, wait: Duration) -> Result<Answer, ClientError> {
        let patience = self.network.answer + wait;
        // Taken out first: the borrow must not live across an await.
        let kept = self.idle.take();
        if let Some(mut connection) = kept {
            match connection.send(request()?, patience).await {
                Ok(response) => return Ok((connection, response)),
                Err(error) if !wait.is_zero() => return Err(error),
                Err(_) => {}
            }
        }
        let mut connection = self.open(dates).await?;
        let response = connection.send(request()?, patience).await?;
        Ok((connection, response))
    }

    async fn open(&self, dates: Dates) -> Result<Connection, ClientError> {
        #[cfg(test)]
        {
            let line = self.line.borrow().clone();
            if let Some(line) = line {
                return Connection::over(line()).await;
            }
        }
        let tls = self.tls.borrow().clone();
        match Connection::open(&self.endpoint, &self.network, &tls.strict).await {
            Err(error) if dates == Dates::MayBeWrong && error.is_only_dates() => {
                tracing::warn!(reason = %error, "asking for the time with the certificate's dates ignored");
                Ok(Connection::open(&self.endpoint, &self.network, &tls.recovery).await?.used_once())
            }
            other => other,
        }
    }

    fn keep(&self, connection: Connection) {
        if connection.is_reusable() {
            self.idle.replace(Some(connection));
        }
    }

    /// Passes on a successful answer that is what it seems to be.
    async fn accept(&self, response: Response<Incoming>) -> Result<Response<Incoming>, ClientError> {
        let status = response.status();
        self.date.set(error::date(response.headers()));
        if response.headers().contains_key(header::CONTENT_ENCODING) {
            return Err(ClientError::Encoded);
        }
        if status == StatusCode::OK || status == StatusCode::PARTIAL_CONTENT {
            return Ok(response);
        }
        let retry_after = error::retry_after(response.headers());
        // Whatever happens to the explanation, the status is the news.
        let body = self.collect(response, MAX_PROBLEM_BYTES).await.unwrap_or_default();
        Err(ClientError::status(status, &body, retry_after))
    }

    async fn collect(&self, response: Response<Incoming>, cap: usize) -> Result<Bytes, ClientError> {
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        let last = Cell::new(Instant::now());
        let reading = async {
            while let Some(frame) = body.frame().await {
                last.set(Instant::now());
                if let Some(data) = frame.map_err(ClientError::Http)?.data_ref() {
                    if data.len() > cap - bytes.len() {
                        return Err(ClientError::TooLarge { cap });
                    }
                    bytes.extend_from_slice(data);
                }
            }
            Ok(())
        };
        timeout(self.network.answer, reading).await.map_err(|_elapsed| {
            let silent = last.get().elapsed() >= self.network.answer / 2;
            if silent { ClientError::Slow("body") } else { ClientError::Trickle }
        })??;
        Ok(Bytes::from(bytes))
    }
}

/// How to connect, and who signs, if the device signs its requests.
fn prepare(
    ca_pem: &str,
    credentials: Option<&Credentials>,
    clock: &Arc<Clock>,
    network: &Network,
) -> Result<(Connectors, Option<Signer>), TlsError> {
    let ca_pem = trusted(ca_pem, network)?;
    match (network.shows, credentials) {
        // A certificate in a handshake that ends on the way would only be in the way.
        (Shows::Signature, Some(credentials)) => {
            let signer = Signer::new(credentials)?;
            Ok((Connectors::new(&ca_pem, None, clock)?, Some(signer)))
        }
        (_, credentials) => Ok((Connectors::new(&ca_pem, credentials, clock)?, None)),
    }
}

/// The certificates that may issue the server's: the bundle's, and what the device's owner adds.
fn trusted(ca_pem: &str, network: &Network) -> Result<String, TlsError> {
    let Some(path) = &network.extra_ca_file else { return Ok(ca_pem.to_owned()) };
    let extra = std::fs::read_to_string(path);
    let extra = extra.map_err(|source| TlsError::ExtraCa { path: path.clone(), source })?;
    Ok(format!("{ca_pem}\n{extra}"))
}

#[cfg(test)]
mod tests;
