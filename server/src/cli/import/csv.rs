//! CSV with a header line; columns such as `label.region` carry their key in their name.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use super::Row;

/// The cells of one line, by column.
pub(crate) struct Cells<'a> {
    columns: &'a [String],
    record: &'a csv::StringRecord,
}

impl Cells<'_> {
    /// The text of a column; `None` if it is empty or missing.
    pub(super) fn text(&self, column: &str) -> Option<&str> {
        let index = self.columns.iter().position(|name| name == column)?;
        self.record.get(index).filter(|text| !text.is_empty())
    }

    /// The value of a column; `None` if it is empty or missing.
    pub(super) fn optional<T: FromStr<Err: Display>>(&self, column: &str) -> Result<Option<T>, String> {
        self.text(column).map(|text| value(column, text)).transpose()
    }

    /// The value of a column that must have one.
    pub(super) fn required<T: FromStr<Err: Display>>(&self, column: &str) -> Result<T, String> {
        self.optional(column)?.ok_or_else(|| format!("column {column}: it is empty"))
    }

    /// The values of all columns that begin with `prefix`, by the rest of their name.
    pub(super) fn map<K, V>(&self, prefix: &str) -> Result<BTreeMap<K, V>, String>
    where
        K: FromStr<Err: Display> + Ord,
        V: FromStr<Err: Display>,
    {
        let mut map = BTreeMap::new();
        for (column, text) in self.columns.iter().zip(self.record) {
            if let Some(key) = column.strip_prefix(prefix).filter(|_| !text.is_empty()) {
                map.insert(value(column, key)?, value(column, text)?);
            }
        }
        Ok(map)
    }
}

fn value<T: FromStr<Err: Display>>(column: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("column {column}: {error}"))
}

/// Reads all lines, each with its number.
pub(super) fn parse<T: Row>(text: &str) -> Result<Vec<(u64, T)>, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| explain(text, &error))?;
    let columns: Vec<String> = header.iter().map(str::to_owned).collect();
    check_columns::<T>(&columns)?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| explain(text, &error))?;
        let line = record.position().map_or(0, |at| line_of(text, at));
        let cells = Cells { columns: &columns, record: &record };
        rows.push((line, T::from_cells(&cells).map_err(|what| format!("line {line}, {what}"))?));
    }
    Ok(rows)
}

fn check_columns<T: Row>(columns: &[String]) -> Result<(), String> {
    let allowed = |column: &String| {
        T::COLUMNS.iter().any(|known| match known.strip_suffix('.') {
            Some(_) => column.strip_prefix(known).is_some_and(|key| !key.is_empty()),
            None => column == known,
        })
    };
    let wanted = || {
        let names = T::COLUMNS
            .iter()
            .map(|known| if known.ends_with('.') { format!("{known}KEY") } else { (*known).to_owned() });
        names.collect::<Vec<_>>().join(", ")
    };
    for (n, column) in columns.iter().enumerate() {
        if !allowed(column) {
            return Err(format!("line 1, column {}: {column:?} is not known; columns are {}", n + 1, wanted()));
        }
        if columns.iter().take(n).any(|other| other == column) {
            return Err(format!("line 1, column {}: {column:?} stands twice", n + 1));
        }
    }
    match T::REQUIRED.iter().find(|required| !columns.iter().any(|column| column == *required)) {
        Some(missing) => Err(format!("line 1: column {missing:?} is missing; columns are {}", wanted())),
        None => Ok(()),
    }
}

fn explain(text: &str, error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos: Some(at), expected_len, len } => {
            format!("line {}: {len} columns, but the header has {expected_len}", line_of(text, at))
        }
        _ => error.to_string(),
    }
}

/// The reader's position is before the empty lines that it skips; people count from the line with text.
fn line_of(text: &str, at: &csv::Position) -> u64 {
    let rest = usize::try_from(at.byte()).ok().and_then(|start| text.as_bytes().get(start..)).unwrap_or_default();
    let skipped = rest.iter().take_while(|c| matches!(c, b'\r' | b'\n')).filter(|c| **c == b'\n').count();
    at.line() + u64::try_from(skipped).unwrap_or(0)
}
