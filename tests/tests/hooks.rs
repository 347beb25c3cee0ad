//! Hooks and inhibitors of the real agent: a till that is in use, a hook that hangs, data that come back, no way back.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use callboard_proto::{
    admin::Explanation,
    state::{AgentState, AssignmentState},
};
use callboard_tests::{
    server::TestServer,
    till::{QUICK, Till},
    wait,
    world::rollout,
};
use serde_json::json;

use crate::on_both;

/// A till, and a directory beside it for whatever its point of sale keeps.
struct Shop {
    till: Till,
    home: tempfile::TempDir,
}

impl Shop {
    fn open(server: &TestServer) -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name).display().to_string();
        let hooks = format!(
            "{QUICK}[hooks]\ndirectory = {:?}\ninhibit_directory = {:?}\nretry_s = 1\n",
            path("hooks.d"),
            path("inhibit.d")
        );
        let mut till = server.till_via(server.device_address(), "till-1", &hooks);
        till.switch_on();
        Self { till, home }
    }

    /// A file beside the till, as a shell writes it.
    fn file(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// Builds, signs and publishes a release with these hooks, by the operator's commands.
    fn publish(&self, server: &TestServer, version: &str, counter: u64, hooks: &[(&str, &str)], more: &[&str]) {
        let tree = server.home().join(format!("tree-{version}"));
        fs::create_dir_all(tree.join("hooks")).unwrap();
        fs::write(tree.join("version"), version).unwrap();
        let out = server.home().join(format!("release-{version}")).display().to_string();
        let (counter, from) = (counter.to_string(), tree.display().to_string());
        let words = ["release", "build", &from, "--out", &out, "--product", "pos-app", "--version", version];
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        words.extend(["--counter".to_owned(), counter]);
        for (stage, script) in hooks {
            let stage_name = stage.split(':').next().unwrap();
            let path = tree.join("hooks").join(stage_name);
            fs::write(&path, format!("#!/bin/sh\nset -eu\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            let length = stage.split_once(':').map(|(_, length)| format!(":{length}")).unwrap_or_default();
            words.extend(["--hook".to_owned(), format!("{stage_name}=hooks/{stage_name}{length}")]);
        }
        words.extend(more.iter().map(|word| (*word).to_owned()));
        server.cli(words.iter().map(String::as_str)).ok();
        let key = server.dir().join("try-out-keys/release.key");
        server.cli(["release", "sign", &format!("{out}/release.json"), "--key", key.to_str().unwrap()]).ok();
        server.cli(["release", "publish", &out]).ok();
    }

    fn roll_out(server: &TestServer, version: &str) {
        let spec = json!({ "max_attempts": 1 });
        server.roll_out(&rollout(&format!("to-{version}"), &format!("pos-app@{version}"), &spec));
    }

    fn runs(&self, version: &str) -> bool {
        self.till.runs("version").is_some_and(|found| found == version.as_bytes())
    }
}

/// What operators read about why the till does not switch.
fn told(server: &TestServer) -> Option<(String, String)> {
    let explained: Explanation = server.api().get("devices/till-1/explain");
    let failure = explained.rollouts.first()?.failure.clone()?;
    Some((failure.code, failure.text))
}

#[test]
fn a_till_with_an_open_sale_waits_says_why_and_switches_when_it_is_closed() {
    on_both(|server| {
        let shop = Shop::open(server);
        let sale = shop.file("open-sale");
        fs::write(&sale, "4711").unwrap();
        let drain = format!("if [ -e {sale} ]; then echo \"sale $(cat {sale}) is open\"; exit 75; fi");
        shop.publish(server, "2.0.0", 1, &[("pre-activate", &drain)], &[]);
        Shop::roll_out(server, "2.0.0");
        let asked = || shop.till.log().matches("the switch is put off").count();
        wait::until("the till was asked again and again", || asked() > 2);
        let why = wait::until_some("the server has heard why", || told(server));
        assert_eq!(why, ("hook_deferred".to_owned(), "hook hooks/pre-activate: sale 4711 is open".to_owned()));
        let explained = server.cli(["device", "explain", "till-1"]);
        let shown = &explained.ok().stdout;
        assert!(shown.contains("sale 4711 is open"), "{shown}");
        assert!(shop.till.runs("version").is_none());
        fs::remove_file(&sale).unwrap();
        assert_eq!(server.outcome("to-2.0.0", &shop.till).state, AssignmentState::Succeeded);
        assert!(shop.runs("2.0.0"));
    });
}

#[test]
fn a_file_on_the_device_puts_the_switch_off_and_only_what_was_signed_ends_that() {
    on_both(|server| {
        let shop = Shop::open(server);
        fs::create_dir(shop.file("inhibit.d")).unwrap();
        let file = shop.file("inhibit.d/settlement");
        fs::write(&file, "end of day\n").unwrap();
        shop.publish(server, "2.0.0", 1, &[], &[]);
        Shop::roll_out(server, "2.0.0");
        let why = wait::until_some("the server has heard why", || told(server));
        assert_eq!(why, ("inhibited".to_owned(), "settlement: end of day".to_owned()));
        fs::remove_file(&file).unwrap();
        assert_eq!(server.outcome("to-2.0.0", &shop.till).state, AssignmentState::Succeeded);
        // A person, and a release that waits for nobody.
        fs::write(shop.file("inhibit.d/postponed-by-ada"), "").unwrap();
        shop.publish(server, "2.1.0", 2, &[], &["--max-postpone", "0"]);
        Shop::roll_out(server, "2.1.0");
        assert_eq!(server.outcome("to-2.1.0", &shop.till).state, AssignmentState::Succeeded);
        assert!(shop.runs("2.1.0"));
    });
}

#[test]
fn a_hook_that_hangs_is_ended_with_its_grandchild_and_all_it_has_said_is_told() {
    on_both(|server| {
        let shop = Shop::open(server);
        let pid = shop.file("pid");
        // In a session of its own, and deaf.
        let inner = format!("trap '' TERM; echo $$ > {pid}.new; mv {pid}.new {pid}; while :; do sleep 1; done");
        let hangs = format!("echo locking the till\nsetsid sh -c \"{}\" &\nwait", inner.replace('$', "\\$"));
        let unlock = format!("echo unlocked > {}", shop.file("unlocked"));
        shop.publish(server, "2.0.0", 1, &[("pre-activate:2s", &hangs), ("failure", &unlock)], &[]);
        Shop::roll_out(server, "2.0.0");
        let ended = server.outcome("to-2.0.0", &shop.till);
        assert_eq!(ended.state, AssignmentState::Failed);
        let failure = ended.failure.unwrap();
        assert_eq!(failure.code, "hook_timeout");
        assert!(failure.text.contains("not finished after 2 s") && failure.text.contains("locking the till"));
        let pid = shop.read("pid");
        assert!(!pid.is_empty(), "it has run");
        let stat = format!("/proc/{}/stat", pid.trim());
        wait::until("the grandchild is gone", || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")));
        wait::until("what the hook had begun is undone", || shop.read("unlocked") == "unlocked\n");
        assert!(shop.till.runs("version").is_none());
    });
}

#[test]
fn data_that_a_version_has_spoilt_come_back_with_the_version_before() {
    on_both(|server| {
        let shop = Shop::open(server);
        let data = shop.file("data");
        fs::write(&data, "1, 2, 3\n").unwrap();
        shop.publish(server, "1.0.0", 1, &[], &[]);
        Shop::roll_out(server, "1.0.0");
        assert_eq!(server.outcome("to-1.0.0", &shop.till).state, AssignmentState::Succeeded);
        let hooks = [
            ("backup", format!("cp {data} \"$CALLBOARD_BACKUP_DIR/data\"")),
            // The new version changes the format, and then there is a sale.
            ("post-activate", format!("echo 'new 1 2 3 sale-4' > {data}")),
            ("health", "echo not well; exit 1".to_owned()),
            // What was written since is carried over by the hook, which has both.
            (
                "restore",
                format!(
                    "since=$(grep -o 'sale-[0-9]*' {data} || :)\ncp \"$CALLBOARD_BACKUP_DIR/data\" {data}.new\n\
                     echo \"$since\" >> {data}.new\nmv {data}.new {data}\ntest \"$CALLBOARD_BACKUP_AT\" -gt 0"
                ),
            ),
            ("post-rollback", format!("cat {data} > {}", shop.file("seen"))),
        ];
        let hooks: Vec<_> = hooks.iter().map(|(stage, script)| (*stage, script.as_str())).collect();
        shop.publish(server, "2.0.0", 2, &hooks, &["--rollback", "needs_backup"]);
        Shop::roll_out(server, "2.0.0");
        let ended = server.outcome("to-2.0.0", &shop.till);
        assert_eq!(ended.state, AssignmentState::RolledBack);
        let failure = ended.failure.unwrap();
        assert!(failure.code == "hook_failed" && failure.text.contains("not well"), "{failure:?}");
        assert!(shop.runs("1.0.0"));
        assert_eq!(shop.read("data"), "1, 2, 3\nsale-4\n");
        assert_eq!(shop.read("seen"), shop.read("data"), "the data were back before the previous version was");
        // Without a backup nothing is switched.
        shop.publish(
            server,
            "3.0.0",
            3,
            &[("backup", "echo no room; exit 3"), ("restore", "exit 0")],
            &["--rollback", "needs_backup"],
        );
        Shop::roll_out(server, "3.0.0");
        let ended = server.outcome("to-3.0.0", &shop.till);
        assert_eq!((ended.state, ended.failure.unwrap().code.as_str()), (AssignmentState::Failed, "hook_failed"));
        assert!(shop.runs("1.0.0"));
    });
}

#[test]
fn a_device_without_a_way_back_stops_where_it_is() {
    on_both(|server| {
        let shop = Shop::open(server);
        shop.publish(server, "1.0.0", 1, &[], &[]);
        Shop::roll_out(server, "1.0.0");
        assert_eq!(server.outcome("to-1.0.0", &shop.till).state, AssignmentState::Succeeded);
        shop.publish(server, "2.0.0", 2, &[("health", "exit 1")], &["--rollback", "forbidden"]);
        Shop::roll_out(server, "2.0.0");
        assert_eq!(server.outcome("to-2.0.0", &shop.till).state, AssignmentState::Failed);
        assert!(shop.runs("2.0.0"));
        assert_eq!(shop.till.state(), AgentState::Inconsistent);
        // A person has looked at it.
        let mut shop = shop;
        assert_eq!(shop.till.command(&["resolve", "--keep"]).code, Some(1), "the agent runs");
        shop.till.switch_off();
        shop.till.command(&["resolve", "--keep"]).ok();
        assert!(shop.till.command(&["resolve", "--keep"]).refused(2).contains("there is nothing to decide"));
        shop.till.switch_on();
        shop.till.wait_for("2.0.0");
    });
}

#[test]
fn the_owners_hooks_run_too_and_none_that_others_may_write() {
    on_both(|server| {
        let shop = Shop::open(server);
        let stage = shop.file("hooks.d/pre-activate");
        fs::create_dir_all(&stage).unwrap();
        let hook = Path::new(&stage).join("10-lamp");
        fs::write(&hook, format!("#!/bin/sh\necho \"$1 $CALLBOARD_RELEASE\" > {}\n", shop.file("lamp"))).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o775)).unwrap();
        shop.publish(server, "1.0.0", 1, &[], &[]);
        Shop::roll_out(server, "1.0.0");
        let ended = server.outcome("to-1.0.0", &shop.till);
        assert_eq!((ended.state, ended.failure.unwrap().code.as_str()), (AssignmentState::Failed, "hook_unsafe"));
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        shop.publish(server, "1.1.0", 2, &[], &[]);
        Shop::roll_out(server, "1.1.0");
        assert_eq!(server.outcome("to-1.1.0", &shop.till).state, AssignmentState::Succeeded);
        assert_eq!(shop.read("lamp"), "pre-activate 1.1.0\n");
    });
}
