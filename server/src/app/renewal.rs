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

use rustls_pki_types::CertificateDer;

use super::{
    App, Error, Result,
    devices::{self, Known},
};
use crate::{
    ca,
    db::{self, DbConn, events::NewEvent, renewals::Renewal},
};

/// Issues a certificate for a new key of this device. The same key gives the same certificate again until it is used.
pub(crate) async fn renew(app: &App, known: &Arc<Known>, body: Renew) -> Result<Renewed> {
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
            let same = db::renewals::of(conn, id)?.filter(|renewal| renewal.spki == spki);
            if let Some(renewal) = &same
                && now < ca::renew_at(end_of(&renewal.certificate)?)
            {
                return Ok(renewal.certificate.clone());
            }
            let own = shown == Some(spki);
            let taken = db::devices::by_spki(conn, spki)?.is_some() || db::renewals::device_of(conn, spki)?.is_some();
            if taken && !own && same.is_none() {
                let detail = "csr_pem is for a key of another device; make a new key";
                return Err(Error::refused(Code::IdentityConflict, detail));
            }
            let (not_before, not_after) = ca::DeviceCa::validity(now);
            let certificate =
                ca.issue(&csr, id, not_before, not_after).map_err(|source| Error::Unexpected(source.to_string()))?;
            if own {
                // It has come into use before its certificate was fetched, or for the last time.
                db::devices::set_key(conn, id, spki, &certificate, now)?;
            } else {
                db::renewals::set(conn, id, &Renewal { spki, certificate: certificate.clone() }, now)?;
            }
            Ok::<_, Error>(certificate)
        })
        .await?;
    // A key that was refused before may be welcome now; how often the device asks stays known.
    devices::reread(app, known).await?;
    let expires_at = end_of(&certificate)?;
    Ok(Renewed { certificate_pem: certificate, expires_at, renew_at: ca::renew_at(expires_at), server_time: now })
}

/// A device shows a key that is not its current one: if it is that of its renewal, it is from now on, and the one before
/// is refused. The same if the certificate that it showed was issued after the backup from which this registry was restored.
/// Gives the device as it is known then.
pub(crate) async fn adopt(
    app: &App,
    known: &Arc<Known>,
    spki: Digest,
    shown: Option<&CertificateDer<'static>>,
) -> Result<Option<Arc<Known>>> {
    if known.is_stranger(spki) {
        return Ok(None);
    }
    let (id, now) = (known.record.device.id, app.clock.now());
    let next = app.db.read(move |conn| Ok::<_, Error>(db::renewals::of(conn, id)?)).await?;
    let lost = app.restored_at.zip(shown).map(|(at, shown)| lost(at, shown)).transpose()?.flatten();
    if lost.is_none() && next.is_none_or(|renewal| renewal.spki != spki) {
        return another_server(app, known, spki).await;
    }
    let adopted = app
        .db
        .write(move |conn| {
            let text = match db::renewals::of(conn, id)?.filter(|renewal| renewal.spki == spki) {
                Some(renewal) => {
                    db::devices::set_key(conn, id, spki, &renewal.certificate, now)?;
                    "its certificate was renewed; the key before is refused from now on"
                }
                None if let Some((issued, certificate)) = &lost
                    && follows(conn, id, *issued)? =>
                {
                    db::devices::set_key(conn, id, spki, certificate, now)?;
                    db::devices::set_enrolled(conn, id, *issued)?;
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

fn end_of(pem: &str) -> Result<Timestamp> {
    ca::not_after(pem).map_err(|source| Error::Unexpected(source.to_string()))
}

/// When the certificate was issued, and the certificate in PEM, if that was before the server ran again.
fn lost(restored_at: Timestamp, shown: &CertificateDer<'static>) -> Result<Option<(Timestamp, String)>> {
    let pem = ca::pem(shown);
    let issued = ca::issued_at(end_of(&pem)?);
    Ok((issued <= restored_at).then_some((issued, pem)))
}

/// Whether a certificate that was issued then is newer than the one that the registry knows of an enrolled device.
fn follows(conn: &mut DbConn, id: DeviceId, issued: Timestamp) -> Result<bool> {
    let Some(record) = db::devices::get(conn, id)?.filter(|record| !record.device.decommissioned) else {
        return Ok(false);
    };
    let Some(known) = &record.certificate else {
        // It was imported before the backup, and enrolled after it.
        return Ok(record.spki.is_none());
    };
    Ok(issued > ca::issued_at(end_of(known)?))
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
