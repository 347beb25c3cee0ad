//! What an order leaves behind on its way, and what follows from it.

use callboard_proto::{
    digest::Digest,
    release::Rollback,
    report::{Failure, FailureClass},
};

use super::{Course, Deferral, Event, Next, Order, Phase, Previous, Stuck, Task, permanent};
use crate::words::Code;

/// What has come about with the event.
pub(super) fn course(task: &Task, event: &Event) -> Course {
    let course = task.course.clone();
    match (&task.phase, event) {
        (Phase::Pre { .. }, Event::Inspected { programs, .. }) => {
            Course { programs: programs.clone(), prepared: true, ..course }
        }
        (Phase::Pre { .. }, Event::Damaged) => Course { programs: Vec::new(), backup_at: None, ..course },
        (Phase::Pre { .. } | Phase::Preparing { .. }, Event::Deferred { failure, at, backup_at }) => {
            let (since, times) = course.deferral.as_ref().map_or((*at, 0), |last| (last.since, last.times));
            let deferral = Some(Deferral { since, times: times.saturating_add(1), failure: failure.clone() });
            // A hook that says "later" leaves things as they were. What an earlier preparation had begun stands.
            let prepared = course.prepared && matches!(task.phase, Phase::Pre { .. });
            Course { prepared, backup_at: backup_at.or(course.backup_at), deferral, ..course }
        }
        (Phase::Preparing { .. }, Event::Ready { backup_at }) => {
            Course { prepared: false, backup_at: *backup_at, deferral: None, ..course }
        }
        (_, Event::Undone) => Course { prepared: false, ..course },
        (Phase::Switching { .. }, Event::Flipped { boot }) | (Phase::RollingBack { .. }, Event::Turned { boot }) => {
            Course { turned: task.order.reboot.then(|| boot.clone()), ..course }
        }
        (Phase::Trial { .. }, Event::Recovered { boot }) => Course { counted: Some(boot.clone()), ..course },
        (Phase::Trial { .. }, Event::Started) => Course { counted: None, ..course },
        _ => course,
    }
}

/// What follows when the new version has run and cannot be kept.
pub(super) fn back(order: &Order, tree: Digest, previous: Previous, failure: Failure) -> Phase {
    match order.rollback {
        Rollback::Safe | Rollback::NeedsBackup => Phase::RollingBack { previous, tries: 0, failure },
        // What it wrote, the previous version cannot read: only a person can say what is worse.
        Rollback::Forbidden => stuck(Some(tree), previous, failure),
    }
}

/// Nothing is changed any more, until a person says what.
pub(super) fn stuck(tree: Option<Digest>, previous: Previous, failure: Failure) -> Phase {
    // Another attempt would find a device that changes nothing.
    let failure = Failure { class: FailureClass::Permanent, ..failure };
    Phase::Inconsistent { failure, stuck: Some(Stuck { tree, previous }) }
}

/// A person has chosen between the versions.
pub(super) fn resolved(task: &Task, keep: bool) -> Next {
    let Phase::Inconsistent { failure, stuck: Some(stuck) } = &task.phase else { return Next::Nothing };
    let (previous, failure) = (stuck.previous.clone(), failure.clone());
    match stuck.tree {
        Some(tree) if keep => Next::Told(Phase::Committing { tree, previous, tries: 0 }),
        None if keep => Next::Nothing,
        _ => Next::Told(Phase::RollingBack { previous, tries: 0, failure }),
    }
}

/// A trial was cut short.
pub(super) fn tried(task: &Task, tree: Digest, previous: &Previous, tries_left: u8, restarted: bool) -> Next {
    let previous = previous.clone();
    // The restart of the machine that belongs to the update.
    if task.order.reboot && !restarted {
        return Next::Phase(Phase::Trial { tree, previous, tries_left, restarted });
    }
    let Some(tries_left) = tries_left.checked_sub(1) else {
        let failure = permanent(Code::TrialInterrupted, "every trial of the new version was cut short by a restart");
        return Next::Phase(back(&task.order, tree, previous, failure));
    };
    Next::Phase(Phase::Trial { tree, previous, tries_left, restarted })
}

/// The machine has started, and the product has not. A trial that begins is counted now: it may never come to the agent.
pub(super) fn recovered(task: &Task, boot: &str) -> Next {
    match &task.phase {
        Phase::Trial { .. } if task.course.counted.as_deref() == Some(boot) => Next::Nothing,
        Phase::Trial { tree, previous, tries_left, restarted: false } if task.order.reboot => {
            let restarted = task.course.turned.as_deref() != Some(boot);
            let (tree, previous, tries_left) = (*tree, previous.clone(), *tries_left);
            Next::Phase(Phase::Trial { tree, previous, tries_left, restarted })
        }
        Phase::Trial { tree, previous, tries_left, restarted } => tried(task, *tree, previous, *tries_left, *restarted),
        _ => Next::Nothing,
    }
}
