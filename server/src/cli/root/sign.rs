//! `callboard root sign`: adds one signature to a root; says how many are still missing.

use std::path::PathBuf;

use callboard_proto::root::Root;

use super::describe;
use crate::cli::{
    exit::BadInput,
    show,
    signing::{self, SignerArgs},
};

/// What to sign with what.
#[derive(clap::Args)]
pub(crate) struct SignArgs {
    #[command(flatten)]
    signer: SignerArgs,
    /// The root that it follows: to see whether its keys have signed as well
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// What `root init` or `root rotate` made
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs the command.
pub(crate) fn run(args: &SignArgs, format: show::Format) -> anyhow::Result<()> {
    let previous = args.previous.as_deref().map(super::read).transpose()?;
    let signer = args.signer.signer()?;
    let envelope = signing::read::<Root>(&args.file, "; `root init` and `root rotate` make it")?;
    let root: Root = envelope.claim().map_err(|error| BadInput(format!("{}: {error}", args.file.display())))?;
    if let Some(previous) = previous.as_ref().filter(|previous| previous.version + 1 != root.version) {
        let what =
            format!("--previous is root {}, and {} is root {}", previous.version, args.file.display(), root.version);
        return Err(BadInput(what).into());
    }
    let id = signer.public().id();
    let of = |root: &Root| root.roles.root.keyids.contains(&id);
    if !of(&root) && !previous.as_deref().is_some_and(of) {
        let hint =
            if previous.is_none() && root.version > 1 { "; for one of the root before, give --previous" } else { "" };
        return Err(BadInput(format!("key {} is no root key of root {}{hint}", id.short(), root.version)).into());
    }
    let (root, envelope) = signing::sign_file::<Root>(&args.file, "", &signer)?;
    describe::print(format, &args.file, &envelope, root.into_inner(), previous.as_deref())
}
