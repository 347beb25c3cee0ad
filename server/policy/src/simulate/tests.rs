use std::fmt::Write as _;

use callboard_proto::state::AssignmentState;

use super::*;
use crate::{
    bandwidth::{Bandwidth, LimitSpec},
    catalog::Catalog,
    device::Device,
    fixture::{at, phase, release, rollout_id, spec, till},
    gate::PhaseCounts,
    guard::{Cap, Caps, Pace},
    preview::preview,
    rhythm::{BYTES, Rhythm},
    rollout::{Approval, HaltKind, HaltSpec, PhaseSpec, PolicyKind, Rollout, RolloutState, Spec, WindowSpec},
    trading::{HoursSpec, TradingHours},
    window::{Gates, Mode},
};

const POLL: Duration = Duration::from_secs(300);
const MINUTE: Duration = Duration::from_secs(60);
const START: &str = "2026-11-23T12:00:00Z";

fn assumptions() -> Assumptions {
    Assumptions {
        time: Duration::from_secs(7 * 86_400),
        failures: Chance::NEVER,
        offline: Chance::NEVER,
        download: 10 * MINUTE,
        install: 5 * MINUTE,
        seed: 1,
        most_played: u64::MAX,
    }
}

/// Tills that were seen a minute ago.
fn tills(n: u32) -> Vec<Unit> {
    (1..=n).map(|number| seen(till(number))).collect()
}

fn seen(device: Device) -> Unit {
    Unit::new(device, Some(at(START) - MINUTE))
}

fn progressive() -> Spec {
    let phases = vec![
        PhaseSpec { soak_min: 60, ..phase("canary", 10) },
        PhaseSpec { approval: Approval::Manual, ..phase("half", 50) },
        phase("all", 100),
    ];
    let audience = crate::rollout::Membership::Frozen;
    Spec { policy: PolicyKind::Progressive, phases, audience, ..spec() }
}

/// Nights from 2 to 4 on the shop's clock.
fn night(mode: Mode) -> WindowSpec {
    WindowSpec {
        tz: "site".to_owned(),
        days: Vec::new(),
        start: Some("02:00".to_owned()),
        cron: None,
        duration_min: 120,
        gates: Gates { download: false, install: true },
        mode,
    }
}

fn engine(spec: &Spec, fleet: Vec<Unit>, assume: &Assumptions) -> engine::Engine {
    let plan = spec.plan().expect("a plan");
    let subject = Subject { now: at(START), id: rollout_id(9), plan, release: release("2.2.0", 22) };
    engine::Engine::new(subject, Ledger::new(Catalog::default(), POLL), fleet, assume).expect("started")
}

fn run(spec: &Spec, fleet: Vec<Unit>, assume: &Assumptions) -> Timeline {
    engine(spec, fleet, assume).run(&|| false).expect("a course")
}

#[test]
fn a_file_its_simulation_and_its_start_name_the_same_devices() {
    let (spec, fleet, release) = (progressive(), tills(40), release("2.2.0", 22));
    let plan = spec.plan().expect("a plan");
    let seen: Vec<_> = fleet.iter().map(|unit| (&unit.device, unit.seen(at(START), POLL, 10 * POLL))).collect();
    let named = preview(at(START), rollout_id(1), &plan, &release, &seen, &Catalog::default()).audience;
    let mut server = Ledger::new(Catalog::new(1, Vec::new(), [release]), POLL);
    server.add(Rollout::draft(rollout_id(2), plan));
    server.start(at(START), rollout_id(2), &fleet).expect("started");
    assert_eq!(*server.rollout(rollout_id(2)).expect("it runs").members, named);
    let played = engine(&spec, fleet, &Assumptions { seed: 3, ..assumptions() }).ledger;
    assert_eq!(*played.rollout(rollout_id(9)).expect("it runs").members, named);
}

fn say(timeline: &Timeline) -> String {
    let mut text = String::new();
    for mark in &timeline.marks {
        writeln!(text, "{} {:?}: {}", mark.at, mark.what, mark.text).expect("text");
    }
    let done: u64 = timeline.phases.iter().map(|phase| phase.succeeded).sum();
    write!(text, "{} succeeded; {}", done, timeline.state.as_str()).expect("text");
    text
}

#[test]
fn phases_open_one_after_the_other_and_the_rollout_completes() {
    let timeline = run(&progressive(), tills(40), &assumptions());
    insta::assert_snapshot!(say(&timeline), @"
    2026-11-23T12:00:00Z Started: it was started
    2026-11-23T12:20:57.921Z GateMet(0): phase half opens when the soak has run 1 h more (until 2026-11-23T13:20:57.921Z) (phase canary: 4 of 4 completed devices succeeded)
    2026-11-23T13:20:57.921Z PhaseOpened(1): phase canary: 4 of 4 completed devices succeeded
    2026-11-23T13:40:05.889Z GateMet(1): phase all opens when somebody approves phase half (phase half: 13 of 13 completed devices succeeded)
    2026-11-23T13:40:05.889Z Approved(1): it waits for approval; a person is assumed to approve at once
    2026-11-23T13:40:05.889Z PhaseOpened(2): phase half: 13 of 13 completed devices succeeded
    2026-11-23T14:04:38.104Z Completed: 40 of 40 devices are done
    40 succeeded; completed
    ");
    assert_eq!(timeline, run(&progressive(), tills(40), &assumptions()), "the same seed");
    let other = Assumptions { seed: 2, ..assumptions() };
    assert_ne!(timeline.marks, run(&progressive(), tills(40), &other).marks, "another seed");
}

#[test]
fn failures_pause_it() {
    let timeline =
        run(&progressive(), tills(40), &Assumptions { failures: Chance::from_millionths(400_000), ..assumptions() });
    insta::assert_snapshot!(say(&timeline), @"
    2026-11-23T12:00:00Z Started: it was started
    2026-11-23T12:20:57.921Z GateMet(0): phase half opens when the soak has run 1 h more (until 2026-11-23T13:20:57.921Z) (phase canary: 4 of 4 completed devices succeeded)
    2026-11-23T13:20:57.921Z PhaseOpened(1): phase canary: 4 of 4 completed devices succeeded
    2026-11-23T13:34:39.312Z Paused: phase half: 1 of 16 failed, so 95 % success cannot be reached any more
    10 succeeded; paused
    ");
}

#[test]
fn it_does_not_go_on_for_ever() {
    let assume = Assumptions { most_played: 50, ..assumptions() };
    let error = engine(&progressive(), tills(40), &assume).run(&|| false).expect_err("too much");
    let said =
        "51 check-ins were played and it is only 2026-11-23T13:21:57.165Z; look less far ahead, or at fewer devices";
    assert_eq!(error.to_string(), said);
}

#[test]
fn nobody_is_forgotten_that_waits_for_a_place() {
    let cap = |max_in_flight, max_in_flight_per_site| Cap { max_in_flight, max_in_flight_per_site };
    let mut fleet = tills(60);
    for (n, unit) in fleet.iter_mut().enumerate() {
        unit.device.site = Some(format!("S-{}", n % 4).parse().expect("a name"));
    }
    for caps in [
        Caps { downloads: cap(Some(3), None), ..Caps::default() },
        Caps { downloads: cap(Some(9), Some(1)), activations: cap(None, Some(1)) },
        Caps { downloads: cap(Some(2), Some(1)), activations: cap(Some(1), None) },
    ] {
        let assume = Assumptions { offline: Chance::from_millionths(300_000), ..assumptions() };
        let spec = Spec { caps, ..progressive() };
        let timeline = run(&spec, fleet.clone(), &assume);
        assert_eq!(timeline.state, RolloutState::Completed, "{caps:?}: {}", say(&timeline));
        let most = timeline.hours.iter().map(|hour| hour.downloading).max().expect("hours");
        assert!(most <= u64::from(caps.downloads.max_in_flight.expect("a cap")), "{caps:?}: {most}");
    }
}

#[test]
fn no_minute_has_more_offers_than_its_pace() {
    let pace = Some(Pace { max_offers_per_minute: 2, doubles_every: None });
    let timeline = run(&Spec { pace, ..progressive() }, tills(200), &assumptions());
    assert_eq!(timeline.state, RolloutState::Completed, "{}", say(&timeline));
    assert_eq!(timeline.hours.iter().map(|hour| hour.offers_in_busiest_minute).max(), Some(2));
}

#[test]
fn a_halt_rule_takes_the_release_back() {
    let halt = vec![HaltSpec {
        max_failures: Some(1),
        action: HaltKind::RollBackTo,
        rollback_to: Some("pos-app@2.1.0".to_owned()),
        ..HaltSpec::default()
    }];
    let spec = Spec { halt, ..spec() };
    let failures = Chance::from_millionths(100_000);
    let mut engine = engine(&spec, tills(60), &Assumptions { failures, ..assumptions() });
    engine.ledger.catalog.releases.insert(release("2.1.0", 21).digest, release("2.1.0", 21));
    let timeline = engine.run(&|| false).expect("a course");
    let last = timeline.marks.last().expect("marks");
    assert_eq!((last.what, timeline.state), (What::TakenBack, RolloutState::Cancelled), "{}", say(&timeline));
}

#[test]
fn windows_trading_hours_and_nights_are_kept() {
    let spec =
        Spec { windows: vec![night(Mode::Hard)], policy: PolicyKind::Scheduled, expected_install_min: 15, ..spec() };
    let timeline = run(&spec, tills(10), &assumptions());
    let busy: Vec<String> =
        timeline.hours.iter().filter(|hour| hour.installs > 0).map(|hour| hour.until.to_string()).collect();
    // From 2 to 4 in New York, in the first part of it.
    assert_eq!(busy, ["2026-11-24T08:00:00Z"]);
    // A till that is off at night never comes into the window, but makes up for it before the shop opens.
    let mut bytes = [0; BYTES];
    for hour in (0..168).filter(|hour| (12..24).contains(&(hour % 24))) {
        bytes[hour / 8] |= 1 << (hour % 8);
    }
    let hours = HoursSpec { days: Vec::new(), opens: "08:30".to_owned(), closes: "18:00".to_owned() };
    let off = |number: u32| {
        let mut unit = seen(till(number));
        unit.rhythm = Rhythm::from_slice(&bytes).expect("a rhythm");
        unit.device.site_rules.trading = TradingHours::read(std::slice::from_ref(&hours)).expect("hours");
        unit
    };
    let fleet = || (1..=10).map(off).collect::<Vec<_>>();
    let timeline = run(&spec, fleet(), &assumptions());
    assert_eq!(timeline.phases[0].succeeded, 0, "{}", say(&timeline));
    let lenient = Spec { windows: vec![night(Mode::BestEffort)], ..spec };
    let timeline = run(&lenient, fleet(), &assumptions());
    assert_eq!(timeline.phases[0].succeeded, 10, "{}", say(&timeline));
    let busy = |hour: &&Hour| hour.installs > 0 && !matches!(hour.until.millis() / 3_600_000 % 24, 0 | 13 | 14);
    assert_eq!(timeline.hours.iter().find(busy), None, "installed while the shop traded");
}

/// Until one in the afternoon the line is for other things.
fn nothing_until_one() -> Bandwidth {
    let spec =
        LimitSpec { days: Vec::new(), from: Some("07:00".to_owned()), to: Some("13:00".to_owned()), bytes_per_s: 0 };
    Bandwidth::read(&[spec]).expect("limits")
}

#[test]
fn a_device_comes_back_when_it_was_told_to() {
    let busy = |spec: &Spec, fleet: Vec<Unit>| {
        let timeline = run(spec, fleet, &assumptions());
        let installs = timeline.hours.iter().filter(|hour| hour.installs > 0);
        installs.map(|hour| format!("{} in the hour to {}", hour.installs, hour.until)).collect::<Vec<_>>()
    };
    // A window that is shorter than the time between two check-ins.
    let brief = WindowSpec { duration_min: 2, ..night(Mode::Hard) };
    let scheduled = Spec { policy: PolicyKind::Scheduled, windows: vec![brief], ..spec() };
    assert_eq!(busy(&scheduled, tills(40)), ["40 in the hour to 2026-11-24T08:00:00Z"]);
    // Downloads that the site allows from one o'clock on, at six in the evening here.
    let mut fleet = tills(40);
    fleet.iter_mut().for_each(|unit| unit.device.site_rules.bandwidth = nothing_until_one());
    assert_eq!(busy(&spec(), fleet), ["40 in the hour to 2026-11-23T19:00:00Z"]);
}

#[test]
fn whoever_waits_for_a_place_at_its_site_asks_every_minute() {
    let one_by_one =
        Caps { activations: Cap { max_in_flight: None, max_in_flight_per_site: Some(1) }, ..Caps::default() };
    let assume = Assumptions { download: MINUTE, ..assumptions() };
    let timeline =
        run(&Spec { caps: one_by_one, audience: crate::rollout::Membership::Frozen, ..spec() }, tills(8), &assume);
    let ends = timeline.marks.last().expect("marks");
    assert_eq!(ends.what, What::Completed, "{}", say(&timeline));
    // Eight installs of five minutes, and at most one minute between two of them.
    let took = ends.at.since(at(START));
    assert!((40 * MINUTE..=(1 + 5 + 8 * 6) * MINUTE).contains(&took), "{took:?}");
}

#[test]
fn nobody_plays_on_when_nobody_asks_any_more() {
    let (spec, fleet, assume) = mixed(3);
    let asked = std::cell::Cell::new(0);
    let ends_after = |most: u32| {
        asked.set(0);
        let given_up = || {
            asked.set(asked.get() + 1);
            asked.get() > most
        };
        let error = engine(&spec, fleet.clone(), &assume).run(&given_up).expect_err("it is given up");
        assert!(matches!(error, SimulateError::GivenUp), "{error}");
        assert_eq!(asked.get(), most + 1, "it asked once more");
    };
    [0, 1, 100].into_iter().for_each(ends_after);
    // Also while the check-ins of all hours are counted.
    let times = std::cell::Cell::new(0);
    engine(&spec, fleet.clone(), &assume)
        .run(&|| {
            times.set(times.get() + 1);
            false
        })
        .expect("a course");
    ends_after(times.get() - 1);
}

/// Fleets and rollouts in which devices wait for everything that there is.
fn mixed(seed: u64) -> (Spec, Vec<Unit>, Assumptions) {
    let roll = |what| dice::roll(seed, what);
    let pick = |what, n: u64| roll(what) % n;
    let cap =
        |what, least| Some(u32::try_from(least + pick(what, 3)).expect("small")).filter(|_| pick(what + 50, 3) > 0);
    let mode = if pick(1, 2) == 0 { Mode::Hard } else { Mode::BestEffort };
    let caps = Caps {
        downloads: Cap { max_in_flight: cap(2, 4), max_in_flight_per_site: cap(3, 1) },
        activations: Cap { max_in_flight: cap(4, 4), max_in_flight_per_site: cap(5, 1) },
    };
    // Shorter than it takes to ask again, and for downloads too. In best-effort mode whoever was let in outside of it, and
    // found no place, would not know of the next one before it is there.
    let gates = Gates { download: pick(10, 2) == 0, install: true };
    let brief = WindowSpec { duration_min: 3, gates, ..night(Mode::Hard) };
    let (windows, expected_install_min) = match pick(6, 4) {
        0 => (vec![brief], 0),
        1 => (vec![night(mode)], 15),
        _ => (Vec::new(), 15),
    };
    let pace = (pick(9, 3) == 0).then_some(Pace { max_offers_per_minute: 1, doubles_every: Some(8) });
    let spec = Spec { caps, windows, pace, expected_install_min, ..progressive() };
    let mut fleet = tills(60);
    for (n, unit) in (0..).zip(&mut fleet) {
        unit.device.site = Some(format!("S-{}", n % 4).parse().expect("a name"));
        let bits: Vec<u8> =
            (0..).take(BYTES).map(|byte| u8::try_from(roll(1000 + n * 100 + byte) % 256).expect("a byte")).collect();
        if n % 3 == 0 {
            unit.rhythm = Rhythm::from_slice(&bits).expect("a rhythm");
        }
        if n % 17 == 0 {
            unit.last_seen = None;
        }
        if n % 4 == 2 && pick(11, 2) == 0 {
            unit.device.site_rules.bandwidth = nothing_until_one();
        }
        if n % 4 == 1 {
            let hours = HoursSpec { days: Vec::new(), opens: "07:00".to_owned(), closes: "21:00".to_owned() };
            unit.device.site_rules.trading = TradingHours::read(&[hours]).expect("hours");
        }
    }
    let failures = Chance::from_millionths(u32::try_from(pick(7, 2) * 20_000).expect("small"));
    let offline = Chance::from_millionths(u32::try_from(pick(8, 5) * 100_000).expect("small"));
    (spec, fleet, Assumptions { time: Duration::from_secs(3 * 86_400), failures, offline, seed, ..assumptions() })
}

/// What must not depend on which check-ins are played.
fn course(timeline: &Timeline) -> Vec<String> {
    let say = |counts: &PhaseCounts| {
        let mut counts = *counts;
        let states = AssignmentState::ALL.map(|state| (state, *counts.of(state))).into_iter();
        let states = states.filter(|(_, n)| *n > 0).map(|(state, n)| format!("{n} {}", state.as_str()));
        states.chain([format!("{} silent of {}", counts.silent, counts.size)]).collect::<Vec<_>>().join(" ")
    };
    let marks = timeline.marks.iter().map(|mark| format!("{} {:?} {}", mark.at, mark.what, mark.text));
    let hours = timeline.hours.iter().map(|hour| {
        let phases = hour.phases.iter().map(say).collect::<Vec<_>>().join(", ");
        format!("{} {} offers {} installs {phases}", hour.until, hour.offers, hour.installs)
    });
    marks.chain(hours).collect()
}

#[test]
fn playing_every_check_in_gives_the_same_course() {
    for seed in 0..24 {
        let (spec, fleet, assume) = mixed(seed);
        let skipping = run(&spec, fleet.clone(), &assume);
        let mut every = engine(&spec, fleet, &assume);
        every.every_check_in = true;
        let every = every.run(&|| false).expect("a course");
        assert!(skipping.played * 4 < every.played, "{} of {} check-ins were played", skipping.played, every.played);
        let (skipping, every) = (course(&skipping), course(&every));
        // Nothing happens after the last event.
        let other = skipping.iter().zip(&every).position(|(one, other)| one != other);
        let tail =
            |course: &[String]| course.iter().skip(other.unwrap_or_default()).take(2).cloned().collect::<Vec<_>>();
        assert_eq!(other, None, "seed {seed}, skipping: {:#?}, every: {:#?}", tail(&skipping), tail(&every));
    }
}
