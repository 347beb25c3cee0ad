//! The command line: arguments, exit codes, and where messages go.
//!
//! Exit codes: 0 done, 1 tried and failed, 2 the input was wrong and nothing was tried; 10 of `run` alone: the launcher is
//! to start another version of the agent.

use std::{
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
};

use callboard_proto::text::shown;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::{
    Program,
    config::{DEFAULT_PATH, Settings},
    itself::Process,
};

mod doctor;
mod enrol;
mod prepare_image;
mod run;
mod show;

/// Asks the server for this device's update, verifies it, installs it, and falls back when it fails.
#[derive(Parser)]
#[command(name = "callboard-agent", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make this machine a device of the server that the bundle names. Harmless when it is one already.
    Enrol {
        /// The file that `callboard token create --bundle` wrote.
        #[arg(long, value_name = "FILE")]
        bundle: PathBuf,
        #[command(flatten)]
        config: ConfigPath,
        /// The name the device would like to have.
        #[arg(long)]
        name: Option<String>,
        /// Enrol a device that is enrolled: with a new key, and what is installed stays. The bundle's token must be bound
        /// to the device. Stop the agent first.
        #[arg(long)]
        again: bool,
        /// Give up instead of waiting when an operator has to accept the device first. Asking again later goes on from
        /// there.
        #[arg(long)]
        no_wait: bool,
    },
    /// Check in and carry out what the server orders, until stopped.
    Run {
        #[command(flatten)]
        config: ConfigPath,
        /// Stop when there is nothing to do now; exit 1 if the server could not be asked.
        #[arg(long)]
        once: bool,
    },
    /// Repair the products' links and count a trial that begins, before the products start.
    ///
    /// For callboard-recover.service, once after each start of the machine. Asks nobody, restarts nothing.
    Recover {
        #[command(flatten)]
        config: ConfigPath,
    },
    /// Say what is to become of a product where the agent cannot: keep the new version, or go back.
    ///
    /// For a device that is `inconsistent`: the new version failed, and its release forbids to go back or going back has
    /// failed. Stop the agent first; it carries it out at its next start.
    Resolve {
        #[command(flatten)]
        config: ConfigPath,
        /// The new version stays; what it needs was mended by hand.
        #[arg(long, conflicts_with = "go_back", required_unless_present = "go_back")]
        keep: bool,
        /// The previous version comes back, and its data are a person's business.
        #[arg(long)]
        go_back: bool,
    },
    /// Show who this device is, what is installed, and how the last check-in went.
    Status {
        #[command(flatten)]
        config: ConfigPath,
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Find out what keeps this device from its updates, and what to do about it.
    ///
    /// Looks at disk, products, identity, clock, name server, proxy, firewall, TLS and what the server knows of this
    /// device. Changes nothing and uses no token; a running agent is not disturbed. Exit 1 if something is in the way.
    Doctor {
        #[command(flatten)]
        config: ConfigPath,
        /// Look at the way to the server of this bundle, before the device is enrolled.
        #[arg(long, value_name = "FILE")]
        bundle: Option<PathBuf>,
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Forget which device this machine is, before its disk is copied.
    ///
    /// Key, certificate, root and reports go; installed releases and their floors stay. Each copy enrols anew, with a key
    /// of its own. Stop the agent first.
    PrepareImage {
        #[command(flatten)]
        config: ConfigPath,
        /// Yes, this machine is to be no device any more.
        #[arg(long)]
        forget_this_device: bool,
    },
    /// Work with the configuration.
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
}

#[derive(Subcommand)]
enum ConfigVerb {
    /// Say whether the configuration is valid, and what is missing in it.
    Check {
        #[command(flatten)]
        config: ConfigPath,
        /// Whether this enrolment bundle is, too. Nobody is asked, and its token is not used.
        #[arg(long, value_name = "FILE")]
        bundle: Option<PathBuf>,
    },
    /// List the directories that the agent writes to: its own, then those of the products.
    Directories {
        #[command(flatten)]
        config: ConfigPath,
    },
    /// List the systemd units that run the products.
    Services {
        #[command(flatten)]
        config: ConfigPath,
    },
}

#[derive(clap::Args)]
struct ConfigPath {
    /// The configuration.
    #[arg(long = "config", value_name = "FILE", default_value = DEFAULT_PATH, env = "CALLBOARD_AGENT_CONFIG")]
    path: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// How a command failed.
enum Failed {
    /// The input was wrong.
    Input(String),
    /// It was tried.
    Tried(String),
}

const TRIED: u8 = 1;
const INPUT: u8 = 2;

/// The commands.
pub(crate) fn command() -> clap::Command {
    Arguments::command().version(Program::OURS.version)
}

/// Runs the command that `arguments` (the program's name first) ask for; returns the exit code.
pub(crate) fn main(program: Program, arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let parsed = Arguments::command().version(program.version).try_get_matches_from(arguments);
    let arguments = match parsed.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(error) if !error.use_stderr() => return u8::from(error.print().is_err()),
        Err(error) => return fail(Failed::Input(one_line(&error.render().to_string()))),
    };
    let done = match arguments.verb {
        Verb::Enrol { bundle, config, name, again, no_wait } => {
            settings(&config.path).and_then(|s| enrol::enrol(&s, &bundle, name, (again, !no_wait)))
        }
        Verb::Run { config, once } => {
            let ended = settings(&config.path).and_then(|s| run::run(s, Process::found(program), once));
            return ended.unwrap_or_else(fail);
        }
        Verb::Recover { config } => settings(&config.path).and_then(|s| run::recover(s, Process::found(program))),
        Verb::Resolve { config, keep, go_back: _ } => {
            settings(&config.path).and_then(|s| run::resolve(s, Process::found(program), keep))
        }
        Verb::Status { config, output } => settings(&config.path).and_then(|s| show::status(&s, program, output)),
        Verb::Doctor { config, bundle, output } => {
            settings(&config.path).and_then(|s| doctor::doctor(&s, bundle.as_deref(), output))
        }
        Verb::PrepareImage { config, forget_this_device } => {
            settings(&config.path).and_then(|s| prepare_image::prepare_image(&s, forget_this_device))
        }
        Verb::Config { verb: ConfigVerb::Check { config, bundle } } => settings(&config.path).and_then(|s| {
            if let Some(bundle) = bundle {
                enrol::read(&bundle)?;
            }
            show::configuration(&s, &config.path)
        }),
        Verb::Config { verb: ConfigVerb::Directories { config } } => {
            settings(&config.path).and_then(|s| show::directories(&s))
        }
        Verb::Config { verb: ConfigVerb::Services { config } } => {
            settings(&config.path).and_then(|s| show::services(&s))
        }
    };
    done.map_or_else(fail, |()| 0)
}

fn settings(path: &Path) -> Result<Settings, Failed> {
    Settings::load(path).map_err(|error| Failed::Input(error.to_string()))
}

fn fail(failed: Failed) -> u8 {
    let (text, code) = match failed {
        Failed::Input(text) => (text, INPUT),
        Failed::Tried(text) => (text, TRIED),
    };
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "callboard-agent: {}", shown(&text));
    code
}

/// The first paragraph of clap's message, which says what is wrong; the rest repeats the usage.
fn one_line(text: &str) -> String {
    let paragraph = text.trim().split("\n\n").next().unwrap_or_default();
    let line = paragraph.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    line.trim_start_matches("error: ").to_owned()
}

fn say(text: &str) -> Result<(), Failed> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| Failed::Tried(format!("failed to write the output: {error}")))
}

/// One thread for everything.
fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Failed::Tried(format!("failed to start: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(arguments: &[&str]) -> u8 {
        main(Program::OURS, ["callboard-agent"].iter().chain(arguments).map(OsString::from))
    }

    #[test]
    fn wrong_input_is_exit_code_2() {
        assert_eq!(code(&[]), 2);
        assert_eq!(code(&["fly"]), 2);
        assert_eq!(code(&["run", "--config", "/nonexistent/agent.toml"]), 2);
        assert_eq!(code(&["enrol"]), 2);
        let dir = tempfile::tempdir().expect("a directory");
        let config = dir.path().join("agent.toml");
        let path = config.to_str().expect("text");
        std::fs::write(&config, "x = 1").expect("written");
        assert_eq!(code(&["config", "check", "--config", path]), 2);
        std::fs::write(&config, format!("state_dir = '{}'", dir.path().join("state").display())).expect("written");
        assert_eq!(code(&["config", "check", "--config", path]), 0);
        let bundle = dir.path().join("bundle.json");
        std::fs::write(&bundle, "{}").expect("written");
        assert_eq!(code(&["enrol", "--config", path, "--bundle", bundle.to_str().expect("text")]), 2);
    }

    #[test]
    fn messages_of_the_argument_parser_are_one_line() {
        let error = Arguments::try_parse_from(["callboard-agent", "enrol"]).err().expect("refused");
        let line = one_line(&error.render().to_string());
        assert!(!line.contains('\n') && line.contains("--bundle <FILE>"), "{line}");
    }
}
