//! The server that is measured: `callboard init` and `callboard serve` on a new data directory.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use callboard_proto::{
    admin::{ImportDevice, ImportDevices, MAX_IMPORT, Release, Rollout, TokenCreated},
    digest::Digest,
    enrol::Bundle,
    root::Root,
    signed::Verified,
};
use callboard_tests::release::NewRelease;
use ed25519_dalek::{SigningKey, pkcs8::DecodePrivateKey as _};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Process, Processors};

/// A running server.
pub(crate) struct Product {
    pub(crate) process: Process,
    pub(crate) device_addr: SocketAddr,
    admin_url: String,
    token: String,
    dir: TempDir,
}

impl Product {
    pub(crate) fn start(processors: &Processors) -> anyhow::Result<Self> {
        Self::start_on(processors, |_| Ok(()))
    }

    /// The same, with a database into which `fill` has put something.
    pub(crate) fn start_on(
        processors: &Processors,
        fill: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let data = dir.path().join("data");
        let init = Command::new(binary()).arg("init").arg("--dir").arg(&data).env("HOME", dir.path()).output()?;
        ensure!(init.status.success(), "init: {}", String::from_utf8_lossy(&init.stderr));
        let said = String::from_utf8(init.stdout)?;
        let token = said.lines().find(|line| line.starts_with("admin token")).and_then(|line| line.rsplit(' ').next());
        let token = token.context("init printed no token")?.to_owned();
        fill(&data.join("callboard.db"))?;
        let mut process = Process::start(
            Command::new(binary())
                .args(["serve", "--device-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--dir"])
                .arg(&data)
                .env("CALLBOARD_LOG", "warn")
                // Few devices stand for many.
                .env("CALLBOARD_DEVICE_REQUESTS_PER_MINUTE", "1000000")
                .stdout(Stdio::null()),
            processors,
        )?;
        let file = data.join("run/serve.json");
        let serving: Value = process.until(|| serde_json::from_slice(&fs::read(&file).ok()?).ok())?;
        let url = |key: &str| Ok::<_, anyhow::Error>(serving[key].as_str().context("no address")?.to_owned());
        let device_addr = url("device_url")?.trim_start_matches("https://").parse()?;
        let admin_url = url("admin_url")?;
        Ok(Self { process, device_addr, admin_url, token, dir })
    }

    /// Certificates and keys.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// For what peers need.
    pub(crate) fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// A bundle for so many enrolments.
    pub(crate) fn bundle(&self, max_uses: u32) -> anyhow::Result<Bundle> {
        let created: TokenCreated = self.post("/api/v1/tokens", &json!({ "max_uses": max_uses }))?;
        Ok(created.bundle)
    }

    /// Imports devices with the serial numbers 0 to `n`.
    pub(crate) fn import(&self, n: usize) -> anyhow::Result<()> {
        let devices = (0..n).map(|i| {
            Ok(ImportDevice {
                name: format!("till-{i}").parse()?,
                site: None,
                serial: Some(serial(i)),
                description: "Front counter".to_owned(),
                labels: [("region", "northeast"), ("ring", "general")]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
                installed: [("pos-app".parse()?, "2.1.0".parse()?)].into(),
            })
        });
        let mut devices = devices.collect::<anyhow::Result<Vec<_>>>()?;
        while !devices.is_empty() {
            let part = devices.split_off(devices.len().saturating_sub(MAX_IMPORT));
            let _: Value = self.post("/api/v1/devices/import", &ImportDevices { devices: part, dry_run: false })?;
        }
        Ok(())
    }

    /// Uploads a payload; gives its path on the device listener and its file.
    pub(crate) fn upload(&self, bytes: &[u8]) -> anyhow::Result<(String, PathBuf)> {
        let digest = Digest::of(bytes).to_string();
        ureq::put(format!("{}/api/v1/payloads/{digest}", self.admin_url))
            .header("Authorization", format!("Bearer {}", self.token))
            .send(bytes)?;
        let file = find(&self.data().join("payloads"), &digest).context("the payload has no file")?;
        Ok((format!("/v1/payloads/{digest}"), file))
    }

    /// Publishes a release, signed by the key for trying out.
    pub(crate) fn publish(&self, release: &NewRelease) -> anyhow::Result<Digest> {
        self.upload(&release.payload)?;
        let key = fs::read_to_string(self.data().join("try-out-keys/release.key"))?;
        let envelope = release.signed_by(&SigningKey::from_pkcs8_pem(&key).context("the key is none")?);
        let envelope: Value = serde_json::from_slice(&envelope.to_json())?;
        let published: Release = self.post("/api/v1/releases", &envelope)?;
        Ok(published.sha256)
    }

    /// The root by which devices verify what they are told.
    pub(crate) fn root(&self) -> anyhow::Result<Verified<Root>> {
        Ok(Root::open_initial(&fs::read(self.data().join("root.json"))?)?)
    }

    /// Makes a draft.
    pub(crate) fn draft(&self, spec: &Value) -> anyhow::Result<()> {
        self.post("/api/v1/rollouts", spec).map(|_: Value| ())
    }

    /// `start` or `cancel`.
    pub(crate) fn tell_rollout(&self, name: &str, verb: &str) -> anyhow::Result<Rollout> {
        self.post(&format!("/api/v1/rollouts/{name}/{verb}"), &json!({ "reason": "a benchmark" }))
    }

    /// Statements that the server has run since its start, by purpose.
    pub(crate) fn statements(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let metrics = ureq::get(format!("{}/metrics", self.admin_url)).call()?.body_mut().read_to_string()?;
        let lines =
            metrics.lines().filter_map(|line| line.strip_prefix("callboard_database_statements_total{purpose=\""));
        let found: BTreeMap<_, _> = lines
            .filter_map(|line| {
                let (purpose, n) = line.split_once("\"} ")?;
                Some((purpose.to_owned(), n.parse().ok()?))
            })
            .collect();
        ensure!(!found.is_empty(), "the metric callboard_database_statements_total is gone");
        Ok(found)
    }

    /// Check-ins that the server has answered.
    pub(crate) fn check_ins(&self) -> anyhow::Result<f64> {
        let metrics = ureq::get(format!("{}/metrics", self.admin_url)).call()?.body_mut().read_to_string()?;
        let lines = metrics.lines().filter_map(|line| line.strip_prefix("callboard_check_ins_total{"));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Fetches a page, as a browser does.
    pub(crate) fn page(&self, path: &str) -> anyhow::Result<()> {
        let answer = ureq::get(format!("{}{path}", self.admin_url))
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Accept", "text/html")
            .call();
        let html = answer.with_context(|| path.to_owned())?.body_mut().read_to_string()?;
        ensure!(html.contains("</html>"), "{path} is no page");
        Ok(())
    }

    /// Where operators reach it.
    pub(crate) fn admin_address(&self) -> &str {
        self.admin_url.trim_start_matches("http://")
    }

    /// The header by which it knows who asks.
    pub(crate) fn authorization(&self) -> String {
        format!("authorization: Bearer {}\r\n", self.token)
    }

    /// Whether a device has checked in.
    pub(crate) fn has_seen(&self, device: &str) -> anyhow::Result<bool> {
        let answer = ureq::get(format!("{}/api/v1/devices/{device}", self.admin_url))
            .header("Authorization", format!("Bearer {}", self.token))
            .call();
        let device: Value = serde_json::from_str(&answer?.body_mut().read_to_string()?)?;
        Ok(device["last_seen"].is_string())
    }

    fn post<T: serde::de::DeserializeOwned>(&self, path: &str, body: &impl serde::Serialize) -> anyhow::Result<T> {
        let answer = ureq::post(format!("{}{path}", self.admin_url))
            .header("Authorization", format!("Bearer {}", self.token))
            .content_type("application/json")
            .send(serde_json::to_vec(body)?.as_slice());
        Ok(serde_json::from_str(&answer?.body_mut().read_to_string()?)?)
    }
}

/// The serial number of an imported device.
pub(crate) fn serial(n: usize) -> String {
    format!("SN-{n:06}")
}

fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_test-callboard")
}

/// The file whose path ends with the digest, however it is split.
fn find(dir: &Path, digest: &str) -> Option<PathBuf> {
    fs::read_dir(dir).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return find(&path, digest);
        }
        let name = path.to_str()?.replace('/', "");
        name.ends_with(digest).then_some(path)
    })
}
