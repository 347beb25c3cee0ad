//! A device's connection: TLS with or without its certificate, kept alive until told otherwise.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion,
    client::{ResolvesClientCert, WantsClientCert},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    sign::{CertifiedKey, SigningKey},
};

use super::Key;
use crate::{
    http::{self, Request, Response, exchange},
    server::TestServer,
};

type Tls = StreamOwned<ClientConnection, std::net::TcpStream>;

/// A connection to the device listener, opened when it is needed.
pub struct Wire {
    address: SocketAddr,
    source: Option<IpAddr>,
    config: Arc<ClientConfig>,
    stream: Option<Tls>,
    /// How the last handshake went.
    pub handshake: Option<HandshakeKind>,
}

/// A client without a certificate.
pub fn anonymous(server: &TestServer) -> Wire {
    speaking(server, &rustls::version::TLS13)
}

/// A client without a certificate that speaks one version of TLS and no other.
pub fn speaking(server: &TestServer, version: &'static SupportedProtocolVersion) -> Wire {
    Wire::new(server.device_address(), builder(server, version).with_no_client_auth())
}

/// A client with a device's certificate.
pub fn with_certificate(server: &TestServer, key: &Key, certificate_pem: &str) -> Wire {
    let chain = vec![CertificateDer::from_pem_slice(certificate_pem.as_bytes()).unwrap()];
    // Whether the key is the certificate's is for the server to find out.
    let shown = Shown(Arc::new(CertifiedKey::new(chain, signing_key(key))));
    let config = builder(server, &rustls::version::TLS13).with_client_cert_resolver(Arc::new(shown));
    Wire::new(server.device_address(), config)
}

/// Shows one certificate, whatever is asked for.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn signing_key(key: &Key) -> Arc<dyn SigningKey> {
    let private = PrivateKeyDer::from_pem_slice(key.pem().as_bytes()).unwrap();
    rustls::crypto::ring::sign::any_supported_type(&private).unwrap()
}

fn builder(
    server: &TestServer,
    version: &'static SupportedProtocolVersion,
) -> rustls::ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(server.dir().join("server-ca.pem")).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_details(provider, Arc::new(server.clock.clone()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
}

impl Wire {
    fn new(address: SocketAddr, config: ClientConfig) -> Self {
        Self { address, source: None, config: Arc::new(config), stream: None, handshake: None }
    }

    /// The same, coming from another address of this machine.
    pub const fn from(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// Where it connects to.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a request, on the open connection if there is one.
    #[track_caller]
    pub fn send(&mut self, request: &Request) -> Response {
        self.try_send(request).unwrap_or_else(|error| panic!("{} {}: {error}", request.method, request.path))
    }

    /// Sends a request; the connection may break or be refused.
    pub fn try_send(&mut self, request: &Request) -> io::Result<Response> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.open()?,
        };
        let answer = exchange(&mut stream, request)?;
        self.handshake = stream.conn.handshake_kind();
        if answer.header("connection") != Some("close") {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    /// An open stream, for requests that are not well-formed.
    pub fn open(&self) -> io::Result<Tls> {
        let name = ServerName::IpAddress(self.address.ip().into());
        let conn = ClientConnection::new(self.config.clone(), name).map_err(io::Error::other)?;
        let stream = match self.source {
            None => http::connect(self.address)?,
            Some(source) => http::connect_from(source, self.address)?,
        };
        Ok(StreamOwned::new(conn, stream))
    }

    /// The handshake alone. A client of TLS 1.3 is through before the server has judged its certificate; so this waits
    /// for what the server says next, a ticket or an alert. Whoever sent a request meanwhile might not get to see it.
    pub fn shake_hands(&self) -> io::Result<()> {
        let StreamOwned { mut conn, mut sock } = self.open()?;
        while conn.is_handshaking() {
            conn.complete_io(&mut sock)?;
        }
        conn.complete_io(&mut sock).map(drop)
    }

    /// Whether a connection is open.
    pub const fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Closes the connection; the next request opens another one, with a resumed session if the server allows.
    pub fn disconnect(&mut self) {
        self.stream = None;
    }

    /// Closes the connection and goes to another address from now on.
    pub fn reconnect_to(&mut self, address: SocketAddr) {
        self.disconnect();
        self.address = address;
    }
}
