//! Errors over HTTP: `application/problem+json` (RFC 9457) with a stable code.

use serde::{Deserialize, Serialize};

/// Media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Body of every answer of 400 and above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `urn:callboard:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind of problem, in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// A stable word for programs; the table is in `errors.md`.
    pub code: String,
    /// What was wrong here and what would be right.
    pub detail: String,
    /// Names the server's log line for an unexpected error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Every problem code, with its title and HTTP status. `errors.md` shows the same table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The body, a parameter or a header is malformed.
    BadRequest,
    /// A well-formed request that asks for something impossible.
    Invalid,
    /// A selector does not parse.
    BadSelector,
    /// No or wrong credentials.
    Unauthorized,
    /// Known, but not allowed.
    Forbidden,
    /// The device was revoked or decommissioned.
    DeviceRevoked,
    /// No client certificate of an enrolled device.
    UnknownDevice,
    /// The device's certificate has ended; it is still good for renewing it.
    CertificateExpired,
    /// The signature of the request is not one, or not of this request by this device.
    SignatureInvalid,
    /// The request was signed too long ago, or will be.
    SignatureExpired,
    /// The request was received already.
    NonceReused,
    /// The enrolment token is unknown.
    TokenInvalid,
    /// The enrolment token has expired.
    TokenExpired,
    /// The enrolment token has no uses left.
    TokenUsed,
    /// The serial number or name belongs to a device with another key.
    IdentityConflict,
    /// The enrolment waits for an operator.
    EnrolmentPending,
    /// An operator rejected the enrolment.
    EnrolmentRejected,
    /// The request did not arrive in time.
    Timeout,
    /// Nothing is there.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// It exists already, with other contents.
    Conflict,
    /// The present state, of a rollout or of the server, does not allow that.
    WrongState,
    /// It is not any more what `If-Match` names.
    PreconditionFailed,
    /// An `Idempotency-Key` came with another request before.
    KeyReused,
    /// The body is larger than allowed.
    TooLarge,
    /// The bytes are not what their digest says.
    DigestMismatch,
    /// A signed document was refused.
    DocumentRefused,
    /// The byte range lies outside the payload.
    RangeNotSatisfiable,
    /// Too many requests; see `Retry-After`.
    TooManyRequests,
    /// No place now, or the database is busy; see `Retry-After`.
    Unavailable,
    /// The disk is full, or cannot be written to.
    StorageFull,
    /// The report is for another device's assignment, an unknown one, or another release than the assignment's.
    NotYourAssignment,
    /// The report is for an attempt that is over.
    StaleAttempt,
    /// The report does not follow from the assignment's state.
    IllegalTransition,
    /// Unexpected; the log has more under the request id.
    Internal,
}

impl Code {
    /// Every code, in the order of the table.
    pub const ALL: [Self; 35] = [
        Self::BadRequest,
        Self::Invalid,
        Self::BadSelector,
        Self::Unauthorized,
        Self::Forbidden,
        Self::DeviceRevoked,
        Self::UnknownDevice,
        Self::CertificateExpired,
        Self::SignatureInvalid,
        Self::SignatureExpired,
        Self::NonceReused,
        Self::TokenInvalid,
        Self::TokenExpired,
        Self::TokenUsed,
        Self::IdentityConflict,
        Self::EnrolmentPending,
        Self::EnrolmentRejected,
        Self::Timeout,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::WrongState,
        Self::PreconditionFailed,
        Self::KeyReused,
        Self::TooLarge,
        Self::DigestMismatch,
        Self::DocumentRefused,
        Self::RangeNotSatisfiable,
        Self::TooManyRequests,
        Self::Unavailable,
        Self::StorageFull,
        Self::NotYourAssignment,
        Self::StaleAttempt,
        Self::IllegalTransition,
        Self::Internal,
    ];

    /// Code, title and HTTP status; the one table.
    pub const fn row(self) -> (&'static str, &'static str, u16) {
        match self {
            Self::BadRequest => ("bad_request", "The request is malformed", 400),
            Self::Invalid => ("invalid", "The request asks for something impossible", 422),
            Self::BadSelector => ("bad_selector", "The selector does not parse", 422),
            Self::Unauthorized => ("unauthorized", "Credentials are missing or wrong", 401),
            Self::Forbidden => ("forbidden", "Not allowed", 403),
            Self::DeviceRevoked => ("device_revoked", "The device was revoked or decommissioned", 403),
            Self::UnknownDevice => ("unknown_device", "A client certificate of an enrolled device is needed", 401),
            Self::CertificateExpired => ("certificate_expired", "The device's certificate has ended", 401),
            Self::SignatureInvalid => ("signature_invalid", "The signature of the request is not valid", 401),
            Self::SignatureExpired => ("signature_expired", "The request was signed at another time", 401),
            Self::NonceReused => ("nonce_reused", "The request was received already", 401),
            Self::TokenInvalid => ("token_invalid", "The enrolment token is not valid", 401),
            Self::TokenExpired => ("token_expired", "The enrolment token has expired", 403),
            Self::TokenUsed => ("token_used", "The enrolment token has no uses left", 403),
            Self::IdentityConflict => ("identity_conflict", "Another device has this identity", 409),
            Self::EnrolmentPending => ("enrolment_pending", "The enrolment waits for an operator", 403),
            Self::EnrolmentRejected => ("enrolment_rejected", "An operator rejected the enrolment", 403),
            Self::Timeout => ("timeout", "The request did not arrive in time", 408),
            Self::NotFound => ("not_found", "Not found", 404),
            Self::MethodNotAllowed => ("method_not_allowed", "The method is not allowed here", 405),
            Self::Conflict => ("conflict", "It exists already with other contents", 409),
            Self::WrongState => ("wrong_state", "The present state does not allow that", 409),
            Self::PreconditionFailed => ("precondition_failed", "It was changed meanwhile", 412),
            Self::KeyReused => ("key_reused", "The key came with another request", 422),
            Self::TooLarge => ("too_large", "The body is too large", 413),
            Self::DigestMismatch => ("digest_mismatch", "The bytes are not what their digest says", 422),
            Self::DocumentRefused => ("document_refused", "The signed document was refused", 422),
            Self::RangeNotSatisfiable => ("range_not_satisfiable", "The range lies outside the payload", 416),
            Self::TooManyRequests => ("too_many_requests", "Too many requests", 429),
            Self::Unavailable => ("unavailable", "Not available now", 503),
            Self::StorageFull => ("storage_full", "The server's disk is full", 507),
            Self::NotYourAssignment => ("not_your_assignment", "The assignment is another device's", 403),
            Self::StaleAttempt => ("stale_attempt", "The attempt is over", 409),
            Self::IllegalTransition => ("illegal_transition", "The report does not follow from the state", 409),
            Self::Internal => ("internal", "An unexpected error", 500),
        }
    }

    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }
}
