//! The health command, and the probation of a new version.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use callboard_proto::report::Failure;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::service;
use crate::{client::plain, config::ProductSettings, machine::permanent, words::Code};

/// Output kept for the report; the rest is read and dropped, so that the command never blocks on a full pipe.
const MAX_OUTPUT: usize = 1500;
/// After TERM, before KILL.
const GRACE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);

/// Watches the new version for as long as its product's settings ask. `Ok` means that it stayed healthy. Where there is
/// nothing to watch, time alone would find no failure.
pub(crate) async fn probation(settings: &ProductSettings, tree: &Path, release: &str) -> Result<(), Failure> {
    if settings.health.is_none() && settings.service.is_none() {
        return Ok(());
    }
    let start = Instant::now();
    let unit = settings.service.as_deref();
    let restarts = match unit {
        Some(unit) => service::show(unit).await?.restarts,
        None => 0,
    };
    let pause = (settings.trial / 10).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    // A service is given the time of one health check to come up; without one nothing has to come up.
    let starting = if unit.is_some() { settings.health_timeout } else { Duration::ZERO };
    loop {
        let checked = check(settings, tree, release, restarts).await;
        let elapsed = start.elapsed();
        match checked {
            Err(failure) if elapsed >= starting => return Err(failure),
            Ok(()) if elapsed >= settings.trial => return Ok(()),
            _ => sleep(pause.min(settings.trial.saturating_sub(elapsed)).max(SHORTEST_PAUSE)).await,
        }
    }
}

async fn check(settings: &ProductSettings, tree: &Path, release: &str, restarts: u32) -> Result<(), Failure> {
    if let Some(unit) = &settings.service {
        let found = service::show(unit).await?;
        if !found.active {
            return Err(permanent(Code::ServiceDown, format!("{unit} is {}", found.state)));
        }
        if found.restarts > restarts + 1 {
            return Err(permanent(
                Code::CrashLoop,
                format!("{unit} was restarted {} times", found.restarts - restarts),
            ));
        }
    }
    match &settings.health {
        Some(argv) => run(argv, tree, release, settings.health_timeout).await,
        None => Ok(()),
    }
}

/// A relative name of a program with a slash, or that exists in the tree, is one of the new version's own.
fn program(name: &str, tree: &Path) -> PathBuf {
    let path = Path::new(name);
    let own = tree.join(path);
    if path.is_absolute() || (!name.contains('/') && !own.exists()) { path.to_owned() } else { own }
}

async fn run(argv: &[String], tree: &Path, release: &str, wait: Duration) -> Result<(), Failure> {
    let Some((name, arguments)) = argv.split_first() else { return Ok(()) };
    let failed = |text: String| permanent(Code::HealthCheck, format!("{name}: {text}"));
    let mut command = Command::new(program(name, tree));
    command.args(arguments).current_dir(tree).env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C");
    command.env("CALLBOARD_STAGE", "health").env("CALLBOARD_RELEASE", release).env("CALLBOARD_TO_DIR", tree);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that its children end with it.
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed(format!("could not be started: {error}")))?;
    let output = tail(&mut child);
    match timeout(wait, async { tokio::join!(child.wait(), output) }).await {
        Ok((Ok(status), _)) if status.success() => Ok(()),
        Ok((Ok(status), output)) => Err(failed(format!("{status}: {}", plain(output.trim(), MAX_OUTPUT)))),
        Ok((Err(error), _)) => Err(failed(error.to_string())),
        Err(_elapsed) => {
            stop(&mut child).await;
            Err(failed(format!("not finished after {} s", wait.as_secs())))
        }
    }
}

/// The end of what the command writes, standard output and error one after the other.
fn tail(child: &mut Child) -> impl Future<Output = String> + use<> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    async move {
        let (out, err) = tokio::join!(last(stdout), last(stderr));
        format!("{} {}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err))
    }
}

async fn last(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> Vec<u8> {
    let Some(mut pipe) = pipe else { return Vec::new() };
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(filled @ 1..) = pipe.read(&mut buffer).await {
        kept.extend(buffer.iter().take(filled));
        let surplus = kept.len().saturating_sub(MAX_OUTPUT / 2);
        kept.drain(..surplus);
    }
    kept
}

async fn stop(child: &mut Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let Some(group) = group else { return };
    // Errors mean that nobody is left to be told.
    let _ = kill_process_group(group, Signal::TERM);
    if timeout(GRACE, child.wait()).await.is_err() {
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait().await;
    } else {
        // The leader is gone; its children may have ignored the first word.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::product;

    async fn health(script: &str, timeout_s: u64) -> Result<(), String> {
        let dir = tempfile::tempdir().expect("a directory");
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let settings = ProductSettings {
            health: Some(argv),
            health_timeout: Duration::from_secs(timeout_s),
            ..product(dir.path())
        };
        probation(&settings, dir.path(), "release").await.map_err(|failure| failure.text)
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
    async fn endless_output_is_cut_and_does_not_block() {
        let text = health("yes x | head -c 3000000; echo END; exit 1", 20).await.expect_err("unhealthy");
        assert!(text.len() < 2000 && text.contains("END"), "{}", text.len());
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
        let watched = timeout(Duration::from_secs(60), probation(&settings, dir.path(), "release")).await;
        assert!(watched.is_ok_and(|watched| watched.is_ok()));
    }

    #[tokio::test]
    async fn a_missing_program_is_unhealthy() {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = ProductSettings { health: Some(vec!["bin/no-such".to_owned()]), ..product(dir.path()) };
        let failure = probation(&settings, dir.path(), "release").await.expect_err("unhealthy");
        assert!(failure.text.contains("could not be started"), "{}", failure.text);
    }
}
