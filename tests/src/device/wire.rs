//! A device's connection: TLS with or without its certificate, kept alive until told otherwise.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
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
    config: Arc<ClientConfig>,
    stream: Option<Tls>,
    /// How the last handshake went.
    pub handshake: Option<HandshakeKind>,
}

/// A client without a certificate.
pub fn anonymous(server: &TestServer) -> Wire {
    let config = builder(server).with_no_client_auth();
    Wire::new(server.device_address(), config)
}

/// A client with a device's certificate.
pub fn with_certificate(server: &TestServer, key: &Key, certificate_pem: &str) -> Wire {
    let chain = vec![CertificateDer::from_pem_slice(certificate_pem.as_bytes()).unwrap()];
    let private = PrivateKeyDer::from_pem_slice(key.pem().as_bytes()).unwrap();
    let config = builder(server).with_client_auth_cert(chain, private).unwrap();
    Wire::new(server.device_address(), config)
}

fn builder(server: &TestServer) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(server.dir().join("server-ca.pem")).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_details(provider, Arc::new(server.clock.clone()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
}

impl Wire {
    fn new(address: SocketAddr, config: ClientConfig) -> Self {
        Self { address, config: Arc::new(config), stream: None, handshake: None }
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
        Ok(StreamOwned::new(conn, http::connect(self.address)?))
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
