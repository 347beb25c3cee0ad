//! What is read from `/proc`, and what is made of several rounds.

use std::{fs, path::Path};

use anyhow::Context as _;

/// Processor seconds, user and system, that a process has used so far; all its threads, not its children.
pub(crate) fn cpu_s(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks: u64 = rest.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// A process and its children: nginx is a master with workers.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    std::iter::once(pid).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())).collect()
}

/// Kilobytes that a line of `/proc/<pid>/status` tells, such as `VmRSS`.
pub(crate) fn status_kb(pid: u32, key: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with(key)).with_context(|| format!("no {key}"))?;
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).with_context(|| format!("{line:?}"))
}

/// Bytes that a process made the disk read.
pub(crate) fn disk_bytes_read(pid: u32) -> anyhow::Result<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let line = io.lines().find_map(|line| line.strip_prefix("read_bytes: ")).context("no read_bytes")?;
    Ok(line.trim().parse()?)
}

/// Drops a file from the page cache; what is dirty stays.
pub(crate) fn evict(path: &Path) -> anyhow::Result<()> {
    let file = fs::File::open(path)?;
    file.sync_all()?;
    Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?)
}

/// The middle one.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    percentile(values, 0.5)
}

/// The value that a share `p` of all does not exceed; not a number where there is none.
pub(crate) fn percentile(values: impl IntoIterator<Item = f64>, p: f64) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let at = ((values.len().saturating_sub(1)) as f64 * p).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

/// What one server did in one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Answers, connections or bytes.
    pub(crate) done: f64,
    /// Processor seconds of the server.
    pub(crate) cpu_s: f64,
    pub(crate) wall_s: f64,
}

impl Sample {
    pub(crate) fn per_cpu_s(&self) -> f64 {
        self.done / self.cpu_s
    }

    pub(crate) fn per_s(&self) -> f64 {
        self.done / self.wall_s
    }

    /// Microseconds of a processor for each.
    pub(crate) fn us(&self) -> f64 {
        self.cpu_s * 1e6 / self.done
    }
}

/// The rounds of several servers that took turns: the first index is the server's.
pub(crate) struct Rounds(pub(crate) Vec<Vec<Sample>>);

impl Rounds {
    /// Lets `peers` servers take turns. A first round warms up and is not counted.
    pub(crate) fn alternate(
        rounds: usize,
        peers: usize,
        mut run: impl FnMut(usize) -> anyhow::Result<Sample>,
    ) -> anyhow::Result<Self> {
        let mut all = vec![Vec::new(); peers];
        for round in 0..=rounds {
            for (peer, samples) in all.iter_mut().enumerate() {
                let sample = run(peer)?;
                if round > 0 {
                    samples.push(sample);
                }
            }
        }
        Ok(Self(all))
    }

    /// The median over all rounds.
    pub(crate) fn median(&self, peer: usize, value: impl Fn(&Sample) -> f64) -> f64 {
        median(self.0[peer].iter().map(value))
    }

    /// The median over all rounds of one server's value divided by another's in the same round.
    pub(crate) fn ratio(&self, peer: usize, to: usize, value: impl Fn(&Sample) -> f64) -> f64 {
        median(self.0[peer].iter().zip(&self.0[to]).map(|(one, other)| value(one) / value(other)))
    }
}
