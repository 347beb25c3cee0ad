//! `callboard device`: the registry, one device at a time or by selector.

use std::fmt::Write as _;

use anyhow::Context as _;
use callboard_proto::admin::{
    AllowReenrolment, Decommission, Device, EditLabels, Eligible, Event, ImportDevice, Imported, KeepDevice, Page,
    SetSerial,
};
use ureq::http::Method;

use super::{
    Context,
    api::{Api, PageArgs, Path},
    attention, event,
    hold::HoldArgs,
    import::{self, ImportArgs},
    label::{self, Label},
    moment::{self, Moment},
    show, table,
};

use crate::clock::Clock;

mod explain;

/// A device, or those that match.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct WhichArgs {
    /// Name or id
    device: Option<String>,
    /// Every device that it selects, such as 'site = NYC-001'
    #[arg(long, value_name = "SELECTOR")]
    selector: Option<String>,
}

/// What to do with devices.
#[derive(clap::Subcommand)]
pub(crate) enum DeviceCommand {
    /// List devices
    #[command(
        after_help = "Examples:\n  callboard device list --selector 'site = NYC-001 and version(\"pos-app\") < 2.4.0'"
    )]
    List {
        /// Only those that match, such as 'region = northeast and status = online'
        #[arg(long, value_name = "SELECTOR")]
        selector: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show all that is known about a device
    Show {
        /// Name or id
        device: String,
    },
    /// Make devices known before they are switched on
    ///
    /// CSV columns: name, site, serial, description, label.KEY, installed.PRODUCT. JSON: a list of objects with name,
    /// site, serial, description, labels, installed. An import may be repeated.
    #[command(after_help = "Examples:\n  callboard device import devices.csv --dry-run")]
    Import(ImportArgs),
    /// Set or remove labels of all devices that match
    #[command(
        after_help = "Examples:\n  callboard device label --selector 'site = NYC-001' --set ring=early --dry-run"
    )]
    Label {
        /// Which devices, such as 'name = till-1'
        #[arg(long, value_name = "SELECTOR")]
        selector: String,
        /// Set a label; may be repeated
        #[arg(long, value_name = "KEY=VALUE", value_parser = label::parse)]
        set: Vec<Label>,
        /// Remove a label; may be repeated
        #[arg(long, value_name = "KEY")]
        remove: Vec<String>,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Explain what a device's next check-in brings and why, for every active rollout
    Explain {
        /// Name or id
        device: String,
    },
    /// List what happened to a device, newest first
    History {
        /// Name or id
        device: String,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Keep all rollouts away from a device, or from every device that matches
    #[command(
        after_help = "Examples:\n  callboard device hold pos-nyc-001 --reason 'waits for a part' --until 3d\n  callboard device hold --selector 'site = NYC-001' --reason 'the shop is rebuilt'"
    )]
    Hold {
        #[command(flatten)]
        which: WhichArgs,
        #[command(flatten)]
        hold: HoldArgs,
    },
    /// Let rollouts at a held device again, or at every held device that matches
    #[command(visible_alias = "unhold")]
    ReleaseHold {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Give a device a serial number, or take the one that it has
    ///
    /// An import changes the number of no device that has enrolled, and takes none from another device; this does.
    #[command(
        after_help = "Examples:\n  callboard device serial pos-nyc-001 --set SN-0001\n  callboard device serial device-0a1b2c3d4e5f --clear"
    )]
    Serial {
        /// Name or id
        device: String,
        /// Its number from now on
        #[arg(long, value_name = "SERIAL", required_unless_present = "clear", conflicts_with = "clear")]
        set: Option<String>,
        /// It has none from now on
        #[arg(long)]
        clear: bool,
    },
    /// Devices that two machines may be, because a disk or an image was copied
    #[command(subcommand)]
    Clone(CloneCommand),
    /// Let a device enrol again by its serial number or its name, although it has a key
    ///
    /// For a device that is to be imaged anew: any token enrols it then, and it is the same device afterwards. Once.
    #[command(
        after_help = "Examples:\n  callboard device allow-reenrol till-1 --for 2d\n  callboard device allow-reenrol till-1 --no-more"
    )]
    AllowReenrol {
        /// Name or id
        device: String,
        /// Until when, such as 2h, 3d or 2026-11-23T02:00:00Z; at most 31 days
        #[arg(long = "for", value_name = "DURATION|TIME", value_parser = moment::parse,
            required_unless_present = "no_more", conflicts_with = "no_more")]
        until: Option<Moment>,
        /// Take it back
        #[arg(long)]
        no_more: bool,
    },
    /// Take a device out of service: its certificate is refused from its next request on
    Decommission {
        /// Name or id
        device: String,
        /// Why, for the event log
        #[arg(long)]
        reason: String,
    },
}

/// What to do about copies.
#[derive(clap::Subcommand)]
pub(crate) enum CloneCommand {
    /// List devices that may have copies
    List {
        #[command(flatten)]
        page: PageArgs,
    },
    /// Say that a device goes on as it is: its hardware was exchanged, or the copy has enrolled as another device
    ///
    /// A copy gets an identity of its own by `callboard-agent enrol --again --bundle FILE` on it, with a token for a new
    /// device.
    #[command(after_help = "Examples:\n  callboard device clone keep till-1 --reason 'new main board, ticket 4711'")]
    Keep {
        /// Name or id
        device: String,
        /// What was found, for the event log
        #[arg(long)]
        reason: String,
    },
}

/// Runs a command.
pub(crate) fn run(command: DeviceCommand, context: &Context) -> anyhow::Result<()> {
    let api = context.api()?;
    let one = |device: &str, more: &[&str]| Path::new(["devices", device].iter().chain(more).copied());
    match command {
        DeviceCommand::List { selector, page } => {
            let devices: Page<Device> = api.list(&Path::new(["devices"]).maybe("selector", selector), &page)?;
            show::page(context.format, "devices", &devices, list)
        }
        DeviceCommand::Show { device } => show::value(context.format, &api.get(&one(&device, &[]))?, details),
        DeviceCommand::Import(args) => {
            show::value(context.format, &import::run::<ImportDevice>(&api, &args)?, imported)
        }
        DeviceCommand::Label { selector, set, remove, dry_run } => {
            let edit = EditLabels { selector, set: label::collect(set)?, remove, dry_run };
            show::value(context.format, &api.post(&Path::new(["devices", "labels"]), &edit)?, imported)
        }
        DeviceCommand::Explain { device } => {
            show::value(context.format, &api.get(&one(&device, &["explain"]))?, explain::sentences)
        }
        DeviceCommand::History { device, page } => {
            let events: Page<Event> = api.list(&one(&device, &["history"]), &page)?;
            show::page(context.format, "events", &events, event::list)
        }
        DeviceCommand::Hold { which, hold } => {
            let hold = hold.hold();
            of_each(&api, context, which, |path| api.tell(Method::PUT, path, &hold).map(drop))
        }
        DeviceCommand::ReleaseHold { which } => of_each(&api, context, which, |path| api.delete(path)),
        DeviceCommand::Serial { device, set, .. } => {
            match set {
                Some(serial) => drop(api.tell(Method::PUT, &one(&device, &["serial"]), &SetSerial { serial })?),
                None => api.delete(&one(&device, &["serial"]))?,
            }
            show::value(context.format, &api.get(&one(&device, &[]))?, details)
        }
        DeviceCommand::Clone(CloneCommand::List { page }) => {
            let found: Page<Device> = api.list(&Path::new(["clones"]), &page)?;
            show::page(context.format, "devices", &found, clones)
        }
        DeviceCommand::Clone(CloneCommand::Keep { device, reason }) => {
            api.tell(Method::POST, &one(&device, &["clone", "keep"]), &KeepDevice { reason })?;
            show::value(context.format, &api.get(&one(&device, &[]))?, details)
        }
        DeviceCommand::AllowReenrol { device, until, .. } => {
            let path = one(&device, &["reenrolment"]);
            match until.map(|until| until.at(Clock::system().now())) {
                Some(until) => drop(api.tell(Method::PUT, &path, &AllowReenrolment { until })?),
                None => api.delete(&path)?,
            }
            show::value(context.format, &api.get(&one(&device, &[]))?, details)
        }
        DeviceCommand::Decommission { device, reason } => {
            api.tell(Method::POST, &one(&device, &["decommission"]), &Decommission { reason })?;
            show::value(context.format, &api.get(&one(&device, &[]))?, details)
        }
    }
}

/// One row for each device that may have a copy.
pub(super) fn clones(devices: &[Device]) -> String {
    let row = |device: &Device| {
        let clone = device.possible_clone.as_ref()?;
        let site = table::or_empty(device.site.as_ref());
        Some([device.name.to_string(), site, clone.since.to_string(), clone.last.to_string(), clone.text.clone()])
    };
    table::list(["DEVICE", "SITE", "SINCE", "LAST", "POSSIBLE CLONE"], devices.iter().filter_map(row))
}

/// Changes one device and shows it, or all that match, one after the other, and lists them. It ends at the first that
/// cannot be changed: those before it were.
fn of_each(
    api: &Api,
    context: &Context,
    which: WhichArgs,
    change: impl Fn(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let path = |device: &str, more: &[&str]| Path::new(["devices", device].iter().chain(more).copied());
    if let Some(device) = which.device {
        change(&path(&device, &["hold"]))?;
        return show::value(context.format, &api.get(&path(&device, &[]))?, details);
    }
    let all = PageArgs { limit: u32::MAX, after: None };
    let found: Page<Device> = api.list(&Path::new(["devices"]).maybe("selector", which.selector), &all)?;
    let mut done = Page { items: Vec::new(), next: None };
    for device in found.items {
        let own = path(device.name.as_str(), &[]);
        change(&path(device.name.as_str(), &["hold"])).with_context(|| format!("device {}", device.name))?;
        done.items.push(api.get(&own)?);
    }
    show::page(context.format, "devices", &done, list)
}

/// One row for each device.
pub(super) fn list(devices: &[Device]) -> String {
    let rows = devices.iter().map(|device| {
        [
            device.name.to_string(),
            table::or_empty(device.site.as_ref()),
            status(device),
            table::or_empty(device.last_seen),
            installed(device),
            table::pairs(&device.labels),
        ]
    });
    table::list(["NAME", "SITE", "STATUS", "LAST SEEN", "INSTALLED", "LABELS"], rows)
}

/// The status, with what overrides it.
fn status(device: &Device) -> String {
    let mut status = table::word(&device.status);
    if device.decommissioned {
        "decommissioned".clone_into(&mut status);
    } else if device.hold.is_some() {
        status.push_str(", held");
    }
    status
}

/// The zone that it reports, and whether that is its site's time.
fn zone(device: &Device) -> String {
    let tz = device.tz.clone().unwrap_or_default();
    if device.tz_mismatch { format!("{tz} (its site has another time, and windows follow the site)") } else { tz }
}

fn installed(device: &Device) -> String {
    let each = device.installed.iter().map(|one| format!("{} {}", one.product, one.version));
    each.collect::<Vec<_>>().join(", ")
}

fn details(device: &Device) -> String {
    let hold = device.hold.as_ref().map(|hold| match hold.until {
        Some(until) => format!("until {until}: {}", hold.reason),
        None => hold.reason.clone(),
    });
    let clone = device.possible_clone.as_ref().map(|clone| format!("since {}: {}", clone.since, clone.text));
    let mut text = table::fields([
        ("name", device.name.to_string()),
        ("id", device.id.to_string()),
        ("description", device.description.clone()),
        ("site", table::or_empty(device.site.as_ref())),
        ("status", status(device)),
        ("held", hold.unwrap_or_default()),
        ("possible clone", clone.unwrap_or_default()),
        ("may enrol again", device.reenrol_until.map(|until| format!("until {until}")).unwrap_or_default()),
        ("last seen", table::or_empty(device.last_seen)),
        ("came by", device.address.clone().unwrap_or_default()),
        ("enrolled", table::or_empty(device.enrolled_at)),
        ("serial", device.serial.clone().unwrap_or_default()),
        ("hardware", device.hw.clone()),
        ("architecture", device.arch.clone()),
        ("agent", device.agent.clone()),
        ("time zone", zone(device)),
        ("labels", table::pairs(&device.labels)),
        ("attributes", table::pairs(&device.attributes)),
        ("refused", attention::attacks::counts(&device.attacks)),
    ]);
    if !device.installed.is_empty() {
        let rows = device.installed.iter().map(|one| {
            let release = one.release.map(|digest| digest.short());
            let order = if one.counter > 0 { format!("{}.{}", one.epoch, one.counter) } else { String::new() };
            [one.product.to_string(), one.version.to_string(), order, release.unwrap_or_default()]
        });
        let products = table::list(["PRODUCT", "VERSION", "EPOCH.COUNTER", "RELEASE"], rows);
        // Writing to a String cannot fail.
        let _ = write!(text, "\n\n{products}");
    }
    text
}

/// One sentence, and one for each rollout that the change lets at more devices.
pub(crate) fn imported(done: &Imported) -> String {
    let verb = if done.dry_run { "would be " } else { "" };
    let text = format!("{} {verb}created, {} {verb}updated, {} unchanged", done.created, done.updated, done.unchanged);
    text + &eligible(&done.eligible, done.dry_run)
}

/// One line for each rollout that a change lets at more devices.
pub(crate) fn eligible(eligible: &[Eligible], dry_run: bool) -> String {
    let verb = if dry_run { "would become" } else { "became" };
    let line = |one: &Eligible| {
        format!("\n{} {verb} eligible for rollout {}", callboard_policy::counted(one.devices, "device"), one.rollout)
    };
    eligible.iter().map(line).collect()
}
