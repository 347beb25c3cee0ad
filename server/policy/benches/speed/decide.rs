//! One decision for one device, with twenty rollouts under way.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use callboard_policy::{
    audience::Audience,
    catalog::Catalog,
    decide::{decide, explain},
    device::{Absence, Contact, Device},
    guard::Loads,
    rollout::{Rollout, RolloutState, Spec},
    trading::TradingHours,
};
use callboard_proto::{digest::Digest, ids::RolloutId, time::Timestamp};
use roaring::RoaringBitmap;

use crate::fleet::{POLL, at, careful, plain, release, till};

/// Short batches, of which the middle one counts: a batch in which the processor was somewhere else does not.
const BATCHES: usize = 200;
const BATCH: u32 = 100;
const HOUR: Duration = Duration::from_secs(3600);

fn running(name: &str, spec: &Spec, open_phase: usize, now: Timestamp) -> Rollout {
    let id = RolloutId::from_slice(&Digest::of(name.as_bytes()).as_bytes()[..16]).unwrap();
    let plan = spec.plan().unwrap();
    let phases = plan.phases.len();
    let all: RoaringBitmap = (0..100_000).collect();
    let members = (0..phases).map(|n| if n + 1 == phases { all.clone() } else { RoaringBitmap::new() });
    Rollout {
        state: RolloutState::Running,
        started_at: Some(now - 10 * POLL),
        open_phase,
        members: Arc::new(Audience::of(members.collect())),
        ..Rollout::draft(id, plan)
    }
}

pub(crate) fn run() {
    let now = at("2026-11-23T12:00:00Z");
    let device = till(4711, &TradingHours::default());
    let contact = Contact {
        last_seen: Some(now - POLL),
        // It was off for a part of last night's window, as tills are.
        absence: Some(Absence { since: Some(now - 18 * HOUR), until: now - 4 * HOUR }),
        boot_changed: false,
        owed: None,
        poll_interval: POLL,
        works_on: None,
        free_bytes: None,
    };
    let cases = cases(now, &device);
    println!("decide, one device, 20 active rollouts:");
    for (name, catalog) in &cases {
        let mut device = device.clone();
        if *name == "none is for it" {
            device.number = 200_000;
        }
        let loads = Loads::default();
        let decided = time(&|| drop(black_box(decide(now, catalog, &device, &contact, &loads))));
        let explained = time(&|| drop(black_box(explain(now, catalog, &device, &contact, &loads))));
        let code = decide(now, catalog, &device, &contact, &loads).reason.code;
        println!("  {name:<26} {decided:>7} ns ({code}), explained {explained:>7} ns");
    }
}

/// What twenty active rollouts may mean for the device.
fn cases(now: Timestamp, device: &Device) -> [(&'static str, Catalog); 4] {
    let products: Vec<_> = (0..20).map(|n| release(&format!("app-{n}"), "1.0", 1)).collect();
    let catalog = |spec: &dyn Fn(usize) -> (Spec, usize)| {
        let rollouts = (0..20).map(|n| {
            let (spec, open) = spec(n);
            running(&format!("r{n}"), &spec, open, now)
        });
        let mut catalog = Catalog::new(1, rollouts.collect(), products.iter().cloned());
        // As servers do for the zones of their devices.
        catalog.foresee(device.site_tz.as_slice(), now, &Catalog::default());
        catalog
    };
    [
        (
            "none is for it",
            catalog(&|n| {
                (
                    Spec {
                        selector: "region = nowhere".to_owned(),
                        audience: callboard_policy::rollout::Membership::Live,
                        ..plain(&format!("r{n}"), &products[n])
                    },
                    0,
                )
            }),
        ),
        ("their phases are closed", catalog(&|n| (careful(&format!("r{n}"), &products[n], 100_000), 0))),
        (
            "their windows are closed",
            catalog(&|n| {
                (
                    Spec {
                        windows: careful("w", &products[n], 1)
                            .windows
                            .into_iter()
                            .map(|window| callboard_policy::rollout::WindowSpec {
                                gates: callboard_policy::window::Gates { download: true, install: true },
                                ..window
                            })
                            .collect(),
                        ..plain(&format!("r{n}"), &products[n])
                    },
                    0,
                )
            }),
        ),
        ("the first one offers", catalog(&|n| (plain(&format!("r{n}"), &products[n]), 0))),
    ]
}

/// Nanoseconds that it takes: the median of some batches.
fn time(f: &dyn Fn()) -> u128 {
    let batch = |_| {
        let began = Instant::now();
        (0..BATCH).for_each(|_| f());
        began.elapsed().as_nanos() / u128::from(BATCH)
    };
    let mut batches: Vec<u128> = (0..BATCHES).map(batch).collect();
    batches.sort_unstable();
    batches[BATCHES / 2]
}
