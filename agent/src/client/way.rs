//! The way to the server: straight, to an address that was given, or through a proxy.

use std::{io, path::Path};

use data_encoding::BASE64;
use http_body_util::Empty;
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{HOST, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{ClientError, Endpoint, plain};
use crate::config::{Proxy, Way};

/// A user and a password.
const MAX_AUTH_BYTES: usize = 1024;

/// Bytes in both directions.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens a way to the server; what answers there has proved nothing yet.
pub(super) async fn open(endpoint: &Endpoint, way: &Way) -> Result<Box<dyn Stream>, ClientError> {
    let straight = |address: &str, source| ClientError::Connect { address: address.to_owned(), source };
    match way {
        Way::Straight => {
            let (host, port) = endpoint.address();
            let tcp = TcpStream::connect((host, port)).await.and_then(quick);
            Ok(Box::new(tcp.map_err(|source| straight(endpoint.authority(), source))?))
        }
        Way::At(address) => {
            let tcp = TcpStream::connect(address).await.and_then(quick);
            Ok(Box::new(tcp.map_err(|source| straight(address, source))?))
        }
        Way::Proxy(proxy) => {
            let tcp = TcpStream::connect(&proxy.authority).await.and_then(quick);
            let tcp = tcp.map_err(|source| ClientError::Proxy {
                proxy: proxy.authority.clone(),
                status: None,
                reason: source.to_string(),
            })?;
            through(endpoint, proxy, tcp).await
        }
    }
}

fn quick(tcp: TcpStream) -> io::Result<TcpStream> {
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// Asks a proxy to connect to the server.
async fn through(endpoint: &Endpoint, proxy: &Proxy, tcp: TcpStream) -> Result<Box<dyn Stream>, ClientError> {
    let failed = |status: Option<StatusCode>, reason: String| ClientError::Proxy {
        proxy: proxy.authority.clone(),
        status: status.map(|status| status.as_u16()),
        reason,
    };
    let target = proxy.target.clone().unwrap_or_else(|| endpoint.target());
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(&target)
        .header(HOST, &target)
        .header(USER_AGENT, concat!("callboard-agent/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(ClientError::request)?;
    if let Some(path) = &proxy.auth_file {
        let credentials = credentials(path).map_err(|reason| failed(None, reason))?;
        request.headers_mut().insert(PROXY_AUTHORIZATION, credentials);
    }
    let spoken = |error: hyper::Error| failed(None, error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.map_err(spoken)?;
    // Ends with the connection that it becomes.
    tokio::spawn(connection.with_upgrades());
    let response = sender.send_request(request).await.map_err(spoken)?;
    let status = response.status();
    if !status.is_success() {
        let reason = status.canonical_reason().map_or_else(|| status.to_string(), |said| plain(said, 100));
        return Err(failed(Some(status), reason));
    }
    let tunnel = hyper::upgrade::on(response).await.map_err(spoken)?;
    Ok(Box::new(TokioIo::new(tunnel)))
}

/// `Basic` and what the file says. Errors say nothing of it.
fn credentials(path: &Path) -> Result<HeaderValue, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("read {}: {error}", path.display()))?;
    let line = bytes.trim_ascii();
    let usable = line.len() <= MAX_AUTH_BYTES && line.contains(&b':') && !line.contains(&b'\n');
    let value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(line))).ok().filter(|_| usable);
    let mut value = value.ok_or_else(|| format!("{} is not one line, USER:PASSWORD", path.display()))?;
    value.set_sensitive(true);
    Ok(value)
}
