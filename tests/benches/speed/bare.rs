//! The peers for small answers: actix and rustls with the product's settings, and a constant answer.
//!
//! One does nothing more, one makes an Ed25519 signature for every answer as well; what is between them is the price
//! of a signature on this machine. They run as processes of their own: this program under another verb.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::Context as _;
use ed25519_dalek::{Signer as _, SigningKey};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ServerSessionMemoryCache, WebPkiClientVerifier},
};

use crate::process::{Process, Processors};

/// First argument of the process.
pub(crate) const VERB: &str = "bare-server";

/// 150 bytes.
const ANSWER: &str = r#"{"v":1,"action":"none","reason":"up-to-date","next_checkin_s":300,"root_version":1,"server_time":"2030-01-01T00:00:00.000Z","id":"0123456789abcdefghij"}"#;

/// A running bare server.
pub(crate) struct Bare {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
}

impl Bare {
    /// Starts one with the certificates in `data`.
    pub(crate) fn start(data: &Path, scratch: &Path, signing: bool, processors: &Processors) -> anyhow::Result<Self> {
        let file = scratch.join(if signing { "signing.addr" } else { "bare.addr" });
        let mode = if signing { "signing" } else { "constant" };
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(VERB).args([data, &file]).arg(mode).stdout(Stdio::null());
        let mut process = Process::start(&mut command, processors)?;
        let addr = process.until(|| fs::read_to_string(&file).ok()?.parse().ok())?;
        Ok(Self { process, addr })
    }
}

/// Runs as such a server; the arguments are those that [`Bare::start`] gives.
pub(crate) fn serve(mut args: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let mut next = || args.next().context("an argument is missing");
    let (data, file, mode) = (next()?, next()?, next()?);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let tls = tls(Path::new(&data))?;
    actix_web::rt::System::new().block_on(async move {
        let signing = mode == "signing";
        let key = web::Data::new(SigningKey::from_bytes(&[7; 32]));
        let server = HttpServer::new(move || {
            let route = if signing { web::post().to(signed) } else { web::post().to(constant) };
            App::new().app_data(key.clone()).service(web::resource("/v1/checkin").route(route))
        })
        .workers(std::thread::available_parallelism().map_or(2, std::num::NonZero::get))
        .tls_handshake_timeout(Duration::from_secs(15))
        .client_request_timeout(Duration::from_secs(15))
        .keep_alive(Duration::from_secs(30))
        .listen_rustls_0_23(listener, tls)?
        .run();
        let temporary = format!("{file}.new");
        fs::write(&temporary, addr.to_string())?;
        fs::rename(&temporary, &file)?;
        Ok(server.await?)
    })
}

async fn constant(_: web::Bytes) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(ANSWER)
}

async fn signed(key: web::Data<SigningKey>, body: web::Bytes) -> HttpResponse {
    std::hint::black_box(key.sign(&body));
    HttpResponse::Ok().content_type("application/json").body(ANSWER)
}

/// The same as on the product's device listener.
fn tls(data: &Path) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(data.join("device-ca.pem"))?)?;
    let devices = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let chain = CertificateDer::pem_file_iter(data.join("server.pem"))?.collect::<Result<Vec<_>, _>>()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(devices.allow_unauthenticated().build()?)
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(data.join("server.key"))?)?;
    // More than there are devices here, few enough that rustls's search through all of them takes no time.
    config.session_storage = ServerSessionMemoryCache::new(256);
    config.send_tls13_tickets = 1;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
