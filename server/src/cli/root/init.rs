//! `callboard root init`: the first root, made where root keys are.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use callboard_proto::{
    root::{HeadRole, Key, Role, Roles, Root, Server},
    signed::{Envelope, PublicKey, Sign as _},
    time::Timestamp,
};
use data_encoding::BASE64;
use ed25519_dalek::VerifyingKey;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::{
    describe,
    role::{self, NewRole},
};
use crate::{
    cli::{
        exit::{self, BadInput},
        key::{self, PrivateKey},
        moment, show,
    },
    config::PublicUrl,
    durable::{self, Access},
};

/// Long enough not to be forgotten between two yearly key ceremonies.
pub(super) const LIFE: Duration = Duration::from_secs(548 * 24 * 3600);

/// What the first root says.
#[derive(clap::Args)]
pub(crate) struct InitArgs {
    /// Key that may sign roots; give the option once for each. Private keys sign at once, for public ones `root sign` does
    #[arg(long = "root-key", required = true, value_name = "FILE")]
    root_keys: Vec<PathBuf>,
    /// Root keys that must sign the next root [default: more than half of them]
    #[arg(long, value_name = "N")]
    threshold: Option<u32>,
    /// Public key that may sign releases of everything; give the option once for each
    #[arg(long = "release-key", required_unless_present = "release_roles", value_name = "FILE")]
    release_keys: Vec<PathBuf>,
    /// Of those, how many must sign each release
    #[arg(long, value_name = "N", default_value_t = 1)]
    release_threshold: u32,
    #[arg(long = "release-role", value_name = "ROLE", help = format!("Who may sign releases of what: {}", role::SYNTAX))]
    release_roles: Vec<String>,
    /// Public key that may sign heads; give the option once for each. Devices then install nothing without a head
    #[arg(long = "head-key", value_name = "FILE")]
    head_keys: Vec<PathBuf>,
    /// Of those, how many must sign each head
    #[arg(long, value_name = "N", default_value_t = 1)]
    head_threshold: u32,
    /// Public key of the server, which signs instructions
    #[arg(long, value_name = "FILE")]
    online_key: PathBuf,
    /// Where devices check in, such as https://updates.example.com:8443; give the option once for each address
    #[arg(long = "server-url", required = true, value_name = "URL")]
    server_urls: Vec<String>,
    /// Certificates (PEM) of which one issued the server's: one file for each address in turn, or one for all
    #[arg(long = "server-ca", required = true, value_name = "FILE")]
    server_cas: Vec<PathBuf>,
    /// No new installs under this root from then on, such as 2028-05-31T00:00:00Z [default: in 18 months]
    #[arg(long, value_name = "TIME", value_parser = moment::instant)]
    expires: Option<Timestamp>,
    /// Where to write the root
    #[arg(long, value_name = "FILE", default_value = "root.json")]
    out: PathBuf,
}

/// What a first root is made of.
pub(crate) struct FirstRoot<'a> {
    pub(crate) root_keys: &'a [PublicKey],
    /// More than half of the root keys if absent.
    pub(crate) threshold: Option<u32>,
    pub(crate) release_roles: &'a [NewRole],
    pub(crate) head_keys: &'a [PublicKey],
    pub(crate) head_threshold: u32,
    pub(crate) online_key: VerifyingKey,
    pub(crate) servers: Vec<Server>,
    /// In 18 months if absent.
    pub(crate) expires: Option<Timestamp>,
}

/// Runs the command.
pub(crate) fn run(args: &InitArgs, format: show::Format, now: Timestamp) -> anyhow::Result<()> {
    let (root_keys, signers) = public_and_private(&args.root_keys)?;
    let mut release_roles = args.release_roles.iter().map(|text| role::read(text)).collect::<Result<Vec<_>, _>>()?;
    if !args.release_keys.is_empty() {
        release_roles.push(NewRole::for_all(public(&args.release_keys)?, args.release_threshold));
    }
    let first = FirstRoot {
        root_keys: &root_keys,
        threshold: args.threshold,
        release_roles: &release_roles,
        head_keys: &public(&args.head_keys)?,
        head_threshold: args.head_threshold,
        online_key: key::read_online(&args.online_key)?,
        servers: servers(&args.server_urls, &args.server_cas)?,
        expires: args.expires,
    };
    let (envelope, root) = build(&first, &signers, now)?;
    write(&args.out, &envelope)?;
    describe::print(format, &args.out, &envelope, root, None)
}

/// The servers of `--server-url` and `--server-ca`.
pub(super) fn servers(urls: &[String], cas: &[PathBuf]) -> Result<Vec<Server>, BadInput> {
    let read = |path: &PathBuf| {
        fs::read(path).map_err(|error| BadInput(format!("cannot read --server-ca {}: {error}", path.display())))
    };
    let pems = cas.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let (addresses, files) = (urls.len(), pems.len());
    if files != 1 && files != addresses {
        let wanted = "one --server-ca for each --server-url is wanted, or one for all of them";
        return Err(BadInput(format!("{addresses} addresses and {files} files: {wanted}")));
    }
    let mut found: Vec<Server> = Vec::new();
    for (url, pem) in urls.iter().zip(pems.iter().cycle()) {
        let server = server(url, pem)?;
        if found.iter().any(|other| other.url == server.url) {
            let hint = "put all its certificates into one file";
            return Err(BadInput(format!("--server-url {url} is given twice; {hint}")));
        }
        found.push(server);
    }
    Ok(found)
}

/// Reads public keys.
pub(super) fn public(paths: &[PathBuf]) -> anyhow::Result<Vec<PublicKey>> {
    paths.iter().map(|path| key::read_public(path)).collect()
}

/// Reads keys of which some are private: those can sign.
pub(super) fn public_and_private(paths: &[PathBuf]) -> anyhow::Result<(Vec<PublicKey>, Vec<PrivateKey>)> {
    let (mut public, mut private) = (Vec::new(), Vec::new());
    for path in paths {
        if key::holds_public(path)? {
            public.push(key::read_public(path)?);
        } else {
            let key = key::read_private(path)?;
            public.push(key.public());
            private.push(key);
        }
    }
    Ok((public, private))
}

/// Makes a first root and signs it with the keys that are at hand.
pub(crate) fn build(first: &FirstRoot<'_>, signers: &[PrivateKey], now: Timestamp) -> anyhow::Result<(Envelope, Root)> {
    let root = document(first, now)?;
    let mut envelope = unsigned(&root)?;
    for key in signers {
        envelope.sign(key);
    }
    Ok((envelope, root))
}

/// Wraps a root that nobody has signed yet.
pub(super) fn unsigned(root: &Root) -> Result<Envelope, BadInput> {
    Envelope::unsigned(root).map_err(|error| BadInput(format!("such a root would be refused: {error}")))
}

fn document(first: &FirstRoot<'_>, now: Timestamp) -> anyhow::Result<Root> {
    let online = PublicKey::Ed25519(first.online_key);
    let majority = u32::try_from(first.root_keys.len() / 2 + 1).unwrap_or(u32::MAX);
    let released = first.release_roles.iter().flat_map(|role| &role.keys);
    let all = first.root_keys.iter().chain(released).chain(first.head_keys).chain([&online]);
    let head = HeadRole { keyids: ids(first.head_keys), threshold: first.head_threshold, epoch: 0 };
    let root = Root {
        v: 1,
        issued_at: now,
        crit: Vec::new(),
        version: 1,
        expires: expires(first.expires, now)?,
        keys: all.map(|key| (key.id(), Key::new(key))).collect(),
        roles: Roles {
            root: Role { keyids: ids(first.root_keys), threshold: first.threshold.unwrap_or(majority) },
            release: first.release_roles.iter().map(|role| role.role(0)).collect(),
            head: Some(head).filter(|_| !first.head_keys.is_empty()),
            online: Role { keyids: vec![online.id()], threshold: 1 },
        },
        servers: first.servers.clone(),
    };
    refuse_shared_keys(&root)?;
    Ok(root)
}

pub(super) fn ids(keys: &[PublicKey]) -> Vec<callboard_proto::digest::Digest> {
    keys.iter().map(PublicKey::id).collect()
}

/// When a root that is made now is to expire.
pub(super) fn expires(given: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, BadInput> {
    match given {
        Some(expires) if expires <= now => Err(BadInput(format!("--expires {expires} has passed (now is {now})"))),
        given => Ok(given.unwrap_or(now + LIFE)),
    }
}

/// Each key has one role. The online key lies on the server; were it a release key as well, whoever takes the server could
/// sign releases. Release roles may share keys: their holder is the same.
pub(super) fn refuse_shared_keys(root: &Root) -> Result<(), BadInput> {
    let roles = &root.roles;
    let mut release: Vec<_> = roles.release.iter().flat_map(|role| role.keyids.iter()).collect();
    for role in &roles.release {
        if roles.release.iter().filter(|other| other.name == role.name).count() > 1 {
            return Err(BadInput(format!("two release roles have the name {:?}", role.name)));
        }
    }
    release.sort();
    release.dedup();
    let head = roles.head.iter().flat_map(|role| role.keyids.iter());
    let all = roles.root.keyids.iter().map(|id| ("--root-key", id));
    let all = all.chain(release.into_iter().map(|id| ("--release-key", id)));
    let all = all.chain(head.map(|id| ("--head-key", id)));
    let mut seen: Vec<(&str, _)> = Vec::new();
    for (role, id) in all.chain(roles.online.keyids.iter().map(|id| ("--online-key", id))) {
        if let Some((other, _)) = seen.iter().find(|(_, other)| *other == id) {
            return Err(BadInput(format!("key {} is given twice, as {other} and {role}", id.short())));
        }
        seen.push((role, id));
    }
    Ok(())
}

/// A server as it stands in a root.
pub(crate) fn server(url: &str, ca_pem: &[u8]) -> Result<Server, BadInput> {
    Ok(Server { url: server_url(url)?, ca_der: certificates(ca_pem)? })
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

/// Writes a root where none is.
pub(super) fn write(path: &Path, envelope: &Envelope) -> anyhow::Result<()> {
    match durable::write_new(path, &envelope.to_json(), Access::Everyone) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(BadInput(format!("{} exists already; give another --out", path.display())).into())
        }
        other => other.map_err(exit::unusable("write", path)),
    }
}

#[cfg(test)]
mod tests;
