//! What is done to many devices at once.

use callboard_policy::{device::Hold, selector::Selector};
use callboard_proto::{ids::DeviceId, time::Timestamp};

use super::{check_hold, facts};
use crate::{
    app::{Actor, App, Error, Result, presence},
    db::{
        self, DbConn,
        events::NewEvent,
        selector::{Context, Slice, Whom},
    },
};

/// Devices in one transaction, so that no request waits long behind it.
const BATCH: i64 = 200;

/// Holds every device in service that the selector selects and the permission holds for, or lifts their holds; says how
/// many that changed.
pub(crate) async fn hold(app: &App, actor: Actor, selector: Selector, hold: Option<Hold>) -> Result<u64> {
    let now = app.clock.now();
    check_hold(hold.as_ref(), now)?;
    // Selectors may ask for presence.
    presence::flush(app).await?;
    let (context, selector) = (app.selector_context(), actor.may.narrow(selector));
    let (mut after, mut changed) = (-1, 0);
    loop {
        let (actor, selector, hold) = (actor.clone(), selector.clone(), hold.clone());
        let batch = move |conn: &mut DbConn| step(conn, &actor, &selector, &context, (after, hold.as_ref()), now);
        let (last, ids) = app.db.write(batch).await?;
        changed += u64::try_from(ids.len()).unwrap_or(0);
        ids.into_iter().for_each(|id| app.forget_device(id));
        match last {
            Some(last) => after = last,
            None => break,
        }
    }
    app.refresh_catalog().await?;
    Ok(changed)
}

/// One batch: the number of its last device, unless there was none, and the devices that changed.
fn step(
    conn: &mut DbConn,
    actor: &Actor,
    selector: &Selector,
    context: &Context,
    (after, hold): (i64, Option<&Hold>),
    now: Timestamp,
) -> Result<(Option<i64>, Vec<DeviceId>)> {
    let slice = Slice { after, limit: BATCH, whom: Whom::InService };
    let numbers = db::selector::select(conn, selector, context, slice)?;
    let (last, mut changed) = (numbers.last().copied(), Vec::new());
    for before in db::devices::numbered(conn, numbers)? {
        if before.device.held.as_ref() == hold {
            continue;
        }
        let id = before.device.id;
        db::devices::set_hold(conn, id, hold, now)?;
        let mut after = before.clone();
        after.device.held = hold.cloned();
        let event = match hold {
            Some(hold) => NewEvent::device("device.held", id, hold.reason.clone()),
            None => NewEvent::device("device.unheld", id, "the hold was lifted"),
        };
        db::events::insert(conn, now, &actor.did(event, &facts(&before), &facts(&after)))?;
        changed.push(id);
    }
    Ok::<_, Error>((last, changed))
}
