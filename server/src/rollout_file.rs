//! Rollouts as text: read from TOML, written as TOML that says no more than it must. The command line and the pages read and
//! write the same files.

mod place;

use callboard_proto::admin::{HaltRule, Phase, RolloutSpec, Window};
use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

pub(crate) use place::located;

/// A rollout that has no text; no rollout is known that has none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotWritten {
    #[error("a rollout cannot be written as TOML: {0}")]
    Written(#[from] toml::ser::Error),
    #[error("what was written of a rollout cannot be read: {0}")]
    Read(#[from] toml::de::Error),
}

/// The library's own message draws a picture over several lines; ours fits into one.
pub(crate) fn parse_toml(text: &str) -> Result<RolloutSpec, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("line {line}, column {column}: {}", error.message())
    })
}

/// The file of a rollout: what the defaults say already is left out.
pub(crate) fn to_toml(spec: &RolloutSpec) -> Result<String, NotWritten> {
    Ok(toml::to_string_pretty(&sparse(spec)?)?.trim_end().to_owned())
}

/// What a rollout says beyond the defaults, with what it must say.
fn sparse(spec: &RolloutSpec) -> Result<Table, NotWritten> {
    let mut whole = beyond_defaults::<RolloutSpec>(Table::try_from(spec)?, &["name", "release", "policy"])?;
    without_empty_tables(&mut whole);
    parts::<Window>(&mut whole, "windows", &["duration_min"])?;
    parts::<Phase>(&mut whole, "phases", &["name"])?;
    parts::<HaltRule>(&mut whole, "halt", &[])?;
    Ok(whole)
}

/// Leaves out tables that say nothing, such as the caps on downloads where only activations have some.
fn without_empty_tables(table: &mut Table) {
    table.iter_mut().filter_map(|(_, value)| value.as_table_mut()).for_each(without_empty_tables);
    table.retain(|_, value| value.as_table().is_none_or(|table| !table.is_empty()));
}

fn parts<T: Serialize + DeserializeOwned>(whole: &mut Table, key: &str, needed: &[&str]) -> Result<(), NotWritten> {
    let list = whole.get_mut(key).and_then(Value::as_array_mut);
    for part in list.into_iter().flatten().filter_map(Value::as_table_mut) {
        *part = beyond_defaults::<T>(std::mem::take(part), needed)?;
    }
    Ok(())
}

/// Leaves out what reading the needed keys alone would give.
fn beyond_defaults<T: Serialize + DeserializeOwned>(mut whole: Table, needed: &[&str]) -> Result<Table, NotWritten> {
    let mut least = whole.clone();
    least.retain(|key, _| needed.contains(&key));
    let defaults = Table::try_from(least.try_into::<T>()?)?;
    whole.retain(|key, value| needed.contains(&key) || defaults.get(key) != Some(value));
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
name = "patch"
release = "pos-app@2.4.0"
policy = "progressive"
selector = "region = northeast"
priority = 900

[[windows]]
start = "02:00"
duration_min = 120

[[phases]]
name = "canary"
percent = 10

[[phases]]
name = "all"
percent = 100
success_percent = 99

[caps.activations]
max_in_flight_per_site = 1

[pace]
max_offers_per_minute = 10

[[halt]]
max_failures = 3
action = "cancel"
"#;

    #[test]
    fn what_is_written_is_what_was_read_and_says_no_more() {
        let spec = parse_toml(FILE).expect("a rollout");
        let written = to_toml(&spec).expect("a file");
        assert_eq!(parse_toml(&written).expect("the same"), spec);
        let mut lines: Vec<&str> = written.lines().collect();
        let mut expected: Vec<&str> = FILE.trim().lines().collect();
        lines.sort_unstable();
        expected.sort_unstable();
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_bad_file_is_told_by_line_and_column() {
        let said = parse_toml("name = \"a\"\nrelease = \"p@1\"\npolicy = \"sometimes\"\n").expect_err("a policy");
        assert!(said.starts_with("line 3, column 10: unknown variant `sometimes`"), "{said}");
    }
}
