//! Who holds grants of rollouts with caps, and what rollouts with a pace have offered: read for a decision, and once more by the transaction that makes the grant.
//!
//! A device that waits for a place reads a few rows at each check-in and writes nothing.

use callboard_policy::{
    catalog::Catalog,
    decide::Step,
    device::Device,
    guard::{Grant, InFlight, Limits, Load, Loads},
    release::Release,
    rollout::Rollout,
};
use callboard_proto::ids::{RolloutId, SiteId};

use super::{App, Error, Result};
use crate::db::{self, DbConn};

/// A grant that a step makes.
pub(crate) struct Wanted<'a> {
    pub(crate) rollout: &'a Rollout,
    pub(crate) release: &'a Release,
    pub(crate) grant: Grant,
}

/// The grant that `step` makes, if it makes one.
pub(super) fn wanted<'a>(catalog: &'a Catalog, device: &Device, step: Step) -> Option<Wanted<'a>> {
    let (rollout, grant) = match step {
        Step::GrantDownload { rollout, .. } => (rollout, Grant::Download),
        Step::GrantActivation { assignment, .. } => {
            let assignment = device.assignments.iter().find(|one| one.id == assignment)?;
            (assignment.rollout, Grant::Activation)
        }
        _ => return None,
    };
    let rollout = catalog.rollout(rollout)?;
    Some(Wanted { rollout, release: catalog.releases.get(&rollout.plan.release)?, grant })
}

/// Reads the load of a rollout as it concerns a device at `site`.
pub(super) async fn read(app: &App, rollout: &Rollout, site: Option<&SiteId>) -> Result<Load> {
    let (id, limits, site) = (rollout.id, rollout.plan.limits, site.cloned());
    app.db.read(move |conn| of(conn, id, &limits, site.as_ref())).await
}

/// The loads of every rollout with limits.
pub(super) async fn read_all(app: &App, catalog: &Catalog, site: Option<&SiteId>) -> Result<Loads> {
    let mut loads = Loads::new();
    for rollout in catalog.rollouts.iter().filter(|rollout| rollout.plan.limits.are_set()) {
        loads.insert(rollout.id, read(app, rollout, site).await?);
    }
    Ok(loads)
}

/// The load of a rollout, as far as its limits ask.
pub(super) fn of(conn: &mut DbConn, id: RolloutId, limits: &Limits, site: Option<&SiteId>) -> Result<Load> {
    let mut in_flight = |grant: Grant| -> Result<InFlight> {
        Ok::<_, Error>(db::loads::in_flight(conn, id, grant, limits.caps.of(grant), site)?)
    };
    let (downloads, activations) = (in_flight(Grant::Download)?, in_flight(Grant::Activation)?);
    let (offers, succeeded) = match limits.pace {
        Some(_) => db::loads::offers(conn, id)?,
        None => Default::default(),
    };
    Ok(Load { downloads, activations, offers, succeeded })
}
