//! `callboard root`: which keys are trusted for what.

use std::{fs, path, path::PathBuf};

use callboard_proto::{
    root::Root,
    signed::{Envelope, Verified},
};

use super::{Context, api::Path, exit::BadInput, show, signing};
use crate::clock::Clock;

mod describe;
pub(crate) mod init;
pub(crate) mod role;
mod rotate;
mod sign;

/// What to do with the root.
#[derive(clap::Subcommand)]
pub(crate) enum RootCommand {
    /// Make the first root; needs no server
    #[command(
        after_help = "Examples:\n  callboard root init --root-key root.key --release-key release.key.pub --online-key online.key.pub --server-url https://updates.example.com:8443 --server-ca server-ca.pem\n  callboard root init --root-key ann.pub --root-key bob.pub --root-key eve.pub --release-role pos=ann-r.pub+bob-r.pub,threshold=2,products=pos-app --online-key online.key.pub --server-url https://updates.example.com:8443 --server-ca server-ca.pem"
    )]
    Init(Box<init::InitArgs>),
    /// Make the root that follows another one; needs no server
    #[command(
        after_help = "Examples:\n  callboard root rotate root.json --add-online-key online-next.key.pub --key root.key\n  callboard root rotate root-2.json --drop-root-key 41e8ec6e --add-root-key eve.pub --out root-3.json\n  callboard root rotate root.json --server-url https://new.example.com:8443 --server-ca new-ca.pem --key root.key"
    )]
    Rotate(Box<rotate::RotateArgs>),
    /// Add a signature to a root; needs the key and nothing else
    #[command(
        after_help = "Examples:\n  callboard root sign --key root.key --previous root.json root-2.json\n  callboard root sign --signer 'pkcs11-sign root' --public-key root.pub root.json"
    )]
    Sign(Box<sign::SignArgs>),
    /// Publish a signed root: the first one, or the one after that which is published
    Publish {
        /// The signed envelope
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the root that is published, as it was signed
    Show,
}

/// Runs a command.
pub(crate) fn run(command: RootCommand, context: &Context) -> anyhow::Result<()> {
    let path = Path::new(["trust", "root"]);
    match command {
        RootCommand::Init(args) => init::run(&args, context.format, Clock::system().now()),
        RootCommand::Rotate(args) => rotate::run(&args, context.format, Clock::system().now()),
        RootCommand::Sign(args) => sign::run(&args, context.format),
        RootCommand::Publish { file } => {
            let bytes =
                fs::read(&file).map_err(|error| BadInput(format!("cannot read {}: {error}", file.display())))?;
            let envelope = Envelope::parse::<Root>(&bytes)
                .map_err(|error| BadInput(format!("{} is not a root: {error}", file.display())))?;
            context.api()?.post_envelope(&path, &bytes)?;
            show::done(context.format, &format!("root {} is published", envelope.digest().short()))
        }
        RootCommand::Show => {
            let envelope: serde_json::Value = context.api()?.get(&path)?;
            show::json_line(&envelope)
        }
    }
}

/// Reads a root that its own keys have signed.
pub(crate) fn read(path: &path::Path) -> anyhow::Result<Verified<Root>> {
    let envelope = signing::read::<Root>(path, "")?;
    let bad = |error| BadInput(format!("{}: {error}", path.display()));
    Ok(Root::open_initial(&envelope.to_json()).map_err(bad)?)
}
