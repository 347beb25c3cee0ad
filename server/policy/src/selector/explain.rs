//! Why a selector does not match, in words.

use super::{
    Expr, Seen,
    matches::{self, Fact},
};
use crate::device::Device;

pub(super) fn why_not(expr: &Expr, device: &Device, seen: &Seen) -> Option<String> {
    if matches::expr(expr, device, seen) {
        return None;
    }
    Some(match expr {
        Expr::And(parts) => return parts.iter().find_map(|part| why_not(part, device, seen)),
        Expr::Or(parts) => {
            let reasons: Vec<String> = parts.iter().filter_map(|part| why_not(part, device, seen)).collect();
            reasons.join("; and ")
        }
        Expr::All | Expr::Not(_) => format!("{expr} is not so"),
        Expr::Exists(field) | Expr::Compare { field, .. } | Expr::In { field, .. } | Expr::Like { field, .. } => {
            match matches::fact(field, device, seen) {
                None => format!("{expr}: the device has no {field}"),
                Some(fact) => format!("{expr}: it is {}", text(&fact)),
            }
        }
    })
}

fn text(fact: &Fact<'_>) -> String {
    match fact {
        Fact::Id(id) => id.to_string(),
        Fact::Text(text) => (*text).to_owned(),
        Fact::Version(version) => version.to_string(),
        Fact::Time(time) => time.to_string(),
        Fact::Status(status) => status.as_str().to_owned(),
    }
}
