//! A device's key that lies sealed: the agent and a stand-in for `systemd-creds`, which turns letters around. The real one
//! has a test beside the code that calls it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use callboard_proto::state::AssignmentState;
use callboard_tests::{
    release::NewRelease,
    server::{Engine, TestServer},
    till::{QUICK, Till},
    world::rollout,
};
use serde_json::json;

use crate::BINARIES;

/// Does what it is told, unless a file says that it is broken.
const STAND_IN: &str = r#"#!/bin/sh
[ "$1" = --name=callboard-device-key ] || { echo "another name: $1" >&2; exit 1; }
[ -e "${0%/*}/broken" ] && { echo "no TPM" >&2; exit 1; }
exec tr A-Za-z N-ZA-Mn-za-m
"#;

/// A till that is to seal its key, and is not enrolled yet.
fn till(server: &TestServer, name: &str, programs: &Path) -> Till {
    let mut till = Till::new(server.binaries().agent, name, QUICK);
    till.first_in_path(programs);
    let text = fs::read_to_string(till.config()).unwrap();
    fs::write(till.config(), format!("seal_key = true\n{text}")).unwrap();
    fs::write(till.bundle(), serde_json::to_vec(&server.bundle(&json!({}))).unwrap()).unwrap();
    till
}

fn enrol(till: &Till) -> String {
    till.command(&["enrol", "--bundle", till.bundle().to_str().unwrap(), "--name", &till.name]).ok().stderr.clone()
}

/// The sealed key, beside which no other lies.
#[track_caller]
fn sealed(till: &Till) -> String {
    let plain = ["device.key", "device.key.next"].map(|name| till.state_dir().join(name).exists());
    assert_eq!(plain, [false; 2]);
    let sealed = fs::read_to_string(till.state_dir().join("device.key.sealed")).unwrap();
    assert!(!sealed.contains("PRIVATE KEY"));
    sealed
}

#[test]
fn a_till_lives_with_a_sealed_key_and_with_a_plain_one_where_sealing_does_not_work() {
    let server = TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap();
    let programs = tempfile::tempdir().unwrap();
    let (program, broken) = (programs.path().join("systemd-creds"), programs.path().join("broken"));
    fs::write(&program, STAND_IN).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

    let first = till(&server, "till-1", programs.path());
    enrol(&first);
    let before = sealed(&first);
    first.once().ok();
    NewRelease::new("pos-app", "1.1.0", 1).publish(&server);
    server.roll_out(&rollout("go", "pos-app@1.1.0", &json!({})));
    first.once().ok();
    assert_eq!(server.outcome("go", &first).state, AssignmentState::Succeeded);
    assert!(first.command(&["doctor"]).ok().stdout.contains("the server knows this device"));

    // The next key is sealed when the server has answered to it.
    server.advance(Duration::from_secs(121 * 86_400));
    for _ in 0..2 {
        first.once().ok();
    }
    assert_ne!(sealed(&first), before);

    fs::write(&broken, "").unwrap();
    assert!(first.once().refused(1).contains("systemd-creds decrypt: no TPM"));
    assert!(first.command(&["doctor"]).stdout.contains("the key of the certificate is not there, or cannot be read"));
    let second = till(&server, "till-2", programs.path());
    assert!(enrol(&second).contains("could not be sealed"));
    assert!(second.state_dir().join("device.key").exists());
    second.once().ok();

    // When it works again, that is enough for both.
    fs::remove_file(&broken).unwrap();
    for till in [&first, &second] {
        till.once().ok();
        sealed(till);
    }
}
