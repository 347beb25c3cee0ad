//! `callboard enrolment`: keys that asked to become a device and wait for somebody to say so.

use callboard_proto::{
    admin::{AcceptEnrolment, EnrolmentState, Page, WaitingEnrolment},
    ids::DeviceName,
};

use super::{
    Context,
    api::{PageArgs, Path},
    show, table,
};

/// What to do with enrolments.
#[derive(clap::Subcommand)]
pub(crate) enum EnrolmentCommand {
    /// List enrolments that wait, and those that were decided on and did not ask again yet
    ///
    /// They wait because their token says so (`callboard token create --wait`), or because they claim to be a device that
    /// has another key.
    List {
        #[command(flatten)]
        page: PageArgs,
    },
    /// Let a key become a device, the next time that it asks
    ///
    /// Without a name it becomes the device that it claims to be, whose key is refused from then on; else a new one with
    /// the name that it asked for. Compare the key with what `callboard-agent enrol` shows on the till.
    #[command(
        after_help = "Examples:\n  callboard enrolment accept 0197ad2e-7a00-7c3e-9d54-3f1f6a2b8c01\n  callboard enrolment accept 0197ad2e-7a00-7c3e-9d54-3f1f6a2b8c01 --as pos-nyc-001\n  callboard enrolment accept 0197ad2e-7a00-7c3e-9d54-3f1f6a2b8c01 --new-name pos-nyc-009"
    )]
    Accept {
        /// Its id
        id: String,
        /// It becomes this device, by name or id
        #[arg(long = "as", value_name = "DEVICE")]
        device: Option<String>,
        /// It becomes a new device with this name
        #[arg(long, value_name = "NAME", conflicts_with = "device")]
        new_name: Option<DeviceName>,
    },
    /// Refuse a key each time that it asks
    Reject {
        /// Its id
        id: String,
    },
}

/// Runs a command.
pub(crate) fn run(command: EnrolmentCommand, context: &Context) -> anyhow::Result<()> {
    let api = context.api()?;
    match command {
        EnrolmentCommand::List { page } => {
            let found: Page<WaitingEnrolment> = api.list(&Path::new(["enrolments"]), &page)?;
            show::page(context.format, "enrolments", &found, list)
        }
        EnrolmentCommand::Accept { id, device, new_name } => {
            let how = AcceptEnrolment { device, name: new_name };
            let one: WaitingEnrolment = api.post(&Path::new(["enrolments", &id, "accept"]), &how)?;
            show::value(context.format, &one, details)
        }
        EnrolmentCommand::Reject { id } => {
            let one: WaitingEnrolment = api.post(&Path::new(["enrolments", &id, "reject"]), &())?;
            show::value(context.format, &one, details)
        }
    }
}

const fn state(one: &WaitingEnrolment) -> &'static str {
    match one.state {
        EnrolmentState::Waiting => "waiting",
        EnrolmentState::Accepted => "accepted",
        EnrolmentState::Rejected => "rejected",
    }
}

fn list(enrolments: &[WaitingEnrolment]) -> String {
    let rows = enrolments.iter().map(|one| {
        [
            one.id.to_string(),
            state(one).to_owned(),
            one.key.short(),
            table::or_empty(one.device.as_ref()),
            table::or_empty(one.name.as_ref()),
            one.serial.clone().unwrap_or_default(),
            one.hw.clone(),
            one.source.clone().unwrap_or_default(),
            one.last_at.to_string(),
            one.why.clone(),
        ]
    });
    table::list(["ID", "STATE", "KEY", "DEVICE", "NAME", "SERIAL", "HW", "FROM", "LAST ASKED", "WHY"], rows)
}

fn details(one: &WaitingEnrolment) -> String {
    table::fields([
        ("id", one.id.to_string()),
        ("state", state(one).to_owned()),
        ("key", one.key.to_string()),
        ("device", table::or_empty(one.device.as_ref())),
        ("name", table::or_empty(one.name.as_ref())),
        ("serial", one.serial.clone().unwrap_or_default()),
    ])
}
