//! The audit: what is in it, that it is one chain whichever server wrote it, and that nothing can be done to it unseen.

use std::{collections::BTreeSet, fs, time::Duration};

use callboard_proto::{
    admin::{AuditEntry, AuditHead, Event},
    problem::Code,
};
use callboard_tests::{
    device::{FakeDevice, Health, Key, enrolment, try_enrol},
    http::Request,
    release::NewRelease,
    server::{Engine, TestServer},
    wait,
    world::rollout,
};
use serde_json::{Value, json};

use crate::{BINARIES, on_both, on_both_with, refused};

fn audit(server: &TestServer) -> Vec<AuditEntry> {
    server.api().list("audit")
}

fn hold(server: &TestServer, name: &str, reason: &str) {
    server.api().try_put(&format!("devices/{name}/hold"), &json!({ "reason": reason })).ok();
}

fn import(server: &TestServer, name: &str) {
    server.api().try_post("devices/import", &json!({ "devices": [{ "name": name }] })).ok();
}

#[test]
fn a_change_says_who_from_where_and_what_it_was_before_and_after() {
    on_both(|server| {
        import(server, "till-1");
        server.api_of("ada").try_put("devices/till-1/hold", &json!({ "reason": "a test" })).ok();
        let all = audit(server);
        let last = all.last().unwrap();
        assert_eq!((last.kind.as_str(), last.who.as_str(), last.source.as_str()), ("device.held", "ada", "127.0.0.1"));
        let (before, after): (Value, Value) =
            (serde_json::from_str(&last.before).unwrap(), serde_json::from_str(&last.after).unwrap());
        assert_eq!((&before["name"], &before["hold"]), (&json!("till-1"), &Value::Null));
        assert_eq!(after["hold"]["reason"], "a test");
        assert!(!last.device.is_empty() && last.rollout.is_empty());
        assert!(all.iter().map(|entry| entry.link).eq(1..=all.len() as u64));
        // No secret of a token is in it.
        assert!(all.iter().all(|entry| !format!("{entry:?}").contains("cba_")));
        // A part of the fleet is not the audit.
        let grants = json!([{ "role": "viewer", "selector": "region = north" }]);
        let made: Value = server.api().post("api-tokens", &json!({ "name": "north", "grants": grants }));
        let token = made["token"].as_str().unwrap().to_owned();
        let north = callboard_tests::api::Api { token, ..server.api() };
        refused(&north.try_get("audit"), Code::Forbidden, "the audit is outside of");
    });
}

#[test]
#[expect(clippy::too_many_lines, reason = "one change of each sort")]
fn every_sort_of_change_is_in_it_and_nothing_that_devices_do() {
    on_both(|server| {
        let api = server.api();
        let reason = json!({ "reason": "a test" });
        let tell = |method: &str, path: &str, body: &Value| {
            api.send(Request::new(method, format!("/api/v1/{path}")).json(body)).ok();
        };
        let site = json!({ "sites": [{ "id": "A", "name": "A", "tz": "UTC", "labels": {} }] });
        tell("POST", "sites/import", &site);
        tell(
            "PUT",
            "sites/A/trading-hours",
            &json!({ "trading_hours": [{ "days": ["mon"], "opens": "09:00", "closes": "17:00" }] }),
        );
        tell("PUT", "sites/A/hold", &reason);
        tell("DELETE", "sites/A/hold", &json!({}));
        tell("POST", "sites/A/suspend", &reason);
        tell("POST", "sites/A/activate", &reason);
        let devices = json!({ "devices": [{ "name": "a", "site": "A" }, { "name": "b" }, { "name": "c" }] });
        tell("POST", "devices/import", &devices);
        tell("POST", "devices/labels", &json!({ "selector": "name = a", "set": { "k": "v" }, "remove": [] }));
        tell("PUT", "devices/a/hold", &reason);
        tell("DELETE", "devices/a/hold", &json!({}));
        tell("PUT", "devices/c/serial", &json!({ "serial": "1" }));
        tell("DELETE", "devices/c/serial", &json!({}));
        tell("PUT", "devices/c/reenrolment", &json!({ "until": server.clock.now() + Duration::from_secs(3600) }));
        tell("DELETE", "devices/c/reenrolment", &json!({}));
        tell("POST", "devices/c/decommission", &reason);
        let freeze = json!({ "name": "f", "reason": "a", "from": "2030-02-01", "to": "2030-02-01" });
        tell("POST", "freezes", &freeze);
        tell("DELETE", "freezes/f", &json!({}));
        let waits = |name: &str| {
            let token = server.enrolment_token(&json!({ "auto_approve": false }));
            try_enrol(server, &enrolment(&token, &Key::new()).named(name).body).problem(Code::EnrolmentPending);
            api.list::<Value>("enrolments")[0]["id"].as_str().unwrap().to_owned()
        };
        let (one, other) = (waits("one"), waits("other"));
        tell("POST", &format!("enrolments/{one}/accept"), &json!({}));
        tell("POST", &format!("enrolments/{other}/reject"), &json!({}));
        let token: Value = api.post("tokens", &json!({}));
        tell("DELETE", &format!("tokens/{}", token["id"].as_str().unwrap()), &json!({}));
        tell("POST", "api-tokens", &json!({ "name": "t" }));
        tell("DELETE", "api-tokens/t", &json!({}));
        let grants = json!([{ "role": "viewer" }]);
        tell("POST", "users", &json!({ "name": "eve", "password": "correct horse battery", "grants": grants }));
        tell("PUT", "users/eve/grants", &json!({ "grants": grants }));
        tell("PUT", "users/eve/password", &json!({}));
        tell("POST", "users/eve/totp", &json!({}));
        tell("DELETE", "users/eve/totp", &json!({}));
        tell("POST", "users/eve/disable", &json!({}));
        tell("POST", "users/eve/enable", &json!({}));
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let spec = rollout(
            "r",
            "pos-app@2.0.0",
            &json!({ "phases": [{ "name": "p", "percent": 50 }, { "name": "q", "percent": 100 }], "policy": "progressive", "selector": "name = a or name = b" }),
        );
        tell("POST", "rollouts", &spec);
        let mut other = spec.clone();
        other["priority"] = json!(7);
        tell("PATCH", "rollouts/r", &json!({ "spec": other, "reason": "a test" }));
        tell("POST", "rollouts/r/start", &reason);
        tell("POST", "rollouts/r/pause", &reason);
        tell("POST", "rollouts/r/resume", &reason);
        tell("POST", "rollouts/r/open-phase", &json!({ "phase": "q", "reason": "a test" }));
        let links = audit(server).len();
        let mut till = FakeDevice::enrol_imported(server, "a").runs("pos-app", "1.0.0");
        till.settle(Health::Good);
        // The token that it enrolled with is the only change among all that.
        assert_eq!(audit(server).len(), links + 1);
        tell("POST", "rollouts/r/devices/cancel", &json!({ "devices": ["b"], "reason": "a test" }));
        tell("POST", "rollouts/r/cancel", &reason);
        let all = audit(server);
        let kinds: BTreeSet<&str> = all.iter().map(|entry| entry.kind.as_str()).collect();
        let wanted = [
            "api_token.created",
            "api_token.revoked",
            "assignment.cancelled",
            "device.decommissioned",
            "device.held",
            "device.imported",
            "device.labels",
            "device.reenrolment",
            "device.serial",
            "device.unheld",
            "enrolment.accepted",
            "enrolment.rejected",
            "freeze.created",
            "freeze.deleted",
            "payload.stored",
            "release.published",
            "rollout.cancelled",
            "rollout.created",
            "rollout.edited",
            "rollout.paused",
            "rollout.phase_opened",
            "rollout.resumed",
            "rollout.started",
            "site.activated",
            "site.held",
            "site.imported",
            "site.suspended",
            "site.trading_hours",
            "site.unheld",
            "token.created",
            "token.revoked",
            "user.created",
            "user.disabled",
            "user.enabled",
            "user.grants",
            "user.password",
            "user.totp",
        ];
        assert_eq!(kinds, BTreeSet::from(wanted));
        assert!(all.iter().all(|entry| entry.who == "first admin" && entry.source == "127.0.0.1"));
        assert!(all.iter().all(|entry| !entry.before.is_empty() || !entry.after.is_empty()));
        server.cli(["audit", "verify"]).ok();
        // Whatever is in it is in the event log too.
        let events: Vec<Event> = api.list("events");
        assert!(events.len() > all.len());
    });
}

#[test]
fn what_is_done_to_an_export_or_to_the_database_shows() {
    on_both(|server| {
        for n in 0..6 {
            import(server, &format!("till-{n}"));
        }
        let head = server.cli(["audit", "head"]).ok().stdout.trim().to_owned();
        hold(server, "till-0", "later");
        let file = server.home().join("audit.jsonl");
        let path = file.to_str().unwrap();
        let said = server.cli(["audit", "export", "--out", path]);
        assert!(said.ok().stderr.contains("7 changes are written"), "{}", said.stderr);
        let whole = fs::read_to_string(&file).unwrap();
        // Offline: there is no server in this environment.
        let verify = |text: &str, pins: &[&str]| {
            fs::write(&file, text).unwrap();
            let mut command = server.command();
            command.env_clear().args(["audit", "verify", path]);
            for pin in pins {
                command.args(["--pin", pin]);
            }
            let done = command.output().unwrap();
            (done.status.code(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
        };
        let (code, said) = verify(&whole, &[&head]);
        assert!(code == Some(0) && said.contains("the chain is whole: 7 changes"), "{said}");
        let lines: Vec<&str> = whole.lines().collect();
        let without = |n: usize| [&lines[..n], &lines[n + 1..]].concat().join("\n");
        for (text, pins, wanted) in [
            (whole.replacen("till-3", "till-X", 1), vec![], "link 4 does not follow from the one before"),
            (without(3), vec![], "link 3 should come next, but 4 does"),
            (
                lines[..5].join("\n"),
                vec![head.as_str()],
                "link 6 was written down and is not here: the end was cut off",
            ),
            (
                whole.clone(),
                vec!["3:0000000000000000000000000000000000000000000000000000000000000000"],
                "link 3 has another hash",
            ),
        ] {
            let (code, said) = verify(&text, &pins);
            assert!(code == Some(1) && said.contains(wanted), "{said}");
        }
        let (code, said) = verify("{}\n", &[]);
        assert!(code == Some(2) && said.contains("line 1 is not a line of an export"), "{said}");
        let (code, said) = verify(&whole, &["nonsense"]);
        assert!(code == Some(2) && said.contains("LINK:HASH"), "{said}");

        server.cli(["audit", "verify", "--pin", &head]).ok();
        server.run_sql("UPDATE events SET who = 'eve' WHERE link = 2");
        let said = server.cli(["audit", "verify"]);
        assert!(said.refused(1).contains("link 2 does not follow"), "{}", said.stderr);
    });
}

#[test]
fn old_links_are_dropped_from_the_beginning_and_the_rest_is_followed_from_there() {
    on_both_with(&["event_retention_days = 2"], |server| {
        import(server, "till-1");
        let first = server.cli(["audit", "head"]).ok().stdout.trim().to_owned();
        server.advance(Duration::from_secs(2 * 86_400));
        hold(server, "till-1", "second");
        server.advance(Duration::from_millis(1));
        server.stop();
        server.serve();
        wait::until("what is too old is gone", || audit(server)[0].link == 2);
        let head: AuditHead = server.api().get("audit/head");
        assert_eq!((head.start.link, head.head.link), (1, 3));
        assert_eq!(format!("{}:{}", head.start.link, head.start.hash), first);
        hold(server, "till-1", "third");
        let links = audit(server);
        assert_eq!(links.iter().map(|entry| entry.link).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!((links[1].who.as_str(), links[1].kind.as_str()), ("the server", "audit.dropped"));
        let pin = format!("2:{}", links[0].hash);
        let said = server.cli(["audit", "verify", "--pin", &pin]);
        let wanted = "; links 1 to 1 were dropped because of their age, as link 3 says";
        assert!(said.ok().stderr.contains(wanted), "{}", said.stderr);
        let said = server.cli(["audit", "verify", "--pin", &first]);
        assert!(said.refused(1).contains("link 1 was written down, and links 1 to 1 are missing"), "{}", said.stderr);
        // Cut off at the beginning by somebody else; and all of it.
        let cut = |to: u64, hash: &str| {
            server.run_sql(&format!("DELETE FROM events WHERE link <= {to}"));
            let blob = if server.engine == Engine::Sqlite { format!("x'{hash}'") } else { format!("'\\x{hash}'") };
            server.run_sql(&format!("UPDATE audit_start SET link = {to}, hash = {blob}"));
        };
        cut(2, &links[0].hash.to_string());
        let said = server.cli(["audit", "verify"]);
        let wanted = "links 1 to 2 are missing, and no link says that they were dropped because of their age";
        assert!(said.refused(1).contains(wanted), "{}", said.stderr);
        let last = links[2].hash.to_string();
        cut(4, &last);
        let said = server.cli(["audit", "verify", "--pin", &format!("4:{last}")]);
        assert!(said.refused(1).contains("link 4 was written down, and links 1 to 4 are missing"), "{}", said.stderr);
    });
}

#[test]
fn servers_on_one_database_write_one_chain() {
    let Some(server) = TestServer::start(BINARIES, Engine::Postgres, &[]) else {
        return eprintln!("skipped: needs postgres");
    };
    let second = server.second();
    std::thread::scope(|scope| {
        for (which, api) in [server.api(), second.api()].into_iter().enumerate() {
            for thread in 0..3 {
                let api = api.clone();
                scope.spawn(move || {
                    for n in 0..10 {
                        let device = json!({ "name": format!("till-{which}-{thread}-{n}") });
                        api.try_post("devices/import", &json!({ "devices": [device] })).ok();
                    }
                });
            }
        }
    });
    let all = audit(&server);
    assert_eq!(all.len(), 60);
    assert!(all.iter().map(|entry| entry.link).eq(1..=60));
    second.cli(["audit", "verify"]).ok();
}
