//! What a use case answers when it does not do what it was asked.

use callboard_proto::problem::Code;

use crate::db::{DbError, QueryError};

/// A refusal for the client, or a failure for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The client can do something about it: `detail` says what was wrong and what would be right.
    #[error("{detail}")]
    Refused { code: Code, detail: String },
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// Something else failed.
    #[error("{0}")]
    Unexpected(String),
}

/// Result of a use case.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A refusal.
    pub(crate) fn refused(code: Code, detail: impl Into<String>) -> Self {
        Self::Refused { code, detail: detail.into() }
    }

    /// A well-formed request that asks for something impossible.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::refused(Code::Invalid, detail)
    }

    /// Nothing is there.
    pub(crate) fn not_found(noun: &str, name: impl std::fmt::Display) -> Self {
        Self::refused(Code::NotFound, format!("there is no {noun} {name}"))
    }
}

impl From<QueryError> for Error {
    fn from(source: QueryError) -> Self {
        Self::Db(source.into())
    }
}
