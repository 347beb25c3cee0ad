//! `callboard release`: building, signing and publishing what can be installed.
//!
//! `build` and `sign` need no server: they run where the release keys are.

use std::path::PathBuf;

use callboard_proto::admin::{Page, Release};

use super::{
    Context,
    api::{PageArgs, Path},
    show, table,
};
use crate::clock::Clock;

pub(crate) mod build;
mod publish;
pub(crate) mod sign;
pub(super) mod upload;

/// What to do with releases.
#[derive(clap::Subcommand)]
pub(crate) enum ReleaseCommand {
    /// Make a payload and an unsigned release from a directory or a file; the same input gives the same bytes
    #[command(
        after_help = "Examples:\n  callboard release build DIR --product pos-app --version 2.4.0 --counter 7 --out rel-2.4.0\n  callboard release build --installer command --payload os.raucb --product os --version 13.1 --counter 3 --out os-13.1"
    )]
    Build(Box<build::BuildArgs>),
    /// Add a signature to a release; needs the key and nothing else
    #[command(
        after_help = "Examples:\n  callboard release sign --key release.key rel-2.4.0\n  callboard release sign --key ann.key --root root.json rel-2.4.0\n  callboard release sign --signer 'ssh vault callboard key sign --key release.key' --public-key release.key.pub rel-2.4.0"
    )]
    Sign(Box<sign::SignArgs>),
    /// Upload a signed release: payloads that the server does not have, then the release itself
    Publish {
        /// What `release build` made and `release sign` signed
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// List published releases
    List {
        /// Only releases of this product
        #[arg(long)]
        product: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show a published release
    Show {
        /// PRODUCT@VERSION or its digest
        release: String,
    },
}

/// Runs a command.
pub(crate) fn run(command: ReleaseCommand, context: &Context) -> anyhow::Result<()> {
    match command {
        ReleaseCommand::Build(args) => build::run(&args, context.format, Clock::system().now()),
        ReleaseCommand::Sign(args) => sign::run(&args, context.format),
        ReleaseCommand::Publish { dir } => show::value(context.format, &publish::run(&context.api()?, &dir)?, details),
        ReleaseCommand::List { product, page } => {
            let path = Path::new(["releases"]).maybe("product", product);
            let releases: Page<Release> = context.api()?.list(&path, &page)?;
            show::page(context.format, "releases", &releases, list)
        }
        ReleaseCommand::Show { release } => {
            show::value(context.format, &context.api()?.get(&Path::new(["releases", &release]))?, details)
        }
    }
}

fn list(releases: &[Release]) -> String {
    let rows = releases.iter().map(|release| {
        [
            release.product.to_string(),
            release.version.to_string(),
            format!("{}.{}", release.epoch, release.counter),
            table::word(&release.kind),
            release.channels.join(", "),
            release.published_at.to_string(),
            release.sha256.short(),
        ]
    });
    table::list(["PRODUCT", "VERSION", "EPOCH.COUNTER", "KIND", "CHANNELS", "PUBLISHED", "DIGEST"], rows)
}

fn details(release: &Release) -> String {
    let signers: Vec<String> = release.signed_by.iter().map(|key| key.short()).collect();
    let text = table::fields([
        ("release", format!("{}@{}", release.product, release.version)),
        ("digest", release.sha256.to_string()),
        ("epoch.counter", format!("{}.{}", release.epoch, release.counter)),
        ("min floor", if release.min_floor > 0 { release.min_floor.to_string() } else { String::new() }),
        ("requires counter", table::or_empty(release.requires_at_least)),
        ("requires", build::required(&release.requires)),
        ("requires agent", table::or_empty(release.requires_agent.as_ref())),
        ("installer", table::word(&release.installer)),
        ("restart", table::word(&release.restart)),
        ("rollback", table::word(&release.rollback)),
        ("hooks", release.hooks.iter().map(build::in_words).collect::<Vec<_>>().join("; ")),
        ("put off", build::postponable(release.max_postpone_s)),
        ("kept", if release.needs_server_contact { "once the device has reached the server" } else { "" }.to_owned()),
        ("not after", table::or_empty(release.not_after)),
        ("kind", table::word(&release.kind)),
        ("channels", release.channels.join(", ")),
        ("hardware", release.hw.join(", ")),
        ("signed by", signers.join(", ")),
        ("published", release.published_at.to_string()),
        ("not installed any more", release.distrusted.clone().unwrap_or_default()),
    ]);
    let rows = release.payloads.iter().map(|payload| {
        [payload.name.clone(), upload::human(payload.size), table::word(&payload.format), payload.sha256.to_string()]
    });
    format!("{text}\n\n{}", table::list(["PAYLOAD", "SIZE", "FORMAT", "SHA-256"], rows))
}
