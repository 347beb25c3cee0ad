//! What a rollout is to be, from flags or from a file.

use std::{path::PathBuf, time::Duration};

use callboard_proto::{
    admin::{Audience, Phase, Policy, RolloutSpec, Unit, Window},
    ids::RolloutName,
    instruction::ActivateOn,
    time::Timestamp,
};
use clap::ValueEnum;

use super::{file, guards::GuardArgs, phase, window};
use crate::cli::{duration, exit::BadInput, moment};

/// Flags that describe a rollout.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Rollout")]
pub(crate) struct SpecArgs {
    /// Read the rollout from a .toml or .json file (- is TOML from standard input); --release and the name given
    /// here replace the file's
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["policy", "selector", "audience", "unit", "start_at",
        "deadline", "ends_at", "min_absence", "windows", "expected_install", "during_trading", "offline_activation", "activate_on", "default_tz", "phases", "priority", "max_attempts",
        "allow_downgrade", "security", "max_downloads", "max_downloads_per_site", "max_activations", "max_activations_per_site",
        "max_offers_per_minute", "doubles_every", "halt"])]
    pub(crate) file: Option<PathBuf>,
    /// The release: PRODUCT@VERSION or its digest
    #[arg(long, value_name = "RELEASE")]
    pub(crate) release: Option<String>,
    /// When the release is offered
    #[arg(long, value_enum)]
    policy: Option<PolicyName>,
    /// Which devices, such as 'region = northeast and version("pos-app") < 2.2.0' [default: all]
    #[arg(long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// Whether devices that match later join (live), or membership is fixed at the start (frozen)
    #[arg(long, value_enum, default_value_t)]
    audience: AudienceName,
    /// What moves through the phases together
    #[arg(long, value_enum, default_value_t)]
    unit: UnitName,
    /// Not before, for the policy scheduled, such as 2026-11-23T02:00:00Z or 2026-11-22T21:00:00-05:00
    #[arg(long, value_name = "TIME", value_parser = moment::instant)]
    start_at: Option<Timestamp>,
    /// Past it windows are ignored
    #[arg(long, value_name = "TIME", value_parser = moment::instant)]
    deadline: Option<Timestamp>,
    /// From then on nothing is offered; what has not begun to activate expires. A live rollout without an end stays in
    /// force for every device that matches later
    #[arg(long, value_name = "TIME", value_parser = moment::instant)]
    ends_at: Option<Timestamp>,
    /// For the policy on-connect: an absence of so long makes a new connection [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    min_absence: Option<Duration>,
    #[arg(long = "window", value_name = "WINDOW", value_parser = window::parse,
        help = format!("A time at which it may work; may be repeated: {}", window::SYNTAX))]
    windows: Vec<Window>,
    /// How long an installation takes: it does not begin with less of the window left, or before the site trades
    #[arg(long, value_name = "DURATION", value_parser = duration::minutes)]
    expected_install: Option<u32>,
    /// Installations may begin in the trading hours of a site
    #[arg(long)]
    during_trading: bool,
    /// Tell devices beforehand when they may install by themselves, for the case that they cannot ask
    #[arg(long)]
    offline_activation: bool,
    /// When devices install; other than now needs --offline-activation
    #[arg(long, value_enum, default_value_t)]
    activate_on: ActivateOnName,
    /// The zone of devices of which none is known [default: UTC]
    #[arg(long, value_name = "ZONE")]
    default_tz: Option<String>,
    #[arg(long = "phase", value_name = "PHASE", value_parser = phase::parse,
        help = format!("A phase of the policy progressive, in order, the last at 100%; may be repeated: {}", phase::SYNTAX))]
    phases: Vec<Phase>,
    #[command(flatten)]
    guards: GuardArgs,
    /// 0 to 1000; the highest is considered first
    #[arg(long, value_name = "N", default_value_t = 500)]
    priority: u16,
    /// Attempts of a device, 1 to 10
    #[arg(long, value_name = "N", default_value_t = 3)]
    max_attempts: u32,
    /// A release older than the installed one is meant
    #[arg(long)]
    allow_downgrade: bool,
    /// Freezes let it pass once a second person has countersigned it
    #[arg(long)]
    security: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PolicyName {
    /// At the next check-in of every device
    Immediate,
    /// From --start-at on, inside the windows
    Scheduled,
    /// Phase by phase
    Progressive,
    /// At the first check-in of a connection
    #[value(alias = "on_connect")]
    OnConnect,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum AudienceName {
    #[default]
    Live,
    Frozen,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ActivateOnName {
    /// As soon as they may
    #[default]
    Now,
    /// When they are shut down
    Shutdown,
    /// When they have started
    Boot,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum UnitName {
    #[default]
    Device,
    Site,
}

impl SpecArgs {
    /// Whether flags or a file describe a rollout at all.
    pub(crate) fn is_given(&self) -> bool {
        self.file.is_some() || self.release.is_some()
    }

    /// The rollout called `name`; only a file may hold the name instead.
    pub(crate) fn build(self, name: Option<RolloutName>) -> anyhow::Result<RolloutSpec> {
        if let Some(file) = &self.file {
            let mut spec = file::read(file)?;
            spec.name = name.unwrap_or(spec.name);
            spec.release = self.release.unwrap_or(spec.release);
            return Ok(spec);
        }
        let missing = |what: &str| BadInput(format!("{what} is missing: give it, or a file with --file"));
        let policy =
            self.policy.ok_or_else(|| missing("--policy (immediate, scheduled, progressive or on-connect)"))?;
        let min_absence_s = self.min_absence.map(|length| u32::try_from(length.as_secs())).transpose();
        Ok(RolloutSpec {
            name: name.ok_or_else(|| missing("the rollout's name"))?,
            release: self.release.ok_or_else(|| missing("--release"))?,
            selector: self.selector,
            audience: match self.audience {
                AudienceName::Live => Audience::Live,
                AudienceName::Frozen => Audience::Frozen,
            },
            unit: match self.unit {
                UnitName::Device => Unit::Device,
                UnitName::Site => Unit::Site,
            },
            policy: match policy {
                PolicyName::Immediate => Policy::Immediate,
                PolicyName::Scheduled => Policy::Scheduled,
                PolicyName::Progressive => Policy::Progressive,
                PolicyName::OnConnect => Policy::OnConnect,
            },
            start_at: self.start_at,
            deadline: self.deadline,
            ends_at: self.ends_at,
            min_absence_s: min_absence_s.ok().ok_or_else(|| BadInput::new("--min-absence is too long"))?,
            windows: self.windows,
            expected_install_min: self.expected_install.unwrap_or(0),
            during_trading: self.during_trading,
            offline_activation: self.offline_activation,
            activate_on: match self.activate_on {
                ActivateOnName::Now => ActivateOn::Now,
                ActivateOnName::Shutdown => ActivateOn::Shutdown,
                ActivateOnName::Boot => ActivateOn::Boot,
            },
            default_tz: self.default_tz,
            phases: self.phases,
            caps: self.guards.caps(),
            pace: self.guards.pace(),
            halt: self.guards.halt(),
            priority: self.priority,
            max_attempts: self.max_attempts,
            allow_downgrade: self.allow_downgrade,
            security: self.security,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        name: Option<RolloutName>,
        #[command(flatten)]
        spec: SpecArgs,
    }

    fn build(args: &[&str]) -> Result<RolloutSpec, String> {
        let command = Command::try_parse_from([&["test"], args].concat()).map_err(|error| error.to_string())?;
        command.spec.build(command.name).map_err(|error| error.to_string())
    }

    const TOML: &str = r#"
        name = "patch"
        release = "pos-app@2.4.0"
        policy = "progressive"
        selector = "region = northeast"
        start_at = "2026-11-23T02:00:00Z"
        [[windows]]
        days = ["mon"]
        start = "02:00"
        duration_min = 120
        [[phases]]
        name = "canary"
        percent = 10
        [[phases]]
        name = "all"
        percent = 100
        [caps.downloads]
        max_in_flight = 50
        max_in_flight_per_site = 2
        [caps.activations]
        max_in_flight_per_site = 1
        [pace]
        max_offers_per_minute = 10
        doubles_every = 50
        [[halt]]
        min_completed = 20
        failure_percent = 5
        [[halt]]
        max_failures = 10
        action = "rollback_to"
        rollback_to = "pos-app@2.3.0"
    "#;

    #[test]
    fn flags_and_files_say_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("patch.toml");
        std::fs::write(&file, TOML).expect("written");
        let file = file.to_str().expect("a path");
        let flags = build(&[
            "patch",
            "--release",
            "pos-app@2.4.0",
            "--policy",
            "progressive",
            "--selector",
            "region = northeast",
            "--start-at",
            "2026-11-22T21:00:00-05:00",
            "--window",
            "mon 02:00 +120m site",
            "--phase",
            "canary=10%",
            "--phase",
            "all=100%",
            "--max-downloads",
            "50",
            "--max-downloads-per-site",
            "2",
            "--max-activations-per-site",
            "1",
            "--max-offers-per-minute",
            "10",
            "--doubles-every",
            "50",
            "--halt",
            "failed=5%,min=20",
            "--halt",
            "failures=10,rollback=pos-app@2.3.0",
        ]);
        assert_eq!(build(&["-f", file]), flags);
        let other = build(&["other", "-f", file, "--release", "pos-app@2.5.0"]).expect("a spec");
        assert_eq!((other.name.as_str(), other.release.as_str()), ("other", "pos-app@2.5.0"));
    }

    #[test]
    fn defaults_are_the_contracts() {
        let contract = crate::rollout_file::parse_toml("name = \"a\"\nrelease = \"p@1\"\npolicy = \"on_connect\"");
        assert_eq!(build(&["a", "--release", "p@1", "--policy", "on-connect"]), contract);
    }

    #[test]
    fn what_is_missing_or_mixed_is_said() {
        for (args, what) in [
            (&["--release", "p@1", "--policy", "immediate"][..], "the rollout's name is missing"),
            (&["a", "--policy", "immediate"], "--release is missing"),
            (&["a", "--release", "p@1"], "--policy (immediate, scheduled, progressive or on-connect) is missing"),
            (&["a", "-f", "x.toml", "--policy", "immediate"], "cannot be used with"),
            (&["a", "-f", "x.yaml"], "cannot read x.yaml"),
            (
                &["a", "--release", "p@1", "--policy", "immediate", "--start-at", "tomorrow"],
                "\"tomorrow\" is not a time",
            ),
            (&["a", "--release", "p@1", "--policy", "immediate", "--window", "noon +1h"], "\"noon\" is not a day"),
            (&["a", "--release", "p@1", "--policy", "on-connect", "--min-absence", "9999999d"], "too long"),
        ] {
            let said = build(args).expect_err("a refusal");
            assert!(said.contains(what), "{args:?}: {said}");
        }
    }
}
