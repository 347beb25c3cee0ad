//! Published releases, as the bytes that were received.

use callboard_proto::{digest::Digest, ids::Product, release, time::Timestamp, version::Version};
use diesel::{BoolExpressionMethods, ExpressionMethods, QueryDsl, QueryResult, Queryable};

use super::{
    conn::{DbConn, execute, find, load},
    schema::releases,
    types::{Ms, Sha, to_i64, to_u32, to_u64},
};

/// A published release: its place in the order, and the envelope it came in.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) sha256: Digest,
    pub(crate) envelope: Vec<u8>,
    pub(crate) published_at: Timestamp,
}

#[derive(Queryable)]
struct Row {
    sha256: Sha,
    envelope: Vec<u8>,
    published_at: Ms,
}

impl From<Row> for Published {
    fn from(row: Row) -> Self {
        Self { sha256: row.sha256.0, envelope: row.envelope, published_at: row.published_at.into() }
    }
}

const COLUMNS: (releases::sha256, releases::envelope, releases::published_at) =
    (releases::sha256, releases::envelope, releases::published_at);

/// One release by digest.
pub(crate) fn get(conn: &mut DbConn, sha256: Digest) -> QueryResult<Option<Published>> {
    Ok(find::<_, Row>(conn, releases::table.find(Sha(sha256)).select(COLUMNS))?.map(Into::into))
}

/// Puts another envelope of the same release in the place of the one that is stored.
pub(crate) fn set_envelope(conn: &mut DbConn, sha256: Digest, envelope: &[u8]) -> QueryResult<()> {
    let row = diesel::update(releases::table.find(Sha(sha256))).set(releases::envelope.eq(envelope));
    execute(conn, row).map(drop)
}

/// One release by product and version.
pub(crate) fn by_version(conn: &mut DbConn, product: &Product, version: &Version) -> QueryResult<Option<Published>> {
    let query = releases::table
        .filter(releases::product.eq(product.to_string()))
        .filter(releases::version.eq(version.to_string()))
        .select(COLUMNS);
    Ok(find::<_, Row>(conn, query)?.map(Into::into))
}

/// Highest epoch and counter of a product.
pub(crate) fn newest(conn: &mut DbConn, product: &Product) -> QueryResult<Option<(u32, u64)>> {
    let query = releases::table
        .filter(releases::product.eq(product.to_string()))
        .order((releases::epoch.desc(), releases::counter.desc()))
        .select((releases::epoch, releases::counter))
        .limit(1);
    Ok(find::<_, (i64, i64)>(conn, query)?.map(|(epoch, counter)| (to_u32(epoch), to_u64(counter))))
}

/// Where a release stands in the list.
#[derive(Clone, Debug, Queryable)]
pub(crate) struct Place {
    published_at: Ms,
    product: String,
    epoch: i64,
    counter: i64,
}

impl Place {
    /// Before the first of the list.
    pub(crate) fn top() -> Self {
        let published_at = Timestamp::from_millis(i64::MAX).into();
        Self { published_at, product: String::new(), epoch: i64::MAX, counter: i64::MAX }
    }
}

/// Where a release stands in the list; `None` if there is no such release.
pub(crate) fn place(conn: &mut DbConn, sha256: Digest) -> QueryResult<Option<Place>> {
    let columns = (releases::published_at, releases::product, releases::epoch, releases::counter);
    find(conn, releases::table.find(Sha(sha256)).select(columns))
}

/// A page of releases, of one product or of all, behind `after`: newest first, those of one moment by product, and the
/// newest of each product first.
pub(crate) fn list(
    conn: &mut DbConn,
    product: Option<&Product>,
    after: Place,
    limit: i64,
) -> QueryResult<Vec<Published>> {
    let older =
        releases::epoch.lt(after.epoch).or(releases::epoch.eq(after.epoch).and(releases::counter.lt(after.counter)));
    let behind = releases::product.gt(after.product.clone()).or(releases::product.eq(after.product).and(older));
    let query = releases::table
        .filter(
            releases::published_at.lt(after.published_at).or(releases::published_at.eq(after.published_at).and(behind)),
        )
        .order((
            releases::published_at.desc(),
            releases::product.asc(),
            releases::epoch.desc(),
            releases::counter.desc(),
        ))
        .select(COLUMNS)
        .limit(limit);
    let rows: Vec<Row> = match product {
        Some(product) => load(conn, query.filter(releases::product.eq(product.to_string())))?,
        None => load(conn, query)?,
    };
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Writes a new release.
pub(crate) fn insert(
    conn: &mut DbConn,
    sha256: Digest,
    release: &release::Release,
    envelope: &[u8],
    now: Timestamp,
) -> QueryResult<()> {
    let row = (
        releases::sha256.eq(Sha(sha256)),
        releases::product.eq(release.product.as_str()),
        releases::version.eq(release.version.as_str()),
        releases::epoch.eq(to_i64(release.epoch)),
        releases::counter.eq(to_i64(release.counter)),
        releases::envelope.eq(envelope),
        releases::published_at.eq(Ms::from(now)),
    );
    execute(conn, diesel::insert_into(releases::table).values(row)).map(drop)
}
