//! What is done about single devices of a rollout: another try, taking note, nothing more of it.

use callboard_proto::admin::{Dealt, DevicesOfRollout};

use crate::cli::{Context, api::Path, exit::EndedBadly, show};

/// Which devices of a rollout.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct WhomArgs {
    /// The name or id of a device; may be repeated
    #[arg(long = "device", value_name = "DEVICE")]
    pub(super) devices: Vec<String>,
    /// Every device that it selects, such as 'site = NYC-001'
    #[arg(long, value_name = "SELECTOR")]
    pub(super) selector: Option<String>,
}

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
    if dealt.refused.is_empty() {
        return Ok(());
    }
    let refused = dealt.refused.iter().map(|one| format!("{}: {}", one.device, one.reason));
    Err(EndedBadly(refused.collect::<Vec<_>>().join("; ")).into())
}

fn sentence(dealt: &Dealt) -> String {
    let names: Vec<String> = dealt.devices.iter().map(ToString::to_string).collect();
    let more = if u64::from(dealt.total) > names.len().try_into().unwrap_or(u64::MAX) { ", ..." } else { "" };
    let named = if names.is_empty() { String::new() } else { format!(": {}{more}", names.join(", ")) };
    let reopened = if dealt.reopened { "; the rollout runs again" } else { "" };
    format!("{} device{}{named}{reopened}", dealt.total, if dealt.total == 1 { "" } else { "s" })
}
