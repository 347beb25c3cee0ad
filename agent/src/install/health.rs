//! The health command, and the probation of a new version.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use callboard_proto::report::Failure;
use tokio::time::{Instant, sleep};

use super::service;
use crate::{
    config::ProductSettings,
    hooks::{self, Call, Exit, Outside},
    machine::permanent,
    words::Code,
};

const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);

/// A new version on probation.
pub(crate) struct Probation<'a> {
    pub(crate) settings: &'a ProductSettings,
    pub(crate) outside: &'a dyn Outside,
    pub(crate) tree: PathBuf,
    pub(crate) release: &'a str,
    /// Called after every look.
    pub(crate) progress: &'a dyn Fn(),
}

impl Probation<'_> {
    /// Watches the new version for as long as its product's settings ask. `Ok` means that it stayed healthy. Where there
    /// is nothing to watch, time alone would find no failure.
    ///
    /// `more` is asked beside the health command, if there is anything in it; until `reached` says so, the version needs
    /// the server and may not be kept.
    pub(crate) async fn watch(
        &self,
        more: Option<impl AsyncFn() -> Result<(), Failure>>,
        reached: impl Fn() -> bool,
    ) -> Result<(), Failure> {
        let settings = self.settings;
        let blind = settings.health.is_none() && settings.service.is_none() && more.is_none();
        let trial = if blind { Duration::ZERO } else { settings.trial };
        let start = Instant::now();
        let unit = settings.service.as_deref();
        let restarts = match unit {
            Some(unit) => service::show(unit).await?.restarts,
            None => 0,
        };
        let pause = (trial / 10).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        // A service is given the time of one health check to come up; without one nothing has to come up.
        let starting = if unit.is_some() { settings.health_timeout } else { Duration::ZERO };
        loop {
            let mut checked = self.check(restarts).await;
            if let (Ok(()), Some(more)) = (&checked, &more) {
                checked = more().await;
            }
            (self.progress)();
            let elapsed = start.elapsed();
            match checked {
                Err(failure) if elapsed >= starting => return Err(failure),
                Ok(()) if elapsed >= trial && reached() => return Ok(()),
                Ok(()) if elapsed >= trial.max(settings.contact) => {
                    let wait = settings.contact.as_secs();
                    let text = format!("the server was not reached under the new version within {wait} s");
                    return Err(permanent(Code::NoContact, text));
                }
                _ if elapsed >= trial => sleep(pause).await,
                _ => sleep(pause.min(trial.saturating_sub(elapsed)).max(SHORTEST_PAUSE)).await,
            }
        }
    }

    async fn check(&self, restarts: u32) -> Result<(), Failure> {
        if let Some(unit) = &self.settings.service {
            let found = service::show(unit).await?;
            if !found.active {
                return Err(permanent(Code::ServiceDown, format!("{unit} is {}", found.state)));
            }
            if found.restarts > restarts + 1 {
                let text = format!("{unit} was restarted {} times", found.restarts - restarts);
                return Err(permanent(Code::CrashLoop, text));
            }
        }
        match &self.settings.health {
            Some(argv) => self.run(argv).await,
            None => Ok(()),
        }
    }

    async fn run(&self, argv: &[String]) -> Result<(), Failure> {
        let Some((name, arguments)) = argv.split_first() else { return Ok(()) };
        let timeout = self.settings.health_timeout;
        let more = [
            ("CALLBOARD_STAGE", "health".to_owned()),
            ("CALLBOARD_RELEASE", self.release.to_owned()),
            ("CALLBOARD_TO_DIR", self.tree.display().to_string()),
        ];
        let call = Call {
            program: program(name, &self.tree),
            arguments: arguments.to_vec(),
            environment: hooks::environment(more),
            directory: self.tree.clone(),
            timeout,
        };
        let done = self.outside.run(call).await;
        if done.exit == Exit::Code(0) {
            return Ok(());
        }
        Err(hooks::told(name, &done, Code::HealthCheck, timeout.as_secs()))
    }
}

/// A relative name of a program with a slash, or that exists in the tree, is one of the new version's own.
fn program(name: &str, tree: &Path) -> PathBuf {
    let path = Path::new(name);
    let own = tree.join(path);
    if path.is_absolute() || (!name.contains('/') && !own.exists()) { path.to_owned() } else { own }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::{hooks::Machine, testing::product};

    type NoHooks = fn() -> std::future::Ready<Result<(), Failure>>;
    const NO_HOOKS: Option<NoHooks> = None;

    async fn health(script: &str, timeout_s: u64) -> Result<(), String> {
        let dir = tempfile::tempdir().expect("a directory");
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let settings = ProductSettings {
            health: Some(argv),
            health_timeout: Duration::from_secs(timeout_s),
            ..product(dir.path())
        };
        probation(&settings, dir.path()).await.map_err(|failure| failure.text)
    }

    /// Without hooks, and with the server reached.
    async fn probation(settings: &ProductSettings, tree: &Path) -> Result<(), Failure> {
        watch(settings, tree, true).await
    }

    async fn watch(settings: &ProductSettings, tree: &Path, reached: bool) -> Result<(), Failure> {
        let outside = Machine { directory: tree.join("none"), inhibit_directory: tree.join("none") };
        let probation =
            Probation { settings, outside: &outside, tree: tree.to_owned(), release: "release", progress: &|| {} };
        probation.watch(NO_HOOKS, || reached).await
    }

    #[tokio::test]
    async fn exit_0_is_healthy_and_anything_else_is_not() {
        assert_eq!(health("exit 0", 5).await, Ok(()));
        let text = health("echo to out; echo to err >&2; exit 3", 5).await.expect_err("unhealthy");
        assert!(text.contains("exit status: 3") && text.contains("to out") && text.contains("to err"), "{text}");
        let text = health("kill -9 $$", 5).await.expect_err("unhealthy");
        assert!(text.contains("signal: 9"), "{text}");
    }

    #[tokio::test]
    async fn a_hanging_check_is_ended_with_its_children() {
        let dir = tempfile::tempdir().expect("a directory");
        let pid_file = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", pid_file.display());
        let text = health(&script, 1).await.expect_err("unhealthy");
        assert!(text.contains("not finished after 1 s"), "{text}");
        let pid: i32 = std::fs::read_to_string(pid_file).expect("a pid").trim().parse().expect("a number");
        // It has been sent the signal; a busy machine takes its time to carry that out.
        let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let gone = async {
            while !(stat().is_empty() || stat().contains(") Z ")) {
                sleep(SHORTEST_PAUSE).await
            }
        };
        assert!(timeout(Duration::from_secs(30), gone).await.is_ok(), "the child still runs: {}", stat());
    }

    #[tokio::test]
    async fn the_environment_is_an_allow_list_and_the_directory_the_versions_own() {
        let script =
            "test \"$CALLBOARD_RELEASE\" = release && test \"$PWD\" = \"$CALLBOARD_TO_DIR\" && test -z \"$HOME\"";
        assert_eq!(health(script, 5).await, Ok(()));
    }

    #[tokio::test]
    async fn without_health_command_and_service_there_is_nothing_to_wait_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = ProductSettings { trial: Duration::from_secs(86_400), ..product(dir.path()) };
        let watched = timeout(Duration::from_secs(60), probation(&settings, dir.path())).await;
        assert!(watched.is_ok_and(|watched| watched.is_ok()));
    }

    #[tokio::test]
    async fn a_missing_program_is_unhealthy() {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = ProductSettings { health: Some(vec!["bin/no-such".to_owned()]), ..product(dir.path()) };
        let failure = probation(&settings, dir.path()).await.expect_err("unhealthy");
        assert!(failure.text.contains("could not be started"), "{}", failure.text);
    }

    #[tokio::test]
    async fn a_version_that_needs_the_server_is_not_kept_without_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = ProductSettings { contact: Duration::from_millis(300), ..product(dir.path()) };
        let start = Instant::now();
        let failure = watch(&settings, dir.path(), false).await.expect_err("not kept");
        assert_eq!(failure.code, "no_contact");
        assert!(start.elapsed() >= settings.contact);
        assert_eq!(watch(&settings, dir.path(), true).await, Ok(()));
    }
}
