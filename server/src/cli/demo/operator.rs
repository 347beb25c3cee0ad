//! The operator of the demo: types the commands that a real one would type.

use std::path::{Path, PathBuf};

use super::{process, stage::Stage};

/// Somebody with a profile.
pub(super) struct Operator {
    profile: PathBuf,
    stage: Stage,
}

impl Operator {
    /// Whose commands are shown on `stage`.
    pub(super) fn new(profile: &Path, stage: &Stage) -> Self {
        Self { profile: profile.to_owned(), stage: stage.clone() }
    }

    /// Where the profile lies.
    pub(super) fn profile(&self) -> &Path {
        &self.profile
    }

    /// Runs a command before the audience's eyes.
    pub(super) fn types(&self, args: &[&str]) -> anyhow::Result<String> {
        self.stage.command(args)?;
        self.runs(args)
    }

    /// Runs a command; what it prints is given back.
    pub(super) fn runs(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = process::command(&self.profile, args)?.output()?;
        anyhow::ensure!(
            output.status.success(),
            "`callboard {}` failed: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
