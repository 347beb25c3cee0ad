//! The load: so many devices that ask again as soon as they have an answer, for a time.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use tokio::task::JoinSet;

use crate::{
    client::{self, Connection},
    device::Device,
    measure::{self, Sample},
};

/// A server under load: where it listens, and the processes that it consists of.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) addr: SocketAddr,
    pub(crate) pids: Vec<u32>,
}

impl Target {
    pub(crate) fn cpu_s(&self) -> anyhow::Result<f64> {
        self.pids.iter().map(|pid| measure::cpu_s(*pid)).sum()
    }

    /// Runs what `workers` do and says what it cost the server. The load never sleeps meanwhile: a server that is
    /// slower than it would pay for waking it with every answer, and a faster one would not.
    pub(crate) async fn sample(&self, mut workers: JoinSet<anyhow::Result<u64>>) -> anyhow::Result<Sample> {
        let mut awake: JoinSet<()> = JoinSet::new();
        awake.spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        let (cpu_s, began) = (self.cpu_s()?, Instant::now());
        let mut done = 0;
        while let Some(worker) = workers.join_next().await {
            done += worker??;
        }
        Ok(Sample { done: done as f64, cpu_s: self.cpu_s()? - cpu_s, wall_s: began.elapsed().as_secs_f64() })
    }
}

/// Check-ins over connections that stay open, one for each device.
pub(crate) async fn check_ins(target: &Target, devices: &[Arc<Device>], lasting: Duration) -> anyhow::Result<Sample> {
    let mut open = Vec::new();
    for device in devices {
        let mut connection = Connection::open(target.addr, Ipv4Addr::LOCALHOST, &device.tls(false)?).await?;
        let mut requests = device.requests();
        ensure!(connection.exchange(requests.next(), None).await?.status == 200, "a check-in was refused");
        open.push((connection, requests));
    }
    let until = Instant::now() + lasting;
    let mut workers = JoinSet::new();
    for (mut connection, mut requests) in open {
        workers.spawn(async move {
            let mut done = 0;
            while Instant::now() < until {
                let answer = connection.exchange(requests.next(), None).await?;
                ensure!(answer.status == 200, "a check-in was refused: {}", answer.status);
                done += 1;
            }
            Ok(done)
        });
    }
    target.sample(workers).await
}

/// Check-ins with a new connection for each.
pub(crate) async fn connections(
    target: &Target,
    devices: &[Arc<Device>],
    resume: bool,
    lasting: Duration,
) -> anyhow::Result<Sample> {
    let mut ready = Vec::new();
    for device in devices {
        let tls = device.tls(resume)?;
        let mut requests = device.requests();
        // The first handshake of a device cannot be a resumed one.
        let mut first = Connection::open(target.addr, Ipv4Addr::LOCALHOST, &tls).await?;
        first.exchange(requests.next(), None).await?;
        first.close().await;
        ready.push((tls, requests));
    }
    let until = Instant::now() + lasting;
    let mut workers = JoinSet::new();
    let addr = target.addr;
    for (i, (tls, mut requests)) in ready.into_iter().enumerate() {
        // Addresses of their own, so that ports do not run out.
        let from = Ipv4Addr::new(127, 0, 2, u8::try_from(i % 250)? + 1);
        workers.spawn(async move {
            let mut done = 0;
            while Instant::now() < until {
                let mut connection = Connection::open(addr, from, &tls).await?;
                let answer = connection.exchange(requests.next(), None).await?;
                ensure!(answer.status == 200, "a check-in was refused: {}", answer.status);
                ensure!(connection.resumed() == resume, "a handshake was not of the kind that is measured");
                connection.close().await;
                done += 1;
            }
            Ok(done)
        });
    }
    target.sample(workers).await
}

/// A file to be fetched again and again, whole or in ranges of a MiB.
#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) ranges: bool,
    pub(crate) connections: usize,
}

/// One MiB, as agents ask for.
pub(crate) const RANGE: u64 = 1 << 20;

/// Fetches until the time is over, each device over a connection of its own; counts bytes.
pub(crate) async fn fetch(
    target: &Target,
    devices: &[Arc<Device>],
    what: &Fetch,
    lasting: Duration,
) -> anyhow::Result<Sample> {
    let mut open = Vec::new();
    for device in devices.iter().take(what.connections) {
        open.push(Connection::open(target.addr, Ipv4Addr::LOCALHOST, &device.tls(false)?).await?);
    }
    let until = Instant::now() + lasting;
    let mut workers = JoinSet::new();
    for (i, mut connection) in open.into_iter().enumerate() {
        let what = what.clone();
        workers.spawn(async move {
            let mut bytes = 0;
            let pieces = (what.size / RANGE).max(1);
            let mut piece = i as u64 * 7 % pieces;
            while Instant::now() < until {
                let range = what.ranges.then_some((piece * RANGE, (piece + 1) * RANGE - 1));
                piece = (piece + 1) % pieces;
                let answer = connection.exchange(&client::get(&what.path, range), Some(until)).await?;
                ensure!(answer.status == if what.ranges { 206 } else { 200 }, "refused: {}", answer.status);
                bytes += answer.bytes;
                if !answer.whole {
                    break;
                }
            }
            Ok(bytes)
        });
    }
    target.sample(workers).await
}

/// Check-ins at a steady pace; gives the seconds that each took.
pub(crate) async fn latencies(
    target: &Target,
    devices: &[Arc<Device>],
    pause: Duration,
    lasting: Duration,
) -> anyhow::Result<Vec<f64>> {
    let mut workers = JoinSet::new();
    for device in devices {
        let (tls, mut requests, addr) = (device.tls(false)?, device.requests(), target.addr);
        workers.spawn(async move {
            let mut connection = Connection::open(addr, Ipv4Addr::LOCALHOST, &tls).await?;
            connection.exchange(requests.next(), None).await?;
            let until = Instant::now() + lasting;
            let mut took = Vec::new();
            let mut ticks = tokio::time::interval(pause);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while Instant::now() < until {
                ticks.tick().await;
                let began = Instant::now();
                connection.exchange(requests.next(), None).await?;
                took.push(began.elapsed().as_secs_f64());
            }
            anyhow::Ok(took)
        });
    }
    let mut all = Vec::new();
    while let Some(worker) = workers.join_next().await {
        all.extend(worker??);
    }
    Ok(all)
}

/// Fetches one file once, a MiB at a time with `pause` between; gives the bytes.
pub(crate) async fn stroll(
    target: &Target,
    device: &Device,
    path: &str,
    pieces: std::ops::Range<u64>,
    pause: Duration,
) -> anyhow::Result<u64> {
    let mut connection = Connection::open(target.addr, Ipv4Addr::LOCALHOST, &device.tls(false)?).await?;
    let mut bytes = 0;
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for piece in pieces {
        ticks.tick().await;
        let request = client::get(path, Some((piece * RANGE, (piece + 1) * RANGE - 1)));
        let answer = connection.exchange(&request, None).await?;
        ensure!(answer.status == 206 && answer.whole, "refused: {}", answer.status);
        bytes += answer.bytes;
    }
    Ok(bytes)
}

/// What cipher two servers speak to the same client; numbers are only of use if it is the same one.
pub(crate) async fn cipher(target: &Target, device: &Device) -> anyhow::Result<String> {
    let connection = Connection::open(target.addr, Ipv4Addr::LOCALHOST, &device.tls(false)?).await?;
    let cipher = connection.cipher();
    ensure!(!cipher.is_empty(), "no cipher");
    connection.close().await;
    Ok(cipher)
}
