//! When a rollout will be done: from what was measured, or not at all.

use std::time::Duration;

use callboard_proto::admin::{Forecast, Rollout};
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
