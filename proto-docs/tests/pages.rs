//! The pages say what the code does: tables, sizes and the files they name.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use std::{collections::BTreeSet, path::Path};

use callboard_proto::{
    admin::{self, Permission, Phase, Role, RolloutSpec},
    check_in::{self, CheckIn},
    digest::Digest,
    enrol::{self, Enrol, Renew},
    head::Head,
    ids,
    instruction::{Action, Instruction},
    paths, payload,
    problem::Code,
    release::{self, Release},
    report,
    root::Root,
    signed::{self, Document, max_envelope},
    state::{AgentState, AssignmentState},
    text::MAX_TEXT,
    version,
};
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(name)).unwrap()
}

/// The cells of every table row below `heading`, up to the next heading.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, below) = page.split_once(&format!("{heading}\n")).unwrap();
    let section = below.split("\n#").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.map(cells).collect()
}

/// The fields in the first column of the first table below `heading`, without what follows a dot.
fn fields(page: &str, heading: &str) -> BTreeSet<String> {
    let (_, below) = page.split_once(&format!("{heading}\n")).unwrap();
    let lines = below.lines().skip_while(|line| !line.starts_with('|')).skip(2);
    let first = lines.take_while(|line| line.starts_with('|')).map(|row| row.split('|').nth(1).unwrap());
    let words = first.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    words.map(|word| word.split('.').next().unwrap().to_owned()).collect()
}

/// Keys of an object in an example.
fn keys(example: &str, pointer: &str) -> BTreeSet<String> {
    let example: Value = serde_json::from_str(&page(&format!("examples/{example}.json"))).unwrap();
    example.pointer(pointer).unwrap().as_object().unwrap().keys().cloned().collect()
}

fn quoted(text: impl std::fmt::Display) -> String {
    format!("`{text}`")
}

#[test]
fn the_table_of_problem_codes_is_the_codes() {
    let wanted: Vec<Vec<String>> = Code::ALL
        .iter()
        .map(|code| {
            let (word, title, status) = code.row();
            vec![quoted(word), status.to_string(), title.to_owned()]
        })
        .collect();
    assert_eq!(rows(&page("errors.md"), "## Codes"), wanted);
}

#[test]
fn the_table_of_agent_states_is_the_function() {
    let word = |state: AgentState| serde_json::to_value(state).unwrap().as_str().unwrap().to_owned();
    let wanted: Vec<[String; 2]> = AgentState::ALL
        .iter()
        .map(|state| {
            let shown = state.assignment_state().map_or("none".to_owned(), |assignment| quoted(assignment.as_str()));
            [quoted(word(*state)), shown]
        })
        .collect();
    let found: Vec<[String; 2]> =
        rows(&page("states.md"), "## Agent states").into_iter().map(|row| [row[0].clone(), row[1].clone()]).collect();
    assert_eq!(found, wanted);
}

#[test]
fn the_table_of_assignment_states_says_which_are_final() {
    let wanted: Vec<[String; 2]> = AssignmentState::ALL
        .iter()
        .map(|state| [quoted(state.as_str()), if state.is_final() { "yes".to_owned() } else { "no".to_owned() }])
        .collect();
    let found: Vec<[String; 2]> = rows(&page("states.md"), "## Assignment states")
        .into_iter()
        .map(|row| [row[0].clone(), row[1].clone()])
        .collect();
    assert_eq!(found, wanted);
}

#[test]
fn the_table_of_admin_paths_is_the_openapi_document() {
    let document: serde_json::Value = serde_json::from_str(&page("openapi.json")).unwrap();
    let mut wanted = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        wanted.extend(methods.as_object().unwrap().iter().map(|(method, operation)| {
            let permission = operation["security"][0]["bearer"][0].as_str().map_or("none".to_owned(), quoted);
            (quoted(format!("{} {path}", method.to_uppercase())), permission)
        }));
    }
    let found: BTreeSet<(String, String)> =
        rows(&page("admin-api.md"), "## Paths").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(found, wanted);
}

#[test]
fn the_table_of_roles_is_what_they_allow() {
    let found: Vec<Vec<String>> = rows(&page("admin-api.md"), "## Roles");
    let says = |yes: bool| if yes { "yes".to_owned() } else { String::new() };
    let row = |role: Role| {
        let allowed = Permission::ALL.map(|permission| says(role.allows(permission)));
        [quoted(role)].into_iter().chain(allowed).collect::<Vec<String>>()
    };
    assert_eq!(found, Role::ALL.map(row));
}

#[test]
fn the_tables_of_fields_are_the_fields() {
    let with_crit = |fields: &[&str]| fields.iter().chain(&["crit"]).map(|field| (*field).to_owned()).collect();
    let (check_in, enrolment, states, signing) =
        (page("check-in.md"), page("enrolment.md"), page("states.md"), page("signing.md"));
    let documents: [(&str, &str, &[&str]); 7] = [
        (&check_in, "## `POST /v1/checkin`", CheckIn::FIELDS),
        (&check_in, "## The instruction", Instruction::FIELDS),
        (&enrolment, "## `POST /v1/enrol`", Enrol::FIELDS),
        (&enrolment, "## `POST /v1/renew`", Renew::FIELDS),
        (&signing, "## Root", Root::FIELDS),
        (&signing, "## Release", Release::FIELDS),
        (&signing, "## Head", Head::FIELDS),
    ];
    for (page, heading, known) in documents {
        let known: BTreeSet<String> = with_crit(known);
        assert_eq!(fields(page, heading), known, "{heading}");
    }
    // Types without a list of their fields: the examples have all of them.
    assert_eq!(fields(&check_in, "\n`facts`:\n"), keys("check-in", "/facts"));
    assert_eq!(fields(&enrolment, "## The bundle"), keys("bundle", ""));
    assert_eq!(fields(&enrolment, "\nAnswer, status 200:\n"), keys("enrolled", ""));
    assert_eq!(fields(&states, "## `POST /v1/reports`"), keys("reports", "/reports/1"));
    assert_eq!(fields(&page("payload.md"), "## What a release says of a payload"), keys("release", "/payloads/0"));
    let mut problem = keys("problem", "");
    problem.insert("request_id".to_owned());
    assert_eq!(fields(&page("errors.md"), "# Errors"), problem);
}

#[test]
fn the_tables_of_words_are_the_words_of_the_wire() {
    let words = |page: &str, heading: &str| -> Vec<String> {
        let rows = rows(page, heading);
        rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect()
    };
    fn reads<T: serde::de::DeserializeOwned>(words: impl IntoIterator<Item = String>, wanted: usize) {
        let read: Vec<T> = words.into_iter().map(|word| serde_json::from_value(word.into()).unwrap()).collect();
        assert_eq!(read.len(), wanted);
    }
    let events = page("states.md");
    let (_, events) = events.split_once("| `event` | What happened |\n").unwrap();
    let rows = events.lines().skip(1).take_while(|line| line.starts_with("| `"));
    reads::<report::Event>(rows.map(|row| row.split('`').nth(1).unwrap().to_owned()), 9);
    let check_in = page("check-in.md");
    let (_, actions) = check_in.split_once("| `action` | The device |").unwrap();
    let rows = actions.lines().skip(2).take_while(|line| line.starts_with("| `"));
    reads::<Action>(rows.map(|row| row.split('`').nth(1).unwrap().to_owned()), 5);
    let policies = page("../deploy/policies.md");
    reads::<admin::RolloutState>(words(&policies, "## From draft to end"), 5);
    let refused = words(&page("enrolment.md"), "## Errors").into_iter().flat_map(|cell| {
        cell.split(['`', ',', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    });
    for code in refused {
        assert!(Code::ALL.iter().any(|known| known.as_str() == code), "{code}");
    }
}

#[test]
fn the_table_of_device_paths_is_the_paths() {
    let digest = Digest::of(b"");
    let named = |path: String| path.replace(&digest.to_string(), "{sha256}");
    let wanted = [
        format!("`POST {}`", paths::ENROL),
        format!("`POST {}`", paths::RENEW),
        format!("`POST {}`", paths::CHECK_IN),
        format!("`POST {}`", paths::REPORTS),
        format!("`GET`, `HEAD {}`", named(paths::payload(digest))),
        format!("`GET {}`", paths::ROOT),
        format!("`GET {}`", paths::root(7).replace('7', "{version}")),
        format!("`GET {}`", paths::HEAD),
        format!("`GET {}`", named(paths::release(digest))),
    ];
    let found = rows(&page("README.md"), "## Paths of the device listener");
    assert_eq!(found.iter().map(|row| row[0].clone()).collect::<Vec<_>>(), wanted);
}

#[test]
fn limits_in_the_pages_are_the_constants() {
    let power = |n: u64| format!("2^{}", n.ilog2());
    for (name, said) in [
        ("README.md", format!("1 to {} of `A-Z a-z 0-9 . _ -`", ids::MAX_NAME_LEN)),
        ("README.md", format!("1 to {} printable ASCII characters", version::MAX_VERSION_LEN)),
        ("README.md", format!("UTF-8 without control characters | {MAX_TEXT} bytes")),
        ("check-in.md", format!("at most {}, one for each product", check_in::MAX_INSTALLED)),
        ("check-in.md", format!("anything else; at most {}", check_in::MAX_ATTRIBUTES)),
        ("enrolment.md", format!("a text of more than {MAX_TEXT} bytes")),
        ("states.md", format!("a list of at most {}", report::MAX_REPORTS)),
        ("states.md", format!("more than {} reports", report::MAX_REPORTS)),
        ("states.md", format!("a stable word of at most {} bytes", report::MAX_FAILURE_CODE)),
        ("states.md", format!("at most {} KiB: the end of the output", report::MAX_FAILURE_TEXT / 1024)),
        ("payload.md", format!("bytes, 1 to {}", power(release::MAX_PAYLOAD_BYTES))),
        ("payload.md", format!("A release has 1 to {} payloads", release::MAX_PAYLOADS)),
        ("payload.md", format!("chunks of {} MiB", payload::CHUNK_SIZE >> 20)),
        ("payload.md", format!("{} KiB to {} MiB", payload::MIN_CHUNK_SIZE >> 10, payload::MAX_CHUNK_SIZE >> 20)),
        ("signing.md", format!("1 to {}, with different names", release::MAX_PAYLOADS)),
        ("signing.md", format!("at most {} (90 days)", release::MAX_POSTPONE_S)),
        ("signing.md", format!("at most {} bytes |", release::MAX_HOOK_PATH)),
        ("signing.md", format!("it is stopped and has failed; 1 to {} |", release::MAX_HOOK_TIMEOUT_S)),
        ("signing.md", release::Stage::ALL.map(quoted).join(", ")),
        ("signing.md", format!("more than {} signatures", signed::MAX_SIGNATURES)),
        ("signing.md", format!("at most {} levels", signed::MAX_DEPTH)),
        ("admin-api.md", format!("`limit` (1 to {}, {} by default)", admin::MAX_PAGE, admin::DEFAULT_PAGE)),
        ("admin-api.md", format!("at most {} at a time", admin::MAX_IMPORT)),
        ("admin-api.md", format!("at most {} of a device or site", admin::MAX_LABELS)),
        ("admin-api.md", format!("a key is 1 to {}", admin::MAX_LABEL_KEY)),
        ("admin-api.md", format!("values of labels have at most {MAX_TEXT} bytes")),
        (
            "admin-api.md",
            format!("Reasons have at most {} bytes, descriptions {}", admin::MAX_REASON, admin::MAX_DESCRIPTION),
        ),
        ("check-in.md", format!("since enrolment; at most {} kinds", check_in::MAX_ATTACKS)),
        ("check-in.md", format!("may be held back (below); at most {}", check_in::MAX_WAIT_S)),
    ] {
        let text = page(name).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(&said), "{name} does not say {said:?}");
    }
}

#[test]
fn defaults_in_the_operators_page_are_those_of_the_wire() {
    let phase: Phase = serde_json::from_str(r#"{ "name": "all", "percent": 100 }"#).unwrap();
    let spec: RolloutSpec =
        serde_json::from_str(r#"{ "name": "a", "release": "a@1", "policy": "immediate" }"#).unwrap();
    let text = page("../deploy/policies.md").split_whitespace().collect::<Vec<_>>().join(" ");
    for said in [
        format!("| `completed=P` | {} |", phase.completed_percent),
        format!("| `min=N` | {} |", phase.min_completed),
        format!("| `success=P` | {} |", phase.success_percent),
        format!("`--max-attempts` is {} by default", spec.max_attempts),
        format!("{} by default), highest first", spec.priority),
    ] {
        assert!(text.contains(&said), "deploy/policies.md does not say {said:?}");
    }
}

#[test]
fn sizes_in_the_pages_are_the_constants() {
    let kib = |bytes: usize| format!("{} KiB", bytes / 1024);
    let bodies = rows(&page("README.md"), "## Paths of the device listener");
    let size = |path: &str| bodies.iter().find(|row| row[0].contains(path)).unwrap()[2].clone();
    assert_eq!(size("/v1/enrol"), kib(enrol::MAX_BYTES));
    assert_eq!(size("/v1/renew"), kib(enrol::MAX_BYTES));
    assert_eq!(size("/v1/checkin"), kib(check_in::MAX_BYTES));
    assert_eq!(size("/v1/reports"), kib(report::MAX_BYTES));
    let signing = page("signing.md");
    for (kind, bytes) in [
        (Root::TYPE, Root::MAX_BYTES),
        (Release::TYPE, Release::MAX_BYTES),
        (Head::TYPE, Head::MAX_BYTES),
        (Instruction::TYPE, Instruction::MAX_BYTES),
    ] {
        assert!(signing.contains(&format!("| `{kind}` | {} |", kib(bytes))), "{kind}");
        assert!(signing.contains(&format!("{} ", max_envelope(bytes))), "the largest envelope of {kind}");
    }
}

#[test]
fn every_file_that_a_page_names_is_there() {
    let pages = std::fs::read_dir(ROOT).unwrap().map(|entry| entry.unwrap().path());
    for path in pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let names = text.split('`').skip(1).step_by(2).filter(|name| {
            let file = name.ends_with(".md") || name.starts_with("examples/") && name.ends_with(".json");
            file && !name.contains([' ', '*'])
        });
        for name in names {
            let there =
                [Path::new(ROOT).join(name), Path::new(ROOT).join("..").join(name)].iter().any(|file| file.exists());
            assert!(there, "{} names {name}, which is not there", path.display());
        }
    }
}

/// Every file of this repository that ends so, but for what was built.
fn files(dir: &Path, ending: &str, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                files(&path, ending, found);
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

#[test]
fn every_attack_of_the_table_has_a_test_that_exists_or_a_reason() {
    let mut sources = Vec::new();
    files(&Path::new(ROOT).join(".."), ".rs", &mut sources);
    let mut tests = BTreeSet::new();
    for path in sources {
        let text = std::fs::read_to_string(&path).unwrap();
        let names = text.split("test]\n").skip(1).filter_map(|after| after.split("fn ").nth(1)?.split('(').next());
        tests.extend(names.map(str::to_owned));
    }
    assert!(tests.len() > 500, "{} tests", tests.len());
    let vectors = std::fs::read_dir(Path::new(ROOT).join("vectors")).unwrap();
    let vectors = vectors.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
    tests.extend(vectors);
    let page = page("negative-tests.md");
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Attack |"));
    let mut attacks = BTreeSet::new();
    for row in rows {
        let [_, attack, named, _] = row.split('|').collect::<Vec<_>>()[..] else { panic!("{row}") };
        assert!(attacks.insert(attack), "{attack} stands twice");
        assert!(!named.trim().is_empty(), "{attack} has neither a test nor a reason");
        // Names of fields are words in backticks as well.
        for word in named.split('`').skip(1).step_by(2).filter(|word| *word != "crit") {
            assert!(tests.contains(word), "{attack} names {word}, which is neither a test nor a vector");
        }
    }
    assert!(attacks.len() >= 74, "{}", attacks.len());
}
