//! What the agent does next: a pure function from state and event to state and effects.
//!
//! The driver makes the new state durable before it carries out an effect, so after a crash [`Event::Started`] in the
//! journalled state repeats exactly the effects that may not have happened. All of them are idempotent.
//!
//! ```text
//! idle -> accepted -> downloading -> staging -> staged <-> waiting <--+
//!                                                  |         |        | put off
//!                                                  +-> pre <-+        |
//!                                                       +-> preparing +
//!                                                            |
//!              rolled_back <- rolling_back <- switching <----+
//!                                  ^             +-> trial -> committing -> committed
//!                                  +-----------------+
//! ```
//!
//! Before `switching` every failure ends in `cleanup` and `idle`. From `switching` on a failure ends in
//! `rolling_back`, or where the release forbids that, in `inconsistent`; from `committing` on there is only repetition.

use callboard_proto::{
    instruction::ActivateOn,
    release::Rollback,
    report::{self, Failure, FailureClass},
};

use course::{back, course, recovered, resolved, stuck, tried};
pub(crate) use state::{Course, Deferral, End, Occasion, Order, Phase, Previous, Right, State, Stuck, Task};

use crate::{journal::Attempt, words::Code};
use callboard_proto::{digest::Digest, time::Timestamp};

mod course;
mod state;

/// No update needs more steps; whatever takes more is a loop.
pub(crate) const MAX_TRANSITIONS: u8 = 64;
/// Tries at recording a success or at going back, before the agent stops changing things.
pub(crate) const MAX_TRIES: u8 = 10;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The process started and found this state.
    Started,
    /// The server ordered a release, and order and release were verified.
    Ordered { order: Order, activate: bool, right: Option<Right> },
    /// The server said to keep what is there and wait.
    Held { right: Option<Right> },
    /// The server said something else: what it allowed before is taken back.
    Withdrawn,
    /// There is an occasion to activate without asking, if that was allowed.
    Alone(Occasion),
    /// The server called an attempt off.
    Cancelled { attempt: Attempt, release: Digest },
    /// An order was answered without beginning it: refused, or installed already.
    Settled { attempt: Attempt, release: Digest, event: report::Event, failure: Option<Failure> },
    /// The release was revoked, or those who signed it may not sign it any more.
    Distrusted(Failure),
    /// There is room, and nothing is in the way.
    Prepared,
    /// Every payload is complete and verified.
    Fetched,
    /// A complete tree with this digest is durable.
    Unpacked { tree: Digest },
    /// The tree is as it was staged; this is what it will replace, and these are the digests of its hooks.
    Inspected { previous: Previous, programs: Vec<Digest> },
    /// The device cannot switch now.
    Deferred { failure: Failure, at: Timestamp, backup_at: Option<Timestamp> },
    /// The hooks before the switch have succeeded.
    Ready { backup_at: Option<Timestamp> },
    /// What the preparation had done is undone, as far as that goes.
    Undone,
    /// The staged tree is not what it was.
    Damaged,
    /// The link points at the new tree, durably, since this boot of the machine.
    Flipped { boot: String },
    /// The link points at the previous tree, durably, since this boot, and the machine has to be restarted.
    Turned { boot: String },
    /// The machine has started and the product has not, in this boot.
    Recovered { boot: String },
    /// A person keeps the new version where the agent does not know what to do, or goes back.
    Resolved { keep: bool },
    /// The machine goes down before the new version has run.
    GoesDown,
    /// The new version was started.
    Restarted,
    /// The new version stayed healthy.
    Healthy,
    /// Installed release and floor are durable.
    Recorded,
    /// The previous version is in place and was started.
    Reverted,
    /// Leftovers are gone.
    Cleaned,
    /// The server has the final report.
    Acknowledged,
    /// The work at hand failed.
    Failed(Failure),
}

/// What to do, after the state is durable and in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Put a report into the outbox.
    Report { attempt: Attempt, release: Digest, event: report::Event, failure: Option<Failure> },
    /// Remember that this release failed here.
    MarkBad,
    /// Begin this; an event says how it ended.
    Work(Work),
    /// Ask the server now instead of waiting for the interval.
    CheckIn,
}

/// What takes time and ends with an event. One at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Prepare,
    Fetch,
    Unpack,
    Inspect,
    Ready,
    Undo,
    Flip,
    Restart,
    Watch,
    Record { tries: u8 },
    Revert { tries: u8 },
    Clean,
}

/// What an event leads to.
enum Next {
    Phase(Phase),
    /// The same, but the server's doing: cannot be a loop of our own.
    Told(Phase),
    Order(Order),
    /// Another order for the release that is staged already.
    Takeover(Order, Phase),
    /// The same phase, with another right.
    Right(Option<Right>),
    /// The same phase; what has come about is written down.
    Noted,
    Idle,
    Nothing,
}

/// The next state, and what to do once it is durable.
pub(crate) fn step(state: &State, event: Event) -> (State, Vec<Effect>) {
    if let Event::Settled { attempt, release, event, failure } = event {
        return (state.clone(), vec![Effect::Report { attempt, release, event, failure }, Effect::CheckIn]);
    }
    let task = match state {
        State::Idle => return idle(event),
        State::Busy(task) => task,
    };
    let right = match &event {
        Event::Ordered { right, .. } | Event::Held { right } => renewed(right.as_ref(), task.right.as_ref()),
        // It is used once.
        Event::Damaged => None,
        // The start at which it was good has passed.
        Event::Deferred { .. } => task.right.clone().filter(|right| right.on != ActivateOn::Boot),
        _ => task.right.clone(),
    };
    let noted = Task { right, course: course(task, &event), ..Task::clone(task) };
    match next(task, event) {
        Next::Phase(phase) => enter(&noted, phase, true),
        Next::Told(phase) => enter(&noted, phase, false),
        Next::Order(order) => accept(order, noted.right),
        Next::Takeover(order, phase) => enter(&Task { order, transitions: 0, ..noted }, phase, false),
        Next::Right(right) if right == task.right => (state.clone(), Vec::new()),
        Next::Right(right) => (State::Busy(Box::new(Task { right, ..Task::clone(task) })), Vec::new()),
        Next::Noted => (State::Busy(Box::new(noted)), Vec::new()),
        Next::Idle => (State::Idle, Vec::new()),
        Next::Nothing => (state.clone(), Vec::new()),
    }
}

fn idle(event: Event) -> (State, Vec<Effect>) {
    match event {
        Event::Ordered { order, right, .. } => accept(order, right),
        Event::Cancelled { attempt, release } => {
            let event = report::Event::Cancelled;
            (State::Idle, vec![Effect::Report { attempt, release, event, failure: None }])
        }
        _ => (State::Idle, Vec::new()),
    }
}

/// A right that was given anew is of use at the next boot after it was given first.
fn renewed(new: Option<&Right>, old: Option<&Right>) -> Option<Right> {
    let new = new?.clone();
    match old.filter(|old| old.on == new.on) {
        Some(old) => Some(Right { boot: old.boot.clone(), ..new }),
        None => Some(new),
    }
}

fn accept(order: Order, right: Option<Right>) -> (State, Vec<Effect>) {
    let task = Task { order, transitions: 0, phase: Phase::Accepted, right, course: Course::default() };
    let effects = effects(&task);
    (State::Busy(Box::new(task)), effects)
}

fn enter(task: &Task, phase: Phase, counts: bool) -> (State, Vec<Effect>) {
    let transitions = if counts { task.transitions.saturating_add(1) } else { task.transitions };
    let (phase, transitions) =
        if transitions > MAX_TRANSITIONS { (give_up(&task.order, phase), 0) } else { (phase, transitions) };
    // Used up by the activation once the switch begins, or of no use any more.
    let right = task.right.clone().filter(|_| phase.is_before_switch());
    // Being put off again and again is no loop: every time somebody had allowed the switch.
    let transitions = if matches!(phase, Phase::Waiting { .. }) { 0 } else { transitions };
    // Going back is a turn of its own.
    let turns = matches!(phase, Phase::RollingBack { .. }) && !matches!(task.phase, Phase::RollingBack { .. });
    let turned = task.course.turned.clone().filter(|_| !turns);
    let course = Course { turned, ..task.course.clone() };
    let task = Task { transitions, phase, right, course, ..task.clone() };
    let effects = effects(&task);
    (State::Busy(Box::new(task)), effects)
}

/// Where a loop is left.
fn give_up(order: &Order, phase: Phase) -> Phase {
    let failure = permanent(Code::Loop, "the update took more steps than any update needs");
    match phase {
        Phase::Switching { previous, .. } => Phase::RollingBack { previous, tries: 0, failure },
        Phase::Trial { tree, previous, .. } => back(order, tree, previous, failure),
        Phase::Committing { tree, previous, .. } => stuck(Some(tree), previous, failure),
        Phase::RollingBack { previous, .. } => stuck(None, previous, failure),
        phase if phase.is_before_switch() => Phase::Cleanup { end: End::Failed(failure) },
        phase => phase,
    }
}

fn next(task: &Task, event: Event) -> Next {
    match event {
        Event::Started => started(task),
        Event::Recovered { boot } => recovered(task, &boot),
        Event::Ordered { order, activate, right } => ordered(task, order, activate, right),
        Event::Held { right } => held(task, right),
        Event::Withdrawn => Next::Right(None),
        Event::Alone(occasion) => alone(task, &occasion),
        Event::Cancelled { attempt, .. } if attempt == task.order.attempt && task.phase.is_before_switch() => {
            Next::Told(Phase::Cleanup { end: End::Cancelled })
        }
        Event::Cancelled { .. } => Next::Nothing,
        Event::Distrusted(failure) if task.phase.is_before_switch() => {
            Next::Told(Phase::Cleanup { end: End::Failed(failure) })
        }
        Event::Distrusted(_) => Next::Nothing,
        Event::GoesDown => goes_down(task),
        Event::Resolved { keep } => resolved(task, keep),
        event => progressed(task, event),
    }
}

/// The trial that the switch has counted begins with the next start, which counts by itself.
fn goes_down(task: &Task) -> Next {
    match task.phase.clone() {
        Phase::Trial { tree, previous, tries_left, restarted: false } if !task.order.reboot => {
            let tries_left = tries_left.saturating_add(1);
            Next::Told(Phase::Trial { tree, previous, tries_left, restarted: false })
        }
        _ => Next::Nothing,
    }
}

/// The rows "found after restart" of the table of states.
fn started(task: &Task) -> Next {
    match &task.phase {
        Phase::Staged { .. }
        | Phase::Waiting { .. }
        | Phase::Committed
        | Phase::RolledBack { .. }
        | Phase::Inconsistent { .. } => Next::Told(task.phase.clone()),
        // The grant may be over by now, so the server is asked again: what stands is granted again. Whoever activated
        // without asking goes on.
        Phase::Pre { tree } | Phase::Preparing { tree, .. } if task.right.is_none() => {
            Next::Told(Phase::Waiting { tree: Some(*tree) })
        }
        // What was verified before the restart is not believed after it: the payload is hashed again.
        Phase::Staging => Next::Phase(Phase::Downloading),
        // The try that was cut short has counted already: the number was lowered before it began.
        phase @ Phase::Trial { .. } if task.course.counted.is_some() => Next::Phase(phase.clone()),
        Phase::Trial { tree, previous, tries_left, restarted } => tried(task, *tree, previous, *tries_left, *restarted),
        phase => Next::Phase(phase.clone()),
    }
}

fn ordered(task: &Task, order: Order, activate: bool, right: Option<Right>) -> Next {
    let same = order.attempt == task.order.attempt && order.release == task.order.release;
    match &task.phase {
        Phase::Staged { tree } | Phase::Waiting { tree: Some(tree) } if same => {
            if activate {
                Next::Told(Phase::Pre { tree: *tree })
            } else {
                Next::Right(renewed(right.as_ref(), task.right.as_ref()))
            }
        }
        Phase::Waiting { tree: None } if same => Next::Told(Phase::Accepted),
        Phase::Accepted | Phase::Downloading | Phase::Staging if same => {
            Next::Right(renewed(right.as_ref(), task.right.as_ref()))
        }
        _ if same => Next::Nothing,
        // What was begun is undone first; the other order is given again.
        _ if task.course.prepared => Next::Nothing,
        Phase::Staged { tree } | Phase::Waiting { tree: Some(tree) } if order.release == task.order.release => {
            let phase = if activate { Phase::Pre { tree: *tree } } else { Phase::Staged { tree: *tree } };
            Next::Takeover(Order { dir: task.order.dir.clone(), ..order }, phase)
        }
        phase if phase.is_before_switch() => Next::Order(order),
        // Their final reports lie in the outbox; whether the server has them yet does not matter.
        Phase::Committed | Phase::RolledBack { .. } | Phase::Cleanup { .. } => Next::Order(order),
        // An activation that began always finishes, and an inconsistent device is not changed any more.
        _ => Next::Nothing,
    }
}

fn held(task: &Task, right: Option<Right>) -> Next {
    match &task.phase {
        Phase::Accepted | Phase::Downloading | Phase::Staging => Next::Told(Phase::Waiting { tree: None }),
        Phase::Staged { tree } => Next::Told(Phase::Waiting { tree: Some(*tree) }),
        Phase::Waiting { .. } => Next::Right(renewed(right.as_ref(), task.right.as_ref())),
        _ => Next::Nothing,
    }
}

/// Activates without asking, if what is there is complete and the last answer allowed it.
fn alone(task: &Task, occasion: &Occasion) -> Next {
    let (Phase::Staged { tree } | Phase::Waiting { tree: Some(tree) }, Some(right)) = (&task.phase, &task.right) else {
        return Next::Nothing;
    };
    // Where there is no way back somebody must have said so now.
    if task.order.rollback == Rollback::Forbidden {
        return Next::Nothing;
    }
    if right.allows(occasion) {
        return Next::Phase(Phase::Pre { tree: *tree });
    }
    // A start at the wrong time has passed; hours later would not be at the start.
    let missed = occasion.on == ActivateOn::Boot && right.on == ActivateOn::Boot;
    if missed { Next::Right(Some(Right { boot: occasion.boot.clone(), ..right.clone() })) } else { Next::Nothing }
}

fn progressed(task: &Task, event: Event) -> Next {
    let to = Next::Phase;
    match (task.phase.clone(), event) {
        (Phase::Accepted, Event::Prepared) => to(Phase::Downloading),
        (Phase::Downloading, Event::Fetched) => to(Phase::Staging),
        (Phase::Staging, Event::Unpacked { tree }) => to(Phase::Staged { tree }),
        (Phase::Pre { tree }, Event::Inspected { previous, .. }) => to(Phase::Preparing { tree, previous }),
        (Phase::Pre { .. }, Event::Damaged) => to(Phase::Accepted),
        (Phase::Pre { tree } | Phase::Preparing { tree, .. }, Event::Deferred { .. }) => {
            to(Phase::Waiting { tree: Some(tree) })
        }
        (Phase::Preparing { tree, previous }, Event::Ready { .. }) => to(Phase::Switching { tree, previous }),
        (Phase::Waiting { .. }, Event::Undone) => Next::Noted,
        (Phase::Switching { tree, previous }, Event::Flipped { .. }) => {
            let tries_left = task.order.trial_tries.saturating_sub(1);
            to(Phase::Trial { tree, previous, tries_left, restarted: false })
        }
        (Phase::Trial { tree, previous, tries_left, restarted: false }, Event::Restarted) => {
            to(Phase::Trial { tree, previous, tries_left, restarted: true })
        }
        (Phase::Trial { tree, previous, restarted: true, .. }, Event::Healthy) => {
            to(Phase::Committing { tree, previous, tries: 0 })
        }
        (Phase::Committing { .. }, Event::Recorded) => to(Phase::Committed),
        (phase @ Phase::RollingBack { .. }, Event::Turned { .. }) => to(phase),
        (Phase::RollingBack { failure, .. }, Event::Reverted) => to(Phase::RolledBack { failure }),
        (Phase::Committed | Phase::RolledBack { .. }, Event::Acknowledged) => to(Phase::Cleanup { end: End::Reported }),
        // Leftovers that cannot be removed cost room, not the result.
        (Phase::Cleanup { .. }, Event::Cleaned | Event::Failed(_)) => Next::Idle,
        (phase, Event::Failed(failure)) => failed(&task.order, phase, failure),
        _ => Next::Nothing,
    }
}

fn failed(order: &Order, phase: Phase, failure: Failure) -> Next {
    match phase {
        Phase::Accepted | Phase::Downloading | Phase::Staging | Phase::Pre { .. } | Phase::Preparing { .. } => {
            Next::Phase(Phase::Cleanup { end: End::Failed(failure) })
        }
        // It has not run yet.
        Phase::Switching { previous, .. } => Next::Phase(Phase::RollingBack { previous, tries: 0, failure }),
        Phase::Trial { tree, previous, .. } => Next::Phase(back(order, tree, previous, failure)),
        Phase::Committing { tree, previous, tries } if tries >= MAX_TRIES => {
            Next::Phase(stuck(Some(tree), previous, failure))
        }
        Phase::RollingBack { previous, tries, .. } if tries >= MAX_TRIES => Next::Phase(stuck(None, previous, failure)),
        Phase::Committing { tree, previous, tries } => {
            Next::Phase(Phase::Committing { tree, previous, tries: tries + 1 })
        }
        // The first failure is the reason for going back and stays it.
        Phase::RollingBack { previous, tries, failure } => {
            Next::Phase(Phase::RollingBack { previous, tries: tries + 1, failure })
        }
        _ => Next::Nothing,
    }
}

/// What being in a phase demands: on entering it, and again when the process starts in it.
fn effects(task: &Task) -> Vec<Effect> {
    use report::Event as Said;
    let say = |event, failure: Option<&Failure>| Effect::Report {
        attempt: task.order.attempt,
        release: task.order.release,
        event,
        failure: failure.cloned(),
    };
    match &task.phase {
        Phase::Accepted => vec![Effect::Work(Work::Prepare)],
        Phase::Downloading => vec![say(Said::Downloading, None), Effect::Work(Work::Fetch)],
        Phase::Staging => vec![Effect::Work(Work::Unpack)],
        Phase::Staged { .. } => vec![say(Said::Staged, None), Effect::CheckIn],
        Phase::Waiting { .. } => {
            let deferred = task.course.deferral.as_ref().map(|deferral| say(Said::Deferred, Some(&deferral.failure)));
            let undo = task.course.prepared.then_some(Effect::Work(Work::Undo));
            deferred.into_iter().chain(undo).collect()
        }
        Phase::Pre { .. } => vec![Effect::Work(Work::Inspect)],
        Phase::Preparing { .. } => vec![Effect::Work(Work::Ready)],
        Phase::Switching { .. } => vec![say(Said::Activating, None), Effect::Work(Work::Flip)],
        Phase::Trial { restarted: false, .. } => vec![say(Said::Verifying, None), Effect::Work(Work::Restart)],
        Phase::Trial { restarted: true, .. } => {
            let asks = task.order.needs_contact.then_some(Effect::CheckIn);
            [Effect::Work(Work::Watch)].into_iter().chain(asks).collect()
        }
        Phase::Committing { tries, .. } => vec![Effect::Work(Work::Record { tries: *tries })],
        Phase::Committed => vec![say(Said::Succeeded, None), Effect::CheckIn],
        Phase::RollingBack { tries, .. } => vec![Effect::Work(Work::Revert { tries: *tries })],
        Phase::RolledBack { failure } => {
            vec![Effect::MarkBad, say(Said::RolledBack, Some(failure)), Effect::CheckIn]
        }
        Phase::Cleanup { end } => {
            let report = match end {
                End::Reported => None,
                End::Cancelled => Some(say(Said::Cancelled, None)),
                End::Failed(failure) => Some(say(Said::Failed, Some(failure))),
            };
            report.into_iter().chain([Effect::Work(Work::Clean)]).collect()
        }
        Phase::Inconsistent { failure, .. } => {
            vec![say(Said::Failed, Some(failure)), Effect::CheckIn, Effect::Work(Work::Undo)]
        }
    }
}

pub(crate) fn permanent(code: Code, text: impl Into<String>) -> Failure {
    Failure { class: FailureClass::Permanent, code: code.as_str().to_owned(), text: text.into() }
}

pub(crate) fn transient(code: Code, text: impl Into<String>) -> Failure {
    Failure { class: FailureClass::Transient, code: code.as_str().to_owned(), text: text.into() }
}

#[cfg(test)]
mod tests;
