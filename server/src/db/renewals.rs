//! Renewals: a device's next key and its certificate, until the device shows it for the first time.
//!
//! One at a time for a device. Whatever gives a device another key, or none, ends its renewal too: what is adopted
//! was asked for with the key that is current now.

use callboard_proto::{digest::Digest, ids::DeviceId, time::Timestamp};
use diesel::{ExpressionMethods, QueryDsl, QueryResult};

use super::{
    conn::{DbConn, execute, find},
    schema::renewals,
    types::{Ms, Sha, Uid},
};

/// A certificate that was issued and not used yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Renewal {
    pub(crate) spki: Digest,
    pub(crate) certificate: String,
}

/// The renewal of a device.
pub(crate) fn of(conn: &mut DbConn, id: DeviceId) -> QueryResult<Option<Renewal>> {
    let query = renewals::table.find(Uid::from(id)).select((renewals::spki, renewals::certificate));
    let found: Option<(Sha, String)> = find(conn, query)?;
    Ok(found.map(|(spki, certificate)| Renewal { spki: spki.0, certificate }))
}

/// The device whose next key this is.
pub(crate) fn device_of(conn: &mut DbConn, spki: Digest) -> QueryResult<Option<DeviceId>> {
    let query = renewals::table.filter(renewals::spki.eq(Sha(spki))).select(renewals::device_id);
    Ok(find::<_, Uid>(conn, query)?.map(Uid::id))
}

/// Writes the renewal of a device, instead of one that was not used.
pub(crate) fn set(conn: &mut DbConn, id: DeviceId, renewal: &Renewal, now: Timestamp) -> QueryResult<()> {
    end(conn, id)?;
    let row = (
        renewals::device_id.eq(Uid::from(id)),
        renewals::spki.eq(Sha(renewal.spki)),
        renewals::certificate.eq(renewal.certificate.as_str()),
        renewals::issued_at.eq(Ms::from(now)),
    );
    execute(conn, diesel::insert_into(renewals::table).values(row)).map(drop)
}

/// Ends the renewal of a device, if there is one.
pub(crate) fn end(conn: &mut DbConn, id: DeviceId) -> QueryResult<()> {
    execute(conn, diesel::delete(renewals::table.find(Uid::from(id)))).map(drop)
}
