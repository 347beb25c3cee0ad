//! Worlds drawn from seeds: fleets in thirty time zones over a change of clocks are driven with a virtual clock, and
//! after every step somebody who knows the specification but not the program checks what must always hold.
//!
//! In them are what shops do: tills that are switched off in the middle of a download, forty of them on one line, devices
//! that move from one zone to another, installs at closing time, images that begin anew, faults that show later.
//!
//! A failing seed is printed, and `SEED=n cargo test -p callboard-policy --test simulation` plays it again.
//! `WATCH=d-7` beside it prints what is said to that device and what becomes of it.
//! `SEEDS=5000 DEVICES=40` make a longer run, `DEVICES=100000` with `--release a_large_world` a large one.
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

use fleet::{Seen, World};
use server::Twin;
use setup::Setup;

const DAY: Duration = Duration::from_secs(86_400);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// A fleet of more devices does not live on until everything is over.
const PATIENT: usize = 2000;

/// Plays one seed, and says which one it was if it fails. A test that did not see what it is about has failed too.
fn play(seed: u64, devices: usize, draw: fn(u64, usize) -> Setup, days: u32, calm: u32) -> Seen {
    let played = std::panic::catch_unwind(|| {
        let setup = draw(seed, devices);
        let server = Twin::new(&setup);
        let mut world = World::new(setup, server);
        world.live(DAY * days);
        if devices <= PATIENT {
            world.calm_down(calm);
        }
        world.seen
    });
    played.unwrap_or_else(|panic| {
        eprintln!("SEED={seed} DEVICES={devices} plays it again");
        std::panic::resume_unwind(panic)
    })
}

fn play_all(seeds: u64, devices: usize, draw: fn(u64, usize) -> Setup, (days, calm): (u32, u32)) -> Seen {
    let devices = number("DEVICES").map_or(devices, |devices| devices as usize);
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(seeds),
    };
    seeds.map(|seed| play(seed, devices, draw, days, calm)).fold(Seen::default(), Seen::plus)
}

#[test]
fn small_worlds_keep_every_promise_and_come_to_an_end() {
    let seen = play_all(200, 12, Setup::draw, (4, 12));
    let all = seen.cut > 0 && seen.moved > 0 && seen.alone > 0;
    assert!(all || number("SEED").is_some(), "{seen:?}");
}

#[test]
fn forty_tills_share_the_line_of_their_shop_and_are_switched_off_at_closing_time() {
    let seen = play_all(10, 40, Setup::shop_of_tills, (4, 12));
    assert!(seen.cut > 0 || number("SEED").is_some(), "{seen:?}");
}

#[test]
fn a_large_world_does_too() {
    let devices = number("DEVICES").map_or(400, |devices| devices as usize);
    play(number("SEED").unwrap_or(1_000_003), devices, Setup::draw, 3, 8);
}
