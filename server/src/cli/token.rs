//! `callboard token`: permissions to enrol.

use std::{
    io::Write as _,
    path::{Path as File, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use callboard_proto::{
    admin::{NewToken, Page, Token, TokenCreated},
    ids::SiteId,
};
use tempfile::NamedTempFile;

use super::{
    Context,
    api::{Api, PageArgs, Path},
    duration,
    exit::unusable,
    label::{self, Label},
    show, table,
};

/// What to do with enrolment tokens.
#[derive(clap::Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, or the bundle that is all a device needs to enrol
    #[command(
        after_help = "Examples:\n  callboard token create --bundle till-1.json\n  callboard token create --device pos-nyc-001 --bundle pos-nyc-001.json\n  callboard token create --site NYC-001 --uses 10 --ttl 14d --bundle nyc-001.json"
    )]
    Create(CreateArgs),
    /// List tokens; their secret is not among what is shown
    List {
        #[command(flatten)]
        page: PageArgs,
    },
    /// Make a token useless
    Revoke {
        /// Its id
        id: String,
    },
}

/// What a token is to allow.
#[derive(clap::Args)]
pub(crate) struct CreateArgs {
    /// Only for this imported device, by name or id
    #[arg(long)]
    device: Option<String>,
    /// Devices that enrol with it stand at this site
    #[arg(long)]
    site: Option<SiteId>,
    /// Devices that enrol with it get this label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label::parse)]
    labels: Vec<Label>,
    /// Only for serial numbers like this, such as 'VF-*'
    #[arg(long, value_name = "GLOB")]
    serial: Option<String>,
    /// Devices that enrol with it wait until somebody accepts them (callboard enrolment accept)
    #[arg(long)]
    wait: bool,
    /// How many devices may use it [default: 1]
    #[arg(long, value_name = "N")]
    uses: Option<u32>,
    /// How long it lasts [default: 7d]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    ttl: Option<Duration>,
    /// Write the enrolment bundle (URL, certificate, root and token) to this file, or to standard output for -
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
}

/// Runs a command.
pub(crate) fn run(command: TokenCommand, context: &Context) -> anyhow::Result<()> {
    let api = context.api()?;
    match command {
        TokenCommand::Create(args) => create(&api, args, context),
        TokenCommand::List { page } => {
            let tokens: Page<Token> = api.list(&Path::new(["tokens"]), &page)?;
            show::page(context.format, "tokens", &tokens, list)
        }
        TokenCommand::Revoke { id } => {
            api.delete(&Path::new(["tokens", &id]))?;
            show::done(context.format, &format!("token {id} is revoked"))
        }
    }
}

fn create(api: &Api, args: CreateArgs, context: &Context) -> anyhow::Result<()> {
    let token = NewToken {
        device: args.device,
        site: args.site,
        labels: label::collect(args.labels)?,
        serial_pattern: args.serial,
        auto_approve: !args.wait,
        max_uses: args.uses,
        ttl_s: args.ttl.map(|ttl| ttl.as_secs()),
    };
    let to_file = args.bundle.as_deref().filter(|file| *file != File::new("-"));
    // Before the token exists: a token that cannot be written down is lost.
    let prepared = to_file.map(prepare).transpose()?;
    let created: TokenCreated = api.post(&Path::new(["tokens"]), &token)?;
    let bundle = serde_json::to_string_pretty(&created.bundle)?;
    if let (Some(mut temporary), Some(file)) = (prepared, to_file) {
        let cannot = || format!("cannot write the bundle to {}", file.display());
        writeln!(temporary, "{bundle}").with_context(cannot)?;
        temporary.as_file().sync_all().with_context(cannot)?;
        temporary.persist(file).with_context(cannot)?;
        let (id, until) = (created.id, created.expires_at);
        return show::done(context.format, &format!("bundle {} with token {id}, good until {until}", file.display()));
    }
    if args.bundle.is_some() {
        return show::line(&bundle);
    }
    show::value(context.format, &created, |created| {
        table::fields([
            ("id", created.id.to_string()),
            ("expires", created.expires_at.to_string()),
            ("token", created.bundle.token.clone()),
        ])
    })
}

/// A bundle lets its holder enrol, so others must not read it: a named temporary file has mode 0600.
fn prepare(file: &File) -> anyhow::Result<NamedTempFile> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(File::new("."));
    NamedTempFile::new_in(dir).map_err(unusable("write the bundle to", file))
}

fn list(tokens: &[Token]) -> String {
    let rows = tokens.iter().map(|token| {
        let uses = format!("{}/{}", token.uses, token.max_uses);
        [
            token.id.to_string(),
            if token.revoked { "revoked".to_owned() } else { uses },
            token.expires_at.to_string(),
            table::or_empty(token.device.as_ref()),
            table::or_empty(token.site.as_ref()),
            token.serial_pattern.clone().unwrap_or_default(),
            if token.auto_approve { String::new() } else { "yes".to_owned() },
            table::pairs(&token.labels),
        ]
    });
    table::list(["ID", "USES", "EXPIRES", "DEVICE", "SITE", "SERIAL", "WAITS", "LABELS"], rows)
}
