//! A phase as people write it: `canary=10%,success=95` or `pilot={site = NYC-001},wait=60m`.

use callboard_proto::admin::{Approval, Phase};

use crate::cli::duration;

/// How a phase is written, for `--help` and for errors.
pub(crate) const SYNTAX: &str = "NAME=SHARE[,success=P][,completed=P][,min=N][,wait=DURATION][,soak=DURATION]\
    [,approval=manual], where SHARE is a \
    cumulative percentage such as 10% or a selector in braces, such as \"canary=10%,success=95\" or \
    \"pilot={site in (NYC-001, BOS-001)},wait=60m\"";

/// The contract's own defaults.
const DEFAULT: Phase = Phase {
    name: String::new(),
    percent: None,
    selector: None,
    success_percent: 95,
    completed_percent: 80,
    min_completed: 1,
    max_wait_min: None,
    soak_min: 0,
    approval: Approval::Auto,
};

/// A phase as [`parse`] reads it; what is as usual is left out.
pub(super) fn in_words(phase: &Phase) -> String {
    let share = match (&phase.selector, phase.percent) {
        (Some(selector), _) => format!("{{{selector}}}"),
        (None, percent) => format!("{}%", percent.unwrap_or(100)),
    };
    let given = |name: &str, value: u32, usual: u32| (value != usual).then(|| format!(",{name}={value}"));
    let options = [
        given("success", phase.success_percent.into(), DEFAULT.success_percent.into()),
        given("completed", phase.completed_percent.into(), DEFAULT.completed_percent.into()),
        given("min", phase.min_completed, DEFAULT.min_completed),
        phase.max_wait_min.map(|minutes| format!(",wait={minutes}m")),
        (phase.soak_min > 0).then(|| format!(",soak={}m", phase.soak_min)),
        (phase.approval == Approval::Manual).then(|| ",approval=manual".to_owned()),
    ];
    format!("{}={share}{}", phase.name, options.into_iter().flatten().collect::<String>())
}

/// Reads a phase.
///
/// # Errors
/// Says what is wrong and what would be right.
pub(crate) fn parse(text: &str) -> Result<Phase, String> {
    let (name, rest) = text.split_once('=').ok_or_else(|| format!("{text:?} has no share: {SYNTAX}"))?;
    let (share, options) = split_share(rest.trim_start())?;
    let mut phase = Phase { name: name.trim().to_owned(), ..DEFAULT };
    match share {
        Share::Percent(percent) => phase.percent = Some(percent),
        Share::Selector(selector) => phase.selector = Some(selector.to_owned()),
    }
    for option in options.split(',').map(str::trim).filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').ok_or_else(|| format!("{option:?} has no value: {SYNTAX}"))?;
        match key {
            "success" => phase.success_percent = percent(value)?,
            "completed" => phase.completed_percent = percent(value)?,
            "min" => phase.min_completed = value.parse().map_err(|error| format!("min={value}: {error}"))?,
            "wait" => phase.max_wait_min = Some(duration::minutes(value)?),
            "soak" => phase.soak_min = duration::minutes(value)?,
            "approval" => phase.approval = approval(value)?,
            _ => {
                return Err(format!("{key:?} is none of success, completed, min, wait, soak, approval: {SYNTAX}"));
            }
        }
    }
    if phase.name.is_empty() {
        return Err(format!("the phase has no name: {SYNTAX}"));
    }
    Ok(phase)
}

enum Share<'a> {
    Percent(u8),
    Selector(&'a str),
}

/// Splits share and options. A selector may hold commas, and braces in quotes; the last brace ends it.
fn split_share(text: &str) -> Result<(Share<'_>, &str), String> {
    if let Some(rest) = text.strip_prefix('{') {
        let (selector, options) = rest.rsplit_once('}').ok_or_else(|| format!("the selector has no end: {SYNTAX}"))?;
        let options = options.trim_start();
        if !options.is_empty() && !options.starts_with(',') {
            return Err(format!("{options:?} follows the selector without a comma: {SYNTAX}"));
        }
        return Ok((Share::Selector(selector.trim()), options));
    }
    let (share, options) = text.split_once(',').unwrap_or((text, ""));
    let share = share.trim();
    let digits = share.strip_suffix('%').ok_or_else(|| format!("{share:?} is not a share such as 10%: {SYNTAX}"))?;
    Ok((Share::Percent(percent(digits)?), options))
}

fn percent(text: &str) -> Result<u8, String> {
    let digits = text.strip_suffix('%').unwrap_or(text);
    let number = digits.parse::<u8>().ok().filter(|n| (1..=100).contains(n));
    number.ok_or_else(|| format!("{text:?} is not a percentage of 1 to 100"))
}

fn approval(text: &str) -> Result<Approval, String> {
    match text {
        "auto" => Ok(Approval::Auto),
        "manual" => Ok(Approval::Manual),
        _ => Err(format!("approval={text}: auto or manual is wanted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(text) {
            Ok(phase) => serde_json::to_string(&phase).expect("JSON"),
            Err(what) => what,
        }
    }

    #[test]
    fn phases_as_people_write_them() {
        assert_eq!(
            shown("canary=10%,success=100,completed=50%,min=2,wait=2h,soak=3h,approval=manual"),
            r#"{"name":"canary","percent":10,"selector":null,"success_percent":100,"completed_percent":50,"min_completed":2,"max_wait_min":120,"soak_min":180,"approval":"manual"}"#
        );
        assert_eq!(
            shown("pilot={site in (NYC-001, BOS-001)}, wait=60m"),
            r#"{"name":"pilot","percent":null,"selector":"site in (NYC-001, BOS-001)","success_percent":95,"completed_percent":80,"min_completed":1,"max_wait_min":60,"soak_min":0,"approval":"auto"}"#
        );
        assert_eq!(parse("all={name = \"a}b\"}").expect("a phase").selector.as_deref(), Some("name = \"a}b\""));
    }

    #[test]
    fn what_is_shown_of_a_phase_reads_back() {
        for text in [
            "canary=10%",
            "half=50%,success=100,completed=50,min=2,wait=120m,soak=180m,approval=manual",
            "pilot={site in (NYC-001, BOS-001)},wait=60m",
        ] {
            assert_eq!(in_words(&parse(text).expect("a phase")), text);
        }
    }

    #[test]
    fn defaults_are_the_contracts() {
        let contract: Phase = serde_json::from_str(r#"{"name": "a", "percent": 100}"#).expect("a phase");
        assert_eq!(parse("a=100%"), Ok(contract));
    }

    #[test]
    fn bad_phases_are_explained() {
        for (text, what) in [
            ("canary", "\"canary\" has no share"),
            ("=10%", "the phase has no name"),
            ("a=10", "\"10\" is not a share such as 10%"),
            ("a=0%", "\"0\" is not a percentage"),
            ("a=101%", "\"101\" is not a percentage"),
            ("a={x = 1", "the selector has no end"),
            ("a={x = 1}success=3", "\"success=3\" follows the selector"),
            ("a=10%,success", "\"success\" has no value"),
            ("a=10%,soap=5m", "\"soap\" is none of"),
            ("a=10%,approval=yes", "approval=yes: auto or manual"),
            ("a=10%,min=x", "min=x: invalid digit"),
            ("a=10%,wait=90s", "\"90s\" is not a whole number of minutes"),
        ] {
            let said = shown(text);
            assert!(said.starts_with(what), "{text:?}: {said}");
        }
    }
}
