//! Two weeks of a hundred thousand devices.

use std::time::{Duration, Instant};

use callboard_policy::{
    catalog::Catalog,
    ledger::Ledger,
    rollout::Spec,
    simulate::{Assumptions, Chance, Subject, simulate},
};
use callboard_proto::ids::RolloutId;

use crate::fleet::{POLL, at, careful, fleet, plain, release};

pub(crate) fn run() {
    let devices = std::env::var("DEVICES").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    println!("simulate, {devices} devices, 14 days:");
    let new = release("pos-app", "2.2.0", 22);
    let cases = [
        ("at any time", plain("plain", &new), 0),
        ("careful", careful("careful", &new, devices), 0),
        ("careful, 30 % offline", careful("careful", &new, devices), 300_000),
    ];
    for (name, spec, offline) in &cases {
        one(name, spec, *offline, devices);
    }
}

fn one(name: &str, spec: &Spec, offline: u32, devices: u32) {
    let now = at("2026-11-23T12:00:00Z");
    let subject = Subject {
        now,
        id: RolloutId::from_slice(&[9; 16]).unwrap(),
        plan: spec.plan().unwrap(),
        release: release("pos-app", "2.2.0", 22),
    };
    let assumptions = Assumptions {
        time: Duration::from_secs(14 * 86_400),
        failures: Chance::from_millionths(20_000),
        offline: Chance::from_millionths(offline),
        download: Duration::from_secs(600),
        install: Duration::from_secs(300),
        seed: 1,
        most_played: u64::MAX,
    };
    let fleet = fleet(devices, now);
    let began = Instant::now();
    let timeline = simulate(subject, Ledger::new(Catalog::default(), POLL), fleet, &assumptions, &|| false).unwrap();
    let took = began.elapsed().as_secs_f64();
    let done: u64 = timeline.phases.iter().map(|phase| phase.succeeded).sum();
    let (played, state) = (timeline.played, timeline.state.as_str());
    println!("  {name:<26} {took:>6.2} s, {played} check-ins played, {done} succeeded, {state}");
}
