//! Enrolment: a token and a key become a device with a certificate.

use callboard_policy::selector::Glob;
use callboard_proto::{
    admin::EnrolmentState,
    digest::Digest,
    enrol::{Enrol, Enrolled},
    ids::{DeviceId, DeviceName},
    problem::Code,
    time::Timestamp,
};
use uuid::Uuid;

use super::{App, Error, Reach, Result, assignments, tokens};
use crate::{
    ca,
    db::{
        self, DbConn,
        devices::{Credential, NewDevice, Record},
        enrolments::Enrolment,
        events::NewEvent,
        tokens::EnrolToken,
    },
};

mod waits;

pub(crate) use waits::{accept, list, reject, show};

/// What the transaction needs of the request.
struct Request {
    body: Enrol,
    token: (callboard_proto::ids::TokenId, Digest),
    spki: Digest,
    source: Option<String>,
    now: Timestamp,
}

/// Which device an enrolment is for.
enum Bound {
    Device(Box<Record>),
    /// An operator has to say so: why, and the device that it claims to be.
    Contested(Error, Option<DeviceId>),
}

/// Enrols a device that asks from `source`. The same token with the same key gives the same certificate again.
pub(crate) async fn enrol(app: &App, body: Enrol, source: Option<String>) -> Result<Enrolled> {
    let token = tokens::parse(tokens::ENROL, &body.token).ok_or_else(invalid_token)?;
    let csr = ca::csr::Csr::verify(&body.csr_pem)
        .map_err(|source| Error::refused(Code::BadRequest, format!("csr_pem is not acceptable: {source}")))?;
    let request = Request { token, spki: csr.spki_sha256(), source, now: app.clock.now(), body };
    let now = request.now;
    let ca = app.device_ca.clone();
    let (record, certificate) = app
        .db
        .write(move |conn| {
            let waiting = db::enrolments::by_spki(conn, request.spki)?;
            let token = usable_token(conn, &request, waiting.as_ref())?;
            if let Some(known) = known_again(conn, &request, &token)? {
                return Ok(Ok(known));
            }
            match decide(conn, &request, &token, waiting)? {
                Bound::Device(record) => {
                    let certificate = issue(conn, &request, &token, &record, &ca, &csr)?;
                    Ok(Ok((*record, certificate)))
                }
                // What was written about it stays.
                Bound::Contested(error, _) => Ok::<_, Error>(Err(error)),
            }
        })
        .await??;
    app.forget_device(record.device.id);
    app.metrics.enrolled();
    let expires_at = ca::not_after(&certificate).map_err(|source| Error::Unexpected(source.to_string()))?;
    Ok(Enrolled {
        device_id: record.device.id,
        name: record.device.name,
        site: record.device.site,
        expires_at,
        renew_at: ca::renew_at(expires_at),
        certificate_pem: certificate,
        server_time: now,
    })
}

/// Which device it is, by what an operator said of this key, else by the token and the serial number.
fn decide(conn: &mut DbConn, request: &Request, token: &EnrolToken, waiting: Option<Enrolment>) -> Result<Bound> {
    match waiting {
        Some(one) if is_as_accepted(request, &one) => {
            return accepted(conn, request, token, &one).map(|record| Bound::Device(Box::new(record)));
        }
        Some(one) if one.state == EnrolmentState::Rejected => {
            let by = one.decided_by.unwrap_or_default();
            return Err(Error::refused(Code::EnrolmentRejected, format!("{by} rejected the enrolment of this key")));
        }
        _ => {}
    }
    if token.uses >= token.max_uses {
        return Err(Error::refused(Code::TokenUsed, "every use of this token is taken; make another one"));
    }
    fits(request, token)?;
    let bound = bind(conn, request, token)?;
    if let Bound::Contested(error, device) = bound {
        waits::record(conn, request, token, waiting, device, &error.to_string())?;
        return Ok(Bound::Contested(error, device));
    }
    Ok(bound)
}

/// Whether it is still what the operator looked at: another token, serial number or model is for another look.
fn is_as_accepted(request: &Request, one: &Enrolment) -> bool {
    let body = &request.body;
    one.state == EnrolmentState::Accepted
        && one.token == request.token.0
        && (&one.serial, &one.hw, &one.arch) == (&body.serial, &body.hw, &body.arch)
}

/// Whether the token is for serial numbers like this one.
fn fits(request: &Request, token: &EnrolToken) -> Result<()> {
    let Some(pattern) = &token.serial_pattern else { return Ok(()) };
    let detail = match &request.body.serial {
        Some(serial) if Glob::new(pattern.as_str()).matches(serial) => return Ok(()),
        Some(serial) => format!("the token is for serial numbers like {pattern:?}, and this machine says {serial:?}"),
        None => format!("the token is for serial numbers like {pattern:?}, and this machine says none"),
    };
    Err(Error::refused(Code::Forbidden, detail))
}

fn issue(
    conn: &mut DbConn,
    request: &Request,
    token: &EnrolToken,
    record: &Record,
    ca: &ca::DeviceCa,
    csr: &ca::csr::Csr,
) -> Result<String> {
    let (id, now) = (record.device.id, request.now);
    let (not_before, not_after) = ca::DeviceCa::validity(now);
    let certificate =
        ca.issue(csr, id, not_before, not_after).map_err(|source| Error::Unexpected(source.to_string()))?;
    let (hw, arch) = (request.body.hw.clone(), request.body.arch.clone());
    let serial = match &request.body.serial {
        // An operator may have said that it is this device, and not that the other one has another number now.
        Some(said) if db::devices::by_serial(conn, said)?.is_none_or(|other| other.device.id == id) => {
            Some(said.clone())
        }
        _ => record.serial.clone(),
    };
    let (spki, token) = (request.spki, token.id);
    let credential = Credential { spki, certificate: certificate.clone(), token, hw, arch, serial };
    assignments::begin_anew(conn, id, now)?;
    db::devices::set_credential(conn, id, &credential, now)?;
    db::tokens::count_use(conn, token)?;
    // Whoever else was said to be this device has to be looked at again.
    db::enrolments::settle(conn, spki, id)?;
    let text = match record.spki {
        Some(before) if before != spki => {
            format!("enrolled again with token {token}; the key before is refused from now on")
        }
        Some(_) => format!("enrolled again with token {token} and the same key"),
        None => format!("enrolled with token {token}"),
    };
    db::events::insert(conn, now, &NewEvent::device("device.enrolled", id, text))?;
    Ok(certificate)
}

/// The device that an operator said this key is.
fn accepted(conn: &mut DbConn, request: &Request, token: &EnrolToken, one: &Enrolment) -> Result<Record> {
    match one.device {
        Some(id) => alive(db::devices::get(conn, id)?.ok_or_else(|| Error::not_found("device", id))?),
        None => {
            let name = one.name.clone().or_else(|| request.body.name.clone());
            match create(conn, request, token, name)? {
                Bound::Device(record) => Ok(*record),
                Bound::Contested(error, _) => Err(error),
            }
        }
    }
}

fn invalid_token() -> Error {
    Error::refused(Code::TokenInvalid, "the token is unknown; take it from a fresh bundle")
}

/// The token, if it is one. Who was accepted meanwhile need not hurry.
fn usable_token(conn: &mut DbConn, request: &Request, waiting: Option<&Enrolment>) -> Result<EnrolToken> {
    let (id, secret) = request.token;
    let token = db::tokens::get(conn, id)?.filter(|token| tokens::same(token.secret_sha256, secret));
    let token = token.filter(|token| token.revoked_at.is_none()).ok_or_else(invalid_token)?;
    let accepted = waiting.is_some_and(|one| is_as_accepted(request, one));
    if request.now >= token.expires_at && !accepted {
        let detail = format!("the token expired at {}; make another one", token.expires_at);
        return Err(Error::refused(Code::TokenExpired, detail));
    }
    Ok(token)
}

/// The answer to an earlier enrolment may have been lost.
fn known_again(conn: &mut DbConn, request: &Request, token: &EnrolToken) -> Result<Option<(Record, String)>> {
    let Some(record) = db::devices::by_spki(conn, request.spki)? else {
        return match db::renewals::device_of(conn, request.spki)? {
            Some(device) if token.device != Some(device) => {
                Err(conflict("this key is a device's next one already; make a new key".to_owned()))
            }
            _ => Ok(None),
        };
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
fn bind(conn: &mut DbConn, request: &Request, token: &EnrolToken) -> Result<Bound> {
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
        let record = same_serial(alive(record)?, request)?;
        return Ok(unless_contested(within_the_token(&record, token, request.now), record));
    }
    if let Some(record) = expected(conn, request, by_serial.as_ref())? {
        let record = same_serial(alive(record)?, request)?;
        let sure = within_the_token(&record, token, request.now).and_then(|()| says_serial(&record, request));
        return Ok(unless_contested(sure, record));
    }
    let Some(record) = by_serial else {
        return if token.waits { Ok(held_back(None)) } else { create(conn, request, token, request.body.name.clone()) };
    };
    let record = alive(record)?;
    if let Err(error) = within_the_token(&record, token, request.now) {
        return Ok(Bound::Contested(error, Some(record.device.id)));
    }
    if record.spki.is_some() {
        let name = &record.device.name;
        let detail = format!(
            "device {name} has this serial number and another key; an operator can accept this one (callboard enrolment \
             list), and a token made for {name} replaces it too"
        );
        return Ok(Bound::Contested(conflict(detail), Some(record.device.id)));
    }
    Ok(if token.waits { held_back(Some(record.device.id)) } else { Bound::Device(Box::new(record)) })
}

fn unless_contested(sure: Result<()>, record: Record) -> Bound {
    match sure {
        Ok(()) => Bound::Device(Box::new(record)),
        Err(error) => Bound::Contested(error, Some(record.device.id)),
    }
}

/// The device that an operator lets enrol again, by its serial number, or by its name if the number is no other device's.
fn expected(conn: &mut DbConn, request: &Request, by_serial: Option<&Record>) -> Result<Option<Record>> {
    let is_expected = |record: &Record| record.reenrol_until.is_some_and(|until| request.now < until);
    if let Some(record) = by_serial {
        return Ok(Some(record).filter(|record| is_expected(record)).cloned());
    }
    let Some(name) = &request.body.name else { return Ok(None) };
    Ok(db::devices::by_name(conn, name)?.filter(is_expected))
}

/// The token is one of those whose devices wait.
fn held_back(device: Option<DeviceId>) -> Bound {
    let detail = "an operator has to accept this device (callboard enrolment list); ask again with the same key";
    Bound::Contested(Error::refused(Code::EnrolmentPending, detail), device)
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

/// A name is no secret: where the registry knows more, it takes the serial number too.
fn says_serial(record: &Record, request: &Request) -> Result<()> {
    if record.serial.is_none() || request.body.serial.is_some() {
        return Ok(());
    }
    let name = &record.device.name;
    Err(conflict(format!(
        "device {name} may enrol again, and this machine does not say its serial number, which the registry knows; an \
         operator can accept it all the same (callboard enrolment list)"
    )))
}

/// A token for one site lets nobody take over a device of another one by its serial number, and one that an operator of a
/// part of the fleet made takes over no device outside of that part.
fn within_the_token(record: &Record, token: &EnrolToken, now: Timestamp) -> Result<()> {
    // Whoever holds the token does not learn whose number it is; the operator does.
    let elsewhere = |of: &str| {
        let (device, own) = (&record.device.name, &record.device.site);
        tracing::warn!(device.name = %device, device.site = ?own, token.id = %token.id, token.site = ?token.site,
            "an enrolment claims to be a device that its token is not for");
        Err(conflict(format!(
            "this serial number or name is that of a device that does not stand {of}; a token made for that device \
             (--device) enrols it"
        )))
    };
    match &token.site {
        Some(site) if record.device.site.as_ref() != Some(site) => {
            elsewhere(&format!("at {site}, for which the token is"))
        }
        _ if Reach::from_texts(token.reach.as_deref()).covers(&record.device, now) => Ok(()),
        _ => elsewhere("where whoever made the token may let devices in"),
    }
}

fn alive(record: Record) -> Result<Record> {
    if record.device.decommissioned {
        let detail = format!("device {} was decommissioned", record.device.name);
        return Err(Error::refused(Code::DeviceRevoked, detail));
    }
    Ok(record)
}

/// A new device with this name, or a generated one.
fn create(conn: &mut DbConn, request: &Request, token: &EnrolToken, name: Option<DeviceName>) -> Result<Bound> {
    let id = DeviceId::from_uuid(Uuid::now_v7());
    let name = match name {
        Some(name) => name,
        None => generated_name(id)?,
    };
    if let Some(other) = db::devices::by_name(conn, &name)? {
        let detail = format!(
            "device {name} is registered already; make a token for it (--device {name}), or accept this key as that device \
             (callboard enrolment list)"
        );
        return Ok(Bound::Contested(conflict(detail), Some(other.device.id)));
    }
    // An operator may have said that it is another device than the one that has this number.
    let serial = match &request.body.serial {
        Some(serial) if db::devices::by_serial(conn, serial)?.is_none() => Some(serial.clone()),
        _ => None,
    };
    let new = NewDevice {
        id,
        name,
        site: token.site.clone(),
        description: String::new(),
        serial,
        labels: token.labels.clone(),
        installed: Vec::new(),
    };
    db::devices::insert(conn, &[new], request.now)?;
    let written = db::devices::get(conn, id)?;
    let gone = || Error::Unexpected("a device is gone after it was written".to_owned());
    written.map(Box::new).map(Bound::Device).ok_or_else(gone)
}

fn generated_name(id: DeviceId) -> Result<DeviceName> {
    let hex: String = id.to_string().chars().rev().filter(char::is_ascii_hexdigit).take(12).collect();
    format!("device-{hex}")
        .parse()
        .map_err(|source: callboard_proto::ids::BadName| Error::Unexpected(source.to_string()))
}
