//! What several pages show: pagers, badges, bars, times in words.

use std::time::Duration;

use callboard_proto::time::Timestamp;
use serde::Deserialize;

use super::frame::quoted;

/// Rows of a list on a page: what one looks through, and what renders at once.
pub(crate) const ROWS: i64 = 50;

/// The query of a list that is gone through page by page, some of them by state.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    pub(crate) state: String,
    pub(crate) after: Option<String>,
}

/// The way to the next page of a list, and back to the first. Keyset paging knows no numbers of pages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pager {
    /// Path and query of the next page; empty if there is none.
    pub(crate) next: String,
    /// Path and query of the first page, if this is not it.
    pub(crate) first: String,
}

impl Pager {
    /// For a list at `path` with these filters, that was read after `after` and goes on after `next`.
    pub(crate) fn new(path: &str, filters: &[(&str, &str)], after: Option<&str>, next: Option<&str>) -> Self {
        let to = |after: Option<&str>| link(path, &[filters, &[("after", after.unwrap_or_default())]].concat());
        Self {
            next: next.map(|next| to(Some(next))).unwrap_or_default(),
            first: after.map(|_| to(None)).unwrap_or_default(),
        }
    }
}

/// A path with a query of what is not empty.
pub(crate) fn link(path: &str, query: &[(&str, &str)]) -> String {
    let given = query.iter().filter(|(_, value)| !value.is_empty());
    let query: Vec<String> = given.map(|(name, value)| format!("{name}={}", quoted(value))).collect();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

/// How something stands: its word, and `good`, `bad`, `busy`, `warn` or `dull` for its colour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Badge {
    pub(crate) word: &'static str,
    pub(crate) tone: &'static str,
}

impl Badge {
    pub(crate) const fn new(word: &'static str, tone: &'static str) -> Self {
        Self { word, tone }
    }
}

/// A bar of a chart of bars lying on each other: a label, a number, and its share of the largest in thousandths.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) label: String,
    /// Where a click leads; empty for nowhere.
    pub(crate) path: String,
    pub(crate) n: u64,
    pub(crate) share: u64,
}

/// Bars for these labels, paths and numbers.
pub(crate) fn bars(rows: impl IntoIterator<Item = (String, String, u64)>) -> Vec<Bar> {
    let mut bars: Vec<Bar> = rows.into_iter().map(|(label, path, n)| Bar { label, path, n, share: 0 }).collect();
    let most = bars.iter().map(|bar| bar.n).max().unwrap_or(0).max(1);
    for bar in &mut bars {
        bar.share = bar.n.saturating_mul(1000).div_ceil(most);
    }
    bars
}

/// A moment: as programs read it, and as people do.
#[derive(Clone, Debug, Default)]
pub(crate) struct When {
    /// Empty for never.
    pub(crate) exact: String,
    pub(crate) words: String,
}

impl When {
    /// A moment seen from now.
    pub(crate) fn new(at: Timestamp, now: Timestamp) -> Self {
        let words = if at > now { format!("in {}", span(at.since(now))) } else { ago(now.since(at)) };
        Self { exact: at.to_string(), words }
    }

    /// A moment that may never have been.
    pub(crate) fn some(at: Option<Timestamp>, now: Timestamp) -> Self {
        at.map_or_else(|| Self { exact: String::new(), words: "never".to_owned() }, |at| Self::new(at, now))
    }
}

fn ago(since: Duration) -> String {
    if since < Duration::from_secs(5) { "just now".to_owned() } else { format!("{} ago", span(since)) }
}

/// A length of time in its largest unit; in two where the first is small.
pub(crate) fn span(time: Duration) -> String {
    let s = time.as_secs();
    let (minutes, hours, days) = (s / 60, s / 3600, s / 86_400);
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{minutes} min"),
        3600..36_000 if minutes % 60 > 0 => format!("{hours} h {} min", minutes % 60),
        3600..172_800 => format!("{hours} h"),
        _ => format!("{days} days"),
    }
}

/// A number of bytes.
pub(crate) fn bytes(n: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(power, _)| n >= 1 << power) {
        Some((power, unit)) => {
            let tenths = n.saturating_mul(10) >> power;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{n} bytes"),
    }
}

/// "1 device", "3 devices", and thousands apart.
pub(crate) fn count(n: u64, noun: &str) -> String {
    callboard_policy::counted(n, noun).replacen(&n.to_string(), &thousands(n), 1)
}

/// A number with its thousands apart.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join("\u{202f}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_numbers_and_links_are_for_people() {
        let spans = [0, 59, 60, 3599, 3600, 5400, 36_000, 172_799, 172_800].map(|s| span(Duration::from_secs(s)));
        assert_eq!(spans.join(", "), "0 s, 59 s, 1 min, 59 min, 1 h, 1 h 30 min, 10 h, 47 h, 2 days");
        assert_eq!([512, 1536, 5 << 30].map(bytes).join(", "), "512 bytes, 1.5 KiB, 5.0 GiB");
        assert_eq!(
            [count(1, "device"), count(0, "device"), count(1_234_567, "device")].join(", "),
            "1 device, 0 devices, 1\u{202f}234\u{202f}567 devices"
        );
        let pager = Pager::new("/devices", &[("selector", "a = b & c"), ("columns", "")], Some("7"), Some("9"));
        assert_eq!(pager.next, "/devices?selector=a%20=%20b%20%26%20c&after=9");
        assert_eq!(pager.first, "/devices?selector=a%20=%20b%20%26%20c");
        let shares: Vec<u64> =
            bars([1, 3, 0].map(|n| (String::new(), String::new(), n))).iter().map(|bar| bar.share).collect();
        assert_eq!(shares, [334, 1000, 0]);
    }
}
