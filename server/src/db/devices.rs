//! Devices: the registry. A device is one row; what it reports stands in JSON columns that selectors look into.

use std::collections::BTreeMap;

use callboard_policy::{
    device::{Absence, Connection, Device, Hold},
    rhythm::Rhythm,
};
use callboard_proto::{
    admin::PossibleClone,
    check_in::{Facts, Installed},
    digest::Digest,
    ids::{DeviceId, DeviceName, Product, SiteId, TokenId},
    time::Timestamp,
    version::Version,
};
use diesel::{
    ExpressionMethods, NullableExpressionMethods, QueryDsl, QueryResult, Queryable, TextExpressionMethods,
    result::Error,
};
use serde::{Deserialize, Serialize};

use super::{
    assignments,
    conn::{DbConn, execute, find, load},
    counters, members, renewals,
    schema::{attacks as attacks_table, devices, sites},
    sites::{Row as SiteRow, Site},
    types::{Ms, Sha, Uid, from_json, parse, to_i64, to_json, to_u32},
};

pub(crate) mod attacks;
mod clones;
mod seen;

pub(crate) use attacks::Attacks;
pub(crate) use clones::{doubted, set_clone, set_reenrol_until};
pub(crate) use seen::{LastSeen, Seen, Standing, Trace, count_seen_since, last_seen, set_seen, standings};

/// A device with what only the registry needs.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// What decisions are made of.
    pub(crate) device: Device,
    /// Rises with every change but last-seen.
    pub(crate) revision: i64,
    pub(crate) description: String,
    pub(crate) serial: Option<String>,
    /// Labels without the site's.
    pub(crate) own_labels: BTreeMap<String, String>,
    pub(crate) spki: Option<Digest>,
    pub(crate) certificate: Option<String>,
    pub(crate) enrol_token: Option<TokenId>,
    pub(crate) last_seen: Option<Timestamp>,
    pub(crate) absence: Option<Absence>,
    /// The connection that is still owed an offer.
    pub(crate) owed: Option<Connection>,
    /// Host and port that it asked for, last.
    pub(crate) address: Option<String>,
    /// By what a copy of it is found out.
    pub(crate) trace: Option<Trace>,
    /// Whether it may have one.
    pub(crate) possible_clone: Option<PossibleClone>,
    /// Until when it may enrol again although it has a key.
    pub(crate) reenrol_until: Option<Timestamp>,
    pub(crate) boot_id: Option<String>,
    /// The installation of its system, as it told.
    pub(crate) image_id: Option<String>,
    /// Since when, if it is another one than before.
    pub(crate) imaged_at: Option<Timestamp>,
    /// When it is usually there; `None` before its first check-in.
    pub(crate) rhythm: Option<Rhythm>,
    /// What it says that it refused.
    pub(crate) attacks: Attacks,
    /// When that rose last, if nobody has taken note since.
    pub(crate) attacked_at: Option<Timestamp>,
}

/// A device that is to be written for the first time.
#[derive(Clone, Debug)]
pub(crate) struct NewDevice {
    pub(crate) id: DeviceId,
    pub(crate) name: DeviceName,
    pub(crate) site: Option<SiteId>,
    pub(crate) description: String,
    pub(crate) serial: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) installed: Vec<Installed>,
}

/// A certificate that was issued to a device.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) spki: Digest,
    pub(crate) certificate: String,
    pub(crate) token: TokenId,
    pub(crate) hw: String,
    pub(crate) arch: String,
    pub(crate) serial: Option<String>,
}

#[derive(Queryable)]
struct Row {
    id: Uid,
    number: i64,
    revision: i64,
    name: String,
    site_id: Option<String>,
    description: String,
    serial: Option<String>,
    labels: String,
    spki: Option<Sha>,
    certificate: Option<String>,
    enrol_token: Option<Uid>,
    enrolled_at: Option<Ms>,
    last_seen: Option<Ms>,
    presence: Option<String>,
    boot_id: Option<String>,
    _busy_at: Option<Ms>,
    _busy_on: Option<Uid>,
    rhythm: Option<Vec<u8>>,
    hw: String,
    arch: String,
    agent: String,
    _agent_key: Option<String>,
    tz: Option<String>,
    channels: String,
    attributes: String,
    installed: String,
    hold_reason: Option<String>,
    hold_until: Option<Ms>,
    decommissioned_at: Option<Ms>,
    image_id: Option<String>,
    imaged_at: Option<Ms>,
    identity: Option<String>,
}

/// One product in the column `installed`; `key` is what SQL compares versions by.
#[derive(Serialize, Deserialize)]
struct InstalledColumn {
    version: Version,
    key: String,
    release: Option<Digest>,
    epoch: u32,
    counter: u64,
    floor: u64,
}

impl Row {
    fn into_record(self, site: Option<Site>, counters: Option<&str>, risen_at: Option<Ms>) -> QueryResult<Record> {
        let own_labels: BTreeMap<String, String> = from_json(&self.labels)?;
        let clones::IdentityColumn { possible_clone, reenrol_until } = clones::read(self.identity.as_deref())?;
        let seen::Presence { absence, owed, standing, trace } = seen::read_presence(self.presence.as_deref())?;
        let rules = site.as_ref().map(Site::rules).transpose();
        let site_rules = rules.map_err(|what| Error::DeserializationError(what.into()))?.unwrap_or_default();
        let site_tz = site.as_ref().map(|site| site.tz);
        let mut labels = site.map(|site| site.labels).unwrap_or_default();
        labels.extend(own_labels.clone());
        let device = Device {
            id: self.id.id(),
            number: to_u32(self.number),
            name: parse(&self.name)?,
            site: self.site_id.as_deref().map(parse).transpose()?,
            site_tz,
            site_rules,
            labels,
            hw: self.hw,
            arch: self.arch,
            agent: self.agent,
            tz: self.tz.as_deref().and_then(|tz| tz.parse().ok()),
            channels: from_json(&self.channels)?,
            installed: read_installed(&self.installed)?,
            attributes: from_json(&self.attributes)?,
            enrolled_at: self.enrolled_at.map(Into::into),
            decommissioned: self.decommissioned_at.is_some(),
            held: self.hold_reason.map(|reason| Hold { reason, until: self.hold_until.map(Into::into) }),
            assignments: Vec::new(),
            bad_releases: Vec::new(),
            member_of: Vec::new(),
        };
        Ok(Record {
            device,
            revision: self.revision,
            description: self.description,
            serial: self.serial,
            own_labels,
            spki: self.spki.map(|spki| spki.0),
            certificate: self.certificate,
            enrol_token: self.enrol_token.map(Uid::id),
            last_seen: self.last_seen.map(Into::into),
            absence,
            owed,
            address: standing.address,
            trace,
            possible_clone,
            reenrol_until,
            boot_id: self.boot_id,
            image_id: self.image_id,
            imaged_at: self.imaged_at.map(Into::into),
            rhythm: self.rhythm.as_deref().and_then(Rhythm::from_slice),
            attacks: counters.map(from_json).transpose()?.unwrap_or_default(),
            attacked_at: risen_at.map(Into::into),
        })
    }
}

/// Reads the column `installed`.
pub(super) fn read_installed(column: &str) -> QueryResult<Vec<Installed>> {
    let products: BTreeMap<Product, InstalledColumn> = from_json(column)?;
    let installed = |(product, one): (Product, InstalledColumn)| Installed {
        product,
        version: one.version,
        release: one.release,
        epoch: one.epoch,
        counter: one.counter,
        floor: one.floor,
    };
    Ok(products.into_iter().map(installed).collect())
}

fn write_installed(installed: &[Installed]) -> QueryResult<String> {
    let column = |one: &Installed| {
        let key = one.version.sort_key();
        let Installed { version, release, epoch, counter, floor, .. } = one.clone();
        (one.product.clone(), InstalledColumn { version, key, release, epoch, counter, floor })
    };
    to_json(&installed.iter().map(column).collect::<BTreeMap<_, _>>())
}

/// Which devices [`load_by`] reads.
enum By {
    Id(DeviceId),
    Name(String),
    Serial(String),
    Spki(Digest),
    Numbers(Vec<i64>),
    /// That may have a copy, from after a number on.
    Doubted(i64, i64),
}

/// A device, its site, and the attacks that it told of with the time of the last rise.
type Joined = (Row, Option<SiteRow>, Option<String>, Option<Ms>);

fn load_by(conn: &mut DbConn, by: By) -> QueryResult<Vec<Record>> {
    let query = devices::table.left_join(sites::table).left_join(attacks_table::table).order(devices::number).select((
        devices::all_columns,
        sites::all_columns.nullable(),
        attacks_table::counters.nullable(),
        attacks_table::risen_at.nullable(),
    ));
    let rows: Vec<Joined> = match by {
        By::Id(id) => load(conn, query.filter(devices::id.eq(Uid::from(id)))),
        By::Name(name) => load(conn, query.filter(devices::name.eq(name))),
        By::Serial(serial) => load(conn, query.filter(devices::serial.eq(serial))),
        By::Doubted(after, limit) => {
            // The first is what there is an index on.
            let doubted =
                query.filter(devices::identity.is_not_null()).filter(devices::identity.like("%possible_clone%"));
            load(conn, doubted.filter(devices::number.gt(after)).limit(limit))
        }
        By::Spki(spki) => load(conn, query.filter(devices::spki.eq(Sha(spki)))),
        By::Numbers(numbers) => load(conn, query.filter(devices::number.eq_any(numbers))),
    }?;
    let record = |(row, site, counters, risen_at): Joined| {
        row.into_record(site.map(SiteRow::into_site).transpose()?, counters.as_deref(), risen_at)
    };
    let mut records = rows.into_iter().map(record).collect::<QueryResult<Vec<_>>>()?;
    let numbers: Vec<i64> = records.iter().map(|record| i64::from(record.device.number)).collect();
    let mut since = members::of(conn, &numbers)?;
    for Record { device, .. } in &mut records {
        device.member_of = since.remove(&device.number).unwrap_or_default();
    }
    Ok(records)
}

fn one(conn: &mut DbConn, by: By) -> QueryResult<Option<Record>> {
    let Some(mut record) = load_by(conn, by)?.into_iter().next() else {
        return Ok(None);
    };
    assignments::attach(conn, &mut record.device, record.imaged_at)?;
    Ok(Some(record))
}

/// One device with its assignments.
pub(crate) fn get(conn: &mut DbConn, id: DeviceId) -> QueryResult<Option<Record>> {
    one(conn, By::Id(id))
}

/// One device by its name.
pub(crate) fn by_name(conn: &mut DbConn, name: &DeviceName) -> QueryResult<Option<Record>> {
    one(conn, By::Name(name.to_string()))
}

/// One device by its serial number.
pub(crate) fn by_serial(conn: &mut DbConn, serial: &str) -> QueryResult<Option<Record>> {
    one(conn, By::Serial(serial.to_owned()))
}

/// One device by the SHA-256 of its public key.
pub(crate) fn by_spki(conn: &mut DbConn, spki: Digest) -> QueryResult<Option<Record>> {
    one(conn, By::Spki(spki))
}

/// Devices with these numbers, without their assignments.
pub(crate) fn numbered(conn: &mut DbConn, numbers: Vec<i64>) -> QueryResult<Vec<Record>> {
    load_by(conn, By::Numbers(numbers))
}

/// Devices in service that told of attacks of which nobody has taken note, without their assignments.
pub(crate) fn attacked(conn: &mut DbConn, after: i64, limit: i64) -> QueryResult<Vec<Record>> {
    // They are few: the database is to begin with them, and not to go through the fleet for a page.
    let risen = attacks_table::table.filter(attacks_table::risen_at.is_not_null()).select(attacks_table::device_id);
    let found = devices::table.filter(devices::id.eq_any(risen)).filter(devices::decommissioned_at.is_null());
    let behind = found.filter(devices::number.gt(after)).order(devices::number).limit(limit);
    let numbers: Vec<i64> = load(conn, behind.select(devices::number))?;
    numbered(conn, numbers)
}

/// Writes new devices; numbers are given in the order of the list.
pub(crate) fn insert(conn: &mut DbConn, new: &[NewDevice], now: Timestamp) -> QueryResult<()> {
    let first = to_i64(counters::reserve_device_numbers(conn, new.len())?);
    for (number, device) in (first..).zip(new) {
        let row = (
            devices::id.eq(Uid::from(device.id)),
            devices::number.eq(number),
            devices::revision.eq(1_i64),
            devices::name.eq(device.name.as_str()),
            devices::site_id.eq(device.site.as_ref().map(SiteId::as_str)),
            devices::description.eq(&device.description),
            devices::serial.eq(device.serial.as_deref()),
            devices::labels.eq(to_json(&device.labels)?),
            (devices::hw.eq(""), devices::arch.eq(""), devices::agent.eq("")),
            devices::channels.eq("[]"),
            devices::attributes.eq("{}"),
            devices::installed.eq(write_installed(&device.installed)?),
        );
        execute(conn, diesel::insert_into(devices::table).values(row))?;
        counters::device_changed(conn, device.id, now)?;
    }
    Ok(())
}

/// Counts a change, so that grants decided before it are void and other servers forget what they know.
pub(crate) fn touch(conn: &mut DbConn, id: DeviceId, now: Timestamp) -> QueryResult<()> {
    let row = diesel::update(devices::table.find(Uid::from(id)));
    execute(conn, row.set(devices::revision.eq(devices::revision + 1)))?;
    counters::device_changed(conn, id, now)
}

/// The revision of a device.
pub(crate) fn revision(conn: &mut DbConn, id: DeviceId) -> QueryResult<Option<i64>> {
    find(conn, devices::table.find(Uid::from(id)).select(devices::revision))
}

/// Writes what an import says of a known device.
pub(crate) fn update_imported(conn: &mut DbConn, id: DeviceId, new: &NewDevice, now: Timestamp) -> QueryResult<()> {
    let row = diesel::update(devices::table.find(Uid::from(id)));
    let values = (
        devices::site_id.eq(new.site.as_ref().map(SiteId::as_str)),
        devices::description.eq(&new.description),
        devices::serial.eq(new.serial.as_deref()),
        devices::labels.eq(to_json(&new.labels)?),
        devices::installed.eq(write_installed(&new.installed)?),
    );
    execute(conn, row.set(values))?;
    touch(conn, id, now)
}

/// Replaces a device's own labels.
pub(crate) fn set_labels(
    conn: &mut DbConn,
    id: DeviceId,
    labels: &BTreeMap<String, String>,
    now: Timestamp,
) -> QueryResult<()> {
    let row = diesel::update(devices::table.find(Uid::from(id)));
    execute(conn, row.set(devices::labels.eq(to_json(labels)?)))?;
    touch(conn, id, now)
}

/// Gives a device a serial number, or takes the one that it has.
pub(crate) fn set_serial(conn: &mut DbConn, id: DeviceId, serial: Option<&str>, now: Timestamp) -> QueryResult<()> {
    let row = diesel::update(devices::table.find(Uid::from(id)));
    execute(conn, row.set(devices::serial.eq(serial)))?;
    touch(conn, id, now)
}

/// Binds a key and its certificate to a device; a new life begins.
pub(crate) fn set_credential(
    conn: &mut DbConn,
    id: DeviceId,
    credential: &Credential,
    now: Timestamp,
) -> QueryResult<()> {
    let row = diesel::update(devices::table.find(Uid::from(id)));
    let values = (
        devices::spki.eq(Some(Sha(credential.spki))),
        devices::certificate.eq(Some(credential.certificate.as_str())),
        devices::enrol_token.eq(Some(Uid::from(credential.token))),
        devices::enrolled_at.eq(Some(Ms::from(now))),
        devices::hw.eq(&credential.hw),
        devices::arch.eq(&credential.arch),
        devices::serial.eq(credential.serial.as_deref()),
        devices::image_id.eq(None::<&str>),
    );
    execute(conn, row.set(values))?;
    attacks::begin_anew(conn, id)?;
    clones::set_reenrol_until(conn, id, None)?;
    renewals::end(conn, id)?;
    touch(conn, id, now)
}

/// The device uses another key: nothing else about it changes.
pub(crate) fn set_key(
    conn: &mut DbConn,
    id: DeviceId,
    spki: Digest,
    certificate: &str,
    now: Timestamp,
) -> QueryResult<()> {
    let row = diesel::update(devices::table.find(Uid::from(id)));
    let values = (devices::spki.eq(Some(Sha(spki))), devices::certificate.eq(Some(certificate)));
    execute(conn, row.set(values))?;
    renewals::end(conn, id)?;
    touch(conn, id, now)
}

/// Writes since when a device is enrolled, where nothing says it.
pub(crate) fn set_enrolled(conn: &mut DbConn, id: DeviceId, at: Timestamp) -> QueryResult<()> {
    let row = diesel::update(devices::table.find(Uid::from(id)).filter(devices::enrolled_at.is_null()));
    execute(conn, row.set(devices::enrolled_at.eq(Some(Ms::from(at))))).map(drop)
}

/// Writes what a device reports about itself.
pub(crate) fn set_facts(conn: &mut DbConn, id: DeviceId, facts: &Facts, now: Timestamp) -> QueryResult<()> {
    let row = diesel::update(devices::table.find(Uid::from(id)));
    let values = (
        devices::hw.eq(&facts.hw),
        devices::arch.eq(&facts.arch),
        devices::agent.eq(&facts.agent),
        devices::agent_key.eq(facts.agent.parse().ok().map(|version: Version| version.sort_key())),
        devices::tz.eq(known_zone(facts.tz.as_deref())),
        devices::channels.eq(to_json(&facts.channels)?),
        devices::attributes.eq(to_json(&facts.attributes)?),
        devices::installed.eq(write_installed(&facts.installed)?),
    );
    execute(conn, row.set(values))?;
    if let Some(image) = &facts.image_id {
        execute(conn, diesel::update(devices::table.find(Uid::from(id))).set(devices::image_id.eq(Some(image))))?;
    }
    touch(conn, id, now)
}

/// The device's system was installed anew; a new life begins.
pub(crate) fn set_imaged(conn: &mut DbConn, id: DeviceId, now: Timestamp) -> QueryResult<()> {
    let row = diesel::update(devices::table.find(Uid::from(id)));
    execute(conn, row.set(devices::imaged_at.eq(Some(Ms::from(now)))))?;
    attacks::begin_anew(conn, id)
}

/// A zone that this program does not know is as good as none.
pub(crate) fn known_zone(tz: Option<&str>) -> Option<&'static str> {
    tz?.parse::<chrono_tz::Tz>().ok().map(|tz| tz.name())
}

/// Holds a device, or lifts the hold.
pub(crate) fn set_hold(conn: &mut DbConn, id: DeviceId, hold: Option<&Hold>, now: Timestamp) -> QueryResult<()> {
    let row = diesel::update(devices::table.find(Uid::from(id)));
    let until = hold.and_then(|hold| hold.until).map(Ms::from);
    let values = (devices::hold_reason.eq(hold.map(|hold| hold.reason.as_str())), devices::hold_until.eq(until));
    execute(conn, row.set(values))?;
    touch(conn, id, now)
}

/// Takes a device out of service: its certificate is refused from the next request on.
pub(crate) fn decommission(conn: &mut DbConn, id: DeviceId, now: Timestamp) -> QueryResult<()> {
    let row = diesel::update(devices::table.find(Uid::from(id)));
    execute(conn, row.set(devices::decommissioned_at.eq(Some(Ms::from(now)))))?;
    renewals::end(conn, id)?;
    touch(conn, id, now)
}

/// How many devices there are, were never seen, and were seen since `online`.
pub(crate) fn count_by_last_seen(conn: &mut DbConn, online: Timestamp) -> QueryResult<[i64; 3]> {
    let live = devices::table.filter(devices::decommissioned_at.is_null());
    let all: Option<i64> = find(conn, live.count())?;
    let never: Option<i64> = find(conn, live.filter(devices::last_seen.is_null()).count())?;
    let [all, never] = [all, never].map(Option::unwrap_or_default);
    Ok([all, never, count_seen_since(conn, online)?])
}

/// Devices of a site.
pub(crate) fn of_site(conn: &mut DbConn, site: &Site) -> QueryResult<Vec<DeviceId>> {
    let ids: Vec<Uid> =
        load(conn, devices::table.filter(devices::site_id.eq(site.id.to_string())).select(devices::id))?;
    Ok(ids.into_iter().map(Uid::id).collect())
}
