//! An identity provider that says what it is told to.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};
use sha2::Sha256;

/// What is wrong with the next token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    None,
    Nonce,
    Audience,
    Issuer,
    Expired,
    Signature,
    Unsigned,
    SignedWithTheSecret,
    NoToken,
    NoName,
    TerminalName,
    /// It hangs up.
    Away,
}

/// The provider.
pub(super) struct Liar {
    pub(super) issuer: String,
    said: Arc<Mutex<Said>>,
}

struct Said {
    key: SigningKey,
    key_id: u32,
    token: Option<String>,
    away: bool,
}

impl Liar {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let said = Said { key: SigningKey::from_bytes(&[1; 32]), key_id: 1, token: None, away: false };
        let said = Arc::new(Mutex::new(said));
        let (own, name) = (said.clone(), issuer.clone());
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(path) = read(&stream) else { continue };
                let said = own.lock().unwrap();
                if !said.away {
                    answer(stream, &path, &name, &said);
                }
            }
        });
        Self { issuer, said }
    }

    /// From now on tokens are signed by another key.
    pub(super) fn change_keys(&self) {
        let mut said = self.said.lock().unwrap();
        (said.key, said.key_id) = (SigningKey::from_bytes(&[2; 32]), 2);
    }

    /// Prepares the next token.
    pub(super) fn tell(&self, lie: Lie, nonce: &str) {
        let mut said = self.said.lock().unwrap();
        said.away = lie == Lie::Away;
        said.token = (lie != Lie::NoToken).then(|| self.token(&said, lie, nonce));
    }

    fn token(&self, said: &Said, lie: Lie, nonce: &str) -> String {
        let now = UnixTime::now().as_secs();
        let mut claims = json!({
            "iss": self.issuer, "aud": "callboard", "sub": "1", "nonce": nonce, "iat": now, "exp": now + 60,
            "preferred_username": "mallory", "groups": ["everybody"],
        });
        let mut header = json!({ "alg": "EdDSA", "kid": said.key_id.to_string() });
        match lie {
            Lie::Nonce => claims["nonce"] = "another".into(),
            Lie::Audience => claims["aud"] = json!(["somebody-else"]),
            Lie::Issuer => claims["iss"] = "http://127.0.0.1:1".into(),
            Lie::Expired => claims["exp"] = (now - 1).into(),
            Lie::Unsigned => header = json!({ "alg": "none" }),
            Lie::SignedWithTheSecret => header = json!({ "alg": "HS256" }),
            Lie::NoName => claims["preferred_username"] = Value::Null,
            Lie::TerminalName => {
                claims["preferred_username"] = "\u{1b}[2J".into();
                claims["sub"] = "2".into();
            }
            Lie::None | Lie::Signature | Lie::NoToken | Lie::Away => {}
        }
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = match lie {
            Lie::Unsigned => Vec::new(),
            Lie::SignedWithTheSecret => {
                let mut mac = Hmac::<Sha256>::new_from_slice(b"not guessed").unwrap();
                mac.update(signed.as_bytes());
                mac.finalize().into_bytes().to_vec()
            }
            Lie::Signature => SigningKey::from_bytes(&[9; 32]).sign(signed.as_bytes()).to_bytes().to_vec(),
            _ => said.key.sign(signed.as_bytes()).to_bytes().to_vec(),
        };
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }
}

fn answer(mut stream: TcpStream, path: &str, issuer: &str, said: &Said) {
    let (status, body) = match path {
        "/.well-known/openid-configuration" => (
            200,
            json!({
                "issuer": issuer, "authorization_endpoint": format!("{issuer}/auth"),
                "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/jwks"),
                "response_types_supported": ["code"], "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["EdDSA", "HS256", "none"],
            }),
        ),
        "/jwks" => {
            let x = BASE64URL_NOPAD.encode(said.key.verifying_key().as_bytes());
            let key = json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "x": x,
                              "kid": said.key_id.to_string() });
            (200, json!({ "keys": [key] }))
        }
        "/token" => {
            let mut body = json!({ "access_token": "a", "token_type": "Bearer" });
            if let Some(token) = &said.token {
                body["id_token"] = token.clone().into();
            }
            (200, body)
        }
        _ => (404, json!({})),
    };
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status} OK\r\ncontent-type: application/json\r\nconnection: close\r\n");
    let _ = write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len());
}

/// The path of a request; what it brings is read, for the other side to be done with it.
fn read(stream: &TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(path)
}
