//! Which devices a command is about, and what it says of them afterwards.

use callboard_proto::{admin::NotDealt, ids::DeviceName};

use super::exit::EndedBadly;

/// Which devices.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct WhomArgs {
    /// The name or id of a device; may be repeated
    #[arg(long = "device", value_name = "DEVICE")]
    pub(crate) devices: Vec<String>,
    /// Every device that it selects, such as 'site = NYC-001'
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
}

/// As in `2 devices: till-1, till-2`.
pub(crate) fn named(devices: &[DeviceName], total: u32) -> String {
    let names: Vec<String> = devices.iter().map(ToString::to_string).collect();
    let more = if u64::from(total) > names.len().try_into().unwrap_or(u64::MAX) { ", ..." } else { "" };
    let named = if names.is_empty() { String::new() } else { format!(": {}{more}", names.join(", ")) };
    format!("{}{named}", callboard_policy::counted(total.into(), "device"))
}

/// Exit code 1 if a named device was refused.
pub(crate) fn all_done(refused: &[NotDealt]) -> anyhow::Result<()> {
    if refused.is_empty() {
        return Ok(());
    }
    let refused = refused.iter().map(|one| format!("{}: {}", one.device, one.reason));
    Err(EndedBadly(refused.collect::<Vec<_>>().join("; ")).into())
}
