//! `callboard freeze`: dates on which nothing is offered or installed.

use callboard_proto::{
    admin::{Freeze, NewFreeze, Page},
    ids::FreezeName,
};

use super::{
    Context,
    api::{PageArgs, Path},
    show, table,
};

/// What to do with freezes.
#[derive(clap::Subcommand)]
pub(crate) enum FreezeCommand {
    /// List freezes, those that are over among them
    List {
        #[command(flatten)]
        page: PageArgs,
    },
    /// Offer and install nothing on these days
    ///
    /// Days are days on each device's own clock. Devices that have begun to switch finish.
    #[command(
        after_help = "Examples:\n  callboard freeze create black-friday --from 2026-11-26 --to 2026-11-30 --reason 'no changes while everybody buys'"
    )]
    Create {
        /// Its name
        name: FreezeName,
        /// The first day, such as 2026-11-26
        #[arg(long, value_name = "DATE")]
        from: String,
        /// The last day
        #[arg(long, value_name = "DATE")]
        to: String,
        /// Why, for everybody who wonders
        #[arg(long)]
        reason: String,
        /// Which devices, such as 'region = northeast' [default: all]
        #[arg(long, value_name = "SELECTOR")]
        selector: Option<String>,
    },
    /// Call a freeze off
    Delete {
        /// Its name
        name: String,
    },
}

/// Runs a command.
pub(crate) fn run(command: FreezeCommand, context: &Context) -> anyhow::Result<()> {
    let api = context.api()?;
    let freezes = Path::new(["freezes"]);
    match command {
        FreezeCommand::List { page } => {
            let found: Page<Freeze> = api.list(&freezes, &page)?;
            show::page(context.format, "freezes", &found, list)
        }
        FreezeCommand::Create { name, from, to, reason, selector } => {
            let made: Freeze = api.post(&freezes, &NewFreeze { name, reason, from, to, selector })?;
            show::value(context.format, &made, details)
        }
        FreezeCommand::Delete { name } => {
            api.delete(&Path::new(["freezes", &name]))?;
            show::done(context.format, &format!("freeze {} is called off", name))
        }
    }
}

fn whom(freeze: &Freeze) -> String {
    freeze.selector.clone().unwrap_or_else(|| "all".to_owned())
}

fn list(freezes: &[Freeze]) -> String {
    let rows = freezes.iter().map(|freeze| {
        [freeze.name.to_string(), freeze.from.clone(), freeze.to.clone(), whom(freeze), freeze.reason.clone()]
    });
    table::list(["NAME", "FIRST DAY", "LAST DAY", "DEVICES", "REASON"], rows)
}

fn details(freeze: &Freeze) -> String {
    table::fields([
        ("freeze", freeze.name.to_string()),
        ("first day", freeze.from.clone()),
        ("last day", freeze.to.clone()),
        ("devices", whom(freeze)),
        ("reason", freeze.reason.clone()),
        ("made", format!("{} by {}", freeze.created_at, freeze.created_by)),
    ])
}
