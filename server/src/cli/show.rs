//! What a command prints: the API's JSON, or a table.

use std::{
    ffi::OsString,
    io::{self, Write as _},
};

use callboard_proto::{
    admin::Page,
    text::{shown, shown_json},
};
use clap::ValueEnum;
use serde::Serialize;

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
}

impl Format {
    /// What a command line that does not parse asks for.
    pub(crate) fn wished(args: impl Iterator<Item = OsString>) -> Self {
        let args: Vec<OsString> = args.collect();
        let json =
            args.windows(2).any(|two| two == ["--output", "json"]) || args.iter().any(|one| one == "--output=json");
        if json { Self::Json } else { Self::Table }
    }
}

/// Prints `value` as JSON, or what `table` makes of it.
pub(crate) fn value<T: Serialize>(format: Format, value: &T, table: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
    match format {
        Format::Json => line(&shown_json(&serde_json::to_string_pretty(value)?)),
        Format::Table => line(&table(value)),
    }
}

/// Prints a list; says so when it is empty or goes on.
pub(crate) fn page<T: Serialize>(
    format: Format,
    noun: &str,
    page: &Page<T>,
    table: impl FnOnce(&[T]) -> String,
) -> anyhow::Result<()> {
    if format == Format::Json {
        return value(format, page, |_| String::new());
    }
    if page.items.is_empty() {
        eprintln!("no {noun}");
    } else {
        line(&table(&page.items))?;
    }
    if let Some(next) = &page.next {
        eprintln!("there are more {noun}: --after {next} goes on, --limit shows more at once");
    }
    Ok(())
}

/// Says that something was done which has no answer of its own.
pub(crate) fn done(format: Format, what: &str) -> anyhow::Result<()> {
    if format == Format::Json {
        return json_line(&serde_json::json!({ "done": what }));
    }
    eprintln!("{}", shown(what));
    Ok(())
}

/// Prints `value` as JSON on one line.
pub(crate) fn json_line<T: Serialize>(value: &T) -> anyhow::Result<()> {
    line(&shown_json(&serde_json::to_string(value)?))
}

/// Prints one line or several, without anything that a terminal would obey; a reader that has gone away (`| head`) is no
/// error.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let lines: Vec<_> = text.split('\n').map(shown).collect();
    match writeln!(out, "{}", lines.join("\n")).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
