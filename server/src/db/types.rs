//! Column types: how ids, digests, times, enums, sets and JSON stand in the database.

use std::str::FromStr;

use callboard_proto::{digest::Digest, ids::Id, time::Timestamp};
use diesel::{
    QueryResult,
    backend::Backend,
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    result::Error,
    serialize::{self, Output, ToSql},
    sql_types::{BigInt, Binary},
};
use roaring::RoaringBitmap;
use serde::{Serialize, de::DeserializeOwned};

/// 16 bytes of a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = Binary)]
pub(crate) struct Uid(pub(crate) uuid::Uuid);

impl<K> From<Id<K>> for Uid {
    fn from(id: Id<K>) -> Self {
        Self(id.uuid())
    }
}

impl Uid {
    /// As an id of the kind that its column promises.
    pub(crate) const fn id<K>(self) -> Id<K> {
        Id::from_uuid(self.0)
    }
}

impl<DB: Backend> ToSql<Binary, DB> for Uid
where
    [u8]: ToSql<Binary, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.0.as_bytes().as_slice().to_sql(out)
    }
}

impl<DB: Backend> FromSql<Binary, DB> for Uid
where
    Vec<u8>: FromSql<Binary, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(uuid::Uuid::from_slice(&Vec::<u8>::from_sql(bytes)?)?))
    }
}

/// 32 bytes of a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = Binary)]
pub(crate) struct Sha(pub(crate) Digest);

impl<DB: Backend> ToSql<Binary, DB> for Sha
where
    [u8]: ToSql<Binary, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.0.as_bytes().as_slice().to_sql(out)
    }
}

impl<DB: Backend> FromSql<Binary, DB> for Sha
where
    Vec<u8>: FromSql<Binary, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        let bytes = Vec::<u8>::from_sql(bytes)?;
        Digest::from_slice(&bytes).map(Self).ok_or_else(|| "not 32 bytes".into())
    }
}

/// A point in time, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, AsExpression, FromSqlRow)]
#[diesel(sql_type = BigInt)]
pub(crate) struct Ms(i64);

impl From<Timestamp> for Ms {
    fn from(time: Timestamp) -> Self {
        Self(time.millis())
    }
}

impl From<Ms> for Timestamp {
    fn from(ms: Ms) -> Self {
        Self::from_millis(ms.0)
    }
}

impl<DB: Backend> ToSql<BigInt, DB> for Ms
where
    i64: ToSql<BigInt, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.0.to_sql(out)
    }
}

impl<DB: Backend> FromSql<BigInt, DB> for Ms
where
    i64: FromSql<BigInt, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        i64::from_sql(bytes).map(Self)
    }
}

/// Reads a JSON column.
pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> QueryResult<T> {
    serde_json::from_str(text).map_err(|source| Error::DeserializationError(source.into()))
}

/// Writes a JSON column.
pub(super) fn to_json<T: Serialize>(value: &T) -> QueryResult<String> {
    serde_json::to_string(value).map_err(|source| Error::SerializationError(source.into()))
}

/// Reads a column with a set of device numbers.
pub(super) fn from_set(bytes: &[u8]) -> QueryResult<RoaringBitmap> {
    RoaringBitmap::deserialize_from(bytes).map_err(|source| Error::DeserializationError(source.into()))
}

/// Writes a column with a set of device numbers.
pub(super) fn to_set(set: &RoaringBitmap) -> QueryResult<Vec<u8>> {
    let mut bytes = Vec::with_capacity(set.serialized_size());
    set.serialize_into(&mut bytes).map_err(|source| Error::SerializationError(source.into()))?;
    Ok(bytes)
}

/// Reads a column with text that has a grammar of its own: a name, a version, a zone.
pub(super) fn parse<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(text: &str) -> QueryResult<T> {
    text.parse().map_err(|source: T::Err| Error::DeserializationError(source.into()))
}

/// How one of `all` is stored: as its place among them.
pub(super) fn place<T: PartialEq>(all: &[T], one: &T) -> i16 {
    all.iter().position(|other| other == one).and_then(|n| i16::try_from(n).ok()).unwrap_or_default()
}

/// The one of `all` that is stored as `place`; `what` names it when there is none.
pub(super) fn at_place<T: Copy>(all: &[T], place: i16, what: &str) -> QueryResult<T> {
    let found = usize::try_from(place).ok().and_then(|n| all.get(n).copied());
    found.ok_or_else(|| Error::DeserializationError(what.into()))
}

/// Widens a count for its column.
pub(super) fn to_i64(n: impl TryInto<i64>) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}

/// Narrows a column that never holds a negative or larger number.
pub(super) fn to_u32(n: i64) -> u32 {
    u32::try_from(n).unwrap_or(0)
}

/// Narrows a column that never holds a negative number.
pub(super) fn to_u64(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
