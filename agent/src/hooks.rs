//! Programs of the release and of the device's owner that run at the stages of an update, and reasons not to switch now.
//!
//! A program is run directly, never by a shell, with an environment that is an allow-list. One of a release is run only
//! if it is, to the byte, the one in the tree that was verified; one of the owner only if nobody else may change it. All
//! of them may be stopped at any moment and run again.

use std::{path::PathBuf, pin::Pin, time::Duration};

use callboard_proto::{
    digest::Digest,
    release::{Rollback, Stage},
    report::{Failure, FailureClass},
    time::Timestamp,
};

pub(crate) use crate::run_program::Exit;
use crate::{
    agent::Agent,
    client::plain,
    clock::boottime,
    fs,
    install::service,
    layout::ProductDir,
    machine::{Event, Task, permanent, transient},
    words::Code,
};
pub(crate) use local::Inhibitor;

mod local;
mod output;
mod process;

pub(crate) use output::{forget as forget_output, said};

/// Output that is kept of one program: its end.
pub(crate) const MAX_OUTPUT: usize = 64 * 1024;
/// Of that, so much stands in the failure itself, which is in the journal.
const MAX_TAIL: usize = 600;
/// The exit status that says "later".
const LATER: i32 = 75;
/// Where a stage cannot wait for a better moment, a program that says "later" is run again after this.
const PAUSE: Duration = Duration::from_secs(5);
/// A backup that is younger is not made again because the switch was put off meanwhile.
const BACKUP_KEEPS: Duration = Duration::from_secs(3600);
/// Largest program that is hashed in memory.
pub(crate) const MAX_PROGRAM: usize = 256 << 20;

/// One run of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// All that it finds in its environment, but for the mark of the run.
    pub(crate) environment: Vec<(&'static str, String)>,
    pub(crate) directory: PathBuf,
    pub(crate) timeout: Duration,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) exit: Exit,
    /// The end of what it wrote to either pipe.
    pub(crate) output: String,
}

/// A run under way.
pub(crate) type Run<'a> = Pin<Box<dyn Future<Output = Done> + 'a>>;

/// What lies outside of the agent's own files. A test puts something in its place.
pub(crate) trait Outside {
    /// Runs a program.
    fn run(&self, call: Call) -> Run<'_>;
    /// Programs of the device's owner for a stage.
    fn local(&self, stage: Stage) -> Result<Vec<PathBuf>, String>;
    /// Reasons not to switch now.
    fn inhibitors(&self) -> Vec<Inhibitor>;
    /// Restarts the machine; returns only if that does not happen.
    fn reboot(&self) -> Pin<Box<dyn Future<Output = Failure> + '_>>;
}

/// Real programs and the owner's directories.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) directory: PathBuf,
    pub(crate) inhibit_directory: PathBuf,
}

impl Outside for Machine {
    fn run(&self, call: Call) -> Run<'_> {
        Box::pin(process::run(call))
    }

    fn local(&self, stage: Stage) -> Result<Vec<PathBuf>, String> {
        local::programs(&self.directory, stage)
    }

    fn inhibitors(&self) -> Vec<Inhibitor> {
        local::inhibitors(&self.inhibit_directory)
    }

    fn reboot(&self) -> Pin<Box<dyn Future<Output = Failure> + '_>> {
        Box::pin(service::reboot())
    }
}

/// What every program finds in its environment, and some more.
pub(crate) fn environment(more: impl IntoIterator<Item = (&'static str, String)>) -> Vec<(&'static str, String)> {
    let always = [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C")];
    always.map(|(name, value)| (name, value.to_owned())).into_iter().chain(more).collect()
}

/// What came of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ran {
    Done,
    /// Not now; why.
    Later(String),
}

/// The hooks of one order.
pub(crate) struct Hooks<'a> {
    agent: &'a Agent,
    task: &'a Task,
    dirs: ProductDir,
}

/// A program that failed, and what it had to say if it ran.
struct Failed {
    failure: Failure,
    output: Option<String>,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { failure, output: None }
    }
}

struct Program {
    path: PathBuf,
    /// For people.
    name: String,
    timeout: Duration,
    /// What it must be, if it is the release's.
    sha256: Option<Digest>,
}

impl<'a> Hooks<'a> {
    pub(crate) fn new(agent: &'a Agent, task: &'a Task, dirs: ProductDir) -> Self {
        Self { agent, task, dirs }
    }

    /// Runs the owner's programs for the stage, then the release's. What a failed one has said is kept for the report.
    pub(crate) async fn run(&self, stage: Stage) -> Result<Ran, Failure> {
        self.all(stage).await.map_err(|failed| {
            if let Some(output) = failed.output {
                output::keep(self.agent, self.task.order.attempt, &output);
            }
            failed.failure
        })
    }

    /// The same on the way back, where the report is about the failure that led there.
    pub(crate) async fn run_back(&self, stage: Stage) -> Result<Ran, Failure> {
        self.all(stage).await.map_err(|failed| failed.failure)
    }

    async fn all(&self, stage: Stage) -> Result<Ran, Failed> {
        for program in self.programs(stage)? {
            if let Ran::Later(why) = self.one(&program, stage).await? {
                return Ok(Ran::Later(why));
            }
        }
        Ok(Ran::Done)
    }

    /// The same where nothing depends on how it ends. Gives the failure.
    pub(crate) async fn try_run(&self, stage: Stage) -> Option<Failure> {
        let failure = self.run_back(stage).await.err()?;
        tracing::warn!(%stage, text = failure.text, "a hook failed; the update goes on");
        Some(failure)
    }

    /// Whether there is anything to run at the stage.
    pub(crate) fn has(&self, stage: Stage) -> bool {
        self.programs(stage).map_or(true, |programs| !programs.is_empty())
    }

    fn programs(&self, stage: Stage) -> Result<Vec<Program>, Failure> {
        let local = self.agent.outside.local(stage);
        let local = local.map_err(|why| permanent(Code::HookUnsafe, format!("hook {stage} of this device: {why}")))?;
        let timeout = self.agent.settings.hooks.timeout;
        let local = local.into_iter().map(|path| {
            let name = path.display().to_string();
            Program { path, name, timeout, sha256: None }
        });
        let tree = self.tree();
        let (order, course) = (&self.task.order, &self.task.course);
        let own = order.hooks.iter().zip(&course.programs).filter(|(hook, _)| hook.stage == stage);
        let own = own.map(|(hook, sha256)| Program {
            path: tree.join(&hook.path),
            name: hook.path.clone(),
            timeout: Duration::from_secs(u64::from(hook.timeout_s)),
            sha256: Some(*sha256),
        });
        Ok(local.chain(own).collect())
    }

    fn tree(&self) -> PathBuf {
        self.dirs.version(&self.task.order.dir)
    }

    async fn one(&self, program: &Program, stage: Stage) -> Result<Ran, Failed> {
        let end = boottime() + program.timeout;
        loop {
            self.check(program, stage)?;
            let left = end.saturating_sub(boottime()).max(Duration::from_secs(1));
            self.agent.notifier.expect(left);
            let done = self.agent.outside.run(self.call(program, stage, left)).await;
            self.agent.notifier.alive();
            match done.exit {
                Exit::Code(0) => return Ok(Ran::Done),
                Exit::Code(LATER) if may_put_off(stage) => return Ok(Ran::Later(later(program, &done.output))),
                Exit::Code(LATER) if boottime() + PAUSE < end => tokio::time::sleep(PAUSE).await,
                exit => {
                    let failure = failed(program, stage, &exit, &done.output);
                    return Err(Failed { failure, output: Some(done.output) });
                }
            }
        }
    }

    /// A program of the release must still be the one that was verified.
    fn check(&self, program: &Program, stage: Stage) -> Result<(), Failure> {
        let Some(wanted) = program.sha256 else { return Ok(()) };
        let found = self.agent.fs.read(&program.path, MAX_PROGRAM).map(|bytes| Digest::of(&bytes));
        match found {
            Ok(found) if found == wanted => Ok(()),
            Ok(_) => Err(permanent(Code::HookUnsafe, format!("hook {stage} ({}) was changed", program.name))),
            Err(error) => Err(transient(Code::Storage, format!("read hook {stage} ({}): {error}", program.name))),
        }
    }

    fn call(&self, program: &Program, stage: Stage, left: Duration) -> Call {
        let order = &self.task.order;
        let tree = self.tree();
        let now = self.agent.clock.trusted_now();
        let seconds = |at: Timestamp| (at.millis() / 1000).to_string();
        let from = self.agent.product_record(&order.product).installed.map(|own| own.version.to_string());
        let mut more = vec![
            ("CALLBOARD_STAGE", stage.to_string()),
            ("CALLBOARD_PRODUCT", order.product.to_string()),
            ("CALLBOARD_RELEASE", order.version.to_string()),
            ("CALLBOARD_FROM", from.unwrap_or_default()),
            ("CALLBOARD_TO_DIR", tree.display().to_string()),
            ("CALLBOARD_DEADLINE", seconds(now + left)),
        ];
        if matches!(stage, Stage::Backup | Stage::Restore) {
            more.push(("CALLBOARD_BACKUP_DIR", self.dirs.backup(&order.dir).display().to_string()));
        }
        if let Some(at) = self.task.course.backup_at.filter(|_| stage == Stage::Restore) {
            more.push(("CALLBOARD_BACKUP_AT", seconds(at)));
        }
        if let Some(until) = self.put_off_until().filter(|_| stage == Stage::PreActivate) {
            more.push(("CALLBOARD_POSTPONE_UNTIL", seconds(until)));
        }
        let directory = if self.agent.fs.list(&tree).is_ok() { tree } else { PathBuf::from("/") };
        Call {
            program: program.path.clone(),
            arguments: vec![stage.to_string(), order.attempt.attempt.to_string()],
            environment: environment(more),
            directory,
            timeout: left,
        }
    }

    /// Until when the switch may be put off; `None` means without an end.
    fn put_off_until(&self) -> Option<Timestamp> {
        let of_release = self.task.order.max_postpone_s.map(|seconds| Duration::from_secs(u64::from(seconds)));
        let longest = [of_release, self.agent.settings.hooks.max_postpone].into_iter().flatten().min()?;
        let since = self.task.course.deferral.as_ref().map(|deferral| deferral.since);
        Some(since.unwrap_or_else(|| self.agent.clock.trusted_now()) + longest)
    }

    fn must_go_on(&self) -> bool {
        self.put_off_until().is_some_and(|until| self.agent.clock.trusted_now() >= until)
    }

    /// The reason why the device does not switch now, of the files that say so.
    pub(crate) fn inhibited(&self) -> Option<Event> {
        let found = self.agent.outside.inhibitors();
        let first = found.iter().find(|one| one.is_persons()).or(found.first())?;
        if self.must_go_on() {
            tracing::warn!(inhibitor = %first.name, "it has been put off for as long as it may be; the update goes on");
            return None;
        }
        let code = if first.is_persons() { Code::Postponed } else { Code::Inhibited };
        let more = if found.len() > 1 { format!(" and {} more", found.len() - 1) } else { String::new() };
        Some(self.deferred(transient(code, format!("{}: {}{more}", first.name, first.reason)), None))
    }

    fn deferred(&self, failure: Failure, backup_at: Option<Timestamp>) -> Event {
        tracing::info!(code = failure.code, text = failure.text, "the switch is put off");
        Event::Deferred { failure, at: self.agent.clock.trusted_now(), backup_at }
    }

    /// The hooks before the switch.
    pub(crate) async fn prepare(&self) -> Result<Event, Failure> {
        if let Ran::Later(why) = self.run(Stage::PreInstall).await? {
            return self.not_now(why, None, Stage::PreInstall);
        }
        let backup_at = match self.backup().await? {
            Ok(at) => at,
            Err(why) => return self.not_now(why, None, Stage::Backup),
        };
        if let Ran::Later(why) = self.run(Stage::PreActivate).await? {
            if !self.must_go_on() {
                return Ok(self.deferred(transient(Code::HookDeferred, why), backup_at));
            }
            tracing::warn!(%why, "it has been put off for as long as it may be; the update goes on");
        }
        Ok(Event::Ready { backup_at })
    }

    /// Nothing makes a device take what it says it cannot take; it only does not wait forever.
    fn not_now(&self, why: String, backup_at: Option<Timestamp>, stage: Stage) -> Result<Event, Failure> {
        if self.must_go_on() {
            let text = format!("hook {stage} still says \"later\" when the update cannot wait any longer: {why}");
            return Err(permanent(Code::HookFailed, text));
        }
        Ok(self.deferred(transient(Code::HookDeferred, why), backup_at))
    }

    /// Saves the data, if the release asks for that or the device's owner does. `Err` inside says "later".
    async fn backup(&self) -> Result<Result<Option<Timestamp>, String>, Failure> {
        let needed = self.task.order.rollback == Rollback::NeedsBackup;
        if !needed && !self.has(Stage::Backup) {
            return Ok(Ok(None));
        }
        let (fs, at) = (&*self.agent.fs, self.agent.clock.trusted_now());
        let directory = self.dirs.backup(&self.task.order.dir);
        let note = self.dirs.backup_note(&self.task.order.dir);
        let is_whole = |made: &Timestamp| fs.read(&note, 100).is_ok_and(|note| note == made.to_string().as_bytes());
        let is_young = |made: &Timestamp| *made <= at && at.since(*made) < BACKUP_KEEPS;
        if let Some(made) = self.task.course.backup_at.filter(|made| is_young(made) && is_whole(made)) {
            return Ok(Ok(Some(made)));
        }
        let failed = |error| transient(Code::Storage, format!("make {}: {error}", directory.display()));
        // The journal still names the one that goes, and after a power cut the clock may call it young again.
        if fs.stat(&note).map_err(failed)?.is_some() {
            fs.remove_file(&note).and_then(|()| fs.sync_dir(&self.dirs.backups())).map_err(failed)?;
        }
        fs::remove_tree(fs, &directory).map_err(failed)?;
        fs::create_dirs(fs, &directory).map_err(failed)?;
        fs.make_private(&directory).map_err(failed)?;
        let ran = if needed {
            self.run(Stage::Backup).await?
        } else {
            self.try_run(Stage::Backup).await;
            Ran::Done
        };
        if let Ran::Later(why) = ran {
            return Ok(Err(why));
        }
        fs.sync_all(&directory).map_err(failed)?;
        fs::replace(fs, &note, at.to_string().as_bytes()).map_err(failed)?;
        Ok(Ok(needed.then_some(at)))
    }

    /// Brings back what was saved, if that is what going back takes.
    pub(crate) async fn restore(&self) -> Result<(), Failure> {
        if self.task.course.backup_at.is_some() {
            self.run_back(Stage::Restore).await?;
            let directory = self.dirs.backup(&self.task.order.dir);
            let failed = |error| transient(Code::Storage, format!("sync what was restored: {error}"));
            self.agent.fs.sync_all(&directory).map_err(failed)?;
        }
        Ok(())
    }
}

fn failed(program: &Program, stage: Stage, exit: &Exit, output: &str) -> Failure {
    let how = match exit {
        Exit::Code(LATER) => "still says \"later\" at the end of its time".to_owned(),
        Exit::Code(code) => format!("exit status {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
        Exit::TimedOut => format!("not finished after {} s", program.timeout.as_secs()),
        Exit::NotStarted(error) => format!("could not be started: {error}"),
    };
    let text = format!("hook {stage} ({}): {how}: {}", program.name, tail(output));
    match exit {
        // It has looked and says no.
        Exit::Code(1..=63) => permanent(Code::HookFailed, text),
        Exit::TimedOut => transient(Code::HookTimeout, text),
        _ => transient(Code::HookFailed, text),
    }
}

/// Before anything is changed a program may ask for a better moment.
const fn may_put_off(stage: Stage) -> bool {
    matches!(stage, Stage::PreInstall | Stage::Backup | Stage::PreActivate)
}

fn later(program: &Program, output: &str) -> String {
    let said = output.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    format!("hook {}: {}", program.name, plain(said, MAX_TAIL))
}

/// The end of a text, in one line.
fn tail(output: &str) -> String {
    let output = output.trim();
    let start = (0..=output.len()).find(|at| output.len() - at <= MAX_TAIL && output.is_char_boundary(*at));
    plain(output.get(start.unwrap_or_default()..).unwrap_or_default(), MAX_TAIL)
}

/// A failure of a program that is no hook.
pub(crate) fn told(what: &str, done: &Done, code: Code, seconds: u64) -> Failure {
    let how = match &done.exit {
        Exit::Code(code) => format!("exit status: {code}"),
        Exit::Signal(signal) => format!("signal: {signal}"),
        Exit::TimedOut => format!("not finished after {seconds} s"),
        Exit::NotStarted(error) => format!("could not be started: {error}"),
    };
    let text = format!("{what}: {how}: {}", tail(&done.output));
    Failure { class: FailureClass::Permanent, code: code.as_str().to_owned(), text }
}

#[cfg(test)]
mod tests;
