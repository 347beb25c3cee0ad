//! `callboard certificate`: the device listener's TLS certificate. Devices trust its issuer, so another one is no event
//! for them.

use std::path::PathBuf;

use callboard_proto::time::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::{Context, at_home::note, exit::BadInput, init, show};
use crate::{
    ca::{self, ServerCa},
    clock::Clock,
    config::{FILE, Fragment, PublicUrl},
    db::events::NewEvent,
};

/// What to do with the certificate.
#[derive(clap::Subcommand)]
pub(crate) enum CertificateCommand {
    /// Make another certificate for devices, good for 5 years; a running server takes it up when it is restarted
    ///
    /// Works on the data directory. The earlier certificate and its key are kept beside, as .old.
    Renew {
        /// The data directory
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Where devices reach the server from now on: https://HOST[:PORT] [default: as before]
        #[arg(long, value_name = "URL")]
        public_url: Option<String>,
        /// The time that it is made for; for tests
        #[arg(long, hide = true, value_name = "TIME")]
        fixed_clock: Option<Timestamp>,
    },
}

/// What was made.
#[derive(Debug, Serialize)]
struct Renewed {
    host: String,
    certificate: PathBuf,
    expires_at: Timestamp,
}

/// Runs a command.
pub(crate) fn run(command: CertificateCommand, context: &Context) -> anyhow::Result<()> {
    let CertificateCommand::Renew { dir, public_url, fixed_clock } = command;
    let now = fixed_clock.unwrap_or_else(|| Clock::system().now());
    if !dir.join(ca::DEVICE_CA_CERT).exists() {
        return Err(BadInput(format!("{} is not a data directory", dir.display())).into());
    }
    let asked = public_url.as_deref().map(init::parse_url).transpose()?;
    let known = Fragment::from_file(&dir.join(FILE)).map_err(|error| BadInput(error.to_string()))?;
    let known = known.get("public_url").and_then(PublicUrl::parse);
    let url = asked.as_ref().or(known.as_ref());
    let host = url.map_or("localhost", |url| url.host.as_str());
    ServerCa::load(&dir)?.issue_server(&dir, host, now)?;
    if asked.is_some() {
        init::write_settings(&dir, asked.as_ref())?;
    }
    let certificate = dir.join(ca::SERVER_CERT);
    let expires_at = ca::not_after(&std::fs::read_to_string(&certificate)?)?;
    let event =
        NewEvent::general("certificate.renewed", format!("another certificate for {host}, good until {expires_at}"));
    note(&dir, event, json!({ "host": host, "expires_at": expires_at }), now)?;
    let renewed = Renewed { host: host.to_owned(), certificate, expires_at };
    show::value(context.format, &renewed, |renewed| {
        format!("made a new certificate for {}, good until {}; restart the server", renewed.host, renewed.expires_at)
    })
}
