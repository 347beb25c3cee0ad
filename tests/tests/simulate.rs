//! `rollout simulate`: the registry is played through the days ahead, and nothing of it changes.

use std::io::Write as _;

use callboard_proto::{
    admin::{Device, Event, Preview, RolloutState, SimulatedEvent, Simulation},
    problem::Code,
};
use callboard_tests::{
    device::{FakeDevice, Health},
    http::Plain,
    release::NewRelease,
    server::TestServer,
    wait::until,
    world::rollout,
};
use serde_json::{Value, json};

use crate::{on_both, refused};

/// Ten tills that are there, and one that was only imported.
fn fleet(server: &TestServer) -> Vec<FakeDevice> {
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    let enrol = |n: i32| FakeDevice::enrol(server, &format!("till-{n}")).runs("pos-app", "1.0.0");
    let mut devices: Vec<FakeDevice> = (0..10).map(enrol).collect();
    devices.iter_mut().for_each(|device| drop(device.check_in()));
    server.api().post::<Value>("devices/import", &json!({ "devices": [{ "name": "till-new" }] }));
    // Whoever is drawn for the first phase, it is not the one that never comes.
    let canaries = json!({ "selector": "name in (till-0, till-1)", "set": { "canary": "true" } });
    server.api().post::<Value>("devices/labels", &canaries);
    devices
}

fn careful() -> Value {
    let phases = json!([{ "name": "canary", "percent": 10, "soak_min": 60 }, { "name": "all", "percent": 100 }]);
    rollout("r", "pos-app@2.0.0", &json!({ "policy": "progressive", "audience": "frozen", "phases": phases }))
}

fn simulate(server: &TestServer, assume: &Value) -> Simulation {
    server.api().post("rollouts/simulate", &json!({ "rollout": careful(), "assume": assume }))
}

#[test]
fn a_rollout_is_played_through_and_nothing_is_changed() {
    on_both(|server| {
        fleet(server);
        let before: (Vec<Device>, Vec<Event>) = (server.api().list("devices"), server.api().list("events"));
        let seen = simulate(server, &json!({ "seed": 7 }));
        assert_eq!((seen.devices, seen.gone, seen.assume.days), (11, 1, 14));
        let marks: Vec<(SimulatedEvent, Option<&str>)> =
            seen.marks.iter().map(|mark| (mark.what, mark.phase.as_deref())).collect();
        assert_eq!(
            marks,
            [
                (SimulatedEvent::Started, None),
                (SimulatedEvent::GateMet, Some("canary")),
                (SimulatedEvent::PhaseOpened, Some("all")),
            ]
        );
        let soak = seen.marks[2].at.since(seen.marks[1].at);
        assert_eq!(soak.as_secs(), 3600, "the soak is kept");
        // The one that never came is waited for.
        assert_eq!(seen.state, RolloutState::Running);
        let [canary, all] = [&seen.phases[0].counts, &seen.phases[1].counts];
        assert_eq!((canary.size + all.size, canary.succeeded + all.succeeded), (11, 10));
        assert_eq!(canary.unreached + all.unreached, 1);
        assert_eq!(seen.hours.iter().map(|hour| hour.offers).sum::<u32>(), 10);
        assert_eq!(seen.hours.last().unwrap().counts.succeeded, 10);
        assert_eq!(simulate(server, &json!({ "seed": 7 })), seen, "the same seed gives the same course");
        let after: (Vec<Device>, Vec<Event>) = (server.api().list("devices"), server.api().list("events"));
        assert_eq!(before, after);
        assert_eq!(server.api().try_get("rollouts/r").status, 404);
    });
}

#[test]
fn what_fails_in_it_pauses_it() {
    on_both(|server| {
        fleet(server);
        let seen = simulate(server, &json!({ "failure_percent": 100, "days": 1 }));
        assert_eq!(seen.state, RolloutState::Paused);
        let last = seen.marks.last().unwrap();
        assert_eq!(last.what, SimulatedEvent::Paused);
        assert!(last.text.contains("1 of 2 failed"), "{}", last.text);
        assert_eq!(seen.phases[0].counts.succeeded, 0);
    });
}

#[test]
fn what_is_under_way_goes_on_in_it() {
    on_both(|server| {
        let mut devices = fleet(server);
        // Another rollout of the same product comes first on two of them, and one is in the middle of it.
        NewRelease::new("pos-app", "3.0.0", 2).publish(server);
        let first = json!({ "selector": "name in (till-0, till-1)", "priority": 900, "audience": "frozen" });
        server.roll_out(&rollout("first", "pos-app@3.0.0", &first));
        devices[0].check_in();
        let bad = rollout("bad", "pos-app@2.0.0", &json!({ "selector": "name = till-2", "audience": "frozen" }));
        server.roll_out(&bad);
        devices[2].settle(Health::Bad);
        let spec = rollout("r", "pos-app@2.0.0", &json!({ "audience": "frozen" }));
        let preview: Preview = server.preview(&spec);
        let seen: Simulation = server.api().post("rollouts/simulate", &json!({ "rollout": spec }));
        assert_eq!((preview.devices, preview.phases[0].size), (11, 10));
        let why: Vec<&str> = preview.incompatible_devices.iter().map(|one| one.device.as_str()).collect();
        assert_eq!(why, ["till-2"], "it rolled back there");
        // Whoever gets 3.0.0 first cannot have 2.0.0 any more, and the one that is new never comes.
        let counts = &seen.phases[0].counts;
        assert_eq!((counts.size, counts.succeeded, counts.unreached), (8, 7, 1));
    });
}

#[test]
fn what_cannot_be_simulated_is_explained() {
    on_both(|server| {
        fleet(server);
        let ask = |rollout: &Value, assume: Value| {
            server.api().try_post("rollouts/simulate", &json!({ "rollout": rollout, "assume": assume }))
        };
        for (assume, said) in [
            (json!({ "days": 0 }), "assume.days is 0; 1 to 60 are allowed"),
            (json!({ "days": 61 }), "assume.days is 61; 1 to 60 are allowed"),
            (json!({ "failure_percent": 100.5 }), "assume.failure_percent is 100.5; 0 to 100 are allowed"),
            (json!({ "offline_percent": -1 }), "assume.offline_percent is -1; 0 to 100 are allowed"),
            (json!({ "download_s": 0 }), "assume.download_s is 0; 1 to 86400 seconds are allowed"),
            (json!({ "install_s": 100_000 }), "assume.install_s is 100000; 1 to 86400 seconds are allowed"),
        ] {
            refused(&ask(&careful(), assume), Code::Invalid, said);
        }
        let all = ask(&careful(), json!({ "days": 0, "offline_percent": 101 }));
        refused(&all, Code::Invalid, "assume.days is 0; 1 to 60 are allowed; assume.offline_percent is 101");
        let nobody = rollout("r", "pos-app@2.0.0", &json!({ "audience": "frozen", "selector": "site = X" }));
        refused(&ask(&nobody, json!({})), Code::Invalid, "matches no device");
        let unknown = rollout("r", "pos-app@9.9.9", &json!({}));
        refused(&ask(&unknown, json!({})), Code::NotFound, "pos-app@9.9.9");
        let ended = rollout("r", "pos-app@2.0.0", &json!({ "ends_at": "2020-01-01T00:00:00Z" }));
        refused(&ask(&ended, json!({})), Code::Invalid, "which is past");
        let selector = rollout("r", "pos-app@2.0.0", &json!({ "selector": "region =" }));
        refused(&ask(&selector, json!({})), Code::BadSelector, "column 9");
    });
}

/// A simulation in which thousands of devices ask every five minutes for a day and longer, and which goes on for much
/// longer than it takes to look at the log.
fn long(server: &TestServer) -> Value {
    NewRelease::new("pos-app", "2.0.0", 1).publish(server);
    let devices: Vec<Value> = (0..5000).map(|n| json!({ "name": format!("till-{n}") })).collect();
    server.api().post::<Value>("devices/import", &json!({ "devices": devices }));
    server.run_sql(&format!("UPDATE devices SET last_seen = {}", server.clock.now().millis()));
    let window = json!({ "tz": "UTC", "start": "00:00", "duration_min": 1380, "gates": ["download", "install"] });
    let spec = rollout("r", "pos-app@2.0.0", &json!({ "audience": "frozen", "windows": [window] }));
    json!({ "rollout": spec, "assume": { "days": 60, "download_s": 86_400, "failure_percent": 100 } })
}

#[test]
fn a_simulation_ends_when_its_client_hangs_up() {
    on_both(|server| {
        let (long, api) = (long(server).to_string(), server.api());
        let mut client = Plain::connect(api.address).unwrap();
        write!(
            client,
            "POST /api/v1/rollouts/simulate HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{long}",
            api.token,
            long.len()
        )
        .unwrap();
        until("the simulation begins", || server.log().contains("simulating"));
        refused(&api.try_post("rollouts/simulate", &json!({ "rollout": careful() })), Code::Unavailable, "another");
        drop(client);
        until("it is given up", || server.log().contains("a simulation was given up"));
        until("its place is free", || {
            let answer = api.try_post("rollouts/simulate", &json!({ "rollout": careful(), "assume": { "days": 1 } }));
            answer.status != 503
        });
    });
}

#[test]
fn a_server_that_is_stopped_does_not_wait_for_a_simulation() {
    on_both(|server| {
        let (long, api) = (long(server), server.api());
        let answer = std::thread::scope(|scope| {
            let asked = scope.spawn(|| api.try_post("rollouts/simulate", &long));
            until("the simulation begins", || server.log().contains("simulating"));
            server.tell_to_stop();
            asked.join().unwrap()
        });
        refused(&answer, Code::Unavailable, "the server is stopping");
        server.wait_stopped();
        assert!(server.log().contains("a simulation was given up"), "{}", server.log());
    });
}

#[test]
fn the_command_prints_a_timeline_and_draws_it() {
    on_both(|server| {
        fleet(server);
        let file = server.home().join("rollout.json");
        std::fs::write(&file, careful().to_string()).unwrap();
        let (file, svg) = (file.to_str().unwrap(), server.home().join("course.svg"));
        let simulate = ["rollout", "simulate", "-f", file];
        let more = ["--days", "3", "--failure-rate", "0%", "--offline", "20%", "--seed", "3", "--svg"];
        let drawn = server.cli(simulate.iter().chain(&more).chain([&svg.to_str().unwrap()]));
        let shown = drawn.ok().stdout.clone();
        for said in ["phase_opened", "canary", "CHECK-INS/MIN", "result"] {
            assert!(shown.contains(said), "{shown}");
        }
        let picture = std::fs::read_to_string(&svg).unwrap();
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"), "{picture}");
        for said in ["all opens", "canary 2 of 2", "check-ins a minute", "offers in the busiest minute"] {
            assert!(picture.contains(said), "{said} is missing in {picture}");
        }
        let seen: Simulation = server.cli(["--output", "json"].iter().chain(&simulate).chain(&more[..8])).json();
        assert_eq!((seen.assume.days, seen.assume.offline_percent), (3, 20.0));
        let flags = ["rollout", "simulate", "--release", "pos-app@2.0.0", "--policy", "immediate"];
        server.cli(flags).ok();
        for (args, said) in [
            (&["--failure-rate", "two"][..], "such as 2% or 0.5%"),
            (&["--offline", "101%"], "0% to 100% are wanted"),
            (&["--days", "soon"], "invalid digit"),
            (&["--days", "0"], "assume.days is 0; 1 to 60 are allowed"),
            (&["--download", "fast"], "is not a duration"),
            (&["--svg", "/nowhere/course.svg"], "failed to write the picture /nowhere/course.svg"),
        ] {
            let code = if args[0] == "--svg" { 1 } else { 2 };
            let told = server.cli(simulate.iter().chain(args));
            assert!(told.refused(code).contains(said), "{args:?}: {}", told.stderr);
        }
        let nothing = server.cli(["rollout", "simulate"]);
        assert!(nothing.refused(2).contains("describe a rollout with --file or --release"), "{}", nothing.stderr);
    });
}
