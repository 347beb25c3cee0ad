//! What came of a simulation.

use std::time::Duration;

use callboard_proto::{ids::RolloutId, time::Timestamp};

use super::{SimulateError, actor::Actor, engine::HOUR};
use crate::{
    gate::PhaseCounts,
    ledger::{Ledger, Standing},
    rollout::RolloutState,
};

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;

/// What came of a simulation.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    /// When it began.
    pub from: Timestamp,
    /// How far it went.
    pub to: Timestamp,
    /// What happened to the rollout, oldest first.
    pub marks: Vec<Mark>,
    /// How it stood and what it cost, hour by hour, until nothing more happened.
    pub hours: Vec<Hour>,
    /// How the rollout ended, or stood at the end.
    pub state: RolloutState,
    /// Why.
    pub state_reason: Option<String>,
    /// How each phase stood at the end.
    pub phases: Vec<PhaseCounts>,
    /// Devices that were played.
    pub fleet: u64,
    /// Of them, those that stay away: never seen, abandoned or out of service.
    pub gone: u64,
    /// Check-ins that were played; all others would have changed nothing.
    pub played: u64,
}

/// Something that happened to the rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: What,
    /// In words.
    pub text: String,
}

/// What can happen to a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It was started.
    Started,
    /// The gate of this phase was met.
    GateMet(usize),
    /// It was met no longer.
    GateLost(usize),
    /// A person approved this phase.
    Approved(usize),
    /// This phase was opened.
    PhaseOpened(usize),
    /// It paused itself.
    Paused,
    /// A halt rule cancelled it.
    Cancelled,
    /// A halt rule cancelled it, and brought another release to the devices that had got its.
    TakenBack,
    /// It completed.
    Completed,
}

/// One hour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hour {
    /// When it ended.
    pub until: Timestamp,
    /// How each phase stood then.
    pub phases: Vec<PhaseCounts>,
    /// Check-ins of the whole fleet.
    pub check_ins: u64,
    /// Downloads that were offered.
    pub offers: u64,
    /// The most of them in one minute.
    pub offers_in_busiest_minute: u64,
    /// Installs that were granted.
    pub installs: u64,
    /// The most devices that were downloading at the same time.
    pub downloading: u64,
}

/// Writes it down.
#[derive(Debug)]
pub(super) struct Recorder {
    id: RolloutId,
    from: Timestamp,
    marks: Vec<Mark>,
    hours: Vec<Hour>,
    hour: Hour,
    minute: (i64, u64),
    pub(super) played: u64,
}

impl Recorder {
    pub(super) fn new(id: RolloutId, from: Timestamp) -> Self {
        let until = Timestamp::from_millis((from.millis().div_euclid(HOUR_MS) + 1) * HOUR_MS);
        let hour = Hour { until, ..Hour::default() };
        Self { id, from, marks: Vec::new(), hours: Vec::new(), hour, minute: (0, 0), played: 0 }
    }

    pub(super) fn mark(&mut self, at: Timestamp, what: What, text: String) {
        self.marks.push(Mark { at, what, text });
    }

    pub(super) fn played(&mut self) {
        self.played += 1;
    }

    /// Ends the hours that are over before `now`.
    pub(super) fn until(&mut self, now: Timestamp, ledger: &Ledger) {
        while self.hour.until <= now {
            self.end_hour(ledger);
        }
    }

    pub(super) fn offered(&mut self, now: Timestamp, ledger: &Ledger) {
        self.hour.offers += 1;
        let minute = now.millis().div_euclid(MINUTE_MS);
        self.minute = if self.minute.0 == minute { (minute, self.minute.1 + 1) } else { (minute, 1) };
        self.hour.offers_in_busiest_minute = self.hour.offers_in_busiest_minute.max(self.minute.1);
        self.hour.downloading = self.hour.downloading.max(self.downloading(ledger));
    }

    pub(super) fn granted(&mut self) {
        self.hour.installs += 1;
    }

    fn downloading(&self, ledger: &Ledger) -> u64 {
        ledger.standing(self.id).map_or(0, |standing| standing.counts.iter().map(|counts| counts.downloading).sum())
    }

    fn end_hour(&mut self, ledger: &Ledger) {
        let next = Hour { until: self.hour.until + HOUR, downloading: self.downloading(ledger), ..Hour::default() };
        let phases = phases(ledger.standing(self.id));
        let done = std::mem::replace(&mut self.hour, next);
        self.hours.push(Hour { phases, ..done });
    }

    /// Closes the books.
    pub(super) fn end(
        mut self,
        to: Timestamp,
        ledger: &Ledger,
        actors: &[Actor],
        given_up: &dyn Fn() -> bool,
    ) -> Result<Timeline, SimulateError> {
        self.end_hour(ledger);
        self.count_check_ins(actors, given_up)?;
        let rollout = ledger.rollout(self.id);
        Ok(Timeline {
            from: self.from,
            to,
            state: rollout.map_or(RolloutState::Draft, |rollout| rollout.state),
            state_reason: rollout.and_then(|rollout| rollout.state_reason.clone()),
            phases: phases(ledger.standing(self.id)),
            fleet: count(actors.len()),
            gone: count(actors.iter().filter(|actor| actor.gone).count()),
            played: self.played,
            marks: self.marks,
            hours: self.hours,
        })
    }

    /// Every device that is there checks in on its beat, whether that was played or not.
    fn count_check_ins(&mut self, actors: &[Actor], given_up: &dyn Fn() -> bool) -> Result<(), SimulateError> {
        for hour in &mut self.hours {
            if given_up() {
                return Err(SimulateError::GivenUp);
            }
            let began = hour.until - HOUR;
            let there = actors.iter().filter(|actor| !actor.gone && actor.habits.is_there(began));
            let beats = there.map(|actor| HOUR_MS.unsigned_abs() / actor.habits.poll_ms.unsigned_abs().max(1));
            let part = hour.until.since(began.max(self.from));
            hour.check_ins = share(beats.sum(), part);
        }
        Ok(())
    }
}

/// So much of an hour's worth.
fn share(of_hour: u64, part: Duration) -> u64 {
    of_hour.saturating_mul(part.as_secs()) / HOUR.as_secs()
}

fn phases(standing: Option<&Standing>) -> Vec<PhaseCounts> {
    standing.map(|standing| standing.counts.clone()).unwrap_or_default()
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
