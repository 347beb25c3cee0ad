//! Who holds the places under a rollout's caps.

use std::collections::{BTreeSet, HashMap};

use callboard_proto::{
    ids::{AssignmentId, SiteId},
    time::Timestamp,
};

use super::Row;
use crate::{
    device::Assignment,
    guard::{Caps, Grant, Holders, InFlight, Load},
};

/// Holders by when they were granted their place; the oldest comes first.
type Held = BTreeSet<(Timestamp, AssignmentId)>;

/// Who holds the places of one rollout.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    downloads: Kind,
    activations: Kind,
}

#[derive(Clone, Debug, Default)]
struct Kind {
    overall: Held,
    sites: HashMap<SiteId, Held>,
}

impl Places {
    /// Counts an assignment that holds a place; says which kind it holds.
    pub(super) fn enter(&mut self, one: &Assignment, row: &Row) -> Option<Grant> {
        let (grant, kind) = self.held_by(one)?;
        kind.overall.insert((one.granted_at, one.id));
        if let Some(site) = &row.granted_site {
            kind.sites.entry(site.clone()).or_default().insert((one.granted_at, one.id));
        }
        Some(grant)
    }

    /// Counts it no longer; says which kind it held.
    pub(super) fn leave(&mut self, one: &Assignment, row: &Row) -> Option<Grant> {
        let (grant, kind) = self.held_by(one)?;
        kind.overall.remove(&(one.granted_at, one.id));
        if let Some(held) = row.granted_site.as_ref().and_then(|site| kind.sites.get_mut(site)) {
            held.remove(&(one.granted_at, one.id));
        }
        Some(grant)
    }

    /// As it concerns a device at `site`, as far as `caps` ask.
    pub(super) fn load(&self, caps: &Caps, site: Option<&SiteId>) -> Load {
        let in_flight = |grant: Grant, kind: &Kind| {
            let cap = caps.of(grant);
            let overall = cap.max_in_flight.map(|_| holders(&kind.overall));
            let at_site = cap.max_in_flight_per_site.and(site).and_then(|site| kind.sites.get(site)).map(holders);
            InFlight { overall: overall.unwrap_or_default(), at_site: at_site.unwrap_or_default() }
        };
        Load {
            downloads: in_flight(Grant::Download, &self.downloads),
            activations: in_flight(Grant::Activation, &self.activations),
            ..Load::default()
        }
    }

    fn held_by(&mut self, one: &Assignment) -> Option<(Grant, &mut Kind)> {
        if Grant::Download.states().contains(&one.state) {
            Some((Grant::Download, &mut self.downloads))
        } else if Grant::Activation.states().contains(&one.state) {
            Some((Grant::Activation, &mut self.activations))
        } else {
            None
        }
    }
}

fn holders(held: &Held) -> Holders {
    Holders { count: u64::try_from(held.len()).unwrap_or(u64::MAX), oldest: held.first().map(|(at, _)| *at) }
}
