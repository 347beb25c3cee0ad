//! The pages say what the code does: tables, sizes and the files they name.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use std::{collections::BTreeSet, path::Path};

use callboard_proto::{
    check_in, enrol,
    instruction::Instruction,
    problem::Code,
    release::Release,
    report,
    root::Root,
    signed::{Document, max_envelope},
    state::{AgentState, AssignmentState},
};

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
        wanted.extend(
            methods.as_object().unwrap().keys().map(|method| quoted(format!("{} {path}", method.to_uppercase()))),
        );
    }
    let found: BTreeSet<String> =
        rows(&page("admin-api.md"), "## Paths").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(found, wanted);
}

#[test]
fn sizes_in_the_pages_are_the_constants() {
    let kib = |bytes: usize| format!("{} KiB", bytes / 1024);
    let bodies = rows(&page("README.md"), "## Paths of the device listener");
    let size = |path: &str| bodies.iter().find(|row| row[0].contains(path)).unwrap()[2].clone();
    assert_eq!(size("/v1/enrol"), kib(enrol::MAX_BYTES));
    assert_eq!(size("/v1/checkin"), kib(check_in::MAX_BYTES));
    assert_eq!(size("/v1/reports"), kib(report::MAX_BYTES));
    let signing = page("signing.md");
    for (kind, bytes) in [
        (Root::TYPE, Root::MAX_BYTES),
        (Release::TYPE, Release::MAX_BYTES),
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
