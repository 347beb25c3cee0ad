//! The catalog: what is not about a single device, in memory, replaced as a whole when its generation changes.

use std::sync::Arc;

use callboard_policy::{audience::Audience, catalog::Catalog, rollout::Rollout};
use callboard_proto::time::Timestamp;
use chrono_tz::Tz;

use super::{App, Error, Result, freezes, releases, rollouts::spec, trust::PublishedRoot};
use crate::db::{self, DbConn, rollouts::Record};

/// The active rollouts and their releases, the freezes, and the root under which releases were verified.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) catalog: Catalog,
    /// Zones of devices that have checked in: for these it was worked out when windows are open.
    pub(crate) zones: Vec<Tz>,
    pub(crate) root: Option<Arc<PublishedRoot>>,
}

impl App {
    /// Reads the catalog anew.
    pub(crate) async fn reload_catalog(&self) -> Result<()> {
        let (known, now) = (self.catalog(), self.clock.now());
        let snapshot = self.db.read(move |conn| read(conn, &known, now)).await?;
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

    /// Works out when windows are open for devices in this zone, unless that is known; for as long as it will be known.
    pub(crate) fn foresee(&self, tz: Tz) {
        if !self.snapshot.load().zones.contains(&tz) {
            self.look_ahead(Some(tz));
        }
    }

    /// Works it out anew for all zones before what is known is over.
    pub(crate) fn foresee_on(&self) {
        self.look_ahead(None);
    }

    fn look_ahead(&self, new: Option<Tz>) {
        let now = self.clock.now();
        self.snapshot.rcu(|old| {
            let mut snapshot = Snapshot::clone(old);
            snapshot.zones.extend(new.filter(|tz| !old.zones.contains(tz)));
            snapshot.catalog.foresee(&snapshot.zones, now, &old.catalog);
            snapshot
        });
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

/// Reads everything that the catalog is made of. Who was in a rollout when it started never changes, so that of those in
/// `known` it is not read again.
pub(crate) fn read(conn: &mut DbConn, known: &Snapshot, now: Timestamp) -> Result<Snapshot> {
    // First: if something changes meanwhile, the next look at the generation shows it.
    let generation = db::counters::generation(conn)?;
    let Some((_, envelope)) = db::trust::newest_root(conn)? else {
        return Ok(Snapshot { catalog: Catalog::new(generation, Vec::new(), []), ..Snapshot::default() });
    };
    let root = PublishedRoot::open(envelope)?;
    let records = db::rollouts::active(conn)?;
    let (mut published, mut rollouts) = (Vec::new(), Vec::new());
    for record in records {
        if let Some(release) = db::releases::get(conn, record.release)? {
            published.push(releases::for_policy(&releases::open(&root.root, &release)?));
        }
        let members = match known.catalog.rollout(record.id) {
            Some(before) => before.members.clone(),
            None => Arc::new(db::phases::audience(conn, record.id)?),
        };
        rollouts.push(active(record, members)?);
    }
    let mut catalog = Catalog::new(generation, rollouts, published).with_freezes(freezes::for_policy(conn)?);
    catalog.foresee(&known.zones, now, &known.catalog);
    Ok(Snapshot { catalog, zones: known.zones.clone(), root: Some(root) })
}

/// A stored rollout as decisions need it. Gates do not ask who its members are.
pub(crate) fn active(record: Record, members: Arc<Audience>) -> Result<Rollout> {
    let plan = spec::plan(&record.spec, record.release)?;
    Ok(Rollout {
        state: record.state,
        state_reason: record.state_reason,
        countersigned: record.countersigned.is_some(),
        started_at: record.started_at,
        open_phase: record.open_phase,
        members,
        ..Rollout::draft(record.id, plan)
    })
}
