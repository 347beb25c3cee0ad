//! The selector language: which devices a list, a rollout or a preview means.
//!
//! ```text
//! region = northeast and version("pos-app") < 2.2.0 and not canary = true
//! status = online or last_seen > 24h ago
//! site in (NYC-001, BOS-002) and hw ~ "verifone-*"
//! ```
//!
//! # Grammar
//!
//! ```text
//! expr   = all | expr or expr | expr and expr | not expr | ( expr ) | term       not binds before and, and before or
//! term   = exists field | field op value | field ~ glob | field [not] in ( value, ... )
//! op     = = | != | < | <= | > | >=
//! field  = id | name | site | status | last_seen | enrolled | hw | arch | tz | agent
//!        | version( value ) | label.key | key | attr.key
//! glob   = value
//! value  = word | "text, with \" and \\ escaped"
//! ```
//!
//! A word is made of `A-Z a-z 0-9 . _ - : + / @ * ?`; anything else needs quotes. That rule has no exception: the product
//! in `version(pos-app)` may do without, as every name of a product is a word. The canonical text quotes it, so that it
//! is not taken for a key. Keys are made of `A-Z a-z 0-9 . _ -`, or quoted after `label.` and `attr.`. Key words and
//! names of fields are lower case. A bare key that is no field is a label.
//!
//! # Meaning
//!
//! Two evaluators exist, [`Selector::matches`] here and SQL on the server, and they must agree on every device:
//!
//! * There are two truth values. A term about something that the device does not have is false, whatever the
//!   operator, `!=` and `not in` included. `not` inverts: `not canary = true` is true without the label,
//!   `canary != true` is not.
//! * `exists field` is true if the device has it. `id`, `name` and `status` always exist. `hw`, `arch` and `agent`
//!   exist when they are not empty, `last_seen` after the first check-in, `enrolled` after the first certificate.
//! * Labels are the effective ones: the device's own over its site's.
//! * Text compares byte by byte in UTF-8 (`<` too); case counts; nothing is trimmed or read as a number. `~` takes
//!   a [`Glob`] that must match the whole text.
//! * `version(..)` and `agent` compare by [`sort_key`](callboard_proto::version::Version::sort_key), so `2.1 = 2.1.0`; `~` looks at the text as it was
//!   reported. An agent whose version is no version has no `agent`.
//! * `tz` is the text of the first of: the site's zone, the label `tz`, the zone the device reports.
//! * `id` takes a device id or, as everywhere, a device name: `id = till-1` is short for `name = till-1`.
//! * Times are RFC 3339 in UTC, or an age (`90s ago`, `24h ago`, `7d ago`; s, m, h, d, w) counted back from now;
//!   later is greater, to the millisecond.
//! * `status` is derived from `last_seen` as in [`crate::device::Connectivity`].
//! * `all` is true.

mod ast;
mod doubts;
mod explain;
mod glob;
mod matches;
mod parse;
mod text;
mod within;

use std::{fmt, str::FromStr};

pub use ast::{Ago, Expr, Field, Kind, Op, TimeUnit, TimeValue, Value};
use callboard_proto::time::Timestamp;
pub use doubts::Doubt;
pub use glob::Glob;

use crate::device::{Connectivity, Device};

/// Longest selector in bytes: a list of two hundred names fits.
pub const MAX_LEN: usize = 8192;
/// Parentheses and `not`s within each other.
pub const MAX_DEPTH: usize = 16;
/// Terms in one selector; each becomes a condition of one SQL statement.
pub const MAX_TERMS: usize = 128;
/// Values of all `in` lists together; each becomes a bind parameter.
pub const MAX_VALUES: usize = 512;

/// A parsed selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    expr: Expr,
}

/// What matching needs beside the device: time, and what a check-in changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The last check-in.
    pub last_seen: Option<Timestamp>,
    /// Derived from it.
    pub status: Connectivity,
    /// When the question is asked.
    pub now: Timestamp,
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// Names the column, what stands there, and what was expected.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parse::selector(text).map(|expr| Self { expr })
    }

    /// Wraps an expression.
    pub fn from_expr(expr: Expr) -> Self {
        Self { expr }
    }

    /// The selector of every device.
    pub fn all() -> Self {
        Self { expr: Expr::All }
    }

    /// The expression, for other evaluators.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Whether it selects `device`.
    pub fn matches(&self, device: &Device, seen: &Seen) -> bool {
        matches::expr(&self.expr, device, seen)
    }

    /// Why it does not select `device`; `None` if it does.
    pub fn why_not(&self, device: &Device, seen: &Seen) -> Option<String> {
        explain::why_not(&self.expr, device, seen)
    }

    /// What it takes for granted about the fleet: if no device confirms one of these, it is most likely mistyped.
    pub fn doubts(&self) -> Vec<Doubt> {
        doubts::of(&self.expr)
    }

    /// Whether it surely selects no device that `outer` does not, as far as their form shows.
    pub fn is_within(&self, outer: &Self) -> bool {
        within::within(&self.expr, &outer.expr)
    }

    /// What both select.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let parts = [&self.expr, &other.expr].into_iter().filter(|part| **part != Expr::All).cloned();
        Self { expr: Expr::and(parts) }
    }

    /// A field that a check-in itself changes, so that it may stand in frozen audiences only.
    pub fn frozen_only(&self) -> Option<&Field> {
        self.expr.fields().into_iter().find(|field| matches!(field, Field::Status | Field::LastSeen))
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse(text)
    }
}

/// The canonical text: parsing it gives the same selector.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

/// Text that is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: expected {expected}, found {found}")]
pub struct SelectorError {
    /// Where, in characters from 1.
    pub column: usize,
    /// What stands there.
    pub found: String,
    /// What would be right.
    pub expected: String,
}

#[cfg(test)]
mod tests;
