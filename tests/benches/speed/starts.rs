//! The start of a rollout over a million registered devices, while others check in.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::ensure;
use callboard_tests::release::NewRelease;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    Bench,
    client::Connection,
    device::{self, Device},
    fleet, measure,
    product::Product,
};

const DEVICES: usize = 1_000_000;
/// Half of them say the same again and again, the others something new each time, which has to be committed.
const CHECKING_IN: usize = 32;
/// Between two check-ins of one device.
const PAUSE: Duration = Duration::from_millis(50);
/// How long one looks before a start, and after it.
const BEFORE: Duration = Duration::from_secs(10);
const AFTER: Duration = Duration::from_secs(1);

/// One check-in: when it began, and how long its answer took.
type Took = (Instant, Duration);

pub(crate) fn starts(bench: &Bench) -> anyhow::Result<()> {
    let product = Arc::new(Product::start_on(&bench.processors, |database| fleet::fill(database, DEVICES))?);
    product.publish(&NewRelease::new("pos-app", "2.2.0", 22))?;
    let devices = bench.runtime.block_on(device::enrol(&product, CHECKING_IN, |n| format!("SN-{n:06}")))?;
    println!("a start over {DEVICES} registered devices, beside check-ins, {} rounds", bench.rounds.min(3));
    for round in 0..bench.rounds.min(3) {
        bench.runtime.block_on(start(product.clone(), &devices, round))?;
    }
    Ok(())
}

async fn start(product: Arc<Product>, devices: &[Arc<Device>], round: usize) -> anyhow::Result<()> {
    let name = format!("round-{round}");
    // Not for the devices that check in: they have no site.
    product.draft(&json!({
        "name": name,
        "release": "pos-app@2.2.0",
        "policy": "progressive",
        "audience": "frozen",
        "selector": "exists site and region in (r0, r1, r2, r3, r4, r5, r6, r7, r8, r9)",
        "phases": [{ "name": "canary", "percent": 1 }, { "name": "tenth", "percent": 10 }, { "name": "all", "percent": 100 }],
    }))?;
    let over = Arc::new(AtomicBool::new(false));
    let mut workers = JoinSet::new();
    for (n, device) in devices.iter().cloned().enumerate() {
        let (over, addr) = (over.clone(), product.device_addr);
        workers.spawn(async move {
            let took = check_in(addr, &device, n % 2 == 1, &over).await?;
            anyhow::Ok((n % 2 == 1, took))
        });
    }
    tokio::time::sleep(BEFORE).await;
    let (began, cpu_s) = (Instant::now(), measure::cpu_s(product.process.pid())?);
    let (other, of) = (product.clone(), name.clone());
    let started = tokio::task::spawn_blocking(move || other.tell_rollout(&of, "start")).await??;
    let (ended, cpu_s) = (Instant::now(), measure::cpu_s(product.process.pid())? - cpu_s);
    tokio::time::sleep(AFTER).await;
    over.store(true, Ordering::Release);
    let size: u32 = started.phases.iter().map(|phase| phase.counts.size).sum();
    ensure!(size as usize == DEVICES, "it is for {size} devices");
    let took = (ended - began).as_secs_f64();
    println!(
        "  started in {took:.2} s   (aim 10 s), in which the server used {cpu_s:.2} s of a processor for everything"
    );
    let mut kinds: [Vec<Took>; 2] = Default::default();
    while let Some(worker) = workers.join_next().await {
        let (tells, took) = worker??;
        kinds[usize::from(tells)].extend(took);
    }
    for (kind, took) in ["idle check-ins", "check-ins that write"].iter().zip(&kinds) {
        compare(kind, took, began, ended);
    }
    product.tell_rollout(&name, "cancel")?;
    Ok(())
}

/// How long check-ins took before a start and during it.
fn compare(kind: &str, took: &[Took], began: Instant, ended: Instant) {
    let of = |from: Instant, to: Instant| -> Vec<f64> {
        let there = took.iter().filter(|(at, took)| *at + *took >= from && *at < to);
        there.map(|(_, took)| took.as_secs_f64() * 1e3).collect()
    };
    let (before, during) = (of(began - BEFORE, began), of(began, ended + AFTER));
    for (when, took) in [("before", &before), ("during", &during)] {
        let at = |p| measure::percentile(took.iter().copied(), p);
        let (n, p50, p99, max) = (took.len(), at(0.5), at(0.99), at(1.0));
        println!("    {kind:<21} {when}: {n:>5} of them, p50 {p50:>5.1} ms, p99 {p99:>5.1} ms, slowest {max:>5.1} ms");
    }
    let more = |p| measure::percentile(during.clone(), p) - measure::percentile(before.clone(), p);
    println!("    {kind:<21} later by {:>5.1} ms at p99, {:>5.1} ms at most   (aim 50 ms)", more(0.99), more(1.0));
}

/// One device, until it is over.
async fn check_in(
    addr: std::net::SocketAddr,
    device: &Device,
    tells: bool,
    over: &AtomicBool,
) -> anyhow::Result<Vec<Took>> {
    let mut connection = Connection::open(addr, Ipv4Addr::LOCALHOST, &device.tls(false)?).await?;
    let mut requests = device.requests();
    let (mut took, mut n) = (Vec::new(), 0);
    while !over.load(Ordering::Acquire) {
        n += 1;
        let new;
        let request = if tells {
            new = device.saying(|check_in| {
                check_in.facts.attributes.insert("till_roll".to_owned(), n.to_string());
                check_in.nonce.0[..4].copy_from_slice(&u32::to_be_bytes(n));
            })?;
            new.as_slice()
        } else {
            requests.next()
        };
        let began = Instant::now();
        let answer = connection.exchange(request, None).await?;
        ensure!(answer.status == 200, "a check-in was refused: {}", answer.status);
        took.push((began, began.elapsed()));
        tokio::time::sleep(PAUSE).await;
    }
    Ok(took)
}
