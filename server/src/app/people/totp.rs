//! Codes of an authenticator app (RFC 6238): SHA-1, six digits, 30 seconds, which is what every app can do.

use callboard_proto::time::Timestamp;
use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use subtle::ConstantTimeEq;

use crate::app::{Error, Result};

const STEP_MS: i64 = 30_000;
const DIGITS: u32 = 1_000_000;
/// 160 bits, as RFC 4226 advises.
const SECRET_BYTES: usize = 20;
/// Steps by which a telephone's clock may be wrong.
const LENIENCE: i64 = 1;

/// Makes a secret.
pub(crate) fn secret() -> Result<Vec<u8>> {
    let mut secret = vec![0; SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(|source| Error::Unexpected(format!("draw random bytes: {source}")))?;
    Ok(secret)
}

/// The secret as people type it, and as pictures hold it.
pub(crate) fn shown(secret: &[u8], name: &str) -> (String, String) {
    let text = BASE32_NOPAD.encode(secret);
    let plain = |c: u8| if c.is_ascii_alphanumeric() { char::from(c).to_string() } else { format!("%{c:02X}") };
    let name: String = name.bytes().map(plain).collect();
    let uri = format!("otpauth://totp/Callboard:{name}?secret={text}&issuer=Callboard");
    (text, uri)
}

/// A secret that was shown, once more.
pub(crate) fn again(text: &str, name: &str) -> Option<(String, String)> {
    Some(shown(&BASE32_NOPAD.decode(text.as_bytes()).ok()?, name))
}

/// The step that this code is of, unless it is none of now, or of a step up to `used`: a code is good once.
pub(crate) fn step(secret: &[u8], code: &str, now: Timestamp, used: Option<i64>) -> Option<i64> {
    let current = now.millis().div_euclid(STEP_MS);
    let steps = current - LENIENCE..=current + LENIENCE;
    let fresh = steps.filter(|step| used.is_none_or(|used| *step > used));
    fresh
        .into_iter()
        .find(|step| self::code(secret, *step).is_some_and(|own| own.as_bytes().ct_eq(code.as_bytes()).into()))
}

fn code(secret: &[u8], step: i64) -> Option<String> {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret).ok()?;
    mac.update(&step.to_be_bytes());
    let bytes = mac.finalize().into_bytes();
    let offset = usize::from(bytes.last()? & 0xf);
    let four: [u8; 4] = bytes.get(offset..offset + 4)?.try_into().ok()?;
    Some(format!("{:06}", (u32::from_be_bytes(four) & 0x7fff_ffff) % DIGITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"12345678901234567890";

    /// RFC 6238, appendix B, the last six of its eight digits.
    #[test]
    fn codes_are_those_of_the_rfc() {
        for (seconds, wanted) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(SECRET, seconds / 30).as_deref(), Some(wanted), "{seconds}");
        }
    }

    #[test]
    fn a_code_is_good_for_a_while_and_once() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        assert_eq!(step(SECRET, "287082", at(59), None), Some(1));
        assert_eq!(step(SECRET, "287082", at(89), None), Some(1));
        assert_eq!(step(SECRET, "287082", at(90), None), None);
        assert_eq!(step(SECRET, "287082", at(59), Some(1)), None);
        assert_eq!(step(SECRET, "287083", at(59), None), None);
        assert_eq!(step(SECRET, "", at(59), None), None);
    }

    #[test]
    fn a_secret_is_shown_as_apps_take_it() {
        let (text, uri) = shown(SECRET, "ada l");
        assert_eq!(text, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(uri, format!("otpauth://totp/Callboard:ada%20l?secret={text}&issuer=Callboard"));
    }
}
