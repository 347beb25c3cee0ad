//! Pace: never more offers in a minute than a rollout allows, however many ask.

use std::sync::Barrier;

use callboard_proto::{instruction::Action, problem::Code};
use callboard_tests::{
    clock::time,
    device::{FakeDevice, Health, Key, enrolment},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::{Value, json};

use crate::{on_both, on_both_with, refused};

fn fleet(server: &TestServer, many: usize) -> Vec<FakeDevice> {
    server.set_clock(time("2027-01-12T02:14:30Z"));
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    let token = server.enrolment_token(&json!({ "max_uses": many }));
    let enrol = |n: usize| enrolment(&token, &Key::new()).named(&format!("till-{n}"));
    (0..many).map(|n| FakeDevice::enrol_with(server, &enrol(n)).runs("pos-app", "1.0.0")).collect()
}

fn paced(pace: &Value) -> Value {
    rollout("r", "pos-app@2.0.0", &json!({ "pace": pace }))
}

/// How many of them are told to download when all ask at once.
fn burst(tills: &mut [FakeDevice]) -> usize {
    let together = Barrier::new(tills.len());
    std::thread::scope(|scope| {
        let asking: Vec<_> = tills
            .iter_mut()
            .map(|till| {
                scope.spawn(|| {
                    together.wait();
                    till.check_in().action == Action::Download
                })
            })
            .collect();
        asking.into_iter().map(|one| usize::from(one.join().unwrap())).sum()
    })
}

#[test]
fn a_burst_gets_as_many_offers_as_the_minute_has() {
    on_both(|server| {
        let mut tills = fleet(server, 24);
        server.roll_out(&paced(&json!({ "max_offers_per_minute": 5 })));
        for minute in 15..18 {
            // Those that were told before go on.
            assert_eq!(burst(&mut tills), 5 * (minute - 14), "minute {minute}");
            assert_eq!(burst(&mut tills), 5 * (minute - 14), "minute {minute}, once more");
            server.set_clock(time(&format!("2027-01-12T02:{minute}:00Z")));
        }
        assert_eq!(server.rollout("r").phases[0].counts.downloading, 15);
    });
}

#[test]
fn whoever_waits_is_told_until_when_and_does_not_come_back_with_all_the_others() {
    // Long enough that nobody is told to come as always.
    on_both_with(&["poll_interval_s = 86400"], |server| {
        let mut tills = fleet(server, 12);
        server.roll_out(&paced(&json!({ "max_offers_per_minute": 1, "doubles_every": 2 })));
        assert_eq!(tills[0].check_in().action, Action::Download);
        let told: Vec<_> = tills[1..].iter_mut().map(FakeDevice::check_in).collect();
        assert!(told.iter().all(|one| one.action == Action::None && one.reason.code == "paced"));
        insta::assert_snapshot!(told[0].reason.text, @"rollout r: it makes 1 offer a minute, and the next minute begins at 2027-01-12T02:15:00Z; twice as many after 2 more successes");
        assert_eq!(server.explain(&tills[1]).next, told[0].reason);
        let mut waits: Vec<u32> = told.iter().map(|one| one.next_checkin_s).collect();
        assert!(waits.iter().all(|wait| (30..=1200).contains(wait)), "{waits:?}");
        waits.sort_unstable();
        waits.dedup();
        assert!(waits.len() >= 3, "{waits:?}");
    });
}

#[test]
fn it_grows_with_successes_and_not_with_failures() {
    on_both(|server| {
        let mut tills = fleet(server, 6);
        server.roll_out(&paced(&json!({ "max_offers_per_minute": 1, "doubles_every": 1 })));
        tills[0].settle(Health::Bad);
        assert_eq!(tills[1].check_in().reason.code, "paced");
        server.set_clock(time("2027-01-12T02:15:00Z"));
        tills[1].settle(Health::Good);
        assert_eq!(tills[2].check_in().action, Action::Download, "two in this minute, after one success");
        let waits = tills[3].check_in();
        insta::assert_snapshot!(waits.reason.text, @"rollout r: it makes 2 offers a minute, and the next minute begins at 2027-01-12T02:16:00Z; twice as many after 1 more success");
    });
}

#[test]
fn a_pace_that_lets_nobody_through_is_refused() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let none = server.api().try_post("rollouts", &paced(&json!({ "max_offers_per_minute": 0 })));
        refused(&none, Code::Invalid, "pace.max_offers_per_minute: is 0, which lets no device through");
        let file = server.home().join("r.toml");
        let text = "name = \"r\"\nrelease = \"pos-app@2.0.0\"\npolicy = \"immediate\"\n[pace]\ndoubles_every = 3\n";
        std::fs::write(&file, text).unwrap();
        let said = server.cli(["rollout", "create", "-f", file.to_str().unwrap()]);
        assert!(said.refused(2).contains("missing field `max_offers_per_minute`"), "{}", said.stderr);
    });
}
