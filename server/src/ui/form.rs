//! The fields of a form as they were sent, and what is wrong with each: a form that is refused is shown again with what
//! was typed and the message beside its field.

use std::{fmt::Display, str::FromStr};

use callboard_proto::problem::Code;

use crate::http::problem::{ApiProblem, ApiResult};

/// The field with the token of the session.
pub(crate) const CSRF: &str = "csrf";

/// Fields in the order in which they were sent, and messages by field; those of no field have the name `""`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Form {
    fields: Vec<(String, String)>,
    errors: Vec<(String, String)>,
}

impl Form {
    pub(crate) fn of(fields: Vec<(String, String)>) -> Self {
        // Browsers send the ends of lines as in mail.
        let plain = |(name, value): (String, String)| (name, value.replace("\r\n", "\n"));
        Self { fields: fields.into_iter().map(plain).collect(), errors: Vec::new() }
    }

    /// A form to begin with.
    pub(crate) fn with<const N: usize>(fields: [(&str, String); N]) -> Self {
        Self::of(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// These fields and messages, before those of another form on the same page.
    pub(crate) fn over(mut self, other: Self) -> Self {
        self.fields.extend(other.fields);
        self.errors.extend(other.errors);
        self
    }

    /// What stands in a field; nothing if there is no such field.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.fields.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// What stands in a field, without space around it, unless it is empty.
    pub(crate) fn some(&self, name: &str) -> Option<String> {
        Some(self.text(name).trim()).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// Every value of a field that may be sent more than once.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The names of the fields that were sent.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name.as_str())
    }

    /// The same with another field, or with another value in it.
    pub(crate) fn and(mut self, name: &str, value: impl Into<String>) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    /// The same without a field.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self
    }

    /// Whether a box is ticked, or a button was pressed.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(known, _)| known == name)
    }

    /// Whether a choice is this one.
    pub(crate) fn is(&self, name: &str, value: &str) -> bool {
        self.all(name).any(|known| known == value)
    }

    /// The field read as something, if it is not empty; what is wrong with it stands beside it.
    pub(crate) fn read<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        match self.some(name)?.parse() {
            Ok(read) => Some(read),
            Err(error) => {
                self.refuse(name, error.to_string());
                None
            }
        }
    }

    /// Says what is wrong with a field; `""` is the form as a whole.
    pub(crate) fn refuse(&mut self, name: &str, message: impl Into<String>) {
        self.errors.push((name.to_owned(), message.into()));
    }

    /// Takes a refusal of a use case to the field that it names first, or to the form as a whole. Gives back what no
    /// change to the form would help against.
    pub(crate) fn take(&mut self, problem: impl Into<ApiProblem>) -> ApiResult<()> {
        let problem = problem.into();
        let about_the_form = [
            Code::BadRequest,
            Code::Invalid,
            Code::BadSelector,
            Code::Conflict,
            Code::WrongState,
            Code::DocumentRefused,
            Code::DigestMismatch,
        ];
        if !about_the_form.contains(&problem.code) {
            return Err(problem);
        }
        let first = problem.detail.split([' ', ':', '.', '[', ',']).next().unwrap_or_default();
        let name = if self.has(first) { first.to_owned() } else { String::new() };
        self.errors.push((name, problem.detail));
        Ok(())
    }

    /// Says something else of a field than before.
    pub(crate) fn refuse_instead(&mut self, name: &str, message: impl Into<String>) {
        self.errors.retain(|(known, _)| known != name);
        self.refuse(name, message);
    }

    /// What is wrong with a field.
    pub(crate) fn error(&self, name: &str) -> Option<&str> {
        self.errors.iter().find(|(known, _)| known == name).map(|(_, message)| message.as_str())
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_right(&self) -> bool {
        self.errors.is_empty()
    }

    /// The fields but those that nobody should find in a page: for whoever has to log in before they are sent.
    pub(crate) fn to_keep(&self) -> Vec<(&str, &str)> {
        let secret = |name: &str| name == CSRF || name.contains("password") || name.contains("secret");
        self.fields
            .iter()
            .filter(|(name, _)| !secret(name))
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_stands_at_the_field_that_it_names() {
        let mut form =
            Form::with([("reason", " ".to_owned()), ("until", "soon".to_owned()), ("password", "x".to_owned())]);
        assert_eq!((form.some("reason"), form.text("until"), form.some("nothing")), (None, "soon", None));
        assert_eq!(form.read::<u32>("until"), None);
        form.take(ApiProblem::new(Code::Invalid, "reason is empty; say what the hold is for")).unwrap();
        form.take(ApiProblem::new(Code::Conflict, "there is one already")).unwrap();
        assert_eq!(form.error("until"), Some("invalid digit found in string"));
        assert_eq!(form.error("reason"), Some("reason is empty; say what the hold is for"));
        assert_eq!(form.error(""), Some("there is one already"));
        assert!(form.take(ApiProblem::new(Code::NotFound, "no device x")).is_err());
        assert_eq!(form.to_keep(), [("reason", " "), ("until", "soon")]);
    }
}
