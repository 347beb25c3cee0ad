//! Guards: what keeps a burst of devices from doing harm at once, and a bad release from spreading.
//!
//! A rollout has two kinds of grant, and each kind has caps of its own: how many devices may hold one at the same
//! time, over all and at one site. A device holds a download grant while it downloads and an activation grant from
//! the moment it may switch until the outcome is known. In between, staged, it holds nothing.
//!
//! The caller counts; here it is decided. [`admits`] is asked twice: by the decision with the numbers the caller has
//! read, and by the transaction that makes the grant with the numbers at that moment, which are the ones that count.

mod halt;
mod pace;

use std::collections::HashMap;

use callboard_proto::{ids::RolloutId, state::AssignmentState, time::Timestamp};
pub use halt::{
    FailureShare, HALTED, HaltAction, HaltRule, MAX_CONSECUTIVE, ReleaseName, Streak, check_target, stranded, tripped,
};
pub use pace::{Offers, Pace, Paced};

/// What holds the grants of a rollout back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How many devices may hold one at the same time.
    pub caps: Caps,
    /// How many may get an offer in a minute.
    pub pace: Option<Pace>,
}

/// The caps of a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// On devices that download.
    pub downloads: Cap,
    /// On devices that switch or run the release on probation.
    pub activations: Cap,
}

/// A cap on one kind of grant. Without numbers there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cap {
    /// Devices at the same time.
    pub max_in_flight: Option<u32>,
    /// Devices of one site at the same time. A device without a site is a site of its own.
    pub max_in_flight_per_site: Option<u32>,
}

/// What a device is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grant {
    /// To fetch and stage the release.
    Download,
    /// To switch to it.
    Activation,
}

/// The devices that hold a grant, as far as they are counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// How many.
    pub count: u64,
    /// When the one that holds it longest was granted it.
    pub oldest: Option<Timestamp>,
}

/// Who holds one kind of grant in a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// All devices.
    pub overall: Holders,
    /// Those that were granted it at the site at which the asking device stands now.
    pub at_site: Holders,
}

/// Who holds grants in a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// To download.
    pub downloads: InFlight,
    /// To activate.
    pub activations: InFlight,
    /// What it has offered lately.
    pub offers: Offers,
    /// Devices on which it has succeeded, as far as its pace asks.
    pub succeeded: u64,
}

/// The loads of rollouts that have been looked up; the others are taken for idle.
pub type Loads = HashMap<RolloutId, Load>;

/// A limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No place is free.
    Full(Full),
    /// The offers of this minute are made.
    Paced(Paced),
}

/// A cap that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Of which grant.
    pub grant: Grant,
    /// Whether it is the cap of the device's site.
    pub at_site: bool,
    /// The cap.
    pub cap: u32,
    /// Who holds the places.
    pub holders: Holders,
}

impl Grant {
    /// What assignments that hold one look like.
    pub const fn states(self) -> &'static [AssignmentState] {
        match self {
            Self::Download => &[AssignmentState::Downloading],
            Self::Activation => &[AssignmentState::Activating, AssignmentState::Verifying],
        }
    }
}

impl Limits {
    /// Whether there are any.
    pub const fn are_set(&self) -> bool {
        self.concern(Grant::Download) || self.concern(Grant::Activation)
    }

    /// Whether there are any on `grant`.
    pub const fn concern(&self, grant: Grant) -> bool {
        self.caps.of(grant).is_set() || (matches!(grant, Grant::Download) && self.pace.is_some())
    }
}

impl Caps {
    /// The cap on `grant`.
    pub const fn of(&self, grant: Grant) -> Cap {
        match grant {
            Grant::Download => self.downloads,
            Grant::Activation => self.activations,
        }
    }
}

impl Cap {
    /// Whether there is any.
    pub const fn is_set(&self) -> bool {
        self.max_in_flight.is_some() || self.max_in_flight_per_site.is_some()
    }
}

impl Load {
    /// Who holds `grant`.
    pub const fn of(&self, grant: Grant) -> InFlight {
        match grant {
            Grant::Download => self.downloads,
            Grant::Activation => self.activations,
        }
    }
}

/// Whether one more device may be granted it at `now`.
///
/// # Errors
/// Names the limit that is reached: the cap of the whole rollout, then that of the site, then the pace.
pub fn admits(limits: &Limits, grant: Grant, load: &Load, now: Timestamp) -> Result<(), Denied> {
    let (cap, in_flight) = (limits.caps.of(grant), load.of(grant));
    let scopes = [(false, cap.max_in_flight, in_flight.overall), (true, cap.max_in_flight_per_site, in_flight.at_site)];
    for (at_site, cap, holders) in scopes {
        if let Some(cap) = cap.filter(|cap| holders.count >= u64::from(*cap)) {
            return Err(Denied::Full(Full { grant, at_site, cap, holders }));
        }
    }
    match limits.pace {
        Some(pace) if grant == Grant::Download => pace.admits(load.offers, load.succeeded, now).map_err(Denied::Paced),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(overall: Option<u32>, site: Option<u32>) -> Limits {
        let activations = Cap { max_in_flight: overall, max_in_flight_per_site: site };
        Limits { caps: Caps { activations, ..Caps::default() }, pace: None }
    }

    fn load(overall: u64, site: u64) -> Load {
        let holders = |count| Holders { count, oldest: None };
        let activations = InFlight { overall: holders(overall), at_site: holders(site) };
        Load { activations, ..Load::default() }
    }

    fn full(limits: Limits, load: Load) -> Option<(bool, u32, u64)> {
        match admits(&limits, Grant::Activation, &load, Timestamp::default()) {
            Err(Denied::Full(full)) => Some((full.at_site, full.cap, full.holders.count)),
            Err(Denied::Paced(_)) => unreachable!("activations have no pace"),
            Ok(()) => None,
        }
    }

    #[test]
    fn the_last_place_is_given_and_no_further_one() {
        assert_eq!(full(caps(Some(3), None), load(2, 2)), None);
        assert_eq!(full(caps(Some(3), None), load(3, 0)), Some((false, 3, 3)));
        assert_eq!(full(caps(None, Some(1)), load(900, 0)), None);
        assert_eq!(full(caps(None, Some(1)), load(900, 1)), Some((true, 1, 1)));
        assert_eq!(full(caps(Some(2), Some(1)), load(2, 1)), Some((false, 2, 2)), "the wider cap is named first");
        assert_eq!(full(caps(Some(1), None), load(5, 0)), Some((false, 1, 5)), "more than the cap is full too");
    }

    #[test]
    fn each_kind_of_grant_has_its_own_places() {
        let now = Timestamp::default();
        assert_eq!(admits(&caps(Some(1), Some(1)), Grant::Download, &load(9, 9), now), Ok(()));
        assert_eq!(full(Limits::default(), load(1 << 40, 1 << 40)), None, "no numbers, no cap");
    }

    #[test]
    fn only_offers_have_a_pace_and_a_place_comes_first() {
        let now = Timestamp::default();
        let pace = Some(Pace { max_offers_per_minute: 1, doubles_every: None });
        let limits = Limits { pace, ..Limits::default() };
        let busy = Load { offers: Offers::default().one_more(now), ..Load::default() };
        assert_eq!(admits(&limits, Grant::Download, &Load::default(), now), Ok(()));
        assert!(matches!(admits(&limits, Grant::Download, &busy, now), Err(Denied::Paced(_))));
        assert_eq!(admits(&limits, Grant::Activation, &busy, now), Ok(()));
        let caps = Caps { downloads: Cap { max_in_flight: Some(0), ..Cap::default() }, ..Caps::default() };
        assert!(matches!(admits(&Limits { caps, pace }, Grant::Download, &busy, now), Err(Denied::Full(_))));
    }
}
