//! Keyset paging: `after` and `limit`.

use callboard_proto::{
    admin::{DEFAULT_PAGE, MAX_PAGE, Page},
    problem::Code,
};
use serde::Deserialize;

use super::problem::{ApiProblem, ApiResult};

/// Query parameters of a list without filters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paging {
    #[serde(default)]
    pub(crate) after: Option<String>,
    #[serde(default)]
    pub(crate) limit: Option<u32>,
}

/// How many rows to read: one more than a page, to know whether there is another.
pub(crate) fn rows(limit: Option<u32>) -> ApiResult<i64> {
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    if (1..=MAX_PAGE).contains(&limit) {
        Ok(i64::from(limit) + 1)
    } else {
        Err(ApiProblem::new(Code::BadRequest, format!("limit is {limit}; 1 to {MAX_PAGE} are allowed")))
    }
}

/// Cuts the extra row off and names the last one kept.
pub(crate) fn page<T>(mut items: Vec<T>, rows: i64, key: impl Fn(&T) -> String) -> Page<T> {
    let limit = usize::try_from(rows - 1).unwrap_or(0);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more { items.last().map(key) } else { None };
    Page { items, next }
}
