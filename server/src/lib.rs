//! The Callboard update server and its operator commands.
#![allow(dead_code, reason = "the commands that put the parts together come next")]

mod app;
mod ca;
mod cli;
pub mod clock;
mod config;
mod db;
mod durable;
mod http;
mod jobs;
mod pack;
mod sign;
mod store;
mod telemetry;
mod tls;
mod ui;

/// What the binary `callboard` does.
pub fn main() {
    std::process::exit(cli::main().into());
}
