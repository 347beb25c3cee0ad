//! `callboard site`: where devices stand.

use callboard_proto::admin::{
    ActivateSite, ChangeSite, ImportSite, Page, SetBandwidth, SetTradingHours, Site, SiteActivated,
};
use ureq::http::Method;

use super::{
    Context,
    api::{PageArgs, Path},
    bandwidth::{self, Limits},
    device,
    hold::HoldArgs,
    import::{self, ImportArgs},
    show, table,
};
use crate::hours::{self, Hours};

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
    /// CSV columns: id, name, tz, trading_hours, bandwidth, label.KEY. JSON: a list of objects with id, name, tz,
    /// trading_hours, bandwidth, labels. An import may be repeated; one without trading hours or bandwidth leaves what is
    /// there.
    #[command(after_help = "Examples:\n  callboard site import sites.csv --dry-run")]
    Import(ImportArgs),
    /// Set the trading hours of a site: nothing is activated in them
    #[command(after_help = "Examples:\n  callboard site hours NYC-001 'mon-sat 08:00-20:00; sun 10:00-18:00'")]
    Hours {
        /// Its id
        site: String,
        #[arg(help = format!("All of them, by the clock of the site's zone: {}", hours::SYNTAX))]
        hours: Hours,
    },
    /// Set what the downloads of a site may take together
    #[command(
        after_help = "Examples:\n  callboard site bandwidth NYC-001 'mon-sat 08:00-20:00 250kB/s; 2MB/s'\n  callboard site bandwidth NYC-001 none"
    )]
    Bandwidth {
        /// Its id
        site: String,
        #[arg(help = format!("All limits, by the clock of the site's zone; the first whose hours it is holds: {}", bandwidth::SYNTAX))]
        limits: Limits,
    },
    /// Keep all rollouts away from the devices of a site
    Hold {
        /// Its id
        site: String,
        #[command(flatten)]
        hold: HoldArgs,
    },
    /// Let rollouts at a held site again
    #[command(visible_alias = "unhold")]
    ReleaseHold {
        /// Its id
        site: String,
    },
    /// Keep all rollouts away from a site for a while; that its devices are silent says nothing then
    Suspend {
        /// Its id
        site: String,
        /// Why, for everybody who looks at it
        #[arg(long)]
        reason: String,
    },
    /// Let rollouts at a suspended or closed site again
    Activate {
        /// Its id
        site: String,
        /// Why, for the event log
        #[arg(long, default_value = "")]
        reason: String,
        /// Only say for which rollouts its devices would be eligible
        #[arg(long)]
        dry_run: bool,
    },
    /// Close a site for good: its devices leave every rollout
    Close {
        /// Its id
        site: String,
        /// Why, for everybody who looks at it
        #[arg(long)]
        reason: String,
    },
}

/// Runs a command.
pub(crate) fn run(command: SiteCommand, context: &Context) -> anyhow::Result<()> {
    let api = context.api()?;
    let one = |site: &str, more: &[&str]| Path::new(["sites", site].iter().chain(more).copied());
    let shown = |site: &str| show::value(context.format, &api.get(&one(site, &[]))?, details);
    let change = |site: &str, verb: &str, reason: String| {
        api.tell(Method::POST, &one(site, &[verb]), &ChangeSite { reason })?;
        shown(site)
    };
    match command {
        SiteCommand::List { page } => {
            let sites: Page<Site> = api.list(&Path::new(["sites"]), &page)?;
            show::page(context.format, "sites", &sites, list)
        }
        SiteCommand::Show { site } => shown(&site),
        SiteCommand::Hours { site, hours } => {
            let body = SetTradingHours { trading_hours: hours.0 };
            api.tell(Method::PUT, &one(&site, &["trading-hours"]), &body)?;
            shown(&site)
        }
        SiteCommand::Bandwidth { site, limits } => {
            api.tell(Method::PUT, &one(&site, &["bandwidth"]), &SetBandwidth { bandwidth: limits.0 })?;
            shown(&site)
        }
        SiteCommand::Hold { site, hold } => {
            api.tell(Method::PUT, &one(&site, &["hold"]), &hold.hold())?;
            shown(&site)
        }
        SiteCommand::ReleaseHold { site } => {
            api.delete(&one(&site, &["hold"]))?;
            shown(&site)
        }
        SiteCommand::Suspend { site, reason } => change(&site, "suspend", reason),
        SiteCommand::Activate { site, reason, dry_run } => {
            let done = api.post(&one(&site, &["activate"]), &ActivateSite { reason, dry_run })?;
            show::value(context.format, &done, activated)
        }
        SiteCommand::Close { site, reason } => change(&site, "close", reason),
        SiteCommand::Import(args) => {
            show::value(context.format, &import::run::<ImportSite>(&api, &args)?, device::imported)
        }
    }
}

fn activated(done: &SiteActivated) -> String {
    format!("{}{}", details(&done.site), device::eligible(&done.eligible, done.dry_run))
}

fn list(sites: &[Site]) -> String {
    let rows = sites.iter().map(|site| {
        let (id, hours) = (site.id.to_string(), hours::show(&site.trading_hours));
        [id, site.name.clone(), state(site), site.tz.clone(), hours, table::pairs(&site.labels)]
    });
    table::list(["ID", "NAME", "STATE", "TIME ZONE", "TRADING HOURS", "LABELS"], rows)
}

/// The state, with the hold that comes on top of it.
fn state(site: &Site) -> String {
    let state = table::word(&site.state);
    if site.hold.is_some() { format!("{state}, held") } else { state }
}

fn details(site: &Site) -> String {
    let hold = site.hold.as_ref().map(|hold| match hold.until {
        Some(until) => format!("until {until}: {}", hold.reason),
        None => hold.reason.clone(),
    });
    let state = match &site.state_reason {
        Some(reason) => format!("{}: {reason}", table::word(&site.state)),
        None => table::word(&site.state),
    };
    table::fields([
        ("id", site.id.to_string()),
        ("name", site.name.clone()),
        ("state", state),
        ("held", hold.unwrap_or_default()),
        ("time zone", site.tz.clone()),
        ("trading hours", hours::show(&site.trading_hours)),
        ("bandwidth", bandwidth::show(&site.bandwidth)),
        ("labels", table::pairs(&site.labels)),
    ])
}
