//! Selectors mean the same in memory and in SQL, on both engines, for random devices and random selectors.
//!
//! The devices are made over the protocol and read back over the admin API; the evaluator in memory works on what the
//! API shows. `CALLBOARD_TEST_SEED` (a number) tries other devices and selectors; a failure prints the seed.

use std::collections::BTreeSet;

use callboard_policy::{
    device::{Connectivity, Device},
    selector::{Seen, Selector},
};
use callboard_proto::{
    admin::{self, DeviceStatus, Imported, Site},
    ids::DeviceId,
};
use callboard_tests::{api::escape, device::FakeDevice, server::TestServer, wait};
use proptest::{
    strategy::{Strategy, ValueTree as _},
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};
use serde_json::json;
use std::time::Duration;

mod any;

use crate::on_both;

const DEVICES: usize = 40;
const SELECTORS: u32 = 400;
const SEED: u64 = 20_270_112;

fn seed() -> u64 {
    std::env::var("CALLBOARD_TEST_SEED").ok().map_or(SEED, |text| text.parse().expect("a number"))
}

fn runner() -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed().to_le_bytes());
    let config = Config { cases: SELECTORS, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Registers random devices; a third is never switched on, the others are seen at different times.
fn populate(server: &TestServer, runner: &mut TestRunner) {
    let mut one =
        |strategy: &proptest::strategy::BoxedStrategy<any::AnyDevice>| strategy.new_tree(runner).unwrap().current();
    server.api().post::<Imported>("sites/import", &json!({ "sites": any::sites() }));
    let strategy = any::device().boxed();
    for n in 0..DEVICES {
        let (name, drawn) = (any::name(n), one(&strategy));
        let import = json!({ "name": name, "site": drawn.site, "labels": drawn.labels, "installed": drawn.imported });
        server.api().post::<Imported>("devices/import", &json!({ "devices": [import] }));
        // The silence of a suspended site does not count.
        let site = any::SITES[n % any::SITES.len()];
        match n {
            10..13 => server.api().try_post(&format!("sites/{site}/suspend"), &json!({ "reason": "a test" })).ok(),
            30 => server.api().try_post(&format!("sites/{site}/activate"), &json!({})).ok(),
            _ => {}
        };
        if n % 3 == 0 {
            continue;
        }
        let mut device = FakeDevice::enrol_imported(server, &name);
        device.facts = drawn.facts;
        if n % 3 == 1 {
            device.check_in();
        }
        server.advance(Duration::from_secs(drawn.pause_s));
    }
    let seen = (0..DEVICES).filter(|n| n % 3 == 1).count();
    wait::until("every check-in is in the database", || select(server, "exists last_seen").len() == seen);
}

/// What the database selects.
fn select(server: &TestServer, selector: &str) -> BTreeSet<DeviceId> {
    let devices: Vec<admin::Device> = server.api().list(&format!("devices?limit=1000&selector={}", escape(selector)));
    devices.into_iter().map(|device| device.id).collect()
}

/// The device as decisions see it.
fn known(shown: &admin::Device, number: u32, sites: &[Site]) -> (Device, Connectivity) {
    let site = shown.site.as_ref().map(|id| sites.iter().find(|site| site.id == *id).unwrap());
    let status = match shown.status {
        DeviceStatus::Unknown => Connectivity::Unknown,
        DeviceStatus::Online => Connectivity::Online,
        DeviceStatus::Offline => Connectivity::Offline,
        DeviceStatus::Abandoned => Connectivity::Abandoned,
    };
    let device = Device {
        site: shown.site.clone(),
        site_tz: site.map(|site| site.tz.parse().unwrap()),
        labels: shown.labels.clone(),
        hw: shown.hw.clone(),
        arch: shown.arch.clone(),
        agent: shown.agent.clone(),
        tz: shown.tz.as_ref().map(|tz| tz.parse().unwrap()),
        installed: shown.installed.clone(),
        attributes: shown.attributes.clone(),
        enrolled_at: shown.enrolled_at,
        decommissioned: shown.decommissioned,
        ..Device::unheard_of(shown.id, number, shown.name.clone())
    };
    (device, status)
}

fn check(server: &TestServer) {
    let mut runner = runner();
    populate(server, &mut runner);
    let sites: Vec<Site> = server.api().list("sites");
    let shown: Vec<admin::Device> = server.api().list("devices?limit=1000");
    let now = server.clock.now();
    let fleet: Vec<(Device, Seen)> = (0..)
        .zip(&shown)
        .map(|(number, shown)| {
            let (device, status) = known(shown, number, &sites);
            (device, Seen { last_seen: shown.last_seen, status, now })
        })
        .collect();
    let (names, some) = (any::ids(&shown), std::cell::Cell::new(0));
    let result = runner.run(&any::selector(names, now), |expr| {
        let text = expr.to_string();
        let selector = Selector::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(*selector.expr(), expr, "{text}");
        let in_memory: BTreeSet<DeviceId> =
            fleet.iter().filter(|(device, seen)| selector.matches(device, seen)).map(|(device, _)| device.id).collect();
        if !in_memory.is_empty() && in_memory.len() < fleet.len() {
            some.set(some.get() + 1);
        }
        assert_eq!(select(server, &text), in_memory, "{text}");
        Ok(())
    });
    if let Err(error) = result {
        let reason = match error {
            TestError::Fail(reason, expr) => format!("{expr}\n{reason}"),
            TestError::Abort(reason) => reason.to_string(),
        };
        panic!("with seed {} on {:?}: {reason}", seed(), server.engine);
    }
    // Selectors that select all or nothing would show little.
    assert!(some.get() > SELECTORS / 4, "only {} of {SELECTORS} selectors tell devices apart", some.get());
}

#[test]
fn random_selectors_select_the_same_devices_in_memory_and_in_sql() {
    on_both(|server| check(server));
}
