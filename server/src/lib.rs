//! The Callboard update server and its operator commands.

mod app;
mod ca;
mod cli;
mod clock;
mod config;
mod db;
mod differences;
mod durable;
mod hours;
mod http;
mod jobs;
mod outgoing;
mod pack;
mod provider;
mod restored;
mod rollout_file;
mod sign;
mod store;
mod telemetry;
mod tls;
mod ui;

/// What the binary `callboard` does.
pub fn main() {
    std::process::exit(cli::main().into());
}
