//! The server of the demo: a real one, in its own process, whose clock can be stepped.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use callboard_proto::time::Timestamp;
use serde::{Deserialize, Serialize};
use ureq::http::Method;

use super::{
    INTERRUPTED,
    operator::Operator,
    process::{self, Running},
};
use crate::cli::{
    api::{Api, Path as ApiPath},
    connection::Connection,
    profile,
    stop::Stop,
};

/// How long a busy machine may take to start or to end a server.
const PATIENCE: Duration = Duration::from_secs(30);
/// So a device is online until it was silent for twice as long; agents here ask every second.
const POLL_INTERVAL_S: &str = "4";

/// A running server.
pub(super) struct Server {
    process: Running,
    pub(super) api: Api,
    ready: Ready,
}

/// What `serve` writes when it is ready.
#[derive(Clone, Debug, Deserialize)]
struct Ready {
    device_url: String,
    admin_url: String,
    pid: u32,
}

#[derive(Serialize)]
struct SetClock {
    now: Timestamp,
}

impl Server {
    /// Starts `callboard serve` and waits until it is ready. Devices know only one address, so it is told.
    pub(super) fn start(
        dir: &Path,
        devices: SocketAddr,
        profile: &Path,
        log: &Path,
        stop: &Stop,
    ) -> anyhow::Result<Self> {
        let announcement = dir.join("run/serve.json");
        if announcement.exists() {
            fs::remove_file(&announcement)?;
        }
        let dir_arg = dir.to_str().context("the demo's directory must have a plain name")?;
        let args = [
            "serve",
            "--dir",
            dir_arg,
            "--device-listen",
            &devices.to_string(),
            "--admin-listen",
            "127.0.0.1:0",
            "--poll-interval-s",
            POLL_INTERVAL_S,
            "--stepped-clock",
        ];
        let mut process = process::start("the server", profile, args, log)?;
        let ready = wait_ready(&mut process, &announcement, stop)?;
        let operator = profile::load(profile)?.context("`callboard init` wrote no profile")?;
        let token_from = format!("the profile {}", profile.display());
        let to = Connection { server: ready.admin_url.clone(), token: operator.token, token_from, ca: operator.ca };
        Ok(Self { process, api: Api::new(&to)?, ready })
    }

    /// Where it listens for operators.
    pub(super) fn admin(&self) -> anyhow::Result<SocketAddr> {
        address(&self.ready.admin_url)
    }

    /// Where it listens for devices.
    pub(super) fn devices(&self) -> anyhow::Result<SocketAddr> {
        address(&self.ready.device_url)
    }

    /// Steps its clock.
    pub(super) fn set_clock(&self, now: Timestamp) -> anyhow::Result<()> {
        self.api.tell(Method::PUT, &ApiPath::new(["clock"]), &SetClock { now }).map(drop)
    }

    /// An error if it has ended by itself.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        self.process.check()
    }

    /// Ends it in order.
    pub(super) fn end(self) -> anyhow::Result<()> {
        let status = self.process.end(PATIENCE)?;
        anyhow::ensure!(status.success(), "the server did not end well: {status}");
        Ok(())
    }
}

fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let (_, address) = url.split_once("://").context("the server's address is no URL")?;
    Ok(address.parse()?)
}

fn wait_ready(process: &mut Running, announcement: &Path, stop: &Stop) -> anyhow::Result<Ready> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        process.check()?;
        // Half a file is no JSON; the next look finds the rest.
        let text = fs::read_to_string(announcement).unwrap_or_default();
        if let Ok(ready) = serde_json::from_str::<Ready>(&text)
            && ready.pid == process.pid()
        {
            return Ok(ready);
        }
        anyhow::ensure!(!stop.wait(Duration::from_millis(20)), INTERRUPTED);
    }
    anyhow::bail!("the server was not ready within {} seconds: {}", PATIENCE.as_secs(), process.last_words())
}

/// Makes the data directory and a profile that leads to `url`.
pub(super) fn init(dir: &Path, operator: &Operator, url: String) -> anyhow::Result<()> {
    let dir = dir.to_str().context("the demo's directory must have a plain name")?;
    operator.runs(&["init", "--dir", dir])?;
    let mut made = profile::load(operator.profile())?.context("`callboard init` wrote no profile")?;
    made.server = url;
    Ok(made.save(operator.profile())?)
}

/// Where `init` puts the trial key that signs releases.
pub(super) fn release_key(dir: &Path) -> PathBuf {
    dir.join("try-out-keys/release.key")
}
