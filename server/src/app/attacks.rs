//! What devices refused because no honest server sends it, as they tell it. The counters are written behind, once a
//! second, and only what has changed: an idle check-in touches no database.
//!
//! A device is believed about itself alone. Its numbers are bounded, kinds that this server does not know are one kind,
//! and however much it tells, it counts as one device.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use callboard_policy::selector::Selector;
use callboard_proto::{
    admin::{Acknowledged, AttackCount, MAX_NAMED, NotDealt},
    check_in::{ATTACKS, OTHER_ATTACK},
    ids::DeviceId,
    time::Timestamp,
};
use serde_json::{Value, json};

use super::{Actor, App, Because, Error, Reach, Result, attention::Whom, devices, part};
use crate::db::{
    self, DbConn, Purpose, QueryError,
    devices::{
        Attacks, Record,
        attacks::{Counter, Told},
    },
    events::NewEvent,
};

/// Devices in one transaction, so that no request waits long behind it.
const BATCH: usize = 200;
/// Between two events about one device: a stolen one shall not fill the log.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// For so long a device counts for the fleet's alarm.
const ALARM_LOOKS_BACK: Duration = Duration::from_secs(3600);
/// More devices than this at once are no news: the alarm has gone off long before.
const ALARM_LOOKS_AT: i64 = 1000;

/// What was told and is not in the database yet, and which kinds the fleet was alarmed of.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    told: Mutex<BTreeMap<DeviceId, Told>>,
    alarmed: Mutex<BTreeMap<String, Timestamp>>,
    /// Held while a batch is on its way, so that who reads afterwards reads all of it.
    flush: tokio::sync::Mutex<()>,
}

impl Pending {
    /// Notes what a device tells.
    pub(crate) fn note(&self, device: DeviceId, told: Told) {
        self.told().insert(device, told);
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kinds among these of which the fleet was not alarmed within the last hour.
    fn new_alarms(&self, alarms: Vec<(String, u64)>, now: Timestamp) -> Vec<(String, u64)> {
        let mut alarmed = self.alarmed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = |(kind, _): &(String, u64)| {
            let last = alarmed.insert(kind.clone(), now);
            last.is_none_or(|last| now.since(last) > ALARM_LOOKS_BACK)
        };
        alarms.into_iter().filter(is_new).collect()
    }
}

/// What a check-in tells, within bounds.
pub(crate) fn told(attacks: &BTreeMap<String, u64>) -> Told {
    let mut told = Told::new();
    for (kind, count) in attacks.iter().filter(|(_, count)| **count > 0) {
        let kind = if ATTACKS.contains(&kind.as_str()) { kind } else { OTHER_ATTACK };
        let sum = told.entry(kind.to_owned()).or_default();
        *sum = sum.saturating_add(u32::try_from(*count).unwrap_or(u32::MAX));
    }
    told
}

/// Brings what is known up to what a device tells; says by how much each kind rose. A counter that fell a little is that
/// of a device that has lost its last ones in a power cut; one that fell by more than half has begun anew.
fn learn(known: &mut Attacks, told: &Told, now: Timestamp) -> BTreeMap<String, u32> {
    let mut rises = BTreeMap::new();
    for (kind, counter) in &mut known.counters {
        if !told.contains_key(kind) {
            counter.reported = 0;
        }
    }
    for (kind, count) in told {
        let fresh = Counter { reported: 0, total: 0, acknowledged: 0, at: now };
        let counter = known.counters.entry(kind.clone()).or_insert(fresh);
        let rise = match count.checked_sub(counter.reported) {
            Some(rise) => rise,
            None if *count < counter.reported / 2 => *count,
            None => 0,
        };
        counter.reported = *count;
        if rise > 0 {
            counter.total = counter.total.saturating_add(rise);
            counter.at = now;
            rises.insert(kind.clone(), rise);
        }
    }
    rises
}

/// Writes everything told so far; what cannot be written is kept for the next time.
pub(crate) async fn flush(app: &App) -> Result<()> {
    let _one = app.attacks.flush.lock().await;
    let now = app.clock.now();
    let mut risen = Vec::new();
    loop {
        let batch: Vec<(DeviceId, Told)> = {
            let mut told = app.attacks.told();
            std::iter::from_fn(|| told.pop_first()).take(BATCH).collect()
        };
        if batch.is_empty() {
            break;
        }
        let again = batch.clone();
        match app.db.write(move |conn| Purpose::Attacks.of(|| Ok::<_, Error>(write(conn, &batch, now)?))).await {
            Ok(rises) => risen.extend(rises),
            Err(error) => {
                let mut told = app.attacks.told();
                for (id, one) in again {
                    // What it has told since is newer.
                    told.entry(id).or_insert(one);
                }
                return Err(error);
            }
        }
    }
    if risen.is_empty() {
        return Ok(());
    }
    risen.iter().flatten().for_each(|kind| app.metrics.attack_told(kind));
    let alarms = alarms(app).await?;
    for (kind, devices) in app.attacks.new_alarms(alarms, now) {
        tracing::warn!(attack = kind, devices, "many devices refused what no honest server sends, within an hour");
    }
    Ok(())
}

/// Writes what these devices tell; gives the kinds that rose for each.
fn write(
    conn: &mut DbConn,
    batch: &[(DeviceId, Told)],
    now: Timestamp,
) -> std::result::Result<Vec<Vec<String>>, QueryError> {
    let mut risen = Vec::new();
    for (id, told) in batch {
        let before = db::devices::attacks::get(conn, *id)?;
        let mut known = before.clone();
        let rises = learn(&mut known, told, now);
        if !rises.is_empty() && known.logged_at.is_none_or(|last| now.since(last) >= LOG_EVERY || last > now) {
            known.logged_at = Some(now);
            let text = format!("it refused what no honest server sends: {}", sentence(&known, &rises));
            db::events::insert(conn, now, &NewEvent::device("device.attacked", *id, text))?;
        }
        if known != before {
            db::devices::attacks::set(conn, *id, &known, (!rises.is_empty()).then_some(now))?;
        }
        if !rises.is_empty() {
            risen.push(rises.into_keys().collect());
        }
    }
    Ok(risen)
}

fn sentence(known: &Attacks, rises: &BTreeMap<String, u32>) -> String {
    let total = |kind: &String| known.counters.get(kind).map_or(0, |counter| counter.total);
    let each = rises.iter().map(|(kind, rise)| format!("{kind} +{rise}, {} in all", total(kind)));
    each.collect::<Vec<_>>().join("; ")
}

/// How many devices in reach have told of something within the last hour of which nobody has taken note, by kind.
pub(crate) async fn recent(app: &App, sees: Reach) -> Result<BTreeMap<String, u64>> {
    let since = app.clock.now() - ALARM_LOOKS_BACK;
    let context = app.selector_context();
    let found = app
        .db
        .read(move |conn| {
            Purpose::Metrics.of(|| {
                let mut found = db::devices::attacks::since(conn, since, ALARM_LOOKS_AT)?;
                if !sees.is_everything() {
                    let seen = part::devices(conn, &sees, &context, found.iter().map(|(number, _)| Some(*number)))?;
                    let mut seen = seen.into_iter();
                    found.retain(|_| seen.next().unwrap_or(false));
                }
                Ok::<_, Error>(found)
            })
        })
        .await?;
    let mut devices = BTreeMap::new();
    for (kind, counter) in found.into_iter().flat_map(|(_, one)| one.counters) {
        if counter.at >= since && counter.total > counter.acknowledged {
            *devices.entry(kind).or_default() += 1;
        }
    }
    Ok(devices)
}

/// Kinds of which many devices tell within an hour: that is no broken line and no bad memory.
async fn alarms(app: &App) -> Result<Vec<(String, u64)>> {
    let online = app.clock.now();
    let all = app
        .db
        .read(move |conn| Purpose::Attacks.of(|| Ok::<_, Error>(db::devices::count_by_last_seen(conn, online)?)))
        .await?;
    let recent = recent(app, Reach::Everything).await?;
    let [in_service, ..] = all.map(|n| u64::try_from(n).unwrap_or(0));
    Ok(recent.into_iter().filter(|(_, devices)| is_alarming(*devices, in_service)).collect())
}

/// Ten devices are many, of a fleet of less than forty every fourth, and never fewer than three.
pub(crate) fn is_alarming(devices: u64, in_service: u64) -> bool {
    devices >= (in_service / 4).clamp(3, 10)
}

/// What a device refused, as operators see it.
pub(crate) fn shown(attacks: &Attacks) -> Vec<AttackCount> {
    let told = attacks.counters.iter().filter(|(_, counter)| counter.total > 0);
    told.map(|(kind, counter)| AttackCount {
        kind: kind.clone(),
        total: counter.total,
        acknowledged: counter.acknowledged,
        last_at: counter.at,
    })
    .collect()
}

/// Takes note of what devices refused so far.
pub(crate) async fn acknowledge(app: &App, whom: Whom, because: Because) -> Result<Acknowledged> {
    flush(app).await?;
    let mut done = Acknowledged::default();
    match whom {
        Whom::Named(names) => {
            let (by, now) = (because.by.clone(), app.clock.now());
            let named = app.db.read(move |conn| names.into_iter().map(|name| found(conn, &by, name, now)).collect());
            let named = named.await?;
            let named: Vec<std::result::Result<Record, NotDealt>> = named;
            let (records, refused): (Vec<_>, Vec<_>) = named.into_iter().partition(std::result::Result::is_ok);
            done.refused = refused.into_iter().filter_map(std::result::Result::err).collect();
            for records in records.into_iter().flatten().collect::<Vec<_>>().chunks(BATCH) {
                note(app, records.to_vec(), &because, &mut done).await?;
            }
        }
        Whom::Selected(selector) => {
            let selector = because.by.may.narrow(*selector);
            let mut after = -1;
            loop {
                let page = attacked(app, after, i64::try_from(BATCH).unwrap_or(i64::MAX)).await?;
                let Some(last) = page.last() else { break };
                after = i64::from(last.device.number);
                let selects = |record: &Record| selector_selects(app, &selector, record);
                note(app, page.into_iter().filter(selects).collect(), &because, &mut done).await?;
            }
        }
    }
    Ok(done)
}

fn selector_selects(app: &App, selector: &Selector, record: &Record) -> bool {
    selector.matches(&record.device, &devices::seen(app, record))
}

/// Devices that told of attacks of which nobody has taken note.
pub(crate) async fn attacked(app: &App, after: i64, limit: i64) -> Result<Vec<Record>> {
    app.db.read(move |conn| Ok::<_, Error>(db::devices::attacked(conn, after, limit)?)).await
}

fn found(conn: &mut DbConn, by: &Actor, name: String, now: Timestamp) -> Result<std::result::Result<Record, NotDealt>> {
    match devices::resolve_for(conn, by, &name, now) {
        Ok(record) if record.attacked_at.is_some() => Ok(Ok(record)),
        Ok(_) => Ok(Err(NotDealt { device: name, reason: "it has told of nothing new".to_owned() })),
        Err(Error::Refused { detail, .. }) => Ok(Err(NotDealt { device: name, reason: detail })),
        Err(error) => Err(error),
    }
}

async fn note(app: &App, records: Vec<Record>, because: &Because, done: &mut Acknowledged) -> Result<()> {
    let (now, because) = (app.clock.now(), because.clone());
    let noted = app
        .db
        .write(move |conn| {
            for record in &records {
                let id = record.device.id;
                // What rose since it was read was seen by nobody.
                let mut known = db::devices::attacks::get(conn, id)?;
                for (kind, counter) in &mut known.counters {
                    let seen = record.attacks.counters.get(kind).map_or(0, |seen| seen.total);
                    counter.acknowledged = counter.acknowledged.max(seen);
                }
                let left = known.counters.values().any(|counter| counter.total > counter.acknowledged);
                match left {
                    true => db::devices::attacks::set(conn, id, &known, None)?,
                    false => db::devices::attacks::acknowledge(conn, id, &known)?,
                }
                let event = NewEvent::device("device.attacks_acknowledged", id, because.to_string());
                let totals = |of: fn(&Counter) -> u32| -> Value {
                    known.counters.iter().map(|(kind, counter)| (kind.clone(), json!(of(counter)))).collect()
                };
                let (before, after) = (totals(|counter| counter.total), totals(|counter| counter.acknowledged));
                db::events::insert(conn, now, &because.by.did(event, &json!({ "told": before }), &after))?;
            }
            Ok::<_, Error>(records)
        })
        .await?;
    for record in noted {
        done.total += 1;
        if done.devices.len() < MAX_NAMED {
            done.devices.push(record.device.name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1000)
    }

    fn tell(known: &mut Attacks, count: u64, second: i64) -> u32 {
        let told = told(&[("bad_sig".to_owned(), count)].into());
        learn(known, &told, at(second)).values().sum()
    }

    #[test]
    fn a_counter_rises_falls_a_little_after_a_power_cut_and_begins_anew() {
        let mut known = Attacks::default();
        assert_eq!(tell(&mut known, 5, 1), 5);
        assert_eq!(tell(&mut known, 5, 2), 0, "the same once more");
        assert_eq!(tell(&mut known, 4, 3), 0, "what it had not written down");
        assert_eq!(tell(&mut known, 5, 4), 1);
        assert_eq!(tell(&mut known, 1, 5), 1, "it has begun anew");
        assert_eq!(tell(&mut known, 0, 6), 0);
        assert_eq!(tell(&mut known, 3, 7), 3);
        let counter = &known.counters["bad_sig"];
        assert_eq!((counter.reported, counter.total, counter.at), (3, 10, at(7)));
    }

    #[test]
    fn no_number_overflows_and_no_kind_is_made_up() {
        let mut known = Attacks::default();
        let many: BTreeMap<String, u64> = (0..32).map(|n| (format!("<b>{n}\u{1b}"), u64::MAX)).collect();
        assert_eq!(told(&many), [("other".to_owned(), u32::MAX)].into());
        for second in 0..4 {
            tell(&mut known, u64::MAX, second);
            tell(&mut known, 1, second);
        }
        assert_eq!(known.counters["bad_sig"].total, u32::MAX);
    }

    #[test]
    fn many_are_ten_or_every_fourth_and_at_least_three() {
        for (devices, in_service, alarming) in
            [(2, 2, false), (3, 3, true), (4, 20, false), (5, 20, true), (9, 40_000, false), (10, 40_000, true)]
        {
            assert_eq!(is_alarming(devices, in_service), alarming, "{devices} of {in_service}");
        }
    }

    #[test]
    fn the_fleet_is_alarmed_once_while_it_goes_on() {
        let pending = Pending::default();
        let alarm = |second: i64| pending.new_alarms(vec![("bad_sig".to_owned(), 12)], at(second)).len();
        assert_eq!((alarm(0), alarm(1800), alarm(5000), alarm(9000)), (1, 0, 0, 1));
    }
}
