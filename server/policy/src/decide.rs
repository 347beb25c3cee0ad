//! The decision: what one device is to do now, and why.
//!
//! [`decide`] answers a check-in and [`explain`] lists in addition what became of every active rollout. Both are the
//! same walk over the catalog, in which the first rollout with something to do wins:
//!
//! 1. What the device says it runs is the truth: an open assignment of a release that it runs is closed, and one that
//!    succeeded of a release that it runs no more has failed.
//! 2. A device that is at what was called off is told so, and one that is activating is left alone.
//! 3. What is withheld from a device wins over every rollout: its site is closed or suspended, one of them is held; or
//!    from every device: the root or the head has expired.
//! 4. An assignment of a rollout that was cancelled or has ended is dropped.
//! 5. Rollouts in the order of the catalog. The first one of a product that is for this device and has begun claims
//!    it, though it may still be waiting for something, and later ones of that product are superseded until the
//!    device is through with the first.
//!
//! A [`Step`] is a proposal: the server takes it in a transaction that finds the catalog's generation and the device
//! unchanged and a place under the rollout's caps, or decides again.

mod admission;
mod judge;
mod stones;
mod verdict;
mod walk;
mod words;

use std::{fmt, time::Duration};

use callboard_proto::{
    ids::{AssignmentId, RolloutId},
    instruction::{ActivateOn, Reason},
    time::Timestamp,
};
use judge::Case;
pub(crate) use stones::hint;
pub use verdict::{Admission, Verdict};

use crate::{
    assignment::Event,
    audience::Exclusion,
    catalog::Catalog,
    device::{Contact, Deferral, Device},
    guard::Loads,
    release::Misfit,
    rollout::Rollout,
    window::Span,
};

/// Until the next check-in when there is more to decide, but this answer was needed first. It is the shortest interval
/// that agents accept unless they are told otherwise.
pub const SOON: Duration = Duration::from_secs(10);
/// Until the next check-in of a device that waits for another one of its site: there are few that could take the place
/// when it becomes free.
pub const SITE_RETRY: Duration = Duration::from_secs(60);
/// Devices that wait for a window come back in its first part: a quarter of it, and at most this.
pub const MAX_SPREAD: Duration = Duration::from_secs(600);

/// What one device is to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What the server is to try.
    pub step: Step,
    /// Why.
    pub reason: Reason,
    /// When the device is to ask again.
    pub next_check_in: Duration,
    /// What it may do by itself with what the step is about. It holds until the next decision.
    pub right: Option<Right>,
    /// Whether something was in the way of an offer that is made only when a device connects, or may have been. It is
    /// made at a later check-in of the same connection then: keep [`Contact::owed_after`] for [`Contact::owed`].
    pub owes_offer: bool,
    /// Every rollout of the catalog, in order. Empty unless asked for by [`explain`].
    pub considered: Vec<Considered>,
}

/// A device may activate by itself between two instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// Not before.
    pub not_before: Timestamp,
    /// Not to be begun after.
    pub not_after: Timestamp,
    /// When: with [`ActivateOn::Now`] if it cannot ask.
    pub on: ActivateOn,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = match self.on {
            ActivateOn::Now => "if it cannot ask, it may install by itself",
            ActivateOn::Shutdown => "it installs when it is shut down",
            ActivateOn::Boot => "it installs when it has started anew",
        };
        write!(f, "{when}, from {} to {}", self.not_before, self.not_after)
    }
}

/// What became of one rollout in a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// Which.
    pub rollout: RolloutId,
    /// For programs.
    pub verdict: Verdict,
    /// In words.
    pub reason: Reason,
}

/// What the server is to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: answer `none`.
    Nothing,
    /// Answer `hold`: the device keeps what it has.
    Hold {
        /// What it has, if anything.
        assignment: Option<AssignmentId>,
    },
    /// Make an assignment, or move the queued one on; then answer `download`.
    GrantDownload {
        /// Of which rollout.
        rollout: RolloutId,
        /// In which phase.
        phase: usize,
        /// What this means for the device's membership.
        admission: Admission,
    },
    /// Answer `download` again.
    ContinueDownload {
        /// Of which assignment.
        assignment: AssignmentId,
    },
    /// Move the staged assignment to activating; then answer `install`.
    GrantActivation {
        /// Which assignment.
        assignment: AssignmentId,
        /// Activation is not to be begun after.
        not_after: Option<Timestamp>,
    },
    /// Answer `install` again: the grant stands.
    ContinueActivation {
        /// Of which assignment.
        assignment: AssignmentId,
        /// Activation is not to be begun after; may have passed. A device that has begun finishes.
        not_after: Option<Timestamp>,
    },
    /// Apply [`CancelWhy::event`] to the assignment; then answer `cancel`.
    Cancel {
        /// Which assignment.
        assignment: AssignmentId,
        /// Why.
        why: CancelWhy,
    },
    /// Answer `cancel`: the assignment was called off already, and the device is still at it.
    Recall {
        /// Which assignment.
        assignment: AssignmentId,
    },
    /// Close the assignment as succeeded: the device runs the release.
    CloseAsInstalled {
        /// Which assignment.
        assignment: AssignmentId,
    },
    /// Apply [`Event::Regressed`]: the device runs something older again, or has the product no more. Then decide again.
    Regress {
        /// Which assignment.
        assignment: AssignmentId,
    },
    /// Apply [`Event::FailedForNow`]: the device has come back and knows nothing of it. Then decide again.
    TryAgain {
        /// Which assignment.
        assignment: AssignmentId,
    },
    /// Write down that the silent device was heard of again. Then decide again.
    Hear {
        /// Which assignment.
        assignment: AssignmentId,
    },
    /// Write down why the assignment waits. Then decide again.
    Defer {
        /// Which assignment.
        assignment: AssignmentId,
        /// `None` if nothing defers it any more.
        why: Option<Deferral>,
    },
    /// Let the member count no longer, so that no gate waits for it; then answer `none`.
    Exclude {
        /// Of which rollout.
        rollout: RolloutId,
        /// In which phase.
        phase: usize,
        /// Why.
        why: Exclusion,
    },
}

impl Step {
    /// Whether a device can be answered with it. After the others, which are the server's own business, it is decided
    /// anew.
    pub const fn is_answer(self) -> bool {
        !matches!(
            self,
            Self::CloseAsInstalled { .. }
                | Self::Regress { .. }
                | Self::TryAgain { .. }
                | Self::Hear { .. }
                | Self::Defer { .. }
                | Self::Exclude { .. }
        )
    }
}

/// Why an assignment is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelWhy {
    /// The rollout was cancelled.
    RolloutCancelled,
    /// The rollout's end has passed.
    RolloutEnded,
    /// Another rollout of the same product comes first.
    Superseded {
        /// Which one.
        by: RolloutId,
    },
    /// The device cannot take the release any more.
    NoLongerFits(Misfit),
}

impl CancelWhy {
    /// What happens to the assignment. A superseded one goes back into the queue: its turn comes when the device is
    /// through with the other rollout, if the release still fits then.
    pub const fn event(self) -> Event {
        match self {
            Self::RolloutCancelled | Self::NoLongerFits(_) => Event::Cancelled,
            Self::RolloutEnded => Event::Expired,
            Self::Superseded { .. } => Event::Requeued,
        }
    }
}

/// Decides what `device` is to do. Rollouts that are not in `loads` are taken to have a place under their caps.
pub fn decide(now: Timestamp, catalog: &Catalog, device: &Device, contact: &Contact, loads: &Loads) -> Decision {
    walk::walk(&Case::of(now, catalog, device, contact, loads), None)
}

/// Decides the same, and tells what became of every rollout.
pub fn explain(now: Timestamp, catalog: &Catalog, device: &Device, contact: &Contact, loads: &Loads) -> Decision {
    let mut considered = Vec::with_capacity(catalog.rollouts.len());
    let decision = walk::walk(&Case::of(now, catalog, device, contact, loads), Some(&mut considered));
    Decision { considered, ..decision }
}

/// More stretches than this are not looked at: one an hour for as long as anybody asks, of windows that open so often.
const MAX_STRETCHES: usize = 840;

/// When nothing but people and gates is in the way of an install of `rollout` on `device`, from `from` to `to`: inside of
/// its windows up to its deadline, outside of trading hours and freezes, and not before it begins or after it ends. They
/// come in their order, and none overlaps another.
pub fn stretches(catalog: &Catalog, rollout: &Rollout, device: &Device, from: Timestamp, to: Timestamp) -> Vec<Span> {
    admission::stretches(catalog, rollout, device, (from, to), MAX_STRETCHES)
}

/// The first of them.
pub fn first_stretch(
    catalog: &Catalog,
    rollout: &Rollout,
    device: &Device,
    from: Timestamp,
    to: Timestamp,
) -> Option<Span> {
    admission::stretches(catalog, rollout, device, (from, to), 1).pop()
}

#[cfg(test)]
mod tests;
