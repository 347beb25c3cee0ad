//! Carrying out one piece of work; the event at its end says how it went.

use std::{pin::Pin, rc::Rc, time::Duration};

use callboard_proto::{digest::Digest, release::Release, report::Failure, signed::Verified};

use crate::{
    agent::Agent,
    clock::boottime,
    dice,
    download::{Download, Host},
    install::{self, InstallError, health, service, switch, tidy},
    machine::{Event, Phase, Previous, Task, Work, permanent, transient},
    poll,
    products::ProductRecord,
    trust,
    words::{Attack, Code},
};

/// Work in progress.
pub(crate) type Running = Pin<Box<dyn Future<Output = Event>>>;

/// Begins `work` for `task`. Dropping the result stops it at its next pause.
pub(crate) fn start(agent: Rc<Agent>, task: Task, work: Work) -> Running {
    Box::pin(async move {
        match run(&agent, &task, work).await {
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
    match work {
        Work::Prepare => prepare(agent, task),
        Work::Fetch => fetch(agent, task).await,
        Work::Unpack => unpack(agent, task),
        Work::Inspect => inspect(agent, task),
        Work::Flip => flip(agent, task),
        Work::Restart => restart(agent, task).await.map(|()| Event::Restarted),
        Work::Watch => watch(agent, task).await,
        Work::Record { tries } => {
            pause(agent, tries).await;
            record(agent, task)
        }
        Work::Revert { tries } => {
            pause(agent, tries).await;
            revert(agent, task).await
        }
        Work::Clean => clean(agent),
    }
}

/// Before a repetition, so that a full disk or a hanging service is not hammered.
async fn pause(agent: &Agent, tries: u8) {
    if tries > 0 {
        let wait = poll::retry(agent.settings.polling, u32::from(tries), dice::roll());
        tokio::time::sleep(wait).await;
    }
}

fn release(agent: &Agent, task: &Task) -> Result<Verified<Release>, Failure> {
    trust::still_trusted(agent, task.order.release)
}

fn dirs(agent: &Agent, task: &Task) -> Result<crate::layout::ProductDir, Failure> {
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
    let needed: Vec<Digest> =
        release.payloads.iter().flat_map(|payload| [payload.sha256, payload.chunks_sha256]).collect();
    let tidied =
        tidy::payloads(&*agent.fs, &agent.state_dir, &needed).and_then(|()| tidy::versions(&*agent.fs, &dirs, None));
    if let Err(error) = tidied {
        tracing::warn!(%error, "leftovers could not be removed");
    }
    install::prepare(&*agent.fs, &agent.state_dir, &dirs, &release).map_err(failure)?;
    Ok(Event::Prepared)
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
        match asked {
            Some(_) => poll::back_off(polling, 0, asked, dice::roll()),
            None => poll::retry(polling, tries, dice::roll()),
        }
    }

    fn owed(&self, bytes: u64) -> Duration {
        self.pace.borrow_mut().wait(boottime(), bytes, self.rate.get())
    }
}

async fn fetch(agent: &Agent, task: &Task) -> Result<Event, Failure> {
    let release = release(agent, task)?;
    let mut base = 0;
    for payload in &release.payloads {
        let (fs, client, state_dir) = (&*agent.fs, agent.client(), &agent.state_dir);
        Download { fs, client: &client, state_dir, host: agent, base }.run(payload).await?;
        base += payload.size;
        agent.bytes_done.set(base);
    }
    Ok(Event::Fetched)
}

fn unpack(agent: &Agent, task: &Task) -> Result<Event, Failure> {
    let (release, dirs) = (release(agent, task)?, dirs(agent, task)?);
    let progress = || agent.notifier.alive();
    let tree = install::stage(&*agent.fs, &agent.state_dir, &dirs, &release, &task.order.dir, &progress);
    let tree = tree.map_err(|error| {
        if let Some(attack) = error.attack() {
            agent.attack(attack);
        }
        error.failure()
    })?;
    Ok(Event::Unpacked { tree })
}

fn inspect(agent: &Agent, task: &Task) -> Result<Event, Failure> {
    let dirs = dirs(agent, task)?;
    let Phase::Pre { tree } = task.phase else { return Err(wrong_phase()) };
    // The last moment: what was revoked, or is trusted no more, does not run.
    release(agent, task)?;
    if !install::is_intact(&*agent.fs, &dirs, &task.order.dir, tree, &|| agent.notifier.alive()) {
        tracing::warn!(path = %dirs.version(&task.order.dir).display(), "the staged tree was changed; staging it again");
        return Ok(Event::Damaged);
    }
    let previous = switch::inspect(&*agent.fs, &dirs).map_err(failure)?;
    Ok(Event::Inspected { previous })
}

fn flip(agent: &Agent, task: &Task) -> Result<Event, Failure> {
    let dirs = dirs(agent, task)?;
    let Phase::Switching { previous, .. } = &task.phase else { return Err(wrong_phase()) };
    switch::flip(&*agent.fs, &dirs, &task.order.dir, previous).map_err(failure)?;
    Ok(Event::Flipped)
}

async fn restart(agent: &Agent, task: &Task) -> Result<(), Failure> {
    let service = agent.product(&task.order.product).and_then(|(settings, _)| settings.service.clone());
    match service.filter(|_| task.order.restart) {
        Some(unit) => service::restart(&unit).await,
        None => Ok(()),
    }
}

async fn watch(agent: &Agent, task: &Task) -> Result<Event, Failure> {
    let dirs = dirs(agent, task)?;
    let Some((settings, _)) = agent.product(&task.order.product) else { return Err(wrong_phase()) };
    health::probation(settings, &dirs.version(&task.order.dir), task.order.version.as_str()).await?;
    Ok(Event::Healthy)
}

fn record(agent: &Agent, task: &Task) -> Result<Event, Failure> {
    let Phase::Committing { tree, .. } = task.phase else { return Err(wrong_phase()) };
    save(agent, task, |record| record.committed(&task.order, tree))?;
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
    slots.write_twice(&*agent.fs, record).map_err(|error| transient(Code::Storage, format!("failed to {error}")))
}

async fn revert(agent: &Agent, task: &Task) -> Result<Event, Failure> {
    let dirs = dirs(agent, task)?;
    let Phase::RollingBack { previous, .. } = &task.phase else { return Err(wrong_phase()) };
    switch::revert(&*agent.fs, &dirs, &task.order.dir, previous).map_err(failure)?;
    // Without a previous version there is nothing that could be started.
    if *previous != Previous::Nothing {
        restart(agent, task).await?;
    }
    Ok(Event::Reverted)
}

fn clean(agent: &Agent) -> Result<Event, Failure> {
    let installed: Vec<Digest> = agent
        .products
        .borrow()
        .values()
        .filter_map(|slots| slots.record().installed.as_ref().map(|installed| installed.release))
        .collect();
    let fs = &*agent.fs;
    let mut done = tidy::payloads(fs, &agent.state_dir, &[]).and(tidy::releases(fs, &agent.state_dir, &installed));
    for settings in agent.settings.products.values() {
        done = done.and(tidy::versions(fs, &crate::layout::ProductDir::new(&settings.directory), None));
    }
    done.map_err(|error| transient(Code::Storage, format!("failed to clean up: {error}")))?;
    Ok(Event::Cleaned)
}

fn wrong_phase() -> Failure {
    permanent(Code::Internal, "the work does not belong to the state")
}
