//! Many devices at once: every one gets exactly what it would get alone.

use std::{collections::BTreeMap, sync::Barrier};

use callboard_proto::{admin::Assignment, instruction::Action, state::AssignmentState};
use callboard_tests::{
    device::{FakeDevice, Health, Key, enrolment, with_certificate},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::json;

use crate::on_both;

const MANY: usize = 64;

fn fleet(server: &TestServer) -> Vec<FakeDevice> {
    let token = server.enrolment_token(&json!({ "max_uses": MANY }));
    let enrol = |n: usize| enrolment(&token, &Key::new()).named(&format!("till-{n}"));
    (0..MANY).map(|n| FakeDevice::enrol_with(server, &enrol(n)).runs("pos-app", "1.0.0")).collect()
}

fn assignments(server: &TestServer) -> Vec<Assignment> {
    server.api().list("rollouts/r/assignments?limit=10")
}

#[test]
fn sixty_four_check_ins_at_once_make_one_assignment_each() {
    on_both(|server| {
        let mut devices = fleet(server);
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
        let together = Barrier::new(MANY);
        std::thread::scope(|scope| {
            for device in &mut devices {
                scope.spawn(|| {
                    together.wait();
                    assert_eq!(device.check_in().action, Action::Download);
                });
            }
        });
        let mut by_device: BTreeMap<String, usize> = BTreeMap::new();
        for one in assignments(server) {
            assert_eq!((one.state, one.attempt), (AssignmentState::Downloading, 1));
            *by_device.entry(one.device.to_string()).or_default() += 1;
        }
        assert_eq!((by_device.len(), by_device.values().max()), (MANY, Some(&1)));
        let counts = server.rollout("r").phases[0].counts;
        assert_eq!((counts.size as usize, counts.downloading as usize, counts.unreached), (MANY, MANY, 0));
    });
}

#[test]
fn one_device_that_checks_in_many_times_at_once_gets_one_assignment() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
        let mut device = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
        let bodies: Vec<_> = (0..8).map(|_| device.next_check_in()).collect();
        let together = Barrier::new(bodies.len());
        let ids: Vec<_> = std::thread::scope(|scope| {
            let asking: Vec<_> = bodies
                .iter()
                .map(|body| {
                    let (device, together) = (&device, &together);
                    let mut wire = with_certificate(server, &device.key, &device.certificate_pem);
                    scope.spawn(move || {
                        let bytes = serde_json::to_vec(body).unwrap();
                        let request = callboard_tests::http::Request::post(callboard_proto::paths::CHECK_IN);
                        together.wait();
                        let answer = wire.send(&request.body("application/json", bytes.clone()));
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        device.verify(body, &bytes, &answer.body).assignment_id.unwrap()
                    })
                })
                .collect();
            asking.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(assignments(server).len(), 1);
        assert_eq!(server.rollout("r").phases[0].counts.downloading, 1);
    });
}

#[test]
fn whole_updates_at_once_are_counted_right() {
    on_both(|server| {
        let mut devices = fleet(server);
        devices.truncate(24);
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let more = json!({ "audience": "frozen", "selector": "all" });
        let started = server.roll_out(&rollout("r", "pos-app@2.0.0", &more));
        assert_eq!(started.phases[0].counts.size as usize, MANY);
        std::thread::scope(|scope| {
            for (n, device) in devices.iter_mut().enumerate() {
                let health = if n % 4 == 0 { Health::Bad } else { Health::Good };
                scope.spawn(move || device.settle(health));
            }
        });
        let counts = server.rollout("r").phases[0].counts;
        assert_eq!((counts.succeeded, counts.rolled_back, counts.unreached), (18, 6, 40));
        let mut recount: BTreeMap<AssignmentState, u32> = BTreeMap::new();
        assignments(server).into_iter().for_each(|one| *recount.entry(one.state).or_default() += 1);
        assert_eq!(recount, [(AssignmentState::Succeeded, 18), (AssignmentState::RolledBack, 6)].into());
    });
}

#[test]
fn a_progressive_phase_is_never_overshot_by_a_burst() {
    on_both(|server| {
        let mut devices = fleet(server);
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let phases = json!([{ "name": "few", "percent": 5 }, { "name": "all", "percent": 100 }]);
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "policy": "progressive", "phases": phases })));
        let together = Barrier::new(MANY);
        std::thread::scope(|scope| {
            for device in &mut devices {
                scope.spawn(|| {
                    together.wait();
                    device.check_in();
                });
            }
        });
        // 5 % of 64 are 3.2, rounded up.
        assert_eq!(assignments(server).len(), 4);
    });
}
