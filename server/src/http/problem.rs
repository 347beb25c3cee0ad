//! Errors over HTTP: the only place with status codes.

use std::{
    fmt,
    time::{Duration, UNIX_EPOCH},
};

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use callboard_proto::{
    problem::{Code, MEDIA_TYPE, Problem},
    time::Timestamp,
};
use uuid::Uuid;

use crate::{
    app,
    db::{DbError, Trouble},
};

/// An answer of 400 and above.
#[derive(Clone, Debug)]
pub(crate) struct ApiProblem {
    pub(crate) code: Code,
    pub(crate) detail: String,
    /// Seconds for `Retry-After`.
    pub(crate) retry_after_s: Option<u32>,
    /// What `Date` says, where the client is to go by the server's clock.
    date: Option<Timestamp>,
    request_id: Option<String>,
}

/// Result of a handler.
pub(crate) type ApiResult<T> = Result<T, ApiProblem>;

impl ApiProblem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after_s: None, date: None, request_id: None }
    }

    /// No place now; the client is to come back.
    pub(crate) fn retry_after(code: Code, detail: impl Into<String>, seconds: u32) -> Self {
        Self { retry_after_s: Some(seconds), ..Self::new(code, detail) }
    }

    /// The client is to go by the server's clock, which says this.
    pub(crate) fn at(self, now: Timestamp) -> Self {
        Self { date: Some(now), ..self }
    }

    fn unexpected(source: &dyn fmt::Display) -> Self {
        let id = Uuid::now_v7().to_string();
        tracing::error!(request.id = %id, error = %source, "request failed");
        let detail = "the server's log has more under the request id".to_owned();
        Self { request_id: Some(id), ..Self::new(Code::Internal, detail) }
    }

    /// The body.
    pub(crate) fn problem(&self) -> Problem {
        let (code, title, status) = self.code.row();
        Problem {
            kind: format!("urn:callboard:problem:{code}"),
            title: title.to_owned(),
            status,
            code: code.to_owned(),
            detail: self.detail.clone(),
            request_id: self.request_id.clone(),
        }
    }
}

impl From<app::Error> for ApiProblem {
    fn from(error: app::Error) -> Self {
        match error {
            app::Error::Refused { code, detail } => Self::new(code, detail),
            app::Error::Db(source) => database(&source),
            other @ app::Error::Unexpected(_) => Self::unexpected(&other),
        }
    }
}

fn database(source: &DbError) -> ApiProblem {
    let (code, detail, seconds) = match source.trouble() {
        Trouble::Disk => (Code::StorageFull, "the server cannot write to its disk; nothing was changed", 60),
        Trouble::ReadOnly => {
            (Code::Unavailable, "the database takes no writes now; nothing was changed, try again", 30)
        }
        Trouble::Away => {
            (Code::Unavailable, "the database is busy, stopping or not there; nothing was changed, try again", 5)
        }
        Trouble::Unexpected => return ApiProblem::unexpected(source),
    };
    tracing::warn!(error = %source, "the database did not do what it was asked");
    ApiProblem::retry_after(code, detail, seconds)
}

impl fmt::Display for ApiProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for ApiProblem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code.row().2).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((header::CONTENT_TYPE, MEDIA_TYPE));
        if let Some(seconds) = self.retry_after_s {
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        if let Some(now) = self.date {
            let since_1970 = Duration::from_millis(u64::try_from(now.millis()).unwrap_or(0));
            response.insert_header((header::DATE, header::HttpDate::from(UNIX_EPOCH + since_1970)));
        }
        if self.code == Code::Unauthorized {
            // Browsers ask for a password; it is the token.
            response.insert_header((header::WWW_AUTHENTICATE, "Basic realm=\"callboard\""));
        }
        response.body(serde_json::to_vec(&self.problem()).unwrap_or_default())
    }
}

/// An answer that was given before.
pub(crate) fn answered(status: u16, body: Vec<u8>) -> HttpResponse {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = if status.is_success() { "application/json" } else { MEDIA_TYPE };
    let mut response = HttpResponse::build(status);
    response.insert_header(("Idempotent-Replayed", "true"));
    if status == StatusCode::NO_CONTENT {
        return response.finish();
    }
    response.insert_header((header::CONTENT_TYPE, kind)).body(body)
}

/// What actix refuses by itself (a body that is not JSON, a missing parameter), in our words.
pub(crate) fn from_actix(error: &actix_web::Error) -> ApiProblem {
    let text = error.to_string();
    if error.as_response_error().status_code() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiProblem::new(Code::TooLarge, format!("the body is larger than this path allows ({text})"));
    }
    let detail = if text == "Content type error" {
        "send the body with Content-Type: application/json".to_owned()
    } else {
        text
    };
    ApiProblem::new(Code::BadRequest, detail)
}

/// For paths that do not exist.
pub(crate) async fn not_found() -> ApiResult<HttpResponse> {
    Err(ApiProblem::new(Code::NotFound, "there is nothing under this path"))
}

/// For methods that a path does not have.
pub(crate) async fn method_not_allowed() -> ApiResult<HttpResponse> {
    Err(ApiProblem::new(Code::MethodNotAllowed, "this path exists, but not with this method"))
}
