//! What goes wrong on the way to the server and back.

use std::{io, time::Duration};

use callboard_proto::{problem::Problem, text::is_command, time::Timestamp};
use hyper::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use rustls::CertificateError;

use crate::words::{Attack, Code};

/// A server may not silence its devices for longer.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(86_400);

/// A request without a usable answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("connect to {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("get through proxy {proxy}: {}{reason}", status.map(|status| format!("HTTP status {status}, ")).unwrap_or_default())]
    Proxy { proxy: String, status: Option<u16>, reason: String },
    #[error("agree with {address} on TLS: {source}")]
    Tls { address: String, source: rustls::Error },
    #[error("get an answer: {0} took too long")]
    Slow(&'static str),
    /// It kept coming, and would have for ever. A line that was cut brings nothing any more.
    #[error("get an answer: its body came too slowly")]
    Trickle,
    #[error("{}", http(.0))]
    Http(hyper::Error),
    #[error("make the request: {0}")]
    Request(hyper::http::Error),
    #[error("sign the request: {0}")]
    Sign(String),
    #[error("get an answer: HTTP status {status}{}{}", if code.is_empty() { "" } else { ", " }, detail)]
    Status { status: u16, code: String, detail: String, retry_after: Option<Duration> },
    #[error("read the answer: it is larger than {cap} bytes")]
    TooLarge { cap: usize },
    #[error("read the answer: it has a content encoding, none was asked for")]
    Encoded,
}

impl ClientError {
    pub(super) fn request(source: hyper::http::Error) -> Self {
        Self::Request(source)
    }

    pub(super) fn status(status: StatusCode, body: &[u8], retry_after: Option<Duration>) -> Self {
        let problem: Option<Problem> = serde_json::from_slice(body).ok();
        let (code, detail) = problem.map(|problem| (problem.code, problem.detail)).unwrap_or_default();
        // Nobody signed this, and it goes to the log, to the service manager and into the next check-in.
        let code = plain(&code, 64);
        let detail = if code.is_empty() { String::new() } else { format!("{code}: {}", plain(&detail, 500)) };
        Self::Status { status: status.as_u16(), code, detail, retry_after }
    }

    /// Whether the certificate would have been accepted on another day.
    pub(super) fn is_only_dates(&self) -> bool {
        matches!(
            self,
            Self::Tls { source: rustls::Error::InvalidCertificate(reason), .. } if matches!(
                reason,
                CertificateError::Expired
                    | CertificateError::ExpiredContext { .. }
                    | CertificateError::NotValidYet
                    | CertificateError::NotValidYetContext { .. }
            )
        )
    }

    /// Whether no server was reached at all; says nothing about the server.
    pub(crate) const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Proxy { .. })
    }

    /// When the server wants to be asked again.
    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// A stable word for `last_error`.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Connect { .. } => Code::Unreachable.as_str(),
            Self::Proxy { .. } => Code::Proxy.as_str(),
            Self::Tls { .. } => Code::Tls.as_str(),
            Self::Slow(_) | Self::Trickle => Code::Slow.as_str(),
            Self::Http(_) | Self::Request(_) | Self::Sign(_) => Code::Http.as_str(),
            Self::Status { code, .. } if !code.is_empty() => code,
            Self::Status { .. } => Code::HttpStatus.as_str(),
            Self::TooLarge { .. } => Code::Oversize.as_str(),
            Self::Encoded => Code::Encoded.as_str(),
        }
    }

    /// The counter of attacks it belongs to.
    pub(crate) const fn attack(&self) -> Option<Attack> {
        match self {
            Self::TooLarge { .. } => Some(Attack::Oversize),
            Self::Trickle => Some(Attack::Slow),
            _ => None,
        }
    }
}

/// hyper's errors say what failed and hide why in the source. A connection that was closed while an answer was awaited
/// is the most usual one, and has many words there.
fn http(error: &hyper::Error) -> String {
    use std::error::Error;
    let cut = error.source().and_then(|source| source.downcast_ref::<io::Error>()).is_some_and(|source| {
        matches!(
            source.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        )
    });
    if cut || error.is_closed() || error.is_canceled() || error.is_incomplete_message() {
        return "get an answer: the server closed the connection".to_owned();
    }
    error.source().map_or_else(|| format!("speak HTTP: {error}"), |source| format!("speak HTTP: {error}: {source}"))
}

/// Foreign text, fit for logs: no control characters, not longer than `limit` bytes.
pub(crate) fn plain(text: &str, limit: usize) -> String {
    let mut plain = String::new();
    for c in text.chars().map(|c| if is_command(c) { ' ' } else { c }) {
        if plain.len() + c.len_utf8() > limit {
            break;
        }
        plain.push(c);
    }
    plain
}

/// Reads `Retry-After` in seconds or as a date; a date is compared with the answer's own `Date`, so that no clock of
/// ours is needed.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = |text: &str| chrono::DateTime::parse_from_rfc2822(text).ok();
            let now = date(headers.get(hyper::header::DATE)?.to_str().ok()?)?;
            (date(text)? - now).to_std().unwrap_or_default()
        }
    };
    Some(wait.clamp(Duration::from_secs(1), MAX_RETRY_AFTER))
}

/// What an answer says the time was.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let date = chrono::DateTime::parse_from_rfc2822(headers.get(hyper::header::DATE)?.to_str().ok()?).ok()?;
    Some(Timestamp::from_millis(date.timestamp_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(pairs: &[(&'static str, &'static str)]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, hyper::header::HeaderValue::from_static(value));
        }
        retry_after(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_clamped() {
        assert_eq!(wait(&[("retry-after", "120")]), Some(120));
        assert_eq!(wait(&[("retry-after", "0")]), Some(1));
        assert_eq!(wait(&[("retry-after", "99999999999")]), Some(86_400));
        assert_eq!(wait(&[("retry-after", "soon")]), None);
        let date = ("date", "Mon, 23 Nov 2026 02:00:00 GMT");
        assert_eq!(wait(&[date, ("retry-after", "Mon, 23 Nov 2026 02:05:00 GMT")]), Some(300));
        assert_eq!(wait(&[date, ("retry-after", "Mon, 23 Nov 2026 01:05:00 GMT")]), Some(1));
        assert_eq!(wait(&[("retry-after", "Mon, 23 Nov 2026 01:05:00 GMT")]), None);
    }

    #[test]
    fn foreign_text_cannot_carry_terminal_codes_or_fill_a_log() {
        assert_eq!(plain("a\u{1b}[2Jb\nc", 100), "a [2Jb c");
        assert_eq!(plain(&"ä".repeat(100), 9).len(), 8);
    }

    #[test]
    fn the_code_of_a_problem_is_as_plain_as_its_detail() {
        let body = br#"{"type":"x","title":"","status":500,"code":"a\nMAINPID=1\u001b[2J","detail":"b\nc"}"#;
        let said = ClientError::status(StatusCode::INTERNAL_SERVER_ERROR, body, None).to_string();
        assert_eq!(said, "get an answer: HTTP status 500, a MAINPID=1 [2J: b c");
    }
}
