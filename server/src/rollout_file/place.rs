//! Where in a file stands what the server does not like: it names fields, and people look for lines.

use toml::de::{DeTable, DeValue};

/// The words with the line before each field that stands in the file; `None` if none does.
pub(crate) fn located(text: &str, detail: &str) -> Option<String> {
    let parsed = DeTable::parse(text).ok()?;
    let mut found = false;
    let faults = detail.split("; ").map(|part| {
        let field = part.split_once(": ").map(|(field, _)| field).filter(|field| is_field(field));
        match field.and_then(|field| position(parsed.get_ref(), field)) {
            Some(at) => {
                found = true;
                format!("line {}: {part}", text.get(..at).unwrap_or_default().matches('\n').count() + 1)
            }
            None => part.to_owned(),
        }
    });
    let told: Vec<String> = faults.collect();
    found.then(|| told.join("; "))
}

/// Whether it may be a field, such as `phases[1].percent`.
fn is_field(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.' | '[' | ']'))
}

/// Where a field stands, or the innermost part of it that does.
fn position(table: &DeTable<'_>, field: &str) -> Option<usize> {
    let (first, rest) = match field.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (field, None),
    };
    let (name, place) = match first.split_once('[') {
        Some((name, place)) => (name, place.strip_suffix(']').and_then(|place| place.parse::<usize>().ok())),
        None => (first, None),
    };
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
    let (mut at, mut inner) = (key.span().start, value.get_ref());
    if let (Some(place), DeValue::Array(list)) = (place, inner)
        && let Some(one) = list.get(place)
    {
        (at, inner) = (one.span().start, one.get_ref());
    }
    match (rest, inner) {
        (Some(rest), DeValue::Table(table)) => position(table, rest).or(Some(at)),
        _ => Some(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"name = "careful"
expected_install_min = 600

[[phases]]
name = "canary"
percent = 10

[[phases]]
name = "all"
percent = 5

[caps.activations]
max_in_flight = 0
"#;

    #[test]
    fn every_field_is_told_with_its_line_as_far_as_it_stands_there() {
        let told = |detail: &str| located(FILE, detail);
        let both =
            "phases[1].percent: 5 is not above 10; name a higher one; caps.activations.max_in_flight: 0 is nobody";
        assert_eq!(
            told(both).as_deref(),
            Some(
                "line 10: phases[1].percent: 5 is not above 10; name a higher one; line 13: \
                 caps.activations.max_in_flight: 0 is nobody"
            )
        );
        assert_eq!(told("expected_install_min: too long").as_deref(), Some("line 2: expected_install_min: too long"));
        // What does not stand there itself is looked for where it should.
        assert_eq!(told("phases[0].success_percent: x").as_deref(), Some("line 4: phases[0].success_percent: x"));
        assert_eq!(told("start_at: is missing"), None);
        assert_eq!(told("rollout careful exists with another specification"), None);
        assert_eq!(located("name = ", "name: x"), None);
    }
}
