//! The protocol's page on states says what the code does.
#![allow(clippy::unwrap_used, reason = "test code")]

use callboard_policy::assignment::{Event, transition};
use callboard_proto::{report::Event as Reported, state::AssignmentState};

const PAGE: &str = include_str!("../../../proto-docs/states.md");

/// In the order of the page's columns.
const REPORTED: [Reported; 9] = [
    Reported::Downloading,
    Reported::Staged,
    Reported::Deferred,
    Reported::Activating,
    Reported::Verifying,
    Reported::Succeeded,
    Reported::RolledBack,
    Reported::Failed,
    Reported::Cancelled,
];

#[test]
fn the_table_of_reports_is_the_transition_function() {
    let rows = AssignmentState::ALL.map(|state| {
        let cells = REPORTED.map(|event| match transition(state, Event::Reported(event)) {
            Ok(next) if next == state => "=".to_owned(),
            Ok(next) => format!("`{}`", next.as_str()),
            Err(_) => "-".to_owned(),
        });
        format!("| `{}` | {} |", state.as_str(), cells.join(" | "))
    });
    let wanted = rows.join("\n");
    let (_, after) = PAGE.split_once("## What a report changes").unwrap();
    let found: Vec<&str> = after.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(found.join("\n"), wanted, "proto-docs/states.md wants these rows:\n{wanted}\n");
}
