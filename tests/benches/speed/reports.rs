//! What a report costs, by how many devices are registered.

use std::{net::Ipv4Addr, sync::Arc};

use anyhow::{Context as _, ensure};
use callboard_proto::{
    check_in::Installed,
    instruction::{Action, Instruction, Nonce},
    paths,
    report::{Event, Receipt, Report, Reports},
    root::Root,
    signed::{Envelope, Verified, verify},
};
use callboard_tests::release::NewRelease;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    Bench,
    client::{self, Connection},
    device::{self, Device},
    fleet,
    load::Target,
    measure::{Rounds, Sample},
    product::Product,
};

const REGISTERED: [usize; 3] = [1_000, 100_000, 1_000_000];
/// Devices that are updated in a round, each over a connection of its own.
const UPDATED: usize = 256;

/// A server with its fleet.
struct Fleet {
    product: Product,
    devices: Vec<Arc<Device>>,
    root: Verified<Root>,
    target: Target,
    /// Updates so far, and what the last one has brought.
    round: u32,
    runs: Option<Installed>,
    /// Statements that were run for reports, and reports.
    statements: (u64, u64),
}

/// A device in the middle of an update.
struct Till {
    device: Arc<Device>,
    connection: Connection,
    told: Option<Instruction>,
    check_ins: u32,
    runs: Option<Installed>,
}

pub(crate) fn reports(bench: &Bench) -> anyhow::Result<()> {
    let mut fleets = Vec::new();
    for registered in REGISTERED {
        let product = Product::start_on(&bench.processors, |database| fleet::fill(database, registered))?;
        let devices = bench.runtime.block_on(device::enrol(&product, UPDATED, |n| format!("SN-{n:06}")))?;
        let target = Target { addr: product.device_addr, pids: vec![product.process.pid()] };
        fleets.push(Fleet {
            root: product.root()?,
            product,
            devices,
            target,
            round: 0,
            runs: None,
            statements: (0, 0),
        });
    }
    let rounds =
        Rounds::alternate(bench.rounds, fleets.len(), |peer| bench.runtime.block_on(update(&mut fleets[peer])))?;
    println!("reports of {UPDATED} devices that are updated, of all that are registered, {} rounds", bench.rounds);
    for (peer, (registered, fleet)) in REGISTERED.iter().zip(&fleets).enumerate() {
        let (us, per_s) = (rounds.median(peer, Sample::us), rounds.median(peer, Sample::per_s));
        let (statements, reports) = fleet.statements;
        let each = statements as f64 / reports as f64;
        println!(
            "  {registered:>9} registered: {us:>5.0} us of a processor each, {per_s:>6.0} /s, {each:.1} statements"
        );
    }
    for (peer, registered) in REGISTERED.iter().enumerate().skip(1) {
        let ratio = rounds.ratio(peer, 0, Sample::us);
        println!("  cost with {registered} : with {}   {ratio:.2}", REGISTERED[0]);
    }
    Ok(())
}

/// One update of every device; what is measured is their reports.
async fn update(fleet: &mut Fleet) -> anyhow::Result<Sample> {
    fleet.round += 1;
    let version = format!("3.0.{}", fleet.round);
    let release = NewRelease::new("pos-app", &version, u64::from(fleet.round));
    let digest = fleet.product.publish(&release)?;
    let spec = json!({ "name": version, "release": format!("pos-app@{version}"), "policy": "immediate" });
    fleet.product.draft(&spec)?;
    fleet.product.tell_rollout(&version, "start")?;
    let mut tills = Vec::new();
    for device in &fleet.devices {
        let connection = Connection::open(fleet.target.addr, Ipv4Addr::LOCALHOST, &device.tls(false)?).await?;
        tills.push(Till { device: device.clone(), connection, told: None, check_ins: 0, runs: fleet.runs.clone() });
    }
    let mut sample = Sample { done: 0.0, cpu_s: 0.0, wall_s: 0.0 };
    let steps: [(Action, &[Event]); 2] = [
        (Action::Download, &[Event::Downloading, Event::Staged]),
        (Action::Install, &[Event::Activating, Event::Verifying, Event::Succeeded]),
    ];
    let mut seq = 0;
    for (action, events) in steps {
        for till in &mut tills {
            till.ask(&fleet.root, action).await?;
        }
        let before = fleet.product.statements()?["requests"];
        let (part, done) = report(&fleet.target, tills, events, seq).await?;
        fleet.statements.0 += fleet.product.statements()?["requests"] - before;
        fleet.statements.1 += part.done as u64;
        tills = done;
        seq += u32::try_from(events.len())?;
        sample.done += part.done;
        sample.cpu_s += part.cpu_s;
        sample.wall_s += part.wall_s;
    }
    let release = release.document;
    let (product, runs) = (release.product, release.version);
    let (epoch, counter, floor) = (release.epoch, release.counter, release.min_floor);
    fleet.runs = Some(Installed { product, version: runs, release: Some(digest), epoch, counter, floor });
    for till in &mut tills {
        till.runs.clone_from(&fleet.runs);
        till.check_in().await?;
    }
    fleet.product.tell_rollout(&version, "cancel")?;
    Ok(sample)
}

/// All devices report at once, each one event after the other.
async fn report(
    target: &Target,
    tills: Vec<Till>,
    events: &'static [Event],
    seq: u32,
) -> anyhow::Result<(Sample, Vec<Till>)> {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let mut workers = JoinSet::new();
    for mut till in tills {
        let sender = sender.clone();
        workers.spawn(async move {
            for (n, event) in (1..).zip(events) {
                till.report(*event, seq + n).await?;
            }
            sender.send(till).ok();
            Ok(events.len() as u64)
        });
    }
    drop(sender);
    let sample = target.sample(workers).await?;
    let mut done = Vec::new();
    while let Some(till) = receiver.recv().await {
        done.push(till);
    }
    Ok((sample, done))
}

impl Till {
    /// Asks, and is told what it expects.
    async fn ask(&mut self, root: &Verified<Root>, action: Action) -> anyhow::Result<()> {
        self.check_in().await?;
        let envelope = Envelope::parse::<Instruction>(self.connection.body())?;
        let told = verify::<Instruction>(&envelope, &root.online().0, root.online().1)?.into_inner();
        ensure!(told.action == action, "it was told {:?}: {}", told.action, told.reason.text);
        self.told = Some(told);
        Ok(())
    }

    async fn check_in(&mut self) -> anyhow::Result<()> {
        self.check_ins += 1;
        let mut nonce = [0; 32];
        nonce[..4].copy_from_slice(&self.check_ins.to_be_bytes());
        let request = self.device.saying(|check_in| {
            check_in.nonce = Nonce(nonce);
            if let Some(runs) = &self.runs {
                check_in.facts.installed.retain(|one| one.product != runs.product);
                check_in.facts.installed.push(runs.clone());
            }
        })?;
        ensure!(self.connection.exchange(&request, None).await?.status == 200, "a check-in was refused");
        Ok(())
    }

    async fn report(&mut self, event: Event, seq: u32) -> anyhow::Result<()> {
        let told = self.told.as_ref().context("it was told nothing")?;
        let report = Report {
            assignment_id: told.assignment_id.context("no assignment")?,
            attempt: told.attempt.context("no attempt")?,
            seq,
            event,
            at: told.server_time,
            release_sha256: told.release_sha256.context("no release")?,
            failure: None,
        };
        let body = serde_json::to_vec(&Reports { crit: Vec::new(), reports: vec![report] })?;
        let answer = self.connection.exchange(&client::post(paths::REPORTS, &body), None).await?;
        ensure!(answer.status == 200, "a report was refused: {}", answer.status);
        let receipt: Receipt = serde_json::from_slice(self.connection.body())?;
        ensure!(receipt.refused.is_empty(), "a report was refused: {:?}", receipt.refused);
        Ok(())
    }
}
