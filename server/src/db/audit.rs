//! The audit's chain: events that somebody caused, each with the hash of the one before in its own.
//!
//! It is appended to in the transaction of the change. Writers of all servers on one database take turns (see `conn`), so
//! there is one chain and no lock of its own: what devices do reads and writes nothing of it.

use callboard_proto::{
    admin::{AuditDropped, AuditEntry, AuditHead, AuditPlace},
    digest::Digest,
    ids::kind,
    time::Timestamp,
};
use diesel::{BoolExpressionMethods, ExpressionMethods, QueryDsl, QueryResult, TextExpressionMethods};

use super::{
    conn::{DbConn, execute, find, load},
    events::{self as log, NewEvent},
    schema::{audit_start, events},
    types::{Ms, Sha, Uid, to_i64, to_json, to_u64},
};

/// Who has made what the server does by itself; no person and no token has this name.
pub(crate) const BY_ITSELF: &str = "the server";

/// Who made a change, and what it was.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) who: String,
    pub(crate) person: String,
    pub(crate) source: String,
    /// JSON, or nothing.
    pub(crate) before: String,
    /// The same.
    pub(crate) after: String,
}

/// Appends a change.
pub(super) fn append(conn: &mut DbConn, at: Timestamp, event: &NewEvent, change: &Change) -> QueryResult<()> {
    let last = head(conn)?.head;
    let Change { who, person, source, before, after } = change.clone();
    let mut entry = AuditEntry {
        link: last.link + 1,
        at,
        kind: event.kind.to_owned(),
        who,
        person,
        source,
        device: event.device.map(|id| id.to_string()).unwrap_or_default(),
        rollout: event.rollout.map(|id| id.to_string()).unwrap_or_default(),
        text: event.text.clone(),
        before,
        after,
        hash: last.hash,
    };
    entry.hash = entry.hash_after(last.hash);
    let row = (
        events::at.eq(Ms::from(at)),
        events::kind.eq(event.kind),
        events::device_id.eq(event.device.map(Uid::from)),
        events::rollout_id.eq(event.rollout.map(Uid::from)),
        events::text.eq(&entry.text),
        events::link.eq(Some(to_i64(entry.link))),
        events::hash.eq(Some(Sha(entry.hash))),
        events::who.eq(Some(&entry.who)),
        events::person.eq(Some(&entry.person)),
        events::source.eq(Some(&entry.source)),
        events::before.eq(Some(&entry.before)),
        events::after.eq(Some(&entry.after)),
    );
    execute(conn, diesel::insert_into(events::table).values(row)).map(drop)
}

/// Where the chain begins and ends.
pub(crate) fn head(conn: &mut DbConn) -> QueryResult<AuditHead> {
    let place = |(link, Sha(hash)): (i64, Sha)| AuditPlace { link: to_u64(link), hash };
    let start = audit_start::table.select((audit_start::link, audit_start::hash));
    let start = find(conn, start)?.map_or(AuditPlace::BEGINNING, place);
    let newest = events::table.filter(events::link.is_not_null()).order(events::link.desc()).limit(1);
    let newest: Option<(Option<i64>, Option<Sha>)> = find(conn, newest.select((events::link, events::hash)))?;
    let head = newest.and_then(|(link, hash)| Some(place((link?, hash?)))).unwrap_or(start);
    Ok(AuditHead { start, head })
}

type Texts = (Option<String>, Option<String>, Option<String>, Option<String>, Option<String>);
type Row = (Option<i64>, Ms, String, Option<Uid>, Option<Uid>, String, Option<Sha>, Texts);

/// The columns of a [`Row`].
#[diesel::dsl::auto_type(no_type_alias)]
fn columns() -> _ {
    (
        events::link,
        events::at,
        events::kind,
        events::device_id,
        events::rollout_id,
        events::text,
        events::hash,
        (events::who, events::person, events::source, events::before, events::after),
    )
}

/// Links after one, in their order.
pub(crate) fn list(conn: &mut DbConn, after: u64, limit: i64) -> QueryResult<Vec<AuditEntry>> {
    let query = events::table.filter(events::link.gt(to_i64(after))).order(events::link).limit(limit);
    Ok(entries(load(conn, query.select(columns()))?))
}

/// Which links, newest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// A person, or a token.
    pub(crate) who: Option<String>,
    /// A kind, or the group before its dot.
    pub(crate) kind: Option<String>,
    /// Only those with a lower number.
    pub(crate) before: Option<u64>,
    pub(crate) limit: i64,
}

/// A page of links, newest first.
pub(crate) fn newest(conn: &mut DbConn, filter: &Filter) -> QueryResult<Vec<AuditEntry>> {
    let before = filter.before.map_or(i64::MAX, to_i64);
    let kind = filter.kind.clone().unwrap_or_default();
    let group = if kind.is_empty() { "%".to_owned() } else { format!("{}.%", plain(&kind)) };
    let query = events::table
        .filter(events::link.lt(before))
        .filter(events::kind.eq(kind).or(events::kind.like(group)))
        .order(events::link.desc())
        .limit(filter.limit)
        .select(columns());
    let rows = match filter.who.clone() {
        Some(who) => load(conn, query.filter(events::who.eq(Some(who.clone())).or(events::person.eq(Some(who))))),
        None => load(conn, query),
    };
    Ok(entries(rows?))
}

/// A text without what has a meaning in a pattern; kinds have nothing of that.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '%' | '_' | '\\')).collect()
}

fn entries(rows: Vec<Row>) -> Vec<AuditEntry> {
    let entry = |(link, at, kind, device, rollout, text, hash, texts): Row| {
        let (who, person, source, before, after) = texts;
        Some(AuditEntry {
            link: to_u64(link?),
            at: at.into(),
            kind,
            who: who.unwrap_or_default(),
            person: person.unwrap_or_default(),
            source: source.unwrap_or_default(),
            device: device.map(|id| id.id::<kind::Device>().to_string()).unwrap_or_default(),
            rollout: rollout.map(|id| id.id::<kind::Rollout>().to_string()).unwrap_or_default(),
            text,
            before: before.unwrap_or_default(),
            after: after.unwrap_or_default(),
            hash: hash.map_or(Digest::from_bytes([0; 32]), |Sha(hash)| hash),
        })
    };
    rows.into_iter().filter_map(entry).collect()
}

/// Drops links from before `before` from the beginning of the chain, at most `limit`, and remembers the last of them: what
/// is left can be followed from there, and a link says which were dropped. Says how many.
pub(super) fn purge(conn: &mut DbConn, before: Timestamp, now: Timestamp, limit: i64) -> QueryResult<usize> {
    let start = head(conn)?.start;
    let old: Vec<AuditEntry> =
        list(conn, start.link, limit)?.into_iter().take_while(|entry| entry.at < before).collect();
    // Where nothing else is old, the links about what was dropped stay: else each would be dropped by one more.
    let more = i64::try_from(old.len()).is_ok_and(|old| old == limit);
    let Some(last) = old.last().filter(|_| more || old.iter().any(|entry| entry.kind != AuditDropped::KIND)) else {
        return Ok(0);
    };
    let dropped = diesel::delete(events::table.filter(events::link.le(to_i64(last.link))));
    let dropped = execute(conn, dropped)?;
    let row = (audit_start::link.eq(to_i64(last.link)), audit_start::hash.eq(Sha(last.hash)));
    execute(conn, diesel::update(audit_start::table).set(row))?;
    let (from, to) = (start.link + 1, last.place());
    let change = Change {
        who: BY_ITSELF.to_owned(),
        person: String::new(),
        source: String::new(),
        before: String::new(),
        after: to_json(&AuditDropped { from, to, older_than: before })?,
    };
    let text = format!("links {from} to {} of the audit were dropped because of their age", to.link);
    let event = NewEvent { change: Some(change), ..NewEvent::general(AuditDropped::KIND, text) };
    log::insert(conn, now, &event)?;
    Ok(dropped)
}
