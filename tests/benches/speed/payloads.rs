//! Payloads: bytes for a second of the server's processor, and whether files that are not in memory disturb others.

use std::{fs, sync::Arc, time::Duration};

use crate::{
    Bench,
    device::{self, Device},
    load::{self, Fetch, RANGE, Target},
    measure::{self, Rounds, Sample},
    nginx::Nginx,
    product::{Product, serial},
};

/// Of the payload that is fetched from memory.
const HOT: u64 = 16 << 20;
/// Of the payload that is fetched from the disk.
const COLD: u64 = 512 << 20;
/// A round of one server.
const ROUND: Duration = Duration::from_millis(1000);
/// At most, each of another device.
const CONNECTIONS: usize = 64;
/// Devices that check in while others fetch.
const DEVICES: usize = 16;
/// Each asks so often: 800 check-ins a second, well below what the server can do.
const CHECK_IN_EVERY: Duration = Duration::from_millis(20);
/// Devices that fetch meanwhile, each a MiB so often: 80 MiB a second.
const FETCHERS: u64 = 4;
const FETCH_EVERY: Duration = Duration::from_millis(50);

/// Bytes for a processor second, against nginx.
pub(crate) fn hot(bench: &Bench) -> anyhow::Result<()> {
    let product = Product::start(&bench.processors)?;
    product.import(CONNECTIONS)?;
    let devices = bench.runtime.block_on(device::enrol(&product, CONNECTIONS, serial))?;
    let bytes = noise(HOT);
    let (path, _) = product.upload(&bytes)?;
    let root = product.scratch().join("www");
    let copy = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(copy.parent().unwrap_or(&root))?;
    fs::write(&copy, &bytes)?;
    let nginx = Nginx::start(&product.data(), product.scratch(), &root, &bench.processors)?;
    let mut targets = vec![Target { addr: product.device_addr, pids: vec![product.process.pid()] }];
    match &nginx {
        Some(nginx) => {
            targets.push(Target { addr: nginx.addr, pids: measure::family(nginx.process.pid()) });
            println!(
                "payload of {} MiB from memory, against {}, {} rounds of {ROUND:?}",
                HOT >> 20,
                nginx.version,
                bench.rounds
            );
        }
        None => println!("payload of {} MiB from memory; against nginx: skipped: needs nginx", HOT >> 20),
    }
    let ciphers = targets.iter().map(|target| bench.runtime.block_on(load::cipher(target, &devices[0])));
    println!("  ciphers: {}", ciphers.collect::<anyhow::Result<Vec<_>>>()?.join(", "));
    for (ranges, connections) in [false, true].into_iter().flat_map(|ranges| [1, 16, CONNECTIONS].map(|n| (ranges, n)))
    {
        let what = Fetch { path: path.clone(), size: HOT, ranges, connections };
        let rounds = Rounds::alternate(bench.rounds, targets.len(), |peer| {
            bench.runtime.block_on(load::fetch(&targets[peer], &devices, &what, ROUND))
        })?;
        let mib = |peer| rounds.median(peer, Sample::per_cpu_s) / (1 << 20) as f64;
        let kind = if ranges { "1 MiB ranges" } else { "whole" };
        print!("  {kind:<12} {connections:>3} connections  callboard {:>6.0} MiB per processor second", mib(0));
        if targets.len() > 1 {
            let ratio = rounds.ratio(0, 1, Sample::per_cpu_s);
            print!(", nginx {:>6.0}, ratio {ratio:.2}   (aim 1.2)", mib(1));
        }
        println!();
    }
    Ok(())
}

/// How long check-ins take while payloads are fetched from memory and from the disk.
pub(crate) fn cold(bench: &Bench) -> anyhow::Result<()> {
    let product = Product::start(&bench.processors)?;
    product.import(DEVICES)?;
    let devices = bench.runtime.block_on(device::enrol(&product, DEVICES, serial))?;
    let (path, file) = product.upload(&noise(COLD))?;
    let target = Target { addr: product.device_addr, pids: vec![product.process.pid()] };
    println!("check-ins while {FETCHERS} devices fetch 80 MiB/s of a payload of {} MiB", COLD >> 20);
    for (name, evict, fetch) in
        [("nobody fetches", false, false), ("from memory", false, true), ("from the disk", true, true)]
    {
        if evict {
            measure::evict(&file)?;
        }
        let read = measure::disk_bytes_read(product.process.pid())?;
        let took = bench.runtime.block_on(mixed(&target, &devices, &path, fetch))?;
        let read = measure::disk_bytes_read(product.process.pid())? - read;
        let ms = |p| measure::percentile(took.iter().copied(), p) * 1e3;
        let (p50, p99, max) = (ms(0.5), ms(0.99), ms(1.0));
        let from_disk = read >> 20;
        println!("  {name:<15} p50 {p50:.2} ms, p99 {p99:.2} ms, longest {max:.2} ms; {from_disk} MiB from the disk");
    }
    Ok(())
}

async fn mixed(target: &Target, devices: &[Arc<Device>], path: &str, fetch: bool) -> anyhow::Result<Vec<f64>> {
    let share = COLD / RANGE / FETCHERS;
    let lasting = FETCH_EVERY * u32::try_from(share)?;
    let mut fetchers = tokio::task::JoinSet::new();
    for n in (0..FETCHERS).filter(|_| fetch) {
        let (target, device, path) = (target.clone(), devices[usize::try_from(n)?].clone(), path.to_owned());
        let pieces = n * share..(n + 1) * share;
        fetchers.spawn(async move { load::stroll(&target, &device, &path, pieces, FETCH_EVERY).await });
    }
    let took = load::latencies(target, devices, CHECK_IN_EVERY, lasting).await?;
    while let Some(fetched) = fetchers.join_next().await {
        fetched??;
    }
    Ok(took)
}

/// Bytes that nothing can compress, the same every time.
fn noise(len: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take((len / 8) as usize).flatten().collect()
}
