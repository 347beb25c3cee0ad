//! Serial numbers: which device has one, and how an operator gives and takes them.

use callboard_proto::{ids::DeviceId, problem::Code};

use super::{change, resolve};
use crate::{
    app::{Actor, App, Error, Result},
    db::{self, DbConn, devices::Record, events::NewEvent},
};

/// Gives a device a serial number, or takes the one that it has; says so in the event log.
pub(crate) async fn set_serial(app: &App, actor: Actor, reference: String, serial: Option<String>) -> Result<Record> {
    let now = app.clock.now();
    let (by, sees) = (actor.name.clone(), actor.sees.clone());
    change(app, actor, reference, move |conn, id| {
        if let Some(serial) = &serial
            && let Some(other) = held_by_another(conn, serial, Some(id))?
        {
            return Err(Error::refused(
                Code::Conflict,
                taken(serial, Some(other).filter(|other| sees.covers(&other.device, now)).as_ref()),
            ));
        }
        let before = resolve(conn, &id.to_string())?.serial;
        db::devices::set_serial(conn, id, serial.as_deref(), now)?;
        let shown = |serial: Option<String>| serial.map_or("none".to_owned(), |serial| format!("{serial:?}"));
        let text = format!("serial number {} instead of {}, by {by}", shown(serial), shown(before));
        Ok(NewEvent::device("device.serial", id, text))
    })
    .await
}

/// Another device than this one which has the serial number.
pub(super) fn held_by_another(conn: &mut DbConn, serial: &str, id: Option<DeviceId>) -> Result<Option<Record>> {
    Ok(db::devices::by_serial(conn, serial)?.filter(|other| Some(other.device.id) != id))
}

/// Whose serial number it is, if that is for whoever asks to know, and what an operator can do.
pub(super) fn taken(serial: &str, other: Option<&Record>) -> String {
    let Some(other) = other else {
        return format!(
            "serial number {serial:?} is that of another device; whoever operates that one can take it from it"
        );
    };
    let name = &other.device.name;
    let state = match (other.device.decommissioned, other.spki.is_some()) {
        (true, _) => "which was decommissioned",
        (false, true) => "which has enrolled with it",
        (false, false) => "which has not enrolled yet",
    };
    format!(
        "serial number {serial:?} is that of device {name}, {state}; name that device, or take the number from it with: \
         callboard device serial {name} --clear"
    )
}
