//! `callboard rollout status --watch`: bars on a terminal, lines on change elsewhere, until the rollout ends.

use std::{
    io::{IsTerminal as _, stderr},
    time::Duration,
};

use callboard_proto::{
    admin::{Audience, Counts, PhaseProgress, Rollout, RolloutState},
    text::shown,
};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::status;
use crate::cli::{
    api::{Api, Path},
    exit::{EndedBadly, Refused, one_line},
    show::{self, Format},
    stop::Stop,
    table,
};

/// Often enough for the eye; one request is one cached read at the server.
const INTERVAL: Duration = Duration::from_secs(1);
/// A server that is being restarted is back within this many intervals.
const PATIENCE: u32 = 60;
/// Characters of a bar.
const WIDTH: u32 = 30;

/// Follows the rollout.
pub(super) fn run(api: &Api, name: &str, format: Format) -> anyhow::Result<()> {
    let path = Path::new(["rollouts", name]);
    let stop = Stop::never();
    let mut view = View::new(format);
    let mut last: Option<Rollout> = None;
    let mut silent = 0;
    loop {
        match api.get::<Rollout>(&path) {
            Ok(rollout) => {
                silent = 0;
                if last.as_ref() != Some(&rollout) {
                    view.update(last.as_ref(), &rollout)?;
                }
                if let Some(end) = end_of(&rollout) {
                    return end.map_err(Into::into);
                }
                last = Some(rollout);
            }
            Err(error) if error.is::<Refused>() || last.is_none() || silent >= PATIENCE => return Err(error),
            Err(error) => {
                if silent == 0 {
                    eprintln!("{}; trying again", one_line(&error));
                }
                silent += 1;
            }
        }
        stop.wait(INTERVAL);
    }
}

/// Whether nothing more will happen, and whether that is well.
fn end_of(rollout: &Rollout) -> Option<Result<(), EndedBadly>> {
    let badly = |word: &str| {
        let reason = rollout.state_reason.as_deref().unwrap_or("no reason was given");
        Some(Err(EndedBadly(format!("rollout {} is {word}: {reason}", rollout.spec.name))))
    };
    match rollout.state {
        RolloutState::Draft | RolloutState::Running => None,
        RolloutState::Completed if nothing_succeeded(rollout) => badly("completed"),
        RolloutState::Completed => Some(Ok(())),
        RolloutState::Paused => badly("paused"),
        RolloutState::Cancelled => badly("cancelled"),
    }
}

/// Without a gate a rollout is completed whatever became of its devices.
fn nothing_succeeded(rollout: &Rollout) -> bool {
    let any = |count: fn(&Counts) -> u32| rollout.phases.iter().any(|phase| count(&phase.counts) > 0);
    any(Counts::unsuccessful) && !any(|counts| counts.succeeded)
}

/// A state and, where something is to be said about it, why or what came of it.
fn state(rollout: &Rollout) -> String {
    let word = format!("{} is {}", rollout.spec.name, table::word(&rollout.state));
    match &rollout.state_reason {
        Some(reason) => format!("{word}: {reason}"),
        None => word,
    }
}

enum View {
    Json,
    Lines,
    Bars { all: MultiProgress, bars: Vec<ProgressBar> },
}

impl View {
    fn new(format: Format) -> Self {
        match format {
            Format::Json => Self::Json,
            Format::Table if stderr().is_terminal() => Self::Bars { all: MultiProgress::new(), bars: Vec::new() },
            Format::Table => Self::Lines,
        }
    }

    fn update(&mut self, last: Option<&Rollout>, now: &Rollout) -> anyhow::Result<()> {
        match self {
            Self::Json => show::json_line(now),
            Self::Lines => {
                for line in changes(last, now) {
                    show::line(&line)?;
                }
                Ok(())
            }
            Self::Bars { all, bars } => {
                draw(all, bars, now)?;
                if last.is_some_and(|last| last.state != now.state) || end_of(now).is_some() {
                    all.println(shown(&state(now)))?;
                }
                if let Some(news) = goes_on(last, now) {
                    all.println(news)?;
                }
                Ok(())
            }
        }
    }
}

/// The lines that differ from the last time.
fn changes(last: Option<&Rollout>, now: &Rollout) -> Vec<String> {
    let mut lines = Vec::new();
    if last.is_none_or(|last| last.state != now.state) {
        lines.push(state(now));
    }
    for (n, phase) in now.phases.iter().enumerate() {
        if last.and_then(|last| last.phases.get(n)) != Some(phase) {
            lines.push(status::line(phase));
        }
    }
    lines.extend(goes_on(last, now));
    lines
}

/// A live rollout without an end is never over, so whoever waits for that must be told.
fn goes_on(last: Option<&Rollout>, now: &Rollout) -> Option<String> {
    let idle = |rollout: &Rollout| {
        let done = |phase: &PhaseProgress| phase.counts.done() >= phase.counts.wanted();
        rollout.state == RolloutState::Running && rollout.phases.iter().all(done)
    };
    let news = idle(now) && now.spec.audience == Audience::Live && !last.is_some_and(idle);
    news.then(|| "all present devices are done; the rollout stays in force for those that match later".to_owned())
}

fn draw(all: &MultiProgress, bars: &mut Vec<ProgressBar>, now: &Rollout) -> anyhow::Result<()> {
    // The library's own bar has one colour for what went well and what did not.
    let style = ProgressStyle::with_template("{prefix:>12} {wide_msg}")?;
    for (n, phase) in now.phases.iter().enumerate() {
        if bars.len() <= n {
            bars.push(all.add(ProgressBar::new(0).with_style(style.clone())));
        }
        let Some(bar) = bars.get(n) else { continue };
        let gate = phase.gate.as_ref().map(|gate| format!(" - {}", gate.text)).unwrap_or_default();
        bar.set_prefix(shown(&phase.name).into_owned());
        let counts = &phase.counts;
        let drawn = status::bar(counts, WIDTH);
        let said = format!("{drawn} {} ({}){gate}", status::result(counts), status::sentence(counts));
        bar.set_message(shown(&said).into_owned());
        if end_of(now).is_some() {
            bar.abandon();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use callboard_proto::admin::Counts;

    use super::*;
    use crate::cli::rollout::tests::running;

    fn rollout(state: RolloutState, succeeded: u32) -> Rollout {
        let counts = Counts { size: 2, succeeded, unreached: 2 - succeeded, ..Counts::default() };
        Rollout {
            state,
            state_reason: (state == RolloutState::Paused).then(|| "2 failed".to_owned()),
            ..running("patch", "a@1", counts)
        }
    }

    #[test]
    fn only_what_changed_is_a_line() {
        let (before, after) = (rollout(RolloutState::Running, 0), rollout(RolloutState::Running, 1));
        assert_eq!(changes(None, &before), ["patch is running", "all: 0 succeeded, 0 failed of 2 (2 unreached)"]);
        assert_eq!(changes(Some(&before), &before), Vec::<String>::new());
        assert_eq!(changes(Some(&before), &after), ["all: 1 succeeded, 0 failed of 2 (1 unreached, 1 succeeded)"]);
        assert_eq!(changes(Some(&after), &rollout(RolloutState::Paused, 1)), ["patch is paused: 2 failed"]);
    }

    #[test]
    fn a_live_rollout_says_once_that_it_goes_on() {
        let (before, after) = (rollout(RolloutState::Running, 1), rollout(RolloutState::Running, 2));
        let said = changes(Some(&before), &after).join("\n");
        assert!(said.ends_with("the rollout stays in force for those that match later"), "{said}");
        assert_eq!(changes(Some(&after), &after), Vec::<String>::new());
    }

    #[test]
    fn it_ends_well_only_when_the_rollout_completed() {
        assert_eq!(end_of(&rollout(RolloutState::Draft, 0)), None);
        assert_eq!(end_of(&rollout(RolloutState::Completed, 2)), Some(Ok(())));
        let said = end_of(&rollout(RolloutState::Paused, 0)).expect("an end").expect_err("a bad one");
        assert_eq!(said.0, "rollout patch is paused: 2 failed");
        assert!(end_of(&rollout(RolloutState::Cancelled, 0)).expect("an end").is_err());
        let mut failed = rollout(RolloutState::Completed, 0);
        failed.phases[0].counts = Counts { size: 2, failed: 1, rolled_back: 1, ..Counts::default() };
        failed.state_reason = Some("2 of 2 devices are done: 0 succeeded, 1 rolled back, 1 failed".to_owned());
        let said = end_of(&failed).expect("an end").expect_err("a bad one");
        assert!(said.0.ends_with("is completed: 2 of 2 devices are done: 0 succeeded, 1 rolled back, 1 failed"));
        failed.phases[0].counts.succeeded = 1;
        assert_eq!(end_of(&failed), Some(Ok(())), "some failed, which the gate allows");
    }
}
