//! What is done about single devices of a rollout: another try, taking note, nothing more of it.

use callboard_proto::admin::{Dealt, DevicesOfRollout};

use crate::cli::{
    Context,
    api::Path,
    show,
    whom::{WhomArgs, all_done, named},
};

/// Which devices of which rollout, and why.
#[derive(clap::Args)]
pub(crate) struct DevicesArgs {
    /// The rollout's name or id
    rollout: String,
    #[command(flatten)]
    whom: WhomArgs,
    /// Why, for the event log
    #[arg(long)]
    reason: String,
}

impl DevicesArgs {
    /// `retry`, `skip` or `cancel`.
    pub(super) fn run(self, verb: &str, context: &Context) -> anyhow::Result<()> {
        let WhomArgs { devices, selector } = self.whom;
        act(verb, &self.rollout, DevicesOfRollout { devices, selector, reason: self.reason }, context)
    }
}

/// Does it, and says for whom it was done. Exit code 1 if a named device was refused.
pub(super) fn act(verb: &str, rollout: &str, wanted: DevicesOfRollout, context: &Context) -> anyhow::Result<()> {
    let dealt: Dealt = context.api()?.post(&Path::new(["rollouts", rollout, "devices", verb]), &wanted)?;
    show::value(context.format, &dealt, sentence)?;
    all_done(&dealt.refused)
}

fn sentence(dealt: &Dealt) -> String {
    let reopened = if dealt.reopened { "; the rollout runs again" } else { "" };
    named(&dealt.devices, dealt.total) + reopened
}
