//! `callboard api-token`: who may operate the server.

use std::{path::PathBuf, time::Duration};

use callboard_proto::admin::{ApiToken, ApiTokenCreated, Grant, NewApiToken, Page, Role};

use super::{
    Context,
    api::{PageArgs, Path},
    at_home::{in_database, refused},
    duration, serve, show, table,
};
use crate::{
    app::{self, AT_HOME, Actor, api_tokens::in_words},
    clock::Clock,
    config::Fragment,
    durable,
};

/// What to do with API tokens.
#[derive(clap::Subcommand)]
pub(crate) enum ApiTokenCommand {
    /// Make a token for another operator or program; it is shown this once
    #[command(
        after_help = "Examples:\n  callboard api-token create ada\n  callboard api-token create till-desk --role operator --selector 'region = north' --ttl 90d\n  callboard api-token create ada --dir /var/lib/callboard-server"
    )]
    Create {
        /// Whose it is: the event log says who did what by this name
        name: String,
        #[command(flatten)]
        may: MayArgs,
        /// When it ends, as in 90d; it has no end without
        #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
        ttl: Option<Duration>,
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
        /// Even the last one that can be used, or the one that you use
        #[arg(long)]
        force: bool,
    },
}

/// The selector that selects every device.
const EVERYWHERE: &str = "all";

/// What somebody may do.
#[derive(clap::Args)]
pub(crate) struct MayArgs {
    /// What it may do: viewer, operator, releaser, approver or admin; more than one if repeated. Everything (admin) without
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<Role>,
    /// Only for the devices that this selects; a releaser's and an admin's is the whole fleet, which is also "all"
    #[arg(long, value_name = "SELECTOR")]
    selector: Option<String>,
}

impl MayArgs {
    /// As the API takes it.
    pub(crate) fn grants(self) -> Vec<Grant> {
        let Self { mut roles, selector } = self;
        if roles.is_empty() {
            roles.push(Role::Admin);
        }
        let selector = selector.filter(|selector| selector.trim() != EVERYWHERE);
        roles.into_iter().map(|role| Grant { role, selector: selector.clone() }).collect()
    }

    /// Whether it is said which devices it is about.
    pub(crate) const fn says_where(&self) -> bool {
        self.selector.is_some()
    }
}

/// Runs a command.
pub(crate) fn run(command: ApiTokenCommand, context: &Context) -> anyhow::Result<()> {
    let tokens = Path::new(["api-tokens"]);
    match command {
        ApiTokenCommand::Create { name, may, ttl, dir } => {
            let new = NewApiToken { name, grants: may.grants(), ttl_s: ttl.map(|ttl| ttl.as_secs()) };
            let made: ApiTokenCreated = match dir {
                Some(dir) => at_home(&dir, new)?,
                None => context.api()?.post(&tokens, &new)?,
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
fn at_home(dir: &std::path::Path, new: NewApiToken) -> anyhow::Result<ApiTokenCreated> {
    durable::keep_to_oneself();
    let settings = serve::settings(dir, Fragment::default())?;
    let now = Clock::system().now();
    let by = Actor::unlimited(AT_HOME);
    in_database(settings, async |db| {
        db.write(move |conn| app::api_tokens::make(conn, &by, new, now)).await.map_err(refused)
    })
}

fn created(made: &ApiTokenCreated) -> String {
    table::fields([
        ("id", made.id.to_string()),
        ("name", made.name.clone()),
        ("may", in_words(&made.grants)),
        ("ends", made.expires_at.map_or("never".to_owned(), |at| at.to_string())),
        ("token, shown this once", made.token.clone()),
    ])
}

fn list(tokens: &[ApiToken]) -> String {
    let rows = tokens.iter().map(|token| {
        let state = match (token.revoked_at, token.expires_at) {
            (Some(at), _) => format!("revoked {at}"),
            (_, Some(at)) => format!("ends {at}"),
            _ => "usable".to_owned(),
        };
        [token.name.clone(), in_words(&token.grants), state, token.created_at.to_string(), token.id.to_string()]
    });
    table::list(["NAME", "MAY", "STATE", "MADE", "ID"], rows)
}
