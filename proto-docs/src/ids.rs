//! Identities: UUID v7 ids and short names, each with its own type.
//!
//! Ids are made by the caller (`Id::from_uuid`); nothing here reads a clock or draws random numbers.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::parsed::parsed;

/// What an [`Id`] or a [`Name`] names. Never constructed.
pub trait Kind {
    /// The noun used in error messages.
    const NOUN: &'static str;
}

/// Marker types for [`Id`] and [`Name`].
pub mod kind {
    use super::Kind;

    /// A registered unit.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Device {}
    /// A place where devices stand.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Site {}
    /// One updatable piece of software.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Product {}
    /// One release, one selector, one policy.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Rollout {}
    /// One device in one rollout.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Assignment {}
    /// A permission to enrol.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Token {}
    /// A key that asked to become a device and waits for an operator.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Enrolment {}
    /// Dates on which nothing is offered or installed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Freeze {}

    impl Kind for Device {
        const NOUN: &'static str = "device";
    }
    impl Kind for Site {
        const NOUN: &'static str = "site";
    }
    impl Kind for Product {
        const NOUN: &'static str = "product";
    }
    impl Kind for Rollout {
        const NOUN: &'static str = "rollout";
    }
    impl Kind for Assignment {
        const NOUN: &'static str = "assignment";
    }
    impl Kind for Token {
        const NOUN: &'static str = "token";
    }
    impl Kind for Enrolment {
        const NOUN: &'static str = "enrolment";
    }
    impl Kind for Freeze {
        const NOUN: &'static str = "freeze";
    }
}

/// A UUID that names one `K`; hyphenated lower-case text on the wire, 16 bytes at rest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id<K>(Uuid, PhantomData<fn() -> K>);

/// Id of a device.
pub type DeviceId = Id<kind::Device>;
/// Id of a rollout.
pub type RolloutId = Id<kind::Rollout>;
/// Id of an assignment.
pub type AssignmentId = Id<kind::Assignment>;
/// Id of an enrolment or API token.
pub type TokenId = Id<kind::Token>;
/// Names an enrolment that waits for an operator.
pub type EnrolmentId = Id<kind::Enrolment>;

impl<K> Id<K> {
    /// Wraps a UUID that the caller made.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid, PhantomData)
    }

    /// Reads the 16 bytes of an id at rest.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().map(Self::from_uuid)
    }

    /// The 16 bytes as they are stored.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The UUID itself.
    pub const fn uuid(&self) -> Uuid {
        self.0
    }
}

impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl<K: Kind> FromStr for Id<K> {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        Uuid::try_parse(text).map(Self::from_uuid).map_err(|source| BadId { noun: K::NOUN, source })
    }
}

impl<K> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

/// Text that is not a UUID.
#[derive(Debug, thiserror::Error)]
#[error("not a {noun} id (a UUID such as 0192f0c1-7e8a-7c3e-9d54-3f1f6a2b8c11): {source}")]
pub struct BadId {
    noun: &'static str,
    source: uuid::Error,
}

/// Longest [`Name`]: fits a table cell, an index key and a DNS label.
pub const MAX_NAME_LEN: usize = 64;

/// A short name chosen by people: 1 to 64 of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<K>(String, PhantomData<fn() -> K>);

/// Name of a device, unique in the registry.
pub type DeviceName = Name<kind::Device>;
/// Id of a site; sites are named by people.
pub type SiteId = Name<kind::Site>;
/// Name of a product.
pub type Product = Name<kind::Product>;
/// Name of a rollout.
pub type RolloutName = Name<kind::Rollout>;
/// Name of a freeze.
pub type FreezeName = Name<kind::Freeze>;

impl<K> Name<K> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<K: Kind> FromStr for Name<K> {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        let first = text.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if first && text.len() <= MAX_NAME_LEN && text.bytes().all(legal) {
            Ok(Self(text.to_owned(), PhantomData))
        } else {
            Err(BadName { noun: K::NOUN, text: text.chars().take(MAX_NAME_LEN + 1).collect() })
        }
    }
}

impl<K> fmt::Display for Name<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<K> fmt::Debug for Name<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<K> Serialize for Name<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, K: Kind> Deserialize<'de> for Name<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

/// Text that is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {noun} name: 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit")]
pub struct BadName {
    noun: &'static str,
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_could_be_a_path_or_an_escape() {
        for bad in ["", ".", "..", "a/b", "-x", "ä", "a b", "a\0", &"x".repeat(65)] {
            assert!(bad.parse::<SiteId>().is_err(), "{bad:?}");
        }
        for good in ["NYC-001", "pos-app", "a", "1.2_3", &"x".repeat(64)] {
            assert_eq!(good.parse::<SiteId>().map(|name| name.to_string()), Ok(good.to_owned()));
        }
    }
}
