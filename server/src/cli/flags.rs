//! The server names fields when it refuses something, since programs ask it as well. Whoever typed flags reads flags.

use std::ffi::OsString;

use clap::Command;

/// Options of a phase, by their field.
const PHASE_OPTIONS: [(&str, &str); 5] = [
    ("success_percent", "success"),
    ("completed_percent", "completed"),
    ("min_completed", "min"),
    ("max_wait_min", "wait"),
    ("soak_min", "soak"),
];

/// The flags of the command that was typed.
#[derive(Debug, Default)]
pub(crate) struct Flags(Vec<String>);

impl Flags {
    /// Of a command line that was understood. None if a file holds the fields, which are named as they are there.
    pub(crate) fn of(command: &Command, args: impl Iterator<Item = OsString>) -> Self {
        let mut command = command;
        let mut from_file = false;
        for arg in args.skip(1) {
            let arg = arg.to_string_lossy();
            from_file |= arg == "-f" || arg == "--file" || arg.starts_with("--file=");
            command = command.get_subcommands().find(|sub| sub.get_name() == arg).unwrap_or(command);
        }
        if from_file {
            return Self::default();
        }
        Self(command.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_owned).collect())
    }

    /// The same words, with the flag for each field that a sentence begins with.
    pub(crate) fn named(&self, detail: &str) -> String {
        detail.split("; ").map(|sentence| self.sentence(sentence)).collect::<Vec<_>>().join("; ")
    }

    fn sentence(&self, sentence: &str) -> String {
        let own = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '[' | ']');
        let end = sentence.find(|c| !own(c)).unwrap_or(sentence.len());
        let (path, rest) = sentence.split_at(end);
        match self.flag(path).filter(|_| rest.starts_with(": ") || rest.starts_with(" is ")) {
            Some(flag) => format!("{flag}{rest}"),
            None => sentence.to_owned(),
        }
    }

    /// `max_uses` -> `--max-uses` or `--uses`, `ttl_s` -> `--ttl`, `phases[0].soak_min` -> `--phase 1, soak`.
    fn flag(&self, path: &str) -> Option<String> {
        if let Some((list, rest)) = path.split_once('[') {
            let (index, field) = rest.split_once(']')?;
            let flag = self.known(list)?;
            let field = field.strip_prefix('.').map(|field| {
                let option = PHASE_OPTIONS.iter().find(|(known, _)| *known == field);
                format!(", {}", option.map_or(field, |(_, option)| option))
            });
            return Some(format!("--{flag} {}{}", index.parse::<usize>().ok()? + 1, field.unwrap_or_default()));
        }
        self.known(path.rsplit('.').next()?).map(|flag| format!("--{flag}"))
    }

    fn known(&self, field: &str) -> Option<&str> {
        let shorter = ["_s", "_min", "s"].iter().filter_map(|unit| field.strip_suffix(unit));
        let names = [field].into_iter().chain(field.strip_prefix("max_")).chain(shorter);
        let mut flags = names.map(|name| name.replace('_', "-"));
        flags.find_map(|flag| self.0.iter().find(|known| **known == flag)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn named(line: &str, detail: &str) -> String {
        let args = std::iter::once("callboard").chain(line.split(' ')).map(OsString::from);
        Flags::of(&Cli::command(), args).named(detail)
    }

    #[test]
    fn fields_become_the_flags_of_the_command_that_was_typed() {
        for (line, detail, wanted) in [
            ("token create", "max_uses is 0; 1 to 9 are allowed", "--uses is 0; 1 to 9 are allowed"),
            ("token create --output json", "ttl_s is 5; 60 to 9 seconds", "--ttl is 5; 60 to 9 seconds"),
            (
                "rollout create r",
                "priority: is 1001; max_attempts: is 11",
                "--priority: is 1001; --max-attempts: is 11",
            ),
            ("rollout create r", "phases[0].percent: the last", "--phase 1, percent: the last"),
            ("rollout create r", "phases[1].success_percent: is 0", "--phase 2, success: is 0"),
            ("rollout preview", "windows[0]: needs", "--window 1: needs"),
            ("rollout create r", "windows: only", "--window: only"),
            ("rollout create r", "min_absence_s: must be", "--min-absence: must be"),
            ("rollout create r", "expected_install_min: 31 minutes", "--expected-install: 31 minutes"),
            ("rollout create r", "caps.max_downloads: is 0", "--max-downloads: is 0"),
            ("rollout create r", "ends_at is 2027", "--ends-at is 2027"),
            ("device hold till-1", "until is 2027", "--until is 2027"),
            ("device list", "selector: column 9", "--selector: column 9"),
            // Not a flag there, or the file's own words, or no field at all.
            ("device label --selector all", "selector is empty", "--selector is empty"),
            ("rollout create -f r.toml", "priority: is 1001", "priority: is 1001"),
            ("rollout create r", "there is no release x", "there is no release x"),
            ("token create", "uses and labels", "uses and labels"),
        ] {
            assert_eq!(named(line, detail), wanted, "{line}");
        }
    }
}
