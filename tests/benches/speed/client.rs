//! A device as the load generator plays it: the same code for every server that is measured.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context as _, ensure};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Read at once; four TLS records.
const BUFFER: usize = 64 * 1024;

/// Who a device is.
pub(crate) struct Identity {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

/// TLS settings of a device, or of one that is yet to enrol. A new one for every server, as it keeps its sessions.
pub(crate) fn tls(server_ca: &str, identity: Option<&Identity>, resume: bool) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server_ca.as_bytes())?)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes())?],
            PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())?,
        )?,
    };
    config.resumption = if resume { Resumption::in_memory_sessions(4) } else { Resumption::disabled() };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Head of an answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Bytes of the body that were read.
    pub(crate) bytes: u64,
    /// Whether that was all of it.
    pub(crate) whole: bool,
}

/// One connection to a server.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
    filled: usize,
}

impl Connection {
    /// Connects and shakes hands. `from` is the loopback address that it comes from.
    pub(crate) async fn open(server: SocketAddr, from: Ipv4Addr, tls: &Arc<ClientConfig>) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if from != Ipv4Addr::LOCALHOST {
            socket.bind((from, 0).into())?;
        }
        let stream = socket.connect(server).await.context("connect")?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(tls.clone());
        let stream = connector.connect(ServerName::try_from("localhost")?, stream).await.context("shake hands")?;
        Ok(Self { stream, buffer: vec![0; BUFFER], filled: 0 })
    }

    pub(crate) fn resumed(&self) -> bool {
        self.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub(crate) fn cipher(&self) -> String {
        let suite = self.stream.get_ref().1.negotiated_cipher_suite();
        suite.map_or_else(String::new, |suite| format!("{:?}", suite.suite()))
    }

    /// Sends a request; its answer may take its time.
    pub(crate) async fn send(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).await.context("send")?;
        Ok(self.stream.flush().await?)
    }

    /// Sends a request and reads its answer, until `deadline` if there is one. Bodies up to 60 KB stay readable.
    pub(crate) async fn exchange(&mut self, request: &[u8], deadline: Option<Instant>) -> anyhow::Result<Answer> {
        self.send(request).await?;
        self.filled = 0;
        let (head_len, status, length) = loop {
            ensure!(self.filled < self.buffer.len(), "the head of an answer is too long");
            let read = self.stream.read(&mut self.buffer[self.filled..]).await.context("read")?;
            ensure!(read > 0, "the server closed the connection");
            self.filled += read;
            if let Some(head) = head(&self.buffer[..self.filled])? {
                break head;
            }
        };
        let mut bytes = (self.filled - head_len) as u64;
        let keep = length <= (self.buffer.len() - head_len) as u64;
        while bytes < length {
            let room = if keep { &mut self.buffer[self.filled..] } else { &mut self.buffer[..] };
            let read = self.stream.read(room).await.context("read")?;
            ensure!(read > 0, "the server closed the connection in an answer");
            bytes += read as u64;
            if keep {
                self.filled += read;
            }
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                break;
            }
        }
        if keep {
            self.buffer.copy_within(head_len..self.filled, 0);
            self.filled -= head_len;
        }
        Ok(Answer { status, bytes, whole: bytes == length })
    }

    /// The body of the last answer, if it was short.
    pub(crate) fn body(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// Says goodbye as TLS wants it.
    pub(crate) async fn close(mut self) {
        self.stream.shutdown().await.ok();
    }
}

/// Length of the head, status and length of the body, once the head is there.
fn head(bytes: &[u8]) -> anyhow::Result<Option<(usize, u16, u64)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..end])?;
    let status = text.get(9..12).and_then(|status| status.parse().ok()).context("no status")?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Ok(Some((end + 4, status, length.context("no Content-Length")?)))
}

/// A request without a body.
pub(crate) fn get(path: &str, range: Option<(u64, u64)>) -> Vec<u8> {
    let range = range.map_or_else(String::new, |(from, to)| format!("Range: bytes={from}-{to}\r\n"));
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{range}\r\n").into_bytes()
}

/// A request with a body of JSON.
pub(crate) fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}
