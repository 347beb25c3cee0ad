//! CSV with a header line; columns such as `label.region` carry their key in their name.
//!
//! A line is a row, also inside quotes: a quote that somebody forgot to close would swallow the rows behind it. Whatever
//! could be read in two ways is refused.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use super::Row;

/// The cells of one line, by column.
pub(crate) struct Cells<'a> {
    columns: &'a [String],
    cells: &'a [String],
}

impl Cells<'_> {
    /// The text of a column; `None` if it is empty or missing.
    pub(super) fn text(&self, column: &str) -> Option<&str> {
        let index = self.columns.iter().position(|name| name == column)?;
        self.cells.get(index).map(String::as_str).filter(|text| !text.is_empty())
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
        for (column, text) in self.columns.iter().zip(self.cells) {
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

/// Reads all lines, each with its number; empty ones are passed over.
pub(super) fn parse<T: Row>(text: &str) -> Result<Vec<(u64, T)>, String> {
    let mut lines = (1_u64..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let (first, header) = lines.next().ok_or("it is empty; the first line names the columns")?;
    let columns = split(header).map_err(|what| format!("line {first}, {what}"))?;
    check_columns::<T>(&columns).map_err(|what| format!("line {first}{what}"))?;
    let mut rows = Vec::new();
    for (line, text) in lines {
        let cells = split(text).map_err(|what| format!("line {line}, {what}"))?;
        if cells.len() != columns.len() {
            return Err(format!("line {line}: {} columns, but the header has {}", cells.len(), columns.len()));
        }
        let cells = Cells { columns: &columns, cells: &cells };
        rows.push((line, T::from_cells(&cells).map_err(|what| format!("line {line}, {what}"))?));
    }
    Ok(rows)
}

/// The cells of a line, without the blanks around them.
fn split(line: &str) -> Result<Vec<String>, String> {
    let (mut cells, mut rest) = (Vec::new(), Some(line));
    while let Some(text) = rest {
        let (cell, after) = cell(text).map_err(|what| format!("column {}: {what}", cells.len() + 1))?;
        cells.push(cell.trim().to_owned());
        rest = after;
    }
    Ok(cells)
}

/// The first cell, and what follows the comma behind it.
fn cell(text: &str) -> Result<(String, Option<&str>), &'static str> {
    let Some(mut rest) = text.trim_start().strip_prefix('"') else {
        let (cell, after) = text.split_once(',').map_or((text, None), |(cell, after)| (cell, Some(after)));
        if cell.contains('"') {
            return Err("a quote in the middle; put the whole cell in quotes, and each quote in it twice");
        }
        if cell.contains('\r') {
            return Err("a line that ends in CR alone; lines end in LF or CR LF");
        }
        return Ok((cell.to_owned(), after));
    };
    let mut cell = String::new();
    loop {
        let (part, after) = rest.split_once('"').ok_or("the quote is not closed on this line")?;
        cell.push_str(part);
        let Some(more) = after.strip_prefix('"') else {
            let after = after.trim_start();
            return match after.strip_prefix(',') {
                None if !after.is_empty() => Err("text behind the closing quote"),
                next => Ok((cell, next)),
            };
        };
        cell.push('"');
        rest = more;
    }
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
            let hint = if column.contains([';', '\t']) { "they are separated by commas, and " } else { "" };
            return Err(format!(", column {}: {column:?} is not known; {hint}columns are {}", n + 1, wanted()));
        }
        if columns.iter().take(n).any(|other| other == column) {
            return Err(format!(", column {}: {column:?} stands twice", n + 1));
        }
    }
    match T::REQUIRED.iter().find(|required| !columns.iter().any(|column| column == *required)) {
        Some(missing) => Err(format!(": column {missing:?} is missing; columns are {}", wanted())),
        None => Ok(()),
    }
}
