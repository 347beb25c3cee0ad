//! `callboard root init`: the first root, made and signed where the root keys are.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use callboard_proto::{
    digest::Digest,
    root::{Key, ReleaseRole, Role, Roles, Root, Server},
    signed::{Envelope, key_id},
    time::Timestamp,
};
use data_encoding::BASE64;
use ed25519_dalek::{SigningKey, VerifyingKey};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::Serialize;

use crate::{
    cli::{
        exit::{self, BadInput},
        key, moment, show, table,
    },
    config::PublicUrl,
    durable::{self, Access},
};

/// Long enough not to be forgotten between two yearly key ceremonies.
const LIFE: Duration = Duration::from_secs(548 * 24 * 3600);

/// What the first root says.
#[derive(clap::Args)]
pub(crate) struct InitArgs {
    /// Private key that may sign roots; give the option once for each
    #[arg(long = "root-key", required = true, value_name = "FILE")]
    root_keys: Vec<PathBuf>,
    /// Root keys that must sign the next root [default: more than half of them]
    #[arg(long, value_name = "N")]
    threshold: Option<u32>,
    /// Public key that may sign releases; give the option once for each
    #[arg(long = "release-key", required = true, value_name = "FILE")]
    release_keys: Vec<PathBuf>,
    /// Release keys that must sign each release
    #[arg(long, value_name = "N", default_value_t = 1)]
    release_threshold: u32,
    /// Public key of the server, which signs instructions
    #[arg(long, value_name = "FILE")]
    online_key: PathBuf,
    /// Where devices check in, such as https://updates.example.com:8443
    #[arg(long, value_name = "URL")]
    server_url: String,
    /// Certificate (PEM) that issued the server's
    #[arg(long, value_name = "FILE")]
    server_ca: PathBuf,
    /// No new installs under this root from then on, such as 2028-05-31T00:00:00Z [default: in 18 months]
    #[arg(long, value_name = "TIME", value_parser = moment::instant)]
    expires: Option<Timestamp>,
    /// Where to write the signed root
    #[arg(long, value_name = "FILE", default_value = "root.json")]
    out: PathBuf,
}

/// What a first root is made of.
pub(crate) struct FirstRoot<'a> {
    pub(crate) root_keys: &'a [SigningKey],
    /// More than half of the root keys if absent.
    pub(crate) threshold: Option<u32>,
    pub(crate) release_keys: &'a [VerifyingKey],
    pub(crate) release_threshold: u32,
    pub(crate) online_key: VerifyingKey,
    pub(crate) server_url: &'a str,
    /// Certificates in PEM.
    pub(crate) server_ca: &'a [u8],
    /// In 18 months if absent.
    pub(crate) expires: Option<Timestamp>,
}

#[derive(Serialize)]
struct Made {
    file: PathBuf,
    version: u64,
    sha256: Digest,
    expires: Timestamp,
    root_keys: Vec<Digest>,
    release_keys: Vec<Digest>,
    online_key: Digest,
}

/// Runs the command.
pub(crate) fn run(args: &InitArgs, format: show::Format, now: Timestamp) -> anyhow::Result<()> {
    let server_ca = fs::read(&args.server_ca)
        .map_err(|error| BadInput(format!("cannot read --server-ca {}: {error}", args.server_ca.display())))?;
    let first = FirstRoot {
        root_keys: &args.root_keys.iter().map(|path| key::read_private(path)).collect::<Result<Vec<_>, _>>()?,
        threshold: args.threshold,
        release_keys: &args.release_keys.iter().map(|path| key::read_public(path)).collect::<Result<Vec<_>, _>>()?,
        release_threshold: args.release_threshold,
        online_key: key::read_public(&args.online_key)?,
        server_url: &args.server_url,
        server_ca: &server_ca,
        expires: args.expires,
    };
    let (envelope, root) = build(&first, now)?;
    write(&args.out, &envelope)?;
    let made = Made {
        file: args.out.clone(),
        version: root.version,
        sha256: envelope.digest(),
        expires: root.expires,
        root_keys: root.roles.root.keyids,
        release_keys: root.roles.release.into_iter().flat_map(|role| role.keyids).collect(),
        online_key: key_id(&first.online_key),
    };
    show::value(format, &made, details)
}

fn details(made: &Made) -> String {
    let list = |keys: &[Digest]| keys.iter().map(Digest::short).collect::<Vec<_>>().join(", ");
    table::fields([
        ("root", made.version.to_string()),
        ("digest", made.sha256.to_string()),
        ("expires", made.expires.to_string()),
        ("root keys", list(&made.root_keys)),
        ("release keys", list(&made.release_keys)),
        ("online key", made.online_key.short()),
        ("written to", made.file.display().to_string()),
    ])
}

/// Makes and signs a first root.
pub(crate) fn build(first: &FirstRoot<'_>, now: Timestamp) -> anyhow::Result<(Envelope, Root)> {
    let root = document(first, now)?;
    let refused = |error| BadInput(format!("such a root would be refused: {error}"));
    let mut envelope = Envelope::unsigned(&root).map_err(refused)?;
    for key in first.root_keys {
        envelope.sign(key);
    }
    // What devices do with it.
    Root::open_initial(&envelope.to_json()).map_err(refused)?;
    Ok((envelope, root))
}

fn document(first: &FirstRoot<'_>, now: Timestamp) -> anyhow::Result<Root> {
    let expires = first.expires.unwrap_or(now + LIFE);
    if expires <= now {
        return Err(BadInput(format!("--expires {expires} has passed (now is {now})")).into());
    }
    let root_keys: Vec<VerifyingKey> = first.root_keys.iter().map(SigningKey::verifying_key).collect();
    let online = [first.online_key];
    let all = [("--root-key", root_keys.as_slice()), ("--release-key", first.release_keys), ("--online-key", &online)];
    refuse_shared_keys(&all)?;
    let majority = u32::try_from(root_keys.len() / 2 + 1).unwrap_or(u32::MAX);
    let ids = |keys: &[VerifyingKey]| keys.iter().map(key_id).collect::<Vec<_>>();
    Ok(Root {
        v: 1,
        issued_at: now,
        crit: Vec::new(),
        version: 1,
        expires,
        keys: all.iter().flat_map(|(_, keys)| keys.iter()).map(|key| (key_id(key), Key::from_ed25519(key))).collect(),
        roles: Roles {
            root: Role { keyids: ids(&root_keys), threshold: first.threshold.unwrap_or(majority) },
            release: vec![ReleaseRole {
                name: "release".to_owned(),
                keyids: ids(first.release_keys),
                threshold: first.release_threshold,
                epoch: 0,
                products: Vec::new(),
                channels: Vec::new(),
            }],
            online: Role { keyids: ids(&online), threshold: 1 },
        },
        servers: vec![Server { url: server_url(first.server_url)?, ca_der: certificates(first.server_ca)? }],
    })
}

/// The online key lies on the server; were it a release key as well, whoever takes the server could sign releases.
fn refuse_shared_keys(roles: &[(&str, &[VerifyingKey])]) -> Result<(), BadInput> {
    let mut seen: Vec<(&str, Digest)> = Vec::new();
    for (role, key) in roles.iter().flat_map(|(role, keys)| keys.iter().map(move |key| (*role, key))) {
        let id = key_id(key);
        if let Some((other, _)) = seen.iter().find(|(_, other)| *other == id) {
            return Err(BadInput(format!("key {} is given twice, as {other} and {role}", id.short())));
        }
        seen.push((role, id));
    }
    Ok(())
}

fn server_url(text: &str) -> Result<String, BadInput> {
    let url = PublicUrl::parse(text);
    url.map(|url| url.text).ok_or_else(|| BadInput(format!("--server-url {text:?}: https://HOST[:PORT] is wanted")))
}

fn certificates(pem: &[u8]) -> Result<Vec<String>, BadInput> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found.iter().map(|der| BASE64.encode(der)).collect()),
        Ok(_) => Err(BadInput::new("--server-ca: a certificate in PEM is wanted, none is in it")),
        Err(error) => Err(BadInput(format!("--server-ca: a certificate in PEM is wanted ({error})"))),
    }
}

fn write(path: &Path, envelope: &Envelope) -> anyhow::Result<()> {
    match durable::write_new(path, &envelope.to_json(), Access::Everyone) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(BadInput(format!("{} exists already; give another --out", path.display())).into())
        }
        other => other.map_err(exit::unusable("write", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ca::ServerCa, cli::exit};

    fn now() -> Timestamp {
        "2026-11-23T02:00:00Z".parse().unwrap()
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    /// Builds a root after `change` was made to a good description.
    fn check(change: impl FnOnce(&mut FirstRoot<'_>)) -> anyhow::Result<(Envelope, Root)> {
        let dir = tempfile::tempdir()?;
        ServerCa::create(dir.path(), now())?;
        let (root_keys, release_keys) = ([key(1), key(2), key(3)], [key(4).verifying_key()]);
        let mut first = FirstRoot {
            root_keys: &root_keys,
            threshold: None,
            release_keys: &release_keys,
            release_threshold: 1,
            online_key: key(5).verifying_key(),
            server_url: "https://updates.example.com:8443/",
            server_ca: &fs::read(dir.path().join(crate::ca::SERVER_CA_CERT))?,
            expires: None,
        };
        change(&mut first);
        build(&first, now())
    }

    fn refused(change: impl FnOnce(&mut FirstRoot<'_>)) -> String {
        let error = check(change).map(drop).unwrap_err();
        assert_eq!(exit::code_of(&error), exit::BAD_INPUT, "{error}");
        error.to_string()
    }

    #[test]
    fn a_root_is_signed_by_all_its_keys_and_needs_most_of_them() {
        let (envelope, root) = check(|_| ()).unwrap();
        let opened = Root::open_initial(&envelope.to_json()).unwrap();
        assert_eq!(*opened, root);
        assert_eq!(envelope.signatures.len(), 3);
        assert_eq!(root.roles.root.threshold, 2);
        assert_eq!(root.servers[0].url, "https://updates.example.com:8443");
        assert_eq!(root.servers[0].ca_der.len(), 1);
        assert_eq!(root.expires.to_string(), "2028-05-24T02:00:00Z");
    }

    #[test]
    fn one_key_cannot_have_two_roles() {
        let message = refused(|first| first.online_key = key(4).verifying_key());
        assert!(message.ends_with("as --release-key and --online-key"), "{message}");
        let twice = [key(1), key(1)];
        let shared: &'static [SigningKey] = Box::leak(Box::new(twice));
        assert!(refused(|first| first.root_keys = shared).contains("given twice"));
    }

    #[test]
    fn impossible_roots_are_refused() {
        assert!(refused(|first| first.threshold = Some(4)).contains("4 signatures of 3 keys"));
        assert!(refused(|first| first.threshold = Some(0)).contains("0 signatures of 3 keys"));
        assert!(refused(|first| first.release_threshold = 2).contains("2 signatures of 1 keys"));
        assert!(refused(|first| first.expires = Some(now())).contains("has passed"));
        assert!(refused(|first| first.server_ca = b"").contains("none is in it"));
        for url in ["http://a", "https://", "https://a/b", "https://a b", "https://u@a", "https://a:0", "a"] {
            assert!(refused(|first| first.server_url = url).contains("https://HOST[:PORT] is wanted"), "{url}");
        }
    }
}
