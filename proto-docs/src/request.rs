//! Requests that a device signs itself, for lines on which TLS is opened on the way: no client certificate gets through
//! there. HTTP message signatures (RFC 9421) in one fixed form, with the certificate in a field of its own (RFC 9440) and
//! the digest of the body (RFC 9530).

use std::{fmt::Write as _, time::Duration};

use data_encoding::{BASE64, HEXLOWER};

use crate::{
    digest::Digest,
    signed::{PublicKey, SignatureBytes},
};

/// The field with the device's certificate.
pub const CLIENT_CERT: &str = "client-cert";
/// The field with the digest of the body; of no bytes, where there is no body.
pub const CONTENT_DIGEST: &str = "content-digest";
/// The field that says what is signed.
pub const SIGNATURE_INPUT: &str = "signature-input";
/// The field with the signature.
pub const SIGNATURE: &str = "signature";
/// A request is refused when it was signed longer ago than this, or will be so much later; and twice within it.
pub const WINDOW: Duration = Duration::from_secs(300);

/// The name of the signature among others that a message may have.
const LABEL: &str = "callboard";
/// What is signed, in this order.
const COMPONENTS: &str = r#"("@method" "@path" "content-digest" "client-cert")"#;
const ALGORITHM: &str = "ecdsa-p256-sha256";
/// Longest text of `signature-input`.
const MAX_INPUT: usize = 512;

/// What of a request is signed.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// `GET`, `POST`, ...
    pub method: &'a str,
    /// The path, such as `/v1/checkin`.
    pub path: &'a str,
    /// The field `content-digest`.
    pub content_digest: &'a str,
    /// The field `client-cert`.
    pub client_cert: &'a str,
}

/// What is said of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Never the same twice.
    pub nonce: [u8; 32],
    /// SHA-256 of the SubjectPublicKeyInfo of the device's key.
    pub key_id: Digest,
    /// As it was written, which is what is signed.
    text: String,
}

/// A signature that cannot be read.
pub type Malformed = &'static str;

impl Params {
    /// Says something of a signature that is to be made.
    pub fn new(created: i64, nonce: [u8; 32], key_id: Digest) -> Self {
        let mut text = COMPONENTS.to_owned();
        let hex = HEXLOWER.encode(&nonce);
        // Writing to a String cannot fail.
        let _ = write!(text, r#";created={created};nonce="{hex}";keyid="{key_id}";alg="{ALGORITHM}""#);
        Self { created, nonce, key_id, text }
    }

    /// Reads the field `signature-input`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(field: &str) -> Result<Self, Malformed> {
        let form =
            "signature-input is not callboard=(...);created=...;nonce=...;keyid=...;alg=... over the four components";
        if field.len() > MAX_INPUT {
            return Err("signature-input is longer than 512 bytes");
        }
        let text = field.strip_prefix(LABEL).and_then(|rest| rest.strip_prefix('=')).ok_or(form)?;
        let (mut created, mut nonce, mut key_id, mut algorithm) = (None, None, None, None);
        let rest = text.strip_prefix(COMPONENTS).and_then(|rest| rest.strip_prefix(';')).ok_or(form)?;
        for param in rest.split(';') {
            let (name, value) = param.split_once('=').ok_or(form)?;
            let quoted = || value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).ok_or(form);
            let before = match name {
                "created" => created.replace(value),
                "nonce" => nonce.replace(quoted()?),
                "keyid" => key_id.replace(quoted()?),
                "alg" => algorithm.replace(quoted()?),
                _ => return Err("signature-input has a parameter other than created, nonce, keyid and alg"),
            };
            if before.is_some() {
                return Err("signature-input has a parameter twice");
            }
        }
        if algorithm != Some(ALGORITHM) {
            return Err("alg is not ecdsa-p256-sha256");
        }
        let digits = created.filter(|text| !text.starts_with('+')).ok_or(form)?;
        let nonce = HEXLOWER.decode(nonce.ok_or(form)?.as_bytes()).ok();
        Ok(Self {
            created: digits.parse().map_err(|_not_a_number| "created is not a number of seconds since 1970")?,
            nonce: nonce.and_then(|nonce| nonce.try_into().ok()).ok_or("nonce is not 64 hexadecimal digits")?,
            key_id: key_id.ok_or(form)?.parse().map_err(|_no_digest| "keyid is not 64 hexadecimal digits")?,
            text: text.to_owned(),
        })
    }

    /// The field `signature-input`.
    pub fn field(&self) -> String {
        format!("{LABEL}={}", self.text)
    }
}

impl Message<'_> {
    /// What is signed (RFC 9421, 2.5).
    pub fn base(&self, params: &Params) -> String {
        let Self { method, path, content_digest, client_cert } = self;
        let text = &params.text;
        format!(
            "\"@method\": {method}\n\"@path\": {path}\n\"content-digest\": {content_digest}\n\"client-cert\": \
             {client_cert}\n\"@signature-params\": {text}"
        )
    }

    /// Whether the field `signature` holds a signature of this by the key with this SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn verify(&self, params: &Params, signature: &str, spki: &[u8]) -> Result<(), Malformed> {
        let form = "signature is not callboard=:BASE64: of 64 bytes";
        let text = signature.strip_prefix(LABEL).and_then(|rest| rest.strip_prefix('=')).ok_or(form)?;
        let bytes: SignatureBytes = bytes(text).and_then(|bytes| bytes.try_into().ok()).ok_or(form)?;
        let key = PublicKey::from_p256_spki(spki).ok_or("the certificate is not for an ECDSA key on P-256")?;
        if key.id() != params.key_id {
            return Err("keyid is not that of the certificate's key");
        }
        if !key.verifies(self.base(params).as_bytes(), &bytes) {
            return Err("the signature is not one of this request by the key of the certificate");
        }
        Ok(())
    }
}

/// The field `content-digest` for a body.
pub fn content_digest(body: &[u8]) -> String {
    format!("sha-256={}", sequence(Digest::of(body).as_bytes()))
}

/// The field `client-cert` for a certificate in DER.
pub fn client_cert(der: &[u8]) -> String {
    sequence(der)
}

/// The certificate in a field `client-cert`.
pub fn certificate(field: &str) -> Option<Vec<u8>> {
    bytes(field)
}

/// The field `signature` for a signature.
pub fn signature(bytes: &SignatureBytes) -> String {
    format!("{LABEL}={}", sequence(bytes))
}

/// A signature of ECDSA on P-256 as most libraries write it, in DER, as it goes into the field.
pub fn fixed(der: &[u8]) -> Option<SignatureBytes> {
    p256::ecdsa::Signature::from_der(der).ok().map(|signature| signature.to_bytes().into())
}

fn sequence(bytes: &[u8]) -> String {
    format!(":{}:", BASE64.encode(bytes))
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.strip_prefix(':')?.strip_suffix(':')?.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::{SigningKey, signature::Signer as _};

    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_slice(&[7; 32]).expect("a key")
    }

    fn spki() -> Vec<u8> {
        PublicKey::from(*key().verifying_key()).spki()
    }

    fn params() -> Params {
        Params::new(1_795_000_000, [0x5a; 32], Digest::of(&spki()))
    }

    fn message<'a>(digest: &'a str, cert: &'a str) -> Message<'a> {
        Message { method: "POST", path: "/v1/checkin", content_digest: digest, client_cert: cert }
    }

    fn signed(base: &str) -> String {
        let made: p256::ecdsa::Signature = key().sign(base.as_bytes());
        signature(&made.to_bytes().into())
    }

    #[test]
    fn the_example_of_the_page_is_what_these_functions_make() {
        let page = include_str!("../request-signatures.md");
        let (digest, cert) = (content_digest(b"{}"), client_cert(b"certificate"));
        let base = message(&digest, &cert).base(&params());
        for part in [base.as_str(), &digest, &cert, &params().field(), &signed(&base)] {
            assert!(page.contains(part), "the page does not have:\n{part}");
        }
    }

    #[test]
    fn what_was_signed_is_accepted_and_nothing_else() {
        let (digest, cert) = (content_digest(b"body"), client_cert(b"certificate"));
        let message = message(&digest, &cert);
        let params = Params::parse(&params().field()).expect("readable");
        assert_eq!(params, super::tests::params());
        let signature = signed(&message.base(&params));
        message.verify(&params, &signature, &spki()).expect("accepted");
        let other = content_digest(b"another body");
        for changed in [
            Message { method: "GET", ..message },
            Message { path: "/v1/reports", ..message },
            Message { content_digest: &other, ..message },
            Message { client_cert: ":AAAA:", ..message },
        ] {
            assert!(changed.verify(&params, &signature, &spki()).is_err(), "{changed:?}");
        }
        let later = Params::new(1_795_000_001, [0x5a; 32], Digest::of(&spki()));
        assert!(message.verify(&later, &signature, &spki()).is_err());
        let stranger = PublicKey::from(*SigningKey::from_slice(&[8; 32]).expect("a key").verifying_key()).spki();
        assert_eq!(message.verify(&params, &signature, &stranger), Err("keyid is not that of the certificate's key"));
    }

    #[test]
    fn what_is_not_in_the_one_form_is_refused() {
        let good = params().field();
        for (from, to, said) in [
            ("callboard=", "sig1=", "signature-input is not"),
            ("\"@path\" ", "", "signature-input is not"),
            ("created=1795000000", "created=soon", "created is not a number"),
            ("created=1795000000", "created=1;created=2", "a parameter twice"),
            (";alg=\"ecdsa-p256-sha256\"", ";alg=\"hmac-sha256\"", "alg is not"),
            (";alg=", ";expires=1;alg=", "other than created"),
            ("nonce=\"5a", "nonce=\"", "nonce is not 64"),
            ("keyid=\"", "keyid=\"x", "keyid is not 64"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            let error = Params::parse(&bad).expect_err(&bad);
            assert!(error.contains(said), "{bad}: {error}");
        }
        assert!(Params::parse(&format!("{good};{}", "x".repeat(600))).is_err());
    }

    #[test]
    fn signatures_in_der_get_their_fixed_form() {
        for seed in 0..200_u32 {
            let made: p256::ecdsa::Signature = key().sign(&seed.to_be_bytes());
            let raw: SignatureBytes = made.to_bytes().into();
            let integer = |half: &[u8]| {
                let first = half.iter().position(|byte| *byte != 0).unwrap_or(half.len() - 1);
                let digits = &half[first..];
                let sign: &[u8] = if digits[0] & 0x80 != 0 { &[0] } else { &[] };
                let length = u8::try_from(sign.len() + digits.len()).expect("short");
                [&[0x02, length], sign, digits].concat()
            };
            let both = [integer(&raw[..32]), integer(&raw[32..])].concat();
            let der = [&[0x30, u8::try_from(both.len()).expect("short")], both.as_slice()].concat();
            assert_eq!(fixed(&der), Some(raw));
            assert_eq!(fixed(&der[..der.len() - 1]), None);
            assert_eq!(fixed(&[der.as_slice(), &[0]].concat()), None);
        }
        assert_eq!(fixed(&[]), None);
    }
}
