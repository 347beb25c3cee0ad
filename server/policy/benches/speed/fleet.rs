//! Fleets and rollouts to measure with.

use std::{collections::BTreeMap, time::Duration};

use callboard_policy::{
    device::Device,
    guard::{Cap, Caps},
    ledger::Unit,
    release::Release,
    rollout::{Approval, Membership, PhaseSpec, PolicyKind, Spec, Unit as Moves, WindowSpec},
    selector::Glob,
    site::SiteRules,
    trading::{HoursSpec, TradingHours},
    window::{Gates, Mode},
};
use callboard_proto::{
    check_in::Installed,
    digest::Digest,
    ids::{DeviceId, Product},
    instruction::ActivateOn,
    time::Timestamp,
};

pub(crate) const POLL: Duration = Duration::from_secs(300);

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn release(product: &str, version: &str, counter: u64) -> Release {
    Release {
        digest: Digest::of(format!("{product} {version}").as_bytes()),
        product: product.parse::<Product>().unwrap(),
        version: version.parse().unwrap(),
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

const ZONES: [&str; 10] = [
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "Europe/London",
    "Europe/Berlin",
    "Asia/Kolkata",
    "Asia/Tokyo",
    "Australia/Sydney",
    "Pacific/Auckland",
];

/// Shops of ten tills in ten zones, open from 8 to 20 o'clock.
pub(crate) fn fleet(devices: u32, now: Timestamp) -> Vec<Unit> {
    let hours = HoursSpec { days: Vec::new(), opens: "08:00".to_owned(), closes: "20:00".to_owned() };
    let trading = TradingHours::read(&[hours]).unwrap();
    (0..devices).map(|number| Unit::new(till(number, &trading), Some(now - POLL))).collect()
}

pub(crate) fn till(number: u32, trading: &TradingHours) -> Device {
    let mut id = [7; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    let old = release("pos-app", "2.1.0", 21);
    Device {
        site: Some(format!("S-{}", number / 10).parse().unwrap()),
        site_tz: Some(ZONES[(number / 10 % 10) as usize].parse().unwrap()),
        site_rules: SiteRules { trading: trading.clone(), ..SiteRules::default() },
        labels: BTreeMap::from([("region".to_owned(), format!("r{}", number / 10 % 10))]),
        hw: "verifone-m440".to_owned(),
        arch: "x86_64".to_owned(),
        agent: "0.3.0".to_owned(),
        channels: vec!["stable".to_owned()],
        installed: vec![Installed {
            product: old.product,
            version: old.version,
            release: Some(old.digest),
            epoch: 1,
            counter: 21,
            floor: 0,
        }],
        attributes: BTreeMap::from([("os".to_owned(), "debian".to_owned())]),
        enrolled_at: Some(at("2026-01-01T00:00:00Z")),
        ..Device::unheard_of(DeviceId::from_slice(&id).unwrap(), number, format!("till-{number}").parse().unwrap())
    }
}

/// A rollout at any time to everybody.
pub(crate) fn plain(name: &str, release: &Release) -> Spec {
    Spec {
        name: name.parse().unwrap(),
        release: release.digest,
        selector: "all".to_owned(),
        audience: Membership::Live,
        policy: PolicyKind::Immediate,
        start_at: None,
        min_absence_s: None,
        windows: Vec::new(),
        phases: Vec::new(),
        unit: Moves::Device,
        caps: Caps::default(),
        pace: None,
        halt: Vec::new(),
        priority: 500,
        max_attempts: 3,
        allow_downgrade: false,
        security: false,
        expected_install_min: 0,
        during_trading: true,
        offline_activation: false,
        activate_on: ActivateOn::Now,
        deadline: None,
        ends_at: None,
        default_tz: None,
    }
}

/// A careful one: three phases with soaks, nights from 2 to 5, never while the shop trades, caps over all and per shop.
pub(crate) fn careful(name: &str, release: &Release, devices: u32) -> Spec {
    let phase = |name: &str, percent, soak_min| PhaseSpec {
        name: name.to_owned(),
        percent: Some(percent),
        selector: None,
        success_percent: 90,
        completed_percent: 80,
        min_completed: 1,
        max_wait_min: None,
        soak_min,
        approval: Approval::Auto,
    };
    let window = WindowSpec {
        tz: "site".to_owned(),
        days: Vec::new(),
        start: Some("02:00".to_owned()),
        cron: None,
        duration_min: 180,
        gates: Gates { download: false, install: true },
        mode: Mode::BestEffort,
    };
    let downloads = Cap { max_in_flight: Some(devices / 100 + 1), max_in_flight_per_site: Some(2) };
    let activations = Cap { max_in_flight: None, max_in_flight_per_site: Some(3) };
    Spec {
        policy: PolicyKind::Progressive,
        audience: Membership::Frozen,
        phases: vec![phase("canary", 1, 720), phase("tenth", 10, 720), phase("all", 100, 0)],
        windows: vec![window],
        caps: Caps { downloads, activations },
        expected_install_min: 15,
        during_trading: false,
        ..plain(name, release)
    }
}
