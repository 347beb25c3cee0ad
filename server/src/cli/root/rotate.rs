//! `callboard root rotate`: root N+1 from root N. It is signed by the holders of both roots' keys, one after the other.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use callboard_proto::{
    digest::Digest,
    root::{HeadRole, Key, Root},
    signed::PublicKey,
    time::Timestamp,
};

use super::{describe, init, role};
use crate::cli::{exit::BadInput, key, moment, show};

/// What is to be different.
#[derive(clap::Args)]
pub(crate) struct RotateArgs {
    /// The root that is published
    #[arg(value_name = "FILE")]
    from: PathBuf,
    /// Key that may sign roots from now on; give the option once for each. Private keys sign at once
    #[arg(long = "add-root-key", value_name = "FILE")]
    add_root_keys: Vec<PathBuf>,
    /// Key that may not sign roots any more: its id, at least 8 digits of it, or the file of the public key
    #[arg(long = "drop-root-key", value_name = "KEY")]
    drop_root_keys: Vec<String>,
    /// Root keys that must sign the next root
    #[arg(long, value_name = "N")]
    threshold: Option<u32>,
    #[arg(long = "release-role", value_name = "ROLE",
        help = format!("Release role to add, or to put in the place of the one with its name: {}", role::SYNTAX))]
    release_roles: Vec<String>,
    /// Release role to drop
    #[arg(long = "drop-release-role", value_name = "NAME")]
    drop_release_roles: Vec<String>,
    /// Public keys that may sign heads from now on, instead of those that may now; give the option once for each
    #[arg(long = "head-key", value_name = "FILE")]
    head_keys: Vec<PathBuf>,
    /// How many of them must sign each head
    #[arg(long, value_name = "N")]
    head_threshold: Option<u32>,
    /// Devices ask for no head any more
    #[arg(long, conflicts_with_all = ["head_keys", "head_threshold"])]
    no_head: bool,
    /// Begin a new epoch: of a release role by its name, or of `head`. What a thief numbered is below everything new then
    #[arg(long = "new-epoch", value_name = "ROLE")]
    new_epochs: Vec<String>,
    /// Public key of the server that may sign instructions from now on
    #[arg(long = "add-online-key", value_name = "FILE")]
    add_online_keys: Vec<PathBuf>,
    /// Key that may not sign instructions any more: its id, at least 8 digits of it, or its file
    #[arg(long = "drop-online-key", value_name = "KEY")]
    drop_online_keys: Vec<String>,
    /// Where devices check in from now on; give the option once for each address, in the order to try them
    ///
    /// A device keeps the address that it has until one of these has given it an answer that it can believe. So leave
    /// the server there as well until no device comes by the old address (callboard device show).
    #[arg(long = "server-url", value_name = "URL", requires = "server_cas")]
    server_urls: Vec<String>,
    /// Certificates (PEM) of which one issued the server's: one file for each address in turn, or one for all
    #[arg(long = "server-ca", value_name = "FILE", requires = "server_urls")]
    server_cas: Vec<PathBuf>,
    /// No new installs under this root from then on [default: in 18 months]
    #[arg(long, value_name = "TIME", value_parser = moment::instant)]
    expires: Option<Timestamp>,
    /// Private key that signs at once; give the option once for each
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// Where to write the new root [default: root-N.json]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The time that it is made for; for tests
    #[arg(long, hide = true, value_name = "TIME")]
    fixed_clock: Option<Timestamp>,
}

/// Runs the command.
pub(crate) fn run(args: &RotateArgs, format: show::Format, now: Timestamp) -> anyhow::Result<()> {
    let now = args.fixed_clock.unwrap_or(now);
    let previous = super::read(&args.from)?;
    let (added, mut signers) = init::public_and_private(&args.add_root_keys)?;
    let root = next(&previous, args, &added, now)?;
    let mut envelope = init::unsigned(&root)?;
    for path in &args.keys {
        signers.push(key::read_private(path)?);
    }
    for key in &signers {
        envelope.sign(key);
    }
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("root-{}.json", root.version)));
    init::write(&out, &envelope)?;
    describe::print(format, &out, &envelope, root, Some(&previous))
}

fn next(previous: &Root, args: &RotateArgs, root_keys: &[PublicKey], now: Timestamp) -> anyhow::Result<Root> {
    let mut root = Root { version: previous.version + 1, issued_at: now, ..previous.clone() };
    root.expires = init::expires(args.expires, now)?;
    let online: Vec<PublicKey> =
        args.add_online_keys.iter().map(|path| key::read_online(path).map(Into::into)).collect::<Result<_, _>>()?;
    drop_keys(&mut root.roles.root.keyids, &args.drop_root_keys, "root")?;
    drop_keys(&mut root.roles.online.keyids, &args.drop_online_keys, "online")?;
    root.roles.root.keyids.extend(init::ids(root_keys));
    root.roles.online.keyids.extend(init::ids(&online));
    root.roles.root.threshold = args.threshold.unwrap_or(previous.roles.root.threshold);
    let mut known: Vec<PublicKey> = root_keys.iter().chain(&online).cloned().collect();
    release_roles(&mut root, args, &mut known)?;
    head_role(&mut root, args, &mut known)?;
    for name in &args.new_epochs {
        *epoch(&mut root, name)? += 1;
    }
    if !args.server_urls.is_empty() {
        root.servers = init::servers(&args.server_urls, &args.server_cas)?;
    }
    root.keys.extend(known.iter().map(|key| (key.id(), Key::new(key))));
    let used = used(&root);
    root.keys.retain(|id, _| used.contains(id));
    init::refuse_shared_keys(&root)?;
    Ok(root)
}

fn used(root: &Root) -> BTreeSet<Digest> {
    let roles = &root.roles;
    let release = roles.release.iter().flat_map(|role| &role.keyids);
    let head = roles.head.iter().flat_map(|role| &role.keyids);
    roles.root.keyids.iter().chain(&roles.online.keyids).chain(release).chain(head).copied().collect()
}

fn release_roles(root: &mut Root, args: &RotateArgs, known: &mut Vec<PublicKey>) -> anyhow::Result<()> {
    let roles = &mut root.roles.release;
    for name in &args.drop_release_roles {
        let before = roles.len();
        roles.retain(|role| role.name != *name);
        if roles.len() == before {
            return Err(BadInput(format!("--drop-release-role {name:?}: there is no such role")).into());
        }
    }
    for text in &args.release_roles {
        let new = role::read(text)?;
        match roles.iter_mut().find(|role| role.name == new.name) {
            Some(role) => *role = new.role(role.epoch),
            None => roles.push(new.role(0)),
        }
        known.extend(new.keys);
    }
    Ok(())
}

fn head_role(root: &mut Root, args: &RotateArgs, known: &mut Vec<PublicKey>) -> anyhow::Result<()> {
    let before = root.roles.head.take().filter(|_| !args.no_head);
    let keys = init::public(&args.head_keys)?;
    root.roles.head = match before {
        before if !keys.is_empty() => {
            let (threshold, epoch) = before.map_or((1, 0), |role| (role.threshold, role.epoch));
            let threshold = args.head_threshold.unwrap_or(threshold);
            Some(HeadRole { keyids: init::ids(&keys), threshold, epoch })
        }
        Some(role) => Some(HeadRole { threshold: args.head_threshold.unwrap_or(role.threshold), ..role }),
        None if args.head_threshold.is_some() => {
            return Err(BadInput::new("--head-threshold: there is no head role, and no --head-key").into());
        }
        None => None,
    };
    known.extend(keys);
    Ok(())
}

fn epoch<'a>(root: &'a mut Root, name: &str) -> Result<&'a mut u32, BadInput> {
    let head = root.roles.head.as_mut().filter(|_| name == "head").map(|role| &mut role.epoch);
    let release = root.roles.release.iter_mut().find(|role| role.name == name).map(|role| &mut role.epoch);
    head.or(release).ok_or_else(|| BadInput(format!("--new-epoch {name:?}: there is no such role")))
}

/// Drops keys that are named by their ids or files.
fn drop_keys(ids: &mut Vec<Digest>, names: &[String], role: &str) -> anyhow::Result<()> {
    for name in names {
        let found: Vec<Digest> = if is_id(name) {
            ids.iter().filter(|id| id.to_string().starts_with(name)).copied().collect()
        } else {
            let id = key::read_public(Path::new(name))?.id();
            ids.iter().filter(|own| **own == id).copied().collect()
        };
        let [id] = found.as_slice() else {
            let what = format!("--drop-{role}-key {name}: it is {} of the {role} keys", found.len());
            return Err(BadInput(what).into());
        };
        ids.retain(|own| own != id);
    }
    Ok(())
}

fn is_id(name: &str) -> bool {
    (8..=64).contains(&name.len()) && name.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests;
