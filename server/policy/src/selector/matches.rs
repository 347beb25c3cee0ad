//! The evaluator in memory.

use std::{borrow::Cow, cmp::Ordering};

use callboard_proto::{time::Timestamp, version::Version};

use super::{Expr, Field, Seen, Value};
use crate::device::{Connectivity, Device};

/// What a device has in a field.
pub(super) enum Fact<'a> {
    Id(callboard_proto::ids::DeviceId),
    Text(&'a str),
    Version(Cow<'a, Version>),
    Time(Timestamp),
    Status(Connectivity),
}

pub(super) fn expr(expr: &Expr, device: &Device, seen: &Seen) -> bool {
    match expr {
        Expr::All => true,
        Expr::And(parts) => parts.iter().all(|part| self::expr(part, device, seen)),
        Expr::Or(parts) => parts.iter().any(|part| self::expr(part, device, seen)),
        Expr::Not(inner) => !self::expr(inner, device, seen),
        Expr::Exists(field) => fact(field, device, seen).is_some(),
        Expr::Compare { field, op, value } => fact(field, device, seen)
            .and_then(|fact| compare(&fact, value, seen.now))
            .is_some_and(|order| op.holds(order)),
        Expr::In { field, values, negated } => fact(field, device, seen).is_some_and(|fact| {
            let found = values.iter().any(|value| compare(&fact, value, seen.now) == Some(Ordering::Equal));
            found != *negated
        }),
        Expr::Like { field, glob } => match fact(field, device, seen) {
            Some(Fact::Text(text)) => glob.matches(text),
            Some(Fact::Version(version)) => glob.matches(version.as_str()),
            _ => false,
        },
    }
}

pub(super) fn fact<'a>(field: &Field, device: &'a Device, seen: &Seen) -> Option<Fact<'a>> {
    let reported = |text: &'a str| Some(text).filter(|text| !text.is_empty()).map(Fact::Text);
    match field {
        Field::Id => Some(Fact::Id(device.id)),
        Field::Name => Some(Fact::Text(device.name.as_str())),
        Field::Site => device.site.as_ref().map(|site| Fact::Text(site.as_str())),
        Field::Status => Some(Fact::Status(seen.status)),
        Field::LastSeen => seen.last_seen.map(Fact::Time),
        Field::Enrolled => device.enrolled_at.map(Fact::Time),
        Field::Hw => reported(&device.hw),
        Field::Arch => reported(&device.arch),
        Field::Tz => zone(device).map(Fact::Text),
        Field::Agent => device.agent.parse().ok().map(|version| Fact::Version(Cow::Owned(version))),
        Field::Version(product) => device.installed(product).map(|one| Fact::Version(Cow::Borrowed(&one.version))),
        Field::Label(key) => device.labels.get(key).map(|value| Fact::Text(value)),
        Field::Attr(key) => device.attributes.get(key).map(|value| Fact::Text(value)),
    }
}

fn zone(device: &Device) -> Option<&str> {
    device
        .site_tz
        .map(|tz| tz.name())
        .or_else(|| device.labels.get("tz").map(String::as_str))
        .or_else(|| device.tz.map(|tz| tz.name()))
}

/// `None` if the value is not of the field's kind, which the parser excludes.
fn compare(fact: &Fact<'_>, value: &Value, now: Timestamp) -> Option<Ordering> {
    match (fact, value) {
        (Fact::Id(a), Value::Id(b)) => Some(a.cmp(b)),
        (Fact::Text(a), Value::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Fact::Version(a), Value::Version(b)) => Some(a.as_ref().cmp(b)),
        (Fact::Time(a), Value::Time(b)) => Some(a.cmp(&b.at(now))),
        (Fact::Status(a), Value::Status(b)) => Some(a.cmp(b)),
        _ => None,
    }
}
