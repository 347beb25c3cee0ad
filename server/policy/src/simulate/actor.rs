//! A simulated device: when it is there, what it is at, and what it does next.

use std::time::Duration;

use callboard_proto::{
    check_in::Installed,
    ids::AssignmentId,
    report::{Event as Reported, Report},
    state::AssignmentState,
    time::Timestamp,
};

use super::{Assumptions, dice::roll, engine::MOMENT, habits::Habits, waits::PlaceKey};
use crate::{
    device::{Absence, Assignment, Connectivity},
    ledger::Unit,
    release::Release,
};

/// What luck is asked about.
const OFFSET: u64 = 1;
const DOWNLOAD: u64 = 2;
const FAILURE: u64 = 3;

/// A simulated device.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    pub(super) unit: Unit,
    pub(super) habits: Habits,
    /// It never comes.
    pub(super) gone: bool,
    pub(super) task: Option<Task>,
    /// What it does next.
    pub(super) due: Option<(Timestamp, Next)>,
    /// Rises with every check-in: what it waited for before does not count any more.
    pub(super) stamp: u32,
    /// The place that became free, and for which it comes.
    pub(super) woken_by: Option<PlaceKey>,
    /// What it was told at its last check-in about the next one, where that comes before its beat.
    pub(super) told: Option<Told>,
}

/// When a device was told to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// At the check-in of this time.
    pub(super) since: Timestamp,
    /// After so much time.
    pub(super) after: Duration,
    /// It will be told the same then, and after each of its beats, unless something has changed.
    pub(super) again: bool,
}

/// What a device does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It checks in.
    CheckIn,
    /// It is done with what it is at.
    Done,
    /// It activates without asking, as it was allowed to.
    Alone,
    /// Nothing: its silence is noticed.
    Ring,
}

/// What a device is at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) assignment: AssignmentId,
    pub(super) attempt: u32,
    pub(super) stage: Stage,
    /// How long that takes, counted from `since`.
    pub(super) takes: Duration,
    /// Since when it has been at it; `None` while it pauses.
    pub(super) since: Option<Timestamp>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Download,
    Staged,
    Install,
}

impl Actor {
    pub(super) fn new(unit: Unit, now: Timestamp, poll_interval: Duration, assume: &Assumptions) -> Self {
        let key = roll(assume.seed, u64::from(unit.device.number).wrapping_add(1) << 16);
        let poll_ms = i64::try_from(poll_interval.as_millis()).unwrap_or(i64::MAX).max(1);
        let offset_ms = i64::try_from(roll(key, OFFSET) % poll_ms.unsigned_abs()).unwrap_or_default();
        let status = unit.seen(now, poll_interval).status;
        let mut actor = Self {
            habits: Habits { rhythm: unit.rhythm, away: assume.offline, key, offset_ms, poll_ms },
            gone: matches!(status, Connectivity::Unknown | Connectivity::Abandoned) || unit.device.decommissioned,
            task: None,
            due: None,
            stamp: 0,
            woken_by: None,
            told: None,
            unit,
        };
        actor.task = actor.unit.device.assignments.iter().find_map(|one| actor.found(one, assume));
        actor
    }

    /// What it is in the middle of when the simulation begins. It pauses until it has checked in.
    fn found(&self, one: &Assignment, assume: &Assumptions) -> Option<Task> {
        let (stage, takes) = match one.state {
            AssignmentState::Downloading => (Stage::Download, self.download_time(one, assume)),
            AssignmentState::Queued if one.lapsed => (Stage::Download, self.download_time(one, assume)),
            AssignmentState::Staged => (Stage::Staged, Duration::ZERO),
            AssignmentState::Activating | AssignmentState::Verifying => (Stage::Install, assume.install),
            _ => return None,
        };
        let (assignment, attempt) = (one.id, one.attempt);
        Some(Task { assignment, attempt, stage, takes, since: None })
    }

    /// How long it takes to fetch the release in this attempt.
    pub(super) fn download_time(&self, one: &Assignment, assume: &Assumptions) -> Duration {
        let luck = roll(self.luck(one, DOWNLOAD), 0) % 1000;
        assume.download.mul_f64(0.5 + f64::from(u32::try_from(luck).unwrap_or_default()) / 1000.0)
    }

    /// Whether the install of this attempt rolls back.
    pub(super) fn fails(&self, one: &Assignment, assume: &Assumptions) -> bool {
        assume.failures.hits(self.luck(one, FAILURE))
    }

    fn luck(&self, one: &Assignment, what: u64) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = *one.release.as_bytes();
        let release = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        roll(roll(self.habits.key, release ^ u64::from(one.attempt)), what)
    }

    /// Its next check-in from `from` on.
    pub(super) fn check_in_from(&self, from: Timestamp) -> Option<Timestamp> {
        if self.gone { None } else { self.habits.next(from) }
    }

    /// Its next check-in from `from` on, on its beat or because it was told to come then.
    pub(super) fn visit_from(&self, from: Timestamp) -> Option<Timestamp> {
        let beat = self.check_in_from(from)?;
        Some(self.told_from(from).map_or(beat, |told| told.min(beat)))
    }

    /// Its last check-in before `until`, if it is not before `first`.
    pub(super) fn visit_before(&self, until: Timestamp, first: Timestamp) -> Option<Timestamp> {
        let beat = self.habits.last(until, first);
        beat.max(self.told_before(until, beat).filter(|told| *told >= first))
    }

    /// The first time from `from` on for which it was told to come, if it is there without a break until then.
    fn told_from(&self, from: Timestamp) -> Option<Timestamp> {
        let told = self.told.filter(|_| !self.gone)?;
        let base =
            if told.again { self.habits.last(from + MOMENT, told.since).unwrap_or(told.since) } else { told.since };
        let times = if told.again { from.since(base).as_nanos().div_ceil(told.after.as_nanos().max(1)) } else { 1 };
        let at = base + told.after * u32::try_from(times.max(1)).ok()?;
        (at >= from && self.habits.stays(base, at)).then_some(at)
    }

    /// The last time before `until` for which it was told to come. `beat` is its last beat before that.
    fn told_before(&self, until: Timestamp, beat: Option<Timestamp>) -> Option<Timestamp> {
        let told = self.told.filter(|told| !self.gone && told.again)?;
        let base = beat.filter(|beat| *beat >= told.since).unwrap_or(told.since);
        let reach = until.since(base + MOMENT).min(self.poll_interval());
        let most = reach.as_nanos() / told.after.as_nanos().max(1);
        let times = (1..=u32::try_from(most).ok()?).rev();
        times.map(|times| base + told.after * times).find(|at| self.habits.stays(base, *at))
    }

    /// When it checks in next if `until` is when something changes for it: when it was told to, or else at its last
    /// check-in before that, where it is told when to come, or at the first one after it.
    pub(super) fn knock(&self, now: Timestamp, until: Option<Timestamp>) -> Option<Timestamp> {
        let told = self.told_from(now + MOMENT).filter(|_| self.told.is_some_and(|told| !told.again));
        let until = until.and_then(|until| {
            let eve = self.visit_before(until, now + MOMENT).filter(|eve| until.since(*eve) < self.poll_interval());
            eve.or_else(|| self.visit_from(until.max(now)))
        });
        [told, until].into_iter().flatten().min()
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_millis(self.habits.poll_ms.unsigned_abs())
    }

    /// Brings up to date what is known of its presence, as if it had made every check-in since `first`.
    pub(super) fn catch_up(&mut self, now: Timestamp, first: Timestamp, interval: Duration) {
        let seen = self.visit_before(now, first);
        let came = self.habits.came(now, first);
        if came > first && seen.is_some_and(|seen| seen >= came) {
            let back = self.habits.next(came).unwrap_or(now);
            let since = self.habits.last(came, first).or(self.unit.last_seen.filter(|last| *last < first));
            self.unit.absence = Absence::at(back, since, interval, self.unit.absence);
        }
        self.unit.last_seen = seen.max(self.unit.last_seen);
    }

    pub(super) fn assignment(&self, id: AssignmentId) -> Option<&Assignment> {
        self.unit.device.assignments.iter().find(|one| one.id == id)
    }

    /// It stops for now and will go on later.
    pub(super) fn pause(&mut self, now: Timestamp) {
        if let Some(task) = &mut self.task
            && let Some(since) = task.since.take()
        {
            task.takes = task.takes.saturating_sub(self.habits.time(since, now));
        }
    }

    /// When it will be done with what it is at.
    pub(super) fn done_at(&self) -> Option<Timestamp> {
        let task = self.task.as_ref().filter(|_| !self.gone)?;
        self.habits.after(task.since?, task.takes)
    }

    /// What it says of its task.
    pub(super) fn says(&self, task: &Task, event: Reported, now: Timestamp) -> Option<Report> {
        let one = self.assignment(task.assignment)?;
        Some(Report {
            assignment_id: one.id,
            attempt: task.attempt,
            seq: self.unit.last_report(one.id).saturating_add(1),
            event,
            at: now,
            release_sha256: one.release,
            failure: None,
        })
    }

    /// It runs the release from now on.
    pub(super) fn install(&mut self, release: &Release) {
        let installed = &mut self.unit.device.installed;
        let floor = installed.iter().find(|one| one.product == release.product && one.epoch == release.epoch);
        let floor = floor.map_or(0, |one| one.floor).max(release.min_floor);
        installed.retain(|one| one.product != release.product);
        installed.push(Installed {
            product: release.product.clone(),
            version: release.version.clone(),
            release: Some(release.digest),
            epoch: release.epoch,
            counter: release.counter,
            floor,
        });
    }
}
