//! Who joins a rollout late, or turns out to need nothing, costs the same in a fleet of any size: a row, and no change of
//! what all devices share.

use callboard_proto::{admin::Rollout, instruction::Action};
use callboard_tests::{
    device::FakeDevice,
    release::NewRelease,
    server::{Engine, TestServer},
    wait,
    world::rollout,
};
use serde_json::{Value, json};

use crate::{BINARIES, on_both};

/// Rollouts beside the one that is looked at: whoever read the catalog anew would read all of them.
const OTHERS: usize = 12;

fn generation(server: &TestServer) -> Option<i64> {
    server.sql_number("SELECT value AS number FROM counters WHERE name = 'generation'")
}

/// Bytes of all sets.
fn sets(server: &TestServer) -> Option<i64> {
    let bytes =
        |table| server.sql_number(&format!("SELECT CAST(SUM(LENGTH(members)) AS BIGINT) AS number FROM {table}"));
    Some(bytes("phases")? + bytes("exclusions").unwrap_or(0))
}

/// Statements that were run for what `f` asks.
fn statements(server: &TestServer, f: impl FnOnce()) -> i64 {
    let count = || server.api().metric("callboard_database_statements_total", "purpose=\"requests\"") as i64;
    let before = count();
    f();
    count() - before
}

fn label(server: &TestServer, name: &str) {
    let edit = json!({ "selector": format!("name = {name}"), "set": { "lane": "4" } });
    server.api().post::<Value>("devices/labels", &edit);
}

fn many_others(server: &TestServer) {
    for n in 0..OTHERS {
        server.roll_out(&rollout(&format!("other-{n}"), "pos-app@2.0.0", &json!({ "selector": "name = nobody" })));
    }
}

#[test]
fn a_late_joiner_costs_the_same_beside_many_rollouts_and_leaves_sets_and_catalog_alone() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let mut tills: Vec<FakeDevice> = (0..3).map(|n| FakeDevice::enrol(server, &format!("till-{n}"))).collect();
        tills.iter_mut().for_each(|till| drop(till.check_in()));
        label(server, "till-0");
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "selector": "lane = 4" })));
        let size = || server.rollout("r").phases[0].counts.size;
        let mut join = |n: usize| {
            label(server, &format!("till-{n}"));
            let before = (generation(server), sets(server));
            let ran = statements(server, || assert_eq!(tills[n].check_in().action, Action::Download));
            assert_eq!((generation(server), sets(server)), before);
            ran
        };
        assert_eq!(size(), 1);
        let alone = join(1);
        assert_eq!(size(), 2);
        many_others(server);
        assert_eq!(join(2), alone);
        assert_eq!(size(), 3);
    });
}

#[test]
fn an_exclusion_and_a_return_cost_the_same_beside_many_rollouts_and_leave_sets_and_catalog_alone() {
    on_both(|server| {
        let digest = NewRelease::new("pos-app", "2.0.0", 1).publish(server).sha256;
        let mut tills: Vec<FakeDevice> = (0..3).map(|n| FakeDevice::enrol(server, &format!("till-{n}"))).collect();
        tills.iter_mut().for_each(|till| drop(till.check_in()));
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "policy": "on_connect" })));
        let excluded = || server.rollout("r").phases[0].counts.excluded;
        let mut exclude = |n: usize| {
            let till = &mut tills[n];
            let release = till.fetch_release(digest);
            till.install(&release);
            let before = (generation(server), sets(server));
            let out = statements(server, || assert_eq!(till.check_in().reason.code, "already_installed"));
            assert_eq!((generation(server), sets(server), excluded()), (before.0, before.1, 1));
            till.facts.installed.clear();
            till.boot_id = format!("boot-{n}-2");
            let back = statements(server, || assert_eq!(till.check_in().action, Action::Download));
            assert_eq!((generation(server), sets(server), excluded()), (before.0, before.1, 0));
            (out, back)
        };
        // The first one makes the counter of its kind.
        exclude(0);
        let alone = exclude(1);
        many_others(server);
        let beside = exclude(2);
        // A server that shares its database may have to read the device anew in between; each of the others would cost more.
        let near = |a: i64, b: i64| if server.engine == Engine::Sqlite { a == b } else { (a - b).abs() < 6 };
        assert!(near(beside.0, alone.0) && near(beside.1, alone.1), "{beside:?} and {alone:?}");
    });
}

#[test]
fn a_device_that_leaves_while_a_start_looks_at_the_fleet_is_no_member() {
    let Some(server) = TestServer::start(BINARIES, Engine::Postgres, &[]) else {
        return eprintln!("skipped: needs postgres");
    };
    NewRelease::new("pos-app", "2.0.0", 1).publish(&server);
    let tills: Vec<FakeDevice> = (0..2).map(|n| FakeDevice::enrol(&server, &format!("till-{n}"))).collect();
    server.api().post::<Rollout>("rollouts", &rollout("r", "pos-app@2.0.0", &json!({ "audience": "frozen" })));
    // Whoever writes holds this lock; the start asks for it when it has looked.
    let lock = 0x0ca1_1b0a_2d01_i64;
    let held = "SELECT COUNT(*) AS number FROM pg_locks WHERE locktype = 'advisory' AND granted";
    let leaves = format!(
        "DO $$ BEGIN
             PERFORM pg_advisory_xact_lock({lock});
             WHILE NOT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted) LOOP
                 PERFORM pg_sleep(0.01);
             END LOOP;
             UPDATE devices SET decommissioned_at = 1 WHERE name = '{}';
             UPDATE counters SET value = value + 1 WHERE name = 'departures';
         END $$",
        tills[0].name
    );
    std::thread::scope(|scope| {
        scope.spawn(|| server.run_sql(&leaves));
        wait::until("the lock is held", || server.sql_number(held) == Some(1));
        let started: Rollout = server.api().post("rollouts/r/start", &json!({}));
        assert_eq!(started.phases[0].counts.size, 1);
    });
}
