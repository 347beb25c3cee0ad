//! The operators' page says what selectors are and may be.
#![allow(clippy::unwrap_used, reason = "test code")]

use callboard_policy::selector::{MAX_DEPTH, MAX_LEN, MAX_TERMS, MAX_VALUES, Selector};

const PAGE: &str = include_str!("../../../deploy/policies.md");

/// The page's section on selectors.
fn section() -> &'static str {
    PAGE.split_once("## Selectors\n").unwrap().1.split("\n## ").next().unwrap()
}

#[test]
fn the_examples_are_selectors() {
    let examples = section().split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(examples.lines().count(), 3);
    for line in examples.lines() {
        assert!(Selector::parse(line).is_ok(), "{line}");
    }
    let (_, mistake) = section().split_once("--selector '").unwrap();
    let (selector, said) = mistake.split_once("'\ncallboard: selector: ").unwrap();
    assert_eq!(Selector::parse(selector).unwrap_err().to_string(), said.lines().next().unwrap());
}

#[test]
fn the_table_of_fields_says_which_operators_each_one_takes() {
    const ALL: [&str; 9] = ["=", "!=", "<", "<=", ">", ">=", "~", "in", "not in"];
    let mut known = Vec::new();
    for row in section().lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [fields, _, operators] = cells.as_slice() else { panic!("{row}") };
        let listed: Vec<&str> = operators.split('`').skip(1).step_by(2).collect();
        for field in fields.split('`').skip(1).step_by(2) {
            let written = field.replace("PRODUCT", "pos-app").replace("KEY", "region");
            for op in ALL {
                let value = match field {
                    "status" => "online",
                    "last_seen" | "enrolled" => "24h ago",
                    _ => "1",
                };
                let value = if op.ends_with("in") { format!("({value})") } else { value.to_owned() };
                let term = format!("{written} {op} {value}");
                let wanted = operators.trim() == "all" || listed.contains(&op);
                assert_eq!(Selector::parse(&term).is_ok(), wanted, "{term}");
            }
            known.push(field);
        }
    }
    // What an error message names as fields.
    let expected = Selector::parse("").unwrap_err().expected;
    let fields = expected.split('(').nth(1).unwrap().split(", ").map(str::trim);
    for field in fields.take(10) {
        assert!(known.contains(&field), "{field} is not in the table: {known:?}");
    }
}

#[test]
fn the_limits_are_the_constants() {
    let text = section().split_whitespace().collect::<Vec<_>>().join(" ");
    let said = format!(
        "At most {MAX_LEN} bytes, {MAX_TERMS} terms, {MAX_VALUES} values in all lists together, and {MAX_DEPTH} levels"
    );
    assert!(text.contains(&said), "{said}");
}

#[test]
fn quotes_around_a_product_may_be_left_out_as_the_page_says() {
    let (bare, quoted) = ("version(pos-app) < 2", "version(\"pos-app\") < 2");
    assert_eq!(Selector::parse(bare), Selector::parse(quoted));
    assert_eq!(Selector::parse(bare).unwrap().to_string(), quoted);
    assert!(section().contains("`version(pos-app)` is the same as"));
}
