//! Permission: roles, and the part of the fleet in which each holds.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// See.
    Viewer,
    /// See, and run the fleet: devices, sites, enrolment, freezes, rollouts.
    Operator,
    /// See, and publish what was signed: payloads, releases, roots, heads.
    Releaser,
    /// See, and let rollouts go on as a second person: countersign, approve phases, skip soaks, open phases.
    Approver,
    /// Everything, and who else may do what.
    Admin,
}

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Every role has it.
    View,
    /// Operators.
    Operate,
    /// Releasers.
    Release,
    /// Approvers.
    Approve,
    /// Admins, who have every other permission too.
    Administer,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Viewer, Self::Operator, Self::Releaser, Self::Approver, Self::Admin];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Releaser => "releaser",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }

    /// Whether it has this permission.
    pub const fn allows(self, permission: Permission) -> bool {
        matches!(
            (self, permission),
            (Self::Admin, _)
                | (_, Permission::View)
                | (Self::Operator, Permission::Operate)
                | (Self::Releaser, Permission::Release)
                | (Self::Approver, Permission::Approve)
        )
    }

    /// Whether a grant of it can be limited to a part of the fleet. Releases and people are the whole fleet's.
    pub const fn can_be_limited(self) -> bool {
        !matches!(self, Self::Releaser | Self::Admin)
    }
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 5] = [Self::View, Self::Operate, Self::Release, Self::Approve, Self::Administer];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Operate => "operate",
            Self::Release => "release",
            Self::Approve => "approve",
            Self::Administer => "administer",
        }
    }

    /// The roles that have it.
    pub fn roles(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| role.allows(self))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role; one is viewer, operator, releaser, approver or admin")]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// A role that somebody has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Which.
    pub role: Role,
    /// Only for the devices that this selector selects; for the whole fleet without one. A releaser and an admin have
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}

impl Grant {
    /// An admin's.
    pub const fn everything() -> Self {
        Self { role: Role::Admin, selector: None }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            Some(selector) => write!(f, "{} for {selector}", self.role),
            None => self.role.fmt(f),
        }
    }
}
