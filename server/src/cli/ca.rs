//! `callboard ca`: another CA takes the place of the one in use, without an interruption.
//!
//! Each CA is exchanged in three steps, and what devices need for the next one reaches them in between: a certificate by
//! renewal, the server's CA by a root. What would shut devices out is refused.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use callboard_proto::{digest::Digest, root::Root, signed::Envelope, time::Timestamp};
use data_encoding::BASE64;
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use serde_json::json;

use super::{
    Context,
    at_home::{in_database, note},
    exit::BadInput,
    online_key::own,
    serve, show,
};
use crate::{
    ca::{
        self, ServerCa,
        rotation::{self, Files, Kind},
    },
    clock::Clock,
    config::{FILE, Fragment, PublicUrl, Settings},
    db::{self, DbError, devices::Standing, events::NewEvent},
};

/// What to do with a CA.
#[derive(clap::Subcommand)]
pub(crate) enum CaCommand {
    /// Make the next CA beside the one in use
    ///
    /// A server that is restarted takes devices' certificates of both, and puts both into bundles. Copy the new files to
    /// every server of the fleet.
    #[command(after_help = "Examples:\n  callboard ca new device --dir /var/lib/callboard-server")]
    New(Which),
    /// Put the next CA in the place of the one in use; takes effect when the server is restarted
    ///
    /// For devices: certificates are issued by it from then on. For the server: it gets another certificate; to devices
    /// that do not know the next CA yet the former one vouches for it.
    #[command(after_help = "Examples:\n  callboard ca switch server --dir /var/lib/callboard-server")]
    Switch(Which),
    /// Forget the former CA; takes effect when the server is restarted
    ///
    /// For devices: whoever still shows a certificate of it is refused, and has to enrol again. For the server: whoever
    /// knows no other CA finds no server any more. It is refused as long as there is such a device.
    #[command(after_help = "Examples:\n  callboard ca finish device --dir /var/lib/callboard-server")]
    Finish {
        #[command(flatten)]
        which: Which,
        /// Although devices would be shut out by it, which are to enrol again
        #[arg(long)]
        leave_behind: bool,
    },
}

/// Which CA, and where.
#[derive(clap::Args)]
pub(crate) struct Which {
    /// Which one
    #[arg(value_enum)]
    kind: Kind,
    /// The data directory
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The time that it is made for; for tests
    #[arg(long, hide = true, value_name = "TIME")]
    fixed_clock: Option<Timestamp>,
}

#[derive(Serialize)]
struct Done {
    ca: &'static str,
    /// Digest of the certificate that it is about.
    sha256: Digest,
    done: &'static str,
    next: String,
}

/// Runs a command.
pub(crate) fn run(command: &CaCommand, context: &Context) -> anyhow::Result<()> {
    let (CaCommand::New(which) | CaCommand::Switch(which) | CaCommand::Finish { which, .. }) = command;
    // Says so if it is none.
    let settings = serve::settings(&which.dir, Fragment::default())?;
    let done = match command {
        CaCommand::New(_) => new(which)?,
        CaCommand::Switch(_) => switch(which)?,
        CaCommand::Finish { leave_behind, .. } => finish(which, settings, *leave_behind)?,
    };
    let now = which.fixed_clock.unwrap_or_else(|| Clock::system().now());
    let kind = match command {
        CaCommand::New(_) => "ca.made",
        CaCommand::Switch(_) => "ca.switched",
        CaCommand::Finish { .. } => "ca.forgotten",
    };
    let event = NewEvent::general(kind, format!("{} CA {} {}", done.ca, done.sha256.short(), done.done));
    note(&which.dir, event, json!({ "ca": done.ca, "sha256": done.sha256 }), now)?;
    show::value(context.format, &done, |done| {
        format!("{} CA {} {}\nnext: {}", done.ca, done.sha256.short(), done.done, done.next)
    })
}

fn new(which: &Which) -> anyhow::Result<Done> {
    let files = which.kind.files(&which.dir);
    for (path, hint) in [
        (&files.next_certificate, "switch to it, or delete it and its key"),
        (&files.former, "finish the exchange before"),
    ] {
        if path.exists() {
            return Err(BadInput(format!("{} is there already: {hint}", path.display())).into());
        }
    }
    let now = which.fixed_clock.unwrap_or_else(|| Clock::system().now());
    let made = rotation::make_next(&which.dir, which.kind, now)?;
    give_to_server(&files, [&files.next_certificate, &files.next_key])?;
    let next = match which.kind {
        Kind::Device => format!(
            "copy {} and its key to every server of the fleet, restart them, then: callboard ca switch device",
            files.next_certificate.display()
        ),
        Kind::Server => "restart, so that bundles have both; then: callboard ca switch server".to_owned(),
    };
    Ok(Done { ca: which.kind.as_str(), sha256: Digest::of(&made), done: "is made", next })
}

fn switch(which: &Which) -> anyhow::Result<Done> {
    let files = which.kind.files(&which.dir);
    if !files.next_certificate.exists() {
        let path = files.next_certificate.display();
        return Err(BadInput(format!("{path} is not there: callboard ca new {} makes it", which.kind.as_str())).into());
    }
    let next = rotation::certificate(&files.next_certificate)?;
    rotation::switch(&which.dir, which.kind)?;
    give_to_server(&files, [&files.certificate, &files.key])?;
    give_to_server(&files, [&files.former])?;
    let hint = match which.kind {
        Kind::Device => {
            "copy device-ca* to every server of the fleet and restart them; when devices have renewed (callboard trust \
             status): callboard ca finish device"
        }
        Kind::Server => {
            show_another_certificate(which, &files)?;
            "restart, also the other servers with these files; then publish a root that lists the new CA (callboard root \
             rotate --server-url URL --server-ca server-ca.pem); when devices have it: callboard ca finish server"
        }
    };
    Ok(Done { ca: which.kind.as_str(), sha256: Digest::of(&next), done: "is in use", next: hint.to_owned() })
}

/// The server gets another certificate by its present CA.
fn show_another_certificate(which: &Which, files: &Files) -> anyhow::Result<()> {
    let now = which.fixed_clock.unwrap_or_else(|| Clock::system().now());
    let known = Fragment::from_file(&which.dir.join(FILE)).map_err(|error| BadInput(error.to_string()))?;
    let url = known.get("public_url").and_then(PublicUrl::parse);
    let host = url.as_ref().map_or("localhost", |url| url.host.as_str());
    ServerCa::load(&which.dir)?.issue_server(&which.dir, host, now)?;
    give_to_server(files, [&which.dir.join(ca::SERVER_CERT), &which.dir.join(ca::SERVER_KEY)])
}

fn finish(which: &Which, settings: Settings, leave_behind: bool) -> anyhow::Result<Done> {
    let files = which.kind.files(&which.dir);
    if files.next_certificate.exists() || !files.former.exists() {
        let kind = which.kind.as_str();
        return Err(BadInput(format!("no {kind} CA was replaced: callboard ca switch {kind} comes first")).into());
    }
    let former = rotation::certificate(&files.former)?;
    if !leave_behind {
        refuse_to_lose(which.kind, &former, &rotation::certificate(&files.certificate)?, settings)?;
    }
    rotation::forget_former(&which.dir, which.kind)?;
    let next = match which.kind {
        Kind::Device => "restart, also the other servers, whose former file goes as well",
        Kind::Server => {
            show_another_certificate(which, &files)?;
            "restart, also the other servers with these files"
        }
    };
    let next = next.to_owned();
    Ok(Done { ca: which.kind.as_str(), sha256: Digest::of(&former), done: "is forgotten", next })
}

/// The server runs as a user of its own.
fn give_to_server<const N: usize>(files: &Files, made: [&PathBuf; N]) -> anyhow::Result<()> {
    let like =
        fs::metadata(files.certificate.with_file_name(crate::sign::ONLINE_KEY)).context("cannot look at a key")?;
    for path in made {
        own(path, &like).with_context(|| format!("cannot give {} to the server's user", path.display()))?;
    }
    Ok(())
}

/// Since which root every root has listed this CA for a server.
fn listed_since(roots: &[(u64, Vec<u8>)], ca: &CertificateDer<'_>) -> anyhow::Result<u64> {
    let der = BASE64.encode(ca);
    let lists = |envelope: &[u8]| -> anyhow::Result<bool> {
        let root: Root = Envelope::parse::<Root>(envelope)?.claim()?;
        Ok(root.servers.iter().any(|server| server.ca_der.contains(&der)))
    };
    let mut since = None;
    for (version, envelope) in roots.iter().rev() {
        if !lists(envelope)? {
            break;
        }
        since = Some(*version);
    }
    let missing = || {
        "the newest root does not list the server's CA: publish one that does (callboard root rotate --server-url URL \
         --server-ca server-ca.pem)"
    };
    Ok(since.ok_or_else(|| BadInput::new(missing()))?)
}

/// Whether devices that stand so need what the former CA made.
type Needs = Box<dyn Fn(&Standing) -> bool>;

/// Refuses to forget a CA as long as a device may need it.
fn refuse_to_lose(
    kind: Kind,
    former: &CertificateDer<'_>,
    own: &CertificateDer<'_>,
    settings: Settings,
) -> anyhow::Result<()> {
    let look = |conn: &mut db::DbConn| Ok::<_, DbError>((db::trust::roots(conn)?, db::devices::standings(conn)?));
    let (roots, standings) = in_database(settings, async |db| Ok(db.read(look).await?))?;
    let (needs, why): (Needs, String) = match kind {
        Kind::Device => {
            let name = ca::name(former)?.short();
            let needs = move |one: &Standing| one.ca.as_ref().is_none_or(|ca| *ca == name);
            (Box::new(needs), "that may have a certificate of the former CA".to_owned())
        }
        Kind::Server => {
            let version = listed_since(&roots, own)?;
            let needs = move |one: &Standing| one.root.is_none_or(|root| root < version);
            (Box::new(needs), format!("without root {version}, which lists the server's CA,"))
        }
    };
    let devices: u64 = standings.iter().filter(|(one, _)| needs(one)).map(|(_, devices)| devices).sum();
    if devices == 0 {
        return Ok(());
    }
    let what = callboard_policy::counted(devices, "device");
    let hint = "wait for them, or add --leave-behind and let them enrol again";
    Err(BadInput(format!("{what} {why} would be shut out; {hint}")).into())
}
