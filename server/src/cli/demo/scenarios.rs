//! The six scenarios: each begins with a stated fleet and ends with a checked one.

use std::time::Duration;

use anyhow::Context as _;
use callboard_proto::{
    admin::{Assignment, Page, Rollout, RolloutState},
    state::AssignmentState,
    time::Timestamp,
};

use super::{
    fleet::AtStart::{self, Offline, Online, Unknown},
    outcome::{Outcome, Why},
    software::{BROKEN, FEATURE, PATCH},
    world::World,
};
use crate::{
    cli::api::{PageArgs, Path},
    clock::Clock,
};

/// One scenario.
pub(super) struct Scenario {
    pub(super) number: u8,
    pub(super) title: &'static str,
    /// The fleet that it begins with, in words.
    pub(super) fleet: &'static str,
    /// And in states: these are switched on.
    pub(super) on: &'static [AtStart],
    pub(super) play: fn(&mut World) -> anyhow::Result<()>,
}

const AS_IT_IS: &str = "six tills online, three switched off, one never seen";

/// In the order in which they are played.
pub(super) const ALL: [Scenario; 6] = [
    Scenario {
        number: 1,
        title: "immediate security patch to whoever is online",
        fleet: AS_IT_IS,
        on: &[Online],
        play: immediate,
    },
    Scenario {
        number: 2,
        title: "two hours from 02:00 in each shop's own time zone",
        fleet: "nine tills on overnight, one never seen; it is half past one in New York",
        on: &[Online, Offline],
        play: scheduled,
    },
    Scenario {
        number: 3,
        title: "canary 10 % -> 50 % -> 100 %, once going through, once stopping itself",
        fleet: "all ten tills on",
        on: &[Online, Offline, Unknown],
        play: progressive,
    },
    Scenario {
        number: 4,
        title: "on connect, for tills that come back",
        fleet: AS_IT_IS,
        on: &[Online],
        play: on_connect,
    },
    Scenario { number: 5, title: "only region = northeast", fleet: AS_IT_IS, on: &[Online], play: by_region },
    Scenario {
        number: 6,
        title: "only version(\"pos-app\") < 2.2.0",
        fleet: AS_IT_IS,
        on: &[Online],
        play: by_version,
    },
];

/// The second if nobody asked before the rollout had completed.
const NOT_MEANT: &[&str] = &["not_in_audience", "nothing_pending"];

fn immediate(world: &mut World) -> anyhow::Result<()> {
    let flags = ["--policy", "immediate", "--audience", "frozen", "--selector", "status = online"];
    start(world, "security-patch", &PATCH.release(), &flags)?;
    let online = world.names(&[Online]);
    Outcome::nothing(world, "security-patch", NOT_MEANT).but_updated(&online, &PATCH).conclude(world)?;
    wait_state(world, "security-patch", RolloutState::Completed).map(drop)
}

fn scheduled(world: &mut World) -> anyhow::Result<()> {
    /// Who is there, from east to west, one hour after the other.
    const NIGHT: [(&str, &[&str]); 4] = [
        ("New York", &["pos-nyc-001", "pos-nyc-002", "pos-miami-001", "pos-boston-001"]),
        ("Chicago", &["pos-chicago-001", "pos-chicago-002", "pos-austin-001"]),
        ("Denver", &["pos-denver-001"]),
        ("Los Angeles", &["pos-la-001"]),
    ];
    const HALF: Duration = Duration::from_secs(30 * 60);
    let two = next_two_in_new_york(Clock::system().now() + Duration::from_secs(3 * 3600))?;
    world.set_clock(two - HALF)?;
    start(world, "night", &FEATURE.release(), &["--policy", "scheduled", "--window", "daily 02:00 +2h site"])?;
    let mut night = Outcome::nothing(world, "night", &[]).but(&["pos-seattle-001"], Why::NotHeard);
    for till in NIGHT.iter().flat_map(|(_, tills)| *tills) {
        // Fetching in advance is allowed, switching is not.
        night = night.but(&[till], Why::Assigned(AssignmentState::Staged));
    }
    world.stage.say("\n  half past one in New York: everybody fetches, nobody switches")?;
    night.reach(world)?;
    let mut now = two + HALF;
    for (zone, tills) in NIGHT {
        world.stage.say(&format!("\n  the clock is set to {now}: half past two in {zone}"))?;
        world.set_clock(now)?;
        night = night.but_updated(tills, &FEATURE);
        night.reach(world)?;
        now = now + HALF + HALF;
    }
    night.conclude(world)
}

fn progressive(world: &mut World) -> anyhow::Result<()> {
    const PHASES: [&str; 10] = [
        "--policy",
        "progressive",
        "--audience",
        "frozen",
        "--phase",
        "canary=10%,success=95,completed=100",
        "--phase",
        "half=50%,success=95,completed=100",
        "--phase",
        "all=100%,success=95",
    ];
    start(world, "feature", &FEATURE.release(), &PHASES)?;
    let everybody = world.names(&[Online, Offline, Unknown]);
    Outcome::nothing(world, "feature", &[]).but_updated(&everybody, &FEATURE).conclude(world)?;
    let rollout = wait_state(world, "feature", RolloutState::Completed)?;
    let sizes: Vec<u32> = rollout.phases.iter().map(|phase| phase.counts.size).collect();
    anyhow::ensure!(sizes == [1, 4, 5], "the phases had {sizes:?} devices, expected 1, 4 and 5");
    let opened: Vec<Option<Timestamp>> = rollout.phases.iter().map(|phase| phase.opened_at).collect();
    anyhow::ensure!(opened.is_sorted() && !opened.contains(&None), "the phases opened at {opened:?}, not in order");

    world.stage.say("\n  the next release fails its health check:")?;
    start(world, "broken", &BROKEN.release(), &PHASES)?;
    let rollout = wait_state(world, "broken", RolloutState::Paused)?;
    let all = PageArgs { limit: 100, after: None };
    let touched: Page<Assignment> =
        world.server()?.api.list(&Path::new(["rollouts", "broken", "assignments"]), &all)?;
    let [canary] = touched.items.as_slice() else {
        anyhow::bail!("the broken release went to {} tills, expected 1", touched.items.len());
    };
    world.stage.say(&format!("\n  it has paused itself: {}", rollout.state_reason.unwrap_or_default()))?;
    Outcome::nothing(world, "broken", &["rollout_paused", "phase_not_open"])
        .from(&FEATURE)
        .but(&[canary.device.as_str()], Why::Assigned(AssignmentState::RolledBack))
        .conclude(world)
}

fn on_connect(world: &mut World) -> anyhow::Result<()> {
    start(world, "welcome-back", &FEATURE.release(), &["--policy", "on-connect"])?;
    let away = world.names(&[Offline]);
    let mut outcome = Outcome::nothing(world, "welcome-back", &["waits_for_connect"])
        .but(&away, Why::NotHeard)
        .but(&["pos-seattle-001"], Why::NotHeard);
    outcome.reach(world)?;
    for till in away {
        world.stage.say(&format!("\n  {till} comes back"))?;
        world.switch_on(&till)?;
        outcome = outcome.but_updated(&[till], &FEATURE);
        outcome.reach(world)?;
    }
    outcome.conclude(world)
}

fn by_region(world: &mut World) -> anyhow::Result<()> {
    let flags = ["--policy", "immediate", "--selector", "region = northeast"];
    start(world, "northeast", &FEATURE.release(), &flags)?;
    Outcome::nothing(world, "northeast", NOT_MEANT)
        .but_updated(&["pos-nyc-001", "pos-nyc-002", "pos-boston-001"], &FEATURE)
        .conclude(world)
}

fn by_version(world: &mut World) -> anyhow::Result<()> {
    let flags = ["--policy", "immediate", "--selector", "version(\"pos-app\") < 2.2.0"];
    start(world, "catch-up", &FEATURE.release(), &flags)?;
    let outcome = Outcome::nothing(world, "catch-up", NOT_MEANT)
        .but_updated(&["pos-chicago-001", "pos-chicago-002"], &FEATURE)
        .but(&["pos-denver-001", "pos-seattle-001"], Why::NotHeard);
    outcome.reach(world)?;
    world.stage.say("\n  pos-denver-001, on 2.1.5, comes back")?;
    world.switch_on("pos-denver-001")?;
    outcome.but_updated(&["pos-denver-001"], &FEATURE).conclude(world)
}

fn start(world: &mut World, name: &str, release: &str, flags: &[&str]) -> anyhow::Result<()> {
    let create = ["rollout", "create", name, "--release", release];
    world.operator.types(&[&create[..], flags, &["--start"]].concat())?;
    world.board = Some(world.stage.board()?);
    Ok(())
}

fn wait_state(world: &mut World, name: &str, state: RolloutState) -> anyhow::Result<Rollout> {
    let until = std::time::Instant::now() + super::world::PATIENCE;
    loop {
        let rollout: Rollout = world.server()?.api.get(&Path::new(["rollouts", name]))?;
        if rollout.state == state {
            return Ok(rollout);
        }
        anyhow::ensure!(
            std::time::Instant::now() < until,
            "rollout {name} is {:?}, expected {state:?} ({})",
            rollout.state,
            rollout.state_reason.unwrap_or_default()
        );
        world.breathe()?;
    }
}

/// The first 02:00 in New York from `from` on, in a night without a change of the clocks.
fn next_two_in_new_york(from: Timestamp) -> anyhow::Result<Timestamp> {
    use chrono::{Days, NaiveTime, TimeZone as _};
    let zone = chrono_tz::America::New_York;
    let mut day = from.utc().with_timezone(&zone).date_naive();
    for _ in 0..4 {
        let at = |hour| zone.from_local_datetime(&day.and_time(NaiveTime::from_hms_opt(hour, 0, 0)?)).single();
        // Offsets before and after tell whether the clocks change in this night, there and west of there.
        if let (Some(evening), Some(two), Some(noon)) = (at(0), at(2), at(12)) {
            let same = evening.naive_local() - evening.naive_utc() == noon.naive_local() - noon.naive_utc();
            let time = Timestamp::from(two.to_utc());
            if same && time >= from {
                return Ok(time);
            }
        }
        day = day.checked_add_days(Days::new(1)).context("the calendar ends")?;
    }
    anyhow::bail!("found no night without a change of the clocks")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_night_is_an_ordinary_one() {
        let next = |from: &str| next_two_in_new_york(from.parse().expect("a time")).expect("a night").to_string();
        assert_eq!(next("2026-11-23T06:59:00Z"), "2026-11-23T07:00:00Z");
        assert_eq!(next("2026-11-23T07:01:00Z"), "2026-11-24T07:00:00Z");
        // The clocks go back in the night of 2026-11-01 and forward in that of 2027-03-14.
        assert_eq!(next("2026-11-01T00:00:00Z"), "2026-11-02T07:00:00Z");
        assert_eq!(next("2027-03-13T08:00:00Z"), "2027-03-15T06:00:00Z");
    }
}
