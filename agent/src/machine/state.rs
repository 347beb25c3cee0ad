//! The states, as they stand in the journal.

use callboard_proto::{
    digest::Digest,
    ids::Product,
    instruction::ActivateOn,
    release::{Hook, Rollback},
    report::Failure,
    state::AgentState,
    time::Timestamp,
    version::Version,
};
use serde::{Deserialize, Serialize};

use crate::journal::Attempt;

/// Where the agent stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Nothing pending.
    #[default]
    Idle,
    /// One order is being carried out.
    Busy(Box<Task>),
}

/// One order and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) order: Order,
    /// Steps so far; breaks every loop.
    pub(crate) transitions: u8,
    pub(crate) phase: Phase,
    /// What the last answer allowed for the case that the next one cannot be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) right: Option<Right>,
    /// What has come about on the way.
    #[serde(default, skip_serializing_if = "Course::is_new")]
    pub(crate) course: Course,
}

/// What has come about on the way of an order, beside its phase.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Course {
    /// Digests of the order's hooks, in their order, from the tree that was verified before the first of them ran.
    pub(crate) programs: Vec<Digest>,
    /// Hooks of the preparation have begun: what they did is to be undone if no switch follows.
    pub(crate) prepared: bool,
    /// When the hook `backup` had saved the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) backup_at: Option<Timestamp>,
    /// Why the device puts the switch off, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deferral: Option<Deferral>,
    /// The boot in which the link was changed last, if the machine has to be restarted for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) turned: Option<String>,
    /// The boot whose trial `recover` has counted before the product started, until the agent has started too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) counted: Option<String>,
}

impl Course {
    fn is_new(&self) -> bool {
        *self == Self::default()
    }
}

/// The device cannot switch now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Deferral {
    /// When that was so for the first time.
    pub(crate) since: Timestamp,
    /// How often it was so.
    pub(crate) times: u32,
    /// Why, the last time.
    pub(crate) failure: Failure,
}

/// A signed permission to activate without asking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Right {
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// On which occasion.
    pub(crate) on: ActivateOn,
    /// With [`ActivateOn::Boot`]: the machine's boot that it does not count for, because the right is younger or was
    /// of no use then.
    pub(crate) boot: String,
}

impl Right {
    /// Whether it lets the device activate now.
    pub(super) fn allows(&self, occasion: &Occasion) -> bool {
        let in_time = self.not_before <= occasion.now && occasion.now <= self.not_after;
        let booted = self.on != ActivateOn::Boot || self.boot != occasion.boot;
        self.on == occasion.on && in_time && booted
    }
}

/// What may be an occasion to use a right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Occasion {
    /// `Now`: the server cannot be asked. `Shutdown`: the machine goes down. `Boot`: the agent has started, and asked.
    pub(crate) on: ActivateOn,
    pub(crate) now: Timestamp,
    /// The machine's present boot.
    pub(crate) boot: String,
}

/// A verified order for a verified release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) attempt: Attempt,
    /// The release's digest; its document lies in the state directory.
    pub(crate) release: Digest,
    pub(crate) product: Product,
    pub(crate) version: Version,
    pub(crate) epoch: u32,
    pub(crate) counter: u64,
    /// The floor that the release imposes once it is committed.
    pub(crate) min_floor: u64,
    /// Whether the product's service is to be restarted after the switch.
    pub(crate) restart: bool,
    /// Whether the machine is.
    #[serde(default)]
    pub(crate) reboot: bool,
    /// Programs of the release for the stages of the update.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) hooks: Vec<Hook>,
    /// What going back takes.
    #[serde(default)]
    pub(crate) rollback: Rollback,
    /// Whether the server must have been reached under the new version before it is kept.
    #[serde(default)]
    pub(crate) needs_contact: bool,
    /// For how long the switch may be put off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_postpone_s: Option<u32>,
    /// Name of the tree below `versions/`.
    pub(crate) dir: String,
    /// Bytes of all payloads.
    pub(crate) bytes_total: u64,
    /// How often a trial may be begun.
    pub(crate) trial_tries: u8,
}

/// How far an order is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Order and release verified.
    Accepted,
    /// Chunks are arriving.
    Downloading,
    /// Unpacking beside the running version.
    Staging,
    /// A complete tree with this digest is there.
    Staged { tree: Digest },
    /// Told to wait; without a tree the download was not finished.
    Waiting { tree: Option<Digest> },
    /// Making sure of the tree and of what it replaces.
    Pre { tree: Digest },
    /// The hooks before the switch are running.
    Preparing { tree: Digest, previous: Previous },
    /// The link is being flipped.
    Switching { tree: Digest, previous: Previous },
    /// The new version is on probation.
    Trial { tree: Digest, previous: Previous, tries_left: u8, restarted: bool },
    /// Healthy; being written down as installed.
    Committing { tree: Digest, previous: Previous, tries: u8 },
    /// Success, not yet acknowledged.
    Committed,
    /// The link is being flipped back.
    RollingBack { previous: Previous, tries: u8, failure: Failure },
    /// The previous version runs, not yet acknowledged.
    RolledBack { failure: Failure },
    /// Leftovers are being deleted.
    Cleanup { end: End },
    /// Nothing is changed any more.
    Inconsistent {
        failure: Failure,
        /// Between what a person may choose; nothing of an agent that did not write it down.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stuck: Option<Stuck>,
    },
}

/// Between two versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stuck {
    /// The new one's tree, if it may be kept.
    pub(crate) tree: Option<Digest>,
    pub(crate) previous: Previous,
}

/// What `current` was before the switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Previous {
    /// There was none.
    Nothing,
    /// A link with this target.
    Link(String),
    /// A directory, made by the image; it becomes `versions/factory`.
    Directory,
}

/// How an order ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// Its final report was made in an earlier state.
    Reported,
    Cancelled,
    Failed(Failure),
}

impl Phase {
    /// Whether the running version is still untouched.
    pub(crate) const fn is_before_switch(&self) -> bool {
        matches!(
            self,
            Self::Accepted
                | Self::Downloading
                | Self::Staging
                | Self::Staged { .. }
                | Self::Waiting { .. }
                | Self::Pre { .. }
                | Self::Preparing { .. }
        )
    }
}

impl State {
    /// The order at hand.
    pub(crate) fn task(&self) -> Option<&Task> {
        match self {
            Self::Idle => None,
            Self::Busy(task) => Some(task),
        }
    }

    /// Whether a complete tree of `release` waits for its activation.
    pub(crate) fn has_staged(&self, release: Digest) -> bool {
        self.task().is_some_and(|task| {
            let staged = matches!(task.phase, Phase::Staged { .. } | Phase::Waiting { tree: Some(_) });
            staged && task.order.release == release
        })
    }

    /// Whether the order's result is certain.
    #[cfg(test)]
    pub(super) fn is_ended(&self) -> bool {
        self.task().is_some_and(|task| {
            matches!(
                task.phase,
                Phase::Committed | Phase::RolledBack { .. } | Phase::Inconsistent { .. } | Phase::Cleanup { .. }
            )
        })
    }

    /// The failure that this state carries.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        match &self.task()?.phase {
            Phase::RollingBack { failure, .. }
            | Phase::RolledBack { failure }
            | Phase::Inconsistent { failure, .. }
            | Phase::Cleanup { end: End::Failed(failure) } => Some(failure),
            _ => None,
        }
    }

    /// What a check-in calls it.
    pub(crate) fn wire(&self) -> AgentState {
        let Some(task) = self.task() else { return AgentState::Idle };
        match &task.phase {
            // Held before it was complete: for the server that is an unfinished download.
            Phase::Accepted | Phase::Waiting { tree: None } => AgentState::Accepted,
            Phase::Downloading => AgentState::Downloading,
            Phase::Staging => AgentState::Staging,
            Phase::Staged { .. } => AgentState::Staged,
            Phase::Waiting { tree: Some(_) } => AgentState::Waiting,
            Phase::Pre { .. } | Phase::Preparing { .. } => AgentState::Pre,
            Phase::Switching { .. } => AgentState::Switching,
            Phase::Trial { .. } => AgentState::Trial,
            Phase::Committing { .. } => AgentState::Committing,
            Phase::Committed => AgentState::Committed,
            Phase::RollingBack { .. } => AgentState::RollingBack,
            Phase::RolledBack { .. } => AgentState::RolledBack,
            Phase::Cleanup { .. } => AgentState::Cleanup,
            Phase::Inconsistent { .. } => AgentState::Inconsistent,
        }
    }
}
