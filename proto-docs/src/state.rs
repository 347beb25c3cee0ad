//! The agent's states, the server's assignment states, and which agent state shows as which assignment state.

use serde::{Deserialize, Serialize};

/// Where an agent stands, as it says in each check-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// Nothing pending.
    Idle,
    /// Order and release verified, and both written down.
    Accepted,
    /// Chunks are arriving.
    Downloading,
    /// The verified payload is being unpacked.
    Staging,
    /// A complete tree stands beside the running one.
    Staged,
    /// Staged, and told or forced to wait.
    Waiting,
    /// Preparing the switch.
    Pre,
    /// The link is being flipped.
    Switching,
    /// The new release runs on probation.
    Trial,
    /// Healthy; the floor is being raised.
    Committing,
    /// Success, not yet acknowledged by the server.
    Committed,
    /// The link is being flipped back.
    RollingBack,
    /// The previous release runs again; not yet acknowledged.
    RolledBack,
    /// Leftovers are being deleted.
    Cleanup,
    /// Going back was impossible. Nothing is changed any more; polling goes on.
    Inconsistent,
}

impl AgentState {
    /// Every agent state, in the order of a successful update.
    pub const ALL: [Self; 15] = [
        Self::Idle,
        Self::Accepted,
        Self::Downloading,
        Self::Staging,
        Self::Staged,
        Self::Waiting,
        Self::Pre,
        Self::Switching,
        Self::Trial,
        Self::Committing,
        Self::Committed,
        Self::RollingBack,
        Self::RolledBack,
        Self::Cleanup,
        Self::Inconsistent,
    ];

    /// The assignment state that the server shows for an agent in this state; `None` without an assignment.
    pub const fn assignment_state(self) -> Option<AssignmentState> {
        Some(match self {
            Self::Idle | Self::Cleanup => return None,
            Self::Accepted | Self::Downloading | Self::Staging => AssignmentState::Downloading,
            Self::Staged | Self::Waiting => AssignmentState::Staged,
            Self::Pre | Self::Switching => AssignmentState::Activating,
            Self::Trial | Self::Committing | Self::RollingBack => AssignmentState::Verifying,
            Self::Committed => AssignmentState::Succeeded,
            Self::RolledBack => AssignmentState::RolledBack,
            Self::Inconsistent => AssignmentState::Failed,
        })
    }
}

/// Where one device stands in one rollout; the server's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AssignmentState {
    /// Waiting for its (next) download grant.
    Queued,
    /// Holds a download grant.
    Downloading,
    /// Complete on the device, waiting for its activation grant; holds nothing.
    Staged,
    /// Holds an activation grant; left alone from here on.
    Activating,
    /// The new release runs on probation.
    Verifying,
    /// The new release is committed.
    Succeeded,
    /// The new release failed and the previous one runs again.
    RolledBack,
    /// The attempt failed and no other will be made.
    Failed,
    /// Silence for too long after the activation grant; a late success still wins.
    TimedOut,
    /// Called off before activation.
    Cancelled,
    /// The rollout ended before the device began to activate.
    Expired,
}

impl AssignmentState {
    /// Every assignment state.
    pub const ALL: [Self; 11] = [
        Self::Queued,
        Self::Downloading,
        Self::Staged,
        Self::Activating,
        Self::Verifying,
        Self::Succeeded,
        Self::RolledBack,
        Self::Failed,
        Self::TimedOut,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Downloading => "downloading",
            Self::Staged => "staged",
            Self::Activating => "activating",
            Self::Verifying => "verifying",
            Self::Succeeded => "succeeded",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Whether nothing more is expected of this assignment.
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::RolledBack | Self::Failed | Self::TimedOut | Self::Cancelled | Self::Expired
        )
    }
}
