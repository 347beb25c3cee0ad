//! The CAs are exchanged while devices come and go: that of devices' certificates, and that of the server's.

use std::{fs, time::Duration};

use callboard_proto::{admin::Trust, enrol::Bundle, root::Root, signed::Envelope};
use callboard_tests::{
    clock::START,
    device::FakeDevice,
    server::{Engine, Output, TestServer},
    till::{QUICK, Till},
    wait,
};
use serde_json::{Value, json};

use crate::{BINARIES, on_both};

const DAY: Duration = Duration::from_secs(86_400);

/// `callboard ca`.
fn ca(server: &TestServer, step: &str, which: &str) -> Output {
    server.cli(["ca", step, which, "--dir", "data", "--fixed-clock", START])
}

/// A till that reaches the server by a name, wherever that listens.
fn till(server: &TestServer, name: &str) -> Till {
    let till = Till::new(server.binaries().agent, name, QUICK);
    let text = fs::read_to_string(till.config()).unwrap();
    let way = format!("[network]\nconnect_to = '{}'\n", server.device_address());
    fs::write(till.config(), text.replace("[network]\n", &way)).unwrap();
    let bundle = Bundle { server_url: "https://localhost".to_owned(), ..server.bundle(&json!({})) };
    fs::write(till.bundle(), serde_json::to_vec(&bundle).unwrap()).unwrap();
    till.command(&["enrol", "--bundle", till.bundle().to_str().unwrap(), "--name", name]).ok();
    till
}

/// Stops and starts the server, and tells the tills where it is then.
fn restart(server: &mut TestServer, tills: &[&Till]) {
    server.stop();
    server.serve();
    for till in tills {
        till.set("connect_to", &format!("'{}'", server.device_address()));
    }
}

fn trust(server: &TestServer) -> Trust {
    server.api().get("trust")
}

/// Devices by the CA of their certificates, that which issues first.
fn devices(server: &TestServer) -> Vec<u64> {
    trust(server).device_cas.iter().map(|ca| ca.devices).collect()
}

/// Publishes the root after `from` that lists the server with these CAs.
fn list(server: &TestServer, from: &str, to: &str, cas: &[&str]) {
    let pems: String = cas.iter().map(|file| fs::read_to_string(server.dir().join(file)).unwrap()).collect();
    fs::write(server.home().join("listed.pem"), pems).unwrap();
    let line = format!(
        "root rotate {from} --key data/try-out-keys/root.key --out {to} --fixed-clock {START} --server-url https://localhost \
         --server-ca listed.pem"
    );
    server.cli(line.split_whitespace()).ok();
    server.cli(["root", "publish", to]).ok();
}

/// How many CAs a till would take the server's certificate from.
fn taken(till: &Till) -> usize {
    let kept: Value = serde_json::from_slice(&fs::read(till.state_dir().join("device.json")).unwrap()).unwrap();
    kept["server_ca_pem"].as_str().unwrap().matches("BEGIN CERTIFICATE").count()
}

#[test]
fn the_device_ca_is_exchanged_while_devices_renew() {
    on_both(|server| {
        let (first, sleeper) = (till(server, "till-1"), till(server, "till-2"));
        for till in [&first, &sleeper] {
            till.once().ok();
        }
        assert!(ca(server, "switch", "device").refused(2).contains("callboard ca new device makes it"));
        assert!(ca(server, "finish", "device").refused(2).contains("no device CA was replaced"));
        ca(server, "new", "device").ok();
        assert!(ca(server, "new", "device").refused(2).contains("is there already"));
        restart(server, &[&first, &sleeper]);
        first.once().ok();
        assert_eq!(devices(server), [2, 0]);

        ca(server, "switch", "device").ok();
        assert!(ca(server, "new", "device").refused(2).contains("finish the exchange before"));
        restart(server, &[&first, &sleeper]);
        first.once().ok();
        let third = till(server, "till-3");
        third.once().ok();
        assert_eq!(devices(server), [1, 2]);
        assert!(
            ca(server, "finish", "device")
                .refused(2)
                .contains("2 devices that may have a certificate of the former CA")
        );
        let said = server.cli(["trust", "status"]).stdout;
        assert!(said.contains("callboard ca finish device"), "{said}");

        server.advance(121 * DAY);
        wait::until("the renewed certificate is of the next CA", || {
            first.once().ok();
            devices(server) == [2, 1]
        });
        assert!(
            ca(server, "finish", "device").refused(2).contains("1 device that may have a certificate of the former CA")
        );
        let line = ["ca", "finish", "device", "--dir", "data", "--leave-behind"];
        server.cli(line).ok();
        restart(server, &[&first, &sleeper, &third]);
        for till in [&first, &third] {
            till.once().ok();
        }
        sleeper.once().refused(1);
        assert_eq!(trust(server).device_cas.len(), 1);
    });
}

#[test]
fn the_servers_ca_is_exchanged_by_a_root_that_lists_both() {
    on_both(|server| {
        let (first, second) = (till(server, "till-1"), till(server, "till-2"));
        for till in [&first, &second] {
            till.once().ok();
        }
        ca(server, "new", "server").ok();
        restart(server, &[&first, &second]);
        let bundle: Bundle = server.bundle(&json!({}));
        assert_eq!(bundle.server_ca_pem.matches("BEGIN CERTIFICATE").count(), 2);
        assert!(ca(server, "switch", "server").refused(2).contains("the newest root does not list the next server CA"));

        list(server, "data/root.json", "root-2.json", &["server-ca.pem", "server-ca-next.pem"]);
        for _ in 0..2 {
            first.once().ok();
        }
        assert_eq!((taken(&first), taken(&second)), (2, 1));
        let refused = || ca(server, "switch", "server").refused(2).to_owned();
        wait::until("one of them is known to be ready", || {
            refused().contains("1 device without root 2 would be shut out")
        });
        // It gets the root with the first answer and tells of it with the next question.
        for _ in 0..2 {
            second.once().ok();
        }
        wait::until("both are known to be ready", || {
            trust(server).standings.iter().all(|standing| standing.root_version == Some(2))
        });
        ca(server, "switch", "server").ok();
        restart(server, &[&first, &second]);
        for till in [&first, &second] {
            till.once().ok();
            assert_eq!(taken(till), 2, "{}", till.name);
        }
        let listed = trust(server).root.unwrap().servers.remove(0);
        assert_eq!(listed.ca.iter().map(|ca| ca.own).collect::<Vec<_>>(), [false, true]);

        ca(server, "finish", "server").ok();
        list(server, "root-2.json", "root-3.json", &["server-ca.pem"]);
        for _ in 0..2 {
            first.once().ok();
        }
        assert_eq!(taken(&first), 1);
        let newest = Envelope::parse::<Root>(&fs::read(first.state_dir().join("root.json")).unwrap()).unwrap();
        assert_eq!(newest.claim::<Root>().unwrap().version, 3);
    });
}

#[test]
fn a_server_that_has_the_next_ca_takes_what_another_one_issues_by_it() {
    let Some(mut first) = TestServer::start(BINARIES, Engine::Postgres, &[]) else {
        eprintln!("skipped: needs postgres");
        return;
    };
    ca(&first, "new", "device").ok();
    let second = first.second();
    ca(&first, "switch", "device").ok();
    restart(&mut first, &[]);
    let mut device = FakeDevice::enrol(&first, "till-1");
    device.check_in();
    device.follow(&second);
    device.check_in();
    let mut other = FakeDevice::enrol(&second, "till-2");
    other.follow(&first);
    other.check_in();
    wait::until("both servers say the same of it", || devices(&first) == [1, 1] && devices(&second) == [1, 1]);
}
