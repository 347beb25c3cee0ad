//! `callboard-agent status` and `callboard-agent config check`

use std::{collections::BTreeMap, fmt, path::Path};

use callboard_launcher::record::Dir;
use callboard_proto::{
    check_in::Installed,
    ids::{DeviceId, Product},
    state::AgentState,
    text::{shown, shown_json},
    time::Timestamp,
};
use serde::Serialize;

use super::{Failed, Output, say};
use crate::{
    Program,
    config::{InstalledBy, ProductSettings, Settings},
    fs::{Disk, Fs},
    identity::{self, Identity},
    install, itself,
    journal::{Journal, Record},
    layout::StateDir,
    products::{ProductRecord, ProductSlots},
    servers,
    status::Seen,
};

/// What `status` shows.
#[derive(Serialize)]
struct Status {
    device_id: DeviceId,
    name: String,
    site: Option<String>,
    server_url: String,
    /// Where the root wants it to be, from where nobody has answered yet.
    moves_to: Option<String>,
    certificate_expires_at: Timestamp,
    state: AgentState,
    /// Which version of the agent runs; without a launcher that is the program's own business.
    agent: Option<OwnVersions>,
    /// Product and version being worked on.
    order: Option<String>,
    installed: Vec<Installed>,
    last_check_in: Option<Timestamp>,
    last_answer: Option<String>,
    last_error: Option<String>,
    attacks: BTreeMap<String, u64>,
}

/// A version of the agent. Without a directory it is the packaged one.
#[derive(Serialize)]
struct OwnVersion {
    version: Option<String>,
    dir: Option<String>,
}

/// What the launcher starts.
#[derive(Serialize)]
struct OwnVersions {
    committed: OwnVersion,
    /// What it starts instead if that does not last.
    previous: OwnVersion,
    /// What it starts first.
    trial: Option<OwnVersion>,
    tries_left: Option<u8>,
}

pub(super) fn status(settings: &Settings, program: Program, output: Output) -> Result<(), Failed> {
    let state_dir = StateDir::new(&settings.state_dir);
    let own = Identity::load(&Disk, &state_dir).map_err(|error| Failed::Tried(error.to_string()))?;
    let record = Journal::peek(&Disk, state_dir.slots(), program.schema)
        .map_err(|error| Failed::Tried(format!("failed to {error}")))?;
    let record = record.unwrap_or_default();
    let seen: Seen = Disk
        .read(&state_dir.status(), 64 * 1024)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let status = Status {
        device_id: own.device_id,
        name: own.name.to_string(),
        site: own.site.as_ref().map(ToString::to_string),
        moves_to: moves_to(&own, &state_dir),
        server_url: own.server_url,
        certificate_expires_at: own.expires_at,
        state: record.state.wire(),
        agent: own_versions(settings, &state_dir, program, &record)?,
        order: order(&record),
        installed: installed(settings, &state_dir, program)?,
        last_check_in: seen.last_check_in,
        last_answer: seen.last_answer,
        last_error: seen.last_error.or(record.last_error),
        attacks: record.attacks,
    };
    match output {
        Output::Json => say(&shown_json(&serde_json::to_string_pretty(&status).unwrap_or_default())),
        Output::Text => say(&text(&status)),
    }
}

fn moves_to(own: &Identity, state_dir: &StateDir) -> Option<String> {
    let root = identity::load_root(&Disk, state_dir).ok()?;
    let listed = servers::listed(&root);
    servers::moves(own, &root, &listed).then(|| listed.first().map(|place| place.url.clone())).flatten()
}

fn order(record: &Record) -> Option<String> {
    record.state.task().map(|task| format!("{} {}", task.order.product, task.order.version))
}

/// What is remembered of a product.
fn product(state_dir: &StateDir, program: Program, product: &Product) -> Result<ProductRecord, Failed> {
    let record = ProductSlots::peek(&Disk, state_dir.product(product), program.schema);
    Ok(record.map_err(|error| Failed::Tried(format!("failed to {error}")))?.unwrap_or_default())
}

fn own_versions(
    settings: &Settings,
    state_dir: &StateDir,
    program: Program,
    record: &Record,
) -> Result<Option<OwnVersions>, Failed> {
    let own = settings.products.iter().find(|(name, _)| itself::is_it(name));
    let Some((name, directory)) = own.and_then(|(name, own)| Some((name, own.directory()?))) else { return Ok(None) };
    let launch = itself::peek(&Disk, directory).map_err(|error| Failed::Tried(format!("failed to {error}")))?;
    let installed = product(state_dir, program, name)?.installed;
    let order = record.state.task().map(|task| &task.order).filter(|order| itself::is_it(&order.product));
    // Names alone do not tell versions.
    let version = |dir: Option<&Dir>| {
        let known = installed.iter().map(|one| (&one.dir, &one.version));
        let mut known = known.chain(order.map(|order| (&order.dir, &order.version)));
        let found = dir.and_then(|dir| known.find(|(name, _)| *name == dir.as_str()));
        OwnVersion { version: found.map(|(_, version)| version.to_string()), dir: dir.map(ToString::to_string) }
    };
    let trial = launch.trial.as_ref();
    Ok(Some(OwnVersions {
        committed: version(launch.committed.as_ref()),
        previous: version(launch.previous.as_ref()),
        trial: trial.map(|trial| version(Some(&trial.dir))),
        tries_left: trial.map(|trial| trial.tries_left),
    }))
}

fn installed(settings: &Settings, state_dir: &StateDir, program: Program) -> Result<Vec<Installed>, Failed> {
    let mut installed = Vec::new();
    for (name, settings) in settings.products.iter().filter(|(name, _)| !itself::is_it(name)) {
        let record = product(state_dir, program, name)?.at_least(settings.floor);
        let there = record.installed.is_some() || install::has_factory(&Disk, settings);
        installed.extend(record.wire(name, settings).filter(|_| there));
    }
    Ok(installed)
}

impl fmt::Display for OwnVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.version, &self.dir) {
            (Some(version), Some(dir)) => write!(f, "{version} ({dir})"),
            (_, Some(dir)) => f.write_str(dir),
            (_, None) => f.write_str("the packaged one"),
        }
    }
}

fn text(status: &Status) -> String {
    let none = || "-".to_owned();
    let mut lines = vec![
        ("device", format!("{} ({})", status.name, status.device_id)),
        ("site", status.site.clone().unwrap_or_else(none)),
        ("server", status.server_url.clone()),
        ("certificate", format!("until {}", status.certificate_expires_at)),
        ("state", format!("{:?}", status.state).to_lowercase()),
    ];
    lines.extend(status.moves_to.clone().map(|url| ("moves to", url)));
    if let Some(agent) = &status.agent {
        let before = agent.committed.dir.as_ref().map(|_| format!(", before it {}", agent.previous));
        lines.push(("agent", format!("{}{}", agent.committed, before.unwrap_or_default())));
        if let Some((trial, tries)) = agent.trial.as_ref().zip(agent.tries_left) {
            lines.push(("on trial", format!("{trial}, {tries} more starts allowed")));
        }
    }
    lines.extend(status.order.clone().map(|order| ("order", order)));
    for one in &status.installed {
        let release = one.release.map_or_else(|| "factory".to_owned(), |digest| digest.short());
        lines.push(("installed", format!("{} {} ({release})", one.product, one.version)));
    }
    lines.push(("last check-in", status.last_check_in.map_or_else(none, |at| at.to_string())));
    lines.push(("last answer", status.last_answer.clone().unwrap_or_else(none)));
    lines.push(("last error", status.last_error.clone().unwrap_or_else(none)));
    let attacks = status.attacks.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>();
    lines.push(("attacks", if attacks.is_empty() { none() } else { attacks.join(", ") }));
    lines.iter().map(|(key, value)| format!("{key:<14} {}", shown(value))).collect::<Vec<_>>().join("\n")
}

pub(super) fn configuration(settings: &Settings, path: &Path) -> Result<(), Failed> {
    let mut products = settings.products.clone();
    products.retain(|name, _| !itself::is_it(name));
    let count = products.len();
    say(&format!("{} is valid: {count} product{}", path.display(), if count == 1 { "" } else { "s" }))?;
    if products.is_empty() {
        say("note: there is no product, so nothing can be updated; add [products.NAME] with its directory")?;
    }
    for (name, product) in &products {
        match &product.installed_by {
            InstalledBy::Agent(directory) if !directory.is_dir() => {
                say(&format!("note: products.{name}.directory {} does not exist yet", directory.display()))?;
            }
            InstalledBy::Agent(_) => {}
            InstalledBy::Program(program) => {
                if let Err(reason) = install::command::usable(&program.path) {
                    say(&format!("note: products.{name} cannot be updated: {reason}"))?;
                }
            }
        }
        if product.health.is_none() && product.service.is_none() {
            say(&format!(
                "note: products.{name} has neither health nor service, so every update of it counts as healthy; add one"
            ))?;
        }
    }
    Ok(())
}

/// The state directory, then those of the products, one a line: what the agent writes to.
pub(super) fn directories(settings: &Settings) -> Result<(), Failed> {
    let products = settings.products.values().filter_map(ProductSettings::directory);
    for directory in [settings.state_dir.as_path()].into_iter().chain(products) {
        say(&directory.display().to_string())?;
    }
    Ok(())
}

pub(super) fn services(settings: &Settings) -> Result<(), Failed> {
    settings.products.values().filter_map(|product| product.service.as_deref()).try_for_each(say)
}
