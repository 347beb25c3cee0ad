//! How long decisions and simulations take. Run with `cargo bench -p callboard-policy`; nothing is asserted.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "a benchmark"
)]

#[path = "speed/decide.rs"]
mod decide;
#[path = "speed/fleet.rs"]
mod fleet;
#[path = "speed/simulate.rs"]
mod simulate;

fn main() {
    decide::run();
    simulate::run();
}
