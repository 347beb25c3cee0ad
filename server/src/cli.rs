//! The command line: every verb of the binary `callboard`, and the flags that all of them share.
//!
//! Operator commands use the admin API and nothing else, so they work the same on the server and from afar.
//! `deploy/cli.md` says what all of them have in common: exit codes, formats, profiles.

use std::ffi::OsString;

use clap::{CommandFactory as _, Parser};

mod api;
mod api_token;
mod at_home;
mod attention;
mod audit;
mod backup;
mod bandwidth;
mod ca;
mod certificate;
mod connection;
mod demo;
mod device;
mod duration;
mod enrolment;
mod event;
mod exit;
mod flags;
mod freeze;
mod head;
mod hold;
mod import;
mod init;
mod key;
mod label;
mod manual;
mod moment;
mod online_key;
mod profile;
mod release;
mod rollout;
mod root;
pub(crate) mod serve;
mod show;
mod signing;
mod site;
mod stop;
mod table;
mod token;
mod top;
mod trust;
mod user;
mod webhook;
mod whom;

/// Updates fleets of devices: the server, and the commands that operate it.
///
/// Exit codes: 0 done, 1 the server or the machine said no, 2 bad input.
#[derive(Parser)]
#[command(name = "callboard", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How answers are printed: as tables for people, or as the admin API's JSON
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    output: show::Format,
    #[command(flatten)]
    connection: connection::ConnectionArgs,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make a data directory
    #[command(
        after_help = "Examples:\n  callboard init --dir data --public-url https://localhost:8443\n  callboard init --dir /var/lib/callboard-server --public-url https://updates.example.com:8443 --no-try-out-keys"
    )]
    Init(init::InitArgs),
    /// The CAs of devices' certificates and of the server's, and their exchange
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// The server's TLS certificate for devices
    #[command(subcommand)]
    Certificate(certificate::CertificateCommand),
    /// Run the server on a data directory
    Serve(serve::ServeArgs),
    /// Copy a data directory, while its server runs
    ///
    /// The copy is a data directory itself: to restore it, stop the server, put the copy in place, give it to the
    /// server's user, start. A PostgreSQL database is not in it.
    #[command(
        after_help = "Examples:\n  callboard backup --dir /var/lib/callboard-server --to /backup/callboard-2026-11-26"
    )]
    Backup(backup::BackupArgs),
    /// Keys that sign roots, releases, heads and instructions
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Which keys are trusted for what
    #[command(subcommand)]
    Root(root::RootCommand),
    /// How fresh is fresh, and what is taken back
    #[command(subcommand)]
    Head(head::HeadCommand),
    /// Who may sign what, and until when
    #[command(subcommand)]
    Trust(trust::TrustCommand),
    /// The server's key for instructions, and its rotation
    #[command(subcommand)]
    OnlineKey(online_key::OnlineKeyCommand),
    /// What can be installed
    #[command(subcommand)]
    Release(release::ReleaseCommand),
    /// The registry
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// Where devices stand
    #[command(subcommand)]
    Site(site::SiteCommand),
    /// Dates on which nothing is offered or installed
    #[command(subcommand)]
    Freeze(freeze::FreezeCommand),
    /// Permissions to enrol
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Devices that wait to be accepted
    #[command(subcommand)]
    Enrolment(enrolment::EnrolmentCommand),
    /// Who may operate the server
    #[command(subcommand)]
    ApiToken(api_token::ApiTokenCommand),
    /// People who log in
    #[command(subcommand)]
    User(user::UserCommand),
    /// Sessions of people who have logged in
    #[command(subcommand)]
    Session(user::SessionCommand),
    /// Which devices get which release, and when
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// Failures that wait for somebody
    #[command(subcommand)]
    Attention(attention::AttentionCommand),
    /// Whom the server tells what happened
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    /// Who changed what, in a chain that can be checked
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// What happened
    #[command(subcommand)]
    Event(event::EventCommand),
    /// Watch the fleet on one screen
    ///
    /// Devices by status, open rollouts with a bar for each phase, what needs attention and what happened, anew every two
    /// seconds. Changes nothing. q ends it, r looks at once.
    #[command(
        after_help = "Examples:\n  callboard top\n  callboard top --every 10s\n  callboard top --once\n  callboard top --output json"
    )]
    Top(top::TopArgs),
    /// Print what a shell needs to complete commands and flags
    #[command(
        after_help = "Examples:\n  callboard completions bash > /etc/bash_completion.d/callboard\n  callboard completions zsh > /usr/local/share/zsh/site-functions/_callboard\n  callboard completions fish > ~/.config/fish/completions/callboard.fish"
    )]
    Completions(manual::CompletionsArgs),
    /// Write manual pages of all commands, those of callboard-agent too
    #[command(after_help = "Examples:\n  callboard man /usr/local/share/man/man1")]
    Man(manual::ManArgs),
    /// Watch a server update ten tills on this machine
    ///
    /// Starts a server and ten agents as separate processes, plays six scenarios and checks what every device runs in
    /// the end. Needs no other server and leaves nothing behind.
    Demo(demo::DemoArgs),
    #[command(name = demo::VERB, hide = true)]
    DemoChild(demo::ChildArgs),
}

/// What every operator command needs to know.
pub(crate) struct Context {
    format: show::Format,
    connection: connection::ConnectionArgs,
}

impl Context {
    /// The server that flags, environment or profile name.
    fn api(&self) -> anyhow::Result<api::Api> {
        api::Api::new(&connection::resolve(&self.connection)?)
    }
}

/// Runs the command that the process was started with; gives its exit code.
pub(crate) fn main() -> u8 {
    match Cli::try_parse() {
        Ok(cli) => {
            let format = cli.output;
            exit::finish(run(cli), format, || flags::Flags::of(&Cli::command(), std::env::args_os()))
        }
        Err(error) => exit::usage(&error, show::Format::wished(std::env::args_os())),
    }
}

/// Runs another command line in this process.
fn run_args(args: impl Iterator<Item = OsString>) -> anyhow::Result<()> {
    let name = OsString::from("callboard");
    run(Cli::try_parse_from(std::iter::once(name).chain(args))?)
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let context = Context { format: cli.output, connection: cli.connection };
    match cli.command {
        Command::Init(args) => init::run(&args, &context),
        Command::Ca(command) => ca::run(&command, &context),
        Command::Certificate(command) => certificate::run(command, &context),
        Command::Serve(args) => serve::run(args),
        Command::Backup(args) => backup::run(&args, &context),
        Command::Key(command) => key::run(command, context.format),
        Command::Root(command) => root::run(command, &context),
        Command::Head(command) => head::run(command, &context),
        Command::Trust(command) => trust::run(&command, &context),
        Command::OnlineKey(command) => online_key::run(&command, &context),
        Command::Release(command) => release::run(command, &context),
        Command::Device(command) => device::run(command, &context),
        Command::Site(command) => site::run(command, &context),
        Command::Freeze(command) => freeze::run(command, &context),
        Command::Token(command) => token::run(command, &context),
        Command::Enrolment(command) => enrolment::run(command, &context),
        Command::ApiToken(command) => api_token::run(command, &context),
        Command::Webhook(command) => webhook::run(command, &context),
        Command::Audit(command) => audit::run(command, &context),
        Command::User(command) => user::run(command, &context),
        Command::Session(command) => user::run_session(command, &context),
        Command::Rollout(command) => rollout::run(command, &context),
        Command::Attention(command) => attention::run(command, &context),
        Command::Event(command) => event::run(command, &context),
        Command::Top(args) => top::run(&args, &context),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args, context.format),
        Command::Demo(args) => demo::run(&args),
        Command::DemoChild(args) => demo::child(args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
