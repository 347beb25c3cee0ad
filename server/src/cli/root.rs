//! `callboard root`: which keys are trusted for what.

use std::{fs, path::PathBuf};

use callboard_proto::{root::Root, signed::Envelope};

use super::{Context, api::Path, exit::BadInput, show};
use crate::clock::Clock;

pub(crate) mod init;

/// What to do with the root.
#[derive(clap::Subcommand)]
pub(crate) enum RootCommand {
    /// Make the first root and sign it with its root keys; needs no server
    Init(init::InitArgs),
    /// Publish the signed root, before the first device enrols: devices keep the one that their bundle brought
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
