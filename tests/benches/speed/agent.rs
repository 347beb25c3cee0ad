//! The agent as it is delivered: its size, its memory while it waits, what a check-in costs on the line, and how fast it
//! fetches and verifies a large payload.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use callboard_proto::time::Timestamp;
use callboard_tests::{
    proxy::Proxy,
    release::{NewRelease, bytes},
};
use serde_json::{Value, json};

use crate::{
    Bench,
    measure::{self, median},
    process::{self, Process, Role},
    product::{Product, serial},
};

/// After its check-in.
const SETTLED: Duration = Duration::from_secs(3);
/// The payload of the download.
const PAYLOAD: usize = 500 * 1000 * 1000;
/// Check-ins over one connection that are counted.
const CHECK_INS: f64 = 5.0;

/// The program as it is delivered; `None`, with a line that says so, if it was not built.
fn program(section: &str) -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("agent").join("callboard-agent");
    if program.exists() {
        return Some(program);
    }
    println!("{section}: skipped: needs cargo build -p callboard-agent --profile agent");
    None
}

/// An enrolled agent.
struct Till {
    program: PathBuf,
    config: PathBuf,
    dir: PathBuf,
}

impl Till {
    /// Enrols at `server_url`; `polling` is what that table says.
    fn enrol(product: &Product, program: &Path, server_url: Option<String>, polling: &str) -> anyhow::Result<Self> {
        product.import(1)?;
        let dir = product.scratch().join("till");
        fs::create_dir_all(dir.join("pos-app"))?;
        let (file, config) = (dir.join("bundle.json"), dir.join("agent.toml"));
        let mut bundle = product.bundle(1)?;
        bundle.server_url = server_url.unwrap_or(bundle.server_url);
        fs::write(&file, serde_json::to_vec(&bundle)?)?;
        let (state, pos) = (dir.join("state"), dir.join("pos-app"));
        let text = format!(
            "state_dir = {state:?}\nserial = {:?}\n[polling]\n{polling}\n[products.pos-app]\ndirectory = {pos:?}\ntrial_s = 0\n",
            serial(0)
        );
        fs::write(&config, text)?;
        let mut command = Command::new(program);
        let enrolled = command.arg("enrol").arg("--config").arg(&config).arg("--bundle").arg(&file).output()?;
        ensure!(enrolled.status.success(), "enrol: {}", String::from_utf8_lossy(&enrolled.stderr));
        Ok(Self { program: program.to_owned(), config, dir })
    }

    /// `run`, on the processors of the load: the server has the others.
    fn run(&self, bench: &Bench) -> anyhow::Result<Process> {
        let log = fs::File::create(self.log())?;
        let mut command = Command::new(&self.program);
        command.arg("run").arg("--config").arg(&self.config).stdout(Stdio::null()).stderr(log);
        Process::start_as(&mut command, &bench.processors, Role::Load)
    }

    fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// When its log says for the first time that it came into this state.
    fn came_to(&self, state: &str) -> Option<Timestamp> {
        let log = fs::read_to_string(self.log()).ok()?;
        let line = log.lines().find(|line| line.contains(&format!("state={state}")))?;
        line.split_whitespace().next()?.parse().ok()
    }
}

/// Size of the program, RSS of an enrolled agent with nothing to do, and bytes of a check-in.
pub(crate) fn agent(bench: &Bench) -> anyhow::Result<()> {
    let Some(program) = program("agent") else { return Ok(()) };
    println!("agent");
    println!("  program {:.2} MB (aim: under 6 MB)", fs::metadata(&program)?.len() as f64 / 1e6);
    let product = Product::start(&bench.processors)?;
    let till = Till::enrol(&product, &program, None, "first_max_s = 1")?;
    let mut running = till.run(bench)?;
    running.until(|| product.has_seen("till-0").ok()?.then_some(()))?;
    process::pause(SETTLED);
    let kb = |key| anyhow::Ok(measure::status_kb(running.pid(), key)? as f64 * 1024.0);
    let (rss, own) = (kb("VmRSS")? / 1e6, kb("RssAnon")? / 1e6);
    println!("  idle: RSS {rss:.1} MB (aim: under 10 MB), of it {own:.1} MB not backed by files");
    drop(running);
    on_the_line(bench, &program)
}

/// Bytes of a check-in in both directions, with TLS and HTTP, over a connection that is open already.
fn on_the_line(bench: &Bench, program: &Path) -> anyhow::Result<()> {
    let product = Product::start(&bench.processors)?;
    let proxy = Proxy::to(product.device_addr);
    // It asks again as soon as the server has let it wait for a second.
    let polling = "min_s = 0\nmax_s = 1\nfirst_max_s = 0\nwait_s = 1";
    let till = Till::enrol(&product, program, Some(format!("https://{}", proxy.address())), polling)?;
    let mut running = till.run(bench)?;
    running.until(|| (product.check_ins().ok()? >= 2.0).then_some(()))?;
    let (answered, down, up) = (product.check_ins()?, proxy.bytes_down(), proxy.bytes_up());
    let connections = proxy.connections();
    running.until(|| (product.check_ins().ok()? >= answered + CHECK_INS).then_some(()))?;
    let each = |now: u64, before: u64| (now - before) as f64 / CHECK_INS;
    let (down, up) = (each(proxy.bytes_down(), down), each(proxy.bytes_up(), up));
    ensure!(proxy.connections() == connections, "the connection was not kept");
    println!("  a check-in: {:.0} bytes on the line (aim: under 5000), {up:.0} up and {down:.0} down", up + down);
    Ok(())
}

/// A payload of 500 MB, fetched, verified, written and read back; against curl, which writes it and looks at nothing.
pub(crate) fn download(bench: &Bench) -> anyhow::Result<()> {
    let Some(program) = program("agent-download") else { return Ok(()) };
    println!("agent-download");
    let payload = bytes("a large payload", PAYLOAD);
    let (mut ratios, mut peaks, mut speeds) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.rounds.min(3) {
        let product = Product::start(&bench.processors)?;
        let till = Till::enrol(&product, &program, None, "min_s = 0\nmax_s = 1\nfirst_max_s = 0\nwait_s = 0")?;
        let release = NewRelease::with_payload("pos-app", "9.0.0", 9, payload.clone());
        product.publish(&release)?;
        let path = format!("/v1/payloads/{}", release.document.payloads[0].sha256);
        let curl = curl(bench, &product, &till, &path)?;
        product.draft(&json!({ "name": "large", "release": "pos-app@9.0.0", "policy": "immediate" }))?;
        product.tell_rollout("large", "start")?;
        let mut running = till.run(bench)?;
        let (began, ended) = running.until_within(Duration::from_secs(300), || {
            Some((till.came_to("Downloading")?, till.came_to("Staging")?))
        })?;
        let agent = ended.since(began).as_secs_f64();
        peaks.push(measure::status_kb(running.pid(), "VmHWM")? as f64 * 1024.0 / 1e6);
        let mb = PAYLOAD as f64 / 1e6;
        println!("  round {round}: agent {:.0} MB/s, curl {:.0} MB/s", mb / agent, mb / curl);
        ratios.push(curl / agent);
        speeds.push(mb / agent);
    }
    println!("  agent : curl {:.2} (aim: 0.8), agent {:.0} MB/s", median(ratios), median(speeds));
    println!("  its RSS was never above {:.1} MB", peaks.into_iter().fold(0.0, f64::max));
    Ok(())
}

/// Seconds that curl needs for the same, to a file on the same disk.
fn curl(bench: &Bench, product: &Product, till: &Till, path: &str) -> anyhow::Result<f64> {
    let (state, out) = (till.dir.join("state"), till.dir.join("curl.out"));
    let identity: Value = serde_json::from_slice(&fs::read(state.join("device.json"))?)?;
    let certificate = till.dir.join("device.pem");
    fs::write(&certificate, identity["certificate_pem"].as_str().context("no certificate in device.json")?)?;
    bench.processors.take(Role::Load)?;
    let began = Instant::now();
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--cacert"]).arg(product.data().join("server-ca.pem"));
    command.arg("--cert").arg(&certificate).arg("--key").arg(state.join("device.key")).arg("--output").arg(&out);
    let done = command.arg(format!("https://{}{path}", product.device_addr)).output().context("curl is needed")?;
    ensure!(done.status.success(), "curl: {}", String::from_utf8_lossy(&done.stderr));
    // What the agent gives back is on the disk.
    fs::File::open(&out)?.sync_all()?;
    let took = began.elapsed().as_secs_f64();
    ensure!(fs::metadata(&out)?.len() == PAYLOAD as u64, "curl fetched something else");
    fs::remove_file(&out)?;
    Ok(took)
}
