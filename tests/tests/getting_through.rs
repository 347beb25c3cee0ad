//! The way from a till to its server: proxies, addresses without names, other CAs; and what `doctor` says when there is
//! none.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use callboard_proto::enrol::Bundle;
use callboard_tests::{
    connect_proxy::ConnectProxy,
    server::{Engine, TestServer},
    till::{QUICK, Till},
};
use serde_json::{Value, json};

use crate::{BINARIES, on_both};

/// A till that is not enrolled, with these lines under `[network]`, and a bundle for `url`.
fn till(server: &TestServer, url: &str, network: &str) -> (Till, Bundle) {
    let till = Till::new(server.binaries().agent, "till-1", QUICK);
    let text = fs::read_to_string(till.config()).unwrap();
    fs::write(till.config(), text.replace("[network]\n", &format!("[network]\n{network}\n"))).unwrap();
    let bundle = Bundle { server_url: url.to_owned(), ..server.bundle(&json!({})) };
    fs::write(till.bundle(), serde_json::to_vec(&bundle).unwrap()).unwrap();
    (till, bundle)
}

fn enrol(till: &Till) -> callboard_tests::server::Output {
    till.command(&["enrol", "--bundle", till.bundle().to_str().unwrap(), "--name", "till-1"])
}

/// What `doctor` finds, but for the disk: tests may run in memory.
fn examined(till: &Till, more: &[&str]) -> Vec<Value> {
    let output = till.command(&[&["doctor", "--output", "json"], more].concat());
    let found: Vec<Value> = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{}", output.stderr));
    let blocked = found.iter().any(|one| one["verdict"] == "blocks");
    assert_eq!(output.code, Some(i32::from(blocked)), "{}", output.stderr);
    found.into_iter().filter(|one| one["what"] != "disk").collect()
}

/// The only thing that blocks.
#[track_caller]
fn blocks(found: &[Value], what: &str, said: &str, remedy: &str) {
    let all: Vec<&Value> = found.iter().filter(|one| one["verdict"] == "blocks").collect();
    let [one] = all[..] else { panic!("{found:#?}") };
    assert_eq!(one["what"], what, "{one}");
    assert!(one["found"].as_str().unwrap().contains(said), "{one}");
    assert!(one["remedy"].as_str().unwrap().contains(remedy), "{one}");
}

fn port_of(address: SocketAddr) -> u16 {
    address.port()
}

#[test]
fn a_till_gets_through_a_proxy_that_wants_a_password() {
    on_both(|server| {
        // user:secret
        let proxy = ConnectProxy::to(server.device_address(), Some("Basic dXNlcjpzZWNyZXQ="));
        let auth = tempfile::NamedTempFile::new().unwrap();
        let network = format!("proxy = 'http://{}'\nproxy_auth_file = '{}'", proxy.address, auth.path().display());
        // The name is the proxy's business: this till could not look it up.
        let url = format!("https://localhost:{}", port_of(server.device_address()));
        let (till, _) = till(server, &url, &network);
        for (file, said) in [
            ("", "is not one line, USER:PASSWORD"),
            ("user\nsecret", "is not one line, USER:PASSWORD"),
            ("user:wrong\n", "HTTP status 407"),
        ] {
            fs::write(auth.path(), file).unwrap();
            assert!(enrol(&till).refused(1).contains(said), "{file:?}");
        }
        let found = examined(&till, &["--bundle", till.bundle().to_str().unwrap()]);
        blocks(&found, "proxy", "HTTP status 407", "network.proxy_auth_file names");
        fs::write(auth.path(), "user:secret\n").unwrap();
        enrol(&till).ok();
        till.once().ok();
        let asked = proxy.asked();
        let line = format!("CONNECT localhost:{} HTTP/1.1", port_of(server.device_address()));
        assert!(asked.iter().all(|asked| *asked == line), "{asked:?}");
        assert!(examined(&till, &[]).iter().all(|one| one["verdict"] != "blocks"));
        proxy.allow_nothing();
        till.once().refused(1);
        blocks(&examined(&till, &[]), "proxy", "HTTP status 403", "the proxy has to allow CONNECT to localhost:");
        assert!(!till.command(&["doctor"]).stdout.contains("secret"));
    });
}

#[test]
fn a_till_connects_to_an_address_and_still_wants_the_server_that_it_was_told() {
    on_both(|server| {
        let network = format!("connect_to = '{}'", server.device_address());
        let (till, _) = till(server, "https://localhost", &network);
        enrol(&till).ok();
        till.once().ok();
        // The same way to another server: the name in its certificate is right, its CA is not.
        let other = TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap();
        till.set("connect_to", &format!("'{}'", other.device_address()));
        till.once().refused(1);
        let said = "the certificate is for CN=Callboard server, issued by CN=Callboard server CA";
        blocks(&examined(&till, &[]), "tls", said, "a firewall opens the traffic on the way");
    });
}

#[test]
fn another_ca_is_trusted_if_the_owner_of_the_device_names_it() {
    on_both(|server| {
        let other = TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap();
        let (till, bundle) =
            till(server, &format!("https://{}", server.device_address()), "extra_ca_file = '/none.pem'");
        let foreign = fs::read_to_string(other.dir().join("server-ca.pem")).unwrap();
        let own = bundle.server_ca_pem.clone();
        fs::write(till.bundle(), serde_json::to_vec(&Bundle { server_ca_pem: foreign, ..bundle }).unwrap()).unwrap();
        assert!(enrol(&till).refused(2).contains("read network.extra_ca_file /none.pem"));
        let extra = tempfile::NamedTempFile::new().unwrap();
        fs::write(extra.path(), own).unwrap();
        till.set("extra_ca_file", &format!("'{}'", extra.path().display()));
        enrol(&till).ok();
        till.once().ok();
    });
}

#[test]
fn the_doctor_says_what_is_in_the_way_and_what_to_do() {
    on_both(|server| {
        let address = server.device_address();
        let (till, bundle) = till(server, &format!("https://{address}"), "");
        let file = till.bundle();
        let with_bundle = ["--bundle", file.to_str().unwrap()];
        blocks(&examined(&till, &[]), "identity", "this device is not enrolled", "enrol --bundle FILE");
        assert!(examined(&till, &with_bundle).iter().all(|one| one["verdict"] != "blocks"));
        // Nobody listens there.
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let write = |url: String| {
            let bundle = Bundle { server_url: url, ..bundle.clone() };
            fs::write(till.bundle(), serde_json::to_vec(&bundle).unwrap()).unwrap();
        };
        write(format!("https://{closed}"));
        blocks(&examined(&till, &with_bundle), "connection", "refused", &format!("allow this device out to {closed}"));
        write("https://no-such-host.invalid".to_owned());
        blocks(&examined(&till, &with_bundle), "dns", "no-such-host.invalid:443 is not found", "network.connect_to");
        // Something else answers there.
        write(format!("https://{}", server.api().address));
        let found = examined(&till, &with_bundle);
        assert!(found.iter().any(|one| one["verdict"] == "blocks"), "{found:#?}");
        write(format!("https://{address}"));
        enrol(&till).ok();
        let shown = till.command(&["doctor"]).stdout;
        assert!(shown.contains("ok      certificate  the server knows this device"), "{shown}");
        // A directory that the first update makes, then a device that is out of service.
        fs::rename(till.product(), till.home().join("elsewhere")).unwrap();
        let found = examined(&till, &[]);
        let products = found.iter().find(|one| one["what"] == "products").unwrap();
        assert_eq!(products["verdict"], "note", "{products}");
        fs::rename(till.home().join("elsewhere"), till.product()).unwrap();
        server.advance(Duration::from_secs(200 * 86_400));
        let found = examined(&till, &[]);
        let expired = found.iter().find(|one| one["what"] == "certificate").unwrap();
        assert_eq!(expired["verdict"], "note", "{expired}");
        server.api().post::<Value>("devices/till-1/decommission", &json!({ "reason": "scrapped" }));
        blocks(&examined(&till, &[]), "certificate", "was decommissioned", "callboard token create --device NAME");
    });
}
