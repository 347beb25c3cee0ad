//! `callboard rollout simulate`: a rollout before it happens, as a timeline or as a picture.

mod svg;

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf, time::Duration};

use anyhow::Context as _;
use callboard_proto::{
    admin::{Assume, Rollout, RolloutSpec, RolloutState, Simulate, SimulatedHour, Simulation},
    ids::RolloutName,
    time::Timestamp,
};

use super::{file, spec::SpecArgs};
use crate::cli::{Context, api::Path, duration, exit::BadInput, show, table};

/// What nobody can know.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Assumptions")]
pub(crate) struct AssumeArgs {
    /// How far to look ahead, 1 to 60 days
    #[arg(long, value_name = "N", default_value_t = Assume::default().days)]
    days: u32,
    /// Installs that roll back, such as 2%
    #[arg(long, value_name = "PERCENT", value_parser = percent, default_value = "0%")]
    failure_rate: f64,
    /// Time in which devices are away that would usually be there, such as 30%
    #[arg(long, value_name = "PERCENT", value_parser = percent, default_value = "0%")]
    offline: f64,
    /// What a download takes in the middle; from half to one and a half of it
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "10m")]
    download: Duration,
    /// What an install takes with its trial
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "5m")]
    install: Duration,
    /// Where chance begins: the same number gives the same course
    #[arg(long, value_name = "N", default_value_t = Assume::default().seed)]
    seed: u32,
    /// Write a picture too: burn-up, what happens to the rollout, and the load
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl AssumeArgs {
    fn assume(&self) -> anyhow::Result<Assume> {
        let seconds = |name: &str, time: Duration| {
            u32::try_from(time.as_secs()).map_err(|_large| BadInput(format!("{name} is too long; a day is the most")))
        };
        Ok(Assume {
            days: self.days,
            failure_percent: self.failure_rate,
            offline_percent: self.offline,
            download_s: seconds("--download", self.download)?,
            install_s: seconds("--install", self.install)?,
            seed: self.seed,
        })
    }
}

/// Reads a share such as `2%`, `0.5%` or `30`.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let percent = number.parse::<f64>().ok().filter(|percent| digits && (0.0..=100.0).contains(percent));
    percent.ok_or_else(|| format!("{text:?} is not a share: 0% to 100% are wanted, such as 2% or 0.5%"))
}

/// Simulates, prints and draws.
pub(super) fn run(
    name: Option<RolloutName>,
    args: &AssumeArgs,
    spec: SpecArgs,
    context: &Context,
) -> anyhow::Result<()> {
    let written = spec.file.clone();
    let rollout = if spec.is_given() {
        // What does not exist yet needs no name, but the request does.
        let name = if written.is_some() { name } else { name.or_else(|| "simulated".parse().ok()) };
        spec.build(name)?
    } else {
        let name = name.ok_or_else(|| BadInput::new("name a draft, or describe a rollout with --file or --release"))?;
        draft(&name, context)?
    };
    let asked = Simulate { rollout, assume: args.assume()? };
    let played = context.api()?.post(&Path::new(["rollouts", "simulate"]), &asked);
    let simulation: Simulation = played.map_err(|error| file::told(written.as_deref(), error))?;
    if let Some(file) = &args.svg {
        let picture = svg::draw(&asked.rollout.name, &simulation);
        std::fs::write(file, picture).with_context(|| format!("failed to write the picture {}", file.display()))?;
    }
    show::value(context.format, &simulation, timeline)
}

/// What a draft asks for.
fn draft(name: &RolloutName, context: &Context) -> anyhow::Result<RolloutSpec> {
    let found: Rollout = context.api()?.get(&Path::new(["rollouts", name.as_str()]))?;
    if found.state != RolloutState::Draft {
        let message = format!(
            "rollout {name} is {} and a simulation begins anew; give one of another name with --file, as callboard rollout \
             export {name} prints it",
            table::word(&found.state)
        );
        return Err(BadInput(message).into());
    }
    Ok(found.spec)
}

fn timeline(simulation: &Simulation) -> String {
    let ended = simulation.state_reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let mut text = table::fields([
        ("from", simulation.from.to_string()),
        ("to", simulation.to.to_string()),
        ("devices", simulation.devices.to_string()),
        ("stay away", simulation.gone.to_string()),
        ("assumed", assumed(&simulation.assume)),
        ("result", format!("{}{ended}", table::word(&simulation.state))),
    ]);
    let marks = simulation.marks.iter().map(|mark| {
        let phase = mark.phase.clone().unwrap_or_default();
        [mark.at.to_string(), table::word(&mark.what), phase, mark.text.clone()]
    });
    // Writing to a String cannot fail.
    let _ = write!(text, "\n\n{}", table::list(["WHEN", "WHAT", "PHASE", "WHY"], marks));
    let phases = simulation.phases.iter().map(|phase| {
        let counts = &phase.counts;
        let numbers = [counts.succeeded, counts.unsuccessful(), counts.open(), counts.unreached, counts.size];
        let [succeeded, failed, open, unreached, size] = numbers.map(|n| n.to_string());
        [phase.name.clone(), succeeded, failed, open, unreached, size]
    });
    let headings = ["PHASE", "SUCCEEDED", "FAILED", "UNDER WAY", "UNREACHED", "OF"];
    let _ = write!(text, "\n\n{}", table::list(headings, phases));
    let headings = ["DAY (UTC)", "SUCCEEDED", "CHECK-INS/MIN", "OFFERS", "BUSIEST MINUTE", "DOWNLOADING", "INSTALLS"];
    let _ = write!(text, "\n\n{}", table::list(headings, days(simulation)));
    text
}

fn assumed(assume: &Assume) -> String {
    format!(
        "{} % of installs roll back, devices are away {} % more than usual, {} s to download, {} s to install, seed {}",
        assume.failure_percent, assume.offline_percent, assume.download_s, assume.install_s, assume.seed
    )
}

/// One row for each day.
fn days(simulation: &Simulation) -> Vec<[String; 7]> {
    let mut days: BTreeMap<String, Vec<(&SimulatedHour, u32)>> = BTreeMap::new();
    for hour in simulation.hours.iter().zip(check_ins_per_minute(simulation)) {
        // An hour ends when the next one begins.
        let within = hour.0.until - Duration::from_secs(1);
        days.entry(day(within)).or_default().push(hour);
    }
    let rows = days.into_iter().map(|(day, hours)| {
        let most = |of: fn(&SimulatedHour) -> u32| hours.iter().map(|(hour, _)| of(hour)).max().unwrap_or_default();
        let sum = |of: fn(&SimulatedHour) -> u32| hours.iter().map(|(hour, _)| u64::from(of(hour))).sum::<u64>();
        [
            day,
            most(|hour| hour.counts.succeeded).to_string(),
            hours.iter().map(|(_, check_ins)| *check_ins).max().unwrap_or_default().to_string(),
            sum(|hour| hour.offers).to_string(),
            most(|hour| hour.offers_in_busiest_minute).to_string(),
            most(|hour| hour.downloading).to_string(),
            sum(|hour| hour.installs).to_string(),
        ]
    });
    rows.collect()
}

/// Of each hour; the first one is shorter.
fn check_ins_per_minute(simulation: &Simulation) -> Vec<u32> {
    let mut from = simulation.from;
    let rate = |hour: &SimulatedHour| {
        let minutes = hour.until.since(from).as_secs().div_ceil(60).max(1);
        from = hour.until;
        hour.check_ins / u32::try_from(minutes).unwrap_or(u32::MAX)
    };
    simulation.hours.iter().map(rate).collect()
}

fn day(at: Timestamp) -> String {
    at.utc().format("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_what_is_none_is_explained() {
        assert_eq!(
            (percent("2%"), percent("0.5%"), percent("30"), percent("100%")),
            (Ok(2.0), Ok(0.5), Ok(30.0), Ok(100.0))
        );
        for text in ["", "%", "101%", "-1%", "two", "1e1", "NaN", "inf", "2 %"] {
            assert!(percent(text).expect_err(text).contains("such as 2% or 0.5%"));
        }
    }
}
