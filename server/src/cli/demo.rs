//! `callboard demo`: a real server, ten real agents, six scenarios.
//!
//! Everything is real but the time: separate processes, TLS on loopback, signed releases of some megabytes, and a
//! server whose clock is stepped where a scenario waits for the night. All of it lies in one directory that is
//! removed in the end, and no process outlives the demo.

use std::{
    ffi::OsString,
    io::{IsTerminal as _, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{exit::EndedBadly, stop::Stop};

mod door;
mod fleet;
mod operator;
mod outcome;
mod process;
mod scenarios;
mod server;
mod software;
mod stage;
mod till;
mod tree;
mod world;

pub(crate) use process::VERB;

use process::bind_to_parent;
use scenarios::Scenario;
use stage::Stage;
use world::World;

const INTERRUPTED: &str = "the demo was interrupted";

/// How the demo is played.
#[derive(clap::Args)]
pub(crate) struct DemoArgs {
    /// Unattended: one line for each scenario; exit code 0 only if every device ended as expected
    #[arg(long)]
    once: bool,
    /// Only these scenarios, 1 to 6; may be repeated
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=6))]
    only: Vec<u8>,
    /// Where to put the demo's directory; not on a file system in memory
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
    /// Leave the directory behind, with the logs of all processes
    #[arg(long)]
    keep: bool,
}

/// A child of the demo: an agent, or this program itself.
#[derive(clap::Args)]
pub(crate) struct ChildArgs {
    parent: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// Plays.
pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let stop = Stop::on_signals().context("cannot listen for signals")?;
    let stage = Stage::new(args.once);
    let dir = tempfile::Builder::new().prefix("callboard-demo-").tempdir_in(&args.dir);
    let dir = dir.with_context(|| format!("cannot make a directory in {}", args.dir.display()))?;
    // Removed by our own hand: its trees are read-only in part, and what could not be removed must be told.
    let dir = dir.keep();
    let played = play(args, &dir, &stage, &stop);
    if args.keep {
        eprintln!("the demo's directory is {}", dir.display());
        return played;
    }
    let removed = tree::remove(&dir).with_context(|| format!("cannot remove {}", dir.display()));
    played.and(removed)
}

fn play(args: &DemoArgs, dir: &Path, stage: &Stage, stop: &Stop) -> anyhow::Result<()> {
    stage.say("Callboard demo: eight shops, ten tills, one server, all on this machine.\n")?;
    let mut world = World::make(dir, stage, stop)?;
    stage.say(&format!("  look at it:    {}", world.url()))?;
    stage.say(&format!("  try it out:    export CALLBOARD_PROFILE={}", world.operator.profile().display()))?;
    let mut bad = 0;
    for scenario in scenarios::ALL.iter().filter(|one| args.only.is_empty() || args.only.contains(&one.number)) {
        let began = Instant::now();
        let result = one(scenario, &mut world, stage);
        if stop.wait(Duration::ZERO) {
            anyhow::bail!(INTERRUPTED);
        }
        let seconds = began.elapsed().as_secs_f32();
        let verdict = match &result {
            Ok(()) => "every device as expected".to_owned(),
            Err(error) => format!("FAILED: {error:#}"),
        };
        stage.result(&format!("{}. {}: {verdict} ({seconds:.1} s)", scenario.number, scenario.title))?;
        bad += u32::from(result.is_err());
    }
    if stage.talks() && stdout().is_terminal() {
        stage.say(
            "\nThe fleet of the last scenario goes on running for you to try. Ctrl-C ends and removes everything.",
        )?;
        while !stop.wait(Duration::from_secs(3600)) {}
    }
    world.halt()?;
    if bad == 0 { Ok(()) } else { Err(EndedBadly(format!("{bad} scenarios did not end as expected")).into()) }
}

fn one(scenario: &Scenario, world: &mut World, stage: &Stage) -> anyhow::Result<()> {
    stage.say(&format!("\n{}. {}", scenario.number, scenario.title))?;
    stage.say(&format!("  the fleet: {}", scenario.fleet))?;
    world.begin(scenario.on)?;
    (scenario.play)(world)
}

/// In a child of the demo: the agent with the arguments that follow, or this program.
pub(crate) fn child(args: ChildArgs) -> anyhow::Result<()> {
    anyhow::ensure!(bind_to_parent(&args.parent), "the demo has ended");
    match args.args.split_first() {
        // The verb stands where the agent's program looks for its own name.
        Some((verb, _)) if verb == "agent" => {
            let code = callboard_agent::main_from(args.args);
            anyhow::ensure!(code == ExitCode::SUCCESS, EndedBadly("the agent failed".to_owned()));
            Ok(())
        }
        _ => super::run_args(args.args.into_iter()),
    }
}
