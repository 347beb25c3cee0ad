//! Running one hook: its end, and the end of what it said.

use super::{Call, Done, Exit, MAX_OUTPUT};
use crate::run_program::Program;

/// Runs the program to its end or to that of its time. Dropping the future ends it and all that it has started.
pub(super) async fn run(call: Call) -> Done {
    let program = Program::new(&call.program, call.environment, MAX_OUTPUT).directory(&call.directory).together();
    match program.arguments(call.arguments).run(call.timeout).await {
        Ok(ended) => Done { exit: ended.exit, output: ended.stdout },
        Err(error) => Done { exit: Exit::NotStarted(error.to_string()), output: String::new() },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

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
