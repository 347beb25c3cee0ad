use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    decide::{Step, decide},
    fixture::{assignment, at, contact, installed, phase, release, rollout_id, spec, till},
    guard::Loads,
    rollout::{PolicyKind, RolloutState, Spec, WindowSpec},
    window::{Gates, Mode},
};

fn fleet() -> Vec<Device> {
    let mut fleet: Vec<Device> = (0..20).map(till).collect();
    fleet[3].installed = vec![installed("2.2.0", 22)];
    fleet[4].hw = "ipad".to_owned();
    fleet[5].labels.insert("region".to_owned(), "west".to_owned());
    fleet[6].decommissioned = true;
    fleet
}

fn progressive() -> Spec {
    let phases = vec![phase("canary", 10), phase("all", 100)];
    Spec { policy: PolicyKind::Progressive, phases, selector: "region = northeast".to_owned(), ..spec() }
}

fn seen(n: u32) -> Seen {
    let now = at("2026-11-23T12:00:00Z");
    let last_seen = Some(now - Duration::from_secs(u64::from(n) * 120));
    let status =
        Connectivity::of(now, last_seen, Duration::from_secs(300), crate::device::DEFAULT_ABANDONED_AFTER, None);
    Seen { last_seen, status, now }
}

fn look(spec: &Spec, others: &Catalog) -> Preview {
    let fleet = fleet();
    let fleet: Vec<(&Device, Seen)> = fleet.iter().map(|device| (device, seen(device.number))).collect();
    let plan = spec.plan().expect("a plan");
    preview(at("2026-11-23T12:00:00Z"), rollout_id(1), &plan, &release("2.2.0", 22), &fleet, others)
}

#[test]
fn a_preview_counts_exactly() {
    let preview = look(&progressive(), &Catalog::default());
    assert_eq!((preview.matching, preview.online), (18, 5));
    let sizes: Vec<usize> = preview.phases.iter().map(|phase| phase.devices.len()).collect();
    assert_eq!(sizes, [2, 14], "10 % of the 16 that have something to get, rounded up");
    assert_eq!(preview.phases.iter().map(|phase| phase.online).sum::<usize>(), 3);
    assert_eq!(preview.already_installed, [till(3).id]);
    assert_eq!(preview.incompatible[0].0, till(4).id);
    assert_eq!(preview.incompatible[0].1.code, "incompatible_hw");
    assert!(preview.conflicts.is_empty());
}

#[test]
fn preview_and_reality_agree() {
    let spec = progressive();
    let preview = look(&spec, &Catalog::default());
    let now = at("2026-11-23T12:00:00Z");
    let rollout = Rollout {
        state: RolloutState::Running,
        started_at: Some(now),
        members: Arc::new(preview.audience.clone()),
        ..Rollout::draft(rollout_id(1), spec.plan().expect("a plan"))
    };
    let catalog = Catalog::new(1, vec![rollout], [release("2.2.0", 22)]);
    let offered: Vec<DeviceId> = fleet()
        .iter()
        .filter(|device| {
            let step = decide(now, &catalog, device, &contact(now), &Loads::default()).step;
            matches!(step, Step::GrantDownload { phase: 0, .. })
        })
        .map(|device| device.id)
        .collect();
    assert_eq!(offered, preview.phases[0].devices);
}

#[test]
fn conflicts_say_who_would_come_first() {
    let other = |n, priority| {
        let plan = Spec { priority, release: release("2.3.0", 23).digest, ..spec() }.plan().expect("a plan");
        let members = Arc::new(Audience::of(vec![[1, 2].into_iter().collect()]));
        let started_at = Some(at("2026-11-20T00:00:00Z"));
        Rollout { state: RolloutState::Paused, started_at, members, ..Rollout::draft(rollout_id(n), plan) }
    };
    let mut frozen = other(3, 900);
    frozen.plan.audience = Membership::Frozen;
    let others = Catalog::new(1, vec![other(2, 500), frozen], [release("2.3.0", 23)]);
    let preview = look(&progressive(), &others);
    let conflicts: Vec<_> =
        preview.conflicts.iter().map(|one| (one.rollout, one.superseded_by_this, one.devices.len())).collect();
    assert_eq!(conflicts, [(rollout_id(3), false, 2), (rollout_id(2), true, 17)], "one of them can have neither");
}

#[test]
fn who_is_through_with_another_rollout_is_not_in_common() {
    let plan = Spec { release: release("2.3.0", 23).digest, ..spec() }.plan().expect("a plan");
    let started_at = Some(at("2026-11-20T00:00:00Z"));
    let other = Rollout { state: RolloutState::Running, started_at, ..Rollout::draft(rollout_id(2), plan) };
    let others = Catalog::new(1, vec![other], [release("2.3.0", 23)]);
    let states =
        [AssignmentState::Failed, AssignmentState::Cancelled, AssignmentState::Staged, AssignmentState::TimedOut];
    let fleet: Vec<Device> = (0..5)
        .map(|n| {
            let mut device = till(n);
            let state = usize::try_from(n).ok().and_then(|n| states.get(n).copied());
            device.assignments.extend(state.map(|state| assignment(rollout_id(2), &release("2.3.0", 23), state)));
            device
        })
        .collect();
    let fleet: Vec<(&Device, Seen)> = fleet.iter().map(|device| (device, seen(0))).collect();
    let plan = progressive().plan().expect("a plan");
    let preview = preview(at("2026-11-23T12:00:00Z"), rollout_id(1), &plan, &release("2.2.0", 22), &fleet, &others);
    assert_eq!(preview.conflicts[0].devices, [till(2).id, till(3).id, till(4).id]);
}

#[test]
fn a_preview_says_when_each_zone_could_first_install() {
    let mut fleet = fleet();
    for device in &mut fleet {
        device.site_tz =
            Some(if device.number % 2 == 0 { chrono_tz::Europe::Berlin } else { chrono_tz::America::New_York });
    }
    let nights = WindowSpec {
        tz: "site".to_owned(),
        days: Vec::new(),
        start: Some("02:00".to_owned()),
        cron: None,
        duration_min: 120,
        gates: Gates { download: false, install: true },
        mode: Mode::Hard,
    };
    let plan = Spec { windows: vec![nights], ..progressive() }.plan().expect("a plan");
    let fleet: Vec<(&Device, Seen)> = fleet.iter().map(|device| (device, seen(device.number))).collect();
    let now = at("2026-11-23T12:00:00Z");
    let catalog = Catalog::default();
    let preview = preview(now, rollout_id(1), &plan, &release("2.2.0", 22), &fleet, &catalog);
    let said = preview.openings.iter().map(|one| {
        let first = one.first.expect("an opening");
        format!("{}: {} devices, {} to {}, never {}", one.zone, one.devices, first.start, first.end, one.never)
    });
    insta::assert_snapshot!(said.collect::<Vec<_>>().join("\n"), @"
    America/New_York, the site's zone: 8 devices, 2026-11-24T07:00:00Z to 2026-11-24T09:00:00Z, never 0
    Europe/Berlin, the site's zone: 8 devices, 2026-11-24T01:00:00Z to 2026-11-24T03:00:00Z, never 0
    ");
}
