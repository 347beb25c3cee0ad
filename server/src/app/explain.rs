//! Why a device gets what it gets: the decision of its next check-in, with every rollout that was looked at.

use callboard_policy::{decide, device::Contact};
use callboard_proto::admin::{Considered, Explanation};

use super::{
    App, Error, Result,
    devices::{self, resolve},
};

/// Explains what the next check-in of a device would bring.
pub(crate) async fn explain(app: &App, reference: String) -> Result<Explanation> {
    let id = app.db.read(move |conn| Ok::<_, Error>(resolve(conn, &reference)?.device.id)).await?;
    let known = devices::known(app, id).await?.ok_or_else(|| Error::not_found("device", id))?;
    let (now, last, snapshot) = (app.clock.now(), known.contact(), app.catalog());
    let device = &known.record.device;
    let contact = Contact { last_seen: last.last_seen, boot_changed: false, poll_interval: app.poll_interval };
    let decision = decide::explain(now, &snapshot.catalog, device, &contact);
    let rollouts = decision.considered.into_iter().filter_map(|considered| {
        let rollout = snapshot.catalog.rollout(considered.rollout)?;
        Some(Considered {
            rollout: rollout.plan.name.clone(),
            reason: considered.reason,
            assignment: device.assignment(considered.rollout).map(|one| one.state),
        })
    });
    Ok(Explanation {
        device: device.name.clone(),
        now,
        next: decision.reason,
        rollouts: rollouts.collect(),
        progress: last.progress,
        agent_state: last.state,
        last_error: last.last_error,
    })
}
