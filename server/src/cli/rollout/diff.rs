//! What a file says otherwise than the server, as a table.

use serde_json::Value;

use crate::{cli::table, differences::Difference};

/// One row for each.
pub(super) fn rows(differences: &[Difference]) -> String {
    let shown = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rows = differences.iter().map(|one| [one.field.clone(), shown(&one.server), shown(&one.file)]);
    table::list(["FIELD", "SERVER", "FILE"], rows)
}
