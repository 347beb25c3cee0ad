//! The systemd unit of a product, by `systemctl` and never by a shell.

use std::{process::Stdio, time::Duration};

use callboard_proto::report::Failure;
use tokio::process::Command;

use crate::{machine::transient, words::Code};

/// A unit that needs longer to stop and start has a timeout of its own that strikes first.
const RESTART_TIMEOUT: Duration = Duration::from_secs(180);
/// Every unit of the machine is stopped before.
pub(crate) const REBOOT_TIMEOUT: Duration = Duration::from_secs(900);
const SHOW_TIMEOUT: Duration = Duration::from_secs(30);
/// It answers at once or not at all, and the machine is in a hurry.
const STATE_TIMEOUT: Duration = Duration::from_secs(5);

/// What systemd says of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) active: bool,
    /// Automatic restarts since it was last started by hand.
    pub(crate) restarts: u32,
    pub(crate) state: String,
}

/// Restarts the unit and waits until systemd calls it started.
pub(crate) async fn restart(unit: &str) -> Result<(), Failure> {
    systemctl(&["restart", "--", unit], RESTART_TIMEOUT).await.map(|_output| ())
}

/// Stops the unit and waits until it is stopped.
pub(crate) async fn stop(unit: &str) -> Result<(), Failure> {
    systemctl(&["stop", "--", unit], RESTART_TIMEOUT).await.map(|_output| ())
}

/// Restarts the machine. This program is stopped by that; it gets an answer only if it is not.
pub(crate) async fn reboot() -> Failure {
    match systemctl(&["reboot"], SHOW_TIMEOUT).await {
        Err(failure) => failure,
        Ok(_output) => {
            tokio::time::sleep(REBOOT_TIMEOUT).await;
            let wait = REBOOT_TIMEOUT.as_secs();
            transient(Code::Service, format!("the machine was told to restart and has not after {wait} s"))
        }
    }
}

/// Asks for the unit's state.
pub(crate) async fn show(unit: &str) -> Result<Unit, Failure> {
    let output = systemctl(&["show", "--property=ActiveState,NRestarts", "--", unit], SHOW_TIMEOUT).await?;
    Ok(parse(&output))
}

/// Whether the whole machine is being stopped, and not only this agent. Without systemd nobody tells, and a stop of the
/// agent is taken for one.
pub(crate) async fn machine_stops() -> bool {
    let mut command = Command::new("systemctl");
    command.arg("is-system-running").stdin(Stdio::null()).kill_on_drop(true);
    // Its exit status is that of the state, so what it says counts.
    match tokio::time::timeout(STATE_TIMEOUT, command.output()).await {
        Ok(Ok(output)) => stops(&String::from_utf8_lossy(&output.stdout)),
        Ok(Err(_)) => true,
        Err(_elapsed) => false,
    }
}

fn stops(state: &str) -> bool {
    matches!(state.trim(), "stopping" | "offline" | "")
}

fn parse(output: &str) -> Unit {
    let value = |key: &str| {
        output.lines().find_map(|line| line.split_once('=').filter(|(name, _)| *name == key)).map(|(_, value)| value)
    };
    let state = value("ActiveState").unwrap_or("unknown").to_owned();
    let restarts = value("NRestarts").and_then(|count| count.parse().ok()).unwrap_or(0);
    Unit { active: state == "active", restarts, state }
}

async fn systemctl(arguments: &[&str], wait: Duration) -> Result<String, Failure> {
    let failed = |text: String| transient(Code::Service, format!("systemctl {}: {text}", arguments.join(" ")));
    let mut command = Command::new("systemctl");
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(wait, command.output()).await;
    let output = output.map_err(|_elapsed| failed("took too long".to_owned()))?;
    let output = output.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("{}: {}", output.status, crate::client::plain(said.trim(), 1000))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_of_the_agent_is_no_shutdown() {
        for (state, wanted) in [
            ("stopping\n", true),
            ("running\n", false),
            ("degraded\n", false),
            ("starting\n", false),
            // No systemd.
            ("offline\n", true),
            ("", true),
        ] {
            assert_eq!(stops(state), wanted, "{state:?}");
        }
    }

    #[test]
    fn a_units_state_is_read_from_its_properties() {
        let unit = parse("ActiveState=active\nNRestarts=2\n");
        assert_eq!(unit, Unit { active: true, restarts: 2, state: "active".to_owned() });
        assert!(!parse("ActiveState=failed\nNRestarts=0\n").active);
        assert_eq!(parse("").state, "unknown");
    }
}
