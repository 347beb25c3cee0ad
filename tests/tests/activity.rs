//! What status tells beside the counts: who is excluded and why, how much was served, when something happened.

use callboard_proto::admin::{Device, PhaseProgress};
use callboard_tests::{
    clock::time,
    device::{FakeDevice, Health},
    release::NewRelease,
    wait,
    world::rollout,
};
use serde_json::json;
use std::collections::BTreeMap;

use crate::on_both;

fn reasons(phase: &PhaseProgress) -> BTreeMap<&str, u32> {
    phase.excluded.iter().map(|(why, n)| (why.as_str(), *n)).collect()
}

#[test]
fn the_excluded_are_told_by_why_when_it_starts_and_when_it_shows_later() {
    on_both(|server| {
        let release = NewRelease::new("pos-app", "2.0.0", 1).with(|release| release.hw = vec!["verifone-*".to_owned()]);
        let digest = release.publish(server).sha256;
        let mut has_it = FakeDevice::enrol(server, "has-it");
        let document = has_it.fetch_release(digest);
        has_it.install(&document);
        has_it.check_in();
        let mut tablet = FakeDevice::enrol(server, "tablet");
        tablet.facts.hw = "ipad".to_owned();
        tablet.check_in();
        let mut late = FakeDevice::enrol(server, "late");
        late.facts.hw = "ipad".to_owned();
        let gone = FakeDevice::enrol(server, "gone");
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
        let phase = || server.rollout("r").phases.swap_remove(0);
        assert_eq!(reasons(&phase()), [("already_installed", 1), ("incompatible_hw", 1)].into());
        late.check_in();
        server.api().post::<Device>(&format!("devices/{}/decommission", gone.name), &json!({ "reason": "stolen" }));
        let all = [("already_installed", 1), ("incompatible_hw", 2), ("out_of_service", 1)];
        assert_eq!((reasons(&phase()), phase().counts.excluded), (all.into(), 4));
        let said = server.cli(["rollout", "status", "r"]).ok().stdout.clone();
        let words = "1 already installed, 1 out of service, 2 incompatible (2 incompatible_hw)";
        assert!(said.contains(words), "{said}");
        // It can have it after all.
        late.facts.hw = "verifone-m440".to_owned();
        late.settle(Health::Good);
        let rest = [("already_installed", 1), ("incompatible_hw", 1), ("out_of_service", 1)];
        assert_eq!((reasons(&phase()), phase().counts.excluded), (rest.into(), 3));
    });
}

#[test]
fn what_was_served_and_when_something_happened_is_counted() {
    on_both(|server| {
        server.set_clock(time("2027-01-12T12:00:00Z"));
        let release = NewRelease::new("pos-app", "2.0.0", 1);
        let size = u64::try_from(release.payload.len()).unwrap();
        release.publish(server);
        let mut till = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
        let phase = || server.rollout("r").phases.swap_remove(0);
        assert_eq!((phase().first_event_at, phase().bytes_served), (None, 0));
        server.set_clock(time("2027-01-12T12:05:00Z"));
        till.obey(Health::Good);
        server.set_clock(time("2027-01-12T12:10:00Z"));
        till.settle(Health::Good);
        assert_eq!(phase().first_event_at, Some(time("2027-01-12T12:05:00Z")));
        assert_eq!(phase().last_event_at, Some(time("2027-01-12T12:10:00Z")));
        // The payload and its list of chunks.
        wait::until("it is written", || phase().bytes_served >= size + 32);
        assert_eq!(phase().bytes_served, size + 32);
        // Who looks at a payload without an order is nobody's download.
        let payload = release.document.payloads[0].clone();
        till.fetch_payload(&payload);
        let mut other = FakeDevice::enrol(server, "till-2").runs("pos-app", "1.0.0");
        other.settle(Health::Good);
        wait::until("it is written", || phase().bytes_served >= 2 * (size + 32));
        assert_eq!(phase().bytes_served, 2 * (size + 32));
        assert!(server.cli(["rollout", "status", "r"]).ok().stdout.contains("last 2027-01-12T12:10:00Z"));
    });
}
