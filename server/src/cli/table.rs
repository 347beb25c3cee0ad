//! Tables for people. What devices or other operators wrote is shown, never obeyed.

use callboard_proto::text::shown;
use comfy_table::{Table, presets};

/// A table without lines: one heading and one row for each item.
pub(crate) fn list<const N: usize>(headings: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings);
    for row in rows {
        table.add_row(row.iter().map(|cell| shown(cell).into_owned()));
    }
    lay_out(table)
}

/// Two columns: what, and its value; what is empty is left out.
pub(crate) fn fields<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, value) in pairs {
        if !value.is_empty() {
            table.add_row([name.to_owned(), shown(&value).into_owned()]);
        }
    }
    lay_out(table)
}

fn lay_out(mut table: Table) -> String {
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table.trim_fmt()
}

/// `key=value` pairs with commas between.
pub(crate) fn pairs<'a, K: std::fmt::Display + 'a, V: std::fmt::Display + 'a>(
    map: impl IntoIterator<Item = (&'a K, &'a V)>,
) -> String {
    map.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

/// The value as text, or nothing.
pub(crate) fn or_empty(value: Option<impl std::fmt::Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// The name that a unit variant has on the wire.
pub(crate) fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_escapes_are_shown() {
        let rows = [
            ["till-1".to_owned(), "\u{1b}]0;owned\u{7}".to_owned()],
            ["till-200".to_owned(), "a\u{202e}b\nc".to_owned()],
        ];
        assert_eq!(
            list(["NAME", "HW"], rows),
            "NAME      HW\n\
             till-1    \\u{1b}]0;owned\\u{7}\n\
             till-200  a\\u{202e}b\\nc"
        );
    }

    #[test]
    fn empty_fields_are_left_out() {
        let shown = fields([("name", "till-1".to_owned()), ("serial", String::new()), ("status", "online".to_owned())]);
        assert_eq!(shown, "name    till-1\nstatus  online");
    }

    #[test]
    fn words_are_those_of_the_wire() {
        assert_eq!(word(&callboard_proto::state::AssignmentState::RolledBack), "rolled_back");
    }
}
