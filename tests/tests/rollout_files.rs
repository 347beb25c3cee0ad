//! Rollouts as files: the examples are taken, the same file is the same rollout, and a difference is shown.

use std::fs;

use callboard_proto::admin::{ROLLOUT_SCHEMA, Rollout, RolloutSpec};
use callboard_tests::{clock::time, release::NewRelease};
use serde_json::Value;

use crate::on_both;

/// Every example: its path and its text.
fn examples() -> Vec<(String, String)> {
    let dir = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples")).unwrap();
    let mut all: Vec<(String, String)> = dir
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    all.sort();
    all
}

#[test]
fn every_example_makes_a_rollout_that_comes_back_as_the_same_file() {
    on_both(|server| {
        server.set_clock(time("2026-11-23T15:00:00Z"));
        NewRelease::new("pos-app", "2.3.0", 41).publish(server);
        NewRelease::new("pos-app", "2.4.0", 42).publish(server);
        NewRelease::new("pos-app", "2.4.1", 43).publish(server);
        let examples = examples();
        assert!(examples.len() >= 8, "{} examples", examples.len());
        for (file, text) in examples {
            let made: Rollout = server.cli(["--output", "json", "rollout", "create", "--file", &file]).json();
            assert_eq!(made.spec, toml::from_str::<RolloutSpec>(&text).unwrap());
            let again: Rollout = server.cli(["--output", "json", "rollout", "create", "-f", &file]).json();
            assert_eq!(again, made, "{file}");
            server.cli(["rollout", "diff", "-f", &file]).ok();
            let exported = server.home().join("exported.toml");
            fs::write(&exported, &server.cli(["rollout", "export", made.spec.name.as_str()]).ok().stdout).unwrap();
            server.cli(["rollout", "diff", "-f", exported.to_str().unwrap()]).ok();
        }
    });
}

#[test]
fn what_the_server_does_not_like_is_told_with_its_line() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.4.0", 42).publish(server);
        let file = server.home().join("careful.toml");
        let head =
            "name = \"careful\"\nrelease = \"pos-app@2.4.0\"\npolicy = \"progressive\"\nselector = \"regoin ==\"\n";
        let phases = "\n[[phases]]\nname = \"half\"\npercent = 50\n\n[[phases]]\nname = \"all\"\npercent = 40\n";
        fs::write(&file, format!("{head}{phases}")).unwrap();
        let path = file.to_str().unwrap();
        for verb in [vec!["create"], vec!["preview"], vec!["simulate"]] {
            let said = server.cli([&["rollout"], verb.as_slice(), &["-f", path]].concat()).refused(2).to_owned();
            assert!(said.contains(&format!("{path}: ")), "{verb:?}: {said}");
            assert!(said.contains("line 4: selector: column 9"), "{verb:?}: {said}");
            assert!(said.contains("; line 12: phases[1].percent: "), "{verb:?}: {said}");
        }
    });
}

#[test]
fn a_rollout_is_the_same_by_the_version_and_by_the_digest_of_its_release() {
    on_both(|server| {
        let release = NewRelease::new("pos-app", "2.4.0", 42).publish(server);
        let args = ["--output", "json", "rollout", "create", "patch", "--policy", "immediate", "--release"];
        let by_version: Rollout = server.cli(args.iter().chain(&["pos-app@2.4.0"])).json();
        let digest = release.sha256.to_string();
        let by_digest: Rollout = server.cli(args.iter().chain(&[digest.as_str()])).json();
        assert_eq!(by_digest, by_version);
    });
}

#[test]
fn a_changed_file_is_shown_setting_by_setting_and_is_no_other_rollout_of_that_name() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.4.0", 42).publish(server);
        let (file, text) = examples().into_iter().find(|(file, _)| file.ends_with("canary.toml")).unwrap();
        server.cli(["rollout", "create", "-f", &file]).ok();
        let changed = server.home().join("changed.toml");
        fs::write(&changed, text.replace("percent = 10\n", "percent = 20\n")).unwrap();
        let changed = changed.to_str().unwrap();
        let diff = server.cli(["--output", "json", "rollout", "diff", "-f", changed]);
        assert!(diff.refused(1).contains("differs from rollout canary in 1 setting"), "{}", diff.stderr);
        let said: Value = serde_json::from_str(&diff.stdout).unwrap();
        assert_eq!(said, serde_json::json!([{ "field": "phases[0].percent", "server": 10, "file": 20 }]));
        let refused = server.cli(["rollout", "create", "-f", changed]);
        assert!(refused.refused(1).contains("exists with another specification"), "{}", refused.stderr);
        let unknown = server.cli(["rollout", "diff", "other", "-f", changed]);
        assert!(unknown.refused(1).contains("other"), "{}", unknown.stderr);
    });
}

#[test]
fn the_schema_is_printed_and_names_every_setting() {
    on_both(|server| {
        let printed: Value = server.cli(["rollout", "schema"]).json();
        assert_eq!(printed, serde_json::from_str::<Value>(ROLLOUT_SCHEMA).unwrap());
        let (_, text) = examples().swap_remove(0);
        let spec = serde_json::to_value(toml::from_str::<RolloutSpec>(&text).unwrap()).unwrap();
        for setting in spec.as_object().unwrap().keys() {
            assert!(printed["properties"][setting].is_object(), "{setting} is not in the schema");
        }
        assert_eq!(printed["additionalProperties"], false);
    });
}
