//! The catalog: what is not about a single device, in memory, replaced as a whole when its generation changes.

use std::sync::Arc;

use callboard_policy::{
    catalog::Catalog,
    rollout::{Rollout, Unit},
};

use super::{App, Error, Result, freezes, releases, rollouts::spec, trust::PublishedRoot};
use crate::db::{self, DbConn, rollouts::Record};

/// The active rollouts and their releases, the freezes, and the root under which releases were verified.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) catalog: Catalog,
    pub(crate) root: Option<Arc<PublishedRoot>>,
}

impl App {
    /// Reads the catalog anew.
    pub(crate) async fn reload_catalog(&self) -> Result<()> {
        let snapshot = self.db.read(read).await?;
        self.replace(snapshot);
        Ok(())
    }

    /// Reads the catalog anew if its generation has changed.
    pub(crate) async fn refresh_catalog(&self) -> Result<bool> {
        let generation =
            self.db.read(|conn| db::Purpose::Jobs.of(|| Ok::<_, Error>(db::counters::generation(conn)?))).await?;
        let stale = generation != self.snapshot.load().catalog.generation;
        if stale {
            self.reload_catalog().await?;
        }
        Ok(stale)
    }

    fn replace(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        // Of two readers that overtake each other, the one with the newer generation wins.
        let before = self.snapshot.rcu(|old| {
            if old.catalog.generation > snapshot.catalog.generation { old.clone() } else { snapshot.clone() }
        });
        if before.catalog.generation < snapshot.catalog.generation {
            self.waiting.stir();
        }
    }
}

/// Reads everything that the catalog is made of.
pub(crate) fn read(conn: &mut DbConn) -> Result<Snapshot> {
    // First: if something changes meanwhile, the next look at the generation shows it.
    let generation = db::counters::generation(conn)?;
    let Some((_, envelope)) = db::trust::newest_root(conn)? else {
        return Ok(Snapshot { catalog: Catalog::new(generation, Vec::new(), []), root: None });
    };
    let root = PublishedRoot::open(envelope)?;
    let records = db::rollouts::active(conn)?;
    let mut known = Vec::new();
    for record in &records {
        if let Some(published) = db::releases::get(conn, record.release)? {
            known.push(releases::for_policy(&releases::open(&root.root, &published)?));
        }
    }
    let mut rollouts = records.into_iter().map(active).collect::<Result<Vec<_>>>()?;
    for rollout in rollouts.iter_mut().filter(|rollout| rollout.plan.unit == Unit::Site) {
        rollout.sites = db::rollouts::sites(conn, rollout.id)?;
    }
    let catalog = Catalog::new(generation, rollouts, known).with_freezes(freezes::for_policy(conn)?);
    Ok(Snapshot { catalog, root: Some(root) })
}

/// A stored rollout as decisions need it, but for the phases of its sites.
pub(crate) fn active(record: Record) -> Result<Rollout> {
    let plan = spec::plan(&record.spec, record.release)?;
    Ok(Rollout {
        state: record.state,
        state_reason: record.state_reason,
        countersigned: record.countersigned.is_some(),
        started_at: record.started_at,
        open_phase: record.open_phase,
        members: record.phases.into_iter().map(|phase| phase.members).collect(),
        excluded: record.excluded,
        ..Rollout::draft(record.id, plan)
    })
}
