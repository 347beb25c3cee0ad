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
    /// List events
    List {
        #[command(flatten)]
        page: PageArgs,
    },
}

/// Runs a command.
pub(crate) fn run(command: EventCommand, context: &Context) -> anyhow::Result<()> {
    let EventCommand::List { page } = command;
    let events: Page<Event> = context.api()?.list(&Path::new(["events"]), &page)?;
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
