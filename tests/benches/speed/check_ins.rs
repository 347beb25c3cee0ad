//! Idle check-ins: over connections that stay open, and with a connection for each.

use std::{sync::Arc, time::Duration};

use crate::{
    Bench,
    bare::Bare,
    device::{self, Device},
    load::{self, Target},
    measure::{Rounds, Sample},
    process,
    product::{Product, serial},
};

/// Devices that check in at the same time.
const DEVICES: usize = 64;
/// A round of one server.
const ROUND: Duration = Duration::from_millis(1500);
/// Time in which last-seen is written behind.
const FLUSHED: Duration = Duration::from_millis(2500);

/// The product, a bare server, and one that signs.
struct Peers {
    product: Product,
    targets: [Target; 3],
    devices: Vec<Arc<Device>>,
    _bare: [Bare; 2],
}

impl Peers {
    fn start(bench: &Bench) -> anyhow::Result<Self> {
        let product = Product::start(&bench.processors)?;
        product.import(DEVICES)?;
        let devices = bench.runtime.block_on(device::enrol(&product, DEVICES, serial))?;
        let bare = Bare::start(&product.data(), product.scratch(), false, &bench.processors)?;
        let signing = Bare::start(&product.data(), product.scratch(), true, &bench.processors)?;
        let target = |addr, pid| Target { addr, pids: vec![pid] };
        let targets = [
            target(product.device_addr, product.process.pid()),
            target(bare.addr, bare.process.pid()),
            target(signing.addr, signing.process.pid()),
        ];
        Ok(Self { product, targets, devices, _bare: [bare, signing] })
    }
}

/// Check-ins over connections that stay open.
pub(crate) fn keep_alive(bench: &Bench) -> anyhow::Result<()> {
    let peers = Peers::start(bench)?;
    let rounds = Rounds::alternate(bench.rounds, peers.targets.len(), |peer| {
        bench.runtime.block_on(load::check_ins(&peers.targets[peer], &peers.devices, ROUND))
    })?;
    println!("idle check-ins, {DEVICES} connections that stay open, {} rounds of {ROUND:?}", bench.rounds);
    for (peer, name) in ["callboard", "bare", "bare, signing"].iter().enumerate() {
        let per_s = rounds.median(peer, Sample::per_s);
        println!("  {name:<14} {:>6.1} us of a processor each, {per_s:>7.0} /s", rounds.median(peer, Sample::us));
    }
    let signature = rounds.median(2, Sample::us) - rounds.median(1, Sample::us);
    let unsigned: Vec<f64> = rounds.0[0]
        .iter()
        .zip(&rounds.0[1])
        .zip(&rounds.0[2])
        .map(|((product, bare), signing)| bare.us() / (product.us() - (signing.us() - bare.us())))
        .collect();
    println!("  one signature  {signature:>6.1} us");
    println!("  callboard : bare                     {:.2}   (aim 0.25)", rounds.ratio(0, 1, Sample::per_cpu_s));
    println!("  callboard : bare, signing            {:.2}", rounds.ratio(0, 2, Sample::per_cpu_s));
    println!("  callboard less a signature : bare    {:.2}   (aim 0.6)", crate::measure::median(unsigned));
    statements(bench, &peers)
}

/// Shows that idle check-ins run no statement: last-seen is written behind, for all devices together.
fn statements(bench: &Bench, peers: &Peers) -> anyhow::Result<()> {
    process::pause(FLUSHED);
    let before = peers.product.statements()?;
    let load = load::check_ins(&peers.targets[0], &peers.devices, ROUND);
    let sample = bench.runtime.block_on(load)?;
    process::pause(FLUSHED);
    let after = peers.product.statements()?;
    println!("  statements during {:.0} check-ins, by purpose:", sample.done);
    for (purpose, n) in &after {
        // Asking for the metrics runs some itself.
        if purpose != "metrics" {
            println!("    {purpose:<12} {:>4}", n - before.get(purpose).copied().unwrap_or(0));
        }
    }
    Ok(())
}

/// Check-ins with a mutual-TLS connection for each.
pub(crate) fn connections(bench: &Bench) -> anyhow::Result<()> {
    let peers = Peers::start(bench)?;
    for resume in [false, true] {
        let rounds = Rounds::alternate(bench.rounds, 2, |peer| {
            bench.runtime.block_on(load::connections(&peers.targets[peer], &peers.devices, resume, ROUND))
        })?;
        let kind = if resume { "resumed" } else { "full" };
        println!("a mutual-TLS connection for each check-in, {kind} handshake, {} rounds of {ROUND:?}", bench.rounds);
        for (peer, name) in ["callboard", "bare"].iter().enumerate() {
            let per_s = rounds.median(peer, Sample::per_s);
            println!("  {name:<14} {:>6.1} us of a processor each, {per_s:>7.0} /s", rounds.median(peer, Sample::us));
        }
        println!("  callboard : bare                     {:.2}   (aim 0.8)", rounds.ratio(0, 1, Sample::per_cpu_s));
    }
    Ok(())
}
