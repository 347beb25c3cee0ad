//! What unit tests build on: one ordinary till, one ordinary release.

use std::{collections::BTreeMap, time::Duration};

use callboard_proto::{
    check_in::Installed,
    digest::Digest,
    ids::{AssignmentId, DeviceId, RolloutId},
    instruction::ActivateOn,
    state::AssignmentState,
    time::Timestamp,
};

use crate::{
    device::{Assignment, Contact, Device},
    guard::Caps,
    release::Release,
    rollout::{Approval, Membership, PhaseSpec, PolicyKind, Spec, Unit},
    selector::Glob,
};

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

pub(crate) fn rollout_id(n: u8) -> RolloutId {
    RolloutId::from_slice(&[n; 16]).expect("16 bytes")
}

/// Till number `n`, in New York, with `pos-app` 2.1.0 (counter 21).
pub(crate) fn till(n: u32) -> Device {
    let mut id = [7; 16];
    id[..4].copy_from_slice(&n.to_be_bytes());
    Device {
        site: Some("NYC-001".parse().expect("a name")),
        site_tz: Some(chrono_tz::America::New_York),
        labels: BTreeMap::from([("region".to_owned(), "northeast".to_owned())]),
        hw: "verifone-m440".to_owned(),
        arch: "x86_64".to_owned(),
        agent: "0.3.0".to_owned(),
        channels: vec!["stable".to_owned()],
        installed: vec![installed("2.1.0", 21)],
        attributes: BTreeMap::from([("os".to_owned(), "debian".to_owned())]),
        enrolled_at: Some(at("2026-01-01T00:00:00Z")),
        ..Device::unheard_of(
            DeviceId::from_slice(&id).expect("16 bytes"),
            n,
            format!("till-{n}").parse().expect("a name"),
        )
    }
}

pub(crate) fn installed(version: &str, counter: u64) -> Installed {
    Installed {
        product: "pos-app".parse().expect("a name"),
        version: version.parse().expect("a version"),
        release: Some(release(version, counter).digest),
        epoch: 1,
        counter,
        floor: 0,
    }
}

/// A release of `pos-app` for every verifone.
pub(crate) fn release(version: &str, counter: u64) -> Release {
    Release {
        digest: Digest::of(version.as_bytes()),
        product: "pos-app".parse().expect("a name"),
        version: version.parse().expect("a version"),
        epoch: 1,
        counter,
        min_floor: 0,
        channels: vec!["stable".to_owned()],
        hw: vec![Glob::new("verifone-*")],
        not_after: None,
        requires_agent: None,
        requires_at_least: None,
        requires: Vec::new(),
        space_bytes: 0,
        distrust: None,
    }
}

/// An immediate rollout of `release("2.2.0", 22)` to everything.
pub(crate) fn spec() -> Spec {
    Spec {
        name: "spring".parse().expect("a name"),
        release: release("2.2.0", 22).digest,
        selector: "all".to_owned(),
        audience: Membership::Live,
        policy: PolicyKind::Immediate,
        start_at: None,
        min_absence_s: None,
        windows: Vec::new(),
        phases: Vec::new(),
        unit: Unit::Device,
        caps: Caps::default(),
        pace: None,
        halt: Vec::new(),
        priority: 500,
        max_attempts: 3,
        allow_downgrade: false,
        security: false,
        expected_install_min: 0,
        during_trading: false,
        offline_activation: false,
        activate_on: ActivateOn::Now,
        deadline: None,
        ends_at: None,
        default_tz: None,
    }
}

/// A phase by percent, with the gate that it has unless something else is said.
pub(crate) fn phase(name: &str, percent: u32) -> PhaseSpec {
    PhaseSpec {
        name: name.to_owned(),
        percent: Some(percent),
        selector: None,
        success_percent: 95,
        completed_percent: 80,
        min_completed: 1,
        max_wait_min: None,
        soak_min: 0,
        approval: Approval::Auto,
    }
}

pub(crate) fn assignment(rollout: RolloutId, release: &Release, state: AssignmentState) -> Assignment {
    let id = AssignmentId::from_slice(rollout.as_bytes()).expect("16 bytes");
    Assignment { state, ..Assignment::granted(id, rollout, release, 0, at("2026-11-23T00:00:00Z")) }
}

/// A till in the middle of its day.
pub(crate) fn contact(now: Timestamp) -> Contact {
    Contact {
        last_seen: Some(now - Duration::from_secs(300)),
        absence: None,
        boot_changed: false,
        owed: None,
        poll_interval: Duration::from_secs(300),
        works_on: None,
        free_bytes: None,
    }
}
