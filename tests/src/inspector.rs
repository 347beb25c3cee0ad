//! A firewall that looks into TLS: it ends each connection, reads what is said, and says it again over a connection of its
//! own. No client certificate gets through.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};

use crate::{listener::Listener, server::TestServer};

/// A running firewall. Ends when it is dropped.
pub struct Inspector {
    pub address: SocketAddr,
    /// The CA that its devices have to believe.
    pub ca_pem: String,
    shared: Arc<Shared>,
    _listener: Listener,
}

struct Shared {
    server: SocketAddr,
    inside: Arc<ServerConfig>,
    outside: Arc<ClientConfig>,
    /// Requests as they came, head and body.
    seen: Mutex<Vec<Vec<u8>>>,
}

impl Inspector {
    /// Stands between devices and this server.
    pub fn before(server: &TestServer) -> Self {
        let (inside, ca_pem) = certificate();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(server.dir().join("server-ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let outside = ClientConfig::builder_with_details(provider, Arc::new(server.clock.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let shared = Arc::new(Shared {
            server: server.device_address(),
            inside,
            outside: Arc::new(outside),
            seen: Mutex::default(),
        });
        let serving = shared.clone();
        let listener = Listener::start(move |device| {
            let shared = serving.clone();
            // A device that hangs up is no event.
            std::thread::spawn(move || shared.serve(device).unwrap_or_default());
        });
        Self { address: listener.address, ca_pem, shared, _listener: listener }
    }

    /// The newest request whose first line begins so.
    pub fn last(&self, line: &str) -> Vec<u8> {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().rev().find(|request| request.starts_with(line.as_bytes())).expect("such a request").clone()
    }

    /// Sends any bytes to the server; gives its answer, head and body.
    pub fn send(&self, request: &[u8]) -> String {
        let mut server = self.shared.connect().unwrap();
        server.write_all(request).unwrap();
        String::from_utf8(message(&mut server).unwrap().unwrap()).unwrap()
    }
}

impl Shared {
    fn serve(&self, tcp: TcpStream) -> io::Result<()> {
        let inside = ServerConnection::new(self.inside.clone()).map_err(io::Error::other)?;
        let mut device = StreamOwned::new(inside, tcp);
        let mut server = self.connect()?;
        while let Some(request) = message(&mut device)? {
            self.seen.lock().unwrap().push(request.clone());
            server.write_all(&request)?;
            let Some(answer) = message(&mut server)? else { return Ok(()) };
            device.write_all(&answer)?;
            device.flush()?;
        }
        Ok(())
    }

    fn connect(&self) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        let outside = ClientConnection::new(self.outside.clone(), name).map_err(io::Error::other)?;
        Ok(StreamOwned::new(outside, TcpStream::connect(self.server)?))
    }
}

/// A head and a body of the length that it tells; `None` at the end of the connection.
fn message(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let (mut whole, mut byte) = (Vec::new(), [0]);
    while !whole.ends_with(b"\r\n\r\n") {
        match from.read(&mut byte) {
            Ok(1) => whole.push(byte[0]),
            Ok(_) => return Ok(None),
            Err(_) if whole.is_empty() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let head = String::from_utf8_lossy(&whole).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    from.read_exact(&mut body)?;
    whole.extend(body);
    Ok(Some(whole))
}

fn certificate() -> (Arc<ServerConfig>, String) {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let mut leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    leaf.subject_alt_names.push(SanType::IpAddress("127.0.0.1".parse().unwrap()));
    let key = KeyPair::generate().unwrap();
    let certificate = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    (Arc::new(config), ca_pem)
}
