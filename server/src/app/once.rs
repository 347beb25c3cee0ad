//! Requests that are carried out once, however often they are sent: a client gives each a key, and a key that comes again
//! is answered as it was the first time.
//!
//! The key is written down before the request is carried out and the answer after it, so a request that was cut short by
//! the end of the server is not carried out again: whoever asks is told to look. Answers hold secrets that are shown
//! once; they are sealed under the key, of which the database has only the digest.

use std::time::Duration;

use callboard_proto::{digest::Digest, problem::Code};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf,
};

use super::{App, Error, Result};
use crate::db::{self, answers};

/// How long a key is known: a client that tries again does so within minutes, or the next morning.
pub(crate) const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Keys of one asker: one a minute, with some to spare. They bound the table.
const KEYS: i64 = 2000;
/// Largest answer that is kept. What changes something answers with a few kilobytes.
pub(crate) const MAX_ANSWER: usize = 256 * 1024;
/// Of the key that an answer is sealed under.
const SALT: usize = 16;

/// A request with a key.
#[derive(Clone, Debug)]
pub(crate) struct Keyed {
    key: answers::Key,
    secret: String,
    request: Digest,
}

/// How a request was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Keyed {
    /// The request with this digest, which `asker` sends under `key`.
    pub(crate) fn new(asker: String, key: &str, request: Digest) -> Self {
        let sha256 = Digest::of(key.as_bytes());
        Self { key: answers::Key { asker, sha256 }, secret: key.to_owned(), request }
    }
}

/// How it was answered the first time; `None` if this is the first time.
pub(crate) async fn begin(app: &App, keyed: &Keyed) -> Result<Option<Answer>> {
    let (now, keyed) = (app.clock.now(), keyed.clone());
    app.db
        .write(move |conn| {
            let Keyed { key, request, .. } = &keyed;
            answers::purge_of(conn, &key.asker, now - KEPT)?;
            let Some(known) = answers::get(conn, key)? else {
                if answers::count(conn, &key.asker)? >= KEYS {
                    let detail = format!("{KEYS} keys within 24 hours; send requests without a key, or wait");
                    return Err(Error::refused(Code::TooManyRequests, detail));
                }
                answers::insert(conn, key, *request, now)?;
                return Ok(None);
            };
            if known.request != *request {
                let detail = "this Idempotency-Key came with another request before; each request takes one of its own";
                return Err(Error::refused(Code::KeyReused, detail));
            }
            let Ok(status @ 1..) = u16::try_from(known.status) else {
                let detail = format!(
                    "the request that came with this Idempotency-Key at {} is being carried out, or the server ended \
                     meanwhile: look whether it was done, and ask with another key if not",
                    known.asked_at
                );
                return Err(Error::refused(Code::Conflict, detail));
            };
            let body = keyed.open(known.sealed)?;
            Ok(Some(Answer { status, body }))
        })
        .await
}

/// Keeps the answer.
pub(crate) async fn end(app: &App, keyed: Keyed, answer: Answer) -> Result<()> {
    let sealed = keyed.seal(answer.body)?;
    app.db.write(move |conn| Ok(db::answers::answer(conn, &keyed.key, answer.status, &sealed)?)).await
}

/// Forgets that it was asked: nothing was done, and the same may be tried again.
pub(crate) async fn forget(app: &App, keyed: Keyed) -> Result<()> {
    app.db.write(move |conn| Ok(db::answers::delete(conn, &keyed.key)?)).await
}

impl Keyed {
    fn seal(&self, mut body: Vec<u8>) -> Result<Vec<u8>> {
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).map_err(|source| Error::Unexpected(source.to_string()))?;
        self.cipher(&salt)
            .and_then(|cipher| cipher.seal_in_place_append_tag(nonce(), self.asker(), &mut body))
            .map_err(|source| Error::Unexpected(format!("cannot seal an answer: {source}")))?;
        Ok([salt.as_slice(), &body].concat())
    }

    fn open(&self, sealed: Vec<u8>) -> Result<Vec<u8>> {
        let bad = || Error::Unexpected("an answer that was kept cannot be read".to_owned());
        let (salt, body) = sealed.split_first_chunk::<SALT>().ok_or_else(bad)?;
        let mut body = body.to_vec();
        let cipher = self.cipher(salt).ok().ok_or_else(bad)?;
        let plain = cipher.open_in_place(nonce(), self.asker(), &mut body).ok().ok_or_else(bad)?.len();
        body.truncate(plain);
        Ok(body)
    }

    fn asker(&self) -> Aad<&[u8]> {
        Aad::from(self.key.asker.as_bytes())
    }

    fn cipher(&self, salt: &[u8]) -> std::result::Result<LessSafeKey, ring::error::Unspecified> {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(self.secret.as_bytes());
        let key = secret.expand(&[b"callboard answer"], &CHACHA20_POLY1305)?;
        Ok(LessSafeKey::new(UnboundKey::from(key)))
    }
}

/// Each answer has a key of its own, so one nonce will do.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_with_the_key_that_it_was_asked_with_and_by_nobody_else() {
        let keyed = |asker: &str, key: &str| Keyed::new(asker.to_owned(), key, Digest::of(b""));
        let own = keyed("token 1", "7f0a3f6e-3b0c-4a5e-9c1d-2f6a0f8d4c11");
        let sealed = own.seal(b"cba_secret".to_vec()).unwrap();
        assert!(!sealed.windows(4).any(|part| part == b"cba_"));
        assert_eq!(own.open(sealed.clone()).unwrap(), b"cba_secret");
        assert!(keyed("token 1", "another key, just as long").open(sealed.clone()).is_err());
        assert!(keyed("token 2", "7f0a3f6e-3b0c-4a5e-9c1d-2f6a0f8d4c11").open(sealed).is_err());
        assert!(own.open(vec![1, 2, 3]).is_err());
    }
}
