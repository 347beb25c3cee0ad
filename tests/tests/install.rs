//! `install-agent.sh` and the units of systemd: one command makes a till, and a failure leaves the till as it was.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use callboard_proto::admin::{Device, Token};
use callboard_tests::{
    machine::Machine,
    release::NewRelease,
    server::{Engine, TestServer, tree},
    till::{QUICK, Till},
    wait,
    world::rollout,
};
use serde_json::json;

use crate::{BINARIES, on_both};

const INSTALL: [&str; 6] = ["--bundle", "/kit/bundle.json", "--name", "till-1", "--product", "pos-app=/srv/pos-app"];

fn on_a_machine(test: impl Fn(&mut TestServer, Machine)) {
    on_both(|server| match Machine::new(BINARIES) {
        Some(machine) => test(server, machine),
        None => eprintln!("skipped: needs unshare"),
    });
}

/// Everything that an installer may touch: contents, mode, and whether it is the same file as before.
fn installed(machine: &Machine) -> BTreeMap<PathBuf, (Vec<u8>, u32, u64)> {
    let mut found = BTreeMap::new();
    for path in ["etc", "local", "var"].into_iter().flat_map(|dir| tree(&machine.path(dir))) {
        let meta = path.symlink_metadata().unwrap();
        let bytes = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        found.insert(path, (bytes, meta.permissions().mode() & 0o777, meta.ino()));
    }
    found
}

fn mode(machine: &Machine, path: &str) -> u32 {
    fs::metadata(machine.path(path)).unwrap().permissions().mode() & 0o777
}

/// Puts another program into the distribution: `mark` stands behind the end, where it does not matter to the program.
fn another_version(machine: &Machine, mark: &str) -> Vec<u8> {
    let program = [fs::read(BINARIES.agent).unwrap(), mark.as_bytes().to_vec()].concat();
    machine.program("kit/callboard-agent", &program);
    program
}

const PROGRAMS: [&str; 4] = ["--program", BINARIES.agent, "--launcher", BINARIES.launcher];
const BIN: &str = "local/bin/callboard-agent";
const UNIT: &str = "etc/systemd/system/callboard-agent.service";
const DROPIN: &str = "etc/systemd/system/callboard-agent.service.d/directories.conf";
const DROPIN_HEAD: &str = "# Made by install-agent.sh, of agent.toml.\n";

#[test]
fn one_command_makes_a_till_and_a_second_one_changes_nothing() {
    on_a_machine(|server, machine| {
        let machine = machine.with_systemd();
        machine.bring(&server.bundle(&json!({})));
        let first = machine.install(&INSTALL);
        assert!(first.ok().stdout.ends_with("the agent runs; see: callboard-agent status\n"), "{}", first.stdout);
        assert_eq!(
            machine.told(),
            [
                "daemon-reload",
                "enable --quiet callboard-agent.service callboard-recover.service",
                "restart callboard-agent.service"
            ]
        );
        assert_eq!([BIN, UNIT, "etc/callboard/agent.toml"].map(|path| mode(&machine, path)), [0o755, 0o644, 0o644]);
        assert_eq!(
            (mode(&machine, "var/lib/callboard"), mode(&machine, "var/lib/callboard/device.key")),
            (0o700, 0o600)
        );
        assert!(machine.read("etc/callboard/agent.toml").contains("[products.pos-app]\ndirectory = \"/srv/pos-app\""));
        assert_eq!(machine.read(DROPIN), format!("{DROPIN_HEAD}[Service]\nReadWritePaths=-/srv/pos-app\n"));

        let before = installed(&machine);
        let second = machine.install(&INSTALL);
        assert!(second.ok().stdout.contains("enrolled already: till-1 ("), "{}", second.stdout);
        assert!(installed(&machine) == before, "{}", second.stdout);
        // What runs is not disturbed.
        assert_eq!(machine.told()[2], "start callboard-agent.service");
        // Nor is a bundle needed.
        machine.install(&["--product", "pos-app=/srv/pos-app"]).ok();
        assert!(installed(&machine) == before);

        machine.run(&["callboard-agent", "run", "--once"]).ok();
        assert_eq!(server.api().get::<Device>("devices/till-1").last_seen, Some(server.clock.now()));
        let uses: Vec<u32> = server.api().list::<Token>("tokens").iter().map(|token| token.uses).collect();
        assert_eq!((server.api().list::<Device>("devices").len(), uses), (1, vec![1]));
    });
}

#[test]
fn a_till_of_one_server_is_left_alone_by_the_bundle_of_another() {
    on_a_machine(|server, machine| {
        machine.bring(&server.bundle(&json!({})));
        machine.install(&INSTALL).ok();
        let before = installed(&machine);
        let other = TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap();
        machine.bring(&other.bundle(&json!({})));
        let again = machine.install(&INSTALL);
        let told = again.ok().stdout.lines().find(|line| line.contains("enrolled already: till-1 (")).unwrap();
        assert!(told.ends_with(server.device_url()), "{told}");
        assert!(installed(&machine) == before);
        assert!(other.api().list::<Device>("devices").is_empty());
        machine.run(&["callboard-agent", "run", "--once"]).ok();
    });
}

#[test]
fn an_enrolment_that_fails_installs_nothing_and_the_next_one_is_as_the_first() {
    on_a_machine(|server, machine| {
        let machine = machine.with_systemd();
        let good = server.bundle(&json!({}));
        let other = TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap();
        let mut wrong_token = good.clone();
        wrong_token.token.push('x');
        let mut wrong_ca = good.clone();
        wrong_ca.server_ca_pem = other.bundle(&json!({})).server_ca_pem;
        let mut nobody = good.clone();
        nobody.server_url = "https://127.0.0.1:1".to_owned();
        let mut keys = Vec::new();
        for (bundle, said) in [(wrong_token, "token_invalid"), (wrong_ca, "on TLS"), (nobody, "failed to connect to")] {
            machine.bring(&bundle);
            let failed = machine.install(&INSTALL);
            let message = failed.refused(1);
            assert!(message.contains(said), "{message}");
            assert!(message.ends_with("nothing was installed. Run this again when the cause is gone"), "{message}");
            assert_eq!(machine.told(), Vec::<String>::new());
            let mut found: Vec<PathBuf> = installed(&machine).into_keys().collect();
            let own = [machine.path("var/lib/callboard"), machine.path("var/lib/callboard/device.key")];
            found.retain(|path| !own.contains(path) && path.file_name() != Some("lock".as_ref()));
            let mut bare = ["etc", "local", "local/bin", "local/sbin", "local/sbin/systemctl", "var", "var/lib"]
                .map(|path| machine.path(path));
            found.sort();
            bare.sort();
            assert_eq!(found, bare);
            keys.push(fs::read(&own[1]).unwrap());
        }
        assert!(keys.iter().all(|key| *key == keys[0]), "one device has one key, however often it tries");
        machine.bring(&good);
        machine.install(&INSTALL).ok();
        assert_eq!(fs::read(machine.path("var/lib/callboard/device.key")).unwrap(), keys[0]);
        assert_eq!(server.api().list::<Device>("devices").len(), 1);
    });
}

#[test]
fn a_newer_program_replaces_the_older_one_which_comes_back_if_the_newer_one_does_not_start() {
    on_a_machine(|server, machine| {
        let machine = machine.with_systemd();
        machine.bring(&server.bundle(&json!({})));
        machine.install(&INSTALL).ok();
        machine.told();
        let before = installed(&machine);
        another_version(&machine, "BROKEN");
        let failed = machine.install(&INSTALL);
        let said = "the new agent does not start (journalctl -u callboard-agent says why); the earlier one runs again";
        assert!(failed.refused(1).ends_with(said), "{}", failed.stderr);
        assert!(installed(&machine) == before);
        let again = ["restart callboard-agent.service", "daemon-reload", "restart callboard-agent.service"];
        assert_eq!(machine.told()[2..], again);

        let newer = another_version(&machine, "NEWER");
        machine.install(&INSTALL).ok();
        assert_eq!(machine.told().last().unwrap(), "restart callboard-agent.service");
        assert!(fs::read(machine.path(BIN)).unwrap() == newer);
        let names: Vec<PathBuf> = installed(&machine).into_keys().collect();
        assert_eq!(names, before.into_keys().collect::<Vec<_>>(), "nothing is left over");
    });
}

#[test]
fn a_program_that_does_not_fit_on_the_disk_is_said_and_the_old_one_stays() {
    on_a_machine(|server, machine| {
        machine.bring(&server.bundle(&json!({})));
        // Something runs there before the agent comes.
        let small = "mount -t tmpfs -o size=64k,mode=0755 none /usr/local && mkdir /usr/local/bin && \
                     echo old > /usr/local/bin/callboard-agent && \
                     ! sh /kit/install-agent.sh \"$@\" && cat /usr/local/bin/* && ls -A /usr/local/bin /etc/callboard";
        let output = machine.run(&[&["sh", "-c", small, "sh"], &INSTALL[..]].concat());
        let said = "cannot write /usr/local/bin/callboard-agent; nothing was installed";
        assert!(output.ok().stderr.contains(said), "{}", output.stderr);
        let end = "\nold\n/etc/callboard:\n\n/usr/local/bin:\ncallboard-agent\n";
        assert!(output.stdout.ends_with(end), "{}", output.stdout);
        // It is enrolled; all the rest is made up for.
        let again = machine.install(&INSTALL);
        assert!(again.ok().stdout.contains("enrolled already"), "{}", again.stdout);
        machine.run(&["callboard-agent", "run", "--once"]).ok();
    });
}

#[test]
fn a_fresh_till_gets_a_configuration_that_watches_its_product() {
    on_a_machine(|server, machine| {
        let machine = machine.with_systemd();
        machine.bring(&server.bundle(&json!({})));
        let health = ["--health", "pos-app=bin/health  --quick", "--service", "pos-app=pos-app.service"];
        let more = ["--product", "pos.bank=/srv/bank", "--health", "pos.bank=/bin/true"];
        let done = machine.install(&[&INSTALL[..], &health, &more].concat());
        let notes: Vec<&str> =
            done.ok().stdout.lines().filter_map(|line| line.split_once("note: ")).map(|x| x.1).collect();
        let missing = |name, dir| format!("products.{name}.directory {dir} does not exist yet");
        assert_eq!(notes, [missing("pos-app", "/srv/pos-app"), missing("pos.bank", "/srv/bank")]);
        let wanted = "\n[products.pos-app]\ndirectory = \"/srv/pos-app\"\nservice = \"pos-app.service\"\n\
                      health = [\"bin/health\", \"--quick\"]\n\
                      \n[products.\"pos.bank\"]\ndirectory = \"/srv/bank\"\nhealth = [\"/bin/true\"]\n";
        let config = machine.read("etc/callboard/agent.toml");
        assert!(config.ends_with(wanted), "{config}");
        machine.run(&["callboard-agent", "run", "--once"]).ok();
    });
}

#[test]
fn the_installer_says_what_a_configuration_lacks() {
    on_a_machine(|server, machine| {
        machine.bring(&server.bundle(&json!({})));
        let done = machine.install(&INSTALL);
        let said = "install-agent: note: products.pos-app has neither health nor service, so every update of it counts as healthy; add one";
        assert!(done.ok().stdout.contains(said), "{}", done.stdout);
        let other = Machine::new(BINARIES).unwrap();
        other.bring(&server.bundle(&json!({})));
        let done = other.install(&["--bundle", "/kit/bundle.json"]);
        assert!(done.ok().stdout.contains("note: there is no product, so nothing can be updated"), "{}", done.stdout);
        assert!(!other.path(DROPIN).exists());
    });
}

#[test]
fn a_till_may_keep_its_state_elsewhere_and_the_unit_follows() {
    on_a_machine(|server, machine| {
        let machine = machine.with_systemd();
        machine.bring(&server.bundle(&json!({})));
        fs::write(machine.path("kit/own.toml"), "state_dir = '/var/lib/pos/agent'\n[products.a]\ndirectory = '/srv/a'")
            .unwrap();
        machine.install(&["--bundle", "/kit/bundle.json", "--config", "/kit/own.toml"]).ok();
        let wanted = "[Unit]\nRequiresMountsFor=/var/lib/pos/agent\nConditionPathExists=\n\
                      ConditionPathExists=/var/lib/pos/agent/device.json\n\
                      [Service]\nStateDirectory=\nReadWritePaths=/var/lib/pos/agent\nReadWritePaths=-/srv/a\n";
        assert_eq!(machine.read(DROPIN), format!("{DROPIN_HEAD}{wanted}"));
        assert!(machine.path("var/lib/pos/agent/device.json").exists() && !machine.path("var/lib/callboard").exists());
        let before = installed(&machine);
        machine.install(&[]).ok();
        assert!(installed(&machine) == before, "a second time changes nothing");
        machine.run(&["callboard-agent", "run", "--once"]).ok();
    });
}

#[test]
fn wrong_arguments_files_and_programs_are_named_and_nothing_is_touched() {
    on_a_machine(|server, machine| {
        machine.bring(&server.bundle(&json!({})));
        let before = installed(&machine);
        let refuse = |code: i32, args: &[&str], said: &str| {
            let output = machine.install(args);
            let message = output.refused(code);
            assert!(message.contains(said), "{args:?}: {message:?} does not say {said:?}");
            assert!(installed(&machine) == before, "{args:?} changed something");
        };
        let with = |more: &[&'static str]| [&INSTALL[..], more].concat();
        refuse(2, &[], "this device is not enrolled, and the enrolment bundle is missing; see --help");
        refuse(2, &["--bundle", "/kit/none.json"], "cannot read the bundle /kit/none.json");
        refuse(2, &["--bundle"], "--bundle needs a value; see --help");
        refuse(2, &["--colour", "red"], "unknown argument: --colour; see --help");
        refuse(2, &with(&["--product", "pos-app"]), "--product pos-app: wanted is NAME=/DIRECTORY");
        refuse(2, &with(&["--product", "a=/b c"]), "only letters, digits and . _ - / are allowed");
        refuse(2, &with(&["--program", "/kit/none"]), "there is no program at /kit/none; put callboard-agent beside");
        refuse(2, &with(&["--program", "/kit"]), "there is no program at /kit;");
        refuse(
            2,
            &with(&["--launcher", "/kit/none"]),
            "there is no launcher at /kit/none; put callboard-launcher beside",
        );
        refuse(2, &with(&["--config", "/kit/none.toml"]), "cannot read the configuration /kit/none.toml");
        refuse(1, &with(&["--hw", "a'b"]), "the configuration is not valid; nothing was changed");
        fs::write(machine.path("kit/bad.toml"), "polling = 5").unwrap();
        refuse(1, &with(&["--config", "/kit/bad.toml"]), "line 1: invalid type");
        refuse(2, &with(&["--health", "pos-app"]), "--health pos-app: wanted is NAME=health");
        refuse(2, &with(&["--health", "pos-app=a;b"]), "only letters, digits, spaces and");
        refuse(2, &with(&["--service", "pos=x.service"]), "--health and --service need a --product pos=/DIRECTORY");
        for (line, said) in [
            ("state_dir = '/home/pos'", "directory /home/pos: the unit sees nothing there"),
            ("state_dir = '/tmp/pos'", "directory /tmp/pos: the unit sees nothing there"),
            ("state_dir = '/data/a b'", "directory /data/a b: the unit takes only letters, digits and . _ - /"),
            ("products.a.directory = '/root/a'", "directory /root/a: the unit sees nothing there"),
        ] {
            fs::write(machine.path("kit/odd.toml"), line).unwrap();
            refuse(2, &with(&["--config", "/kit/odd.toml"]), said);
        }
        fs::write(machine.path("kit/bundle.json"), "{}").unwrap();
        refuse(1, &INSTALL, "/kit/bundle.json: not an enrolment bundle");

        // Another machine's program: only the field that names the processor differs.
        let mut foreign = fs::read(machine.path("kit/callboard-agent")).unwrap();
        foreign[18..20].copy_from_slice(&0x7ffe_u16.to_le_bytes());
        machine.program("kit/foreign", &foreign);
        let said = "/kit/foreign does not run on this machine (another architecture?); nothing was changed";
        refuse(1, &with(&["--program", "/kit/foreign"]), said);
        machine.program("kit/half", &foreign[..5000]);
        refuse(1, &with(&["--program", "/kit/half"]), "/kit/half does not run on this machine");
        refuse(1, &with(&["--program", "/bin/true"]), "/bin/true does not run on this machine");
        refuse(1, &with(&["--launcher", "/bin/true"]), "/bin/true does not run on this machine");
        assert!(server.api().list::<Device>("devices").is_empty());
        assert!(
            machine.install(&["--help"]).ok().stdout.starts_with("usage: install-agent.sh --bundle FILE [options]")
        );
    });
}

const LAUNCHER: &str = "local/bin/callboard-launcher";
const CONFIG: &str = "etc/callboard/agent.toml";

#[test]
fn a_till_from_before_there_was_a_launcher_gets_one_and_updates_its_agent_from_then_on() {
    on_a_machine(|server, machine| {
        let machine = machine.with_systemd();
        machine.bring(&server.bundle(&json!({})));
        machine.install(&INSTALL).ok();
        let config = "# By hand.\n[products.pos-app]\ndirectory = \"/srv/pos-app\"";
        fs::write(machine.path(CONFIG), config).unwrap();
        fs::set_permissions(machine.path(CONFIG), fs::Permissions::from_mode(0o640)).unwrap();
        fs::remove_file(machine.path(LAUNCHER)).unwrap();
        let unit = machine.read(UNIT);
        fs::write(machine.path(UNIT), unit.replace("callboard-launcher", "callboard-agent")).unwrap();
        machine.told();

        machine.install(&[]).ok();
        assert_eq!(machine.read(UNIT), unit);
        let own = "# The agent updates itself; added by install-agent.sh.\n\
                   [products.callboard-agent]\ndirectory = \"/opt/callboard-agent\"\n";
        assert_eq!((machine.read(CONFIG), mode(&machine, CONFIG)), (format!("{config}\n{own}"), 0o640));
        assert_eq!(mode(&machine, LAUNCHER), 0o755);
        assert_eq!(machine.told().last().unwrap(), "restart callboard-agent.service");
        machine.run(&["callboard-launcher", "run", "--once"]).ok();
        let installed_now = server.api().get::<Device>("devices/till-1").installed;
        let agent = installed_now.iter().find(|one| one.product.as_str() == "callboard-agent").unwrap();
        assert_eq!(agent.version.as_str(), env!("CARGO_PKG_VERSION"));

        let before = installed(&machine);
        machine.install(&[]).ok();
        assert!(installed(&machine) == before, "a second time changes nothing");
        // Who does not want that says so.
        fs::write(machine.path(CONFIG), config).unwrap();
        machine.install(&["--no-self-update"]).ok();
        assert_eq!(machine.read(CONFIG), config);
    });
}

#[test]
fn uninstalling_leaves_the_device_and_a_later_installation_finds_it() {
    on_a_machine(|server, machine| {
        let machine = machine.with_systemd();
        machine.bring(&server.bundle(&json!({})));
        machine.install(&INSTALL).ok();
        machine.run(&["callboard-launcher", "run", "--once"]).ok();
        assert!(machine.path("opt/callboard-agent/launch.0").exists());
        machine.told();
        let done = machine.install(&["--uninstall"]);
        assert!(done.ok().stdout.contains("the state directory and the products stay"), "{}", done.stdout);
        let stop = ["disable --quiet --now callboard-agent.service", "disable --quiet callboard-recover.service"];
        assert_eq!(machine.told(), [&stop[..], &["daemon-reload"]].concat());
        let recover = "etc/systemd/system/callboard-recover.service";
        for gone in [BIN, LAUNCHER, UNIT, DROPIN, recover, "opt/callboard-agent"] {
            assert!(!machine.path(gone).exists(), "{gone}");
        }
        machine.install(&["--uninstall"]).ok();
        let again = machine.install(&[]);
        assert!(again.ok().stdout.contains("enrolled already: till-1 ("), "{}", again.stdout);
        machine.run(&["callboard-launcher", "run", "--once"]).ok();
        assert_eq!(server.api().list::<Device>("devices").len(), 1);
    });
}

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file)
}

#[test]
fn into_an_image_the_agent_is_installed_and_nothing_is_enrolled() {
    let image = tempfile::tempdir().unwrap();
    let install = || {
        let mut command = Command::new("sh");
        command.arg(deploy("install-agent.sh")).args(PROGRAMS).arg("--root").arg(image.path());
        command.args(["--product", "pos-app=/opt/pos-app", "--hw", "m440"]).output().unwrap()
    };
    let first = install();
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let names = |path: &Path| path.strip_prefix(image.path()).unwrap().display().to_string();
    let files: Vec<String> = tree(image.path()).iter().filter(|path| path.is_file()).map(|path| names(path)).collect();
    assert_eq!(
        files,
        [
            "etc/callboard/agent.toml",
            "etc/systemd/system/callboard-agent.service",
            "etc/systemd/system/callboard-recover.service",
            "usr/local/bin/callboard-agent",
            "usr/local/bin/callboard-launcher",
            DROPIN,
            "etc/systemd/system/callboard-recover.service.d/before.conf",
        ]
    );
    let times = || tree(image.path()).iter().map(|path| path.metadata().unwrap().ino()).collect::<Vec<_>>();
    let before = times();
    assert!(install().status.success());
    assert_eq!(times(), before);

    // Another product may be written besides, and the first one still.
    let mut command = Command::new("sh");
    command.arg(deploy("install-agent.sh")).args(PROGRAMS).arg("--root").arg(image.path());
    assert!(command.args(["--product", "os=/srv/os"]).status().unwrap().success());
    let both = format!("{DROPIN_HEAD}[Service]\nReadWritePaths=-/opt/pos-app\nReadWritePaths=-/srv/os\n");
    assert_eq!(fs::read_to_string(image.path().join(DROPIN)).unwrap(), both);
}

#[test]
fn copies_of_an_image_with_a_bundle_become_devices_of_their_own() {
    on_both(|server| {
        let image = tempfile::tempdir().unwrap();
        let file = image.path().join("bundle.json");
        let install = |config: &str| {
            let toml = image.path().join("wanted.toml");
            fs::write(&toml, config).unwrap();
            let mut command = Command::new("sh");
            command.arg(deploy("install-agent.sh")).args(PROGRAMS).arg("--root");
            command.arg(image.path().join("root")).arg("--bundle").arg(&file).arg("--config").arg(&toml);
            let output = command.output().unwrap();
            (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
        };
        let config = "state_dir = '/data/callboard'\n[products.pos-app]\ndirectory = '/opt/pos-app'\n";
        fs::write(&file, "{}").unwrap();
        let (installed, said) = install(config);
        assert!(
            !installed && said.contains("not an enrolment bundle") && said.contains("nothing was changed"),
            "{said}"
        );
        assert!(!image.path().join("root/etc/callboard").exists());
        fs::write(&file, serde_json::to_vec(&server.bundle(&json!({ "max_uses": 2 }))).unwrap()).unwrap();
        let (installed, said) = install(config);
        assert!(installed, "{said}");
        let there = |path: &str| image.path().join("root").join(path);
        assert_eq!(there("etc/callboard/bundle.json").metadata().unwrap().permissions().mode() & 0o777, 0o600);
        for unit in ["callboard-enrol", "callboard-agent"] {
            let wanted = there("etc/systemd/system/multi-user.target.wants").join(format!("{unit}.service"));
            assert_eq!(fs::read_link(wanted).unwrap(), Path::new(&format!("../{unit}.service")));
        }
        let state = fs::read_to_string(there("etc/systemd/system/callboard-enrol.service.d/state.conf")).unwrap();
        assert!(state.contains("ReadWritePaths=/data/callboard\n"), "{state}");
        // What the unit does at the first start of each copy.
        for name in ["till-1", "till-2"] {
            let till = Till::new(BINARIES.agent, name, QUICK);
            fs::copy(there("etc/callboard/bundle.json"), till.bundle()).unwrap();
            till.command(&["enrol", "--bundle", till.bundle().to_str().unwrap(), "--name", name]).ok();
            till.once().ok();
        }
    });
}

#[test]
fn a_machine_that_is_to_be_copied_forgets_which_device_it_is_and_keeps_what_it_runs() {
    on_both(|server| {
        NewRelease::new("pos-app", "1.1.0", 1).with(|release| release.min_floor = 1).publish(server);
        let mut till = server.till("till-1");
        server.roll_out(&rollout("r", "pos-app@1.1.0", &json!({})));
        till.once().ok();
        server.outcome("r", &till);
        assert!(till.command(&["prepare-image"]).refused(2).contains("add --forget-this-device"));
        till.once().ok();
        till.switch_on();
        wait::until("the agent runs", || till.log().contains("started"));
        let refused = till.command(&["prepare-image", "--forget-this-device"]);
        assert!(refused.refused(1).contains("another callboard-agent is running on it"), "{}", refused.stderr);
        till.switch_off();
        let key = fs::read(till.state_dir().join("device.key")).unwrap();
        for _ in 0..2 {
            till.command(&["prepare-image", "--forget-this-device"]).ok();
        }
        let left: Vec<String> = fs::read_dir(till.state_dir())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(left.iter().all(|name| ["lock", "products", "releases"].contains(&name.as_str())), "{left:?}");
        assert!(till.once().refused(2).contains("this device is not enrolled"));
        fs::write(till.bundle(), serde_json::to_vec(&server.bundle(&json!({}))).unwrap()).unwrap();
        till.command(&["enrol", "--bundle", till.bundle().to_str().unwrap(), "--name", "till-2"]).ok();
        till.once().ok();
        assert_ne!(fs::read(till.state_dir().join("device.key")).unwrap(), key);
        let copy: Device = server.api().get("devices/till-2");
        assert_eq!((copy.installed[0].version.to_string().as_str(), copy.installed[0].floor), ("1.1.0", 1));
        // The device that it was is another one in the registry.
        assert_ne!(copy.id, server.registered(&till).id);
    });
}

#[test]
fn the_serial_number_may_stand_in_a_file_of_the_machine() {
    on_both(|server| {
        let till = Till::new(BINARIES.agent, "till-1", QUICK);
        let config = fs::read_to_string(till.config()).unwrap();
        let file = till.home().join("serial");
        fs::write(till.config(), format!("serial_file = {file:?}\n{config}")).unwrap();
        // As where an image is built.
        till.command(&["config", "check"]).ok();
        fs::write(till.bundle(), serde_json::to_vec(&server.bundle(&json!({}))).unwrap()).unwrap();
        let enrol = ["enrol", "--bundle", till.bundle().to_str().unwrap(), "--name", "till-1"].map(str::to_owned);
        let enrol: Vec<&str> = enrol.iter().map(String::as_str).collect();
        assert!(till.command(&enrol).refused(2).contains("serial_file "));
        fs::write(&file, "\n").unwrap();
        assert!(till.command(&enrol).refused(2).contains("serial_file must be 1 to 128 bytes"));
        fs::write(&file, "VF-0001\n").unwrap();
        till.command(&["enrol", "--bundle", till.bundle().to_str().unwrap(), "--name", "till-1"]).ok();
        assert_eq!(server.registered(&till).serial.as_deref(), Some("VF-0001"));
    });
}

/// Runs a tool that finds fault with files; `None` where there is none.
fn faults(tool: &str, args: &[&str], file: &Path) -> Option<String> {
    match Command::new(tool).args(args).arg(file).output() {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8(said).unwrap();
            Some(if output.status.success() { said } else { format!("{}\n{said}", output.status) })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: needs {tool}");
            None
        }
        Err(error) => panic!("{tool}: {error}"),
    }
}

#[test]
fn the_installers_are_scripts_for_any_shell() {
    for script in ["install-agent.sh", "installers/dpkg"].map(deploy) {
        assert_eq!(faults("sh", &["-n"], &script).unwrap(), "");
        assert_eq!(faults("shellcheck", &["--shell=sh"], &script).unwrap_or_default(), "");
    }
}

#[test]
fn systemd_understands_the_units() {
    let dir = tempfile::tempdir().unwrap();
    for (name, installed, program) in [
        ("callboard-server.service", "/usr/local/bin/callboard ", BINARIES.callboard),
        ("callboard-agent.service", "/usr/local/bin/callboard-launcher ", BINARIES.launcher),
        ("callboard-enrol.service", "/usr/local/bin/callboard-agent ", BINARIES.agent),
        ("callboard-recover.service", "/usr/local/bin/callboard-agent ", BINARIES.agent),
    ] {
        let unit = fs::read_to_string(deploy(name)).unwrap();
        // What it runs is looked for as well, and is not installed here.
        assert!(unit.contains(installed), "{name}");
        let unit = unit.replace(installed, &format!("{program} "));
        fs::write(dir.path().join(name), unit).unwrap();
        let said = faults("systemd-analyze", &["verify", "--man=no", "--recursive-errors=no"], &dir.path().join(name));
        assert_eq!(said.unwrap_or_default(), "", "{name}");
    }
}
