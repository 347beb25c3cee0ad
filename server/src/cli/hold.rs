//! A hold as it is asked for on the command line, of a device or of a whole site.

use callboard_proto::admin::Hold;

use super::moment::{self, Moment};
use crate::clock::Clock;

/// Why, and until when.
#[derive(clap::Args)]
pub(crate) struct HoldArgs {
    /// Why, for everybody who looks at it
    #[arg(long)]
    reason: String,
    /// Until when, such as 2h, 3d, 2026-11-23T02:00:00Z or 2026-11-22T21:00:00-05:00 [default: until it is released]
    #[arg(long, value_name = "TIME|DURATION", value_parser = moment::parse)]
    until: Option<Moment>,
}

impl HoldArgs {
    /// The hold that is meant now.
    pub(crate) fn hold(self) -> Hold {
        Hold { reason: self.reason, until: self.until.map(|moment| moment.at(Clock::system().now())) }
    }
}
