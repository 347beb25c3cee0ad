//! The life that a device leads: it begins when the device enrols, and anew when its system was installed anew. Nothing
//! of what was before is the device's own any more. Here, and nowhere else, is said what is.

use callboard_proto::time::Timestamp;
use diesel::{BoolExpressionMethods as _, ExpressionMethods as _, NullableExpressionMethods as _};

use super::schema::{assignments, devices, penalties};

/// Since when a device leads it.
pub(super) fn since(enrolled_at: Option<Timestamp>, imaged_at: Option<Timestamp>) -> Timestamp {
    enrolled_at.max(imaged_at).unwrap_or_default()
}

/// Assignments of it.
#[diesel::dsl::auto_type(no_type_alias)]
pub(super) fn own_assignment() -> _ {
    let at = assignments::created_at.nullable();
    let enrolled = devices::enrolled_at.is_null().or(at.ge(devices::enrolled_at));
    enrolled.and(devices::imaged_at.is_null().or(at.ge(devices::imaged_at)))
}

/// Releases that rolled back in it.
#[diesel::dsl::auto_type(no_type_alias)]
pub(super) fn own_penalty() -> _ {
    let at = penalties::at.nullable();
    let enrolled = devices::enrolled_at.is_null().or(at.ge(devices::enrolled_at));
    enrolled.and(devices::imaged_at.is_null().or(at.ge(devices::imaged_at)))
}
