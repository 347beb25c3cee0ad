//! Text in paths and queries that has a grammar.

use std::{fmt::Display, str::FromStr};

use callboard_proto::problem::Code;

use super::problem::{ApiProblem, ApiResult};

/// Reads a parameter; `what` names it in the problem.
pub(crate) fn parse<T: FromStr<Err: Display>>(what: &str, text: &str) -> ApiResult<T> {
    text.parse().map_err(|source: T::Err| ApiProblem::new(Code::BadRequest, format!("{what}: {source}")))
}

/// Reads a parameter that may be absent.
pub(crate) fn parse_some<T: FromStr<Err: Display>>(what: &str, text: Option<&str>) -> ApiResult<Option<T>> {
    text.map(|text| parse(what, text)).transpose()
}
