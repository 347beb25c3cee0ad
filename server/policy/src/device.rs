//! What is known about one device when a decision is made.
//!
//! The server fills [`Device`] from its registry and the facts of the check-in, and [`Contact`] from the check-in
//! itself. Whether a device is online is derived here and stored nowhere.

use std::{collections::BTreeMap, time::Duration};

use callboard_proto::{
    check_in::Installed,
    digest::Digest,
    ids::{AssignmentId, DeviceId, DeviceName, Product, RolloutId, SiteId},
    state::AssignmentState,
    time::Timestamp,
};
use chrono_tz::Tz;

use crate::{
    audience::Exclusion,
    release::Release,
    site::{self, SiteRules, Suspension},
    window::Span,
};

/// Silence after which a device counts as abandoned, unless configured otherwise.
pub const DEFAULT_ABANDONED_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

/// One registered unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Its identity.
    pub id: DeviceId,
    /// Its dense number: what membership sets hold.
    pub number: u32,
    /// Its unique name.
    pub name: DeviceName,
    /// Where it stands.
    pub site: Option<SiteId>,
    /// The site's time zone.
    pub site_tz: Option<Tz>,
    /// What its site imposes on it.
    pub site_rules: SiteRules,
    /// Effective labels: its own over its site's.
    pub labels: BTreeMap<String, String>,
    /// Reported hardware model; empty until it reported.
    pub hw: String,
    /// Reported processor architecture; empty until it reported.
    pub arch: String,
    /// Reported version of the agent; empty until it reported.
    pub agent: String,
    /// Reported time zone, where it is one that this program knows.
    pub tz: Option<Tz>,
    /// Reported channels that it accepts.
    pub channels: Vec<String>,
    /// Reported (or imported) software, at most one entry a product.
    pub installed: Vec<Installed>,
    /// Reported attributes.
    pub attributes: BTreeMap<String, String>,
    /// When it got its certificate; `None` for a device that was imported and has not enrolled.
    pub enrolled_at: Option<Timestamp>,
    /// Taken out of service for good.
    pub decommissioned: bool,
    /// An operator's hold.
    pub held: Option<Hold>,
    /// Its assignments in every rollout of the catalog, final ones too: a final one is what keeps a release from
    /// being offered twice. A device that enrolled anew comes without those of its former life.
    pub assignments: Vec<Assignment>,
    /// Releases that rolled back on it. An explicit retry takes the release off this list.
    pub bad_releases: Vec<Digest>,
    /// What its membership has come to in rollouts that it joined late, and in those that have excluded it or taken it
    /// back since they started. In all others, what was fixed at their start holds.
    pub member_of: Vec<Member>,
}

impl Device {
    /// A device that has said nothing and stands nowhere.
    pub fn unheard_of(id: DeviceId, number: u32, name: DeviceName) -> Self {
        Self {
            id,
            number,
            name,
            site: None,
            site_tz: None,
            site_rules: SiteRules::default(),
            labels: BTreeMap::new(),
            hw: String::new(),
            arch: String::new(),
            agent: String::new(),
            tz: None,
            channels: Vec::new(),
            installed: Vec::new(),
            attributes: BTreeMap::new(),
            enrolled_at: None,
            decommissioned: false,
            held: None,
            assignments: Vec::new(),
            bad_releases: Vec::new(),
            member_of: Vec::new(),
        }
    }
}

/// A device's place in a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which rollout.
    pub rollout: RolloutId,
    /// Index of the device's phase.
    pub phase: usize,
    /// Why it does not count, if so.
    pub excluded: Option<Exclusion>,
}

/// Why and until when a device is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The operator's words.
    pub reason: String,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

/// One device in one rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Its identity.
    pub id: AssignmentId,
    /// The rollout it belongs to.
    pub rollout: RolloutId,
    /// What it installs.
    pub release: Digest,
    /// What that is a release of.
    pub product: Product,
    /// Its epoch and counter.
    pub order: (u32, u64),
    /// Index of the device's phase.
    pub phase: usize,
    /// Where it stands.
    pub state: AssignmentState,
    /// Which attempt, from 1. A retry raises it in the move that puts the assignment back into the queue.
    pub attempt: u32,
    /// Attempts that failed and were followed by another one, since an operator last asked for a try.
    pub failures: u32,
    /// Back-off: no new attempt before.
    pub not_before: Option<Timestamp>,
    /// When it was made, which is when the device was first offered the release.
    pub offered_at: Timestamp,
    /// When it was granted what it holds, or held last.
    pub granted_at: Timestamp,
    /// The last sign of life that was written down: a grant, a report, or a check-in that ended a silence.
    pub heard_at: Timestamp,
    /// Whether the device has said that it switches.
    pub begun: bool,
    /// Whether its last grant lapsed: the device may still be at it.
    pub lapsed: bool,
    /// Whether it has begun to switch and has not been heard of for long.
    pub silent: bool,
    /// Why it waits.
    pub deferred: Option<Deferral>,
    /// Since when a failure waits for an operator.
    pub attention_since: Option<Timestamp>,
}

/// Why a device does not go on that could.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Deferral {
    /// No window is open.
    Window,
    /// Its site trades.
    TradingHours,
    /// A freeze is in force.
    Freeze,
    /// Something on the device keeps it from switching: a sale is open.
    Inhibitor,
    /// A person at the device put it off.
    User,
}

impl Deferral {
    /// Every reason.
    pub const ALL: [Self; 5] = [Self::Window, Self::TradingHours, Self::Freeze, Self::Inhibitor, Self::User];

    /// The name in the API and on pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::TradingHours => "trading_hours",
            Self::Freeze => "freeze",
            Self::Inhibitor => "inhibitor",
            Self::User => "user",
        }
    }
}

/// What a check-in says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The check-in before this one.
    pub last_seen: Option<Timestamp>,
    /// The last time in which the device was away. It may end with this check-in.
    pub absence: Option<Absence>,
    /// Whether the device booted since then.
    pub boot_changed: bool,
    /// The connection of which an offer could not be made yet, and is still owed.
    pub owed: Option<Connection>,
    /// How often it is to check in.
    pub poll_interval: Duration,
    /// What its agent says that it is working on.
    pub works_on: Option<AssignmentId>,
    /// Bytes that it has free for releases, if it told.
    pub free_bytes: Option<u64>,
}

/// The beginning of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its first check-in.
    pub at: Timestamp,
    /// How long the device had been away; without end if it had booted, or was never seen before.
    pub after: Duration,
}

impl Contact {
    /// The connection that a check-in at `now` begins, if no other one is meant: with a short absence it is none that
    /// anybody asks for.
    pub fn begins(&self, now: Timestamp) -> Connection {
        let absence = self.last_seen.filter(|_| !self.boot_changed).map(|seen| now.since(seen));
        Connection { at: now, after: absence.unwrap_or(Duration::MAX) }
    }

    /// The connection that is owed an offer after a check-in at `now` which could not make it: of the one that began now
    /// and the one that was owed before, the one after the longer absence.
    pub fn owed_after(&self, now: Timestamp) -> Connection {
        let new = self.begins(now);
        self.owed.filter(|owed| owed.after >= new.after).unwrap_or(new)
    }
}

/// A time in which a device was offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absence {
    /// When it was seen last before; `None` if never.
    pub since: Option<Timestamp>,
    /// When it came back.
    pub until: Timestamp,
}

impl Absence {
    /// The last absence as a check-in at `now` shows it, if `known` was the last one before.
    pub fn at(
        now: Timestamp,
        last_seen: Option<Timestamp>,
        poll_interval: Duration,
        known: Option<Self>,
    ) -> Option<Self> {
        match last_seen {
            Some(seen) if now.since(seen) <= online_for(poll_interval) => known,
            since => Some(Self { since, until: now }),
        }
    }

    /// Whether the device was away for all of `span`.
    pub fn covers(&self, span: Span) -> bool {
        self.since.is_none_or(|since| since < span.start) && span.end <= self.until
    }
}

/// Whether a device is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Connectivity {
    /// It never checked in.
    Unknown,
    /// Seen within twice its poll interval.
    Online,
    /// Seen longer ago.
    Offline,
    /// Silent for so long that nobody should wait for it.
    Abandoned,
}

impl Connectivity {
    /// Every value, in the order of their meaning.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Online, Self::Offline, Self::Abandoned];

    /// Derives it; `suspension` is the last one of the device's site.
    pub fn of(
        now: Timestamp,
        last_seen: Option<Timestamp>,
        poll_interval: Duration,
        abandoned_after: Duration,
        suspension: Option<Suspension>,
    ) -> Self {
        let Some(seen) = last_seen else {
            return Self::Unknown;
        };
        let silence = now.since(seen);
        // Nobody expects a sign of life from a suspended site.
        let excused = suspension.map_or(Duration::ZERO, |suspension| suspension.within(seen, now));
        if silence <= online_for(poll_interval) {
            Self::Online
        } else if silence.saturating_sub(excused) < abandoned_after {
            Self::Offline
        } else {
            Self::Abandoned
        }
    }

    /// The name in selectors, in the API and on pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Abandoned => "abandoned",
        }
    }
}

/// How long after a check-in a device still counts as online: time for one lost check-in.
pub fn online_for(poll_interval: Duration) -> Duration {
    poll_interval.saturating_mul(2)
}

impl Assignment {
    /// A new one, with a download grant.
    pub fn granted(id: AssignmentId, rollout: RolloutId, release: &Release, phase: usize, now: Timestamp) -> Self {
        Self {
            id,
            rollout,
            release: release.digest,
            product: release.product.clone(),
            order: (release.epoch, release.counter),
            phase,
            state: AssignmentState::Downloading,
            attempt: 1,
            failures: 0,
            not_before: None,
            offered_at: now,
            granted_at: now,
            heard_at: now,
            begun: false,
            lapsed: false,
            silent: false,
            deferred: None,
            attention_since: None,
        }
    }
}

impl Device {
    /// What it has of `product`.
    pub fn installed(&self, product: &Product) -> Option<&Installed> {
        self.installed.iter().find(|one| one.product == *product)
    }

    /// Whether it runs exactly this release.
    pub fn runs(&self, release: Digest) -> bool {
        self.installed.iter().any(|one| one.release == Some(release))
    }

    /// Its assignment in `rollout`.
    pub fn assignment(&self, rollout: RolloutId) -> Option<&Assignment> {
        self.assignments.iter().find(|one| one.rollout == rollout)
    }

    /// Writes down what its membership in a rollout has come to.
    pub fn set_member(&mut self, member: Member) {
        match self.member_of.iter_mut().find(|one| one.rollout == member.rollout) {
            Some(known) => *known = member,
            None => self.member_of.push(member),
        }
    }

    /// The hold in force at `now`.
    pub fn hold_at(&self, now: Timestamp) -> Option<&Hold> {
        site::in_force(self.held.as_ref(), now)
    }

    /// Whether it ever told its facts. Imported devices have not until their first check-in.
    pub fn has_reported(&self) -> bool {
        !self.agent.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connectivity_follows_from_the_silence() {
        let at = |s: i64| Timestamp::from_millis(s * 1000);
        let of = |seen: Option<i64>| {
            let poll = Duration::from_secs(300);
            Connectivity::of(at(10_000_000), seen.map(at), poll, DEFAULT_ABANDONED_AFTER, None).as_str()
        };
        assert_eq!(of(None), "unknown");
        assert_eq!(of(Some(10_000_000)), "online");
        assert_eq!(of(Some(10_000_000 - 600)), "online");
        assert_eq!(of(Some(10_000_000 - 601)), "offline");
        assert_eq!(of(Some(10_000_000 - 30 * 86_400)), "abandoned");
        assert_eq!(of(Some(10_000_300)), "online", "a clock that went back does not make a device offline");
    }

    #[test]
    fn a_suspended_site_abandons_nobody() {
        let day = |n: i64| Timestamp::from_millis(n * 86_400_000);
        let of = |seen, from, until: Option<i64>, now| {
            let suspension = Some(Suspension { from: day(from), until: until.map(day) });
            let poll = Duration::from_secs(300);
            Connectivity::of(day(now), Some(day(seen)), poll, DEFAULT_ABANDONED_AFTER, suspension).as_str()
        };
        assert_eq!(of(0, 10, None, 300), "offline", "ten days were not excused");
        assert_eq!(of(0, 30, None, 300), "abandoned", "it was before");
        assert_eq!(of(0, 10, Some(200), 219), "offline");
        assert_eq!(of(0, 10, Some(200), 220), "abandoned");
        assert_eq!(of(210, 10, Some(200), 240), "abandoned", "the suspension was over before it fell silent");
    }
}
