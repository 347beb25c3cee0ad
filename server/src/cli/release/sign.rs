//! `callboard release sign`: adds one signature. Needs the key and nothing else, no server; a root lets it say how many
//! signatures are still missing.

use std::path::{Path, PathBuf};

use callboard_proto::{
    digest::Digest,
    release::Release,
    root::Root,
    signed::{Envelope, Verified},
};
use serde::Serialize;

use super::build::{ENVELOPE, describe};
use crate::cli::{
    exit::BadInput,
    root, show,
    signing::{self, Signer, SignerArgs, Standing},
};

/// What to sign with what.
#[derive(clap::Args)]
pub(crate) struct SignArgs {
    #[command(flatten)]
    signer: SignerArgs,
    /// The root that devices trust: to see how many signatures are still missing
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// What `release build` made: the directory, or its release.json
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,
}

#[derive(Serialize)]
struct Signed {
    sha256: Digest,
    key_id: Digest,
    signatures: usize,
    /// By the release roles that may sign it; absent without a root.
    roles: Option<Vec<Standing>>,
    release: Release,
}

/// Runs the command.
pub(crate) fn run(args: &SignArgs, format: show::Format) -> anyhow::Result<()> {
    let root = args.root.as_deref().map(root::read).transpose()?;
    let file = envelope_of(&args.path);
    let signer = args.signer.signer()?;
    let key_id = signer.public().id();
    if let Some(root) = &root {
        refuse_strangers(root, &file, key_id)?;
    }
    let (release, envelope) = sign(&file, &signer)?;
    let signed = Signed {
        sha256: release.digest(),
        key_id,
        signatures: envelope.signatures.len(),
        roles: root.map(|root| standings(&root, &release, &envelope)),
        release: release.into_inner(),
    };
    show::value(format, &signed, |signed| {
        let count = signed.signatures.to_string();
        let more = [("signed by", signed.key_id.to_string()), ("signatures", count)];
        let text = describe(&signed.release, signed.sha256, &more);
        match &signed.roles {
            Some(roles) => format!("{text}\n\n{}", signing::sentences(roles)),
            None => format!("{text}\n\nwhether more signatures are wanted is for the root to say: --root FILE tells"),
        }
    })
}

/// The release roles of a root that may sign this release, and how far they are. Any of them suffices.
fn standings(root: &Root, release: &Release, envelope: &Envelope) -> Vec<Standing> {
    let roles = root.roles.release.iter().filter(|role| role.covers(release));
    let of = |role: &callboard_proto::root::ReleaseRole| {
        Standing::of(format!("release role {:?}", role.name), envelope, &role.keyids, root.release(role))
    };
    roles.map(of).collect()
}

/// A signature that no device would count is a mistake.
fn refuse_strangers(root: &Root, file: &Path, key_id: Digest) -> anyhow::Result<()> {
    let release: Release = read(file)?.claim().map_err(|error| BadInput(format!("{}: {error}", file.display())))?;
    let covering: Vec<_> = root.roles.release.iter().filter(|role| role.covers(&release)).collect();
    let (product, channels) = (&release.product, release.channels.join(", "));
    if covering.is_empty() {
        let what = format!("no release role of root {} may sign {product} for {channels}", root.version);
        return Err(BadInput(format!("{what} with epoch {}", release.epoch)).into());
    }
    if !covering.iter().any(|role| role.keyids.contains(&key_id)) {
        let what = format!("key {} may not sign {product} for {channels} by root {}", key_id.short(), root.version);
        return Err(BadInput(what).into());
    }
    Ok(())
}

/// A directory stands for the envelope in it.
pub(super) fn envelope_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(ENVELOPE) } else { path.to_owned() }
}

const HINT: &str = "; `release build` makes it";

fn read(file: &Path) -> anyhow::Result<Envelope> {
    signing::read::<Release>(file, HINT)
}

/// Signs the release in `file`; gives what was signed and the envelope as it is now. Signing twice adds nothing.
pub(crate) fn sign(file: &Path, signer: &Signer) -> anyhow::Result<(Verified<Release>, Envelope)> {
    signing::sign_file(file, HINT, signer)
}
