//! A halt rule as people write it: `failed=5%,min=20` or `failures=10,rollback=pos-app@2.3.0`.

use callboard_proto::admin::{HaltAction, HaltRule};

/// How a halt rule is written, for `--help` and for errors.
pub(crate) const SYNTAX: &str = "LIMIT[,LIMIT..][,action=cancel][,rollback=RELEASE], where LIMIT is failed=P%,min=N \
    (P % of at least N completed devices failed), failures=N (more than N failed), row=N (N failed one after the other) \
    or silent=N (more than N fell silent while they switched), such as \"failed=5%,min=20\"; it pauses unless it says \
    otherwise";

/// Reads a halt rule.
///
/// # Errors
/// Says what is wrong and what would be right.
pub(crate) fn parse(text: &str) -> Result<HaltRule, String> {
    let mut rule = HaltRule {
        min_completed: None,
        failure_percent: None,
        max_failures: None,
        consecutive_failures: None,
        max_silent: None,
        action: HaltAction::Pause,
        rollback_to: None,
    };
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("{part:?} has no value: {SYNTAX}"))?;
        let number = || value.parse().map_err(|error| format!("{part}: {error}"));
        match key {
            "failed" => {
                let digits = value.strip_suffix('%').unwrap_or(value);
                rule.failure_percent = Some(digits.parse().map_err(|error| format!("{part}: {error}"))?);
            }
            "min" => rule.min_completed = Some(number()?),
            "failures" => rule.max_failures = Some(number()?),
            "row" => rule.consecutive_failures = Some(number()?),
            "silent" => rule.max_silent = Some(number()?),
            "action" => rule.action = action(value)?,
            "rollback" => (rule.action, rule.rollback_to) = (HaltAction::RollbackTo, Some(value.to_owned())),
            _ => {
                return Err(format!(
                    "{key:?} is none of failed, min, failures, row, silent, action, rollback: {SYNTAX}"
                ));
            }
        }
    }
    Ok(rule)
}

fn action(value: &str) -> Result<HaltAction, String> {
    match value {
        "pause" => Ok(HaltAction::Pause),
        "cancel" => Ok(HaltAction::Cancel),
        _ => Err(format!("action={value}: pause or cancel is wanted, or rollback=RELEASE instead")),
    }
}

/// `pause when 5 % of at least 20 fail; cancel when more than 10 fail`.
pub(super) fn in_words(rules: &[HaltRule]) -> String {
    rules.iter().map(one_in_words).collect::<Vec<_>>().join("; ")
}

fn one_in_words(rule: &HaltRule) -> String {
    let does = match (rule.action, &rule.rollback_to) {
        (HaltAction::Pause, _) => "pause".to_owned(),
        (HaltAction::Cancel, _) => "cancel".to_owned(),
        (HaltAction::RollbackTo, to) => format!("roll back to {}", to.as_deref().unwrap_or_default()),
    };
    let least = rule.min_completed.unwrap_or_default();
    let limits = [
        rule.failure_percent.map(|percent| format!("{percent} % of at least {least} fail")),
        rule.max_failures.map(|max| format!("more than {max} fail")),
        rule.consecutive_failures.map(|limit| format!("{limit} fail one after the other")),
        rule.max_silent.map(|max| format!("more than {max} are silent")),
    ];
    format!("{does} when {}", limits.into_iter().flatten().collect::<Vec<_>>().join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(text) {
            Ok(rule) => one_in_words(&rule),
            Err(what) => what,
        }
    }

    #[test]
    fn halt_rules_as_people_write_them() {
        assert_eq!(shown("failed=5%,min=20"), "pause when 5 % of at least 20 fail");
        assert_eq!(shown("failures=10, action=cancel"), "cancel when more than 10 fail");
        assert_eq!(
            shown("row=3,silent=5,rollback=pos-app@2.3.0"),
            "roll back to pos-app@2.3.0 when 3 fail one after the other or more than 5 are silent"
        );
    }

    #[test]
    fn defaults_are_the_contracts() {
        let contract: HaltRule = serde_json::from_str(r#"{"max_failures": 3}"#).expect("a rule");
        assert_eq!(parse("failures=3"), Ok(contract));
    }

    #[test]
    fn bad_rules_are_explained() {
        for (text, what) in [
            ("failures", "\"failures\" has no value"),
            ("failures=many", "failures=many: invalid digit"),
            ("failed=x%", "failed=x%: invalid digit"),
            ("errors=3", "\"errors\" is none of failed"),
            ("failures=3,action=stop", "action=stop: pause or cancel is wanted"),
        ] {
            let said = shown(text);
            assert!(said.starts_with(what), "{text:?}: {said}");
        }
    }
}
