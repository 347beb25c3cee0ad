//! The last place under a cap, wanted by 64 devices in the same moment, again and again: one gets it.
//!
//! `CALLBOARD_ROUNDS=1000 cargo test --workspace last_place` plays as many rounds on each database.

use std::sync::{
    Barrier, Mutex,
    atomic::{AtomicBool, Ordering},
};

use callboard_proto::{admin::Dealt, instruction::Action};
use callboard_tests::{
    device::{FakeDevice, Key, enrolment},
    release::NewRelease,
    server::{Engine, TestServer},
    wait,
    world::rollout,
};
use serde_json::json;

use crate::{BINARIES, on_both_with};

const MANY: usize = 64;
/// Nobody is to be sent away for asking often.
const SETTINGS: [&str; 1] = ["device_requests_per_minute = 1000000"];

fn rounds() -> usize {
    std::env::var("CALLBOARD_ROUNDS").map_or(20, |text| text.parse().expect("CALLBOARD_ROUNDS is a number"))
}

fn fleet(server: &TestServer) -> Vec<FakeDevice> {
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    let token = server.enrolment_token(&json!({ "max_uses": MANY }));
    let enrol = |n: usize| enrolment(&token, &Key::new()).named(&format!("till-{n}"));
    let tills = (0..MANY).map(|n| FakeDevice::enrol_with(server, &enrol(n)).runs("pos-app", "1.0.0")).collect();
    let caps = json!({ "caps": { "downloads": { "max_in_flight": 1 } } });
    server.roll_out(&rollout("r", "pos-app@2.0.0", &caps));
    tills
}

/// All devices ask at once; whoever has the place loses it to an operator, and all ask again. `home` is the server of a
/// device: the other one may believe for half a second that it still has the place.
fn play(devices: Vec<FakeDevice>, home: impl Fn(&str) -> callboard_tests::api::Api) {
    let (together, over) = (Barrier::new(MANY + 1), AtomicBool::new(false));
    let got: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for mut device in devices {
            let (together, over, got) = (&together, &over, &got);
            scope.spawn(move || {
                while !over.load(Ordering::Acquire) {
                    together.wait();
                    // A device that panics here would leave the others waiting.
                    let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| device.check_in().action));
                    match answer {
                        Ok(Action::Download) => got.lock().unwrap().push(device.name.to_string()),
                        Ok(_) => {}
                        Err(_) => got.lock().unwrap().push(format!("{} was not answered", device.name)),
                    }
                    together.wait();
                    together.wait();
                }
            });
        }
        let mut wrong = None;
        for round in 0..rounds() {
            together.wait();
            together.wait();
            let winners = std::mem::take(&mut *got.lock().unwrap());
            let alone = winners.len() == 1;
            if alone {
                let whom = json!({ "devices": winners, "reason": "the next round" });
                for verb in ["cancel", "retry"] {
                    let dealt: Dealt = home(&winners[0]).post(&format!("rollouts/r/devices/{verb}"), &whom);
                    wrong = wrong.or((dealt.total != 1).then(|| format!("round {round}: {dealt:?}")));
                }
            } else {
                wrong = Some(format!("round {round}: {winners:?} got the place"));
            }
            over.store(wrong.is_some() || round + 1 == rounds(), Ordering::Release);
            together.wait();
            if over.load(Ordering::Acquire) {
                break;
            }
        }
        assert_eq!(wrong, None);
    });
}

#[test]
fn sixty_four_check_ins_at_once_for_the_last_place_make_one_grant_every_time() {
    on_both_with(&SETTINGS, |server| {
        let devices = fleet(server);
        play(devices, |_| server.api());
    });
}

#[test]
fn sixty_four_check_ins_at_two_servers_for_the_last_place_make_one_grant_every_time() {
    let Some(first) = TestServer::start(BINARIES, Engine::Postgres, &SETTINGS) else {
        return eprintln!("skipped: needs postgres");
    };
    let second = first.second();
    let mut devices = fleet(&first);
    let mut elsewhere = Vec::new();
    for device in devices.iter_mut().step_by(2) {
        device.follow(&second);
        elsewhere.push(device.name.to_string());
    }
    wait::until("the other server has heard of the rollout", || {
        second.explain(&devices[0]).rollouts.iter().any(|one| one.reason.code == "offered")
    });
    play(devices, |name| if elsewhere.iter().any(|one| one == name) { second.api() } else { first.api() });
}
