//! The counters of a phase: what gates and progress bars look at, so that nobody counts rows.

use std::iter::Sum;

use callboard_proto::state::AssignmentState;

use crate::{
    counted,
    device::{Assignment, Deferral},
};

/// What became of the devices of one phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhaseCounts {
    /// Members, without the excluded ones.
    pub size: u64,
    /// Assignments in this state.
    pub queued: u64,
    /// Assignments in this state.
    pub downloading: u64,
    /// Assignments in this state.
    pub staged: u64,
    /// Assignments in this state.
    pub activating: u64,
    /// Assignments in this state.
    pub verifying: u64,
    /// Assignments in this state.
    pub succeeded: u64,
    /// Assignments in this state.
    pub rolled_back: u64,
    /// Assignments in this state.
    pub failed: u64,
    /// Assignments in this state.
    pub timed_out: u64,
    /// Assignments in this state.
    pub cancelled: u64,
    /// Assignments in this state.
    pub expired: u64,
    /// Of those that wait for a grant: devices that could go on, by why they do not.
    pub deferred: Deferrals,
    /// Of those in activation: devices that have begun to switch and have not been heard of for long.
    pub silent: u64,
    /// Failures (rolled back or failed) that an operator took note of: the gate looks past them.
    pub acknowledged: u64,
}

/// Devices that wait, counted by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deferrals {
    /// No window is open.
    pub window: u64,
    /// Their site trades.
    pub trading_hours: u64,
    /// A freeze is in force.
    pub freeze: u64,
    /// Something on the device is in the way.
    pub inhibitor: u64,
    /// A person put it off.
    pub user: u64,
}

impl Deferrals {
    /// The counter of `why`.
    pub fn of(&mut self, why: Deferral) -> &mut u64 {
        match why {
            Deferral::Window => &mut self.window,
            Deferral::TradingHours => &mut self.trading_hours,
            Deferral::Freeze => &mut self.freeze,
            Deferral::Inhibitor => &mut self.inhibitor,
            Deferral::User => &mut self.user,
        }
    }

    /// All of them.
    pub fn total(mut self) -> u64 {
        Deferral::ALL.into_iter().map(|why| *self.of(why)).sum()
    }
}

impl PhaseCounts {
    /// The counter of assignments in `state`.
    pub fn of(&mut self, state: AssignmentState) -> &mut u64 {
        match state {
            AssignmentState::Queued => &mut self.queued,
            AssignmentState::Downloading => &mut self.downloading,
            AssignmentState::Staged => &mut self.staged,
            AssignmentState::Activating => &mut self.activating,
            AssignmentState::Verifying => &mut self.verifying,
            AssignmentState::Succeeded => &mut self.succeeded,
            AssignmentState::RolledBack => &mut self.rolled_back,
            AssignmentState::Failed => &mut self.failed,
            AssignmentState::TimedOut => &mut self.timed_out,
            AssignmentState::Cancelled => &mut self.cancelled,
            AssignmentState::Expired => &mut self.expired,
        }
    }

    /// Counts an assignment that was made, changed or forgotten: as it was, and as it is.
    pub fn recount(&mut self, was: Option<&Assignment>, is: Option<&Assignment>) {
        if let Some(one) = was {
            self.each(one, |count| *count = count.saturating_sub(1));
        }
        if let Some(one) = is {
            self.each(one, |count| *count += 1);
        }
    }

    /// Every counter in which an assignment counts.
    fn each(&mut self, one: &Assignment, change: impl Fn(&mut u64)) {
        change(self.of(one.state));
        if let Some(why) = one.deferral() {
            change(self.deferred.of(why));
        }
        if one.silent {
            change(&mut self.silent);
        }
        if one.is_acknowledged() {
            change(&mut self.acknowledged);
        }
    }

    /// Gates look past the failures so far.
    pub fn acknowledge(&mut self) {
        self.acknowledged = self.rolled_back + self.failed;
    }

    /// Whether an assignment is under way.
    pub const fn at_work(&self) -> bool {
        self.queued + self.downloading + self.staged + self.activating + self.verifying > 0
    }

    /// Devices that have no final state and may still get one, with or without an assignment.
    pub fn open(&self) -> u64 {
        self.size.saturating_sub(self.done())
    }

    /// Members without an assignment.
    pub fn untouched(&self) -> u64 {
        self.open().saturating_sub(self.queued + self.downloading + self.staged + self.in_activation())
    }

    /// Devices that are left alone.
    pub fn in_activation(&self) -> u64 {
        self.activating + self.verifying
    }

    /// Devices from which nothing more is expected.
    pub fn done(&self) -> u64 {
        self.succeeded + self.rolled_back + self.failed + self.timed_out + self.cancelled + self.expired
    }

    /// Failures that may not turn into successes by themselves.
    pub(super) fn final_failures(&self) -> u64 {
        (self.rolled_back + self.failed).saturating_sub(self.acknowledged)
    }

    /// Devices that failed, as far as is known.
    pub(crate) fn failures(&self) -> u64 {
        self.final_failures() + self.timed_out
    }

    /// Devices that the gate can learn from.
    pub(crate) fn completed(&self) -> u64 {
        self.succeeded + self.failures()
    }

    /// Devices that can say something about the release, or have.
    pub(super) fn asked(&self) -> u64 {
        self.size.saturating_sub(self.cancelled + self.expired)
    }

    /// Devices that the gate waits for.
    pub(super) fn counted_size(&self) -> u64 {
        let acknowledged = self.acknowledged.min(self.rolled_back + self.failed);
        self.asked().saturating_sub(acknowledged)
    }

    /// What became of the devices that are done, in words; failures are always named.
    pub(super) fn outcome(&self) -> String {
        if self.size == 0 {
            return "no device needs the release".to_owned();
        }
        let are = if self.size == 1 { "is" } else { "are" };
        let done = format!("{} of {} {are} done", self.done(), counted(self.size, "device"));
        let others = [
            (self.rolled_back, "rolled back"),
            (self.failed, "failed"),
            (self.timed_out, "timed out"),
            (self.cancelled + self.expired, "called off"),
        ];
        if others.iter().all(|(count, _)| *count == 0) {
            return done;
        }
        let counts =
            [(self.succeeded, "succeeded")].into_iter().chain(others.into_iter().filter(|(count, _)| *count > 0));
        let words: Vec<String> = counts.map(|(count, word)| format!("{count} {word}")).collect();
        format!("{done}: {}", words.join(", "))
    }
}

impl Sum for PhaseCounts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, one| {
            for state in AssignmentState::ALL {
                let mut one = one;
                *sum.of(state) += *one.of(state);
            }
            sum.size += one.size;
            for why in Deferral::ALL {
                *sum.deferred.of(why) += *one.deferred.clone().of(why);
            }
            sum.silent += one.silent;
            sum.acknowledged += one.acknowledged;
            sum
        })
    }
}
