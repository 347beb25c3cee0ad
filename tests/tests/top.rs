//! `callboard top` on a terminal of its own: it draws, follows what happens, and gives the terminal back.

use std::{
    fs,
    io::Write as _,
    process::{Child, Command, Stdio},
};

use callboard_tests::{release::NewRelease, server::TestServer, wait, world::rollout};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::on_both;

/// What a terminal is told when a program takes the screen, and when it gives it back.
const TAKEN: &str = "\u{1b}[?1049h";
const GIVEN_BACK: &str = "\u{1b}[?1049l";

/// The command on a terminal of 40 lines, by `script` of util-linux.
struct Screen {
    script: Child,
    typed: std::path::PathBuf,
}

impl Screen {
    fn start(server: &TestServer) -> Self {
        let typed = server.home().join("typescript");
        // What the one before has drawn is no sign of this one.
        let _ = fs::remove_file(&typed);
        let top = format!("stty rows 40 cols 120; exec {} top --every 1s", server.binaries().callboard);
        let whole = server.command();
        let mut script = Command::new("script");
        script.env_clear().envs(whole.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
        script.current_dir(server.home()).args(["-q", "-f", "-e", "-c", &top]).arg(&typed);
        let script = script.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        Self { script, typed }
    }

    fn drawn(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.typed).unwrap_or_default()).into_owned()
    }

    fn until_drawn(&self, text: &str) {
        wait::until(&format!("{text} is on the screen"), || self.drawn().contains(text));
    }

    fn type_in(&mut self, keys: &str) {
        self.script.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// The process on the terminal.
    fn pid(&self) -> Pid {
        let parent = self.script.id().to_string();
        let is_child = |status: &str| status.lines().any(|line| line.strip_prefix("PPid:\t") == Some(parent.as_str()));
        let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let child = processes
            .filter_map(|name| name.parse::<i32>().ok())
            .find(|id| is_child(&fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default()));
        Pid::from_raw(child.unwrap()).unwrap()
    }

    fn ended(mut self) -> Option<i32> {
        let status = wait::until_some("top ends", || self.script.try_wait().unwrap());
        let drawn = self.drawn();
        let last = drawn.rfind(GIVEN_BACK).unwrap_or_else(|| panic!("the screen was not given back: {drawn:?}"));
        assert!(drawn.rfind(TAKEN) < Some(last), "{drawn:?}");
        status.code()
    }
}

#[test]
fn top_shows_the_fleet_until_somebody_quits() {
    on_both(|server| {
        let refused = server.cli(["top"]);
        assert!(refused.refused(2).contains("top needs a terminal"), "{}", refused.stderr);
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        let mut screen = Screen::start(server);
        screen.until_drawn("Devices");
        server.roll_out(&rollout("patch", "pos-app@2.0.0", &json!({})));
        screen.until_drawn("running");
        let once = server.cli(["top", "--once"]).ok().stdout.clone();
        assert!(once.contains("Open rollouts (1)\npatch  pos-app@2.0.0  running\n  all"), "{once}");
        assert!(once.contains("rollout.started patch"), "{once}");
        let json: serde_json::Value = server.cli(["top", "--output", "json"]).json();
        assert_eq!(json["rollouts"][0]["spec"]["name"], "patch", "{json}");
        // A server that is away is waited for.
        server.restart_after_kill();
        screen.type_in("q");
        assert_eq!(screen.ended(), Some(0));
        let screen = Screen::start(server);
        screen.until_drawn("Devices");
        kill_process(screen.pid(), Signal::TERM).unwrap();
        assert_eq!(screen.ended(), Some(0));
    });
}
