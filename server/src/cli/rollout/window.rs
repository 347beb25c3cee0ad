//! A window as people write it: `mon-fri 02:00 +120m site`.

use callboard_proto::admin::{Window, WindowGate, WindowMode};

use crate::{
    cli::{duration, table},
    hours::days,
};

/// How a window is written, for `--help` and for errors.
pub(crate) const SYNTAX: &str = "[DAYS] HH:MM +DURATION [ZONE] [gates=download,install] [best-effort], such as \
    \"mon-fri 02:00 +120m site\" or \"sat,sun 23:30 +3h Europe/Paris\"; \
    or \"cron MIN HOUR DOM MON DOW +DURATION ...\" with five cron fields for the start";

/// Reads a window.
///
/// # Errors
/// Says which word is wrong and what would be right.
pub(crate) fn parse(text: &str) -> Result<Window, String> {
    let mut words = text.split_whitespace().peekable();
    let (mut chosen, mut start, mut cron) = (Vec::new(), None, None);
    if words.next_if_eq(&"cron").is_some() {
        let fields: Vec<&str> = words.by_ref().take(5).collect();
        if fields.len() < 5 || fields.iter().any(|field| field.starts_with('+')) {
            return Err(format!("cron needs five fields before the duration: {SYNTAX}"));
        }
        cron = Some(fields.join(" "));
    } else {
        if let Some(word) = words.next_if(|word| word.starts_with(|c: char| c.is_ascii_alphabetic())) {
            chosen = days::parse(word)?;
        }
        let word = words.next().unwrap_or_default();
        if !is_time(word) {
            return Err(format!("{word:?} is not a local time such as 02:00: {SYNTAX}"));
        }
        start = Some(word.to_owned());
    }
    let word = words.next().unwrap_or_default();
    let length = word.strip_prefix('+').ok_or_else(|| format!("{word:?} is not a length such as +120m: {SYNTAX}"))?;
    let duration_min = duration::minutes(length)?;
    let mut window = Window {
        tz: "site".to_owned(),
        days: chosen,
        start,
        cron,
        duration_min,
        gates: vec![WindowGate::Install],
        mode: WindowMode::Hard,
    };
    let mut zones = 0;
    for word in words {
        match word {
            "best-effort" => window.mode = WindowMode::BestEffort,
            "hard" => window.mode = WindowMode::Hard,
            _ => match word.strip_prefix("gates=") {
                Some(gates) => window.gates = gates.split(',').map(parse_gate).collect::<Result<_, _>>()?,
                None => {
                    zones += 1;
                    word.clone_into(&mut window.tz);
                }
            },
        }
    }
    if zones > 1 {
        return Err(format!("only one time zone is possible: {SYNTAX}"));
    }
    Ok(window)
}

fn is_time(word: &str) -> bool {
    let number = |text: &str, below: u8| text.len() == 2 && text.parse::<u8>().is_ok_and(|n| n < below);
    word.split_once(':').is_some_and(|(hour, minute)| number(hour, 24) && number(minute, 60))
}

fn parse_gate(word: &str) -> Result<WindowGate, String> {
    match word {
        "download" => Ok(WindowGate::Download),
        "install" => Ok(WindowGate::Install),
        _ => Err(format!("gates: {word:?} is neither download nor install")),
    }
}

/// A window as [`parse`] reads it.
pub(super) fn in_words(window: &Window) -> String {
    let start = match (&window.start, &window.cron) {
        (Some(start), _) => format!("{} {start}", days::in_short(&window.days)),
        (None, cron) => format!("cron {}", cron.as_deref().unwrap_or_default()),
    };
    let mut text = format!("{start} +{}m {}", window.duration_min, window.tz);
    if window.gates != [WindowGate::Install] {
        let gates: Vec<String> = window.gates.iter().map(table::word).collect();
        text += &format!(" gates={}", gates.join(","));
    }
    if window.mode == WindowMode::BestEffort {
        text += " best-effort";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_told_as_they_are_read() {
        for text in [
            "daily 02:00 +120m site",
            "mon-fri 02:00 +120m site",
            "sat,sun 23:30 +180m Europe/Paris gates=download,install best-effort",
            "cron 0 2 * * 1-5 +90m site gates=download",
        ] {
            assert_eq!(in_words(&parse(text).expect("a window")), text);
        }
    }

    fn shown(text: &str) -> String {
        match parse(text) {
            Ok(window) => serde_json::to_string(&window).expect("JSON"),
            Err(what) => what,
        }
    }

    #[test]
    fn windows_as_people_write_them() {
        assert_eq!(
            shown("mon-fri 02:00 +120m site"),
            r#"{"tz":"site","days":["mon","tue","wed","thu","fri"],"start":"02:00","cron":null,"duration_min":120,"gates":["install"],"mode":"hard"}"#
        );
        assert_eq!(
            shown("23:30 +3h Europe/Paris gates=download,install best-effort"),
            r#"{"tz":"Europe/Paris","days":[],"start":"23:30","cron":null,"duration_min":180,"gates":["download","install"],"mode":"best_effort"}"#
        );
        assert_eq!(
            shown("cron 0 2 * * 1-5 +90m"),
            r#"{"tz":"site","days":[],"start":null,"cron":"0 2 * * 1-5","duration_min":90,"gates":["install"],"mode":"hard"}"#
        );
    }

    #[test]
    fn the_windows_of_the_operators_page_are_understood() {
        let page = include_str!("../../../../deploy/policies.md");
        let section = page.split("\n## Windows\n").nth(1).expect("the section");
        let block = section.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
        // What is explained goes on in lines that begin with blanks.
        let lines = block.lines().filter(|line| !line.starts_with(' '));
        let windows: Vec<&str> = lines.filter_map(|line| line.split("  ").next()).collect();
        assert!(windows.len() > 5, "{windows:?}");
        for text in windows {
            assert!(parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn bad_windows_are_explained() {
        for (text, what) in [
            ("", "\"\" is not a local time"),
            ("monday 02:00 +1h", "\"monday\" is not a day"),
            ("mon 25:00 +1h", "\"25:00\" is not a local time"),
            ("mon 2:00 +1h", "\"2:00\" is not a local time"),
            ("mon 02:00", "\"\" is not a length such as +120m"),
            ("mon 02:00 120m", "\"120m\" is not a length"),
            ("mon 02:00 +90s", "\"90s\" is not a whole number of minutes"),
            ("02:00 +1h site UTC", "only one time zone"),
            ("02:00 +1h gates=all", "gates: \"all\" is neither"),
            ("cron 0 2 * * +1h", "cron needs five fields"),
        ] {
            let said = shown(text);
            assert!(said.starts_with(what), "{text:?}: {said}");
        }
    }
}
