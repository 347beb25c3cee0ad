//! `callboard api-token`: who may operate the server.

use std::path::PathBuf;

use anyhow::Context as _;
use callboard_proto::admin::{ApiToken, ApiTokenCreated, NewApiToken, Page};

use super::{
    Context,
    api::{PageArgs, Path},
    exit::BadInput,
    serve, show, table,
};
use crate::{
    app::{self, Error},
    clock::Clock,
    config::Fragment,
    db::Db,
    durable,
};

/// What to do with API tokens.
#[derive(clap::Subcommand)]
pub(crate) enum ApiTokenCommand {
    /// Make a token for another operator or program; it is shown this once
    #[command(
        after_help = "Examples:\n  callboard api-token create ada\n  callboard api-token create ada --dir /var/lib/callboard-server"
    )]
    Create {
        /// Whose it is: the event log says who did what by this name
        name: String,
        /// Work on this data directory and not over the network, for whoever has no token left
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// List tokens, those that were revoked among them; their secret is not among what is shown
    List {
        #[command(flatten)]
        page: PageArgs,
    },
    /// Make a token useless
    Revoke {
        /// Its name or id
        #[arg(value_name = "NAME|ID")]
        which: String,
        /// Even the last one that can be used
        #[arg(long)]
        force: bool,
    },
}

/// Runs a command.
pub(crate) fn run(command: ApiTokenCommand, context: &Context) -> anyhow::Result<()> {
    let tokens = Path::new(["api-tokens"]);
    match command {
        ApiTokenCommand::Create { name, dir } => {
            let made: ApiTokenCreated = match dir {
                Some(dir) => at_home(&dir, &name)?,
                None => context.api()?.post(&tokens, &NewApiToken { name })?,
            };
            show::value(context.format, &made, created)
        }
        ApiTokenCommand::List { page } => {
            let found: Page<ApiToken> = context.api()?.list(&tokens, &page)?;
            show::page(context.format, "API tokens", &found, list)
        }
        ApiTokenCommand::Revoke { which, force } => {
            let path = Path::new(["api-tokens", &which]).maybe("force", force.then_some(true));
            context.api()?.delete(&path)?;
            show::done(context.format, &format!("API token {} is revoked", which))
        }
    }
}

/// Writes the token into the database of a server, which may be running.
fn at_home(dir: &std::path::Path, name: &str) -> anyhow::Result<ApiTokenCreated> {
    durable::keep_to_oneself();
    let settings = serve::settings(dir, Fragment::default())?;
    let db = Db::open(settings.database).context("cannot open the database")?;
    let (name, now) = (name.to_owned(), Clock::system().now());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let by = "whoever has the data directory";
    let made = runtime.block_on(db.write(move |conn| app::api_tokens::make(conn, &name, by, now)));
    db.close();
    made.map_err(|error| match error {
        Error::Refused { detail, .. } => BadInput(detail).into(),
        other => other.into(),
    })
}

fn created(made: &ApiTokenCreated) -> String {
    table::fields([
        ("id", made.id.to_string()),
        ("name", made.name.clone()),
        ("token, shown this once", made.token.clone()),
    ])
}

fn list(tokens: &[ApiToken]) -> String {
    let rows = tokens.iter().map(|token| {
        let state = token.revoked_at.map_or("usable".to_owned(), |at| format!("revoked {at}"));
        [token.name.clone(), state, token.created_at.to_string(), token.id.to_string()]
    });
    table::list(["NAME", "STATE", "MADE", "ID"], rows)
}
