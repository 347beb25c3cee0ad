//! Where two descriptions of a rollout differ: what a file says otherwise than the server, and what an edit changes.

use callboard_proto::admin::RolloutSpec;
use serde::Serialize;
use serde_json::Value;

/// One setting that differs.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// Where, as a path (`phases[1].percent`).
    pub(crate) field: String,
    /// What the server has; `null` if nothing.
    pub(crate) server: Value,
    /// What the file says; `null` if nothing.
    pub(crate) file: Value,
}

/// Every setting that differs, defaults included, by path.
pub(crate) fn between(server: &RolloutSpec, file: &RolloutSpec) -> serde_json::Result<Vec<Difference>> {
    let mut found = Vec::new();
    compare("", &serde_json::to_value(server)?, &serde_json::to_value(file)?, &mut found);
    Ok(found)
}

/// The same of any two values.
pub(crate) fn of_values(before: &Value, after: &Value) -> Vec<Difference> {
    // What is not there at all is an empty thing, so that each setting of the other stands for itself.
    let empty = Value::Object(serde_json::Map::new());
    let whole =
        |value: &Value, other: &Value| if value.is_null() && other.is_object() { empty.clone() } else { value.clone() };
    let mut found = Vec::new();
    compare("", &whole(before, after), &whole(after, before), &mut found);
    found
}

fn compare(field: &str, server: &Value, file: &Value, found: &mut Vec<Difference>) {
    match (server, file) {
        (Value::Object(a), Value::Object(b)) => {
            let only_b = b.keys().filter(|key| !a.contains_key(*key));
            for key in a.keys().chain(only_b) {
                let path = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
                compare(&path, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for at in 0..a.len().max(b.len()) {
                let path = format!("{field}[{at}]");
                compare(&path, a.get(at).unwrap_or(&Value::Null), b.get(at).unwrap_or(&Value::Null), found);
            }
        }
        (a, b) if a != b => {
            found.push(Difference { field: field.to_owned(), server: a.clone(), file: b.clone() });
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> RolloutSpec {
        toml::from_str(&format!("name = \"a\"\nrelease = \"p@1\"\npolicy = \"progressive\"\n{text}")).expect("a spec")
    }

    #[test]
    fn differences_are_told_by_path_and_defaults_count() {
        let server = spec("[[phases]]\nname = \"all\"\npercent = 100");
        let file = spec(
            "priority = 900\n[[phases]]\nname = \"canary\"\npercent = 10\n[[phases]]\nname = \"all\"\npercent = 100",
        );
        let found = between(&server, &file).expect("differences");
        let fields: Vec<&str> = found.iter().map(|one| one.field.as_str()).collect();
        assert_eq!(fields, ["phases[0].name", "phases[0].percent", "phases[1]", "priority"]);
        assert_eq!(between(&file, &file).expect("none"), []);
    }
}
