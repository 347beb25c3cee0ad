//! One till: its directory, its software, and the agent that runs on it while it is switched on.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use callboard_proto::ids::DeviceName;

use super::{
    fleet::{Facts, PRODUCT},
    process::{self, Running},
};

/// A till.
pub(super) struct Till {
    pub(super) facts: Facts,
    dir: PathBuf,
    log: PathBuf,
    agent: Option<Running>,
}

impl Till {
    /// Unpacks it: a directory with the software of its image.
    pub(super) fn unpack(facts: &Facts, devices: &Path, logs: &Path) -> anyhow::Result<Self> {
        let dir = devices.join(facts.name.as_str());
        let image = dir.join(PRODUCT).join("versions/factory");
        fs::create_dir_all(&image)?;
        fs::create_dir_all(dir.join("state"))?;
        fs::write(image.join("VERSION"), format!("{}\n", facts.factory()))?;
        symlink("versions/factory", dir.join(PRODUCT).join("current"))?;
        fs::write(dir.join("agent.toml"), config(&dir, facts))?;
        let log = logs.join(format!("{}.log", facts.name));
        Ok(Self { facts: facts.clone(), dir, log, agent: None })
    }

    /// Its name in the registry.
    pub(super) fn name(&self) -> &DeviceName {
        &self.facts.name
    }

    /// Gets its certificate, with a bundle as an operator would hand it over.
    pub(super) fn enrol(&self, profile: &Path, bundle: &Path) -> anyhow::Result<()> {
        let args = [self.config().into_os_string(), "--bundle".into(), bundle.as_os_str().to_owned()];
        let output = process::command(profile, [process::VERB, &std::process::id().to_string()])?
            .args(["agent", "enrol", "--config"])
            .args(args)
            .output()?;
        anyhow::ensure!(
            output.status.success(),
            "{} could not enrol: {}",
            self.name(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// Whether it has a certificate; its agent writes down who it is last.
    pub(super) fn is_enrolled(&self) -> bool {
        self.dir.join("state/device.json").exists()
    }

    /// Switches it on.
    pub(super) fn switch_on(&mut self, profile: &Path) -> anyhow::Result<()> {
        if self.agent.is_none() {
            let config = self.config();
            let args = ["agent".as_ref(), "run".as_ref(), "--config".as_ref(), config.as_os_str()];
            self.agent = Some(process::start(self.facts.name.as_str(), profile, args, &self.log)?);
        }
        Ok(())
    }

    /// Whether it is switched on.
    pub(super) fn is_on(&self) -> bool {
        self.agent.is_some()
    }

    /// An error if its agent has ended by itself.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        self.agent.as_mut().map_or(Ok(()), Running::check)
    }

    /// Asks its agent to end; [`Till::switch_off`] waits for it.
    pub(super) fn ask_off(&self) {
        if let Some(agent) = &self.agent {
            agent.ask();
        }
    }

    /// Switches it off, as a shutdown does.
    pub(super) fn switch_off(&mut self) -> anyhow::Result<()> {
        match self.agent.take() {
            Some(agent) => agent.end(Duration::from_secs(10)).map(drop),
            None => Ok(()),
        }
    }

    /// The version that runs, read from its disk.
    pub(super) fn runs(&self) -> anyhow::Result<String> {
        let file = self.dir.join(PRODUCT).join("current/VERSION");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(text.trim().to_owned())
    }

    fn config(&self) -> PathBuf {
        self.dir.join("agent.toml")
    }
}

/// Short intervals, so that a day of a shop fits into seconds; everything else as on a real till.
fn config(dir: &Path, facts: &Facts) -> String {
    let product = dir.join(PRODUCT);
    format!(
        "state_dir = {state:?}\n\
         hw = \"demo-till\"\n\
         \n\
         [polling]\n\
         min_s = 1\n\
         max_s = 1\n\
         first_max_s = 0\n\
         wait_s = 0\n\
         \n\
         [products.{PRODUCT}]\n\
         directory = {product:?}\n\
         health = [\"/bin/sh\", {health:?}]\n\
         trial_s = 1\n\
         factory_version = {factory:?}\n",
        state = dir.join("state"),
        health = product.join("current/bin/health"),
        factory = facts.factory(),
    )
}
