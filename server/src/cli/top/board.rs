//! What `top` shows, and how it is asked for.

use callboard_proto::admin::{Attention, Event, Overview, Page, Rollout};
use serde::Serialize;

use crate::cli::api::{Api, Path};

/// Rollouts of each state, failures, events: more than a screen holds.
const ROWS: u32 = 50;

/// One look at the fleet.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Board {
    pub(super) overview: Overview,
    /// Running ones, then paused ones.
    pub(super) rollouts: Vec<Rollout>,
    /// Failures that wait for somebody; there may be more.
    pub(super) attention: Page<Attention>,
    /// Newest first.
    pub(super) events: Vec<Event>,
}

impl Board {
    /// Five requests, none of which counts more than the server has counted anyway.
    pub(super) fn read(api: &Api) -> anyhow::Result<Self> {
        let list = |noun: &str| Path::new([noun]).query("limit", ROWS);
        let mut rollouts = Vec::new();
        for state in ["running", "paused"] {
            let page: Page<Rollout> = api.get(&list("rollouts").query("state", state))?;
            rollouts.extend(page.items);
        }
        let events: Page<Event> = api.get(&list("events"))?;
        Ok(Self {
            overview: api.get(&Path::new(["overview"]))?,
            rollouts,
            attention: api.get(&list("attention"))?,
            events: events.items,
        })
    }
}
