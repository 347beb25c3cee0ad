//! A fleet moves from one server to another, with another name and another CA, by a root.

use std::fs;

use callboard_proto::admin::Trust;
use callboard_tests::{
    server::{Engine, TestServer},
    till::Till,
    wait,
};
use serde_json::Value;

use crate::BINARIES;

/// The files that say who the server is to devices.
const FACE: [&str; 4] = ["server-ca.pem", "server-ca.key", "server.pem", "server.key"];

/// Another server on the database of `first`, with a CA of its own.
fn elsewhere(first: &TestServer) -> TestServer {
    let stranger = TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap();
    let mut second = first.second();
    second.stop();
    for file in FACE {
        fs::copy(stranger.dir().join(file), second.dir().join(file)).unwrap();
    }
    second.serve();
    second
}

fn port(server: &TestServer) -> u16 {
    server.device_address().port()
}

/// Publishes the root after `from`, which lists these addresses.
#[track_caller]
fn list(server: &TestServer, from: &str, to: &str, addresses: &[(String, &TestServer)]) {
    let mut line = format!("root rotate {from} --key data/try-out-keys/root.key --out {to} --fixed-clock {}", {
        callboard_tests::clock::START
    });
    for (url, its) in addresses {
        line += &format!(" --server-url {url} --server-ca {}", its.dir().join("server-ca.pem").display());
    }
    server.cli(line.split_whitespace()).ok();
    server.cli(["root", "publish", to]).ok();
}

fn status(till: &Till, key: &str) -> Value {
    till.status()[key].clone()
}

#[test]
fn a_fleet_moves_to_a_server_with_another_name_and_ca_and_a_till_that_was_off_follows() {
    let Some(mut old) = TestServer::start(BINARIES, Engine::Postgres, &[]) else {
        eprintln!("skipped: needs postgres");
        return;
    };
    let new = elsewhere(&old);
    let (till, sleeper) = (old.till("till-1"), old.till("till-2"));
    for till in [&till, &sleeper] {
        till.once().ok();
    }
    let came_by = |till: &Till| old.registered(till).address.unwrap_or_default();
    wait::until("the registry knows by which address they came", || {
        [&till, &sleeper].iter().all(|till| came_by(till) == old.device_address().to_string())
    });

    let url = format!("https://localhost:{}", port(&new));
    list(&old, "data/root.json", "root-2.json", &[(url.clone(), &new)]);
    wait::until("the new server knows the new root", || {
        new.api().get::<Trust>("trust").root.is_some_and(|root| root.version == 2)
    });
    let said = old.cli(["trust", "status"]).stdout;
    assert!(said.contains(&url) && said.contains("the root does not list this server's address"), "{said}");

    // The first conversation tells of the root, the next one is elsewhere.
    till.once().ok();
    assert_eq!((status(&till, "server_url"), status(&till, "moves_to")), (old.device_url().into(), url.clone().into()));
    let seen = till.command(&["doctor", "--output", "json"]).stdout;
    assert!(seen.contains(&format!("{url}, which the root lists, answers as well")), "{seen}");
    // Of two contacts at the same instant either may be the last.
    new.advance(std::time::Duration::from_secs(1));
    till.once().ok();
    assert_eq!((status(&till, "server_url"), status(&till, "moves_to")), (url.clone().into(), Value::Null));
    wait::until("the registry knows by which address it came", || {
        came_by(&till) == format!("localhost:{}", port(&new))
    });
    assert_eq!(came_by(&sleeper), old.device_address().to_string());

    // It was off all the time, and finds the roots at the old address.
    sleeper.once().ok();
    sleeper.once().ok();
    old.stop();
    for till in [&till, &sleeper] {
        assert_eq!(status(till, "server_url"), Value::from(url.clone()));
        till.once().ok();
    }
}

#[test]
fn a_root_that_lists_an_address_where_nobody_is_loses_no_till() {
    crate::on_both(|server| {
        let till = server.till("till-1");
        till.once().ok();
        let own = server.device_url().to_owned();
        let stranger = TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap();
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // The second is a server, and not one that knows the root or the till.
        let wrong = [(format!("https://{nobody}"), &*server), (stranger.device_url().to_owned(), &stranger)];
        list(server, "data/root.json", "root-2.json", &wrong);
        for _ in 0..3 {
            till.once().ok();
            assert_eq!(status(&till, "server_url"), Value::from(own.clone()));
        }
        let seen = till.command(&["doctor", "--output", "json"]).stdout;
        assert!(seen.contains(&format!("https://{nobody}, which the root lists: ")), "{seen}");
        // Listed with its own CA and another one, which is how a CA is replaced.
        let both = server.home().join("both.pem");
        let pem = |of: &TestServer| fs::read_to_string(of.dir().join("server-ca.pem")).unwrap();
        fs::write(&both, pem(&stranger) + &pem(server)).unwrap();
        let rotate = format!(
            "root rotate root-2.json --key data/try-out-keys/root.key --out root-3.json --fixed-clock {} --server-url {own} \
             --server-ca {}",
            callboard_tests::clock::START,
            both.display()
        );
        server.cli(rotate.split_whitespace()).ok();
        server.cli(["root", "publish", "root-3.json"]).ok();
        for _ in 0..2 {
            till.once().ok();
        }
        let kept: Value = serde_json::from_slice(&fs::read(till.state_dir().join("device.json")).unwrap()).unwrap();
        assert_eq!(kept["server_ca_pem"].as_str().unwrap().matches("BEGIN CERTIFICATE").count(), 2);
        assert_eq!((&kept["server_root"], &kept["server_url"]), (&Value::from(3), &Value::from(own)));
    });
}
