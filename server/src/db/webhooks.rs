//! Webhooks and what is to be sent to them: an outbox that outlives the server.

use callboard_proto::{
    admin::{DeliveryState, Notice},
    ids::TokenId,
    time::Timestamp,
};
use diesel::{BoolExpressionMethods, ExpressionMethods, JoinOnDsl, QueryDsl, QueryResult, Queryable};
use uuid::Uuid;

use super::{
    QueryError,
    conn::{DbConn, execute, find, load},
    schema::{deliveries, webhooks},
    types::{Ms, Uid, at_place, from_json, place, to_i64, to_json, to_u32},
};

/// Somebody who wants to be told.
#[derive(Clone)]
pub(crate) struct Webhook {
    pub(crate) id: TokenId,
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) secret: String,
    pub(crate) kinds: Vec<String>,
    pub(crate) created_at: Timestamp,
}

#[derive(Queryable)]
struct Row {
    id: Uid,
    name: String,
    url: String,
    secret: String,
    kinds: String,
    created_at: Ms,
}

impl TryFrom<Row> for Webhook {
    type Error = QueryError;

    fn try_from(row: Row) -> QueryResult<Self> {
        Ok(Self {
            id: row.id.id(),
            name: row.name,
            url: row.url,
            secret: row.secret,
            kinds: from_json(&row.kinds)?,
            created_at: row.created_at.into(),
        })
    }
}

/// What is sent to one webhook.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) id: TokenId,
    pub(crate) webhook: TokenId,
    pub(crate) kind: String,
    pub(crate) body: String,
    pub(crate) state: DeliveryState,
    pub(crate) attempts: u32,
    pub(crate) next_at: Timestamp,
    pub(crate) error: Option<String>,
    pub(crate) created_at: Timestamp,
}

#[derive(Queryable)]
struct DeliveryRow {
    id: Uid,
    webhook_id: Uid,
    kind: String,
    body: String,
    state: i16,
    attempts: i64,
    next_at: Ms,
    error: Option<String>,
    created_at: Ms,
}

impl TryFrom<DeliveryRow> for Delivery {
    type Error = QueryError;

    fn try_from(row: DeliveryRow) -> QueryResult<Self> {
        Ok(Self {
            id: row.id.id(),
            webhook: row.webhook_id.id(),
            kind: row.kind,
            body: row.body,
            state: at_place(&DeliveryState::ALL, row.state, "no state of a delivery")?,
            attempts: to_u32(row.attempts),
            next_at: row.next_at.into(),
            error: row.error,
            created_at: row.created_at.into(),
        })
    }
}

fn column(state: DeliveryState) -> i16 {
    place(&DeliveryState::ALL, &state)
}

/// Every webhook by name: they are few.
pub(crate) fn all(conn: &mut DbConn) -> QueryResult<Vec<Webhook>> {
    load::<_, Row>(conn, webhooks::table.order(webhooks::name))?.into_iter().map(Webhook::try_from).collect()
}

/// What a webhook is called.
pub(crate) fn name(conn: &mut DbConn, id: TokenId) -> QueryResult<Option<String>> {
    find(conn, webhooks::table.find(Uid::from(id)).select(webhooks::name))
}

/// Writes a new webhook.
pub(crate) fn insert(conn: &mut DbConn, webhook: &Webhook) -> QueryResult<()> {
    let row = (
        webhooks::id.eq(Uid::from(webhook.id)),
        webhooks::name.eq(&webhook.name),
        webhooks::url.eq(&webhook.url),
        webhooks::secret.eq(&webhook.secret),
        webhooks::kinds.eq(to_json(&webhook.kinds)?),
        webhooks::created_at.eq(Ms::from(webhook.created_at)),
    );
    execute(conn, diesel::insert_into(webhooks::table).values(row)).map(drop)
}

/// Forgets a webhook and what was to be sent to it.
pub(crate) fn delete(conn: &mut DbConn, id: TokenId) -> QueryResult<()> {
    execute(conn, diesel::delete(deliveries::table.filter(deliveries::webhook_id.eq(Uid::from(id)))))?;
    execute(conn, diesel::delete(webhooks::table.find(Uid::from(id)))).map(drop)
}

/// Puts a notice into the outbox for everybody who wants it.
pub(super) fn enqueue(conn: &mut DbConn, notice: &Notice) -> QueryResult<()> {
    for webhook in all(conn)?.into_iter().filter(|webhook| webhook.kinds.contains(&notice.kind)) {
        put(conn, webhook.id, notice, notice.at)?;
    }
    Ok(())
}

/// Puts a notice into the outbox for one; gives the delivery's id.
pub(crate) fn put(conn: &mut DbConn, webhook: TokenId, notice: &Notice, next_at: Timestamp) -> QueryResult<TokenId> {
    let id = TokenId::from_uuid(Uuid::now_v7());
    let row = (
        deliveries::id.eq(Uid::from(id)),
        deliveries::webhook_id.eq(Uid::from(webhook)),
        deliveries::kind.eq(&notice.kind),
        deliveries::body.eq(to_json(notice)?),
        deliveries::state.eq(column(DeliveryState::Waiting)),
        deliveries::attempts.eq(0_i64),
        deliveries::next_at.eq(Ms::from(next_at)),
        deliveries::created_at.eq(Ms::from(notice.at)),
    );
    execute(conn, diesel::insert_into(deliveries::table).values(row))?;
    Ok(id)
}

/// How many deliveries of a webhook stand so.
pub(crate) fn count(conn: &mut DbConn, webhook: TokenId, state: DeliveryState) -> QueryResult<i64> {
    let of = deliveries::webhook_id.eq(Uid::from(webhook)).and(deliveries::state.eq(column(state)));
    Ok(find(conn, deliveries::table.filter(of).count())?.unwrap_or(0))
}

/// A page of deliveries of a webhook, newest first.
pub(crate) fn list(
    conn: &mut DbConn,
    webhook: TokenId,
    state: Option<DeliveryState>,
    before: TokenId,
    limit: i64,
) -> QueryResult<Vec<Delivery>> {
    let of = deliveries::webhook_id.eq(Uid::from(webhook)).and(deliveries::id.lt(Uid::from(before)));
    let query = deliveries::table.filter(of).order(deliveries::id.desc()).limit(limit);
    let rows: Vec<DeliveryRow> = match state {
        Some(state) => load(conn, query.filter(deliveries::state.eq(column(state)))),
        None => load(conn, query),
    }?;
    rows.into_iter().map(Delivery::try_from).collect()
}

/// One delivery.
pub(crate) fn delivery(conn: &mut DbConn, id: TokenId) -> QueryResult<Option<Delivery>> {
    find::<_, DeliveryRow>(conn, deliveries::table.find(Uid::from(id)))?.map(Delivery::try_from).transpose()
}

/// Whether anything is to be sent now.
pub(crate) fn is_due(conn: &mut DbConn, now: Timestamp) -> QueryResult<bool> {
    let due = deliveries::state.eq(column(DeliveryState::Waiting)).and(deliveries::next_at.le(Ms::from(now)));
    Ok(find(conn, deliveries::table.filter(due).count())?.unwrap_or(0_i64) > 0)
}

/// Takes what is to be sent now, oldest first, so that no other server sends it before `until`.
pub(crate) fn take(
    conn: &mut DbConn,
    now: Timestamp,
    until: Timestamp,
    limit: i64,
) -> QueryResult<Vec<(Delivery, Webhook)>> {
    let due = deliveries::state.eq(column(DeliveryState::Waiting)).and(deliveries::next_at.le(Ms::from(now)));
    let query = deliveries::table
        .inner_join(webhooks::table.on(webhooks::id.eq(deliveries::webhook_id)))
        .filter(due)
        .order((deliveries::next_at, deliveries::id))
        .limit(limit)
        .select((deliveries::all_columns, webhooks::all_columns));
    let rows: Vec<(DeliveryRow, Row)> = load(conn, query)?;
    let mut taken = Vec::with_capacity(rows.len());
    for (delivery, webhook) in rows {
        let row = diesel::update(deliveries::table.find(delivery.id));
        execute(conn, row.set(deliveries::next_at.eq(Ms::from(until))))?;
        taken.push((delivery.try_into()?, webhook.try_into()?));
    }
    Ok(taken)
}

/// Writes how a delivery stands.
pub(crate) fn update(conn: &mut DbConn, delivery: &Delivery) -> QueryResult<()> {
    let row = (
        deliveries::state.eq(column(delivery.state)),
        deliveries::attempts.eq(to_i64(delivery.attempts)),
        deliveries::next_at.eq(Ms::from(delivery.next_at)),
        deliveries::error.eq(delivery.error.as_deref()),
    );
    execute(conn, diesel::update(deliveries::table.find(Uid::from(delivery.id))).set(row)).map(drop)
}

/// Forgets what ended before then.
pub(crate) fn purge(conn: &mut DbConn, before: Timestamp) -> QueryResult<()> {
    let old = deliveries::state.ne(column(DeliveryState::Waiting)).and(deliveries::next_at.lt(Ms::from(before)));
    execute(conn, diesel::delete(deliveries::table.filter(old))).map(drop)
}
