//! The installer for Debian packages, `deploy/installers/dpkg`, with the real dpkg on a root directory of its own.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use callboard_proto::state::{AgentState, AssignmentState};
use callboard_tests::{
    server::{Engine, TestServer},
    till::{QUICK, Till},
    wait,
    world::rollout,
};
use serde_json::json;

use crate::{BINARIES, on_both};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/installers/dpkg");

/// Kills the agent and the program before the step that the file `halt` names, so that a power cut comes in the middle
/// of a verb. `steps` counts.
const POWER_CUT: &str = r#"
step() {
    steps=$(($(cat "$HERE/steps") + 1))
    echo $steps >"$HERE/steps"
    if [ $steps = "$(cat "$HERE/halt")" ]; then
        echo "$verb" >>"$HERE/died"
        kill -9 $PPID $$
    fi
}
flock() { step; command flock "$@"; }
cp() { step; command cp "$@"; }
mv() { step; command mv "$@"; }
dpkg() { step; command dpkg "$@"; }
"#;

/// A root directory with a package database, and the installer for it.
struct Root {
    home: tempfile::TempDir,
}

impl Root {
    /// `None` where there is no dpkg, or it may not give files to root.
    fn new(more: &str) -> Option<Self> {
        let there = Command::new("dpkg-deb").arg("--version").output().is_ok_and(|output| output.status.success());
        if !there || !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs dpkg and root");
            return None;
        }
        let root = Self { home: tempfile::Builder::new().prefix("callboard-root-").tempdir().unwrap() };
        for dir in ["root/var/lib/dpkg/info", "root/var/lib/dpkg/updates", "root/var/lib/dpkg/triggers", "lib", "debs"]
        {
            fs::create_dir_all(root.path(dir)).unwrap();
        }
        fs::write(root.path("root/var/lib/dpkg/status"), "").unwrap();
        fs::copy(SCRIPT, root.program()).unwrap();
        fs::set_permissions(root.program(), fs::Permissions::from_mode(0o755)).unwrap();
        let here = root.home.path().display();
        let conf = format!("HERE={here}\nROOT={here}/root\nSTATE={here}/state\n{more}");
        fs::write(root.path("lib/dpkg.conf"), conf).unwrap();
        for file in ["steps", "halt"] {
            fs::write(root.path(file), "0").unwrap();
        }
        let health = format!("#!/bin/sh\ngrep -vq bad {here}/root/usr/share/till-app/version\n");
        fs::write(root.path("health"), health).unwrap();
        fs::set_permissions(root.path("health"), fs::Permissions::from_mode(0o755)).unwrap();
        Some(root)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    fn program(&self) -> PathBuf {
        self.path("lib/dpkg")
    }

    /// A package of this version.
    fn deb(&self, version: &str) -> PathBuf {
        let tree = self.path("debs").join(version);
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        fs::create_dir_all(tree.join("usr/share/till-app")).unwrap();
        fs::write(tree.join("usr/share/till-app/version"), version).unwrap();
        let control = format!(
            "Package: till-app\nVersion: {version}\nArchitecture: all\nMaintainer: Nobody <nobody@example.com>\n\
             Description: a till\n"
        );
        fs::write(tree.join("DEBIAN/control"), control).unwrap();
        let deb = self.path("debs").join(format!("till-app_{version}_all.deb"));
        let built =
            Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&tree).arg(&deb).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        deb
    }

    /// What the package has put in place.
    fn runs(&self) -> Option<String> {
        fs::read_to_string(self.path("root/usr/share/till-app/version")).ok()
    }

    /// What dpkg says of the package, such as `ii 1.0`.
    fn dpkg_says(&self) -> String {
        let output = Command::new("dpkg-query")
            .arg(format!("--admindir={}", self.path("root/var/lib/dpkg").display()))
            .args(["--show", "--showformat", "${db:Status-Abbrev}${Version}", "till-app"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// A till whose product is installed by the program.
    fn till(&self, server: &TestServer, name: &str) -> Till {
        let product = format!("{QUICK}health = [{:?}]\n", self.path("health"));
        let till = server.till_via(server.device_address(), name, &product);
        till.install_by(&self.program(), 60);
        till
    }
}

/// Packages as a release, built, signed and published by the operator's commands.
fn publish(server: &TestServer, files: &[&Path], version: &str, counter: u64) {
    let out = server.home().join(format!("release-{version}"));
    let (out, counter) = (out.to_str().unwrap(), counter.to_string());
    let mut args = vec!["release", "build", "--installer", "command", "--out", out, "--product", "pos-app"];
    args.extend(["--version", version, "--counter", &counter]);
    args.extend(files.iter().flat_map(|file| ["--payload", file.to_str().unwrap()]));
    server.cli(&args).ok();
    let (envelope, key) = (format!("{out}/release.json"), server.dir().join("try-out-keys/release.key"));
    server.cli(["release", "sign", &envelope, "--key", key.to_str().unwrap()]).ok();
    server.cli(["release", "publish", out]).ok();
}

fn roll_out(server: &TestServer, till: &Till, version: &str) -> AssignmentState {
    server.roll_out(&rollout(&format!("to-{version}"), &format!("pos-app@{version}"), &json!({})));
    till.once().ok();
    server.outcome(&format!("to-{version}"), till).state
}

#[test]
fn packages_are_updated_and_the_ones_before_come_back_when_a_version_is_not_well() {
    on_both(|server| {
        let Some(root) = Root::new("") else { return };
        let till = root.till(server, "till-1");
        for (counter, version) in [(1, "1.0"), (2, "2.0"), (3, "2.1bad"), (4, "3.0")] {
            publish(server, &[&root.deb(version)], version, counter);
        }
        for version in ["1.0", "2.0"] {
            assert_eq!(roll_out(server, &till, version), AssignmentState::Succeeded);
            assert_eq!((root.runs().as_deref(), root.dpkg_says()), (Some(version), format!("ii {version}")));
        }
        assert_eq!(roll_out(server, &till, "2.1bad"), AssignmentState::RolledBack);
        assert_eq!(server.outcome("to-2.1bad", &till).failure.unwrap().code, "health_check");
        assert_eq!((root.runs().as_deref(), root.dpkg_says().as_str()), (Some("2.0"), "ii 2.0"));
        assert_eq!((till.version().as_str(), till.state(), till.fetched()), ("2.0", AgentState::Idle, 0));
        assert_eq!(roll_out(server, &till, "3.0"), AssignmentState::Succeeded);
        assert_eq!(root.runs().as_deref(), Some("3.0"));
        assert_eq!(server.registered(&till).installed[0].version.as_str(), "3.0");
        let shown = server.cli(["release", "show", "pos-app@3.0"]);
        let installer = |line: &str| line.split_whitespace().collect::<Vec<_>>() == ["installer", "command"];
        assert!(shown.ok().stdout.lines().any(installer), "{}", shown.stdout);
    });
}

#[test]
fn a_first_package_that_is_not_well_is_removed_again() {
    on_both(|server| {
        let Some(root) = Root::new("") else { return };
        let till = root.till(server, "till-1");
        publish(server, &[&root.deb("1.0bad")], "1.0bad", 1);
        assert_eq!(roll_out(server, &till, "1.0bad"), AssignmentState::RolledBack);
        assert_eq!(root.runs(), None);
        assert!(!root.dpkg_says().starts_with("ii"), "{}", root.dpkg_says());
    });
}

#[test]
fn without_a_way_back_nothing_is_installed() {
    on_both(|server| {
        let Some(root) = Root::new("") else { return };
        let till = root.till(server, "till-1");
        let image = root.deb("1.0");
        let admin = format!("--root={}", root.path("root").display());
        assert!(Command::new("dpkg").args([&admin, "--install"]).arg(&image).output().unwrap().status.success());
        publish(server, &[&root.deb("2.0")], "2.0", 1);
        assert_eq!(roll_out(server, &till, "2.0"), AssignmentState::Failed);
        let failure = server.outcome("to-2.0", &till).failure.unwrap();
        assert!(failure.text.contains("there is no way back: put the .deb of till-app 1.0 into"), "{}", failure.text);
        assert_eq!(root.runs().as_deref(), Some("1.0"));
        // As the message says.
        let current = root.path("state/pos-app/current");
        fs::create_dir_all(&current).unwrap();
        fs::copy(&image, current.join("till-app_1.0_all.deb")).unwrap();
        server.roll_out(&rollout("again", "pos-app@2.0", &json!({})));
        till.once().ok();
        assert_eq!(server.outcome("again", &till).state, AssignmentState::Succeeded);
        assert_eq!(root.dpkg_says(), "ii 2.0");
    });
}

#[test]
fn packages_that_dpkg_refuses_leave_those_before() {
    on_both(|server| {
        let Some(root) = Root::new("") else { return };
        let till = root.till(server, "till-1");
        publish(server, &[&root.deb("1.0")], "1.0", 1);
        assert_eq!(roll_out(server, &till, "1.0"), AssignmentState::Succeeded);
        let tree = root.path("debs/2.0");
        root.deb("2.0");
        let control = fs::read_to_string(tree.join("DEBIAN/control")).unwrap();
        fs::write(tree.join("DEBIAN/control"), format!("{control}Depends: no-such-package\n").replace("\n\n", "\n"))
            .unwrap();
        let deb = root.path("debs/till-app_2.0_all.deb");
        assert!(Command::new("dpkg-deb").arg("--build").arg(&tree).arg(&deb).output().unwrap().status.success());
        publish(server, &[&deb], "2.0", 2);
        assert_eq!(roll_out(server, &till, "2.0"), AssignmentState::RolledBack);
        let failure = server.outcome("to-2.0", &till).failure.unwrap();
        assert_eq!(failure.code, "installer");
        assert!(failure.text.contains("no-such-package"), "{}", failure.text);
        assert_eq!((root.runs().as_deref(), root.dpkg_says().as_str()), (Some("1.0"), "ii 1.0"));
    });
}

/// Updates again and again, each time with a power cut one step later, until one comes through without. Gives the verbs
/// in which the power went.
fn cut_everywhere(well: bool) -> BTreeSet<String> {
    let Some(root) = Root::new(POWER_CUT) else { return BTreeSet::new() };
    let server = TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap();
    let mut till = root.till(&server, "till-1");
    let set = |file: &str, value: u64| fs::write(root.path(file), value.to_string()).unwrap();
    publish(&server, &[&root.deb("1.0")], "1.0", 1);
    assert_eq!(roll_out(&server, &till, "1.0"), AssignmentState::Succeeded);
    let mut running = "1.0".to_owned();
    for halt in 1.. {
        let version = if well { format!("2.{halt}") } else { format!("2.{halt}bad") };
        publish(&server, &[&root.deb(&version)], &version, halt + 1);
        set("steps", 0);
        set("halt", halt);
        let name = format!("to-{version}");
        server.roll_out(&rollout(&name, &format!("pos-app@{version}"), &json!({})));
        let ended = |till: &Till| server.assignment(&name, till).is_some_and(|one| one.state.is_final());
        let died = || fs::read_to_string(root.path("died")).unwrap_or_default();
        let before = died();
        till.switch_on();
        wait::until("a power cut or the end", || died() != before || ended(&till));
        let cut = died() != before;
        till.kill();
        set("halt", 0);
        // Whatever dpkg was about to do: the packages to go back to are there.
        let current = root.path("state/pos-app/current");
        let old = root.path("state/pos-app/old");
        assert!(current.join("release").exists() || old.join("release").exists(), "{version}");
        if cut {
            till.switch_on();
        }
        let outcome = server.outcome(&name, &till);
        if cut {
            till.kill();
        }
        if well {
            assert_eq!(outcome.state, AssignmentState::Succeeded, "{version}: {:?}\n{}", outcome.failure, till.log());
            running = version;
        } else {
            assert_eq!(outcome.state, AssignmentState::RolledBack, "{version}: {:?}", outcome.failure);
        }
        assert_eq!((root.runs(), root.dpkg_says()), (Some(running.clone()), format!("ii {running}")));
        if !cut {
            return died().lines().map(str::to_owned).collect();
        }
        assert!(halt < 100, "so many steps no update has");
    }
    unreachable!("there are more numbers than steps")
}

fn verbs(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn a_power_cut_in_any_verb_of_an_update_of_packages_is_gone_on_from() {
    let cut = cut_everywhere(true);
    assert!(cut.is_empty() || cut == verbs(&["probe", "install", "activate", "is-active", "commit"]), "{cut:?}");
}

#[test]
fn a_power_cut_in_any_verb_of_a_rollback_of_packages_is_gone_on_from() {
    let cut = cut_everywhere(false);
    assert!(cut.is_empty() || cut == verbs(&["probe", "install", "activate", "is-active", "rollback"]), "{cut:?}");
}
