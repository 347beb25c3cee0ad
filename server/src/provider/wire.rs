//! One request to the provider: within ten seconds, with a limit on the answer, without following anybody elsewhere.

use std::{path::Path, time::Duration};

use openidconnect::{HttpRequest, HttpResponse, RequestTokenError, StandardErrorResponse, core::CoreErrorResponseType};

use super::ProviderError;
use crate::outgoing;

/// A person waits for it.
const WITHIN: Duration = Duration::from_secs(10);
/// Keys, tokens and claims are a few kilobytes.
const MAX_ANSWER: u64 = 1024 * 1024;
/// What is shown of somebody else's words.
const MAX_SHOWN: usize = 300;

/// A request that had no answer.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct Unanswered(#[from] ureq::Error);

/// Who sends the requests. A provider on this machine may do without TLS.
pub(super) fn agent(issuer: &str, ca_file: Option<&Path>) -> Result<ureq::Agent, String> {
    let mut config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("callboard/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(WITHIN));
    if issuer.starts_with("https:") {
        let file = ca_file.map(Path::to_owned).or_else(outgoing::system);
        let file = file.ok_or("this system has no list of public certificate issuers; name a ca_file")?;
        let pem = std::fs::read(&file).map_err(|source| format!("cannot read {}: {source}", file.display()))?;
        config = config.tls_config(outgoing::trusting(&pem).map_err(|what| format!("{} {what}", file.display()))?);
    }
    Ok(config.build().new_agent())
}

/// Sends one.
pub(super) fn call(agent: &ureq::Agent, request: HttpRequest) -> Result<HttpResponse, Unanswered> {
    let (head, mut body) = agent.run(request)?.into_parts();
    let body = body.with_config().limit(MAX_ANSWER).read_to_vec()?;
    Ok(HttpResponse::from_parts(head, body))
}

/// Why there are no tokens.
pub(super) fn of_tokens(
    error: RequestTokenError<Unanswered, StandardErrorResponse<CoreErrorResponseType>>,
) -> ProviderError {
    match error {
        RequestTokenError::Request(source) => ProviderError::Away(in_words(&source)),
        RequestTokenError::ServerResponse(said) => ProviderError::Refused(shown(&said.to_string())),
        other => ProviderError::Untrusted(in_words(&other)),
    }
}

/// An error with what is behind it.
pub(super) fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        next = source.source();
    }
    shown(&words)
}

/// Somebody else's words: short, and without commands to a terminal.
pub(crate) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()
}
