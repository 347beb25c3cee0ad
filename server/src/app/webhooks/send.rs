//! One request to a webhook, signed.

use std::io::Read as _;

use callboard_proto::ids::TokenId;
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::{clock::Clock, db::webhooks::Webhook, outgoing};

/// What is read of an answer: nobody looks at more.
const MAX_ANSWER: u64 = 4096;
/// What is kept of a refusal.
const MAX_SHOWN: usize = 200;

/// Sends a body; the error says what was wrong.
pub(super) fn send(webhook: &Webhook, id: TokenId, kind: &str, body: &str) -> Result<(), String> {
    let trusted =
        || outgoing::system().ok_or_else(|| "this system has no list of public certificate issuers".to_owned());
    let agent = outgoing::agent(&webhook.url, trusted)?;
    // The receiver compares it with its own clock, whatever a demonstration makes of ours.
    let seconds = Clock::system().now().millis().div_euclid(1000);
    let request = ureq::http::Request::post(&webhook.url)
        .header("content-type", "application/json")
        .header("callboard-delivery", id.to_string())
        .header("callboard-kind", kind)
        .header("callboard-signature", signature(&webhook.secret, seconds, body))
        .body(body)
        .map_err(|source| source.to_string())?;
    let mut response = agent.run(request).map_err(|source| source.to_string())?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let mut text = Vec::new();
    // What cannot be read says nothing.
    let _ = response.body_mut().as_reader().take(MAX_ANSWER).read_to_end(&mut text);
    let text = outgoing::said(&String::from_utf8_lossy(&text), MAX_SHOWN);
    let hint = if status.is_redirection() { " (redirects are not followed)" } else { "" };
    Err(format!("it answered {status}{hint}: {text}"))
}

/// `t=SECONDS,v1=HEX`: HMAC-SHA256 under the secret of the seconds since 1970, a full stop and the body.
fn signature(secret: &str, seconds: i64, body: &str) -> String {
    // Keys of any length are taken.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body.as_bytes());
    format!("t={seconds},v1={}", HEXLOWER.encode(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the page says, computed with `openssl dgst -sha256 -hmac`.
    #[test]
    fn the_signature_is_that_of_the_page() {
        let signed = signature("cbw_example_secret", 1_700_000_000, "{}");
        assert_eq!(signed, "t=1700000000,v1=dbd752a37b600b9011dc47c7e16ed309187da7d5e644f98a9f9f5c28a8bf1a59");
    }
}
