//! `callboard site`: where devices stand.

use callboard_proto::admin::{Page, SetTradingHours, Site};
use ureq::http::Method;

use super::{
    Context,
    api::{PageArgs, Path},
    device,
    hours::{self, Hours},
    import::{self, ImportArgs},
    show, table,
};

/// What to do with sites.
#[derive(clap::Subcommand)]
pub(crate) enum SiteCommand {
    /// List sites
    List {
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show all that is known about a site
    Show {
        /// Its id
        site: String,
    },
    /// Make or change sites
    ///
    /// CSV columns: id, name, tz, trading_hours, label.KEY. JSON: a list of objects with id, name, tz, trading_hours,
    /// labels. An import may be repeated; one without trading hours leaves those that are there.
    Import(ImportArgs),
    /// Set the trading hours of a site: nothing is activated in them
    Hours {
        /// Its id
        site: String,
        #[arg(help = format!("All of them, by the clock of the site's zone: {}", hours::SYNTAX))]
        hours: Hours,
    },
}

/// Runs a command.
pub(crate) fn run(command: SiteCommand, context: &Context) -> anyhow::Result<()> {
    let api = context.api()?;
    let one = |site: &str, more: &[&str]| Path::new(["sites", site].iter().chain(more).copied());
    match command {
        SiteCommand::List { page } => {
            let sites: Page<Site> = api.list(&Path::new(["sites"]), &page)?;
            show::page(context.format, "sites", &sites, list)
        }
        SiteCommand::Show { site } => show::value(context.format, &api.get(&one(&site, &[]))?, details),
        SiteCommand::Hours { site, hours } => {
            let body = SetTradingHours { trading_hours: hours.0 };
            api.tell(Method::PUT, &one(&site, &["trading-hours"]), &body)?;
            show::value(context.format, &api.get(&one(&site, &[]))?, details)
        }
        SiteCommand::Import(args) => show::value(context.format, &import::run::<Site>(&api, &args)?, device::imported),
    }
}

fn list(sites: &[Site]) -> String {
    let rows = sites.iter().map(|site| {
        [site.id.to_string(), site.name.clone(), site.tz.clone(), hours_of(site), table::pairs(&site.labels)]
    });
    table::list(["ID", "NAME", "TIME ZONE", "TRADING HOURS", "LABELS"], rows)
}

fn hours_of(site: &Site) -> String {
    hours::show(site.trading_hours.as_deref().unwrap_or_default())
}

fn details(site: &Site) -> String {
    table::fields([
        ("id", site.id.to_string()),
        ("name", site.name.clone()),
        ("time zone", site.tz.clone()),
        ("trading hours", hours_of(site)),
        ("labels", table::pairs(&site.labels)),
    ])
}
