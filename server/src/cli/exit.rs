//! How a command ends: exit code 0, 1 (refused or failed) or 2 (bad input), and one line of explanation.

use std::fmt::Write as _;

use callboard_proto::{
    problem::{Code, Problem},
    text::shown,
};

/// Done.
pub(crate) const OK: u8 = 0;
/// The server refused, something was not reachable, a rollout did not end well.
pub(crate) const FAILED: u8 = 1;
/// What the caller wrote cannot be understood; doing it again cannot help.
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
pub(crate) fn finish(result: anyhow::Result<()>) -> u8 {
    match result {
        Ok(()) => OK,
        Err(error) => {
            eprintln!("callboard: {}", one_line(&error));
            code_of(&error)
        }
    }
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
    fn no_cause_is_told_twice() {
        let inner = anyhow::anyhow!("no such host").context("connect to the database: no such host");
        assert_eq!(one_line(&inner.context("cannot start")), "cannot start: connect to the database: no such host");
    }
}
