//! Renewal: a device that shows its certificate gets one for a new key. The old key is good until the new one is used,
//! so an answer that got lost costs nothing, and a copied old key dies soon after.

use std::sync::Arc;

use callboard_proto::{
    digest::Digest,
    enrol::{Renew, Renewed},
    ids::DeviceId,
    problem::Code,
    time::Timestamp,
};

use super::{
    App, Error, Result,
    devices::{self, Known},
};
use crate::{
    ca,
    db::{self, DbConn, events::NewEvent, renewals::Renewal},
};

/// Issues a certificate for a new key of this device. The same key gives the same certificate again until it is used.
pub(crate) async fn renew(app: &App, known: &Known, body: Renew) -> Result<Renewed> {
    let csr = ca::csr::Csr::verify(&body.csr_pem)
        .map_err(|source| Error::refused(Code::BadRequest, format!("csr_pem is not acceptable: {source}")))?;
    let (id, shown, spki, now) = (known.record.device.id, known.record.spki, csr.spki_sha256(), app.clock.now());
    let ca = app.device_ca.clone();
    let certificate = app
        .db
        .write(move |conn| {
            let current = db::devices::get(conn, id)?.ok_or_else(|| Error::not_found("device", id))?;
            if current.device.decommissioned || current.spki != shown {
                // Since this request came in.
                return Err(Error::refused(Code::DeviceRevoked, "this certificate was replaced or revoked just now"));
            }
            if let Some(renewal) = db::renewals::of(conn, id)?.filter(|renewal| renewal.spki == spki) {
                return Ok(renewal.certificate);
            }
            if db::devices::by_spki(conn, spki)?.is_some() || db::renewals::device_of(conn, spki)?.is_some() {
                let detail = "csr_pem is for a key that is in use already; a renewal takes a new key";
                return Err(Error::refused(Code::IdentityConflict, detail));
            }
            let (not_before, not_after) = ca::DeviceCa::validity(now);
            let certificate =
                ca.issue(&csr, id, not_before, not_after).map_err(|source| Error::Unexpected(source.to_string()))?;
            db::renewals::set(conn, id, &Renewal { spki, certificate: certificate.clone() }, now)?;
            Ok::<_, Error>(certificate)
        })
        .await?;
    app.forget_device(id);
    let expires_at = ca::not_after(&certificate).map_err(|source| Error::Unexpected(source.to_string()))?;
    Ok(Renewed { certificate_pem: certificate, expires_at, renew_at: ca::renew_at(expires_at), server_time: now })
}

/// A device shows a key that is not its current one: if it is that of its renewal, it is from now on, and the one before
/// is refused. The same if its certificate, which ends at `not_after`, was issued after the backup from which this registry
/// was restored. Gives the device as it is known then.
pub(crate) async fn adopt(
    app: &App,
    known: &Arc<Known>,
    spki: Digest,
    not_after: Timestamp,
) -> Result<Option<Arc<Known>>> {
    if known.is_stranger(spki) {
        return Ok(None);
    }
    let (id, now) = (known.record.device.id, app.clock.now());
    let next = app.db.read(move |conn| Ok::<_, Error>(db::renewals::of(conn, id)?)).await?;
    let issued = ca::issued_at(not_after);
    let lost = app.restored_at.is_some_and(|at| issued <= at);
    if !lost && next.is_none_or(|renewal| renewal.spki != spki) {
        return another_server(app, known, spki).await;
    }
    let adopted = app
        .db
        .write(move |conn| {
            let text = match db::renewals::of(conn, id)?.filter(|renewal| renewal.spki == spki) {
                Some(renewal) => {
                    db::devices::set_key(conn, id, spki, Some(&renewal.certificate), now)?;
                    "its certificate was renewed; the key before is refused from now on"
                }
                None if lost && follows(conn, id, issued)? => {
                    db::devices::set_key(conn, id, spki, None, now)?;
                    db::devices::set_enrolled(conn, id, issued)?;
                    "its certificate was issued after the backup that this server was restored from; the key before is \
                     refused from now on"
                }
                None => return Ok(false),
            };
            db::events::insert(conn, now, &NewEvent::device("device.renewed", id, text))?;
            Ok::<_, Error>(true)
        })
        .await?;
    if !adopted {
        return another_server(app, known, spki).await;
    }
    app.metrics.renewed();
    Ok(Some(devices::reread(app, known).await?))
}

/// Whether a certificate that was issued then is newer than the one that the registry knows of an enrolled device.
fn follows(conn: &mut DbConn, id: DeviceId, issued: Timestamp) -> Result<bool> {
    let Some(record) = db::devices::get(conn, id)?.filter(|record| !record.device.decommissioned) else {
        return Ok(false);
    };
    let Some(known) = &record.certificate else {
        // It was imported before the backup, and enrolled after it; or it came in by this way already.
        return Ok(record.spki.is_none());
    };
    let known = ca::not_after(known).map_err(|source| Error::Unexpected(source.to_string()))?;
    Ok(issued > ca::issued_at(known))
}

/// Whether another server, or another request, adopted the key since this one last looked.
async fn another_server(app: &App, known: &Arc<Known>, spki: Digest) -> Result<Option<Arc<Known>>> {
    let id = known.record.device.id;
    let current = app.db.read(move |conn| Ok::<_, Error>(db::devices::get(conn, id)?)).await?;
    if current.is_none_or(|record| record.spki != Some(spki)) {
        known.estrange(spki);
        return Ok(None);
    }
    Ok(Some(devices::reread(app, known).await?))
}
