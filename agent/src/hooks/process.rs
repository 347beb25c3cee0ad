//! Running one program: its end, and the end of what it said.

use std::{cell::RefCell, collections::VecDeque, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::timeout,
};

use super::{Call, Done, Exit, MAX_OUTPUT, group::Group};

/// After TERM, before KILL.
const GRACE: Duration = Duration::from_secs(10);
/// After the last process has ended its pipes are read empty.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs the program to its end or to that of its time. Dropping the future ends it and all that it has started.
pub(super) async fn run(call: Call) -> Done {
    let mut command = Command::new(&call.program);
    command.args(&call.arguments).current_dir(&call.directory).env_clear().envs(call.environment);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut group = Group::new();
    let mut child = match group.spawn(&mut command) {
        Ok(child) => child,
        Err(error) => return Done { exit: Exit::NotStarted(error.to_string()), output: String::new() },
    };
    let ring = RefCell::new(VecDeque::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut reading = std::pin::pin!(async { tokio::join!(keep(stdout, &ring), keep(stderr, &ring)) });
    let mut read = false;
    let exit = {
        let mut ending = std::pin::pin!(end(&mut child, &group, call.timeout));
        loop {
            tokio::select! {
                exit = &mut ending => break exit,
                _ = &mut reading, if !read => read = true,
            }
        }
    };
    // Whoever is left holds the pipes open.
    group.kill();
    if !read {
        let _ = timeout(DRAIN, reading).await;
    }
    let output: Vec<u8> = ring.borrow().iter().copied().collect();
    Done { exit, output: String::from_utf8_lossy(&output).into_owned() }
}

async fn end(child: &mut Child, group: &Group, wait: Duration) -> Exit {
    match timeout(wait, child.wait()).await {
        Ok(Ok(status)) => {
            use std::os::unix::process::ExitStatusExt as _;
            status.code().map_or_else(|| Exit::Signal(status.signal().unwrap_or_default()), Exit::Code)
        }
        Ok(Err(error)) => Exit::NotStarted(error.to_string()),
        Err(_elapsed) => {
            group.stop(child, GRACE).await;
            let _ = child.wait().await;
            Exit::TimedOut
        }
    }
}

/// Reads everything, so that the program never blocks on a full pipe, and keeps the end.
async fn keep(pipe: Option<impl AsyncRead + Unpin>, ring: &RefCell<VecDeque<u8>>) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = [0; 4096];
    while let Ok(filled @ 1..) = pipe.read(&mut buffer).await {
        let mut ring = ring.borrow_mut();
        ring.extend(buffer.iter().take(filled));
        let surplus = ring.len().saturating_sub(MAX_OUTPUT);
        ring.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::environment;

    async fn shell(script: &str, timeout_s: u64) -> Done {
        let dir = tempfile::tempdir().expect("a directory");
        run(Call {
            program: "/bin/sh".into(),
            arguments: ["-c", script].map(str::to_owned).to_vec(),
            environment: environment([("CALLBOARD_STAGE", "health".to_owned())]),
            directory: dir.path().to_owned(),
            timeout: Duration::from_secs(timeout_s),
        })
        .await
    }

    #[tokio::test]
    async fn the_exit_status_is_told_and_what_was_said_on_either_pipe() {
        let done = shell("echo to out; echo to err >&2; exit 75", 20).await;
        assert_eq!(done.exit, Exit::Code(75));
        assert!(done.output.contains("to out") && done.output.contains("to err"), "{}", done.output);
        assert_eq!(shell("kill -9 $$", 20).await.exit, Exit::Signal(9));
        assert_eq!(shell("sleep 1000", 1).await.exit, Exit::TimedOut);
    }

    #[tokio::test]
    async fn endless_output_is_cut_and_does_not_block() {
        let done = shell("yes x | head -c 3000000; echo END", 60).await;
        assert_eq!((done.exit, done.output.len()), (Exit::Code(0), MAX_OUTPUT));
        assert!(done.output.ends_with("END\n"));
    }

    #[tokio::test]
    async fn nothing_that_was_started_outlives_the_program_or_holds_it_up() {
        let done = shell("sleep 1000 & echo $!", 600).await;
        assert_eq!(done.exit, Exit::Code(0));
        let stat = format!("/proc/{}/stat", done.output.trim());
        let alive = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        let gone = async {
            while alive() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(Duration::from_secs(30), gone).await.is_ok(), "it still runs");
    }

    #[tokio::test]
    async fn the_environment_is_an_allow_list() {
        let done = shell("env | cut -d= -f1 | sort | tr '\\n' ' '", 20).await;
        assert_eq!(done.output.trim(), "CALLBOARD_RUN CALLBOARD_STAGE LANG PATH PWD");
    }
}
