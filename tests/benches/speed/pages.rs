//! What each page takes with 100,000 registered devices and a rollout over them, and what open dashboards cost.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use callboard_tests::release::NewRelease;
use serde_json::json;

use crate::{Bench, fleet, measure, process, product::Product};

const DEVICES: usize = 100_000;
/// Times that each page is fetched.
const TIMES: usize = 15;
const DASHBOARDS: usize = 10;
/// How often an open page looks by itself, as in `live.js`.
const LOOKS_EVERY: Duration = Duration::from_secs(10);
/// How long the dashboards are watched.
const WATCHED: Duration = Duration::from_secs(30);

/// Every page that is more than a form, with what it is called here.
const PAGES: [&str; 23] = [
    "/",
    "/devices",
    "/devices?selector=region%20=%20r3%20and%20version(%22pos-app%22)%20%3C%202.2.0",
    "/devices?selector=version(%22pos-app%22)%20=%20%221.2.0%22",
    "/devices/till-0000042",
    "/releases",
    "/releases/pos-app@2.2.0",
    "/rollouts",
    "/rollouts/all",
    "/rollouts/all/devices",
    "/rollouts/all/sites",
    "/rollouts/new",
    "/attention",
    "/enrolment",
    "/audit",
    "/audit?who=first%20admin",
    "/settings",
    "/settings/people",
    "/settings/tokens",
    "/settings/webhooks",
    "/settings/freezes",
    "/settings/sites",
    "/login",
];

pub(crate) fn pages(bench: &Bench) -> anyhow::Result<()> {
    let product = Product::start_on(&bench.processors, |database| fleet::fill(database, DEVICES))?;
    product.publish(&NewRelease::new("pos-app", "2.2.0", 22))?;
    product.draft(&json!({
        "name": "all", "release": "pos-app@2.2.0", "policy": "progressive", "audience": "frozen",
        "selector": "exists site",
        "phases": [{ "name": "canary", "percent": 1 }, { "name": "tenth", "percent": 10 }, { "name": "all", "percent": 100 }],
    }))?;
    product.tell_rollout("all", "start")?;
    println!("pages with {DEVICES} registered devices, {TIMES} times each");
    println!("  {:<70} {:>9} {:>9} {:>9}", "", "median", "slowest", "of a CPU");
    for path in PAGES {
        // The first one fills caches.
        product.page(path)?;
        let cpu_s = measure::cpu_s(product.process.pid())?;
        let mut took = Vec::new();
        for _ in 0..TIMES {
            let began = Instant::now();
            product.page(path)?;
            took.push(began.elapsed().as_secs_f64() * 1e3);
        }
        let cpu_ms = (measure::cpu_s(product.process.pid())? - cpu_s) * 1e3 / TIMES as f64;
        let at = |p| measure::percentile(took.iter().copied(), p);
        let over = if at(0.5) > 100.0 { "   OVER the aim of 100 ms" } else { "" };
        println!("  {path:<70} {:>6.1} ms {:>6.1} ms {cpu_ms:>6.1} ms{over}", at(0.5), at(1.0));
    }
    dashboards(&product)
}

/// Overviews that are open, each listening and looking as often as its script does.
fn dashboards(product: &Product) -> anyhow::Result<()> {
    let streams = (0..DASHBOARDS).map(|_| listen(product)).collect::<anyhow::Result<Vec<_>>>()?;
    let (began, cpu_s) = (Instant::now(), measure::cpu_s(product.process.pid())?);
    let mut looks = 0;
    while began.elapsed() < WATCHED {
        let dashboards = u32::try_from(DASHBOARDS)?;
        product.page("/")?;
        looks += 1;
        let next = LOOKS_EVERY * looks / dashboards;
        process::pause(next.saturating_sub(began.elapsed()));
    }
    let cpu_s = measure::cpu_s(product.process.pid())? - cpu_s;
    let percent = cpu_s * 100.0 / began.elapsed().as_secs_f64();
    println!("  {} open dashboards, {looks} looks: {percent:.2} % of a core   (aim 5 %)", streams.len());
    Ok(())
}

/// Follows events as a page does.
fn listen(product: &Product) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(product.admin_address())?;
    write!(stream, "GET /api/v1/events/stream HTTP/1.1\r\nhost: localhost\r\n{}\r\n", product.authorization())?;
    let mut first = [0; 12];
    stream.read_exact(&mut first).context("the stream of events")?;
    ensure!(first.ends_with(b" 200"), "no stream: {}", String::from_utf8_lossy(&first));
    Ok(stream)
}
