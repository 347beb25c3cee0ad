//! `callboard serve`: both listeners, from start to a clean stop.
//!
//! Ready means: `run/serve.json` in the data directory names both addresses. On SIGTERM and SIGINT the server stops
//! accepting, answers what is in flight, writes last-seen and closes the database.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
};

use actix_web::{App as Actix, dev::ServerHandle, middleware, web};
use anyhow::Context as _;
use callboard_proto::time::Timestamp;
use governor::Quota;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};

mod exposed;
#[cfg(test)]
mod worlds;

use super::exit::BadInput;
use crate::{
    app::{
        App, attacks,
        catalog::{self, Snapshot},
        expiry::{self, Expiry},
        people::doors::Doors,
        presence,
        presence::Presence,
        served::{self, Served},
        simulating::Simulating,
        told::Told,
        waiting::Waiting,
    },
    ca::{self, DeviceCa, rotation},
    clock::Clock,
    config::{FILE, Fragment, Settings},
    db::Db,
    durable::{self, Access},
    http::{
        self,
        device::payload::Transfers,
        limits::EnrolLimit,
        listen::{Listener, Times},
        signed::Signatures,
    },
    jobs,
    provider::Provider,
    restored,
    sign::OnlineKeys,
    store::Store,
    telemetry::{self, Metrics},
    tls,
};

/// Operators are few; their requests wait for the database, not for the processor.
const ADMIN_WORKERS: usize = 1;

/// Runs the server.
#[derive(clap::Args)]
pub(crate) struct ServeArgs {
    /// The data directory that `callboard init` made
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Address and port for devices; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    device_listen: Option<String>,
    /// Address and port for operators; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<String>,
    /// sqlite:PATH or postgres://USER@HOST/DATABASE
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Where devices reach the server: https://HOST[:PORT]
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Seconds between the check-ins of a device with nothing to do
    #[arg(long, value_name = "SECONDS")]
    poll_interval_s: Option<String>,
    /// Let operators set the server's clock; for demonstrations and tests
    #[arg(long, hide = true)]
    stepped_clock: bool,
    /// A clock that stands still at this time until operators set it; for tests
    #[arg(long, hide = true, value_name = "TIME", conflicts_with = "stepped_clock")]
    fixed_clock: Option<Timestamp>,
}

/// `run/serve.json`: where a running server listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ServeFile {
    /// Such as `https://127.0.0.1:8443`.
    pub(crate) device_url: String,
    /// Such as `http://127.0.0.1:8080`.
    pub(crate) admin_url: String,
    /// Its process.
    pub(crate) pid: u32,
}

/// A running server.
pub(crate) struct Running {
    app: Arc<App>,
    handles: [ServerHandle; 2],
    /// Where it listens: for devices, for operators.
    listen: [SocketAddr; 2],
    /// Held while the server runs, so that no second one uses the directory.
    _lock: std::fs::File,
    path: PathBuf,
}

/// Runs until a signal comes.
pub(crate) fn run(args: ServeArgs) -> anyhow::Result<()> {
    durable::keep_to_oneself();
    telemetry::start_logging();
    let flags = Fragment::from_flags([
        ("device_listen", args.device_listen),
        ("admin_listen", args.admin_listen),
        ("database_url", args.database_url),
        ("public_url", args.public_url),
        ("poll_interval_s", args.poll_interval_s),
    ]);
    let settings = settings(&args.dir, flags)?;
    exposed::warn(&settings);
    let clock = match args.fixed_clock {
        Some(now) => Clock::fixed(now),
        None if args.stepped_clock => Clock::stepped(),
        None => Clock::system(),
    };
    actix_web::rt::System::new().block_on(async move {
        // From here on: whoever sees that the server is ready may stop it in the same moment.
        let mut signals = Signals::catch()?;
        let running = start(settings, clock).await?;
        let (public_url, [device_listen, admin_listen]) = (&running.app.public_url, running.listen);
        tracing::info!(%public_url, %device_listen, %admin_listen, "ready");
        signals.wait().await;
        tracing::info!("stopping");
        running.stop().await
    })
}

/// The settings of a data directory.
pub(crate) fn settings(dir: &Path, flags: Fragment) -> anyhow::Result<Settings> {
    let bad = |error: crate::config::ConfigError| BadInput(error.to_string());
    if !dir.join(ca::DEVICE_CA_CERT).exists() {
        let dir = dir.display();
        return Err(
            BadInput(format!("{dir} is not a data directory; make one with: callboard init --dir {dir}")).into()
        );
    }
    let file = Fragment::from_file(&dir.join(FILE)).map_err(bad)?;
    let env = Fragment::from_env(std::env::vars());
    Ok(Settings::merge(dir, &[file, env, flags]).map_err(bad)?)
}

/// The signals that stop a server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Starts both listeners; returns when they accept.
pub(crate) async fn start(settings: Settings, clock: Clock) -> anyhow::Result<Running> {
    let lock = lock(&settings.dir)?;
    let devices = bind("device_listen", settings.device_listen)?;
    let admin = bind("admin_listen", settings.admin_listen)?;
    let (device_addr, admin_addr) = (devices.local_addr()?, admin.local_addr()?);
    let public_url = public_url(&settings, device_addr)?;
    let device_ca = Arc::new(DeviceCa::load(&settings.dir).context("cannot load the device CA")?);
    let certificate = settings.dir.join(ca::SERVER_CERT);
    let device_tls = tls::device_listener(&certificate, &settings.dir.join(ca::SERVER_KEY), &device_ca, &clock)
        .context("cannot set up TLS for devices")?;
    let admin_tls = match &settings.admin_tls {
        Some((certificate, key)) => {
            Some(tls::admin_listener(certificate, key, &clock).context("cannot set up TLS for operators")?)
        }
        None => None,
    };
    let scheme = if admin_tls.is_some() { "https" } else { "http" };
    let certificates = expiries(&settings)?;
    let app = Arc::new(open(&settings, clock, device_ca, public_url, certificates).await?);
    jobs::start(&app, settings.event_retention);
    let verifier = tls::device_verifier(&app.device_ca).context("cannot verify devices")?;
    let signatures = web::Data::new(Signatures::new(settings.signed_requests.then_some(verifier)));
    let device_server = serve_devices(&settings, &app, (devices, device_tls), signatures)?;
    let admin_server = serve_admin(&settings, &app, admin, admin_tls)?;
    let handles = [device_server, admin_server];
    let file = ServeFile {
        device_url: format!("https://{}", reachable(device_addr)),
        admin_url: format!("{scheme}://{}", reachable(admin_addr)),
        pid: std::process::id(),
    };
    let path = settings.dir.join("run/serve.json");
    durable::replace(&path, &serde_json::to_vec_pretty(&file)?, Access::Everyone)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Running { app, handles, listen: [device_addr, admin_addr], _lock: lock, path })
}

impl Running {
    /// Stops accepting, answers what is in flight, writes what is only in memory.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.app.waiting.stop();
        self.app.simulating.stop();
        self.app.told.stop();
        let [devices, admin] = &self.handles;
        tokio::join!(devices.stop(true), admin.stop(true));
        let flushed = presence::flush(&self.app).await.and(served::flush(&self.app).await);
        let told = attacks::flush(&self.app).await;
        self.app.db.close();
        std::fs::remove_file(&self.path).ok();
        flushed.context("cannot write the last check-ins")?;
        told.context("cannot write what devices told of attacks")
    }
}

/// When the certificates of both listeners end.
fn expiries(settings: &Settings) -> anyhow::Result<Vec<Expiry>> {
    let end = |path: &Path| -> anyhow::Result<Timestamp> {
        let pem = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        ca::not_after(&pem).with_context(|| format!("cannot read {}", path.display()))
    };
    let mut found = vec![
        expiry::server_certificate(end(&settings.dir.join(ca::SERVER_CERT))?),
        expiry::device_ca(end(&settings.dir.join(ca::DEVICE_CA_CERT))?),
        expiry::server_ca(end(&settings.dir.join(ca::SERVER_CA_CERT))?),
    ];
    if let Some((certificate, _)) = &settings.admin_tls {
        found.push(expiry::admin_certificate(end(certificate)?));
    }
    Ok(found)
}

async fn open(
    settings: &Settings,
    clock: Clock,
    device_ca: Arc<DeviceCa>,
    public_url: String,
    certificates: Vec<Expiry>,
) -> anyhow::Result<App> {
    let db = Db::open(settings.database.clone()).context("cannot open the database")?;
    let store = Store::prepare(&settings.dir.join("payloads"), settings.max_payload_bytes)
        .context("cannot prepare the payload directory")?;
    let signer = OnlineKeys::load(&settings.dir).context("cannot load the online key")?;
    let server_ca_pem = rotation::bundled(&settings.dir).context("cannot read the server CA")?;
    let now = clock.now();
    let snapshot = db.read(move |conn| catalog::read(conn, &Snapshot::default(), now)).await;
    let snapshot = snapshot.context("cannot read rollouts and releases")?;
    if let Some(root) = &snapshot.root
        && !signer.any_of(&root.root.roles.online.keyids)
    {
        let key = signer.ids().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        anyhow::bail!(
            "the published root does not list this server's online key {key}: devices would refuse every answer"
        );
    }
    let restored_at = restored::at(&settings.dir, clock.now()).context("cannot read restored.json")?;
    if let Some(at) = restored_at {
        tracing::info!(%at, "this is a restored backup; device certificates that were issued after it are taken");
    }
    let metrics = Metrics::new();
    Ok(App {
        db,
        clock,
        store,
        device_ca,
        signer,
        server_ca_pem,
        public_url,
        restored_at,
        certificates,
        poll_interval: settings.poll_interval,
        abandoned_after: settings.abandoned_after,
        second_person_above: settings.second_person_above,
        max_bytes_per_s: settings.max_bytes_per_s,
        request_timeout: settings.request_timeout,
        requests_of_a_device: Quota::per_minute(settings.device_requests_per_minute),
        waiting: Arc::new(Waiting::new(settings.max_waiting, metrics.waiting.clone())),
        metrics,
        presence: Presence::default(),
        attacks: attacks::Pending::default(),
        served: Served::default(),
        snapshot: arc_swap::ArcSwap::from_pointee(snapshot),
        devices: Arc::new(crate::app::devices::Remembered::new(crate::app::CACHED_DEVICES)),
        simulating: Simulating::default(),
        doors: Doors::default(),
        provider: identity_provider(settings)?,
        fleet: crate::app::fleet::Fleet::default(),
        told: Told::default(),
    })
}

/// The identity provider, if there is one; it need not be there when the server starts.
fn identity_provider(settings: &Settings) -> anyhow::Result<Option<Arc<Provider>>> {
    let Some(oidc) = settings.oidc.clone() else { return Ok(None) };
    crate::app::actor::check_grants(&oidc.all_grants())
        .map_err(|error| BadInput(format!("[oidc] of {FILE} is not allowed: {error}")))?;
    let provider = Provider::load(oidc).map_err(|text| BadInput(format!("[oidc] of {FILE}: {text}")))?;
    Ok(Some(Arc::new(provider)))
}

fn serve_devices(
    settings: &Settings,
    app: &Arc<App>,
    (socket, tls): (TcpListener, rustls::ServerConfig),
    signatures: web::Data<Signatures>,
) -> anyhow::Result<ServerHandle> {
    let data = web::Data::from(app.clone());
    let transfers =
        web::Data::new(Transfers::new(settings.max_transfers, app.max_bytes_per_s, app.metrics.bytes_served.clone()));
    let limit = web::Data::new(EnrolLimit::new());
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let times = Times { request: app.request_timeout, stall: settings.stall_timeout };
    let server = Listener { socket, tls: Some(tls), workers, times, allow_half_closed: true }.serve(move || {
        Actix::new()
            .app_data(data.clone())
            .app_data(transfers.clone())
            .app_data(limit.clone())
            .app_data(signatures.clone())
            .wrap(middleware::from_fn(http::signed::signed))
            .wrap(middleware::from_fn(http::limits::deadline))
            .configure(http::device_routes)
    });
    Ok(spawn(server.context("cannot listen for devices")?))
}

fn serve_admin(
    settings: &Settings,
    app: &Arc<App>,
    socket: TcpListener,
    tls: Option<rustls::ServerConfig>,
) -> anyhow::Result<ServerHandle> {
    let data = web::Data::from(app.clone());
    let times = Times { request: app.operators_request_timeout(), stall: settings.stall_timeout };
    let server = Listener { socket, tls, workers: ADMIN_WORKERS, times, allow_half_closed: false }.serve(move || {
        Actix::new().app_data(data.clone()).wrap(middleware::NormalizePath::trim()).configure(http::admin_routes)
    });
    Ok(spawn(server.context("cannot listen for operators")?))
}

fn spawn(server: actix_web::dev::Server) -> ServerHandle {
    let handle = server.handle();
    actix_web::rt::spawn(server);
    handle
}

fn lock(dir: &Path) -> anyhow::Result<std::fs::File> {
    use rustix::fs::{FlockOperation, flock};
    let run = dir.join("run");
    std::fs::create_dir_all(&run).with_context(|| format!("cannot make {}", run.display()))?;
    let file = std::fs::File::create(run.join("lock")).with_context(|| format!("cannot write in {}", run.display()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|source| BadInput(format!("another server is running on {} ({source})", dir.display())))?;
    Ok(file)
}

fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    // Long enough for every till of a fleet to knock in the second in which the power comes back.
    const BACKLOG: i32 = 4096;
    let listen = || -> std::io::Result<TcpListener> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &address)?;
        listen(&socket, BACKLOG)?;
        Ok(socket.into())
    };
    listen().map_err(|source| {
        BadInput(format!("cannot listen on {key} = {address}: {source}; choose another address or port")).into()
    })
}

/// An address under which the listener can be reached from this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        let loopback: std::net::IpAddr =
            if address.is_ipv4() { std::net::Ipv4Addr::LOCALHOST.into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    address
}

/// Where devices reach the server; its host must stand in the certificate.
fn public_url(settings: &Settings, bound: SocketAddr) -> anyhow::Result<String> {
    let Some(url) = &settings.public_url else {
        return Ok(format!("https://{}", reachable(bound)));
    };
    let certificate =
        std::fs::read_to_string(settings.dir.join(ca::SERVER_CERT)).context("cannot read the server's certificate")?;
    let names = ca::names(&certificate).context("cannot read the server's certificate")?;
    if !names.iter().any(|name| name.eq_ignore_ascii_case(&url.host)) {
        return Err(BadInput(format!(
            "public_url = {:?}: the server's certificate is for {}; make another with: callboard certificate renew --dir {} --public-url {}",
            url.text,
            names.join(", "),
            settings.dir.display(),
            url.text
        ))
        .into());
    }
    Ok(url.text.clone())
}
