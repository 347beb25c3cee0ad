//! What stands between this device and its updates: looked at one after the other, each with what to do about it.
//!
//! Nothing is changed and nothing is spent: no token is used, no check-in is made, and a running agent is not disturbed.

use std::{io, sync::Arc, time::Duration};

use callboard_proto::{
    digest::Digest,
    enrol::Bundle,
    paths,
    problem::Code as Problem,
    root::Root,
    signed::{Document, Verified, max_envelope},
    time::Timestamp,
};
use serde::Serialize;

use crate::{
    client::{Client, ClientError, Credentials, Dates, Endpoint, Seen, belong_together, look},
    clock::{Clock, system},
    config::{InstalledBy, Settings, Shows, Way},
    fs::{Disk, Fs},
    identity::{self, Identity, IdentityError},
    install::command,
    itself,
    layout::StateDir,
    servers::{self, Place},
    vault,
};

/// A clock that is further off than this confuses people who read logs, and certificates near their ends.
const CLOCK_MAY_BE_OFF: Duration = Duration::from_secs(300);
/// With less room than this the agent cannot even keep a release's documents and its own state safely.
const LEAST_FREE: u64 = 64 * 1024 * 1024;

const MAX_KEY_BYTES: usize = 64 * 1024;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) what: &'static str,
    pub(crate) verdict: Verdict,
    /// What was found.
    pub(crate) found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Good,
    /// Updates work; somebody should know.
    Note,
    /// Updates do not work before this is changed.
    Blocks,
}

/// Who the device is, or will be.
struct Who {
    endpoint: Endpoint,
    ca_pem: String,
    credentials: Option<(String, Vec<u8>)>,
    /// Other addresses that the root lists.
    elsewhere: Vec<Place>,
    root: Verified<Root>,
}

/// Looks at everything; with a bundle at the way to its server, as a device that is not enrolled yet.
pub(crate) async fn examine(settings: &Settings, bundle: Option<Bundle>) -> Vec<Finding> {
    let mut findings = Vec::new();
    disk(settings, &mut findings);
    products(settings, &mut findings);
    let state_dir = StateDir::new(&settings.state_dir);
    let who = match bundle {
        Some(bundle) => of_bundle(&bundle, &mut findings),
        None => of_identity(&state_dir, &mut findings),
    };
    let clock = clock(who.as_ref(), &mut findings);
    if let Some(who) = who {
        server(settings, &who, &clock, &mut findings).await;
        elsewhere(settings, &who, &clock, &mut findings).await;
    }
    findings
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Good, found: found.into(), remedy: None }
    }

    fn note(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Note, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn blocks(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Blocks, found: found.into(), remedy: Some(remedy.into()) }
    }
}

fn disk(settings: &Settings, findings: &mut Vec<Finding>) {
    let dir = &settings.state_dir;
    let shown = dir.display();
    findings.push(match Disk.stat(dir) {
        Ok(None) => Finding::note("disk", format!("{shown} does not exist yet"), "enrolment makes it"),
        Err(error) => Finding::blocks("disk", format!("{shown}: {error}"), "run this as root, and look at the disk"),
        Ok(Some(_)) => match (Disk.is_in_memory(dir), Disk.space(dir)) {
            (Ok(true), _) => Finding::blocks(
                "disk",
                format!("{shown} is in memory, so a restart forgets who this device is"),
                "set state_dir to a directory on a disk",
            ),
            (_, Ok(space)) if space.free < LEAST_FREE => Finding::blocks(
                "disk",
                format!("{shown} has {} MiB free", space.free / (1024 * 1024)),
                format!("free some: at least {} MiB, and room for what is to be installed", LEAST_FREE / (1024 * 1024)),
            ),
            (_, Ok(space)) => Finding::good("disk", format!("{shown} has {} MiB free", space.free / (1024 * 1024))),
            (_, Err(error)) => Finding::blocks("disk", format!("{shown}: {error}"), "look at the disk"),
        },
    });
    let probe = dir.join("doctor.probe");
    let tried = || -> io::Result<()> {
        Disk.create(&probe, crate::fs::Mode::Private)?;
        Disk.write_at(&probe, 0, b"x")?;
        Disk.sync_data(&probe)
    };
    if dir.is_dir() {
        if let Err(error) = tried() {
            let remedy = "run this as root; if you do, the file system is read-only or failing";
            findings.push(Finding::blocks("disk", format!("{shown} cannot be written to: {error}"), remedy));
        }
        // What could not be made need not be removed.
        Disk.remove_file(&probe).unwrap_or_default();
    }
}

fn products(settings: &Settings, findings: &mut Vec<Finding>) {
    if settings.products.keys().all(itself::is_it) {
        let remedy = "add [products.NAME] with its directory to agent.toml";
        findings.push(Finding::note("products", "there is none, so nothing can be updated", remedy));
    }
    // The agent makes a directory for itself.
    for (name, product) in settings.products.iter().filter(|(name, _)| !itself::is_it(name)) {
        findings.push(match &product.installed_by {
            InstalledBy::Agent(dir) if dir.is_dir() => {
                Finding::good("products", format!("{name}: {} is there", dir.display()))
            }
            InstalledBy::Agent(dir) => {
                let remedy = format!("the first update makes it, unless products.{name}.directory is wrong");
                Finding::note("products", format!("{name}: {} is not there yet", dir.display()), remedy)
            }
            InstalledBy::Program(program) => match command::usable(&program.path) {
                Ok(_) => Finding::good("products", format!("{name}: installer {} is there", program.path.display())),
                Err(reason) => {
                    let remedy = format!(
                        "a program of root that nobody else can change has to be there, or correct products.{name}.installer"
                    );
                    Finding::blocks("products", format!("{name}: {reason}"), remedy)
                }
            },
        });
    }
}

fn of_bundle(bundle: &Bundle, findings: &mut Vec<Finding>) -> Option<Who> {
    let remedy = "make another one: callboard token create --bundle FILE";
    let read = || -> Result<Who, String> {
        let endpoint = Endpoint::parse(&bundle.server_url)?;
        let bytes = serde_json::to_vec(&bundle.root).map_err(|error| error.to_string())?;
        let root = Root::open_initial(&bytes).map_err(|error| format!("root: {error}"))?;
        let ca_pem = bundle.server_ca_pem.clone();
        Ok(Who { endpoint, ca_pem, credentials: None, root, elsewhere: Vec::new() })
    };
    match read() {
        Ok(who) => {
            findings.push(Finding::good("bundle", format!("is for {}", bundle.server_url)));
            Some(who)
        }
        Err(reason) => {
            findings.push(Finding::blocks("bundle", reason, remedy));
            None
        }
    }
}

fn of_identity(state_dir: &StateDir, findings: &mut Vec<Finding>) -> Option<Who> {
    let own = match Identity::load(&Disk, state_dir) {
        Ok(own) => own,
        Err(error @ IdentityError::NotEnrolled { .. }) => {
            let remedy =
                "callboard-agent enrol --bundle FILE; callboard-agent doctor --bundle FILE looks at the way there";
            findings.push(Finding::blocks("identity", error.to_string(), remedy));
            return None;
        }
        Err(error) => {
            let remedy = "callboard-agent enrol --again --bundle FILE, with a token that is bound to this device";
            findings.push(Finding::blocks("identity", error.to_string(), remedy));
            return None;
        }
    };
    let again = "callboard-agent enrol --again --bundle FILE, with a token that is bound to this device";
    // The second is that of an enrolment that the power cut short; the agent puts it into its place.
    let keys = [state_dir.key(), state_dir.next_key()].map(|path| Disk.read(&path, MAX_KEY_BYTES));
    let sealed = || vault::read(&Disk, state_dir, &own, &vault::Systemd).ok();
    let plain = keys.into_iter().flatten().find(|key| belong_together(&own.certificate_pem, key));
    let key = plain.or_else(|| sealed().filter(|key| belong_together(&own.certificate_pem, key)));
    let Some(key) = key else {
        findings.push(Finding::blocks("identity", "the key of the certificate is not there, or cannot be read", again));
        return None;
    };
    let root = match identity::load_root(&Disk, state_dir) {
        Ok(root) => root,
        Err(error) => {
            findings.push(Finding::blocks("identity", error.to_string(), again));
            return None;
        }
    };
    let endpoint = match Endpoint::parse(&own.server_url) {
        Ok(endpoint) => endpoint,
        Err(reason) => {
            findings.push(Finding::blocks("identity", reason, again));
            return None;
        }
    };
    findings
        .push(Finding::good("identity", format!("{} ({}), enrolled at {}", own.name, own.device_id, own.server_url)));
    let place = own.place();
    let elsewhere = servers::listed(&root).into_iter().filter(|other| !other.is(&place)).collect();
    let credentials = Some((own.certificate_pem, key));
    Some(Who { endpoint, ca_pem: own.server_ca_pem, credentials, root, elsewhere })
}

/// The clock as it is now; the server says more about it later.
fn clock(who: Option<&Who>, findings: &mut Vec<Finding>) -> Arc<Clock> {
    let clock = Arc::new(Clock::new(Timestamp::from_millis(0)));
    if let Some(who) = who {
        clock.raise_floor(who.root.issued_at);
    }
    let (system, floor) = (system(), clock.floor());
    if system < floor {
        let found = format!("this device says {system}, which was before its agent or its root was made ({floor})");
        findings.push(Finding::note(
            "clock",
            found,
            "updates work all the same; set the clock, or look at its battery",
        ));
    }
    clock
}

async fn server(settings: &Settings, who: &Who, clock: &Arc<Clock>, findings: &mut Vec<Finding>) {
    if !name(settings, who, findings).await {
        return;
    }
    let strict = match client(settings, who, clock) {
        Ok(client) => client,
        Err(reason) => {
            findings.push(Finding::blocks("tls", reason, "correct network.extra_ca_file, or enrol again"));
            return;
        }
    };
    let version = who.root.version;
    let served = strict.get(&paths::root(version), max_envelope(Root::MAX_BYTES), Dates::MayBeWrong).await;
    match served {
        Ok(bytes) => {
            findings.push(Finding::good("connection", format!("{} answers", who.endpoint.authority())));
            root(&bytes, who, findings);
        }
        Err(ClientError::Status { status: 404, .. }) => {
            findings.push(Finding::blocks(
                "root",
                format!("the server has no root {version}, so it is another server than the one of the bundle"),
                "check the address, or enrol with a bundle of this server",
            ));
        }
        Err(error) => {
            findings.push(trouble(settings, who, clock, &error).await);
            return;
        }
    }
    if who.credentials.is_some() {
        findings.push(welcome(settings, &strict).await);
    }
    time(&strict, findings);
}

fn client(settings: &Settings, who: &Who, clock: &Arc<Clock>) -> Result<Client, String> {
    let credentials = match &who.credentials {
        Some((certificate, key)) => Some(Credentials::from_pem(certificate, key).map_err(|error| error.to_string())?),
        None => None,
    };
    Client::new(who.endpoint.clone(), &who.ca_pem, credentials, clock, settings.network.clone())
        .map_err(|error| error.to_string())
}

/// Whether the name that is connected to can be looked up.
async fn name(settings: &Settings, who: &Who, findings: &mut Vec<Finding>) -> bool {
    let (what, target) = match &settings.network.way {
        Way::Straight => ("dns", who.endpoint.target()),
        Way::At(address) => ("dns", address.clone()),
        Way::Proxy(proxy) => ("proxy", proxy.authority.clone()),
    };
    match tokio::net::lookup_host(&target).await {
        Ok(found) => {
            let addresses: Vec<String> = found.map(|address| address.ip().to_string()).take(4).collect();
            findings.push(Finding::good(what, format!("{target} is {}", addresses.join(", "))));
            true
        }
        Err(error) => {
            let remedy = "look at the name servers (/etc/resolv.conf) and the spelling; network.connect_to = \
                          \"ADDRESS:PORT\" in agent.toml needs no name server";
            findings.push(Finding::blocks(what, format!("{target} is not found: {error}"), remedy));
            false
        }
    }
}

/// Why the server cannot be asked, and what to do about it.
async fn trouble(settings: &Settings, who: &Who, clock: &Arc<Clock>, error: &ClientError) -> Finding {
    let said = error.to_string();
    match error {
        ClientError::Proxy { status: Some(407), .. } => {
            Finding::blocks("proxy", said, "put USER:PASSWORD into the file that network.proxy_auth_file names")
        }
        ClientError::Proxy { status: Some(_), .. } => {
            let remedy = format!("the proxy has to allow CONNECT to {}", who.endpoint.target());
            Finding::blocks("proxy", said, remedy)
        }
        ClientError::Proxy { status: None, .. } => {
            Finding::blocks("proxy", said, "check network.proxy, and that this device may reach it")
        }
        ClientError::Connect { .. } => {
            let remedy = format!(
                "allow this device out to {} in the firewall, or name a proxy (network.proxy); is the server running?",
                who.endpoint.target()
            );
            Finding::blocks("connection", said, remedy)
        }
        ClientError::Tls { .. } => tls(said, look(&who.endpoint, &settings.network, clock).await),
        ClientError::Slow(_) => Finding::blocks(
            "connection",
            said,
            "something on the way swallows the traffic: a firewall, or a line with a smaller packet size (MTU)",
        ),
        _ => Finding::blocks("connection", said, "something else than the server answers at this address"),
    }
}

/// TLS failed: by what was shown one sees who is in the way.
fn tls(said: String, seen: Option<Seen>) -> Finding {
    let Some(seen) = seen else {
        return Finding::blocks("tls", said, "no certificate was shown at all: something else than the server answers");
    };
    let (subject, issuer) = (&seen.subject, &seen.issuer);
    let found = format!("{said}; the certificate is for {subject}, issued by {issuer}, until {}", seen.not_after);
    Finding::blocks(
        "tls",
        found,
        format!(
            "if {issuer} is not your server's CA, a firewall opens the traffic on the way: have it leave this address \
             alone, or name its CA in network.extra_ca_file and set network.identity = \"signature\". If it is, the bundle \
             is of another server, or the server's CA was replaced: enrol again, or name the CA in network.extra_ca_file"
        ),
    )
}

fn root(bytes: &[u8], who: &Who, findings: &mut Vec<Finding>) {
    let same = Root::open_initial(bytes).is_ok_and(|root| root.digest() == who.root.digest());
    findings.push(if same {
        Finding::good("root", format!("root {} is this device's", who.root.version))
    } else {
        Finding::blocks(
            "root",
            format!("the server's root {} is another one than this device's", who.root.version),
            "it is another server: check the address, or enrol with a bundle of this server",
        )
    });
    let now = system();
    if now >= who.root.expires {
        let found = format!("root {} has expired at {}", who.root.version, who.root.expires);
        findings.push(Finding::blocks("root", found, "publish a newer root; until then nothing new is installed"));
    }
}

/// Whether the server knows this device: asked for a payload that cannot be there.
async fn welcome(settings: &Settings, client: &Client) -> Finding {
    let nothing = paths::payload(Digest::of(b"doctor"));
    let error = match client.get(&nothing, 1024, Dates::MayBeWrong).await {
        Ok(_) => return Finding::good("certificate", "the server knows this device"),
        Err(ClientError::Status { status: 404, .. }) => {
            return Finding::good("certificate", "the server knows this device");
        }
        Err(error) => error,
    };
    let said = error.to_string();
    let code = |wanted: Problem| error.code() == wanted.as_str();
    if code(Problem::CertificateExpired) {
        return Finding::note("certificate", said, "the agent renews it at its next check-in");
    }
    let opened = settings.network.extra_ca_file.is_some() && settings.network.shows == Shows::Certificate;
    let remedy = if code(Problem::UnknownDevice) && opened {
        "if network.extra_ca_file names a firewall that opens TLS, no certificate gets through it: set network.identity = \
         \"signature\", and signed_requests = true on the server. Else enrol again"
    } else if code(Problem::SignatureInvalid) {
        "signed_requests = true in server.toml lets the server take signed requests; if it does, enrol again"
    } else if code(Problem::DeviceRevoked) || code(Problem::UnknownDevice) {
        "enrol again with a token that is bound to this device: callboard token create --device NAME --bundle FILE"
    } else {
        "try again; if it stays, the server's log says more"
    };
    Finding::blocks("certificate", said, remedy)
}

/// Whether the other addresses that the root lists answer. The device is where it is until one of them does.
async fn elsewhere(settings: &Settings, who: &Who, clock: &Arc<Clock>, findings: &mut Vec<Finding>) {
    let Some((certificate, key)) = &who.credentials else { return };
    for place in &who.elsewhere {
        let ask = async || -> Result<(), String> {
            let credentials = Credentials::from_pem(certificate, key).map_err(|error| error.to_string())?;
            let client = place.client(credentials, clock, settings.network.clone());
            let client = client.map_err(|error| error.to_string())?;
            let root = paths::root(who.root.version);
            let answer = client.get(&root, max_envelope(Root::MAX_BYTES), Dates::MayBeWrong).await;
            answer.map(drop).map_err(|error| error.to_string())
        };
        let url = &place.url;
        findings.push(match ask().await {
            Ok(()) => Finding::good("elsewhere", format!("{url}, which the root lists, answers as well")),
            Err(reason) => {
                let remedy = "the device stays where it is until that address answers; look at the way there before \
                              the old address ends";
                Finding::note("elsewhere", format!("{url}, which the root lists: {reason}"), remedy)
            }
        });
    }
}

/// How far this device's clock is from the server's. Nobody signed that, so nothing depends on it.
fn time(client: &Client, findings: &mut Vec<Finding>) {
    let Some(server) = client.date() else { return };
    let own = system();
    let off = if own > server { own.since(server) } else { server.since(own) };
    findings.push(if off > CLOCK_MAY_BE_OFF {
        let found = format!("this device says {own}, the server {server}");
        Finding::note("clock", found, "updates work all the same; set the clock (timedatectl set-ntp true)")
    } else {
        Finding::good("clock", format!("{own}, as the server's"))
    });
}
