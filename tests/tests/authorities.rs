//! The CAs are exchanged while devices come and go: that of devices' certificates, and that of the server's.

use std::{fs, time::Duration};

use callboard_proto::{admin::Trust, enrol::Bundle};
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

/// Publishes root 2, which lists the server with its present CA.
fn list(server: &TestServer) {
    let line = format!(
        "root rotate data/root.json --key data/try-out-keys/root.key --out root-2.json --fixed-clock {START} --server-url \
         https://localhost --server-ca data/server-ca.pem"
    );
    server.cli(line.split_whitespace()).ok();
    server.cli(["root", "publish", "root-2.json"]).ok();
}

/// The CAs that a till would take the server's certificate from.
fn taken(till: &Till) -> String {
    let kept: Value = serde_json::from_slice(&fs::read(till.state_dir().join("device.json")).unwrap()).unwrap();
    kept["server_ca_pem"].as_str().unwrap().to_owned()
}

/// What a file of the data directory holds.
fn certificates(server: &TestServer, file: &str) -> String {
    fs::read_to_string(server.dir().join(file)).unwrap()
}

/// Asks until it has what it needs: it learns with the one answer what it uses for the next question.
fn comes_back(till: &Till) {
    for _ in 0..3 {
        till.once();
    }
    till.once().ok();
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
        let refused = || ca(server, "finish", "device").refused(2).to_owned();
        assert!(refused().contains("1 device that may have a certificate of the former CA"));
        // It was off through all of it, and so long that its certificate has ended.
        server.advance(79 * DAY);
        comes_back(&sleeper);
        wait::until("nobody has a certificate of the former CA", || devices(server) == [3, 0]);
        ca(server, "finish", "device").ok();
        restart(server, &[&first, &sleeper, &third]);
        for till in [&first, &sleeper, &third] {
            comes_back(till);
        }
        assert_eq!(trust(server).device_cas.len(), 1);
    });
}

#[test]
fn the_servers_ca_is_exchanged_while_the_former_one_vouches_for_the_next() {
    on_both(|server| {
        let (first, sleeper) = (till(server, "till-1"), till(server, "till-2"));
        for till in [&first, &sleeper] {
            till.once().ok();
        }
        let former = certificates(server, "server-ca.pem");
        ca(server, "new", "server").ok();
        let next = certificates(server, "server-ca-next.pem");
        restart(server, &[&first, &sleeper]);
        let bundle: Bundle = server.bundle(&json!({}));
        assert_eq!(bundle.server_ca_pem, former.clone() + &next);
        ca(server, "switch", "server").ok();
        restart(server, &[&first, &sleeper]);
        // Nobody has told it of another CA.
        first.once().ok();
        assert_eq!(taken(&first), former);
        let refused = || ca(server, "finish", "server").refused(2).to_owned();
        assert!(refused().contains("the newest root does not list the server's CA"));

        list(server);
        comes_back(&first);
        assert_eq!(taken(&first), next);
        wait::until("one of them is known to be ready", || {
            refused().contains("1 device without root 2, which lists the server's CA, would be shut out")
        });
        assert!(trust(server).root.unwrap().servers.remove(0).ca.remove(0).own);
        // It was off through all of it.
        comes_back(&sleeper);
        assert_eq!(taken(&sleeper), next);
        wait::until("both are known to be ready", || {
            trust(server).standings.iter().all(|standing| standing.root_version == Some(2))
        });
        assert_eq!(certificates(server, "server.pem").matches("BEGIN CERTIFICATE").count(), 2);
        ca(server, "finish", "server").ok();
        assert_eq!(certificates(server, "server.pem").matches("BEGIN CERTIFICATE").count(), 1);
        restart(server, &[&first, &sleeper]);
        for till in [&first, &sleeper] {
            till.once().ok();
        }
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
