//! A root in words: who may do what, what changed, and whose signatures are missing.

use std::path::{Path, PathBuf};

use callboard_proto::{
    digest::Digest,
    root::{ReleaseRole, Root},
    signed::Envelope,
    time::Timestamp,
};
use serde::Serialize;

use crate::cli::{
    show,
    signing::{self, Standing},
    table,
};

/// A root in a file.
#[derive(Serialize)]
pub(super) struct Described {
    file: PathBuf,
    version: u64,
    sha256: Digest,
    expires: Timestamp,
    root: Root,
    /// Whose signatures are there and whose are missing.
    signatures: Vec<Standing>,
}

/// Prints a root that lies in `file`. `previous` is the one that it follows.
pub(super) fn print(
    format: show::Format,
    file: &Path,
    envelope: &Envelope,
    root: Root,
    previous: Option<&Root>,
) -> anyhow::Result<()> {
    let described = Described {
        file: file.to_owned(),
        version: root.version,
        sha256: envelope.digest(),
        expires: root.expires,
        signatures: standings(&root, previous, envelope),
        root,
    };
    show::value(format, &described, |described| {
        let mut text = table::fields(fields(described));
        if described.version > 1 && previous.is_none() {
            text.push_str("\n\nthe keys of the root before it must sign as well: --previous FILE tells how many");
        }
        format!("{text}\n\n{}", signing::sentences(&described.signatures))
    })
}

/// Whose signatures a root needs: those of its own keys, and of the keys of the root before it.
pub(super) fn standings(root: &Root, previous: Option<&Root>, envelope: &Envelope) -> Vec<Standing> {
    let of = |root: &Root| {
        let role = format!("root keys of root {}", root.version);
        Standing::of(role, envelope, &root.roles.root.keyids, root.own())
    };
    previous.into_iter().chain([root]).map(of).collect()
}

fn fields(described: &Described) -> Vec<(&'static str, String)> {
    let root = &described.root;
    let roles = &root.roles;
    let keys = |ids: &[Digest], threshold: u32| format!("{threshold} of {}", named(root, ids));
    let mut fields = vec![
        ("root", described.version.to_string()),
        ("digest", described.sha256.to_string()),
        ("expires", described.expires.to_string()),
        ("root keys", keys(&roles.root.keyids, roles.root.threshold)),
    ];
    fields.extend(roles.release.iter().map(|role| {
        ("release role", format!("{}: {} for {}", role.name, keys(&role.keyids, role.threshold), scope(role)))
    }));
    if let Some(head) = &roles.head {
        fields.push(("head keys", format!("{}, epoch {}", keys(&head.keyids, head.threshold), head.epoch)));
    }
    fields.extend([
        ("online key", named(root, &roles.online.keyids)),
        ("servers", root.servers.iter().map(|server| server.url.as_str()).collect::<Vec<_>>().join(", ")),
        ("written to", described.file.display().to_string()),
    ]);
    fields
}

fn named(root: &Root, ids: &[Digest]) -> String {
    let name = |id: &Digest| match root.keys.get(id) {
        Some(key) if key.alg != "ed25519" => format!("{} ({})", id.short(), key.alg),
        _ => id.short(),
    };
    ids.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// What a release role may sign for.
pub(super) fn scope(role: &ReleaseRole) -> String {
    let names = |list: Vec<String>, all: &str| if list.is_empty() { all.to_owned() } else { list.join(", ") };
    let products = names(role.products.iter().map(ToString::to_string).collect(), "every product");
    let channels = names(role.channels.clone(), "every channel");
    format!("{products} in {channels}, epoch {}", role.epoch)
}
