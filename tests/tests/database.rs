//! A PostgreSQL that is restarted, refuses writes or fails: said with a 503, nothing half, and over when it is over.

use std::collections::BTreeSet;

use callboard_proto::{
    admin::{Device, Token},
    instruction::Action,
    paths,
    problem::Code,
};
use callboard_tests::{
    device::{FakeDevice, Key, anonymous, enrolment},
    http::{Request, Response},
    release::NewRelease,
    server::{Engine, TestServer},
    wait,
    world::rollout,
};
use serde_json::json;

use crate::{BINARIES, refused};

fn on_postgres(test: impl Fn(&mut TestServer)) {
    match TestServer::start(BINARIES, Engine::Postgres, &[]) {
        Some(mut server) => test(&mut server),
        None => eprintln!("skipped: needs postgres"),
    }
}

fn import(server: &TestServer, name: &str) -> Response {
    server.api().try_post("devices/import", &json!({ "devices": [{ "name": name }] }))
}

fn names(server: &TestServer) -> BTreeSet<String> {
    server.api().list::<Device>("devices").into_iter().map(|device| device.name.to_string()).collect()
}

/// An answer that is either right or says that the database is not there for the moment, and when to come back.
#[track_caller]
fn answered(answer: &Response) -> bool {
    if answer.status == Code::Unavailable.row().2 {
        refused(answer, Code::Unavailable, "nothing was changed, try again");
        assert!(answer.header("retry-after").is_some(), "{:?}", answer.headers);
        return false;
    }
    answer.ok();
    true
}

/// Sessions that begin from now on may write, or may not.
fn take_writes(server: &TestServer, writes: bool) {
    let setting = if writes { "RESET default_transaction_read_only" } else { "SET default_transaction_read_only = on" };
    server.run_sql(&format!(
        "BEGIN READ WRITE; \
         DO $$ BEGIN EXECUTE format('ALTER DATABASE %I {setting}', current_database()); END $$; \
         COMMIT"
    ));
}

/// A check-in that finds nothing to do, though perhaps not at once: until a server can follow the others again it trusts
/// nothing that it remembers.
fn checks_in(device: &mut FakeDevice) {
    wait::until("the check-in is answered", || {
        let check_in = device.next_check_in();
        let body = serde_json::to_vec(&check_in).unwrap();
        let answer = device.try_check_in(&body);
        answered(&answer) && device.verify(&check_in, &body, &answer.body).action == Action::None
    });
}

#[test]
fn connections_that_postgres_ended_cost_at_most_a_503_each() {
    on_postgres(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        for n in 0..3 {
            server.end_sessions();
            checks_in(&mut device);
            wait::until("reads are answered again", || answered(&server.api().try_get("devices/till-1")));
            wait::until("writes are taken again", || answered(&import(server, &format!("new-{n}"))));
        }
        assert_eq!(names(server), ["till-1", "new-0", "new-1", "new-2"].map(str::to_owned).into());
    });
}

#[test]
fn a_database_that_takes_no_writes_is_said_and_reads_go_on() {
    on_postgres(|server| {
        let mut idle = FakeDevice::enrol(server, "idle");
        idle.check_in();
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let mut device = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
        device.check_in();
        let enrol = enrolment(&server.enrolment_token(&json!({})), &Key::new()).named("late");
        let enrol = Request::post(paths::ENROL).json(&enrol.body);
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "selector": "name = till-1" })));

        take_writes(server, false);
        server.end_sessions();
        wait::until("reads are answered again", || answered(&server.api().try_get("devices")));
        wait::until("it is said", || {
            let answer = import(server, "lost");
            assert!(!answered(&answer), "a write was acknowledged");
            answer.text().contains("the database takes no writes now; nothing was changed, try again")
        });
        // Devices: who has something to do is told to come back, who has not does not notice.
        assert!(!answered(&anonymous(server).send(&enrol)));
        let body = serde_json::to_vec(&device.next_check_in()).unwrap();
        assert!(!answered(&device.try_check_in(&body)));
        checks_in(&mut idle);
        assert_eq!(names(server), ["idle", "till-1"].map(str::to_owned).into());

        take_writes(server, true);
        wait::until("writes are taken again", || answered(&import(server, "new")));
        assert_eq!(device.check_in().action, Action::Download);
        anonymous(server).send(&enrol).ok();
        assert_eq!(names(server), ["idle", "till-1", "new", "late"].map(str::to_owned).into());
        assert_eq!(server.api().list::<Token>("tokens").iter().map(|token| token.uses).sum::<u32>(), 3);
    });
}

/// Lets PostgreSQL do something whenever a device is added: at once, or when that is committed.
fn when_a_device_is_added(server: &TestServer, deferred: bool, body: &str) {
    let timing = if deferred { "DEFERRABLE INITIALLY DEFERRED" } else { "NOT DEFERRABLE" };
    server.run_sql(&format!(
        "CREATE OR REPLACE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER trouble AFTER INSERT ON devices {timing} \
         FOR EACH ROW EXECUTE FUNCTION trouble()"
    ));
}

fn is_over(server: &TestServer) {
    server.run_sql("DROP TRIGGER trouble ON devices");
}

#[test]
fn a_transaction_that_fails_is_not_acknowledged_whenever_it_fails() {
    on_postgres(|server| {
        let full = "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'";
        for deferred in [false, true] {
            when_a_device_is_added(server, deferred, full);
            let answer = import(server, "lost");
            refused(&answer, Code::StorageFull, "the server cannot write to its disk; nothing was changed");
            assert_eq!(answer.header("retry-after"), Some("60"));
            is_over(server);
            import(server, &format!("new-{deferred}")).ok();
        }
        when_a_device_is_added(server, true, "RAISE EXCEPTION 'out of shared memory' USING ERRCODE = '53200'");
        assert!(!answered(&import(server, "lost")));
        is_over(server);
        import(server, "new").ok();
        assert_eq!(names(server), ["new-false", "new-true", "new"].map(str::to_owned).into());
    });
}

#[test]
fn a_connection_that_breaks_while_it_commits_is_not_said_to_have_changed_nothing() {
    on_postgres(|server| {
        when_a_device_is_added(server, true, "PERFORM pg_terminate_backend(pg_backend_pid())");
        let detail = import(server, "lost").problem(Code::Internal);
        assert!(!detail.contains("nothing was changed"), "{detail}");
        assert!(server.log().contains("commit, and what became of it is not known"), "{}", server.log());
        // Broken before that, it has.
        is_over(server);
        when_a_device_is_added(server, false, "PERFORM pg_terminate_backend(pg_backend_pid())");
        assert!(!answered(&import(server, "lost")));
        is_over(server);
        import(server, "new").ok();
        assert_eq!(names(server), ["new"].map(str::to_owned).into());
    });
}
