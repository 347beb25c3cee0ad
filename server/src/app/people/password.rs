//! Passwords: argon2id with 19 MiB, two passes and one lane, which is the least that OWASP advises and 30 ms of a core; a
//! salt of 16 bytes. The parameters stand with each hash, so that later ones can cost more.

use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::BASE64_NOPAD;
use subtle::ConstantTimeEq;

use crate::app::{Error, Result};

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const BYTES: usize = 32;
/// Shorter ones are guessed.
const MIN: usize = 12;
/// Longer ones are no passwords.
const MAX: usize = 128;

/// Refuses what is no good password.
pub(crate) fn check(password: &str, name: &str) -> Result<()> {
    if !(MIN..=MAX).contains(&password.len()) {
        let detail = format!("the password has {} bytes; {MIN} to {MAX} are allowed", password.len());
        return Err(Error::invalid(detail));
    }
    if password.chars().any(char::is_control) {
        return Err(Error::invalid("the password has a control character; none is allowed"));
    }
    if password.to_lowercase().contains(&name.to_lowercase()) && name.len() > 3 {
        return Err(Error::invalid("the password contains the name; choose another one"));
    }
    Ok(())
}

/// What is stored of a password.
pub(crate) fn hash(password: &str) -> Result<String> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|source| Error::Unexpected(format!("draw random bytes: {source}")))?;
    let hash = derive(password, &salt, MEMORY_KIB, PASSES, LANES)?;
    let (salt, hash) = (BASE64_NOPAD.encode(&salt), BASE64_NOPAD.encode(&hash));
    Ok(format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${hash}"))
}

/// Whether this is the password. Without a stored one it is not, and that takes as long.
pub(crate) fn verify(password: &str, stored: Option<&str>) -> Result<bool> {
    let Some(stored) = stored else {
        derive(password, &[0; 16], MEMORY_KIB, PASSES, LANES)?;
        return Ok(false);
    };
    let unreadable = || Error::Unexpected("a stored password cannot be read".to_owned());
    let (parameters, salt, wanted) = read(stored).ok_or_else(unreadable)?;
    let [memory, passes, lanes] = parameters;
    Ok(derive(password, &salt, memory, passes, lanes)?.ct_eq(&wanted).into())
}

fn read(stored: &str) -> Option<([u32; 3], Vec<u8>, Vec<u8>)> {
    let rest = stored.strip_prefix("$argon2id$v=19$m=")?;
    let (memory, rest) = rest.split_once(",t=")?;
    let (passes, rest) = rest.split_once(",p=")?;
    let (lanes, rest) = rest.split_once('$')?;
    let (salt, hash) = rest.split_once('$')?;
    let bytes = |text: &str| BASE64_NOPAD.decode(text.as_bytes()).ok();
    Some(([memory.parse().ok()?, passes.parse().ok()?, lanes.parse().ok()?], bytes(salt)?, bytes(hash)?))
}

fn derive(password: &str, salt: &[u8], memory: u32, passes: u32, lanes: u32) -> Result<[u8; BYTES]> {
    let failed = |source: argon2::Error| Error::Unexpected(format!("hash a password: {source}"));
    let params = Params::new(memory, passes, lanes, Some(BYTES)).map_err(failed)?;
    let mut out = [0; BYTES];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into(password.as_bytes(), salt, &mut out).map_err(failed)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_again_and_another_one_is_not() {
        let stored = hash("correct horse battery").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(verify("correct horse battery", Some(&stored)).unwrap());
        assert!(!verify("correct horse batterz", Some(&stored)).unwrap());
        assert!(!verify("correct horse battery", None).unwrap());
        assert_ne!(stored, hash("correct horse battery").unwrap());
        assert!(verify("x", Some("$argon2id$nonsense")).is_err());
    }

    /// From the reference implementation's command: `echo -n password | argon2 somesalt -id -t 2 -k 65536 -p 1 -l 32`.
    #[test]
    fn the_hash_is_that_of_the_reference() {
        let stored = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(verify("password", Some(stored)).unwrap());
    }

    #[test]
    fn short_ones_and_ones_with_the_name_are_refused() {
        assert!(check("correct horse battery", "ada lovelace").is_ok());
        for (password, said) in [
            ("short", "the password has 5 bytes; 12 to 128"),
            ("ADA lovelace 1815", "contains the name"),
            ("tab\tin the middle", "control character"),
        ] {
            assert!(check(password, "Ada Lovelace").unwrap_err().to_string().contains(said), "{password}");
        }
    }
}
