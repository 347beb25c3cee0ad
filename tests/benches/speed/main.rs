//! How fast and how large: ratios against peers in the same run. Nothing here fails for being slow.
//!
//! `cargo bench -p callboard-tests [-- SECTION ...] [--rounds N]`; sections: check-ins, connections, reports, starts,
//! payloads, cold, memory, pages, agent, agent-download. Servers take turns (A B A B), a ratio is the median of the rounds' ratios, and costs are processor
//! seconds of the server's process, so that the load generator's own speed does not count.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stdout,
    reason = "a benchmark is test code, and what it finds goes to standard output"
)]

mod agent;
mod bare;
mod check_ins;
mod client;
mod device;
mod fleet;
mod load;
mod measure;
mod memory;
mod nginx;
mod pages;
mod payloads;
mod process;
mod product;
mod reports;
mod starts;

use process::{Processors, Role};

/// What every section needs.
pub(crate) struct Bench {
    processors: Processors,
    runtime: tokio::runtime::Runtime,
    rounds: usize,
}

type Section = (&'static str, fn(&Bench) -> anyhow::Result<()>);

const SECTIONS: [Section; 10] = [
    ("check-ins", check_ins::keep_alive),
    ("connections", check_ins::connections),
    ("reports", reports::reports),
    ("starts", starts::starts),
    ("payloads", payloads::hot),
    ("cold", payloads::cold),
    ("memory", memory::server),
    ("pages", pages::pages),
    ("agent", agent::agent),
    ("agent-download", agent::download),
];

fn main() -> anyhow::Result<()> {
    // Cargo adds --bench.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench").peekable();
    if args.next_if(|arg| arg == bare::VERB).is_some() {
        return bare::serve(args);
    }
    let (mut wanted, mut rounds) = (Vec::new(), 7);
    while let Some(arg) = args.next() {
        if arg == "--rounds" {
            rounds = args.next().and_then(|n| n.parse().ok()).unwrap_or(rounds).max(1);
        } else {
            anyhow::ensure!(SECTIONS.iter().any(|(name, _)| *name == arg), "no section {arg:?}: {}", names());
            wanted.push(arg);
        }
    }
    let processors = Processors::split()?;
    processors.take(Role::Load)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bench = Bench { processors, runtime, rounds };
    for (_, run) in SECTIONS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|one| one == name)) {
        run(&bench)?;
        println!();
    }
    Ok(())
}

fn names() -> String {
    SECTIONS.map(|(name, _)| name).join(", ")
}
