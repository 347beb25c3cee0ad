//! Enrolment: a token and a key become a device with a certificate.

use callboard_proto::{
    digest::Digest,
    enrol::{Enrol, Enrolled},
    ids::{DeviceId, DeviceName},
    problem::Code,
    time::Timestamp,
};
use uuid::Uuid;

use super::{App, Error, Result, assignments, tokens};
use crate::{
    ca,
    db::{
        self, DbConn,
        devices::{Credential, NewDevice, Record},
        events::NewEvent,
        tokens::EnrolToken,
    },
};

/// What the transaction needs of the request.
struct Request {
    body: Enrol,
    token: (callboard_proto::ids::TokenId, Digest),
    spki: Digest,
    now: Timestamp,
}

/// Enrols a device. The same token with the same key gives the same certificate again.
pub(crate) async fn enrol(app: &App, body: Enrol) -> Result<Enrolled> {
    let token = tokens::parse(tokens::ENROL, &body.token).ok_or_else(invalid_token)?;
    let csr = ca::csr::Csr::verify(&body.csr_pem)
        .map_err(|source| Error::refused(Code::BadRequest, format!("csr_pem is not acceptable: {source}")))?;
    let request = Request { token, spki: csr.spki_sha256(), now: app.clock.now(), body };
    let now = request.now;
    let ca = app.device_ca.clone();
    let (record, certificate) = app
        .db
        .write(move |conn| {
            let token = usable_token(conn, &request)?;
            if let Some(known) = known_again(conn, &request, &token)? {
                return Ok(known);
            }
            if token.uses >= token.max_uses {
                return Err(Error::refused(Code::TokenUsed, "every use of this token is taken; make another one"));
            }
            let record = bind(conn, &request, &token)?;
            let id = record.device.id;
            let (not_before, not_after) = ca::DeviceCa::validity(now);
            let certificate =
                ca.issue(&csr, id, not_before, not_after).map_err(|source| Error::Unexpected(source.to_string()))?;
            let serial = request.body.serial.clone().or_else(|| record.serial.clone());
            let (hw, arch) = (request.body.hw.clone(), request.body.arch.clone());
            let (spki, token) = (request.spki, token.id);
            let credential = Credential { spki, certificate: certificate.clone(), token, hw, arch, serial };
            assignments::leave(conn, id, now)?;
            db::devices::set_credential(conn, id, &credential, now)?;
            db::tokens::count_use(conn, token)?;
            let text = match record.spki {
                Some(before) if before != request.spki => {
                    format!("enrolled again with token {token}; the key before is refused from now on")
                }
                Some(_) => format!("enrolled again with token {token} and the same key"),
                None => format!("enrolled with token {token}"),
            };
            db::events::insert(conn, now, &NewEvent::device("device.enrolled", id, text))?;
            Ok((record, certificate))
        })
        .await?;
    app.forget_device(record.device.id);
    app.metrics.enrolled();
    Ok(Enrolled {
        device_id: record.device.id,
        name: record.device.name,
        site: record.device.site,
        expires_at: ca::not_after(&certificate).map_err(|source| Error::Unexpected(source.to_string()))?,
        certificate_pem: certificate,
        server_time: now,
    })
}

fn invalid_token() -> Error {
    Error::refused(Code::TokenInvalid, "the token is unknown; take it from a fresh bundle")
}

fn usable_token(conn: &mut DbConn, request: &Request) -> Result<EnrolToken> {
    let (id, secret) = request.token;
    let token = db::tokens::get(conn, id)?.filter(|token| tokens::same(token.secret_sha256, secret));
    let token = token.filter(|token| token.revoked_at.is_none()).ok_or_else(invalid_token)?;
    if request.now >= token.expires_at {
        let detail = format!("the token expired at {}; make another one", token.expires_at);
        return Err(Error::refused(Code::TokenExpired, detail));
    }
    Ok(token)
}

/// The answer to an earlier enrolment may have been lost.
fn known_again(conn: &mut DbConn, request: &Request, token: &EnrolToken) -> Result<Option<(Record, String)>> {
    let Some(record) = db::devices::by_spki(conn, request.spki)? else {
        return Ok(None);
    };
    match record.certificate.clone() {
        Some(certificate) if record.enrol_token == Some(token.id) && !record.device.decommissioned => {
            Ok(Some((record, certificate)))
        }
        // The operator means this device, and it has proved that it has the key.
        _ if token.device == Some(record.device.id) => Ok(None),
        _ => Err(conflict(format!("this key belongs to device {} already; make a new key", record.device.name))),
    }
}

fn conflict(detail: String) -> Error {
    Error::refused(Code::IdentityConflict, detail)
}

/// The device that this enrolment is for: the token's, else the imported one with the serial, else a new one.
fn bind(conn: &mut DbConn, request: &Request, token: &EnrolToken) -> Result<Record> {
    let by_serial = match &request.body.serial {
        Some(serial) => db::devices::by_serial(conn, serial)?,
        None => None,
    };
    if let Some(id) = token.device {
        let record = db::devices::get(conn, id)?.ok_or_else(|| Error::not_found("device", id))?;
        if by_serial.is_some_and(|other| other.device.id != id) {
            let name = &record.device.name;
            return Err(conflict(format!("the token is for device {name}, the serial number is another device's")));
        }
        return same_serial(alive(record)?, request);
    }
    if let Some(record) = by_serial {
        let record = at_the_tokens_site(alive(record)?, token)?;
        if record.spki.is_some() {
            let name = &record.device.name;
            let detail =
                format!("device {name} has this serial number and another key; a token made for {name} replaces it");
            return Err(conflict(detail));
        }
        return Ok(record);
    }
    create(conn, request, token)
}

/// What the registry says of the serial number stands; that the machine is another one is for an operator to say.
fn same_serial(record: Record, request: &Request) -> Result<Record> {
    match (&record.serial, &request.body.serial) {
        (Some(known), Some(said)) if known != said => {
            let name = &record.device.name;
            Err(conflict(format!(
                "device {name} has serial number {known:?} in the registry, and this machine says {said:?}; if it was \
                 replaced: callboard device serial {name} --set {said:?}"
            )))
        }
        _ => Ok(record),
    }
}

/// A token for one site lets nobody take over a device of another one by its serial number.
fn at_the_tokens_site(record: Record, token: &EnrolToken) -> Result<Record> {
    match &token.site {
        Some(site) if record.device.site.as_ref() != Some(site) => {
            // Whoever holds the token does not learn whose number it is; the operator does.
            let (device, own) = (&record.device.name, &record.device.site);
            tracing::warn!(device.name = %device, device.site = ?own, token.id = %token.id, token.site = %site,
                "an enrolment claims the serial number of a device of another site");
            Err(conflict(format!(
                "this serial number is that of a device that does not stand at {site}, for which the token is; a token \
                 made for that device (--device) enrols it"
            )))
        }
        _ => Ok(record),
    }
}

fn alive(record: Record) -> Result<Record> {
    if record.device.decommissioned {
        let detail = format!("device {} was decommissioned", record.device.name);
        return Err(Error::refused(Code::DeviceRevoked, detail));
    }
    Ok(record)
}

fn create(conn: &mut DbConn, request: &Request, token: &EnrolToken) -> Result<Record> {
    let id = DeviceId::from_uuid(Uuid::now_v7());
    let name = match &request.body.name {
        Some(name) => name.clone(),
        None => generated_name(id)?,
    };
    if db::devices::by_name(conn, &name)?.is_some() {
        let detail = format!("device {name} is registered already; make a token for it (--device {name})");
        return Err(conflict(detail));
    }
    let new = NewDevice {
        id,
        name,
        site: token.site.clone(),
        description: String::new(),
        serial: request.body.serial.clone(),
        labels: token.labels.clone(),
        installed: Vec::new(),
    };
    db::devices::insert(conn, &[new], request.now)?;
    db::devices::get(conn, id)?.ok_or_else(|| Error::Unexpected("a device is gone after it was written".to_owned()))
}

fn generated_name(id: DeviceId) -> Result<DeviceName> {
    let hex: String = id.to_string().chars().rev().filter(char::is_ascii_hexdigit).take(12).collect();
    format!("device-{hex}")
        .parse()
        .map_err(|source: callboard_proto::ids::BadName| Error::Unexpected(source.to_string()))
}
