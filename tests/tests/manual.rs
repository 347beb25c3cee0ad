//! Completions and manual pages: shells understand the ones, and the others are about every command.

use std::{fs, process::Command};

use callboard_tests::server::{Engine, TestServer};

use crate::BINARIES;

/// What bash offers behind these words.
fn offered(server: &TestServer, script: &str, function: &str, words: &[&str]) -> Vec<String> {
    let file = server.home().join("completions");
    fs::write(&file, script).unwrap();
    let ask = format!(
        "source {}; COMP_WORDS=({}); COMP_CWORD={}; {function} {} '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        file.display(),
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
        words.len() - 1,
        words[0],
        words[words.len() - 1],
        words[words.len() - 2],
    );
    let done = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn shells_complete_every_command() {
    let server = TestServer::prepare(BINARIES, Engine::Sqlite).unwrap();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = server.cli(["completions", shell]).ok().stdout.clone();
        assert!(script.contains("open-phase") && script.contains("selector"), "{shell}");
        assert!(!script.contains("demo-child"), "{shell} offers what is not for people");
    }
    let script = server.cli(["completions", "bash"]).ok().stdout.clone();
    assert_eq!(offered(&server, &script, "_callboard", &["callboard", "rollout", "sta"]), ["start", "status"]);
    assert_eq!(offered(&server, &script, "_callboard", &["callboard", "device", "list", "--sel"]), ["--selector"]);
    let script = server.cli(["completions", "bash", "--agent"]).ok().stdout.clone();
    assert_eq!(offered(&server, &script, "_callboard__agent", &["callboard-agent", "doc"]), ["doctor"]);
    assert!(server.cli(["completions", "csh"]).refused(2).contains("[possible values: bash, elvish, fish"));
}

#[test]
fn every_command_has_a_manual_page() {
    let server = TestServer::prepare(BINARIES, Engine::Sqlite).unwrap();
    let said = server.cli(["man", "share/man1"]).ok().stderr.clone();
    assert!(said.contains("pages are in share/man1"), "{said}");
    let dir = server.home().join("share/man1");
    let page = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(page("callboard.1").contains(".SH SUBCOMMANDS") && page("callboard.1").contains("callboard\\-rollout(1)"));
    let create = page("callboard-rollout-create.1");
    assert!(create.contains("\\-\\-selector") && create.contains("\\-\\-output"), "{create}");
    assert!(page("callboard-attention-attacks-list.1").contains(".TH"));
    assert!(page("callboard-agent-config-check.1").contains("\\-\\-bundle"));
    for entry in fs::read_dir(&dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.contains("demo-child"), "{name} is not for people");
        assert!(!page(&name).contains("cba_"), "{name} has a token of the environment in it");
    }
    server.cli(["man", "share/man1"]).ok();
    fs::write(server.home().join("file"), "").unwrap();
    assert!(server.cli(["man", "file"]).refused(2).contains("cannot make file"));
}
