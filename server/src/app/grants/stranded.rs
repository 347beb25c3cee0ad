//! Devices that could not go back. Who is there when a rollout starts was looked at then; who joins later, or had not
//! reported, is looked at when it is first offered the release, and an operator reads it before anything halts.

use callboard_policy::guard::{self, HaltAction};

use super::{Basis, Terms};
use crate::{
    app::{Error, Result, releases, trust::PublishedRoot},
    db::{self, DbConn, events::NewEvent},
};

/// Writes down what a halt rule could not bring the device back to, if it is offered the release for the first time.
pub(super) fn warn(conn: &mut DbConn, root: &PublishedRoot, basis: &Basis, terms: &Terms) -> Result<()> {
    let Some(plan) = terms.undone.as_ref().filter(|_| basis.device.assignment(terms.rollout).is_none()) else {
        return Ok(());
    };
    for rule in &plan.halt {
        let HaltAction::RollBackTo(name) = &rule.action else {
            continue;
        };
        let published = match releases::resolve(conn, name) {
            Ok(published) => published,
            // Said when it halts.
            Err(Error::Refused { .. }) => continue,
            Err(error) => return Err(error),
        };
        let target = releases::for_policy(&releases::open(root, &published)?);
        if let Some(why) = guard::stranded(&terms.release, &target, plan, &basis.device, basis.now) {
            let text = format!("a halt could not bring it back to {name}: {why}");
            let event = NewEvent {
                rollout: Some(terms.rollout),
                ..NewEvent::device("rollout.stranded", basis.device.id, text)
            };
            db::events::insert(conn, basis.now, &event)?;
        }
    }
    Ok(())
}
