//! The protocol's page on check-ins lists every reason code. What the codes are stands in two functions, whose words are
//! read here: a list of all verdicts would have to be made by hand, and could forget the newest one.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeSet;

use callboard_policy::{release::Misfit, site::Withheld, trust::Stop};
use callboard_proto::state::AssignmentState;

const PAGE: &str = include_str!("../../../proto-docs/check-in.md");
const VERDICT: &str = include_str!("../src/decide/verdict.rs");
const WALK: &str = include_str!("../src/decide/walk.rs");

#[test]
fn every_reason_code_is_in_the_table_and_no_other() {
    let section = PAGE.split_once("## Reason codes\n").unwrap().1.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').nth(1).unwrap());
    let found: BTreeSet<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();

    let of_verdicts = VERDICT.split_once("pub const fn code(&self)").unwrap().1.split("\n    }\n").next().unwrap();
    let words = of_verdicts.split('"').skip(1).step_by(2);
    let without_a_rollout = WALK.split("Cause::Other(\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    assert!(words.clone().count() > 15 && without_a_rollout.clone().count() > 3, "the functions are written otherwise");
    // What stands there for many words at once.
    for many in ["misfit.code()", "state.as_str()", "why.code()"] {
        assert!(of_verdicts.contains(many), "{many}");
    }
    let withheld = Withheld::ALL.map(Withheld::code);
    let stops = Stop::CODES;
    let misfits = Misfit::ALL.map(Misfit::code);
    let finished = AssignmentState::ALL.into_iter().filter(|state| state.is_final()).map(AssignmentState::as_str);
    let wanted: BTreeSet<&str> =
        words.chain(without_a_rollout).chain(misfits).chain(withheld).chain(stops).chain(finished).collect();
    assert_eq!(found, wanted);
}
