//! The pieces of work for products that an installer program puts in place.

use std::{ffi::OsString, fmt::Write as _, io, time::Duration};

use callboard_proto::{
    digest::Digest,
    ids::Product,
    release::{Installer, Release, SPARE_BYTES, Stage},
    report::Failure,
    signed::{Document as _, Envelope, Verified, max_envelope},
};
use tokio::time::{Instant, sleep};

use super::{dirs, record, release, restart_machine, restart_service, unit, watch, within_quota};
use crate::{
    agent::Agent,
    clock,
    config::{InstallerProgram, Settings},
    dice,
    download::Download,
    fs,
    hooks::{self, Hooks},
    install::{
        self,
        command::{Call, Probed, Verb, asks_for_restart, total, usable},
        service, tidy,
    },
    journal::Restart,
    machine::{Event, Previous, Task, permanent, transient},
    poll,
    run_program::{Ended, Verdict},
    words::Code,
};

/// A streamed installation may take as long as the server's grants last.
const STREAM_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// A program that has stopped reading has something to say, and is given this time.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// The start of the agent does not hang on a program.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// What of a program's words a report quotes.
const MAX_SAID: usize = 1500;

/// One task of a product with an installer program.
pub(super) struct Hands<'a> {
    pub(super) agent: &'a Agent,
    pub(super) task: &'a Task,
    pub(super) program: &'a InstallerProgram,
}

impl Hands<'_> {
    /// Makes room, and makes sure that the program is there and knows the contract.
    pub(super) async fn prepare(&self) -> Result<Event, Failure> {
        let (agent, release) = (self.agent, self.release()?);
        agent.bytes_done.set(0);
        hooks::forget_output(agent);
        let probed = self.probe(&release).await?;
        let streams = probed.stream || probed.ready;
        let kept = release.payloads.iter().filter(|_| !streams).map(|payload| payload.sha256);
        let needed: Vec<Digest> = kept.chain(release.payloads.iter().map(|payload| payload.chunks_sha256)).collect();
        let backups = dirs(agent, self.task)?.backups();
        let tidied =
            tidy::payloads(&*agent.fs, &agent.state_dir, &needed).and_then(|()| fs::remove_tree(&*agent.fs, &backups));
        if let Err(error) = tidied {
            tracing::warn!(%error, "leftovers could not be removed");
        }
        install::can_hold(&release).map_err(|error| error.failure())?;
        if !streams {
            within_quota(agent, &release)?;
            let packed = install::missing(&*agent.fs, &agent.state_dir, &release);
            let room = install::room(&*agent.fs, agent.state_dir.path(), packed, SPARE_BYTES);
            room.map_err(|error| error.failure())?;
        }
        Ok(Event::Prepared)
    }

    /// Brings the payloads: into the state directory, or straight to the program if it takes streams.
    pub(super) async fn fetch(&self) -> Result<Event, Failure> {
        let (agent, release) = (self.agent, self.release()?);
        let probed = self.probe(&release).await?;
        if probed.ready {
            agent.bytes_done.set(total(&release));
        } else if probed.stream {
            self.stream(&release, probed).await?;
        } else {
            super::download(agent, &release).await?;
        }
        Ok(Event::Fetched)
    }

    /// Lets the program install what was fetched, unless it had it as a stream. Then it must say that it is complete.
    pub(super) async fn unpack(&self) -> Result<Event, Failure> {
        let release = self.release()?;
        let probed = self.probe(&release).await?;
        if !probed.ready {
            if probed.stream {
                return Err(self.said(Verb::Probe, "that the release is not ready after it was installed"));
            }
            let environment = self.payloads(&release, true);
            let ended = self.call(Verb::Install, environment).await?;
            self.done(Verb::Install, &ended)?;
            if !self.probe(&release).await?.ready {
                return Err(self.said(Verb::Probe, "that the release is not ready after it was installed"));
            }
        }
        // It has all it needs.
        if let Err(error) = tidy::payloads(&*self.agent.fs, &self.agent.state_dir, &[]) {
            tracing::warn!(%error, "payloads could not be removed");
        }
        Ok(Event::Unpacked { tree: self.task.order.release })
    }

    /// What runs before is the program's to know.
    pub(super) async fn inspect(&self) -> Result<Event, Failure> {
        if let Some(put_off) = self.hooks()?.inhibited() {
            return Ok(put_off);
        }
        // The last moment: what was revoked, or is trusted no more, does not run.
        let release = self.release()?;
        if !self.probe(&release).await?.ready {
            tracing::warn!("what was installed beside the running version is not complete any more; once more");
            return Ok(Event::Damaged);
        }
        Ok(Event::Inspected { previous: Previous::Nothing, programs: Vec::new() })
    }

    /// After a start of the machine that was asked for, what runs is settled: nothing is activated a second time.
    pub(super) async fn flip(&self) -> Result<Event, Failure> {
        if self.restart_asked(false).is_none() {
            let ended = self.call(Verb::Activate, Vec::new()).await?;
            self.done(Verb::Activate, &ended)?;
            if asks_for_restart(&ended.stdout) {
                self.note_restart(false)?;
            }
        }
        Ok(Event::Flipped { boot: self.agent.boot_id.clone() })
    }

    /// Starts the machine anew if the program asked for it, and the service otherwise.
    pub(super) async fn restart(&self) -> Result<Event, Failure> {
        let asked = self.restart_asked(false);
        if asked.as_ref().is_some_and(|asked| asked.boot_id == self.agent.boot_id) {
            return Err(restart_machine(self.agent).await);
        }
        self.must_be_active().await?;
        if asked.is_none() {
            restart_service(self.agent, self.task).await?;
        }
        Ok(Event::Restarted)
    }

    pub(super) async fn watch(&self) -> Result<Event, Failure> {
        let event = watch(self.agent, self.task).await?;
        self.must_be_active().await?;
        Ok(event)
    }

    /// The program first: a record that is ahead of it would call something installed that may still go back.
    pub(super) async fn record(&self) -> Result<Event, Failure> {
        let ended = self.call(Verb::Commit, Vec::new()).await?;
        self.done(Verb::Commit, &ended)?;
        let event = record(self.agent, None, self.task).await?;
        self.agent.astray.borrow_mut().remove(&self.task.order.product);
        Ok(event)
    }

    /// Goes back, and makes sure of it. The machine is started anew for that once at most.
    pub(super) async fn revert(&self) -> Result<Event, Failure> {
        let (hooks, asked) = (self.hooks()?, self.restart_asked(true));
        if asked.as_ref().is_some_and(|asked| asked.boot_id == self.agent.boot_id) {
            return Err(restart_machine(self.agent).await);
        }
        if asked.is_none() {
            hooks.try_run(Stage::PreRollback).await;
            if let Some(unit) = unit(self.agent, self.task).filter(|_| self.task.course.backup_at.is_some()) {
                // Nobody writes while the data is brought back.
                service::stop(&unit).await?;
            }
        }
        if asked.is_none() || self.is_active().await? {
            let ended = self.call(Verb::Rollback, Vec::new()).await?;
            self.done(Verb::Rollback, &ended)?;
            if asks_for_restart(&ended.stdout) && asked.is_none() {
                hooks.restore().await?;
                self.note_restart(true)?;
                return Err(restart_machine(self.agent).await);
            }
            if self.is_active().await? {
                return Err(self.said(Verb::IsActive, "that the release is what runs after it was rolled back"));
            }
        }
        if asked.is_none() {
            hooks.restore().await?;
            restart_service(self.agent, self.task).await?;
        }
        hooks.run_back(Stage::PostRollback).await?;
        hooks.try_run(Stage::Failure).await;
        Ok(Event::Reverted)
    }

    /// Those of the device's owner; a release for a program has none.
    fn hooks(&self) -> Result<Hooks<'_>, Failure> {
        Ok(Hooks::new(self.agent, self.task, dirs(self.agent, self.task)?))
    }

    fn release(&self) -> Result<Verified<Release>, Failure> {
        let release = release(self.agent, self.task)?;
        match release.installer {
            Installer::Command => Ok(release),
            Installer::Directory => {
                Err(permanent(Code::WrongInstaller, "the product has got an installer program since the order came"))
            }
        }
    }

    async fn probe(&self, release: &Verified<Release>) -> Result<Probed, Failure> {
        self.write_manifest(release)?;
        let ended = self.call(Verb::Probe, self.payloads(release, false)).await?;
        self.done(Verb::Probe, &ended)?;
        Probed::parse(&ended.stdout, release)
            .map_err(|reason| permanent(Code::Installer, format!("{} probe: {reason}", self.program.path.display())))
    }

    /// Lets the program install what arrives. It says itself where to go on.
    async fn stream(&self, release: &Verified<Release>, first: Probed) -> Result<(), Failure> {
        let (begun, mut tries, mut probed) = (Instant::now(), 0, first);
        loop {
            let ended = self.feed(release, probed, STREAM_TIMEOUT.saturating_sub(begun.elapsed())).await?;
            let left = STREAM_TIMEOUT.saturating_sub(begun.elapsed());
            if ended.verdict() != Verdict::TryLater || left.is_zero() {
                return self.done(Verb::Install, &ended);
            }
            tries += 1;
            let pause = self.pause(tries).min(left);
            self.agent.notifier.expect(pause);
            sleep(pause).await;
            probed = self.probe(release).await?;
        }
    }

    async fn feed(&self, release: &Release, probed: Probed, wait: Duration) -> Result<Ended, Failure> {
        let (agent, patience) = (self.agent, self.program.timeout);
        let from = resume(release, probed.have);
        let mut environment = self.payloads(release, false);
        environment.push(("CALLBOARD_OFFSET", from.to_string().into()));
        let call = self.prepared(Verb::Install, environment, wait);
        let (running, mut stdin) = call.start_fed()?;
        let mut base = 0;
        let mut fed = Ok(());
        agent.bytes_done.set(from);
        for payload in &release.payloads {
            let begin = from.saturating_sub(base).min(payload.size);
            if begin < payload.size {
                let (fs, client, state_dir) = (&*agent.fs, agent.client(), &agent.state_dir);
                let download = Download { fs, client: &client, state_dir, host: agent, base };
                fed = download.pipe(payload, begin, &mut stdin, patience).await;
                if fed.is_err() {
                    break;
                }
            }
            base += payload.size;
            agent.bytes_done.set(base.max(from));
        }
        drop(stdin);
        agent.notifier.expect(patience);
        match fed {
            Ok(()) => Ok(running.finish(patience).await),
            // It ended by itself, and why is more than that it reads no more.
            Err(failure) if failure.code == Code::Installer.as_str() => {
                let ended = running.finish(LAST_WORDS).await;
                if ended.verdict() == Verdict::Done { Err(failure) } else { Ok(ended) }
            }
            Err(failure) => {
                running.finish(LAST_WORDS).await;
                Err(failure)
            }
        }
    }

    /// Runs a verb, again and again while it says "try later" and its time is not over.
    async fn call(&self, verb: Verb, environment: Vec<(&'static str, OsString)>) -> Result<Ended, Failure> {
        let begun = Instant::now();
        let (deadline, mut tries) = (self.program.timeout, 0);
        let mut later = None;
        loop {
            let left = deadline.saturating_sub(begun.elapsed());
            self.agent.notifier.expect(left);
            let ended = self.agent.installers.run(self.prepared(verb, environment.clone(), left)).await?;
            let left = deadline.saturating_sub(begun.elapsed());
            if ended.verdict() != Verdict::TryLater {
                // What it said before its time was over tells more than that the last try was cut short.
                return Ok(later.filter(|_| ended.verdict() == Verdict::Broken && left.is_zero()).unwrap_or(ended));
            }
            tries += 1;
            let pause = self.pause(tries);
            if pause >= left {
                return Ok(ended);
            }
            later = Some(ended);
            self.agent.notifier.alive();
            sleep(pause).await;
        }
    }

    fn pause(&self, tries: u32) -> Duration {
        poll::retry(self.agent.settings.polling, tries, dice::roll())
    }

    fn prepared(&self, verb: Verb, mut environment: Vec<(&'static str, OsString)>, wait: Duration) -> Call<'_> {
        environment.extend(told(self.agent, &self.task.order.product, self.task.order.version.as_str(), wait));
        Call { program: &self.program.path, verb, release: self.task.order.release, environment, wait }
    }

    /// The manifest and a line for each payload, which a script can read; with or without the files.
    fn payloads(&self, release: &Release, stored: bool) -> Vec<(&'static str, OsString)> {
        let state_dir = &self.agent.state_dir;
        let mut lines = String::new();
        for payload in &release.payloads {
            let path = state_dir.payload(payload.sha256);
            let path = if stored { path.display().to_string() } else { "-".to_owned() };
            // Writing to a String does not fail.
            let _ = writeln!(lines, "{} {} {} {path}", payload.name, payload.size, payload.sha256);
        }
        vec![("CALLBOARD_MANIFEST", state_dir.manifest().into()), ("CALLBOARD_PAYLOADS", lines.into())]
    }

    /// The release as it was signed, without its envelope.
    fn write_manifest(&self, release: &Verified<Release>) -> Result<(), Failure> {
        let agent = self.agent;
        let write = || -> io::Result<()> {
            let kept = agent.fs.read(&agent.state_dir.release(release.digest()), max_envelope(Release::MAX_BYTES))?;
            let envelope = Envelope::parse::<Release>(&kept).map_err(io::Error::other)?;
            let path = agent.state_dir.manifest();
            if agent.fs.read(&path, Release::MAX_BYTES).is_ok_and(|there| there == envelope.payload) {
                return Ok(());
            }
            fs::replace(&*agent.fs, &path, &envelope.payload)
        };
        write().map_err(|error| transient(Code::Storage, format!("failed to write the manifest: {error}")))
    }

    async fn is_active(&self) -> Result<bool, Failure> {
        let ended = self.call(Verb::IsActive, Vec::new()).await?;
        match ended.verdict() {
            Verdict::Done => Ok(true),
            Verdict::Failed => Ok(false),
            Verdict::TryLater | Verdict::Broken => self.done(Verb::IsActive, &ended).map(|()| false),
        }
    }

    async fn must_be_active(&self) -> Result<(), Failure> {
        if self.is_active().await? {
            return Ok(());
        }
        let text =
            format!("{} says that another release runs after this one was activated", self.program.path.display());
        Err(permanent(Code::NotActive, text))
    }

    /// A restart of the machine that the program asked for in this attempt, on the way there or back.
    fn restart_asked(&self, back: bool) -> Option<Restart> {
        self.agent.record().restart.filter(|asked| asked.attempt == self.task.order.attempt && asked.back == back)
    }

    fn note_restart(&self, back: bool) -> Result<(), Failure> {
        let restart = Restart { attempt: self.task.order.attempt, back, boot_id: self.agent.boot_id.clone() };
        let noted = self.agent.update(|record| record.restart = Some(restart));
        noted.map_err(|error| transient(Code::Storage, format!("failed to {error}")))
    }

    fn done(&self, verb: Verb, ended: &Ended) -> Result<(), Failure> {
        let text = || format!("{} {}: {}", self.program.path.display(), verb.as_str(), ended.describe(MAX_SAID));
        match ended.verdict() {
            Verdict::Done => Ok(()),
            Verdict::Failed => Err(permanent(Code::Installer, text())),
            Verdict::TryLater | Verdict::Broken => Err(transient(Code::Installer, text())),
        }
    }

    fn said(&self, verb: Verb, what: &str) -> Failure {
        permanent(Code::Installer, format!("{} {}: it says {what}", self.program.path.display(), verb.as_str()))
    }
}

/// Where a stream goes on: the program keeps whole chunks.
pub(crate) fn resume(release: &Release, have: u64) -> u64 {
    let mut base = 0;
    for payload in &release.payloads {
        let own = have.saturating_sub(base).min(payload.size);
        if own < payload.size {
            let chunk = u64::from(payload.chunk_size.max(1));
            return base + own / chunk * chunk;
        }
        base += payload.size;
    }
    base
}

/// What every verb is told.
fn told(agent: &Agent, product: &Product, version: &str, wait: Duration) -> Vec<(&'static str, OsString)> {
    let deadline = (clock::system() + wait).millis() / 1000;
    let mut told = vec![
        ("CALLBOARD_CONTRACT", OsString::from(install::command::CONTRACT)),
        ("CALLBOARD_PRODUCT", product.to_string().into()),
        ("CALLBOARD_RELEASE", version.into()),
        ("CALLBOARD_DEADLINE", deadline.to_string().into()),
    ];
    if let Some(installed) = agent.product_record(product).installed {
        told.push(("CALLBOARD_FROM", installed.version.to_string().into()));
        told.push(("CALLBOARD_FROM_DIGEST", installed.release.to_string().into()));
    }
    told
}

/// Says which products cannot be updated because of their installer programs.
pub(crate) fn say_unusable(settings: &Settings) {
    for (product, settings) in &settings.products {
        if let Some(Err(reason)) = settings.program().map(|program| usable(&program.path)) {
            tracing::error!(%product, reason, "this product cannot be updated");
        }
    }
}

/// Asks every program whether what the agent calls installed is what runs: after it was committed, a boot loader may
/// have gone back all the same. Who does not answer is believed to be as before.
pub(crate) async fn look_at_slots(agent: &Agent) {
    for (product, settings) in &agent.settings.products {
        let (Some(program), Some(installed)) = (settings.program(), agent.product_record(product).installed) else {
            continue;
        };
        let changing =
            agent.state().task().is_some_and(|task| task.order.product == *product && !task.phase.is_before_switch());
        if changing {
            continue;
        }
        let wait = program.timeout.min(LOOK_TIMEOUT);
        let environment = told(agent, product, installed.version.as_str(), wait);
        let release = installed.release;
        let call = Call { program: &program.path, verb: Verb::IsActive, release, environment, wait };
        match agent.installers.run(call).await {
            Ok(ended) if ended.verdict() == Verdict::Failed => {
                tracing::error!(%product, release.version = %installed.version, "another release runs than the one installed last");
                agent.astray.borrow_mut().insert(product.clone());
            }
            Ok(ended) if ended.verdict() == Verdict::Done => {}
            Ok(ended) => tracing::warn!(%product, "is-active: {}", ended.describe(MAX_SAID)),
            Err(failure) => tracing::error!(%product, text = failure.text, "the installer cannot be run"),
        }
    }
}
