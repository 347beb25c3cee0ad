//! Disks that are full or cannot be written: it is said, nothing is half, and all goes on when there is space again.

use callboard_proto::{
    admin::{Device, StoredPayload},
    digest::Digest,
    instruction::Action,
    problem::Code,
};
use callboard_tests::{
    device::{FakeDevice, Health},
    release::{NewRelease, bytes},
    server::{Engine, TestServer},
    world::rollout,
};
use serde_json::json;
use std::{fs, os::unix::fs::PermissionsExt as _};

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
        let uploads = server.dir().join("payloads/tmp");
        server.serve_without_rights_to(&uploads);
        let answer = server.api().upload(&bytes("x", 1000));
        refused(&answer, Code::StorageFull, "tmp\" is not writable");
        device.follow(server);
        assert_eq!(device.check_in().action, Action::None);
        assert!(device.fetch_range(Digest::of(&stored), "bytes=0-").body == stored);
        fs::set_permissions(&uploads, fs::Permissions::from_mode(0o777)).unwrap();
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

#[test]
fn a_payload_that_the_disk_lost_is_uploaded_again() {
    on_both(|server| {
        let payload = bytes("payload", 50_000);
        let stored: StoredPayload = server.api().upload(&payload).json();
        fs::remove_file(server.payload_file(stored.sha256)).unwrap();
        let again = server.api().upload(&payload);
        assert_eq!(again.status, 201);
        let mut device = FakeDevice::enrol(server, "till-1");
        assert!(device.fetch_range(stored.sha256, "bytes=0-").body == payload);
    });
}
