//! What shells and `man` want to know of the commands: made from the parser itself, so it is never out of date.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, demo, exit::unusable, show};

/// Prints what a shell needs to complete commands and flags.
#[derive(clap::Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
    /// For the commands of callboard-agent instead
    #[arg(long)]
    agent: bool,
}

/// Writes manual pages.
#[derive(clap::Args)]
pub(crate) struct ManArgs {
    /// Where to; it is made if it is not there
    dir: PathBuf,
}

/// `callboard completions`.
pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut command = if args.agent { callboard_agent::command() } else { own() };
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    match io::stdout().write_all(&script) {
        // A reader that has gone away is no error.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// `callboard man`.
pub(crate) fn man(args: &ManArgs, format: show::Format) -> anyhow::Result<()> {
    let ManArgs { dir } = args;
    fs::create_dir_all(dir).map_err(unusable("make", dir))?;
    for command in [own(), callboard_agent::command()] {
        clap_mangen::generate_to(command, dir).map_err(unusable("write to", dir))?;
    }
    let pages = fs::read_dir(dir)?.count();
    show::done(format, &format!("{pages} pages are in {}; man -l shows one", dir.display()))
}

/// The commands that are for people.
fn own() -> Command {
    let whole = Cli::command();
    let shown: Vec<Command> =
        whole.get_subcommands().filter(|command| command.get_name() != demo::VERB).cloned().collect();
    let mut own = Command::new("callboard").version(env!("CARGO_PKG_VERSION")).propagate_version(true);
    own = own.args(whole.get_arguments().cloned()).subcommands(shown);
    let about = whole.get_about().cloned().unwrap_or_default();
    own.about(about).long_about(whole.get_long_about().cloned().unwrap_or_default())
}
