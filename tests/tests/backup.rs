//! Backup and restore: taken while the server runs and devices work, put in place as it is.

use callboard_proto::{admin::Device, enrol::Renewed, paths, problem::Code};
use callboard_tests::{
    device::{FakeDevice, Health, Key, with_certificate},
    http::Request,
    release::NewRelease,
    server::{Engine, TestServer},
    world::rollout,
};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::on_both;

const DAY: Duration = Duration::from_secs(86_400);

/// Takes a backup as an operator does; gives where it is and what was said.
fn backup(server: &TestServer, name: &str, more: &[&str]) -> (PathBuf, Value) {
    let (dir, to) = (server.dir(), server.home().join(name));
    let args = ["--output", "json", "backup", "--dir", dir.to_str().unwrap(), "--to", to.to_str().unwrap()];
    let said = server.cli(args.iter().chain(more)).json();
    (to, said)
}

/// The way of `deploy/README.md`: stop, put the copy in place, start.
fn restore(server: &mut TestServer, from: &Path) {
    server.stop();
    fs::rename(server.dir(), server.home().join("lost")).unwrap();
    fs::rename(from, server.dir()).unwrap();
    server.serve();
}

#[test]
fn a_backup_of_a_running_server_restores_devices_releases_and_rollouts() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let mut till = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
        till.check_in();
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
        let (to, said) = backup(server, "backup", &[]);
        assert_eq!(said["payloads"], json!(server.payload_files().len()));
        assert_eq!(said["database"], json!(server.engine == Engine::Sqlite));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&to), 0o700);
        for secret in ["online.key", "device-ca.key", "server-ca.key", "server.key", "server.toml"] {
            assert_eq!(mode(&to.join(secret)), 0o600, "{secret}");
        }
        assert!(!to.join("run").exists());
        let mut late = FakeDevice::enrol(server, "till-2");
        restore(server, &to);
        till.follow(server);
        till.settle(Health::Good);
        assert_eq!(server.rollout("r").phases[0].counts.succeeded, 1);
        late.follow(server);
        if server.engine == Engine::Sqlite {
            // What came after the backup is not in it.
            assert_eq!(server.api().list::<Device>("devices").len(), 1);
            let body = serde_json::to_vec(&late.next_check_in()).unwrap();
            late.try_check_in(&body).problem(Code::UnknownDevice);
        } else {
            let note = said["note"].as_str().unwrap();
            assert!(note.contains("is not in it: run pg_dump before every backup"), "{note}");
            late.check_in();
        }
    });
}

/// The same device with the key of a renewal.
fn renewed(server: &TestServer, device: &mut FakeDevice) -> FakeDevice {
    let next = Key::new();
    let request = Request::post(paths::RENEW).json(&json!({ "csr_pem": next.csr_pem() }));
    let renewed: Renewed = device.wire.send(&request).json();
    let mut other = device.twin(server);
    other.wire = with_certificate(server, &next, &renewed.certificate_pem);
    (other.key, other.certificate_pem) = (next, renewed.certificate_pem);
    other
}

#[test]
fn certificates_of_after_the_backup_are_taken_and_older_and_foreign_ones_are_not() {
    on_both(|server| {
        if server.engine == Engine::Postgres {
            return; // Its database is not in the backup.
        }
        let devices = json!({ "devices": [{ "name": "till-3", "serial": "S3" }] });
        server.api().post::<Value>("devices/import", &devices);
        let mut till = FakeDevice::enrol(server, "till-1");
        let mut scrapped = FakeDevice::enrol(server, "till-2");
        server.advance(DAY);
        let mut before = till.twin(server);
        let mut current = renewed(server, &mut till);
        current.check_in();
        let mut scrapped_later = renewed(server, &mut scrapped);
        server.api().post::<Value>("devices/till-2/decommission", &json!({ "reason": "stolen" }));
        let (to, _) = backup(server, "backup", &[]);
        server.advance(DAY);
        let mut after = renewed(server, &mut current);
        after.check_in();
        let mut imported = FakeDevice::enrol_imported(server, "till-3");
        server.advance(DAY);
        restore(server, &to);
        for device in [&mut till, &mut before, &mut current, &mut after, &mut imported, &mut scrapped_later] {
            device.follow(server);
        }
        let refused = |device: &mut FakeDevice| {
            let body = serde_json::to_vec(&device.next_check_in()).unwrap();
            device.try_check_in(&body).problem(Code::DeviceRevoked);
        };
        refused(&mut before);
        refused(&mut scrapped_later);
        after.check_in();
        imported.check_in();
        refused(&mut current);
        after.check_in();
        assert!(server.api().get::<Device>("devices/till-3").enrolled_at.is_some());
        // What is issued from now on is known; and a restart is no other restore.
        server.advance(DAY);
        let mut next = renewed(server, &mut after);
        server.stop();
        server.serve();
        next.follow(server);
        next.check_in();
        // Nor does it matter how often that happens: the server knows what it took.
        let (to, _) = backup(server, "second", &[]);
        server.advance(DAY);
        let mut last = renewed(server, &mut next);
        last.check_in();
        imported.follow(server);
        let mut imported_again = renewed(server, &mut imported);
        imported_again.check_in();
        fs::rename(server.home().join("lost"), server.home().join("lost-first")).unwrap();
        restore(server, &to);
        for device in [&mut last, &mut next, &mut imported_again] {
            device.follow(server);
        }
        last.check_in();
        refused(&mut next);
        imported_again.check_in();
    });
}

#[test]
fn a_backup_replaces_nothing_and_leaves_nothing_half_done() {
    on_both(|server| {
        let (dir, to) = (server.dir(), server.home().join("backup"));
        fs::create_dir(&to).unwrap();
        let run = |to: &Path| server.cli(["backup", "--dir", dir.to_str().unwrap(), "--to", to.to_str().unwrap()]);
        let there = run(&to);
        assert!(there.refused(2).contains("exists; name a directory that does not"), "{}", there.stderr);
        let nowhere = run(&server.home().join("no/where"));
        assert!(nowhere.refused(2).contains("cannot write in"), "{}", nowhere.stderr);
        let other = server.cli(["backup", "--dir", to.to_str().unwrap(), "--to", "b"]);
        assert!(other.refused(2).contains("is not a data directory"), "{}", other.stderr);
        // A file that cannot be copied ends it; what was copied until then is gone.
        let before = fs::read_dir(server.home()).unwrap().count();
        let broken = dir.join("broken.pem");
        std::os::unix::fs::symlink("nowhere", &broken).unwrap();
        assert!(run(&server.home().join("b")).refused(1).contains("cannot copy"));
        assert_eq!(fs::read_dir(server.home()).unwrap().count(), before);
        fs::remove_file(&broken).unwrap();
    });
}

#[test]
fn payloads_can_be_left_to_other_means() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let (to, said) = backup(server, "backup", &["--no-payloads"]);
        assert!(!to.join("payloads").exists());
        assert_eq!(said["payloads"], json!(0));
        assert_eq!(to.join("callboard.db").exists(), server.engine == Engine::Sqlite);
    });
}
