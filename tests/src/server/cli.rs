//! Operator commands, run as an operator runs them: profile in the home directory, answers on standard output.

use std::{
    ffi::OsStr,
    panic::AssertUnwindSafe,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde::de::DeserializeOwned;

use super::{Engine, TestServer};
use crate::wait;

/// What a command said, and its exit code.
#[derive(Clone, Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub(crate) fn of(output: std::process::Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Of a command that has to end by itself and might not.
    #[track_caller]
    pub(super) fn of_ending(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let ended = std::panic::catch_unwind(AssertUnwindSafe(|| {
            wait::until("the command ends", || child.try_wait().unwrap().is_some());
        }));
        if let Err(panic) = ended {
            child.kill().unwrap();
            std::panic::resume_unwind(panic);
        }
        Self::of(child.wait_with_output().unwrap())
    }

    #[track_caller]
    pub fn ok(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        self.ok();
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {}", self.stdout))
    }

    /// The message of a command that ended with `code`.
    #[track_caller]
    pub fn refused(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        self.stderr.trim()
    }
}

impl TestServer {
    /// The command `callboard` with this server's home, profile and database, and nothing else of this environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.binaries.callboard);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.home()).env("CALLBOARD_PROFILE", self.profile()).env("TZ", "Asia/Kathmandu");
        if self.engine == Engine::Postgres {
            command.env("CALLBOARD_DATABASE_URL", self.database_url());
        }
        if let Some(running) = &self.running {
            command.env("CALLBOARD_SERVER", &running.file.admin_url).env("CALLBOARD_TOKEN", self.token());
        }
        command.current_dir(self.home()).stdin(Stdio::null());
        command
    }

    /// Runs an operator's command to its end.
    pub fn cli(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        Output::of(self.command().args(args).output().unwrap())
    }

    pub(super) fn profile(&self) -> PathBuf {
        self.home().join("profile.toml")
    }
}
