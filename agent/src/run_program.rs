//! Running one program: an installer, whose answer is told apart from what it says to people and which may be fed with a
//! stream, or a hook. It ends at its deadline at the latest, and with everything that it has started.

use std::{
    ffi::OsStr,
    io,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, ChildStdin, Command},
    task::JoinSet,
    time::timeout,
};

use crate::client::plain;
use group::Group;

mod group;

/// After TERM, before KILL.
const GRACE: Duration = Duration::from_secs(10);
/// After the last process has ended its pipes are read empty.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// The exit code for "try again later".
const TRY_LATER: i32 = 75;

/// A program that is about to run.
pub(crate) struct Program {
    command: Command,
    keep: usize,
    /// Both pipes are read as one.
    together: bool,
}

/// A program that runs. Dropping it ends its whole group at once.
pub(crate) struct Running {
    child: Child,
    group: Group,
    /// Reads what it says; ends with this.
    readers: JoinSet<()>,
    said: [Said; 2],
}

/// The end of what a program has said so far.
type Said = Arc<Mutex<Vec<u8>>>;

/// How a program ended, and the end of what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    /// In words: the exit code, the signal, or the time that passed.
    how: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
    TimedOut,
    NotStarted(String),
}

/// What the end of an installer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Exit code 0.
    Done,
    /// Exit code 75.
    TryLater,
    /// Exit code 1 to 63.
    Failed,
    /// Any other exit code, a signal, or no end within the time.
    Broken,
}

impl Program {
    /// With `keep` bytes kept of the end of each of standard output and error; the rest is read and dropped, so that
    /// the program never blocks on a full pipe. It finds nothing in its environment but `environment` and the mark of the
    /// run.
    pub(crate) fn new(program: &Path, environment: Vec<(&'static str, String)>, keep: usize) -> Self {
        let mut command = Command::new(program);
        command.env_clear().envs(environment).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, keep, together: false }
    }

    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Keeps what it says on either pipe as one text, in the order in which it comes.
    pub(crate) fn together(self) -> Self {
        Self { together: true, ..self }
    }

    pub(crate) fn arguments<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end, or until `wait` is over.
    pub(crate) async fn run(self, wait: Duration) -> io::Result<Ended> {
        Ok(self.start()?.finish(wait).await)
    }

    /// Starts it with a pipe for its standard input.
    pub(crate) fn start_fed(mut self) -> io::Result<(Running, ChildStdin)> {
        self.command.stdin(Stdio::piped());
        let mut running = self.start()?;
        let stdin = running.child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok((running, stdin))
    }

    fn start(mut self) -> io::Result<Running> {
        let mut group = Group::new();
        let mut child = group.spawn(&mut self.command)?;
        let (mut readers, said) = (JoinSet::new(), [Said::default(), Said::default()]);
        let [out, err] = said.clone();
        let err = if self.together { Arc::clone(&out) } else { err };
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            readers.spawn(listen(stdout, out, self.keep));
            readers.spawn(listen(stderr, err, self.keep));
        }
        Ok(Running { child, group, readers, said })
    }
}

impl Running {
    /// Waits for its end; when `wait` is over, ends it with all of its group.
    pub(crate) async fn finish(mut self, wait: Duration) -> Ended {
        let (exit, how) = match timeout(wait, self.child.wait()).await {
            Ok(Ok(status)) => (Exit::of(status), status.to_string()),
            Ok(Err(error)) => (Exit::NotStarted(error.to_string()), error.to_string()),
            Err(_elapsed) => {
                self.group.stop(&mut self.child, GRACE).await;
                let _ = self.child.wait().await;
                let seconds = (wait + Duration::from_millis(500)).as_secs();
                (Exit::TimedOut, format!("not finished after {seconds} s"))
            }
        };
        // Whoever is left holds the pipes open.
        self.group.kill();
        let _ = timeout(LAST_WORDS, async { while self.readers.join_next().await.is_some() {} }).await;
        let [stdout, stderr] = self.said.each_ref().map(text);
        Ended { exit, how, stdout, stderr }
    }
}

impl Ended {
    /// As a model of a program ends.
    #[cfg(test)]
    pub(crate) fn for_test(verdict: Verdict, stdout: &str) -> Self {
        let exit = match verdict {
            Verdict::Done => Exit::Code(0),
            Verdict::TryLater => Exit::Code(TRY_LATER),
            Verdict::Failed => Exit::Code(1),
            Verdict::Broken => Exit::Signal(9),
        };
        Self { exit, how: format!("{verdict:?}"), stdout: stdout.to_owned(), stderr: String::new() }
    }

    pub(crate) const fn verdict(&self) -> Verdict {
        match self.exit {
            Exit::Code(0) => Verdict::Done,
            Exit::Code(TRY_LATER) => Verdict::TryLater,
            Exit::Code(1..=63) => Verdict::Failed,
            _ => Verdict::Broken,
        }
    }

    /// How it ended and what it said, in one line of at most `limit` bytes and some.
    pub(crate) fn describe(&self, limit: usize) -> String {
        let said = format!("{} {}", self.stdout.trim(), self.stderr.trim());
        let said = said.trim();
        let surplus = said.len().saturating_sub(limit);
        let from = (surplus..said.len()).find(|at| said.is_char_boundary(*at)).unwrap_or(said.len());
        let end = said.get(from..).unwrap_or_default();
        if end.is_empty() { self.how.clone() } else { format!("{}: {}", self.how, plain(end, limit)) }
    }
}

impl Exit {
    fn of(status: ExitStatus) -> Self {
        status.code().map_or_else(|| Self::Signal(status.signal().unwrap_or_default()), Self::Code)
    }
}

async fn listen(mut pipe: impl AsyncRead + Unpin, said: Said, keep: usize) {
    let mut buffer = [0; 4096];
    while let Ok(filled @ 1..) = pipe.read(&mut buffer).await {
        let mut kept = said.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(buffer.iter().take(filled));
        let surplus = kept.len().saturating_sub(keep);
        kept.drain(..surplus);
    }
}

fn text(said: &Said) -> String {
    String::from_utf8_lossy(&said.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::environment;

    fn shell(script: &str) -> Program {
        Program::new(Path::new("/bin/sh"), environment([]), 1000).arguments(["-c", script])
    }

    async fn run(script: &str, wait_s: u64) -> Ended {
        shell(script).run(Duration::from_secs(wait_s)).await.expect("started")
    }

    /// Whether the process is there and not only waits for somebody to take note of its end.
    fn lives(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    }

    async fn wait_for_end_of(pid: &str) {
        let gone = async {
            while lives(pid) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(Duration::from_secs(30), gone).await.is_ok(), "{pid} still runs");
    }

    #[tokio::test]
    async fn exit_codes_have_the_meaning_of_the_contract() {
        for (code, wanted) in [
            (0, Verdict::Done),
            (1, Verdict::Failed),
            (63, Verdict::Failed),
            (64, Verdict::Broken),
            (74, Verdict::Broken),
            (75, Verdict::TryLater),
            (76, Verdict::Broken),
            (127, Verdict::Broken),
        ] {
            assert_eq!(run(&format!("exit {code}"), 30).await.verdict(), wanted, "{code}");
        }
        let ended = run("kill -9 $$", 30).await;
        assert_eq!(ended.verdict(), Verdict::Broken);
        assert!(ended.describe(100).contains("signal: 9"), "{ended:?}");
    }

    #[tokio::test]
    async fn what_was_said_is_told_apart_and_its_end_kept() {
        let ended = run("yes x | head -c 300000; echo OUT; yes y | head -c 300000 >&2; echo ERR >&2; exit 3", 60).await;
        assert!(ended.stdout.ends_with("x\nOUT\n") && ended.stdout.len() <= 1000, "{ended:?}");
        assert!(ended.stderr.ends_with("y\nERR\n") && ended.stderr.len() <= 1000, "{ended:?}");
        let line = ended.describe(50);
        assert!(line.starts_with("exit status: 3: ") && line.ends_with("ERR") && !line.contains('\n'), "{line}");
        let both = shell("yes x | head -c 300000 >&2; echo END").together();
        let ended = both.run(Duration::from_secs(60)).await.expect("started");
        assert!(
            ended.stdout.ends_with("x\nEND\n") && ended.stdout.len() == 1000 && ended.stderr.is_empty(),
            "{ended:?}"
        );
        let ended = shell("echo 1; echo 2 >&2").together().run(Duration::from_secs(60)).await.expect("started");
        assert!(ended.stdout.contains("1\n") && ended.stdout.contains("2\n"), "{ended:?}");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_ended() {
        let ended = run("sleep 1000", 1).await;
        assert_eq!(ended.verdict(), Verdict::Broken);
        assert!(ended.describe(100).contains("not finished after 1 s"), "{ended:?}");
    }

    #[tokio::test]
    async fn a_program_that_nobody_waits_for_any_more_is_ended_with_its_children() {
        let dir = tempfile::tempdir().expect("a directory");
        let pid = dir.path().join("pid");
        let script = "cd $DIR; sh -c 'echo $$ > pid.new; mv pid.new pid; sleep 1000' & wait";
        let (running, _stdin) = shell(script).env("DIR", dir.path()).start_fed().expect("started");
        while !pid.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let pid = std::fs::read_to_string(pid).expect("a pid");
        assert!(lives(pid.trim()));
        drop(running);
        wait_for_end_of(pid.trim()).await;
    }

    #[tokio::test]
    async fn what_a_program_leaves_running_is_ended_and_not_waited_for() {
        let ended = run("sleep 1000 & echo $!", 600).await;
        assert_eq!(ended.verdict(), Verdict::Done);
        wait_for_end_of(ended.stdout.trim()).await;
    }

    #[tokio::test]
    async fn the_environment_is_an_allow_list() {
        let script = "env | sed 's/=.*//' | grep -vx -e _ -e SHLVL -e OLDPWD | sort | paste -s -d ' ' -";
        let ended = shell(script).env("CALLBOARD_STAGE", "health").run(Duration::from_secs(30)).await.expect("started");
        assert_eq!(ended.stdout.trim(), "CALLBOARD_RUN CALLBOARD_STAGE LANG PATH PWD");
    }
}
