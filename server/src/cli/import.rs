//! Reading sites and devices from CSV or JSON files, and sending them in batches.
//!
//! Errors name line and column of the file. An import may be repeated: what is there already is left alone.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use callboard_proto::{
    admin::{Eligible, ImportDevice, ImportDevices, ImportSite, ImportSites, Imported, MAX_IMPORT},
    ids::RolloutName,
};
use serde::Serialize;

use super::{
    api::{self, Api},
    bandwidth::Limits,
    exit::{BadInput, unusable},
};
use crate::hours::Hours;

mod csv;
mod json;

/// What an import file holds; columns and JSON key by kind.
pub(crate) trait Row: Sized + Clone + Serialize {
    /// The name of the list, in JSON and in the API.
    const LIST: &'static str;
    /// Columns that a CSV file may have; those ending in a dot are followed by a key.
    const COLUMNS: &'static [&'static str];
    /// Columns that it must have.
    const REQUIRED: &'static [&'static str];
    /// The body of one import.
    type Body: Serialize;

    /// Reads one CSV line from its cells that are not empty; the error names the column.
    fn from_cells(cells: &csv::Cells<'_>) -> Result<Self, String>;
    /// Reads a JSON file.
    fn from_json(text: &str) -> Result<Vec<Self>, serde_json::Error>;
    /// What must not stand twice in a file.
    fn key(&self) -> &str;
    /// What must not either, where there is one.
    fn serial(&self) -> Option<&str>;
    /// The request for some of them.
    fn body(rows: Vec<Self>, dry_run: bool) -> Self::Body;
}

/// Which file, and whether only to try.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// A .csv or .json file, or - for standard input (JSON if it begins with [ or {, else CSV)
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Only say what would happen
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Csv,
    Json,
}

/// Bytes of one request at most, with room left below what the server takes.
const MAX_BYTES: usize = 6 << 20;

/// Reads the whole file before anything is sent, then imports it in batches. A file of several is tried as a whole first,
/// so that the last rows do not come to nothing when the first are imported.
pub(crate) fn run<T: Row>(api: &Api, args: &ImportArgs) -> anyhow::Result<Imported> {
    let rows: Vec<T> = read(&args.file)?;
    let batches = batches(&rows)?;
    if batches.len() > 1 && !args.dry_run {
        send(api, &batches, true).context("nothing was imported")?;
    }
    send(api, &batches, args.dry_run)
}

/// As many rows as one request takes, again and again.
fn batches<T: Row>(rows: &[T]) -> anyhow::Result<Vec<&[T]>> {
    let (mut batches, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (n, row) in rows.iter().enumerate() {
        let size = serde_json::to_vec(row)?.len() + 1;
        if n - start == MAX_IMPORT || bytes + size > MAX_BYTES {
            batches.extend(rows.get(start..n));
            (start, bytes) = (n, 0);
        }
        bytes += size;
    }
    batches.extend(rows.get(start..));
    Ok(batches)
}

fn send<T: Row>(api: &Api, batches: &[&[T]], dry_run: bool) -> anyhow::Result<Imported> {
    let mut total = Imported { created: 0, updated: 0, unchanged: 0, dry_run, eligible: Vec::new() };
    let mut eligible: BTreeMap<RolloutName, u64> = BTreeMap::new();
    let path = api::Path::new([T::LIST, "import"]);
    let (mut done, all) = (0, batches.iter().map(|batch| batch.len()).sum::<usize>());
    for batch in batches {
        let answer: Imported = api.post(&path, &T::body(batch.to_vec(), dry_run)).with_context(|| {
            let before = if dry_run || done == 0 { "" } else { " (those before are imported)" };
            format!("{} {} to {} of {all}{before}", T::LIST, done + 1, done + batch.len())
        })?;
        done += batch.len();
        total.created += answer.created;
        total.updated += answer.updated;
        total.unchanged += answer.unchanged;
        for one in answer.eligible {
            *eligible.entry(one.rollout).or_default() += one.devices;
        }
    }
    total.eligible = eligible.into_iter().map(|(rollout, devices)| Eligible { rollout, devices }).collect();
    Ok(total)
}

fn read<T: Row>(file: &Path) -> anyhow::Result<Vec<T>> {
    let (bytes, name) = if file == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
        (bytes, "standard input".to_owned())
    } else {
        (fs::read(file).map_err(unusable("read", file))?, file.display().to_string())
    };
    let text = decode(bytes).map_err(|what| BadInput(format!("{name}: {what}")))?;
    let format = match file.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Format::Csv,
        Some("json") => Format::Json,
        _ if file == Path::new("-") => sniff(&text),
        _ => return Err(BadInput(format!("{name}: the name must end in .csv or .json")).into()),
    };
    parse(&text, format).map_err(|what| BadInput(format!("{name}: {what}")).into())
}

/// UTF-8, with or without the mark that spreadsheets put before it.
fn decode(bytes: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line} is not UTF-8; save the file in that encoding")
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn sniff(text: &str) -> Format {
    if text.trim_start().starts_with(['[', '{']) { Format::Json } else { Format::Csv }
}

fn parse<T: Row>(text: &str, format: Format) -> Result<Vec<T>, String> {
    let (rows, unit): (Vec<(u64, T)>, _) = match format {
        Format::Csv => (csv::parse(text)?, "lines"),
        Format::Json => {
            // serde's message ends in "at line 3 column 7".
            let rows = T::from_json(text).map_err(|error| error.to_string())?;
            ((1..).zip(rows).collect(), "items")
        }
    };
    if rows.is_empty() {
        return Err(format!("there are no {} in it", T::LIST));
    }
    let (mut keys, mut serials) = (HashMap::new(), HashMap::new());
    for (place, row) in &rows {
        if let Some(first) = keys.insert(row.key(), place) {
            return Err(format!("{:?} stands twice, in {unit} {first} and {place}", row.key()));
        }
        if let Some(serial) = row.serial()
            && let Some(first) = serials.insert(serial, place)
        {
            return Err(format!("serial number {serial:?} stands twice, in {unit} {first} and {place}"));
        }
    }
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

impl Row for ImportSite {
    const LIST: &'static str = "sites";
    const COLUMNS: &'static [&'static str] = &["id", "name", "tz", "trading_hours", "bandwidth", "label."];
    const REQUIRED: &'static [&'static str] = &["id", "tz"];
    type Body = ImportSites;

    fn from_cells(cells: &csv::Cells<'_>) -> Result<Self, String> {
        Ok(Self {
            id: cells.required("id")?,
            name: cells.text("name").unwrap_or_default().to_owned(),
            tz: cells.required("tz")?,
            labels: cells.map("label.")?,
            trading_hours: cells.optional::<Hours>("trading_hours")?.map(|hours| hours.0),
            bandwidth: cells.optional::<Limits>("bandwidth")?.map(|limits| limits.0),
        })
    }

    fn from_json(text: &str) -> Result<Vec<Self>, serde_json::Error> {
        json::sites(text)
    }

    fn key(&self) -> &str {
        self.id.as_str()
    }

    fn serial(&self) -> Option<&str> {
        None
    }

    fn body(rows: Vec<Self>, dry_run: bool) -> ImportSites {
        ImportSites { sites: rows, dry_run }
    }
}

impl Row for ImportDevice {
    const LIST: &'static str = "devices";
    const COLUMNS: &'static [&'static str] = &["name", "site", "serial", "description", "label.", "installed."];
    const REQUIRED: &'static [&'static str] = &["name"];
    type Body = ImportDevices;

    fn from_cells(cells: &csv::Cells<'_>) -> Result<Self, String> {
        Ok(Self {
            name: cells.required("name")?,
            site: cells.optional("site")?,
            serial: cells.text("serial").map(str::to_owned),
            description: cells.text("description").unwrap_or_default().to_owned(),
            labels: cells.map("label.")?,
            installed: cells.map("installed.")?,
        })
    }

    fn from_json(text: &str) -> Result<Vec<Self>, serde_json::Error> {
        json::devices(text)
    }

    fn key(&self) -> &str {
        self.name.as_str()
    }

    fn serial(&self) -> Option<&str> {
        self.serial.as_deref()
    }

    fn body(rows: Vec<Self>, dry_run: bool) -> ImportDevices {
        ImportDevices { devices: rows, dry_run }
    }
}

#[cfg(test)]
mod tests;
