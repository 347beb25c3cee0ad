//! Carrying out one piece of work; the event at its end says how it went.

use std::{collections::BTreeMap, io, path::Path, pin::Pin, rc::Rc, time::Duration};

use callboard_proto::{
    digest::Digest,
    ids::Product,
    release::{Hook, Release, Stage},
    report::Failure,
    signed::Verified,
};
use command::Hands;

use crate::{
    agent::Agent,
    clock::boottime,
    config::ProductSettings,
    dice,
    download::{Download, Host},
    fs::{self, Fs, Kind},
    hooks::{self, Hooks},
    install::{self, InstallError, health::Probation, service, switch, tidy},
    itself::{self, Itself},
    layout::{ProductDir, StateDir},
    machine::{End, Event, Phase, Previous, Task, Work, permanent, transient},
    poll,
    products::{ProductRecord, ProductSlots},
    trust,
    words::{Attack, Code},
};

mod command;

#[cfg(test)]
pub(crate) use command::resume;
pub(crate) use command::{look_at_slots, say_unusable};

/// Between two looks at a new version, and for what systemd takes to tell of its unit.
const WATCH_PAUSE: Duration = Duration::from_secs(120);
/// A chunk comes in this time, or its connection is given up.
const PROGRESS_OF_A_CHUNK: Duration = Duration::from_secs(1800);

/// Work in progress.
pub(crate) type Running = Pin<Box<dyn Future<Output = Event>>>;

/// Begins `work` for `task`. Dropping the result stops it at its next pause.
pub(crate) fn start(agent: Rc<Agent>, task: Task, work: Work) -> Running {
    Box::pin(async move {
        let mut done = run(&agent, &task, work).await;
        if let Err(failure) = &done
            && failure.code == Code::NoSpace.as_str()
            && matches!(work, Work::Prepare | Work::Fetch | Work::Unpack)
        {
            tracing::warn!(?work, text = failure.text, "the disk is full; once more without what nobody needs");
            make_room(&agent, &task);
            done = run(&agent, &task, work).await;
        }
        match done {
            Ok(event) => event,
            Err(failure) => {
                let (code, text) = (&failure.code, &failure.text);
                tracing::warn!(?work, release.version = %task.order.version, code, text, "work failed");
                Event::Failed(failure)
            }
        }
    })
}

async fn run(agent: &Agent, task: &Task, work: Work) -> Result<Event, Failure> {
    tracing::debug!(?work, release.version = %task.order.version, "work begins");
    if let Work::Record { tries } | Work::Revert { tries } = work {
        pause(agent, tries).await;
    }
    let program = agent.settings.products.get(&task.order.product).and_then(ProductSettings::program);
    match program {
        Some(program) => by_program(&Hands { agent, task, program }, work).await,
        None => by_agent(agent, task, work).await,
    }
}

async fn by_program(hands: &Hands<'_>, work: Work) -> Result<Event, Failure> {
    match work {
        Work::Prepare => hands.prepare().await,
        Work::Fetch => hands.fetch().await,
        Work::Unpack => hands.unpack().await,
        Work::Inspect => hands.inspect().await,
        Work::Flip => hands.flip().await,
        Work::Restart => hands.restart().await,
        Work::Watch => hands.watch().await,
        Work::Record { .. } => hands.record().await,
        Work::Revert { .. } => hands.revert().await,
        Work::Ready | Work::Undo | Work::Clean => by_agent(hands.agent, hands.task, work).await,
    }
}

async fn by_agent(agent: &Agent, task: &Task, work: Work) -> Result<Event, Failure> {
    match work {
        Work::Prepare => prepare(agent, task),
        Work::Fetch => fetch(agent, task).await,
        Work::Unpack => unpack(agent, task),
        Work::Inspect => inspect(agent, task),
        Work::Ready => Hooks::new(agent, task, dirs(agent, task)?).prepare().await,
        Work::Undo => undo(agent, task).await,
        Work::Flip => flip(agent, agent.itself_of(task).await, task),
        Work::Restart => match agent.itself_of(task).await {
            Some(own) => itself::restart(own, task).map(|()| Event::Restarted),
            None => restart(agent, task).await.map(|()| Event::Restarted),
        },
        Work::Watch => watch(agent, task).await,
        Work::Record { .. } => record(agent, agent.itself_of(task).await, task).await,
        Work::Revert { .. } => revert(agent, agent.itself_of(task).await, task).await,
        Work::Clean => clean(agent, task).await,
    }
}

/// Before a repetition, so that a full disk or a hanging service is not hammered.
async fn pause(agent: &Agent, tries: u8) {
    if tries > 0 {
        let wait = poll::retry(agent.settings.polling, u32::from(tries), dice::roll());
        agent.notifier.expect(wait);
        tokio::time::sleep(wait).await;
    }
}

/// Deletes what only saves work: payloads and trees of other orders, half-made trees, backups of updates that are over.
/// Neither what runs nor what ran before.
fn make_room(agent: &Agent, task: &Task) {
    let fs = &*agent.fs;
    let payloads = release(agent, task).map(|release| payloads(&release)).unwrap_or_default();
    let mut done = tidy::payloads(fs, &agent.state_dir, &payloads);
    for dirs in agent.product_dirs() {
        done = done.and(tidy::versions(fs, &dirs, None)).and(fs::remove_tree(fs, &dirs.backups()));
    }
    if let Err(error) = done {
        tracing::warn!(%error, "leftovers could not be removed");
    }
}

/// What of the payload directory an order needs.
fn payloads(release: &Release) -> Vec<Digest> {
    release.payloads.iter().flat_map(|payload| [payload.sha256, payload.chunks_sha256]).collect()
}

fn release(agent: &Agent, task: &Task) -> Result<Verified<Release>, Failure> {
    trust::still_trusted(agent, task.order.release)
}

fn dirs(agent: &Agent, task: &Task) -> Result<ProductDir, Failure> {
    agent.product(&task.order.product).map(|(_, dirs)| dirs).ok_or_else(unknown_product)
}

fn unknown_product() -> Failure {
    permanent(Code::UnknownProduct, "the product is not configured any more")
}

fn failure(error: InstallError) -> Failure {
    error.failure()
}

fn prepare(agent: &Agent, task: &Task) -> Result<Event, Failure> {
    let (release, dirs) = (release(agent, task)?, dirs(agent, task)?);
    agent.bytes_done.set(0);
    hooks::forget_output(agent);
    let needed = payloads(&release);
    // A backup outlives the update that it was made for: who doubts the restored data finds it until the next one.
    let tidied = tidy::payloads(&*agent.fs, &agent.state_dir, &needed)
        .and_then(|()| tidy::versions(&*agent.fs, &dirs, None))
        .and_then(|()| fs::remove_tree(&*agent.fs, &dirs.backups()));
    if let Err(error) = tidied {
        tracing::warn!(%error, "leftovers could not be removed");
    }
    within_quota(agent, &release)?;
    install::prepare(&*agent.fs, &agent.state_dir, &dirs, &release).map_err(failure)?;
    Ok(Event::Prepared)
}

fn within_quota(agent: &Agent, release: &Release) -> Result<(), Failure> {
    let Some(quota) = agent.settings.quota else { return Ok(()) };
    install::within_quota(&*agent.fs, &agent.state_dir, &agent.product_dirs(), release, quota).map_err(failure)
}

impl Host for Agent {
    fn progress(&self, bytes: u64) {
        self.bytes_done.set(bytes);
        self.notifier.alive();
    }

    fn attack(&self, attack: Attack) {
        Self::attack(self, attack);
    }

    fn pause(&self, tries: u32, asked: Option<Duration>) -> Duration {
        let polling = self.settings.polling;
        let wait = match asked {
            Some(_) => poll::back_off(polling, 0, asked, dice::roll()),
            None => poll::retry(polling, tries, dice::roll()),
        };
        self.notifier.expect(wait);
        wait
    }

    fn owed(&self, bytes: u64) -> Duration {
        let wait = self.pace.borrow_mut().wait(boottime(), bytes, self.rate.get());
        self.notifier.expect(wait + PROGRESS_OF_A_CHUNK);
        wait
    }
}

async fn fetch(agent: &Agent, task: &Task) -> Result<Event, Failure> {
    let release = release(agent, task)?;
    download(agent, &release).await?;
    Ok(Event::Fetched)
}

/// Brings all payloads into the state directory.
async fn download(agent: &Agent, release: &Release) -> Result<(), Failure> {
    let mut base = 0;
    for payload in &release.payloads {
        let (fs, client, state_dir) = (&*agent.fs, agent.client(), &agent.state_dir);
        Download { fs, client: &client, state_dir, host: agent, base }.run(payload).await?;
        base += payload.size;
        agent.bytes_done.set(base);
    }
    Ok(())
}

fn unpack(agent: &Agent, task: &Task) -> Result<Event, Failure> {
    let (release, dirs) = (release(agent, task)?, dirs(agent, task)?);
    let progress = || agent.notifier.alive();
    let stage = || install::stage(&*agent.fs, &agent.state_dir, &dirs, &release, &task.order.dir, &progress);
    let mut tree = stage();
    if let Err(error) = &tree
        && error.is_of_the_medium()
    {
        tracing::warn!(%error, "the medium fails; unpacking once more");
        tree = stage();
    }
    let tree = tree.map_err(|error| {
        if let Some(attack) = error.attack() {
            agent.attack(attack);
        }
        error.failure()
    })?;
    for Hook { stage, path, .. } in &task.order.hooks {
        let found = agent.fs.stat(&dirs.version(&task.order.dir).join(path));
        if !found.is_ok_and(|found| found.is_some_and(|meta| meta.kind == Kind::File && meta.executable)) {
            return Err(permanent(
                Code::HookMissing,
                format!("hook {stage}: there is no program {path} in the release"),
            ));
        }
    }
    Ok(Event::Unpacked { tree })
}

/// What each hook of the release must be whenever it is run, of a tree that was found to be the verified one.
fn programs(agent: &Agent, task: &Task, dirs: &ProductDir) -> Result<Vec<Digest>, Failure> {
    let tree = dirs.version(&task.order.dir);
    let one = |Hook { stage, path, .. }: &Hook| {
        let bytes = agent.fs.read(&tree.join(path), hooks::MAX_PROGRAM);
        let bytes = bytes.map_err(|error| transient(Code::Storage, format!("read hook {stage} ({path}): {error}")))?;
        Ok(Digest::of(&bytes))
    };
    task.order.hooks.iter().map(one).collect()
}

fn inspect(agent: &Agent, task: &Task) -> Result<Event, Failure> {
    let dirs = dirs(agent, task)?;
    let Phase::Pre { tree } = task.phase else { return Err(wrong_phase()) };
    if let Some(put_off) = Hooks::new(agent, task, dirs.clone()).inhibited() {
        return Ok(put_off);
    }
    // The last moment: what was revoked, or is trusted no more, does not run.
    release(agent, task)?;
    if !install::is_intact(&*agent.fs, &dirs, &task.order.dir, tree, &|| agent.notifier.alive()) {
        tracing::warn!(path = %dirs.version(&task.order.dir).display(), "the staged tree was changed; staging it again");
        return Ok(Event::Damaged);
    }
    if itself::is_it(&task.order.product) {
        itself::inspect(&*agent.fs, &dirs.version(&task.order.dir))?;
    }
    let previous = switch::inspect(&*agent.fs, &dirs).map_err(failure)?;
    let programs = programs(agent, task, &dirs)?;
    Ok(Event::Inspected { previous, programs })
}

fn flip(agent: &Agent, own: Option<&Itself>, task: &Task) -> Result<Event, Failure> {
    let dirs = dirs(agent, task)?;
    let Phase::Switching { previous, .. } = &task.phase else { return Err(wrong_phase()) };
    switch::flip(&*agent.fs, &dirs, &task.order.dir, previous).map_err(failure)?;
    if let Some(own) = own {
        itself::flip(agent, own, task)?;
    }
    Ok(Event::Flipped { boot: agent.boot_id.clone() })
}

async fn undo(agent: &Agent, task: &Task) -> Result<Event, Failure> {
    if let Ok(dirs) = dirs(agent, task) {
        Hooks::new(agent, task, dirs).try_run(Stage::Failure).await;
    }
    Ok(Event::Undone)
}

/// Starts what `current` points at now: the product's unit, or the machine.
async fn restart(agent: &Agent, task: &Task) -> Result<(), Failure> {
    if !task.order.reboot {
        return restart_service(agent, task).await;
    }
    // It has started since the link was changed.
    if task.course.turned.as_ref() != Some(&agent.boot_id) {
        return Ok(());
    }
    Err(restart_machine(agent).await)
}

/// Comes back only if the machine does not restart.
async fn restart_machine(agent: &Agent) -> Failure {
    tracing::info!("the machine is restarted for the update");
    agent.notifier.expect(service::REBOOT_TIMEOUT);
    agent.outside.reboot().await
}

async fn restart_service(agent: &Agent, task: &Task) -> Result<(), Failure> {
    match unit(agent, task) {
        Some(unit) => service::restart(&unit).await,
        None => Ok(()),
    }
}

/// The product's unit, if the release wants it to be restarted.
fn unit(agent: &Agent, task: &Task) -> Option<String> {
    let service = agent.product(&task.order.product).and_then(|(settings, _)| settings.service.clone());
    service.filter(|_| task.order.restart)
}

async fn watch(agent: &Agent, task: &Task) -> Result<Event, Failure> {
    let dirs = dirs(agent, task)?;
    let Some((settings, _)) = agent.product(&task.order.product) else { return Err(wrong_phase()) };
    if let Some(own) = agent.itself_of(task).await {
        return itself::watch(agent, own, task, settings.trial).await;
    }
    let since = boottime();
    let hooks = Hooks::new(agent, task, dirs.clone());
    hooks.run(Stage::PostActivate).await?;
    // What a program has installed lies all over the machine.
    let tree = if settings.program().is_some() { Path::new("/").to_owned() } else { dirs.version(&task.order.dir) };
    let progress = || agent.notifier.expect(settings.health_timeout.max(WATCH_PAUSE));
    let release = task.order.version.as_str();
    let probation = Probation { settings, outside: &*agent.outside, tree, release, progress: &progress };
    let more = hooks.has(Stage::Health).then_some(async || hooks.run(Stage::Health).await.map(|_ran| ()));
    let reached = || !task.order.needs_contact || agent.heard_at.get().is_some_and(|asked| asked >= since);
    probation.watch(more, reached).await?;
    Ok(Event::Healthy)
}

async fn record(agent: &Agent, own: Option<&Itself>, task: &Task) -> Result<Event, Failure> {
    let Phase::Committing { tree, .. } = task.phase else { return Err(wrong_phase()) };
    if let Some(own) = own {
        itself::commit(agent, own, task)?;
    }
    save(agent, task, |record| record.committed(&task.order, tree))?;
    // There is no way back any more.
    if let Some(failure) = Hooks::new(agent, task, dirs(agent, task)?).try_run(Stage::Committed).await {
        *agent.aftermath.borrow_mut() = Some(failure.code);
    }
    Ok(Event::Recorded)
}

/// Puts the release on the list of those that failed here.
pub(crate) fn mark_bad(agent: &Agent, task: &Task) -> Result<(), Failure> {
    save(agent, task, |record| record.rolled_back(&task.order))
}

fn save(agent: &Agent, task: &Task, change: impl FnOnce(&ProductRecord) -> ProductRecord) -> Result<(), Failure> {
    let record = change(&agent.product_record(&task.order.product));
    let mut products = agent.products.borrow_mut();
    let slots = products.get_mut(&task.order.product).ok_or_else(unknown_product)?;
    slots.write_twice(&*agent.fs, record).map_err(|error| transient(error.code(), format!("failed to {error}")))
}

async fn revert(agent: &Agent, own: Option<&Itself>, task: &Task) -> Result<Event, Failure> {
    let dirs = dirs(agent, task)?;
    let Phase::RollingBack { previous, .. } = &task.phase else { return Err(wrong_phase()) };
    if let Some(own) = own {
        switch::revert(&*agent.fs, &dirs, &task.order.dir, previous).map_err(failure)?;
        itself::revert(agent, own, previous)?;
        return Ok(Event::Reverted);
    }
    let hooks = Hooks::new(agent, task, dirs.clone());
    if task.course.turned.is_none() {
        hooks.try_run(Stage::PreRollback).await;
        if task.course.backup_at.is_some()
            && let Some(unit) = unit(agent, task)
        {
            // Nobody writes while the data is brought back.
            service::stop(&unit).await?;
        }
        switch::revert(&*agent.fs, &dirs, &task.order.dir, previous).map_err(failure)?;
        hooks.restore().await?;
        if task.order.reboot {
            return Ok(Event::Turned { boot: agent.boot_id.clone() });
        }
    }
    // Without a previous version there is nothing that could be started.
    if *previous != Previous::Nothing || task.order.reboot {
        restart(agent, task).await?;
    }
    hooks.run_back(Stage::PostRollback).await?;
    hooks.try_run(Stage::Failure).await;
    Ok(Event::Reverted)
}

async fn clean(agent: &Agent, task: &Task) -> Result<Event, Failure> {
    let Phase::Cleanup { end } = &task.phase else { return Err(wrong_phase()) };
    if let Ok(dirs) = dirs(agent, task) {
        if matches!(end, End::Failed(_)) || task.course.prepared {
            Hooks::new(agent, task, dirs.clone()).try_run(Stage::Failure).await;
        }
        let kept = agent.product_record(&task.order.product).installed.is_some_and(|own| own.dir == task.order.dir);
        if kept && let Err(error) = fs::remove_tree(&*agent.fs, &dirs.backups()) {
            tracing::warn!(%error, "a backup could not be removed");
        }
    }
    hooks::forget_output(agent);
    let fs = &*agent.fs;
    let mut done = tidied(fs, &agent.state_dir, &agent.products.borrow(), agent.itself.as_ref());
    for dirs in agent.product_dirs() {
        done = done.and(tidy::versions(fs, &dirs, None)).and(tidy::half_links(fs, &dirs));
    }
    done.map_err(|error| transient(Code::of_storage(&error), format!("failed to clean up: {error}")))?;
    Ok(Event::Cleaned)
}

/// Deletes what is left over without an order: payloads, and the documents of other releases than those that are
/// installed, and the one that the agent itself may fall back to.
pub(crate) fn tidied(
    fs: &dyn Fs,
    state_dir: &StateDir,
    products: &BTreeMap<Product, ProductSlots>,
    itself: Option<&Itself>,
) -> io::Result<()> {
    let installed = products.values().filter_map(|slots| Some(slots.record().installed.as_ref()?.release));
    let previous = itself.and_then(|own| own.previous_release(fs, state_dir));
    let kept: Vec<Digest> = installed.chain(previous).collect();
    tidy::payloads(fs, state_dir, &[]).and(tidy::releases(fs, state_dir, &kept))
}

fn wrong_phase() -> Failure {
    permanent(Code::Internal, "the work does not belong to the state")
}
