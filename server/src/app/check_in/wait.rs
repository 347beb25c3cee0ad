//! A check-in that may wait: for how long, and what would be news to it.

use std::time::Duration;

use callboard_proto::{
    check_in::CheckIn,
    digest::Digest,
    ids::AssignmentId,
    instruction::{Action, ActivateOn, Instruction},
    problem::Code,
    state::AssignmentState,
    time::Timestamp,
};
use tokio::time::Instant;

use super::{App, Error, Result, devices::Known};
use crate::app::waiting::Place;

/// This part of the time that a request may take is left for the answer after a wait.
const ANSWER: u32 = 12;
/// What devices that wait, or may, are told: the shortest interval that agents accept unless they are told otherwise. It
/// counts from when they asked, so after a wait it has passed.
const SOON_S: u32 = 10;
/// What devices that wait are told when the server stops, counted from when they asked: so they come back one after the
/// other.
const AFTER_STOP_S: u32 = 60;
/// Between two looks at a decision that is about to change.
const SHORTEST: Duration = Duration::from_secs(1);

/// How a check-in came.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// The digest of its body.
    pub(crate) request: Digest,
    /// Host and port that it was sent to, as far as the device told.
    pub(crate) address: Option<String>,
    /// The digest of the name of the CA that issued the device's certificate.
    pub(crate) issuer: Digest,
    /// When it has to be answered.
    pub(crate) deadline: Instant,
}

/// A check-in from its arrival to its answer.
#[derive(Debug)]
pub(crate) struct Question {
    pub(super) body: CheckIn,
    pub(super) arrival: Arrival,
    /// What its device was told before.
    told: Option<Told>,
    /// If it may wait.
    place: Option<Place>,
    /// When it is answered, whatever the answer is.
    ends: Instant,
    /// Whether what it says of the device was written down.
    pub(super) noted: bool,
}

/// What comes of deciding about it.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The signed answer.
    Signed(Vec<u8>),
    /// There is nothing new; decide again then, or when it rings.
    Later(Instant),
}

/// What a device was told, as far as it acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    action: Action,
    about: Option<(AssignmentId, u32)>,
    times: (Option<Timestamp>, Option<Timestamp>),
    offline_activation: bool,
    activate_on: ActivateOn,
    max_bytes_per_s: Option<u64>,
}

impl Told {
    pub(super) fn of(instruction: &Instruction) -> Self {
        Self {
            action: instruction.action,
            about: instruction.assignment_id.zip(instruction.attempt),
            times: (instruction.not_before, instruction.not_after),
            offline_activation: instruction.offline_activation,
            activate_on: instruction.activate_on,
            max_bytes_per_s: instruction.max_bytes_per_s,
        }
    }
}

impl Question {
    /// A check-in that has arrived.
    pub(crate) fn new(app: &App, known: &Known, body: CheckIn, arrival: Arrival) -> Self {
        let wait = Duration::from_secs(body.wait_s.into()).min(app.poll_interval);
        let ends = (Instant::now() + wait).min(arrival.deadline - app.request_timeout / ANSWER);
        let place = app.waiting.enter(known.record.device.id, !wait.is_zero());
        Self { body, arrival, told: known.told(), place, ends, noted: false }
    }

    /// Waits until something may have changed.
    pub(crate) async fn wait(&self, until: Instant) {
        if let Some(place) = &self.place {
            place.rung(until).await;
        }
    }

    /// Refuses to decide for a check-in that is not the newest of its device: what it says is out of date.
    pub(super) fn check(&self) -> Result<()> {
        if self.place.as_ref().is_some_and(Place::is_over) {
            return Err(Error::refused(
                Code::Unavailable,
                "another check-in of this device came while this one waited",
            ));
        }
        Ok(())
    }

    /// Until when this answer may wait, if it may. `changes_in` is when another one is to be expected.
    pub(super) fn waits(&self, instruction: &Instruction, changes_in: Duration) -> Option<Instant> {
        let now = Instant::now();
        let may = self.place.as_ref().is_some_and(Place::is_open) && now < self.ends;
        let waits = may && !is_news(&self.body, self.told, instruction);
        waits.then(|| self.ends.min(now + changes_in.max(SHORTEST)))
    }

    /// When it is to ask again: soon if it may wait then.
    pub(super) fn next_checkin_s(&self, instruction: &Instruction) -> u32 {
        let next = instruction.next_checkin_s;
        // What it knows and does not do would not wait the next time either.
        let in_vain = self.told == Some(Told::of(instruction)) && is_news(&self.body, self.told, instruction);
        match &self.place {
            Some(place) if !place.is_open() => next.min(AFTER_STOP_S),
            Some(_) if !in_vain => next.min(SOON_S),
            _ => next,
        }
    }
}

/// Whether the answer says what the device does not know, or does not do.
fn is_news(body: &CheckIn, told: Option<Told>, instruction: &Instruction) -> bool {
    let known = told == Some(Told::of(instruction));
    let at = body.progress.as_ref().map(|progress| (progress.assignment_id, progress.attempt));
    let at_it = known && instruction.assignment_id.zip(instruction.attempt) == at;
    let state = body.state.assignment_state();
    let old = match instruction.action {
        Action::None => known || (state.is_none() && at.is_none()),
        Action::Hold => known,
        Action::Download => at_it && state == Some(AssignmentState::Downloading),
        Action::Install => at_it && matches!(state, Some(AssignmentState::Activating | AssignmentState::Verifying)),
        Action::Cancel => false,
    };
    !old
}
