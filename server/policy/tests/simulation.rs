//! Worlds drawn from seeds: fleets in thirty time zones over a change of clocks are driven with a virtual clock, and
//! after every step somebody who knows the specification but not the program checks what must always hold.
//!
//! A failing seed is printed, and `SEED=n cargo test -p callboard-policy --test simulation` plays it again.
//! `SEEDS=5000 DEVICES=1000` make a longer run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::panic,
    reason = "test code"
)]

#[path = "simulation/fleet.rs"]
mod fleet;
#[path = "simulation/oracle.rs"]
mod oracle;
#[path = "simulation/server.rs"]
mod server;
#[path = "simulation/setup.rs"]
mod setup;

use std::time::Duration;

use fleet::World;
use server::Twin;
use setup::Setup;

const DAY: Duration = Duration::from_secs(86_400);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Plays one seed, and says which one it was if it fails.
fn play(seed: u64, devices: usize, days: u32, calm: u32) {
    let played = std::panic::catch_unwind(|| {
        let setup = Setup::draw(seed, devices);
        let server = Twin::new(&setup);
        let mut world = World::new(setup, server);
        world.live(DAY * days);
        world.calm_down(calm);
        world.steps
    });
    if let Err(panic) = played {
        eprintln!("SEED={seed} DEVICES={devices} plays it again");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn small_worlds_keep_every_promise_and_come_to_an_end() {
    let devices = number("DEVICES").map_or(12, |devices| devices as usize);
    match number("SEED") {
        Some(seed) => play(seed, devices, 4, 12),
        None => (0..number("SEEDS").unwrap_or(200)).for_each(|seed| play(seed, devices, 4, 12)),
    }
}

#[test]
fn a_large_world_does_too() {
    let devices = number("DEVICES").map_or(400, |devices| devices as usize);
    play(number("SEED").unwrap_or(1_000_003), devices, 3, 8);
}
