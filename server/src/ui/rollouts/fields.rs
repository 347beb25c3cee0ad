//! A rollout as fields of a form, each named by its place in the rollout (`phases[1].percent`), so that a refusal that names
//! a place finds its field. Rows that are left empty do not count.

use callboard_proto::admin::RolloutSpec;
use toml::{Table, Value};

use crate::{http::problem::ApiProblem, rollout_file::NotWritten, ui::form::Form};

/// Empty rows of each list that a form offers beside those that are filled.
const BLANK: usize = 1;
/// Rows of a list; a rollout has no more in its form than can be looked through.
const MAX_ROWS: usize = 20;

/// A list, and those of its settings of which one at least makes a row; the others have defaults.
const LISTS: [(&str, &[&str]); 3] = [
    ("phases", &["name", "percent", "selector"]),
    ("windows", &["start", "cron", "duration_min"]),
    ("halt", &["failure_percent", "max_failures", "consecutive_failures", "max_silent"]),
];

const NUMBERS: [&str; 19] = [
    "percent",
    "success_percent",
    "completed_percent",
    "min_completed",
    "max_wait_min",
    "soak_min",
    "duration_min",
    "min_absence_s",
    "expected_install_min",
    "priority",
    "max_attempts",
    "max_in_flight",
    "max_in_flight_per_site",
    "max_offers_per_minute",
    "doubles_every",
    "failure_percent",
    "max_failures",
    "consecutive_failures",
    "max_silent",
];
const TIMES: [&str; 3] = ["start_at", "deadline", "ends_at"];
const YES: [&str; 4] = ["during_trading", "offline_activation", "allow_downgrade", "security"];
/// Several words, with commas or spaces between them.
const WORDS: [&str; 2] = ["days", "gates"];
const TEXTS: [&str; 15] = [
    "name",
    "release",
    "selector",
    "audience",
    "unit",
    "policy",
    "activate_on",
    "default_tz",
    "tz",
    "start",
    "cron",
    "mode",
    "approval",
    "action",
    "rollback_to",
];

/// A rollout as it was typed, unless something is wrong with a field.
pub(super) fn read(form: &mut Form) -> Option<RolloutSpec> {
    let policy = form.text("policy").to_owned();
    let mut whole = Table::new();
    let names: Vec<String> = form.names().map(str::to_owned).collect();
    for name in names {
        if concerns(&name, &policy)
            && let Some(value) = value(form, &name)
        {
            put(&mut whole, &name, value);
        }
    }
    for (list, _) in LISTS {
        compact(&mut whole, list);
    }
    if !form.is_right() {
        return None;
    }
    match whole.try_into::<RolloutSpec>() {
        Ok(spec) => Some(spec),
        Err(error) => {
            let message = error.message().replace('\n', ", ");
            let field = concerned(form, &message);
            form.refuse(&field, message);
            None
        }
    }
}

/// The field that a reader misses, or whose value it quotes.
fn concerned(form: &Form, message: &str) -> String {
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    let quoted =
        || form.names().find(|name| form.some(name).is_some_and(|text| message.starts_with(&format!("{text:?}"))));
    missing.or_else(quoted).unwrap_or_default().to_owned()
}

/// Whether a field says something about this policy; what belongs to another one is left where it is and not sent on.
fn concerns(name: &str, policy: &str) -> bool {
    match name.split(['[', '.']).next().unwrap_or_default() {
        "phases" | "unit" => policy == "progressive",
        "start_at" => policy == "scheduled",
        "min_absence_s" => policy == "on_connect",
        _ => true,
    }
}

/// What a field holds; nothing if it is empty, is none of a rollout, or belongs to a row that is empty.
fn value(form: &mut Form, name: &str) -> Option<Value> {
    let last = name.rsplit('.').next().unwrap_or(name);
    let last = last.split('[').next().unwrap_or(last);
    if is_blank(form, name) {
        return None;
    }
    let text = form.some(name)?;
    if NUMBERS.contains(&last) {
        return form.read::<u32>(name).map(|n| Value::Integer(n.into()));
    }
    if TIMES.contains(&last) {
        // The browser's own field has no zone; it is said beside it that this is UTC.
        return Some(Value::String(if text.len() == "2027-01-12T12:00".len() { format!("{text}:00Z") } else { text }));
    }
    if YES.contains(&last) {
        return Some(Value::Boolean(text == "yes"));
    }
    if WORDS.contains(&last) {
        let words = text.split([',', ' ']).filter(|word| !word.is_empty());
        return Some(Value::Array(words.map(|word| Value::String(word.to_owned())).collect()));
    }
    TEXTS.contains(&last).then_some(Value::String(text))
}

/// Whether a field stands in a row of which nothing was typed.
fn is_blank(form: &Form, name: &str) -> bool {
    let Some((list, needed)) = LISTS.into_iter().find(|(list, _)| name.starts_with(&format!("{list}["))) else {
        return false;
    };
    let row = name.strip_prefix(list).and_then(|rest| rest.split(']').next()).unwrap_or_default();
    needed.iter().all(|field| form.some(&format!("{list}{row}].{field}")).is_none())
}

/// Puts a value at its place.
fn put(table: &mut Table, name: &str, value: Value) {
    let (first, rest) = match name.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (name, None),
    };
    let Some(rest) = rest else {
        table.insert(first.to_owned(), value);
        return;
    };
    let Some((list, row)) = first.split_once('[') else {
        let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
        if let Some(inner) = inner.as_table_mut() {
            put(inner, rest, value);
        }
        return;
    };
    let row: usize = row.trim_end_matches(']').parse().unwrap_or(MAX_ROWS);
    let rows = table.entry(list).or_insert_with(|| Value::Array(Vec::new()));
    if let Some(rows) = rows.as_array_mut().filter(|_| row < MAX_ROWS) {
        while rows.len() <= row {
            rows.push(Value::Table(Table::new()));
        }
        if let Some(inner) = rows.get_mut(row).and_then(Value::as_table_mut) {
            put(inner, rest, value);
        }
    }
}

/// Drops the rows of which nothing was typed.
fn compact(whole: &mut Table, list: &str) {
    if let Some(rows) = whole.get_mut(list).and_then(Value::as_array_mut) {
        rows.retain(|row| row.as_table().is_some_and(|row| !row.is_empty()));
    }
}

/// The fields of a rollout that is there.
pub(super) fn fill(spec: &RolloutSpec) -> Result<Form, NotWritten> {
    let mut fields = Vec::new();
    flatten("", &Value::Table(Table::try_from(spec)?), &mut fields);
    Ok(Form::of(fields))
}

fn flatten(name: &str, value: &Value, fields: &mut Vec<(String, String)>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(&name, value, fields);
            }
        }
        Value::Array(rows) if rows.iter().all(Value::is_table) => {
            for (n, row) in rows.iter().enumerate() {
                flatten(&format!("{name}[{n}]"), row, fields);
            }
        }
        Value::Array(words) => {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            fields.push((name.to_owned(), words.join(" ")));
        }
        Value::Boolean(false) => {}
        Value::Boolean(true) => fields.push((name.to_owned(), "yes".to_owned())),
        Value::String(text) if TIMES.contains(&name) => {
            fields.push((name.to_owned(), text.get(..16).unwrap_or(text).to_owned()));
        }
        Value::String(text) => fields.push((name.to_owned(), text.clone())),
        other => fields.push((name.to_owned(), other.to_string())),
    }
}

/// A row of a list.
pub(super) struct Row(String);

impl Row {
    /// The name of one of its fields.
    pub(super) fn at(&self, field: &str) -> String {
        format!("{}{field}", self.0)
    }
}

/// Rows of a list that the form shows: those that are filled, and an empty one; another one if that was asked for.
pub(super) fn rows(form: &Form, list: &str) -> Vec<Row> {
    let prefix = format!("{list}[");
    let filled = form.names().filter(|name| !is_blank(form, name)).filter_map(|name| {
        let row = name.strip_prefix(&prefix)?.split(']').next()?;
        Some(row.parse::<usize>().ok()? + 1)
    });
    let n = filled.max().unwrap_or(0) + BLANK + usize::from(form.is("rows", list));
    (0..n.min(MAX_ROWS)).map(|row| Row(format!("{list}[{row}]."))).collect()
}

/// Places a refusal at the fields that it names, and the rest at the form as a whole.
pub(super) fn place(form: &mut Form, problem: ApiProblem) -> Result<(), ApiProblem> {
    let mut told = Form::default();
    // Those about something else are given back.
    told.take(problem.clone())?;
    let rows: Vec<(&str, Vec<usize>)> = LISTS.iter().map(|(list, _)| (*list, filled(form, list))).collect();
    for part in problem.detail.split("; ") {
        let field = part.split_once(": ").map(|(field, _)| typed(field, &rows)).unwrap_or_default();
        let known = form.has(&field);
        match form.error("").map(str::to_owned) {
            _ if known => form.refuse(&field, part.split_once(": ").map_or(part, |(_, said)| said)),
            Some(before) => form.refuse_instead("", format!("{before}; {part}")),
            None => form.refuse("", part),
        }
    }
    Ok(())
}

/// The rows of a list that are not empty.
fn filled(form: &Form, list: &str) -> Vec<usize> {
    (0..MAX_ROWS).filter(|row| !is_blank(form, &format!("{list}[{row}]."))).collect()
}

/// The field in which the setting was typed: empty rows before it do not count for a rollout.
fn typed(field: &str, rows: &[(&str, Vec<usize>)]) -> String {
    let Some((list, rest)) = field.split_once('[') else { return field.to_owned() };
    let Some((row, rest)) = rest.split_once(']') else { return String::new() };
    let found =
        rows.iter().find(|(known, _)| *known == list).and_then(|(_, rows)| rows.get(row.parse::<usize>().ok()?));
    found.map(|row| format!("{list}[{row}]{rest}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use callboard_proto::problem::Code;

    use super::*;

    fn form(fields: &[(&str, &str)]) -> Form {
        Form::of(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    const TYPED: [(&str, &str); 14] = [
        ("csrf", "x"),
        ("name", "spring"),
        ("release", "pos-app@2.0.0"),
        ("policy", "progressive"),
        ("selector", ""),
        ("start_at", "2027-01-12T12:00"),
        ("phases[0].name", ""),
        ("phases[0].success_percent", "95"),
        ("phases[1].name", "canary"),
        ("phases[1].percent", "10"),
        ("phases[2].name", "all"),
        ("phases[2].percent", "100"),
        ("caps.downloads.max_in_flight", "5"),
        ("windows[0].tz", "site"),
    ];

    #[test]
    fn what_was_typed_is_a_rollout_and_that_is_a_form() {
        let mut typed = form(&TYPED);
        let spec = read(&mut typed).expect("a rollout");
        assert_eq!((spec.phases.len(), spec.windows.len(), spec.start_at), (2, 0, None));
        assert_eq!(spec.caps.downloads.max_in_flight, Some(5));
        let mut again = fill(&spec).expect("fields");
        assert_eq!(again.text("phases[1].success_percent"), "95");
        assert_eq!(read(&mut again), Some(spec));
        let names = |list| rows(&again, list).iter().map(|row| row.at("x")).collect::<Vec<_>>().join(" ");
        assert_eq!(names("phases"), "phases[0].x phases[1].x phases[2].x");
        assert_eq!(names("halt"), "halt[0].x");
    }

    #[test]
    fn a_refusal_stands_at_the_field_in_which_it_was_typed() {
        let mut typed = form(&TYPED);
        let detail = "phases[1].percent: 5 is not above 10; name a higher one; release: there is none";
        place(&mut typed, ApiProblem::new(Code::Invalid, detail)).expect("about the form");
        assert_eq!(typed.error("phases[2].percent"), Some("5 is not above 10"));
        assert_eq!(typed.error("release"), Some("there is none"));
        assert_eq!(typed.error(""), Some("name a higher one"));
        let mut wrong = form(&[("name", "a"), ("policy", "immediate"), ("priority", "high")]);
        assert_eq!(read(&mut wrong), None);
        assert_eq!(wrong.error("priority"), Some("invalid digit found in string"));
        let mut without = form(&[("name", "a"), ("policy", "immediate")]);
        assert_eq!(read(&mut without), None);
        assert_eq!(without.error("release"), Some("missing field `release`"));
    }
}
