//! How a command ends: exit code 0, 1 (the server or the machine said no) or 2 (bad input), and one line that says why.

use std::{fmt::Write as _, io, path::Path};

use callboard_proto::{
    problem::{Code, Problem},
    text::shown,
};

use super::{flags::Flags, show::Format};

/// Done.
pub(crate) const OK: u8 = 0;
/// The server or this machine said no, or it was not completed; the same may work another time.
pub(crate) const FAILED: u8 = 1;
/// An argument, a file, the environment or the profile is wrong; nothing was done, and the same cannot work later.
pub(crate) const BAD_INPUT: u8 = 2;

/// Something that the caller wrote is wrong: an argument, a file, a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadInput(pub(crate) String);

impl BadInput {
    /// With the sentence that is shown.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// For a file that the caller named and that cannot be opened or made. Another time helps only where the disk is at
/// fault.
pub(crate) fn unusable(what: &str, path: &Path) -> impl FnOnce(io::Error) -> anyhow::Error {
    let text = format!("cannot {what} {}", path.display());
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::Other => {
            anyhow::Error::new(error).context(text)
        }
        _ => BadInput(format!("{text}: {error}")).into(),
    }
}

/// The server's own words when it says no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", explain(.0))]
pub(crate) struct Refused(pub(crate) Problem);

fn explain(problem: &Problem) -> String {
    let words = if problem.detail.is_empty() { &problem.title } else { &problem.detail };
    match &problem.request_id {
        Some(id) => format!("{words} (request {id} in the server's log)"),
        None => words.clone(),
    }
}

/// The command worked, and its answer is no: the text says which. Exit code 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct EndedBadly(pub(crate) String);

/// The exit code that `error` stands for.
pub(crate) fn code_of(error: &anyhow::Error) -> u8 {
    /// Problems with what was asked, not with the state of things.
    const CALLERS_FAULT: [Code; 3] = [Code::BadRequest, Code::Invalid, Code::BadSelector];
    for cause in error.chain() {
        if cause.is::<BadInput>() {
            return BAD_INPUT;
        }
        if let Some(Refused(problem)) = cause.downcast_ref::<Refused>()
            && CALLERS_FAULT.iter().any(|code| code.as_str() == problem.code)
        {
            return BAD_INPUT;
        }
    }
    FAILED
}

/// Prints the error as one line, if there is one, and gives the exit code.
pub(crate) fn finish(result: anyhow::Result<()>, format: Format, flags: impl FnOnce() -> Flags) -> u8 {
    let Err(error) = result else {
        return OK;
    };
    let (mut text, code) = (one_line(&error), code_of(&error));
    let refused = error.chain().find_map(|cause| cause.downcast_ref::<Refused>()).map(|Refused(problem)| problem);
    if let Some(problem) = refused.filter(|problem| code == BAD_INPUT && !problem.detail.is_empty()) {
        text = text.replace(&problem.detail, &flags().named(&problem.detail));
    }
    tell(format, &text, code, refused)
}

/// What the parser of the command line says: help that was asked for, or an error in one line.
pub(crate) fn usage(error: &clap::Error, format: Format) -> u8 {
    use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    let text = error.render().to_string();
    match error.kind() {
        DisplayHelp | DisplayVersion => {
            // A reader that has gone away (`| head`) is no error.
            let _ = error.print();
            OK
        }
        DisplayHelpOnMissingArgumentOrSubcommand if format == Format::Table => {
            eprint!("{text}");
            BAD_INPUT
        }
        DisplayHelpOnMissingArgumentOrSubcommand => tell(format, "a command is missing: see --help", BAD_INPUT, None),
        _ => tell(format, &condensed(&text), BAD_INPUT, None),
    }
}

/// The parser's message without its layout, and which help says more.
fn condensed(text: &str) -> String {
    let (mut said, mut command) = (String::new(), "callboard".to_owned());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            // However the file of the program is called.
            let verbs = usage.split(' ').skip(1).take_while(|word| !word.starts_with(['-', '<', '[']));
            command = std::iter::once("callboard").chain(verbs).collect::<Vec<_>>().join(" ");
        } else if !line.starts_with("For more information") {
            let before = if said.is_empty() {
                ""
            } else if line.starts_with("tip:") {
                "; "
            } else {
                " "
            };
            said.extend([before, line]);
        }
    }
    format!("{} (see {command} --help)", said.strip_prefix("error: ").unwrap_or(&said))
}

fn tell(format: Format, text: &str, code: u8, problem: Option<&Problem>) -> u8 {
    match format {
        Format::Table => eprintln!("callboard: {text}"),
        Format::Json => {
            let error = serde_json::json!({
                "error": text,
                "exit_code": code,
                "code": problem.map(|problem| &problem.code),
                "request_id": problem.and_then(|problem| problem.request_id.as_ref()),
            });
            eprintln!("{error}");
        }
    }
    code
}

/// All causes in one line, without anything that a terminal would obey. A message that has its cause in it already is
/// not told twice.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(|cause| cause.to_string()) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {cause}");
        }
    }
    shown(&text.trim().replace(['\n', '\t'], " ")).into_owned()
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    fn refused(code: Code) -> anyhow::Error {
        let (word, title, status) = code.row();
        Refused(Problem {
            kind: format!("urn:callboard:problem:{word}"),
            title: title.to_owned(),
            status,
            code: word.to_owned(),
            detail: "column 8: expected a value".to_owned(),
            request_id: None,
        })
        .into()
    }

    #[test]
    fn bad_selectors_and_impossible_wishes_are_bad_input_and_everything_else_failed() {
        let bad: Vec<&str> =
            Code::ALL.into_iter().filter(|code| code_of(&refused(*code)) == BAD_INPUT).map(Code::as_str).collect();
        assert_eq!(bad, ["bad_request", "invalid", "bad_selector"]);
        assert_eq!(code_of(&anyhow::anyhow!("cannot connect")), FAILED);
    }

    #[test]
    fn the_cause_decides_even_under_a_context() {
        let error = Err::<(), _>(BadInput::new("no such zone")).context("--window").expect_err("an error");
        assert_eq!(code_of(&error), BAD_INPUT);
        assert_eq!(one_line(&error), "--window: no such zone");
        let error = Err::<(), _>(refused(Code::BadSelector)).context("cannot list devices").expect_err("an error");
        assert_eq!(code_of(&error), BAD_INPUT);
    }

    #[test]
    fn an_error_is_one_line_that_no_terminal_obeys() {
        let error = anyhow::anyhow!("device \u{1b}[2J said\nmany\tthings\u{202e}\n");
        assert_eq!(one_line(&error), "device \\u{1b}[2J said many things\\u{202e}");
    }

    #[test]
    fn what_the_parser_lays_out_is_condensed() {
        let text = "error: unrecognized subcommand 'lst'\n\n  tip: a similar subcommand exists: 'list'\n\n\
                    Usage: test-callboard device [OPTIONS] <COMMAND>\n\nFor more information, try '--help'.\n";
        let wanted =
            "unrecognized subcommand 'lst'; tip: a similar subcommand exists: 'list' (see callboard device --help)";
        assert_eq!(condensed(text), wanted);
    }

    #[test]
    fn no_cause_is_told_twice() {
        let inner = anyhow::anyhow!("no such host").context("connect to the database: no such host");
        assert_eq!(one_line(&inner.context("cannot start")), "cannot start: connect to the database: no such host");
    }
}
