//! `callboard attention`: failures that no rollout tries again by itself, and attacks that devices tell of.

pub(crate) mod attacks;

use callboard_proto::admin::{Attention, Device, Page};

use super::{
    Context,
    api::{PageArgs, Path},
    device, show, table,
};

/// What needs attention.
#[derive(clap::Subcommand)]
pub(crate) enum AttentionCommand {
    /// List failures that wait for somebody
    ///
    /// `callboard rollout retry`, `skip` and `cancel` deal with them, one by one or many at once. Devices that may have
    /// copies follow; `callboard device clone keep` deals with them.
    List {
        /// Only those of this rollout
        #[arg(long)]
        rollout: Option<String>,
        /// Only those of devices that it selects
        #[arg(long)]
        selector: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// What devices refused because no honest server sends it
    #[command(subcommand)]
    Attacks(attacks::AttacksCommand),
}

/// Runs a command.
pub(crate) fn run(command: AttentionCommand, context: &Context) -> anyhow::Result<()> {
    match command {
        AttentionCommand::List { rollout, selector, page } => {
            let api = context.api()?;
            let everything = rollout.is_none() && selector.is_none() && page.after.is_none();
            let path = Path::new(["attention"]).maybe("rollout", rollout).maybe("selector", selector);
            let found: Page<Attention> = api.list(&path, &page)?;
            show::page(context.format, "failures", &found, list)?;
            if everything && context.format == show::Format::Table {
                let copies: Page<Device> = api.list(&Path::new(["clones"]), &page)?;
                if !copies.items.is_empty() {
                    show::page(context.format, "devices", &copies, device::clones)?;
                }
            }
            Ok(())
        }
        AttentionCommand::Attacks(command) => attacks::run(command, context),
    }
}

/// One row for each failure.
fn list(failures: &[Attention]) -> String {
    let rows = failures.iter().map(|one| {
        let failure = one.failure.as_ref().map(|failure| format!("{}: {}", failure.code, failure.text.trim()));
        [
            one.rollout.to_string(),
            one.device.to_string(),
            table::or_empty(one.site.as_ref()),
            one.version.to_string(),
            one.state.as_str().to_owned(),
            one.attempt.to_string(),
            one.since.to_string(),
            failure.unwrap_or_default(),
        ]
    });
    table::list(["ROLLOUT", "DEVICE", "SITE", "VERSION", "STATE", "ATTEMPT", "SINCE", "FAILURE"], rows)
}
