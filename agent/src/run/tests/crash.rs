//! The power is cut at every single file operation of a story, the medium keeps some of what was not synced, the agent
//! starts again, and is cut again. After that the till must work, and in the end all must have come to its one end.
//!
//! It is the agent itself that runs, over a connection in memory to a server that signs its answers. `invariants` has what
//! must hold, `plan` the stories, `explore` the walk through the states that the power can leave behind.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use super::*;
use explore::{Budget, Counts, Explorer};
use plan::{GOOD, Plan};

mod drive;
mod enrolment;
mod explore;
mod faults;
mod flaws;
mod invariants;
mod matrix;
mod office;
mod plan;

/// So many different media at least, in every run of the tests.
const WANTED: usize = 100_000;
const BUDGET: Budget = Budget { mixes: 16, stride: 14, again: 3 };

/// `CALLBOARD_SEED` says which mixes are looked at; always the same ones without it.
fn seed() -> u64 {
    std::env::var("CALLBOARD_SEED").ok().map_or(1, |text| text.parse().expect("a number"))
}

/// CPU time of this thread in milliseconds.
fn cpu_ms() -> u64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(spent.tv_sec * 1000 + spent.tv_nsec / 1_000_000).unwrap_or(0)
}

/// Explores one story; says what was seen.
fn explored(plan: Plan, budget: Budget, seed: u64) -> Counts {
    let (name, before) = (plan.name, cpu_ms());
    let till = plan.till();
    let mut explorer = Explorer::new(plan, seed);
    if let Err(found) = explorer.explore(&till, budget) {
        panic!("{found}");
    }
    let counts = explorer.counts;
    eprintln!(
        "{name}: {} media, {} states, {} driven to the end, {} ms of CPU",
        counts.media.len(),
        counts.states.len(),
        counts.driven_to_the_end,
        cpu_ms() - before
    );
    counts
}

#[test]
fn a_hundred_thousand_media_after_a_power_cut_lead_to_a_working_till() {
    let (plans, next, seed) = (plan::all(), AtomicUsize::new(0), seed());
    // One story alone, by a part of its name.
    let only = std::env::var("CALLBOARD_STORY").ok();
    let plans: Vec<Plan> =
        plans.into_iter().filter(|plan| only.as_ref().is_none_or(|only| plan.name.contains(only))).collect();
    let media = Mutex::new(std::collections::HashSet::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from).min(4) {
            scope.spawn(|| {
                while let Some(plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let counts = explored(plan.clone(), BUDGET, seed << 32);
                    media.lock().expect("whole").extend(counts.media);
                }
            });
        }
    });
    let media = media.into_inner().expect("whole").len();
    eprintln!("{media} different media, seed {seed}");
    assert!(media >= WANTED || only.is_some(), "{media} different media; {WANTED} are wanted");
}
