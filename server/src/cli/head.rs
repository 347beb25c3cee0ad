//! `callboard head`: what is the newest, what is the oldest that may be installed, what is taken back. Signed often, and not
//! on the update server: that one could keep releases from devices without being noticed.

use std::{fs, path::PathBuf};

use callboard_proto::{
    digest::Digest,
    head::{Head, HeadProduct},
    root::Root,
    signed::{Envelope, Verified},
};
use serde::Serialize;

use super::{
    Context,
    api::Path,
    exit::BadInput,
    root, show,
    signing::{self, SignerArgs, Standing},
    table,
};
use crate::clock::Clock;

mod new;

/// What to do with heads.
#[derive(clap::Subcommand)]
pub(crate) enum HeadCommand {
    /// Make the next head; needs no server
    #[command(
        after_help = "Examples:\n  callboard head new --latest pos-app=0.42 --key head.key\n  callboard head new --from head.json --revoke pos-app=5f0c...e1 --min pos-app=41 --key head.key --out head-2.json"
    )]
    New(Box<new::NewArgs>),
    /// Add a signature to a head; needs the key and nothing else
    #[command(after_help = "Examples:\n  callboard head sign --key head.key --root root.json head.json")]
    Sign(Box<SignArgs>),
    /// Publish a signed head
    Publish {
        /// The signed envelope
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the head that is published, as it was signed
    Show,
}

/// What to sign with what.
#[derive(clap::Args)]
pub(crate) struct SignArgs {
    #[command(flatten)]
    signer: SignerArgs,
    /// The root that devices trust: to see how many signatures are still missing
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// What `head new` made
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// A head in a file.
#[derive(Serialize)]
struct Described {
    file: PathBuf,
    sha256: Digest,
    head: Head,
    signatures: usize,
    /// By the head role of the root; absent without a root.
    role: Option<Standing>,
}

/// Runs a command.
pub(crate) fn run(command: HeadCommand, context: &Context) -> anyhow::Result<()> {
    let path = Path::new(["trust", "head"]);
    match command {
        HeadCommand::New(args) => new::run(&args, context.format, Clock::system().now()),
        HeadCommand::Sign(args) => sign(&args, context.format),
        HeadCommand::Publish { file } => {
            let bytes =
                fs::read(&file).map_err(|error| BadInput(format!("cannot read {}: {error}", file.display())))?;
            let envelope = Envelope::parse::<Head>(&bytes)
                .map_err(|error| BadInput(format!("{} is not a head: {error}", file.display())))?;
            context.api()?.post_envelope(&path, &bytes)?;
            show::done(context.format, &format!("head {} is published", envelope.digest().short()))
        }
        HeadCommand::Show => {
            let envelope: serde_json::Value = context.api()?.get(&path)?;
            show::json_line(&envelope)
        }
    }
}

fn sign(args: &SignArgs, format: show::Format) -> anyhow::Result<()> {
    let root = args.root.as_deref().map(root::read).transpose()?;
    let signer = args.signer.signer()?;
    let id = signer.public().id();
    let stranger = |root: &Verified<Root>| !root.roles.head.as_ref().is_some_and(|role| role.keyids.contains(&id));
    if let Some(root) = root.as_ref().filter(|root| stranger(root)) {
        let what = format!("key {} may not sign heads by root {}", id.short(), root.version);
        return Err(BadInput(what).into());
    }
    let (head, envelope) = signing::sign_file::<Head>(&args.file, "; `head new` makes it", &signer)?;
    print(format, &args.file, &envelope, head.into_inner(), root.as_deref())
}

fn print(
    format: show::Format,
    file: &std::path::Path,
    envelope: &Envelope,
    head: Head,
    root: Option<&Root>,
) -> anyhow::Result<()> {
    let role = root.and_then(|root| {
        let role = root.roles.head.as_ref()?;
        Some(Standing::of(format!("head keys of root {}", root.version), envelope, &role.keyids, root.head()?))
    });
    let (sha256, signatures) = (envelope.digest(), envelope.signatures.len());
    show::value(format, &Described { file: file.to_owned(), sha256, head, signatures, role }, |described| {
        let text = details(described);
        match &described.role {
            Some(role) => format!("{text}\n\n{}", role.sentence()),
            None => {
                format!("{text}\n\nwhether more signatures are wanted is for the root to say: `head sign --root` tells")
            }
        }
    })
}

fn details(described: &Described) -> String {
    let head = &described.head;
    let text = table::fields([
        ("head", format!("{} of epoch {}", head.serial, head.epoch)),
        ("digest", described.sha256.to_string()),
        ("expires", head.expires.to_string()),
        ("signatures", described.signatures.to_string()),
        ("written to", described.file.display().to_string()),
    ]);
    if head.products.is_empty() { text } else { format!("{text}\n\n{}", products(&head.products)) }
}

/// What a head says of each product.
pub(super) fn products(products: &[HeadProduct]) -> String {
    let rows = products.iter().map(|one| {
        [
            one.product.to_string(),
            format!("{}.{}", one.epoch, one.latest_counter),
            format!("{}.{}", one.epoch, one.min_counter),
            one.revoked.iter().map(Digest::short).collect::<Vec<_>>().join(", "),
        ]
    });
    table::list(["PRODUCT", "LATEST", "MINIMUM", "REVOKED"], rows)
}

/// Reads the head that lies in `file`, whoever signed it.
fn read(file: &std::path::Path) -> anyhow::Result<Head> {
    let envelope = signing::read::<Head>(file, "")?;
    Ok(envelope.claim().map_err(|error| BadInput(format!("{}: {error}", file.display())))?)
}
