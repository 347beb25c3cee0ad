//! The pages' commands: every one is understood, and the README's way to production leads there.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use callboard_proto::{admin::Rollout, enrol::Bundle};
use callboard_tests::{
    server::{Engine, TestServer},
    till::{QUICK, Till},
};

use crate::BINARIES;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The pages, each with its name.
fn pages() -> Vec<(String, String)> {
    let dirs = ["", "deploy", "proto-docs"].map(|dir| Path::new(ROOT).join(dir));
    let files = dirs.iter().flat_map(|dir| fs::read_dir(dir).unwrap()).map(|entry| entry.unwrap().path());
    let mut pages: Vec<(String, String)> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap()))
        .collect();
    pages.sort();
    pages
}

/// The blocks that show what is typed, with lines that go on put together.
fn blocks(page: &str) -> Vec<String> {
    page.split("```text\n").skip(1).map(|rest| rest.split("```").next().unwrap().replace("\\\n", " ")).collect()
}

/// A shell's words of one line, and its operators; what is quoted is one word. A comment ends it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(mark), c) if c == mark => quote = None,
            (Some('\''), c) => word.push(c),
            (_, '\\') => word.extend(chars.next()),
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => (quote, begun) = (Some(c), true),
            (None, '#') if word.is_empty() && !begun => break,
            (None, c) if c.is_whitespace() || "|&;()<>".contains(c) => {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
                if !c.is_whitespace() {
                    words.push(c.to_string());
                }
            }
            (None, c) => word.push(c),
        }
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    words
}

/// The arguments of every call of `program` in a line.
fn calls(line: &str, program: &str) -> Vec<Vec<String>> {
    let line = line.trim_start().trim_start_matches("$ ");
    let words = words(line);
    let parts = words.split(|word| "|&;()<>".contains(word.as_str()) || ["do", "then"].contains(&word.as_str()));
    let calls = parts.filter_map(|part| {
        let at = part.iter().position(|word| !word.contains('=') && word != "export")?;
        let own = Path::new(&part[at]).file_name().is_some_and(|name| name == program);
        own.then(|| part[at + 1..].to_vec())
    });
    calls.collect()
}

/// Whether the program knows these arguments: with `--help` behind them nothing is carried out.
fn understood(binary: &str, args: &[String]) -> Result<(), String> {
    let help = if args.last().is_some_and(|last| last == "--help") { None } else { Some("--help".to_owned()) };
    let done = Command::new(binary).env_clear().args(args.iter().cloned().chain(help)).output().unwrap();
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}

#[test]
fn every_command_of_the_pages_is_understood() {
    let mut found = 0;
    for (name, page) in pages() {
        let typed = blocks(&page).into_iter().flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>());
        let inline = page.replace("```", "").split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        for line in typed.chain(inline) {
            for (program, binary) in [("callboard", BINARIES.callboard), ("callboard-agent", BINARIES.agent)] {
                for args in calls(&line, program) {
                    if let Err(said) = understood(binary, &args) {
                        panic!("{name}: {line}\n{args:?}: {said}");
                    }
                    found += 1;
                }
            }
        }
    }
    assert!(found > 60, "only {found} commands were found");
}

/// The words of every command: nouns with their verbs.
fn commands(words: &[&str], found: &mut Vec<Vec<String>>) {
    let help = help_of(words);
    let Some((_, below)) = help.split_once("Commands:\n") else {
        return found.push(words.iter().map(|word| (*word).to_owned()).collect());
    };
    for line in below.lines().take_while(|line| line.starts_with("  ")) {
        let name = line.split_whitespace().next().unwrap();
        if !line.starts_with("   ") && name != "help" {
            commands(&[words, &[name]].concat(), found);
        }
    }
}

fn help_of(words: &[&str]) -> String {
    let help = Command::new(BINARIES.callboard).env_clear().args(words).arg("--help").output().unwrap();
    assert!(help.status.success(), "{words:?}: {}", String::from_utf8_lossy(&help.stderr));
    String::from_utf8(help.stdout).unwrap()
}

#[test]
fn every_example_of_a_help_is_understood_and_is_one_of_that_command() {
    let (mut all, mut examples) = (Vec::new(), 0);
    commands(&[], &mut all);
    assert!(all.len() > 40, "{all:?}");
    for words in &all {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let help = help_of(&words);
        let lines =
            help.split_once("Examples:\n").map_or("", |(_, lines)| lines).lines().filter(|line| !line.is_empty());
        for line in lines {
            let args = calls(line, "callboard").concat();
            assert_eq!(args[..words.len()], words, "{line}");
            understood(BINARIES.callboard, &args).unwrap_or_else(|said| panic!("{line}: {said}"));
            examples += 1;
        }
    }
    assert!(examples >= 18, "only {examples} examples");
}

/// The README's commands for production, but those that change the machine: installing, users, units, the till.
#[test]
fn the_readme_leads_to_an_updated_till() {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let section = readme.split("## Five minutes to production").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut server = TestServer::prepare(BINARIES, Engine::Sqlite).unwrap();
    let (home, bin) = (server.home().to_owned(), server.home().join("bin"));
    fs::create_dir(&bin).unwrap();
    symlink(BINARIES.callboard, bin.join("callboard")).unwrap();
    fs::create_dir_all(home.join("pos-app/bin")).unwrap();
    fs::write(home.join("pos-app/version"), "1.0.0").unwrap();
    let data = server.dir();
    let mut till = None;
    let lines: Vec<String> =
        blocks(section).iter().flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    for line in &lines {
        let program = line.split(' ').next().unwrap();
        match program {
            "cargo" | "install" | "useradd" | "chown" => {}
            "systemctl" if line.contains("enable --now") => {
                server.serve();
                for file in ["online.key.pub", "server-ca.pem"] {
                    fs::copy(data.join(file), home.join(file)).unwrap();
                }
            }
            "systemctl" => {}
            "sh" => {
                let known = Till::new(BINARIES.agent, "till-1", QUICK);
                let bundle = home.join(calls(line, "sh")[0][2].as_str());
                let mut bundle: Bundle = serde_json::from_slice(&fs::read(bundle).unwrap()).unwrap();
                assert_eq!(bundle.server_url, "https://updates.example.com:8443");
                bundle.server_url = format!("https://{}", server.device_address());
                fs::write(known.bundle(), serde_json::to_vec(&bundle).unwrap()).unwrap();
                known.command(&["enrol", "--bundle", known.bundle().to_str().unwrap(), "--name", "till-1"]).ok();
                till = Some(known);
            }
            "callboard" => {
                if line.contains("--watch") {
                    till.as_ref().unwrap().once().ok();
                }
                let line = line.replace("/var/lib/callboard-server", data.to_str().unwrap());
                let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
                let mut shell = Command::new("sh");
                shell.env_clear().envs(server.command().get_envs().filter_map(|(name, value)| Some((name, value?))));
                let done = shell.env("PATH", path).current_dir(&home).args(["-ec", &line]).output().unwrap();
                assert!(done.status.success(), "{line}\n{}", String::from_utf8_lossy(&done.stderr));
            }
            _ => panic!("what is to be done with {line:?}?"),
        }
    }
    let rollout: Rollout = server.rollout("first");
    assert_eq!((rollout.phases[0].counts.succeeded, rollout.phases[0].counts.size), (1, 1));
    let till = till.unwrap();
    assert_eq!(fs::read_to_string(till.product().join("current/version")).unwrap(), "1.0.0");
}
