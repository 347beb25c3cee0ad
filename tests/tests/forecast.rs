//! When a rollout will be done: from what was measured, or not at all.

use std::time::Duration;

use callboard_proto::{
    admin::{Forecast, Rollout},
    instruction::Action,
};
use callboard_tests::{
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::json;

use crate::on_both;

fn forecast(server: &TestServer) -> Forecast {
    server.api().get("rollouts/r/forecast")
}

#[test]
fn a_forecast_is_a_range_with_its_basis_once_there_is_enough_to_go_by() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let mut tills: Vec<FakeDevice> =
            (0..9).map(|n| FakeDevice::enrol(server, &format!("till-{n}")).runs("pos-app", "1.0.0")).collect();
        let more = json!({ "audience": "frozen" });
        let rollout = rollout("r", "pos-app@2.0.0", &more);
        server.api().post::<Rollout>("rollouts", &rollout);
        let draft = forecast(server);
        assert_eq!((draft.from, draft.basis.as_str()), (None, "the rollout is draft"));

        server.tell_rollout("r", "start");
        let nothing = forecast(server);
        assert_eq!((nothing.left, nothing.unreached, nothing.from, nothing.to), (9, 9, None, None));
        assert_eq!(nothing.basis, "0 devices were done with it in the last 7 days; 5 are needed to go by");
        let said = server.cli(["rollout", "status", "r"]).ok().stdout.clone();
        assert!(said.contains("not enough data"), "{said}");

        for till in &mut tills[..6] {
            till.settle(Health::Good);
            server.advance(Duration::from_secs(600));
        }
        tills[6].obey(Health::Good);
        let six = forecast(server);
        let now = server.clock.now();
        assert_eq!((six.left, six.unreached), (3, 2));
        let (from, to) = (six.from.unwrap(), six.to.unwrap());
        assert!(now < from && from < to, "{six:?}");
        let expected =
            "6 devices were done in 1.0 h in which it could work, 6.0 an hour; 3 are left, 3 of which were looked at";
        assert_eq!(six.basis, expected);
        // Three at six an hour are half an hour; chance alone does two fifths of six.
        assert_eq!(from.since(now).as_secs() / 60, 21);
        assert_eq!(to.since(now).as_secs() / 60, 50);
        let said = server.cli(["rollout", "forecast", "r"]).ok().stdout.clone();
        assert!(said.contains(&format!("between {from} and {to}")), "{said}");
        assert!(said.contains("3 devices, 2 of them unreached"), "{said}");

        server.tell_rollout("r", "pause");
        let paused = forecast(server);
        assert_eq!((paused.left, paused.from, paused.basis.as_str()), (3, None, "the rollout is paused"));
    });
}

/// Six of a fleet have the release, ten minutes apart.
fn six_of<const N: usize>(server: &TestServer, more: &serde_json::Value, wait: Duration) -> [FakeDevice; N] {
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    let mut tills: [FakeDevice; N] =
        std::array::from_fn(|n| FakeDevice::enrol(server, &format!("till-{n}")).runs("pos-app", "1.0.0"));
    server.roll_out(&rollout("r", "pos-app@2.0.0", more));
    server.advance(wait);
    let mut done = 0;
    for till in &mut tills {
        if done < 6 && till.check_in().action == Action::Download {
            till.settle(Health::Good);
            server.advance(Duration::from_secs(600));
            done += 1;
        } else {
            // The forecast looks at when devices are there.
            till.check_in();
        }
    }
    assert_eq!(done, 6);
    tills
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn nobody_of_a_later_phase_is_forecast_before_the_soak_is_over_and_somebody_has_approved() {
    on_both(|server| {
        let canary = json!({ "name": "canary", "percent": 50, "soak_min": 1440 });
        let phases = json!([canary, { "name": "all", "percent": 100 }]);
        let more = json!({ "policy": "progressive", "phases": phases });
        drop(six_of::<12>(server, &more, Duration::ZERO));
        let (said, now) = (forecast(server), server.clock.now());
        assert_eq!(said.left, 6);
        // The gate has been met since the fifth success of six.
        let (from, to) = (said.from.unwrap(), said.to.unwrap());
        assert!(from.since(now) > HOUR * 23 && from.since(now) < HOUR * 24 && from < to, "{said:?}");
        assert!(said.basis.contains("; phases are still to soak for 23."), "{}", said.basis);
        assert!(!said.basis.contains("approve"), "nobody is left behind the last phase: {}", said.basis);
    });
    on_both(|server| {
        let phases =
            json!([{ "name": "canary", "percent": 50, "approval": "manual" }, { "name": "all", "percent": 100 }]);
        let more = json!({ "policy": "progressive", "phases": phases });
        drop(six_of::<12>(server, &more, Duration::ZERO));
        let said = forecast(server);
        assert!(said.from.is_some() && said.to.is_none(), "{said:?}");
        assert!(said.basis.ends_with("; somebody has to approve phase canary"), "{}", said.basis);
        server.tell_rollout("r", "approve");
        assert!(forecast(server).to.is_some(), "{:?}", forecast(server));
    });
}

#[test]
fn after_the_deadline_windows_hold_nothing_back_in_a_forecast_either() {
    on_both(|server| {
        let window = json!({ "tz": "UTC", "start": "02:00", "duration_min": 30 });
        let deadline = server.clock.now() + HOUR;
        let more = json!({ "windows": [window], "deadline": deadline });
        drop(six_of::<9>(server, &more, HOUR * 2));
        let (said, now) = (forecast(server), server.clock.now());
        let to = said.to.unwrap_or_else(|| panic!("{said:?}"));
        assert!(to.since(now) < HOUR * 2, "{said:?}");
    });
}

#[test]
fn a_preview_knows_that_windows_do_not_count_from_the_deadline_on() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0").check_in();
        let now = server.clock.now();
        let window = json!({ "tz": "UTC", "start": "02:00", "duration_min": 30 });
        let more = |deadline| json!({ "windows": [window], "deadline": deadline });
        let first = |more| server.preview(&rollout("r", "pos-app@2.0.0", &more)).zones[0].first_opens_at.unwrap();
        assert_eq!(first(more(now + HOUR)), now + HOUR);
        assert!(first(more(now + HOUR * 48)) < now + HOUR * 24);
    });
}
