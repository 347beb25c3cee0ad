//! What follows from what, and what cannot follow.

use callboard_proto::signed::Envelope;
use clap::Parser as _;

use super::*;
use crate::{ca::ServerCa, cli::exit};

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: RotateArgs,
}

/// A directory with keys, the server's CA and a first root by two of three keys, one of them of P-256.
struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        for name in ["ann", "bob", "eve", "dan", "release", "release-2", "head", "online", "online-2"] {
            key::create(&scene.path(name)).unwrap();
        }
        ServerCa::create(scene.0.path(), now()).unwrap();
        let public = |name: &str| key::read_public(&scene.public(name)).unwrap();
        let first = init::FirstRoot {
            root_keys: &["ann", "bob", "eve"].map(public),
            threshold: None,
            release_roles: &[role::NewRole::for_all(vec![public("release")], 1)],
            head_keys: &[],
            head_threshold: 1,
            online_key: key::read_online(&scene.public("online")).unwrap(),
            servers: init::servers(
                &["https://updates.example.com:8443".to_owned()],
                &[scene.path(crate::ca::SERVER_CA_CERT)],
            )
            .unwrap(),
            expires: None,
        };
        let signers = ["ann", "bob"].map(|name| key::read_private(&scene.path(name)).unwrap());
        let (envelope, _) = init::build(&first, &signers, now()).unwrap();
        init::write(&scene.path("root.json"), &envelope).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn public(&self, name: &str) -> PathBuf {
        key::public_path(&self.path(name))
    }

    /// Runs `root rotate` with these options, where `@name` is a private key and `%name` a public one.
    fn rotate(&self, more: &str) -> anyhow::Result<Envelope> {
        let place = |word: &str| {
            let word = word.replace('@', &format!("{}/", self.0.path().display()));
            match word.split_once('%') {
                Some((before, rest)) => {
                    let (name, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                    format!("{before}{}{after}", self.public(name).display())
                }
                None => word,
            }
        };
        let (from, out) = (self.path("root.json"), self.path("next.json"));
        let fixed = ["rotate", from.to_str().unwrap(), "--out", out.to_str().unwrap()].map(str::to_owned);
        let line = Line::try_parse_from(fixed.into_iter().chain(more.split_whitespace().map(place)))?;
        let _ = std::fs::remove_file(&out);
        run(&line.args, show::Format::Json, now())?;
        crate::cli::signing::read::<Root>(&out, "")
    }

    fn first(&self) -> Verified {
        super::super::read(&self.path("root.json")).unwrap()
    }

    fn refused(&self, more: &str) -> String {
        let error = self.rotate(more).unwrap_err();
        assert_eq!(exit::code_of(&error), exit::BAD_INPUT, "{error}");
        error.to_string()
    }
}

type Verified = callboard_proto::signed::Verified<Root>;

fn now() -> Timestamp {
    "2026-11-23T02:00:00Z".parse().unwrap()
}

#[test]
fn the_next_root_is_accepted_when_the_holders_of_both_have_signed() {
    let scene = Scene::new();
    let envelope = scene.rotate("--drop-root-key %eve --add-root-key @dan --key @ann").unwrap();
    let first = scene.first();
    assert!(first.open_next(&envelope.to_json()).is_err(), "one of the old keys is missing");
    let mut envelope = envelope;
    envelope.sign(&key::read_private(&scene.path("bob")).unwrap());
    let next = first.open_next(&envelope.to_json()).unwrap();
    let dan = key::read_public(&scene.public("dan")).unwrap().id();
    let eve = key::read_public(&scene.public("eve")).unwrap().id();
    assert!(next.roles.root.keyids.contains(&dan) && !next.keys.contains_key(&eve));
    assert_eq!((next.version, next.roles.root.threshold), (2, 2));
}

#[test]
fn what_is_not_named_stays_as_it_was() {
    let scene = Scene::new();
    let next: Root = scene.rotate("--add-online-key %online-2").unwrap().claim().unwrap();
    let first = scene.first();
    let mut wanted = Root { version: 2, ..(*first).clone() };
    let second = key::read_public(&scene.public("online-2")).unwrap();
    wanted.keys.insert(second.id(), Key::new(&second));
    wanted.roles.online.keyids.push(second.id());
    assert_eq!(next, wanted);
}

#[test]
fn roles_are_added_replaced_dropped_and_begin_new_epochs() {
    let scene = Scene::new();
    let with = |more: &str| -> Root { scene.rotate(more).unwrap().claim().unwrap() };
    let root = with("--release-role release=%release-2 --new-epoch release --head-key %head --new-epoch head");
    assert_eq!((root.roles.release.len(), root.roles.release[0].epoch), (1, 1));
    assert_eq!(root.roles.head.map(|role| (role.threshold, role.epoch)), Some((1, 1)));
    let root = with("--release-role beta=%release-2,channels=beta --drop-release-role release");
    assert_eq!(root.roles.release.iter().map(|role| role.name.as_str()).collect::<Vec<_>>(), ["beta"]);
}

#[test]
fn servers_are_replaced_by_those_that_are_given_in_their_order() {
    let scene = Scene::new();
    std::fs::create_dir(scene.path("other")).unwrap();
    ServerCa::create(&scene.path("other"), now()).unwrap();
    let urls = "--server-url https://b --server-url https://a:8443";
    let with = |more: &str| -> Root { scene.rotate(&format!("{urls} {more}")).unwrap().claim().unwrap() };
    let own = with("--server-ca @server-ca.pem");
    assert_eq!(
        own.servers.iter().map(|server| server.url.as_str()).collect::<Vec<_>>(),
        ["https://b", "https://a:8443"]
    );
    assert_eq!(own.servers[0].ca_der, own.servers[1].ca_der, "one file for all");
    let each = with("--server-ca @other/server-ca.pem --server-ca @server-ca.pem");
    assert_eq!(each.servers[1], own.servers[1]);
    assert_ne!(each.servers[0].ca_der, own.servers[0].ca_der);
}

#[test]
fn what_cannot_be_is_refused() {
    let scene = Scene::new();
    let ann = key::read_public(&scene.public("ann")).unwrap().id().to_string();
    for (more, wanted) in [
        ("--drop-root-key %dan", "it is 0 of the root keys"),
        ("--drop-root-key 00000000", "it is 0 of the root keys"),
        ("--drop-online-key %online", "1 signatures of 0 keys"),
        ("--add-online-key %ann", "given twice"),
        ("--threshold 4", "4 signatures of 3 keys"),
        ("--drop-release-role none", "no such role"),
        ("--new-epoch head", "no such role"),
        ("--head-threshold 1", "no head role"),
        ("--expires 2026-01-01T00:00:00Z", "has passed"),
        ("--server-url https://a --server-ca @none.pem", "cannot read --server-ca"),
        ("--server-url https://a --server-url https://a/ --server-ca @server-ca.pem", "is given twice"),
        ("--server-url https://a --server-ca @server-ca.pem --server-ca @server-ca.pem", "1 addresses and 2 files"),
    ] {
        let said = scene.refused(more);
        assert!(said.contains(wanted), "{more}: {said}");
    }
    assert!(scene.rotate(&format!("--drop-root-key {}", &ann[..8])).is_ok(), "an id can be shortened");
}
