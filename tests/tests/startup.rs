//! Starts that fail: the message names the cause, the exit code is right, and the data is as it was.

use callboard_proto::{
    admin::{Device, Imported, Token},
    problem::Code,
    signed::key_id,
};
use callboard_tests::{
    clock::START,
    device::FakeDevice,
    release::NewRelease,
    server::{Engine, TestServer, set_writable, tree},
    wait,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{BINARIES, on_both, on_both_with, refused};

/// A fact to be found again.
fn remember(server: &TestServer) {
    server.api().post::<Imported>("devices/import", &json!({ "devices": [{ "name": "till-1" }] }));
}

fn remembers(server: &TestServer) {
    assert_eq!(server.api().get::<Device>("devices/till-1").name.as_str(), "till-1");
}

#[test]
fn a_busy_port_is_said_and_the_running_server_is_not_disturbed() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        server.stop();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        for key in ["device_listen", "admin_listen"] {
            let flag = format!("--{}", key.replace('_', "-"));
            let message = server.serve_refused(&[&flag, &address]);
            let wanted =
                format!("cannot listen on {key} = {address}: Address already in use (os error 98); choose another");
            assert!(message.refused(2).contains(&wanted), "{}", message.stderr);
        }
        server.serve();
        device.follow(server);
        device.check_in();
    });
}

#[test]
fn a_second_server_on_the_same_directory_is_refused() {
    on_both(|server| {
        remember(server);
        let message = server.serve_refused(&[]);
        assert!(message.refused(2).contains("another server is running on"), "{}", message.stderr);
        remembers(server);
    });
}

#[test]
fn a_lock_does_not_outlive_a_killed_server() {
    on_both(|server| {
        remember(server);
        for _ in 0..3 {
            server.restart_after_kill();
            remembers(server);
        }
    });
}

#[test]
fn a_newer_schema_is_left_alone() {
    on_both(|server| {
        remember(server);
        server.stop();
        server.run_sql("INSERT INTO __diesel_schema_migrations (version) VALUES ('99999999999999')");
        let message = server.serve_refused(&[]);
        let wanted = "the database has migration 99999999999999, which this version does not know; \
                      run the version that made it, or a newer one";
        assert!(message.refused(1).contains(wanted), "{}", message.stderr);
        server.run_sql("DELETE FROM __diesel_schema_migrations WHERE version = '99999999999999'");
        server.serve();
        remembers(server);
    });
}

#[test]
fn settings_that_cannot_be_are_named_with_what_is_allowed() {
    on_both(|server| {
        remember(server);
        server.stop();
        let file = server.dir().join("server.toml");
        let good = fs::read_to_string(&file).unwrap();
        for (line, said) in [
            ("poll_interval_s = 0", "poll_interval_s = \"0\""),
            ("poll_intervall_s = 5", "there is no setting \"poll_intervall_s\"; the settings are public_url"),
            ("max_transfers = \"many\"", "1 to 10000"),
            ("public_url = \"http://x\"", "https://HOST[:PORT]"),
            ("public_url = \"https://shop.example.com\"", "the server's certificate is for localhost, 127.0.0.1, ::1"),
            ("admin_tls_cert = \"a.pem\"", "admin_tls_cert and admin_tls_key are only of use together"),
            ("poll_interval_s = ", "server.toml"),
        ] {
            fs::write(&file, format!("{good}\n{line}\n")).unwrap();
            let message = server.serve_refused(&[]);
            assert!(message.refused(2).contains(said), "{line}: {}", message.stderr);
        }
        fs::write(&file, &good).unwrap();
        let message = server.serve_refused(&["--database-url", "postgres://x@y/z?sslmode=require"]);
        assert!(message.refused(2).contains("database_url"), "{}", message.stderr);
        let open = server.serve_refused(&["--admin-listen", "0.0.0.0:0"]);
        assert!(open.refused(2).contains("admin_tls_cert and admin_tls_key are needed"), "{}", open.stderr);
        server.serve();
        remembers(server);
    });
}

#[test]
fn a_directory_that_is_none_of_ours_is_said_to_be() {
    let server = TestServer::prepare(BINARIES, Engine::Sqlite).unwrap();
    let message = server.serve_refused(&[]);
    assert!(
        message.refused(2).contains("is not a data directory; make one with: callboard init"),
        "{}",
        message.stderr
    );
    fs::create_dir(server.dir()).unwrap();
    fs::write(server.dir().join("letters"), "mine").unwrap();
    let init = server.cli(["init", "--dir", server.dir().to_str().unwrap()]);
    assert!(init.refused(2).contains("is not empty; name a directory that does not exist"), "{}", init.stderr);
    assert_eq!(fs::read_dir(server.dir()).unwrap().count(), 1);
}

#[test]
fn init_changes_nothing_in_a_data_directory() {
    on_both(|server| {
        let device = FakeDevice::enrol(server, "till-1");
        remember_the_same(server, |server| {
            let dir = server.dir();
            for more in [&[][..], &["--public-url", "https://shop.example.com:8443"], &["--no-profile"]] {
                let again = server.cli(["init", "--dir", dir.to_str().unwrap()].iter().chain(more));
                let said = "is a data directory already; nothing was changed";
                assert!(again.refused(2).contains(said), "{}", again.stderr);
            }
        });
        drop(device);
    });
}

/// Runs what may change no file of the data directory, nor the profile.
fn remember_the_same(server: &mut TestServer, f: impl Fn(&TestServer)) {
    server.stop();
    let paths = [server.dir(), server.home().join("profile.toml")];
    let before = paths.clone().map(|path| contents(&path));
    f(server);
    assert!(paths.map(|path| contents(&path)) == before, "something was changed");
    server.serve();
}

#[test]
fn init_replaces_no_profile_and_says_what_else_there_is() {
    let server = TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap();
    let (dir, profile) = (server.home().join("second"), server.home().join("profile.toml"));
    let before = fs::read(&profile).unwrap();
    let init = |more: &[&str]| server.cli(["init", "--dir", dir.to_str().unwrap()].iter().chain(more));
    let refused = init(&[]);
    let said =
        format!("the profile {} exists, and nothing was made; name another one with --profile", profile.display());
    assert!(refused.refused(2).contains(&said), "{}", refused.stderr);
    assert!(!dir.exists());
    init(&["--profile", "second"]).ok();
    let second = server.home().join(".config/callboard/second.toml");
    assert_eq!(fs::metadata(&second).unwrap().permissions().mode() & 0o777, 0o600);
    fs::remove_dir_all(&dir).unwrap();
    let none = init(&["--no-profile"]);
    assert!(none.ok().stdout.contains("admin token, shown this once: cba_"), "{}", none.stdout);
    assert_eq!(fs::read(&profile).unwrap(), before);
}

#[test]
fn another_certificate_is_made_for_another_public_url_and_devices_stay() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        server.stop();
        let (url, dir) = ("https://shop.example.com:8443", server.dir());
        let renew = ["certificate", "renew", "--fixed-clock", START, "--dir", dir.to_str().unwrap()];
        let before = fs::read(dir.join("server.key")).unwrap();
        let bad = server.cli(renew.iter().chain(&["--public-url", "http://x"]));
        assert!(bad.refused(2).contains("--public-url \"http://x\" is not allowed"), "{}", bad.stderr);
        server.cli(renew.iter().chain(&["--public-url", url])).ok();
        assert_eq!(fs::read(dir.join("server.key.old")).unwrap(), before);
        server.serve();
        assert_eq!(server.bundle(&json!({})).server_url, url);
        device.follow(server);
        device.check_in();
        // Without a URL it stays the one that it was.
        server.cli(renew).ok();
        server.restart_after_kill();
        assert_eq!(server.bundle(&json!({})).server_url, url);
        let none = server.cli(["certificate", "renew", "--dir", server.home().to_str().unwrap()]);
        assert!(none.refused(2).contains("is not a data directory"), "{}", none.stderr);
    });
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn nobody_else_reads_what_init_and_serve_make_and_nothing_is_opened_that_was_closed() {
    on_both(|server| {
        let dir = server.dir();
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let public =
            ["server-ca.pem", "device-ca.pem", "server.pem", "online.key.pub", "root.json", "README", "serve.json"];
        for path in tree(&dir) {
            let name = path.file_name().unwrap().to_str().unwrap();
            let open = public.contains(&name) || name.ends_with(".pub");
            let wanted = if path.is_dir() {
                0o700
            } else if open {
                0o644
            } else {
                0o600
            };
            assert_eq!(mode(&path), wanted, "{}", path.display());
        }
        fs::set_permissions(dir.join("server.pem"), fs::Permissions::from_mode(0o640)).unwrap();
        let (url, now) = ("https://localhost:8444", server.clock.now().to_string());
        let renew =
            ["certificate", "renew", "--fixed-clock", &now, "--public-url", url, "--dir", dir.to_str().unwrap()];
        server.cli(renew).ok();
        assert_eq!(
            ["server.toml", "server.key", "server.pem"].map(|file| mode(&dir.join(file))),
            [0o600, 0o600, 0o640]
        );
    });
}

#[test]
fn keys_that_others_can_read_are_warned_of_at_every_start() {
    on_both(|server| {
        server.stop();
        assert!(!server.log().contains("others can read"), "{}", server.log());
        let dir = server.dir();
        let files = [dir.join("online.key"), dir.join("try-out-keys/release.key")];
        for (file, mode) in files.iter().zip([0o644, 0o640]) {
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
        }
        server.serve();
        for (file, mode) in files.iter().zip(["644", "640"]) {
            let file = file.display();
            let said = format!("others can read {file} (mode {mode}); close it with: chmod 600 {file}");
            assert!(server.log().contains(&said), "{}", server.log());
            fs::set_permissions(file.to_string(), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let before = server.log().len();
        server.restart_after_kill();
        assert!(!server.log()[before..].contains("others can read"));
    });
}

#[test]
fn a_server_with_another_online_key_than_the_roots_does_not_start() {
    on_both(|server| {
        remember(server);
        server.stop();
        let own = server.dir().join("online.key");
        let good = fs::read(&own).unwrap();
        fs::copy(server.dir().join("try-out-keys/release.key"), &own).unwrap();
        let id = key_id(&server.try_out_key("release.key").verifying_key());
        let message = server.serve_refused(&[]);
        let wanted = format!("the published root does not list this server's online key {id}");
        assert!(message.refused(1).contains(&wanted), "{}", message.stderr);
        fs::write(&own, good).unwrap();
        server.serve();
        remembers(server);
    });
}

#[test]
fn a_file_of_the_data_directory_that_is_damaged_missing_or_anothers_is_named() {
    on_both(|server| {
        remember(server);
        server.stop();
        let other = TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap();
        let anothers = |file: &str| Some(fs::read(other.dir().join(file)).unwrap());
        for (file, instead, said) in [
            ("server.key", anothers("server.key"), "cannot set up TLS for devices: use"),
            ("server.key", None, "cannot set up TLS for devices: read"),
            ("server.pem", Some(b"junk".to_vec()), "PEM is wanted: it holds no certificate"),
            ("device-ca.key", anothers("device-ca.key"), "cannot load the device CA: use"),
            ("device-ca.pem", Some(b"junk".to_vec()), "cannot load the device CA"),
            ("online.key", Some(b"junk".to_vec()), "cannot load the online key"),
            ("online.key", None, "cannot load the online key"),
            ("server-ca.pem", None, "server-ca.pem: No such file"),
        ] {
            let (path, good) = (server.dir().join(file), server.home().join("good"));
            fs::rename(&path, &good).unwrap();
            if let Some(bytes) = instead {
                fs::write(&path, bytes).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            }
            let message = server.serve_refused(&[]);
            let text = message.refused(1);
            assert!(text.contains(said) && text.contains(file), "{file}: {text}");
            assert_eq!(text.lines().count(), 1, "{text}");
            fs::rename(&good, &path).unwrap();
        }
        server.serve();
        remembers(server);
    });
}

#[test]
fn a_database_that_is_none_is_said_and_left_alone() {
    let mut server = TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap();
    remember(&server);
    server.stop();
    let file = server.dir().join("callboard.db");
    let good = fs::read(&file).unwrap();
    let letter = b"Dear Sir or Madam, ".repeat(500);
    fs::write(&file, &letter).unwrap();
    let message = server.serve_refused(&[]);
    assert!(message.refused(1).contains("callboard.db cannot be used"), "{}", message.stderr);
    assert!(message.refused(1).contains("file is not a database"), "{}", message.stderr);
    assert!(fs::read(&file).unwrap() == letter);
    fs::write(&file, good).unwrap();
    server.serve();
    remembers(&server);
}

#[test]
fn a_database_that_is_not_there_is_said_and_health_tells_it_from_readiness() {
    let Some(server) = TestServer::start(BINARIES, Engine::Postgres, &[]) else {
        eprintln!("skipped: needs postgres");
        return;
    };
    let nowhere = format!("{}x", server.database_url().replace("?host=", "?host=/nonexistent"));
    let mut stopped = server;
    stopped.stop();
    let message = stopped.serve_refused(&["--database-url", &nowhere]);
    assert!(message.refused(1).contains("cannot open the database: connect to the database"), "{}", message.stderr);
    stopped.serve();
    for path in ["/healthz", "/readyz"] {
        stopped.api().send_raw(callboard_tests::http::Request::get(path)).ok();
    }
}

#[test]
fn the_server_says_where_it_listens_while_it_runs() {
    on_both_with(&["poll_interval_s = 60"], |server| {
        let file = server.dir().join("run/serve.json");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(server.device_url()) && text.contains(&server.pid().to_string()), "{text}");
        server.stop();
        wait::until("the file is gone", || !file.exists());
        server.serve();
        assert!(file.exists());
    });
}

#[test]
fn without_a_root_there_are_no_tokens_and_no_releases_and_the_message_says_what_to_do() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let Some(mut server) = TestServer::prepare(BINARIES, engine) else {
            eprintln!("skipped: needs postgres");
            continue;
        };
        let made = server.cli(["init", "--no-try-out-keys", "--dir", server.dir().to_str().unwrap()]);
        assert!(made.ok().stdout.contains("next: start the service, as its user, or try it with:"), "{}", made.stdout);
        assert!(!server.dir().join("try-out-keys").exists() && !server.dir().join("root.json").exists());
        server.serve();
        let token = server.cli(["token", "create"]);
        assert!(token.refused(1).contains("publish one with callboard root publish"), "{}", token.stderr);
        assert_eq!(server.api().list::<Token>("tokens"), [], "no token is left that nobody has seen");
        let release = server.try_publish(b"{}");
        refused(&release, Code::WrongState, "no root is published yet");
        // The one that belongs to this server's key is taken, and then all is well.
        for name in ["root.key", "release.key"] {
            server.cli(["key", "new", "--out", name]).ok();
        }
        let made = ["root", "init", "--root-key", "root.key", "--release-key", "release.key.pub", "--server-url"];
        let url =
            ["https://localhost:8443", "--online-key", "data/online.key.pub", "--server-ca", "data/server-ca.pem"];
        server.cli(made.iter().chain(&url)).ok();
        server.cli(["root", "publish", "root.json"]).ok();
        server.cli(["token", "create"]).ok();
    }
}

#[test]
fn what_expires_soon_is_warned_of_and_measured() {
    /// How long `init` makes certificate and root valid, in days.
    const CERTIFICATE: u64 = 5 * 365;
    const ROOT: u64 = 548;
    on_both(|server| {
        let start = server.clock.now();
        let days = |n: u64| Duration::from_secs(n * 86_400);
        server.stop();
        let mut at = |n: u64| {
            let before = server.log().len();
            server.clock.set(start + days(n));
            server.serve();
            let left = |what: &str| server.api().metric("callboard_expiry_remaining_seconds", what) / 86_400.0;
            let (root, certificate) = (left("root"), left("server_certificate"));
            // When it has ended it has said everything.
            server.stop();
            let log =
                server.log()[before..].lines().filter(|line| line.contains("expire")).collect::<Vec<_>>().join("\n");
            (certificate, root, log)
        };
        assert_eq!(at(1), (1824.0, 547.0, String::new()));
        let (_, root, log) = at(ROOT - 60);
        assert_eq!(root, 60.0);
        assert!(log.contains("WARN the root expires at 2028-07-13T12:00:00Z, in 60 days: from then on"), "{log}");
        let (certificate, root, log) = at(CERTIFICATE - 30);
        assert_eq!((certificate, root), (30.0, -1247.0));
        assert!(log.contains("ERROR the root has expired at 2028-07-13T12:00:00Z"), "{log}");
        assert!(log.contains("WARN the server certificate expires at 2032-01-11T12:00:00Z, in 30 days"), "{log}");
        assert!(log.contains("make another with: callboard certificate renew --dir DIR"), "{log}");
        let (certificate, _, log) = at(CERTIFICATE + 1);
        assert_eq!(certificate, -1.0);
        assert!(log.contains("ERROR the server certificate has expired at 2032-01-11T12:00:00Z"), "{log}");
        let now = server.clock.now().to_string();
        let dir = server.dir();
        let old = fs::read(dir.join("server.pem")).unwrap();
        server.cli(["certificate", "renew", "--fixed-clock", &now, "--dir", dir.to_str().unwrap()]).ok();
        assert_eq!(fs::read(dir.join("server.pem.old")).unwrap(), old);
        server.serve();
        assert_eq!(server.api().metric("callboard_expiry_remaining_seconds", "server_certificate"), 1825.0 * 86_400.0);
    });
}

/// Everything that lies in a directory.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |path: PathBuf| {
        let bytes = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
        (path, bytes)
    };
    tree(dir).into_iter().map(read).collect()
}

/// A server that may not write some files says so and leaves everything as it is; it starts when it may write again.
fn refuses_to_start_without(server: &mut TestServer, files: impl Fn(&Path) -> Vec<PathBuf>, said: &str) {
    remember(server);
    server.stop();
    let paths = &files(&server.dir());
    set_writable(paths, false);
    let before = contents(&server.dir());
    let message = server.unprivileged_refused();
    assert_eq!(contents(&server.dir()).keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert!(contents(&server.dir()) == before, "something was changed");
    set_writable(paths, true);
    assert!(message.refused(1).contains(said), "{}", message.stderr);
    assert_eq!(message.stderr.trim().lines().count(), 1, "{}", message.stderr);
    server.serve();
    remembers(server);
}

#[test]
fn a_data_directory_on_a_read_only_disk_is_said_and_left_alone() {
    on_both(|server| {
        let said = format!("cannot write in {}: Permission denied", server.dir().join("run").display());
        refuses_to_start_without(server, tree, &said);
    });
}

fn unusable(file: &Path) -> String {
    format!("the file {} cannot be used; the server must be able to write there", file.display())
}

#[test]
fn a_database_file_that_cannot_be_written_is_said_and_left_alone() {
    let mut server = TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap();
    let file = server.dir().join("callboard.db");
    let said = format!("cannot open the database: {}", unusable(&file));
    refuses_to_start_without(&mut server, |_| vec![file.clone()], &said);
}

#[test]
fn a_database_directory_that_cannot_be_written_is_said_and_left_alone() {
    let mut server = TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap();
    let said = format!("cannot open the database: {}", unusable(&server.dir().join("callboard.db")));
    refuses_to_start_without(&mut server, |dir| vec![dir.to_owned()], &said);
}

#[test]
fn no_message_tells_the_password_of_the_database() {
    let mut server = TestServer::prepare(BINARIES, Engine::Sqlite).unwrap();
    server.cli(["init", "--dir", server.dir().to_str().unwrap()]).ok();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, code) in [
        (format!("postgres://callboard:s3cr3t@{nobody}/callboard"), 1),
        (format!("postgres://callboard:s3cr3t@{nobody}/callboard?sslmode=require"), 2),
        (format!("postgres://callboard:s3c/r3t@{nobody}/callboard"), 2),
        (format!("postgres://callboard:s3c@r3t@{nobody}/callboard"), 2),
        (format!("postgres://callboard:s3cr3t%@{nobody}/callboard"), 2),
        ("postgres://callboard:s3cr3t@no.such.host.invalid/callboard".to_owned(), 1),
        ("callboard:s3cr3t@127.0.0.1/callboard".to_owned(), 2),
        ("host=127.0.0.1 password=s3cr3t".to_owned(), 2),
    ] {
        let by_flag = server.serve_refused(&["--database-url", &url]);
        let setting = format!("database_url = {url:?}");
        server.configure(&[&setting]);
        let by_file = server.serve_refused(&[]);
        // A line that does not end is no TOML.
        server.configure(&[&format!("public_url = \"{url}")]);
        let by_mistake = server.serve_refused(&[]);
        for (said, code) in [(by_flag, code), (by_file, code), (by_mistake, 2)] {
            let said = said.refused(code);
            assert!(!said.contains("r3t") && said.lines().count() == 1, "{said}");
        }
        fs::write(server.dir().join("server.toml"), "").unwrap();
    }
    server.serve();
}

#[test]
fn a_database_that_takes_no_writes_is_said_and_left_alone() {
    let Some(mut server) = TestServer::start(BINARIES, Engine::Postgres, &[]) else {
        eprintln!("skipped: needs postgres");
        return;
    };
    remember(&server);
    server.stop();
    let message = server.serve_refused(&["--database-url", &read_only(&server.database_url())]);
    let said = "cannot open the database: it takes no writes";
    assert!(message.refused(1).contains(said), "{}", message.stderr);
    server.serve();
    remembers(&server);
}

/// The same database, for a session that may only read.
fn read_only(url: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options=-c%20default_transaction_read_only%3Don")
}
