//! `callboard attention attacks`: what devices refused because no honest server sends it.

use callboard_proto::admin::{AcknowledgeAttacks, Acknowledged, AttackCount, Attacked, Page};

use crate::cli::{
    Context,
    api::{PageArgs, Path},
    show, table,
    whom::{WhomArgs, all_done, named},
};

/// What devices refused.
#[derive(clap::Subcommand)]
pub(crate) enum AttacksCommand {
    /// List devices that tell of something new
    List {
        #[command(flatten)]
        page: PageArgs,
    },
    /// Take note of what devices told so far
    Acknowledge {
        #[command(flatten)]
        whom: WhomArgs,
        /// Why, for the event log
        #[arg(long)]
        reason: String,
    },
}

/// Runs a command. Exit code 1 if a named device was refused.
pub(super) fn run(command: AttacksCommand, context: &Context) -> anyhow::Result<()> {
    let api = context.api()?;
    match command {
        AttacksCommand::List { page } => {
            let found: Page<Attacked> = api.list(&Path::new(["attention", "attacks"]), &page)?;
            show::page(context.format, "devices", &found, list)
        }
        AttacksCommand::Acknowledge { whom: WhomArgs { devices, selector }, reason } => {
            let wanted = AcknowledgeAttacks { devices, selector, reason };
            let done: Acknowledged = api.post(&Path::new(["attention", "attacks", "acknowledge"]), &wanted)?;
            show::value(context.format, &done, |done| named(&done.devices, done.total))?;
            all_done(&done.refused)
        }
    }
}

fn list(devices: &[Attacked]) -> String {
    let rows = devices.iter().map(|one| {
        [one.device.to_string(), table::or_empty(one.site.as_ref()), one.last_at.to_string(), counts(&one.attacks)]
    });
    table::list(["DEVICE", "SITE", "LAST", "REFUSED"], rows)
}

/// As in `bad_sig 7 (2 new), slow 1`.
pub(crate) fn counts(attacks: &[AttackCount]) -> String {
    let each = attacks.iter().map(|one| match one.total.saturating_sub(one.acknowledged) {
        0 => format!("{} {}", one.kind, one.total),
        new => format!("{} {} ({new} new)", one.kind, one.total),
    });
    each.collect::<Vec<_>>().join(", ")
}
