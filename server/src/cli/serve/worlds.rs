//! Small worlds through the real use cases and a real database, beside the server in memory, which has to answer the
//! same; or through two servers on one database, of which one is behind, on SQLite and on PostgreSQL; or with servers that
//! are killed.
//!
//! The worlds, and whoever watches over them, are those of `policy/tests/simulation`. A failing seed is printed, and
//! `SEED=n cargo test -p callboard-server worlds` plays it again. `SEEDS=20000 DEVICES=8 HOURS=96` make a longer run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::panic,
    clippy::print_stderr,
    dead_code,
    unreachable_pub,
    reason = "test code, a part of which other tests use"
)]

#[path = "../../../policy/tests/simulation/fleet.rs"]
mod fleet;
#[path = "../../../policy/tests/simulation/oracle.rs"]
mod oracle;
mod pair;
#[path = "../../../../tests/src/postgres.rs"]
mod postgres;
mod real;
#[path = "../../../policy/tests/simulation/server.rs"]
mod server;
#[path = "../../../policy/tests/simulation/setup.rs"]
mod setup;
mod template;
#[path = "../../../../tests/src/wait.rs"]
mod wait;

use std::time::Duration;

use fleet::World;
use pair::Pair;
use real::Real;
use server::Server;
use setup::Setup;
use template::Template;

const HOUR: Duration = Duration::from_secs(3600);
/// Seeds of an ordinary run: less than two minutes of one core.
const SEEDS: u64 = 1000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn live<S: Server>(setup: Setup, server: S) {
    let mut world = World::new(setup.clone(), server);
    world.live(HOUR * number("HOURS").map_or(14, |hours| u32::try_from(hours).unwrap()));
    // To the end only now and then: most of what can go wrong goes wrong on the way.
    if setup.seed.is_multiple_of(40) {
        world.calm_down(8);
    }
}

/// Through what a world goes.
#[derive(Clone, Copy)]
enum Through {
    Both,
    TwoServers,
    OneThatIsKilled,
}

fn play(seed: u64, through: Through, template: &Template) {
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut setup = Setup::draw(seed, number("DEVICES").map_or(4, |devices| usize::try_from(devices).unwrap()));
        template.name_releases(&mut setup);
        match through {
            Through::Both => live(setup.clone(), Pair::new(&setup, template)),
            Through::TwoServers => live(setup.clone(), Real::new(&setup, template, 2)),
            Through::OneThatIsKilled => live(setup.clone(), Real::new(&setup, template, 1)),
        }
    }));
    if let Err(panic) = played {
        eprintln!("SEED={seed} plays it again");
        std::panic::resume_unwind(panic);
    }
}

/// Every test is a part of the seeds, so that all cores work.
fn part(of: u64, through: Through) {
    let template = Template::make();
    match number("SEED") {
        Some(seed) if seed % 4 == of => play(seed, through, &template),
        Some(_) => {}
        None => {
            let seeds = (0..number("SEEDS").unwrap_or(SEEDS)).filter(|seed| seed % 4 == of);
            seeds.for_each(|seed| play(seed, through, &template));
        }
    }
}

#[test]
fn the_database_answers_as_the_server_in_memory() {
    part(0, Through::Both);
}

#[test]
fn the_database_answers_as_the_server_in_memory_in_other_worlds() {
    part(1, Through::Both);
}

#[test]
fn two_servers_on_one_database_keep_every_promise() {
    part(2, Through::TwoServers);
}

#[test]
fn two_servers_on_one_postgresql_keep_every_promise() {
    // Its transactions take longer.
    const ONE_IN: u64 = 40;
    let Some(template) = Template::make_on_postgres() else { return };
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(SEEDS) / ONE_IN,
    };
    seeds.for_each(|seed| play(seed, Through::TwoServers, &template));
}

#[test]
fn servers_that_are_killed_keep_every_promise() {
    part(3, Through::OneThatIsKilled);
}
