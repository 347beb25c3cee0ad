//! `callboard event`: what happened.

use callboard_proto::admin::{Event, Page};

use super::{
    Context,
    api::{PageArgs, Path},
    show, table,
};

/// What to do with the event log.
#[derive(clap::Subcommand)]
pub(crate) enum EventCommand {
    /// List events, newest first
    #[command(
        after_help = "Examples:\n  callboard event list --limit 20\n  callboard event list --rollout pos-2.1 --kind rollout.halted"
    )]
    List {
        /// Only those of this device, by name or id
        #[arg(long)]
        device: Option<String>,
        /// Only those of this rollout, by name or id
        #[arg(long)]
        rollout: Option<String>,
        /// Only those of this kind, such as rollout.halted
        #[arg(long)]
        kind: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
}

/// Runs a command.
pub(crate) fn run(command: EventCommand, context: &Context) -> anyhow::Result<()> {
    let EventCommand::List { device, rollout, kind, page } = command;
    let path = Path::new(["events"]).maybe("device", device).maybe("rollout", rollout).maybe("kind", kind);
    let events: Page<Event> = context.api()?.list(&path, &page)?;
    show::page(context.format, "events", &events, list)
}

/// One row for each event.
pub(crate) fn list(events: &[Event]) -> String {
    let rows = events.iter().map(|event| {
        [
            event.at.to_string(),
            event.kind.clone(),
            table::or_empty(event.device.as_ref()),
            table::or_empty(event.rollout.as_ref()),
            event.text.clone(),
        ]
    });
    table::list(["AT", "WHAT", "DEVICE", "ROLLOUT", "TEXT"], rows)
}
