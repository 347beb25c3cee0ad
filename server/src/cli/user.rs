//! `callboard user` and `callboard session`: people who log in with a password.

use std::{
    io::Read as _,
    path::{Path as FilePath, PathBuf},
};

use anyhow::Context as _;
use callboard_proto::admin::{NewUser, Page, Session, SetGrants, SetPassword, TotpSecret, User, UserPassword};
use ureq::http::Method;

use super::{
    Context,
    api::{PageArgs, Path},
    api_token::MayArgs,
    at_home::{in_database, refused},
    exit::BadInput,
    serve, show, table,
};
use crate::{
    app::{AT_HOME, Actor, api_tokens::in_words, people},
    clock::Clock,
    config::Fragment,
    durable,
};

/// Longer input is no password.
const MAX_INPUT: u64 = 4096;

/// Refuses to widen what somebody may do to the whole fleet because nothing was said of it.
fn check_limits(user: &User) -> anyhow::Result<()> {
    let Some(limit) = user.grants.iter().find_map(|grant| grant.selector.as_ref()) else {
        return Ok(());
    };
    let message = format!(
        "{} is limited to the devices of {limit:?}; say --selector with that again or with another one, or --selector all \
         for the whole fleet",
        user.name
    );
    Err(BadInput::new(message).into())
}

/// What to do with people.
#[derive(clap::Subcommand)]
pub(crate) enum UserCommand {
    /// Make a person known; the password that the server makes is shown this once
    #[command(
        after_help = "Examples:\n  callboard user create ada --role operator --selector 'region = north'\n  callboard user create ada --role admin --dir /var/lib/callboard-server"
    )]
    Create {
        /// By which the event log knows the person
        name: String,
        #[command(flatten)]
        may: MayArgs,
        #[command(flatten)]
        password: PasswordArgs,
        /// Work on this data directory and not over the network, for whoever has no token left
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// List people, those who are kept out among them
    List {
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show a person
    Show {
        /// Who
        name: String,
    },
    /// Replace what a person may do
    Role {
        /// Who
        name: String,
        #[command(flatten)]
        may: MayArgs,
    },
    /// Give a person another password, which is shown this once; the sessions end
    Password {
        /// Who
        name: String,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Make a secret for an authenticator app, which is shown this once: a login takes a code from then on
    Totp {
        /// Who
        name: String,
        /// Forget the secret: a login takes no code any more
        #[arg(long)]
        off: bool,
    },
    /// Keep a person out; the sessions end
    Disable {
        /// Who
        name: String,
    },
    /// Let a person in again
    Enable {
        /// Who
        name: String,
    },
}

/// What to do with sessions.
#[derive(clap::Subcommand)]
pub(crate) enum SessionCommand {
    /// List the sessions of a person that last
    List {
        /// Who
        name: String,
    },
    /// End a session
    End {
        /// Its id
        id: String,
    },
}

/// Where a password comes from.
#[derive(clap::Args)]
pub(crate) struct PasswordArgs {
    /// Read the password from standard input, one line; without this the server makes one
    #[arg(long)]
    password_stdin: bool,
}

impl PasswordArgs {
    fn read(&self) -> anyhow::Result<Option<String>> {
        if !self.password_stdin {
            return Ok(None);
        }
        let mut text = String::new();
        std::io::stdin().take(MAX_INPUT).read_to_string(&mut text).context("cannot read standard input")?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(BadInput("--password-stdin: standard input is empty".to_owned()).into()),
            password => Ok(Some(password.to_owned())),
        }
    }
}

/// Runs a command.
pub(crate) fn run(command: UserCommand, context: &Context) -> anyhow::Result<()> {
    let format = context.format;
    let of = |name: &str, what: &str| Path::new(["users", name, what]);
    let one = |user: &User| list(std::slice::from_ref(user));
    match command {
        UserCommand::Create { name, may, password, dir } => {
            let new = NewUser { name, password: password.read()?, grants: may.grants() };
            let made: UserPassword = match dir {
                Some(dir) => at_home(&dir, new)?,
                None => context.api()?.post(&Path::new(["users"]), &new)?,
            };
            show::value(format, &made, with_password)
        }
        UserCommand::List { page } => {
            let found: Page<User> = context.api()?.list(&Path::new(["users"]), &page)?;
            show::page(format, "people", &found, list)
        }
        UserCommand::Show { name } => {
            let user: User = context.api()?.get(&Path::new(["users", &name]))?;
            show::value(format, &user, one)
        }
        UserCommand::Role { name, may } => {
            if !may.says_where() {
                check_limits(&context.api()?.get(&Path::new(["users", &name]))?)?;
            }
            let grants = SetGrants { grants: may.grants() };
            let user: User = put(context, &of(&name, "grants"), &grants)?;
            show::value(format, &user, one)
        }
        UserCommand::Password { name, password } => {
            let password = SetPassword { password: password.read()? };
            let made: UserPassword = put(context, &of(&name, "password"), &password)?;
            show::value(format, &made, with_password)
        }
        UserCommand::Totp { name, off: false } => {
            let made: TotpSecret = context.api()?.post(&of(&name, "totp"), &serde_json::json!({}))?;
            let shown = |made: &TotpSecret| {
                table::fields([("secret, shown this once", made.secret.clone()), ("for a picture", made.uri.clone())])
            };
            show::value(format, &made, shown)
        }
        UserCommand::Totp { name, off: true } => {
            context.api()?.delete(&of(&name, "totp"))?;
            show::done(format, &format!("a login as {name} takes no code any more"))
        }
        UserCommand::Disable { name } => {
            let user: User = context.api()?.post(&of(&name, "disable"), &serde_json::json!({}))?;
            show::value(format, &user, one)
        }
        UserCommand::Enable { name } => {
            let user: User = context.api()?.post(&of(&name, "enable"), &serde_json::json!({}))?;
            show::value(format, &user, one)
        }
    }
}

/// Runs a command about sessions.
pub(crate) fn run_session(command: SessionCommand, context: &Context) -> anyhow::Result<()> {
    match command {
        SessionCommand::List { name } => {
            let found: Vec<Session> = context.api()?.get(&Path::new(["users", &name, "sessions"]))?;
            show::value(context.format, &found, |found: &Vec<Session>| sessions(found))
        }
        SessionCommand::End { id } => {
            context.api()?.delete(&Path::new(["sessions", &id]))?;
            show::done(context.format, &format!("session {id} has ended"))
        }
    }
}

fn put<T: serde::de::DeserializeOwned>(
    context: &Context,
    path: &Path,
    body: &impl serde::Serialize,
) -> anyhow::Result<T> {
    Ok(serde_json::from_slice(&context.api()?.tell(Method::PUT, path, body)?)?)
}

/// Writes the person into the database of a server, which may be running.
fn at_home(dir: &FilePath, new: NewUser) -> anyhow::Result<UserPassword> {
    durable::keep_to_oneself();
    let settings = serve::settings(dir, Fragment::default())?;
    let (now, by) = (Clock::system().now(), Actor::unlimited(AT_HOME));
    in_database(settings, async |db| {
        let (new, hash, password) = people::prepare(new).await.map_err(refused)?;
        let user = db.write(move |conn| people::make(conn, &by, new, hash, now)).await.map_err(refused)?;
        Ok(UserPassword { user: people::show(user), password })
    })
}

fn with_password(made: &UserPassword) -> String {
    let password = made.password.clone().unwrap_or_else(|| "as given".to_owned());
    table::fields([
        ("name", made.user.name.clone()),
        ("may", in_words(&made.user.grants)),
        ("password, shown this once", password),
    ])
}

fn list(users: &[User]) -> String {
    let rows = users.iter().map(|user| {
        let state = user.disabled_at.map_or("may log in".to_owned(), |at| format!("kept out since {at}"));
        let code = if user.totp { "yes" } else { "no" };
        [user.name.clone(), in_words(&user.grants), code.to_owned(), state, user.created_at.to_string()]
    });
    table::list(["NAME", "MAY", "CODE", "STATE", "MADE"], rows)
}

fn sessions(found: &[Session]) -> String {
    let rows = found.iter().map(|one| {
        let source = one.source.clone().unwrap_or_default();
        [one.id.to_string(), source, one.created_at.to_string(), one.last_used_at.to_string(), one.ends_at.to_string()]
    });
    table::list(["ID", "FROM", "BEGAN", "USED", "ENDS"], rows)
}
