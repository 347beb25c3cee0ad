//! From a verified instruction to what it means for this device now.

use callboard_proto::{
    instruction::{Action, Instruction},
    release::{Release, Restart, Rollback},
    report,
    signed::Verified,
    time::Timestamp,
};

use crate::{
    agent::Agent,
    check_in::{Answer, attempt},
    clock::boottime,
    install, itself,
    journal::Attempt,
    layout::link_target,
    machine::{Event, Order, Right, permanent},
    verify::{self, Device, Refusal},
    words::{Attack, Code},
};

/// What an answer leads to.
#[derive(Debug, Default)]
pub(crate) struct Meaning {
    pub(crate) event: Option<Event>,
    /// An activation is allowed from then on; ask again at that time.
    pub(crate) wait_until: Option<Timestamp>,
}

/// Reads an answer.
pub(crate) fn meaning(agent: &Agent, answer: &Answer) -> Meaning {
    let instruction = &answer.instruction;
    let nothing = Meaning::default();
    let record = agent.record();
    let own = record.state.task().map(|task| task.order.attempt);
    let Some(attempt) = attempt(instruction) else {
        let held = instruction.action == Action::Hold && own.is_some();
        return event(if held { Event::Held { right: None } } else { Event::Withdrawn });
    };
    match instruction.action {
        Action::None => event(Event::Withdrawn),
        // The next attempt may have begun at the server already.
        Action::Hold if own.is_some_and(|own| own.assignment_id == attempt.assignment_id) => {
            let right = right(agent, instruction).filter(|_| own == Some(attempt));
            event(Event::Held { right })
        }
        Action::Hold => event(Event::Withdrawn),
        Action::Cancel if record.last_ended == Some(attempt) => nothing,
        Action::Cancel => match instruction.release_sha256 {
            Some(release) => event(Event::Cancelled { attempt, release }),
            None => nothing,
        },
        Action::Download | Action::Install => ordered(agent, answer, attempt),
    }
}

fn event(event: Event) -> Meaning {
    Meaning { event: Some(event), wait_until: None }
}

/// What the device may do by itself until the next answer.
fn right(agent: &Agent, instruction: &Instruction) -> Option<Right> {
    let times = instruction.not_before.zip(instruction.not_after).filter(|_| instruction.offline_activation);
    let boot = agent.boot_id.clone();
    times.map(|(not_before, not_after)| Right { not_before, not_after, on: instruction.activate_on, boot })
}

fn ordered(agent: &Agent, answer: &Answer, attempt: Attempt) -> Meaning {
    let instruction = &answer.instruction;
    let now = agent.clock.trusted_now();
    let in_time =
        instruction.not_before.is_none_or(|from| from <= now) && instruction.not_after.is_none_or(|until| now <= until);
    let activate = instruction.action == Action::Install && in_time;
    let wait_until = instruction.not_before.filter(|from| *from > now && instruction.action == Action::Install);
    let event = match (&answer.release, agent.record().state.task()) {
        // Nothing was fetched: the order is the one at hand, or it is over.
        (None, Some(task)) if task.order.attempt == attempt => {
            let right = right(agent, instruction);
            Some(Event::Ordered { order: task.order.clone(), activate, right })
        }
        (None, _) => Some(Event::Withdrawn),
        (Some(Err(refusal)), _) => Some(refused(attempt, instruction, refusal)),
        (Some(Ok(release)), _) => Some(new(agent, instruction, release, attempt, activate)),
    };
    Meaning { event, wait_until }
}

fn refused(attempt: Attempt, instruction: &Instruction, refusal: &Refusal) -> Event {
    tracing::warn!(assignment.id = %attempt.assignment_id, reason = %refusal, "an order was refused");
    Event::Settled {
        attempt,
        release: instruction.release_sha256.unwrap_or(callboard_proto::digest::Digest::of(b"")),
        event: report::Event::Failed,
        failure: Some(permanent(refusal.code(), refusal.to_string())),
    }
}

fn new(
    agent: &Agent,
    instruction: &Instruction,
    release: &Verified<Release>,
    attempt: Attempt,
    activate: bool,
) -> Event {
    let record = agent.product_record(&release.product);
    let (installed, now) = (agent.installed(), agent.clock.trusted_now());
    let (root, head) = (agent.trust.root(), agent.trust.head());
    let device = Device {
        settings: &agent.settings,
        agent_version: agent.program.version,
        root: &root,
        head: head.as_ref().map(|head| &***head),
        installed: &installed,
        now,
    };
    let standing = record.standing(release.digest(), attempt);
    if let Err(refusal) = verify::suits(release, device, standing, instruction.allow_downgrade) {
        agent.refused(&refusal);
        if matches!(refusal, Refusal::HeadMissing | Refusal::HeadExpired(_)) {
            // Nothing is wrong with the order: it is begun when there is a head again.
            tracing::warn!(reason = %refusal, "an order has to wait");
            return Event::Withdrawn;
        }
        return refused(attempt, instruction, &refusal);
    }
    let Some((settings, dirs)) = agent.product(&release.product) else {
        return refused(attempt, instruction, &Refusal::UnknownProduct(release.product.clone()));
    };
    let is_itself = itself::is_it(&release.product);
    if is_itself && agent.itself.is_none() {
        return refused(attempt, instruction, &Refusal::NoLauncher);
    }
    if is_installed(agent, release) {
        let event = report::Event::Succeeded;
        return Event::Settled { attempt, release: release.digest(), event, failure: None };
    }
    let dir = match install::free_dir(&*agent.fs, &dirs, release.digest()) {
        Ok(dir) => dir,
        Err(error) => {
            tracing::warn!(%error, product = %release.product, "an order has to wait: what runs cannot be looked at");
            *agent.contact_error.borrow_mut() = Some(Code::of_storage(&error).as_str().to_owned());
            return Event::Withdrawn;
        }
    };
    // What is staged is not staged again for another assignment, so that costs nothing.
    if !agent.state().has_staged(release.digest()) && !agent.orders.borrow_mut().take(boottime()) {
        agent.attack(Attack::Flood);
        *agent.contact_error.borrow_mut() = Some(Code::TooManyOrders.as_str().to_owned());
        return Event::Withdrawn;
    }
    let order = Order {
        attempt,
        release: release.digest(),
        product: release.product.clone(),
        version: release.version.clone(),
        epoch: release.epoch,
        counter: release.counter,
        min_floor: release.min_floor,
        restart: release.restart == Restart::Service && settings.service.is_some(),
        reboot: release.restart == Restart::Reboot && !is_itself,
        // An agent can always be replaced by the one before, and nothing of the new one runs before it has proved itself.
        hooks: if is_itself { Vec::new() } else { release.hooks.clone() },
        rollback: if is_itself { Rollback::default() } else { release.rollback },
        needs_contact: release.needs_server_contact,
        max_postpone_s: release.max_postpone_s,
        dir,
        bytes_total: release.payloads.iter().map(|payload| payload.size).sum(),
        // The launcher counts; the last one is that of the agent before, which goes back.
        trial_tries: settings.trial_tries + u8::from(is_itself),
    };
    Event::Ordered { order, activate, right: right(agent, instruction) }
}

/// Whether the ordered release runs already, undamaged. A damaged one is installed again beside itself; what a program
/// has installed, it has to look after.
fn is_installed(agent: &Agent, release: &Verified<Release>) -> bool {
    let Some(installed) = agent.product_record(&release.product).installed else { return false };
    let Some((settings, dirs)) = agent.product(&release.product) else { return false };
    if settings.program().is_some() {
        return installed.release == release.digest() && !agent.astray.borrow().contains(&release.product);
    }
    let linked = agent.fs.read_link(&dirs.current()).is_ok_and(|target| target == link_target(&installed.dir));
    let progress = || agent.notifier.alive();
    let intact =
        installed.tree.is_none_or(|tree| install::is_intact(&*agent.fs, &dirs, &installed.dir, tree, &progress));
    installed.release == release.digest() && linked && intact
}
