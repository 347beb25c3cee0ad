//! `callboard rollout`: one release, one selector, one policy.

use std::path::PathBuf;

use callboard_proto::{
    admin::{
        Assignment, Because, Device, DevicesOfRollout, EditRollout, Forecast, OpenPhase, Page, Preview, ROLLOUT_SCHEMA,
        RollBack, Rollout, RolloutState,
    },
    ids::RolloutName,
    text::shown,
};

use crate::{differences, rollout_file};

use super::{
    Context,
    api::{Api, PageArgs, Path},
    device,
    exit::{BadInput, EndedBadly},
    show, table,
};

mod devices;
mod diff;
mod file;
mod guards;
mod halt;
mod phase;
mod simulate;
mod spec;
mod status;
mod view;
mod watch;
mod window;

use devices::DevicesArgs;
use spec::SpecArgs;
pub(super) use status::{bar, result};

/// What to do with rollouts.
#[derive(clap::Subcommand)]
pub(crate) enum RolloutCommand {
    /// Make a rollout; it does nothing until it is started
    Create {
        /// Its name
        name: Option<RolloutName>,
        /// Start it at once
        #[arg(long)]
        start: bool,
        #[command(flatten)]
        spec: Box<SpecArgs>,
    },
    /// Show which devices a rollout would reach, phase by phase
    ///
    /// Of a rollout that exists, or, with the flags of `create`, of one that does not.
    Preview {
        /// Its name or id
        rollout: Option<String>,
        #[command(flatten)]
        spec: Box<SpecArgs>,
    },
    /// Show what a rollout would do in the days ahead: the registry is played through them, with the server's decisions
    ///
    /// Devices are taken to be there when they usually are. What nobody can know is assumed by the flags.
    Simulate {
        /// A draft, or the name of what is described, if it is not the file's
        name: Option<RolloutName>,
        #[command(flatten)]
        assume: simulate::AssumeArgs,
        #[command(flatten)]
        spec: Box<SpecArgs>,
    },
    /// Print a rollout as a file that `create --file` takes
    Export {
        /// Its name or id
        rollout: String,
    },
    /// Show where a file differs from the rollout on the server; exit code 1 if it does
    Diff {
        /// The rollout's name or id, if it is not the file's
        rollout: Option<String>,
        /// A .toml or .json file (- is TOML from standard input)
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Change a rollout to what a file says
    ///
    /// Of one that has started only what is safe: windows, limits, halt rules, gates, priority, times and attempts.
    Edit {
        /// The rollout's name or id, if it is not the file's
        rollout: Option<String>,
        /// A .toml or .json file (- is TOML from standard input); export writes one
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        /// Why, for the event log
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Print the JSON Schema of rollout files
    Schema,
    /// Start a rollout
    Start(ChangeArgs),
    /// Make no more grants; devices that have begun to switch finish
    Pause(ChangeArgs),
    /// Go on with a paused rollout
    Resume {
        #[command(flatten)]
        change: ChangeArgs,
        /// Let gates look past the failures so far
        #[arg(long)]
        acknowledge_failures: bool,
    },
    /// Call a rollout off, or only its part for some devices
    Cancel {
        #[command(flatten)]
        change: ChangeArgs,
        /// Only for this device, by its name or id; may be repeated
        #[arg(long = "device", value_name = "DEVICE", requires = "reason")]
        devices: Vec<String>,
        /// Only for the devices that it selects, such as 'site = NYC-001'
        #[arg(long, value_name = "SELECTOR", requires = "reason", conflicts_with = "devices")]
        selector: Option<String>,
    },
    /// Bring the devices that got the release back to an older one, by a rollout of its own; the rollout ends
    #[command(
        after_help = "Examples:\n  callboard rollout rollback spring --to pos-app@2.3.9 --reason 'it prints no receipts'"
    )]
    Rollback {
        #[command(flatten)]
        change: ReasonedArgs,
        /// An older release of the same product that every device accepts: a digest, or product@version
        #[arg(long, value_name = "RELEASE")]
        to: String,
    },
    /// Try devices again that failed, rolled back, timed out or were cancelled
    ///
    /// They begin anew, whatever failed before. A frozen rollout that has completed runs again.
    Retry(DevicesArgs),
    /// Take note of failures: gates and the list of what needs attention look past them
    Skip(DevicesArgs),
    /// Approve a rollout that somebody else has made, as a second person
    ///
    /// The server may ask for it before rollouts for many devices start; freezes let a security rollout pass only with it.
    Countersign(ChangeArgs),
    /// Approve the open phase, for a phase with approval=manual: the next phase opens
    Approve(ChangeArgs),
    /// End the soak of the open phase
    SkipSoak(ReasonedArgs),
    /// Open the next phase now, whatever its gate says
    OpenPhase {
        #[command(flatten)]
        change: ReasonedArgs,
        /// The name of the phase
        phase: String,
    },
    /// Show how a rollout stands
    Status {
        /// Its name or id
        rollout: String,
        /// Follow it until it ends; exit code 1 if it is paused or cancelled
        #[arg(long, conflicts_with = "devices")]
        watch: bool,
        /// List the devices that were offered the release instead
        #[arg(long)]
        devices: bool,
        /// List the devices that it still waits for instead: those that were not offered the release yet
        #[arg(long, conflicts_with_all = ["devices", "watch"])]
        unreached: bool,
        /// Only devices in this state, such as rolled_back
        #[arg(long, value_name = "STATE", requires = "devices")]
        state: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Say when a rollout will be done, as far as that can be told from how it went so far
    Forecast {
        /// Its name or id
        rollout: String,
    },
    /// List rollouts
    List {
        /// Only those in this state
        #[arg(long, value_enum)]
        state: Option<StateName>,
        #[command(flatten)]
        page: PageArgs,
    },
}

/// Which rollout, and why.
#[derive(clap::Args)]
pub(crate) struct ChangeArgs {
    /// Its name or id
    rollout: String,
    /// Why, for the event log
    #[arg(long, default_value = "")]
    reason: String,
}

/// Which rollout, and a reason that must be given.
#[derive(clap::Args)]
pub(crate) struct ReasonedArgs {
    /// Its name or id
    rollout: String,
    /// Why, for the event log
    #[arg(long)]
    reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum StateName {
    Draft,
    Running,
    Paused,
    Completed,
    Cancelled,
}

impl From<StateName> for RolloutState {
    fn from(name: StateName) -> Self {
        match name {
            StateName::Draft => Self::Draft,
            StateName::Running => Self::Running,
            StateName::Paused => Self::Paused,
            StateName::Completed => Self::Completed,
            StateName::Cancelled => Self::Cancelled,
        }
    }
}

/// Runs a command.
pub(crate) fn run(command: RolloutCommand, context: &Context) -> anyhow::Result<()> {
    match command {
        RolloutCommand::Create { name, spec, start } => create(name, *spec, start, context),
        RolloutCommand::Preview { rollout, spec } => preview(rollout, *spec, context),
        RolloutCommand::Simulate { name, assume, spec } => simulate::run(name, &assume, *spec, context),
        RolloutCommand::Export { rollout } => {
            let rollout: Rollout = context.api()?.get(&Path::new(["rollouts", &rollout]))?;
            match context.format {
                show::Format::Json => show::value(context.format, &rollout.spec, |_| String::new()),
                show::Format::Table => show::line(&rollout_file::to_toml(&rollout.spec)?),
            }
        }
        RolloutCommand::Diff { rollout, file } => differences(rollout, &file, context),
        RolloutCommand::Edit { rollout, file, reason } => edit(rollout, &file, reason, context),
        RolloutCommand::Schema => show::line(ROLLOUT_SCHEMA.trim_end()),
        RolloutCommand::Start(args) => change("start", args, false, context),
        RolloutCommand::Pause(args) => change("pause", args, false, context),
        RolloutCommand::Resume { change: args, acknowledge_failures } => {
            change("resume", args, acknowledge_failures, context)
        }
        RolloutCommand::Cancel { change: args, devices, selector } if devices.is_empty() && selector.is_none() => {
            change("cancel", args, false, context)
        }
        RolloutCommand::Cancel { change: ChangeArgs { rollout, reason }, devices, selector } => {
            devices::act("cancel", &rollout, DevicesOfRollout { devices, selector, reason }, context)
        }
        RolloutCommand::Rollback { change: ReasonedArgs { rollout, reason }, to } => {
            let path = Path::new(["rollouts", &rollout, "rollback"]);
            let rollout: Rollout = context.api()?.post(&path, &RollBack { to, reason })?;
            show::value(context.format, &rollout, status::details)
        }
        RolloutCommand::Retry(args) => args.run("retry", context),
        RolloutCommand::Skip(args) => args.run("skip", context),
        RolloutCommand::Countersign(args) => change("countersign", args, false, context),
        RolloutCommand::Approve(args) => change("approve", args, false, context),
        RolloutCommand::SkipSoak(ReasonedArgs { rollout, reason }) => {
            change("skip-soak", ChangeArgs { rollout, reason }, false, context)
        }
        RolloutCommand::OpenPhase { change: ReasonedArgs { rollout, reason }, phase } => {
            let path = Path::new(["rollouts", &rollout, "open-phase"]);
            let rollout: Rollout = context.api()?.post(&path, &OpenPhase { phase, reason })?;
            show::value(context.format, &rollout, status::details)
        }
        RolloutCommand::Status { rollout, watch: true, .. } => watch::run(&context.api()?, &rollout, context.format),
        RolloutCommand::Status { rollout, devices: true, state, page, .. } => {
            let path = Path::new(["rollouts", &rollout, "assignments"]).maybe("state", state);
            let devices: Page<Assignment> = context.api()?.list(&path, &page)?;
            show::page(context.format, "devices", &devices, view::assignments)
        }
        RolloutCommand::Status { rollout, unreached: true, page, .. } => {
            let devices: Page<Device> = context.api()?.list(&Path::new(["rollouts", &rollout, "unreached"]), &page)?;
            show::page(context.format, "devices", &devices, device::list)
        }
        RolloutCommand::Status { rollout, .. } => status(&rollout, context),
        RolloutCommand::Forecast { rollout } => {
            let forecast = ahead(&context.api()?, &rollout)?;
            show::value(context.format, &forecast, status::forecast)
        }
        RolloutCommand::List { state, page } => {
            let state = state.map(|name| table::word(&RolloutState::from(name)));
            let rollouts: Page<Rollout> = context.api()?.list(&Path::new(["rollouts"]).maybe("state", state), &page)?;
            show::page(context.format, "rollouts", &rollouts, view::list)
        }
    }
}

fn status(rollout: &str, context: &Context) -> anyhow::Result<()> {
    let api = context.api()?;
    let found: Rollout = api.get(&Path::new(["rollouts", rollout]))?;
    let at_work = matches!(found.state, RolloutState::Running | RolloutState::Paused);
    let forecast = match context.format {
        show::Format::Table if at_work => Some(ahead(&api, rollout)?),
        _ => None,
    };
    show::value(context.format, &found, |found| status::with_forecast(found, forecast.as_ref()))
}

fn create(name: Option<RolloutName>, spec: SpecArgs, start: bool, context: &Context) -> anyhow::Result<()> {
    let written = spec.file.clone();
    let told = |error| file::told(written.as_deref(), error);
    let spec = spec.build(name)?;
    let api = context.api()?;
    let mut rollout: Rollout = api.post(&Path::new(["rollouts"]), &spec).map_err(told)?;
    warn(&rollout.warnings);
    if start {
        rollout = tell(&api, rollout.spec.name.as_str(), "start", &Because::default()).map_err(told)?;
        warn(&rollout.warnings);
    }
    show::value(context.format, &rollout, status::details)
}

fn edit(rollout: Option<String>, path: &std::path::Path, reason: String, context: &Context) -> anyhow::Result<()> {
    let spec = file::read(path)?;
    let reference = rollout.unwrap_or_else(|| spec.name.to_string());
    let edited = context.api()?.patch(&Path::new(["rollouts", &reference]), &EditRollout { spec, reason });
    let rollout: Rollout = edited.map_err(|error| file::told(Some(path), error))?;
    warn(&rollout.warnings);
    show::value(context.format, &rollout, status::details)
}

/// Compares a file with the server: nothing is changed.
fn differences(rollout: Option<String>, path: &std::path::Path, context: &Context) -> anyhow::Result<()> {
    let wanted = file::read(path)?;
    let reference = rollout.unwrap_or_else(|| wanted.name.to_string());
    let known: Rollout = context.api()?.get(&Path::new(["rollouts", &reference]))?;
    let found = differences::between(&known.spec, &wanted)?;
    if found.is_empty() {
        return show::value(context.format, &found, |_| format!("rollout {reference} is what {} says", path.display()));
    }
    show::value(context.format, &found, |found| diff::rows(found))?;
    let settings = if found.len() == 1 { "setting" } else { "settings" };
    Err(EndedBadly(format!("{} differs from rollout {reference} in {} {settings}", path.display(), found.len())).into())
}

fn preview(rollout: Option<String>, spec: SpecArgs, context: &Context) -> anyhow::Result<()> {
    let preview: Preview = if spec.is_given() {
        let name = rollout.map(|name| name.parse::<RolloutName>()).transpose();
        let name = name.map_err(|error| BadInput(error.to_string()))?;
        let written = spec.file.clone();
        // What does not exist yet needs no name, but the request does.
        let nameless = name.is_none() && written.is_none();
        let name = if nameless { "preview".parse().ok() } else { name };
        let spec = spec.build(name)?;
        let seen = context.api()?.post(&Path::new(["rollouts", "preview"]), &spec);
        let mut seen: Preview = seen.map_err(|error| file::told(written.as_deref(), error))?;
        if nameless && spec.phases.len() > 1 {
            seen.warnings.push(
                "who is in which phase is drawn by the rollout's name: give it the one that it is to have".to_owned(),
            );
        }
        seen
    } else {
        let rollout =
            rollout.ok_or_else(|| BadInput::new("name a rollout, or describe one with --release or --file"))?;
        context.api()?.get(&Path::new(["rollouts", &rollout, "preview"]))?
    };
    warn(&preview.warnings);
    show::value(context.format, &preview, view::preview)
}

/// Says what looks like a mistake, beside the output.
fn warn(warnings: &[String]) {
    for warning in warnings {
        eprintln!("warning: {}", shown(warning));
    }
}

fn change(verb: &str, args: ChangeArgs, acknowledge_failures: bool, context: &Context) -> anyhow::Result<()> {
    let because = Because { reason: args.reason, acknowledge_failures };
    let rollout = tell(&context.api()?, &args.rollout, verb, &because)?;
    warn(&rollout.warnings);
    show::value(context.format, &rollout, status::details)
}

fn ahead(api: &Api, rollout: &str) -> anyhow::Result<Forecast> {
    api.get(&Path::new(["rollouts", rollout, "forecast"]))
}

fn tell(api: &Api, rollout: &str, verb: &str, because: &Because) -> anyhow::Result<Rollout> {
    api.post(&Path::new(["rollouts", rollout, verb]), because)
}

#[cfg(test)]
pub(super) mod tests {
    use callboard_proto::{
        admin::{Counts, PhaseProgress},
        digest::Digest,
        ids::RolloutId,
        time::Timestamp,
    };

    use super::*;

    /// A rollout of one phase that runs.
    pub(in crate::cli) fn running(name: &str, release: &str, counts: Counts) -> Rollout {
        let spec = serde_json::json!({"name": name, "release": release, "policy": "immediate"});
        Rollout {
            id: RolloutId::from_uuid(uuid::Uuid::nil()),
            spec: serde_json::from_value(spec).expect("a spec"),
            release: Digest::of(b""),
            state: RolloutState::Running,
            state_reason: None,
            created_by: "admin".to_owned(),
            edited_by: None,
            countersigned: None,
            takes_back: None,
            created_at: Timestamp::default(),
            started_at: None,
            ended_at: None,
            phases: vec![PhaseProgress { name: "all".to_owned(), counts, ..PhaseProgress::default() }],
            warnings: Vec::new(),
        }
    }
}
