//! The agent's size: its program as it is delivered, and its memory while it waits for the next check-in.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::ensure;

use crate::{
    Bench, measure,
    process::{self, Process},
    product::{Product, serial},
};

/// After its check-in.
const SETTLED: Duration = Duration::from_secs(3);

/// Size of the program and RSS of an enrolled agent with nothing to do.
pub(crate) fn agent(bench: &Bench) -> anyhow::Result<()> {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("agent").join("callboard-agent");
    let Ok(found) = fs::metadata(&program) else {
        println!("agent: skipped: needs cargo build -p callboard-agent --profile agent");
        return Ok(());
    };
    println!("agent");
    println!("  program {:.2} MiB (aim: under 6 MB)", mib(found.len() as f64));
    let product = Product::start(&bench.processors)?;
    product.import(1)?;
    let scratch = product.scratch();
    let (bundle, config) = (scratch.join("bundle.json"), scratch.join("agent.toml"));
    fs::write(&bundle, serde_json::to_vec(&product.bundle(1)?)?)?;
    fs::write(
        &config,
        format!(
            "state_dir = {:?}\nserial = {:?}\n[polling]\nfirst_max_s = 1\n[products.pos-app]\ndirectory = {:?}\n",
            scratch.join("agent"),
            serial(0),
            scratch.join("pos-app"),
        ),
    )?;
    let enrolled =
        Command::new(&program).arg("enrol").arg("--config").arg(&config).arg("--bundle").arg(&bundle).output()?;
    ensure!(enrolled.status.success(), "enrol: {}", String::from_utf8_lossy(&enrolled.stderr));
    let mut command = Command::new(&program);
    command.arg("run").arg("--config").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = Process::start(&mut command, &bench.processors)?;
    running.until(|| product.has_seen("till-0").ok()?.then_some(()))?;
    process::pause(SETTLED);
    let kb = |key| anyhow::Ok(measure::status_kb(running.pid(), key)? as f64 * 1024.0);
    let (rss, own) = (mib(kb("VmRSS")?), mib(kb("RssAnon")?));
    println!("  idle: RSS {rss:.1} MiB (aim: under 12 MB), of it {own:.1} MiB not backed by files");
    Ok(())
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}
