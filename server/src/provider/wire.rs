//! One request to the provider, with a limit on the answer.

use std::path::Path;

use openidconnect::{HttpRequest, HttpResponse, RequestTokenError, StandardErrorResponse, core::CoreErrorResponseType};

use super::ProviderError;
use crate::outgoing::{self, said};

/// Keys, tokens and claims are a few kilobytes.
const MAX_ANSWER: u64 = 1024 * 1024;
/// What is shown of its words.
pub(crate) const MAX_SAID: usize = 300;

/// A request that had no answer.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct Unanswered(#[from] ureq::Error);

/// Who sends the requests. A provider on this machine may do without TLS.
pub(super) fn agent(issuer: &str, ca_file: Option<&Path>) -> Result<ureq::Agent, String> {
    outgoing::agent(issuer, || {
        let file = ca_file.map(Path::to_owned).or_else(outgoing::system);
        file.ok_or_else(|| "this system has no list of public certificate issuers; name a ca_file".to_owned())
    })
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
        RequestTokenError::ServerResponse(answer) => ProviderError::Refused(said(&answer.to_string(), MAX_SAID)),
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
    said(&words, MAX_SAID)
}
