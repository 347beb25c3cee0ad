//! What the server needs in memory for ten thousand devices.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::task::JoinSet;

use crate::{
    Bench,
    client::Connection,
    device::{self, Device},
    measure, process,
    product::{Product, serial},
};

const DEVICES: usize = 10_000;
/// Connections at the same time; devices do not keep theirs between check-ins.
const TOGETHER: usize = 64;
/// Devices that hold a connection.
const WAITING: usize = 2000;
/// After the last request.
const SETTLED: Duration = Duration::from_secs(3);

/// RSS with the devices known, and again after each has enrolled and checked in.
pub(crate) fn server(bench: &Bench) -> anyhow::Result<()> {
    let product = Product::start(&bench.processors)?;
    println!("server with {DEVICES} devices");
    let show = |what: &str| {
        process::pause(SETTLED);
        let mib = |key| anyhow::Ok(measure::status_kb(product.process.pid(), key)? as f64 / 1024.0);
        println!("  {what:<38} RSS {:>5.1} MiB, of it {:.1} MiB not backed by files", mib("VmRSS")?, mib("RssAnon")?);
        anyhow::Ok(())
    };
    show("none known yet")?;
    product.import(DEVICES)?;
    show("imported (aim: RSS under 60 MB)")?;
    let devices = bench.runtime.block_on(device::enrol(&product, DEVICES, serial))?;
    show("all enrolled")?;
    bench.runtime.block_on(check_in(&product, devices.clone()))?;
    show("each has checked in")?;
    let open = bench.runtime.block_on(wait(&product, devices.iter().take(WAITING)))?;
    show(&format!("{WAITING} of them wait for an answer"))?;
    drop(open);
    Ok(())
}

/// Devices that wait for an answer for longer than it takes to look.
async fn wait<'a>(
    product: &Product,
    devices: impl Iterator<Item = &'a Arc<Device>>,
) -> anyhow::Result<Vec<Connection>> {
    let mut open = Vec::new();
    for device in devices {
        let mut connection = Connection::open(product.device_addr, Ipv4Addr::LOCALHOST, &device.tls(false)?).await?;
        connection.send(&device.waiting).await?;
        open.push(connection);
    }
    Ok(open)
}

async fn check_in(product: &Product, devices: Vec<Arc<Device>>) -> anyhow::Result<()> {
    let mut running = JoinSet::new();
    for device in devices {
        if running.len() == TOGETHER {
            running.join_next().await.context("nobody checks in")???;
        }
        let addr = product.device_addr;
        running.spawn(async move {
            let mut connection = Connection::open(addr, Ipv4Addr::LOCALHOST, &device.tls(false)?).await?;
            let answer = connection.exchange(device.requests().next(), None).await?;
            ensure!(answer.status == 200, "a check-in was refused: {}", answer.status);
            connection.close().await;
            anyhow::Ok(())
        });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}
