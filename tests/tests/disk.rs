//! Disks that are full or cannot be written: it is said, nothing is half, and all goes on when there is space again.

use callboard_proto::{
    admin::{Device, StoredPayload},
    digest::Digest,
    instruction::Action,
    problem::Code,
};
use callboard_tests::{
    device::{FakeDevice, Health},
    http::Response,
    release::{NewRelease, bytes},
    server::{Engine, TestServer, set_writable},
    world::rollout,
};
use serde_json::json;
use std::{collections::BTreeSet, fs};

use crate::{BINARIES, on_both, refused};

/// Files may grow to so many KiB and no further, as on a disk that is full: a write beyond it fails.
fn full_beyond(server: &mut TestServer, kib: u64) {
    server.stop();
    // 512 bytes are the unit of the shell's limit; the signal that comes with the error is not for programs.
    server.serve_under(&format!("trap '' XFSZ; ulimit -f {}", kib * 2));
}

#[test]
fn a_payload_for_which_there_is_no_space_is_refused_and_leaves_nothing() {
    on_both(|server| {
        let small = bytes("small", 100_000);
        server.api().upload(&small).ok();
        let files = server.payload_files();
        full_beyond(server, 1024);
        let large = bytes("large", 3 << 20);
        refused(&server.api().upload(&large), Code::StorageFull, "the disk that holds the payloads is full");
        assert_eq!(server.payload_files(), files);
        server.api().try_get(&format!("payloads/{}/info", Digest::of(&large))).problem(Code::NotFound);
        // Everything else goes on, and so does this when there is space.
        let mut device = FakeDevice::enrol(server, "till-1");
        assert!(device.fetch_range(Digest::of(&small), "bytes=0-").body == small);
        server.stop();
        server.serve();
        server.api().upload(&large).ok();
    });
}

#[test]
fn a_payload_directory_that_cannot_be_written_is_said_and_everything_else_goes_on() {
    on_both(|server| {
        let stored = bytes("stored", 50_000);
        server.api().upload(&stored).ok();
        let mut device = FakeDevice::enrol(server, "till-1");
        server.stop();
        let uploads = [server.dir().join("payloads/tmp")];
        set_writable(&uploads, false);
        server.serve_unprivileged();
        let answer = server.api().upload(&bytes("x", 1000));
        refused(&answer, Code::StorageFull, "tmp\" is not writable");
        device.follow(server);
        assert_eq!(device.check_in().action, Action::None);
        assert!(device.fetch_range(Digest::of(&stored), "bytes=0-").body == stored);
        set_writable(&uploads, true);
        server.api().upload(&bytes("x", 1000)).ok();
    });
}

#[test]
fn when_the_database_cannot_grow_what_was_acknowledged_is_kept_and_the_rest_is_refused() {
    let mut server = TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap();
    let release = NewRelease::new("pos-app", "2.0.0", 1).publish(&server);
    let mut device = FakeDevice::enrol(&server, "till-1").runs("pos-app", "1.0.0");
    device.check_in();
    full_beyond(&mut server, 1024);
    device.follow(&server);
    let mut taken = Vec::new();
    let problem = loop {
        assert!(taken.len() < 10_000, "the disk never got full");
        let batch: Vec<String> = (0..50).map(|n| format!("bulk-{}", taken.len() + n)).collect();
        let description = "x".repeat(1000);
        let devices: Vec<_> = batch.iter().map(|name| json!({ "name": name, "description": description })).collect();
        let answer = server.api().try_post("devices/import", &json!({ "devices": devices }));
        if answer.status != 200 {
            break answer;
        }
        taken.extend(batch);
    };
    refused(&problem, Code::StorageFull, "the server cannot write to its disk; nothing was changed");
    assert_eq!(problem.header("retry-after"), Some("60"));
    // Idle devices do not notice.
    assert_eq!(device.check_in().action, Action::None);
    server.stop_whatever();
    server.serve();
    let known: Vec<Device> = server.api().list("devices?limit=1000&selector=name%20~%20%22bulk-*%22");
    let mut names: Vec<String> = known.into_iter().map(|device| device.name.to_string()).collect();
    let number = |name: &String| name["bulk-".len()..].parse::<usize>().unwrap();
    names.sort_by_key(number);
    assert_eq!(names, taken);
    device.follow(&server);
    server.roll_out(&rollout("r", &release.sha256.to_string(), &json!({ "selector": "name = till-1" })));
    device.settle(Health::Good);
    assert_eq!(device.version_of("pos-app"), Some("2.0.0"));
}

/// A server on a disk of a few MiB. Where no namespace can be made, the tests with limited files have to do.
fn on_small_disks(test: impl Fn(&mut TestServer)) {
    on_both(|server| {
        server.stop();
        if !server.move_to_small_disk(24 << 20) {
            eprintln!("skipped: needs unshare");
            return;
        }
        server.serve();
        test(server);
    });
}

fn import(server: &TestServer, name: &str) -> Response {
    let device = json!({ "name": name, "description": "x".repeat(1000) });
    server.api().try_post("devices/import", &json!({ "devices": [device] }))
}

fn names(server: &TestServer) -> BTreeSet<String> {
    server.api().list::<Device>("devices").into_iter().map(|device| device.name.to_string()).collect()
}

#[test]
fn on_a_full_disk_an_upload_leaves_nothing_and_goes_through_when_there_is_space() {
    on_small_disks(|server| {
        let (small, large) = (bytes("small", 100_000), bytes("large", 3 << 20));
        server.api().upload(&small).ok();
        let mut device = FakeDevice::enrol(server, "till-1");
        let files = server.payload_files();
        for free in [1 << 20, 0] {
            server.fill_disk(free);
            for _ in 0..3 {
                refused(&server.api().upload(&large), Code::StorageFull, "the disk that holds the payloads is full");
                assert_eq!(server.payload_files(), files);
            }
            server.api().try_get(&format!("payloads/{}/info", Digest::of(&large))).problem(Code::NotFound);
            assert_eq!(device.check_in().action, Action::None);
            assert!(device.fetch_range(Digest::of(&small), "bytes=0-").body == small);
            server.free_disk();
        }
        server.api().upload(&large).ok();
        assert!(device.fetch_range(Digest::of(&large), "bytes=0-").body == large);
    });
}

#[test]
fn on_a_full_disk_nothing_is_acknowledged_that_is_not_written_and_all_goes_on_when_there_is_space() {
    on_small_disks(|server| {
        if server.engine == Engine::Postgres {
            // Its disk is another one.
            return;
        }
        let mut device = FakeDevice::enrol(server, "till-1");
        // What it is has to be written down once; after that it needs no space.
        device.check_in();
        server.fill_disk(256 << 10);
        let mut taken = BTreeSet::from(["till-1".to_owned()]);
        let problem = loop {
            let name = format!("bulk-{}", taken.len());
            let answer = import(server, &name);
            if answer.status != 200 {
                break answer;
            }
            taken.insert(name);
        };
        refused(&problem, Code::StorageFull, "the server cannot write to its disk; nothing was changed");
        assert_eq!(problem.header("retry-after"), Some("60"));
        assert_eq!(names(server), taken);
        assert_eq!(device.check_in().action, Action::None);
        server.free_disk();
        import(server, "late").ok();
        taken.insert("late".to_owned());
        server.restart_after_kill();
        assert_eq!(names(server), taken);
    });
}

#[test]
fn a_start_on_a_full_disk_is_said_and_loses_nothing() {
    on_small_disks(|server| {
        import(server, "till-1").ok();
        server.stop();
        server.fill_disk(0);
        let message = server.serve_fails();
        let own = "serve.json: No space left on device";
        let said: &[&str] = match server.engine {
            // A page that the system frees just then lets the database through to the file after it.
            Engine::Sqlite => {
                &["callboard.db cannot be used; the server must be able to write there, with some space left", own]
            }
            Engine::Postgres => &[own],
        };
        message.refused(1);
        assert!(said.iter().any(|said| message.stderr.contains(said)), "{}", message.stderr);
        server.free_disk();
        server.serve();
        assert_eq!(names(server), BTreeSet::from(["till-1".to_owned()]));
    });
}

#[test]
fn a_start_on_a_disk_that_is_mounted_read_only_is_said_and_loses_nothing() {
    on_small_disks(|server| {
        import(server, "till-1").ok();
        server.stop();
        server.remount_disk(false);
        let message = server.serve_fails();
        assert!(message.refused(1).contains("run: Read-only file system"), "{}", message.stderr);
        server.remount_disk(true);
        server.serve();
        assert_eq!(names(server), BTreeSet::from(["till-1".to_owned()]));
    });
}

#[test]
fn a_payload_that_the_disk_lost_is_uploaded_again() {
    on_both(|server| {
        let payload = bytes("payload", 50_000);
        let stored: StoredPayload = server.api().upload(&payload).json();
        fs::remove_file(server.payload_file(stored.sha256)).unwrap();
        // The command line looks before it uploads.
        server.api().try_get(&format!("payloads/{}/info", stored.sha256)).problem(Code::NotFound);
        let again = server.api().upload(&payload);
        assert_eq!(again.status, 201);
        let mut device = FakeDevice::enrol(server, "till-1");
        assert!(device.fetch_range(stored.sha256, "bytes=0-").body == payload);
    });
}
