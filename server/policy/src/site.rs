//! What a site imposes on its devices: trading hours, bandwidth, a hold, and whether it is there at all.

use std::time::Duration;

use callboard_proto::time::Timestamp;

use crate::{
    bandwidth::Bandwidth,
    device::{Device, Hold},
    trading::TradingHours,
};

/// What a site imposes on its devices. Devices without a site have the default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SiteRules {
    /// When it trades: nothing is activated then.
    pub trading: TradingHours,
    /// What its downloads may take together.
    pub bandwidth: Bandwidth,
    /// Whether it is there.
    pub state: SiteState,
    /// The operator's words about the state.
    pub state_reason: String,
    /// Its last suspension.
    pub suspension: Option<Suspension>,
    /// An operator's hold.
    pub held: Option<Hold>,
}

/// Whether a site is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SiteState {
    /// Rollouts are for its devices.
    #[default]
    Active,
    /// No rollout touches its devices for now: a season is over, a shop is being rebuilt. That its devices are silent
    /// says nothing.
    Suspended,
    /// It will not open again: its devices are in no rollout.
    Closed,
}

impl SiteState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Active, Self::Suspended, Self::Closed];

    /// The name in the API and on pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Closed => "closed",
        }
    }
}

/// A time in which a site was suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// Since then.
    pub from: Timestamp,
    /// Until then; `None` if it still is.
    pub until: Option<Timestamp>,
}

impl Suspension {
    /// How much of the time between `from` and `now` it covers.
    pub fn within(&self, from: Timestamp, now: Timestamp) -> Duration {
        self.until.unwrap_or(now).min(now).since(self.from.max(from))
    }
}

/// What keeps every rollout away from a device, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// Its site is closed.
    SiteClosed,
    /// Its site is suspended.
    SiteSuspended,
    /// Its site is held.
    SiteHeld,
    /// It is held itself.
    Held,
}

impl Withheld {
    /// Every value.
    pub const ALL: [Self; 4] = [Self::SiteClosed, Self::SiteSuspended, Self::SiteHeld, Self::Held];

    /// A stable word for programs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::SiteClosed => "site_closed",
            Self::SiteSuspended => "site_suspended",
            Self::SiteHeld => "site_held",
            Self::Held => "held",
        }
    }

    /// What keeps rollouts away from `device` at `now`.
    pub fn of(device: &Device, now: Timestamp) -> Option<Self> {
        let rules = &device.site_rules;
        match rules.state {
            SiteState::Closed => Some(Self::SiteClosed),
            SiteState::Suspended => Some(Self::SiteSuspended),
            SiteState::Active if in_force(rules.held.as_ref(), now).is_some() => Some(Self::SiteHeld),
            SiteState::Active => device.hold_at(now).map(|_| Self::Held),
        }
    }

    /// The same in words.
    pub fn text(self, device: &Device) -> String {
        let site = device.site.as_ref().map_or("?", |site| site.as_str());
        let rules = &device.site_rules;
        let held = |hold: Option<&Hold>| match hold {
            Some(Hold { reason, until: Some(until) }) => format!("held until {until}: {reason}"),
            Some(Hold { reason, until: None }) => format!("held: {reason}"),
            None => "held".to_owned(),
        };
        match self {
            Self::SiteClosed => format!("its site {site} is closed: {}", rules.state_reason),
            Self::SiteSuspended => format!("its site {site} is suspended: {}", rules.state_reason),
            Self::SiteHeld => format!("its site {site} is {}", held(rules.held.as_ref())),
            Self::Held => format!("the device is {}", held(device.held.as_ref())),
        }
    }
}

/// The hold, if it has not ended by itself.
pub fn in_force(hold: Option<&Hold>, now: Timestamp) -> Option<&Hold> {
    hold.filter(|hold| hold.until.is_none_or(|until| now < until))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{at, till};

    #[test]
    fn the_strongest_reason_is_told() {
        let now = at("2026-11-23T12:00:00Z");
        let mut device = till(1);
        let say = |device: &Device| Withheld::of(device, now).map(|why| (why.code(), why.text(device)));
        assert_eq!(say(&device), None);
        device.held = Some(Hold { reason: "broken".to_owned(), until: None });
        assert_eq!(say(&device), Some(("held", "the device is held: broken".to_owned())));
        let until = Some(at("2026-11-23T12:00:01Z"));
        device.site_rules.held = Some(Hold { reason: "audit".to_owned(), until });
        let text = "its site NYC-001 is held until 2026-11-23T12:00:01Z: audit";
        assert_eq!(say(&device), Some(("site_held", text.to_owned())));
        device.site_rules.held = Some(Hold { reason: "audit".to_owned(), until: Some(now) });
        assert_eq!(say(&device).map(|(code, _)| code), Some("held"), "it has ended");
        device.site_rules.state_reason = "winter".to_owned();
        device.site_rules.state = SiteState::Suspended;
        assert_eq!(say(&device), Some(("site_suspended", "its site NYC-001 is suspended: winter".to_owned())));
        device.site_rules.state = SiteState::Closed;
        assert_eq!(say(&device), Some(("site_closed", "its site NYC-001 is closed: winter".to_owned())));
    }

    #[test]
    fn a_suspension_covers_a_part_of_a_silence() {
        let time = |hour: i64| Timestamp::from_millis(hour * 3_600_000);
        let covered = |from, until: Option<i64>, seen, now| {
            let suspension = Suspension { from: time(from), until: until.map(time) };
            suspension.within(time(seen), time(now)).as_secs() / 3600
        };
        assert_eq!(covered(10, Some(20), 5, 30), 10);
        assert_eq!(covered(10, Some(20), 15, 30), 5);
        assert_eq!(covered(10, Some(20), 25, 30), 0);
        assert_eq!(covered(10, None, 5, 30), 20);
        assert_eq!(covered(10, None, 15, 30), 15);
        assert_eq!(covered(40, None, 15, 30), 0);
    }
}
