//! Metrics and logs. What a foreign hand can cause at will is counted always, and logged only now and then.

mod throttle;

use std::{
    fmt,
    io::IsTerminal as _,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use callboard_proto::{
    admin::Overview,
    check_in::{ATTACKS, OTHER_ATTACK},
    ids::DeviceId,
    instruction::Action,
    report::RefusedReport,
    text::{Lines, Priority, is_stderr_the_journal},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use tracing::Level;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt as _};

use crate::db::Purpose;
use throttle::Throttle;

/// What the server counts.
pub(crate) struct Metrics {
    registry: Registry,
    check_ins: Family<ActionLabel, Counter>,
    check_in_seconds: Histogram,
    /// Devices that wait for an answer.
    pub(crate) waiting: Gauge,
    reports: Family<OutcomeLabel, Counter>,
    refused_report_lines: Throttle,
    enrolments: Counter,
    renewals: Counter,
    enrolments_waiting: Gauge,
    refused_tokens: Counter,
    refused_token_lines: Throttle,
    /// Payload bytes sent.
    pub(crate) bytes_served: Arc<AtomicU64>,
    served: Counter,
    statements: Family<PurposeLabel, Counter>,
    devices: Family<StatusLabel, Gauge>,
    assignments: Family<StateLabel, Gauge>,
    remaining: Family<WhatLabel, Gauge>,
    alarms: Family<WhatLabel, Gauge>,
    attacks_told: Family<KindLabel, Counter>,
    attacked: Family<KindLabel, Gauge>,
    attack_alarms: Family<KindLabel, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ActionLabel {
    action: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PurposeLabel {
    purpose: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StatusLabel {
    status: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabel {
    state: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WhatLabel {
    what: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("callboard");
        // 50 us to 1.6 s: an idle check-in takes a fraction of a millisecond, a commit some milliseconds.
        let buckets = (0..16).map(|n| 0.000_05 * f64::from(1_u32 << n));
        let metrics = Self {
            check_ins: Family::default(),
            check_in_seconds: Histogram::new(buckets),
            waiting: Gauge::default(),
            reports: Family::default(),
            refused_report_lines: Throttle::new(),
            enrolments: Counter::default(),
            renewals: Counter::default(),
            enrolments_waiting: Gauge::default(),
            refused_tokens: Counter::default(),
            refused_token_lines: Throttle::new(),
            bytes_served: Arc::new(AtomicU64::new(0)),
            served: Counter::default(),
            statements: Family::default(),
            devices: Family::default(),
            assignments: Family::default(),
            remaining: Family::default(),
            alarms: Family::default(),
            attacks_told: Family::default(),
            attacked: Family::default(),
            attack_alarms: Family::default(),
            registry: Registry::default(),
        };
        registry.register("check_ins", "Check-ins answered, by action", metrics.check_ins.clone());
        registry.register_with_unit(
            "check_in_duration",
            "Time to decide and sign an answer to a check-in, without the time that it waited",
            Unit::Seconds,
            metrics.check_in_seconds.clone(),
        );
        registry.register("waiting", "Devices whose check-in waits for something new", metrics.waiting.clone());
        registry.register("reports", "Reports received, by what they did", metrics.reports.clone());
        registry.register("enrolments", "Enrolments answered with a certificate", metrics.enrolments.clone());
        let waiting = metrics.enrolments_waiting.clone();
        registry.register("enrolments_waiting", "Enrolments that wait for an operator", waiting);
        registry.register("renewals", "Renewed device certificates that came into use", metrics.renewals.clone());
        registry.register("api_tokens_refused", "Requests with a wrong API token", metrics.refused_tokens.clone());
        registry.register_with_unit("payload_served", "Payload bytes sent", Unit::Bytes, metrics.served.clone());
        registry.register("database_statements", "Statements run, by purpose", metrics.statements.clone());
        registry.register("devices", "Devices in service, by status", metrics.devices.clone());
        registry.register("assignments", "Assignments that are not final, by state", metrics.assignments.clone());
        let help = "Time until a certificate, the root or the head expires; negative afterwards";
        registry.register_with_unit("expiry_remaining", help, Unit::Seconds, metrics.remaining.clone());
        let help = "Whether something that expires should be looked after by now: 1 or 0";
        registry.register("expiry_alarm", help, metrics.alarms.clone());
        let help = "Times that a device told of more that no honest server sends than before, by kind";
        registry.register("attacks_told", help, metrics.attacks_told.clone());
        let help = "Devices that told of it within the last hour, and of which nobody has taken note";
        registry.register("attacked_devices", help, metrics.attacked.clone());
        registry.register("attack_alarm", "Whether these are many: 1 or 0", metrics.attack_alarms.clone());
        Self { registry, ..metrics }
    }

    pub(crate) fn check_in(&self, action: Action, took: Duration) {
        let action = match action {
            Action::None => "none",
            Action::Download => "download",
            Action::Install => "install",
            Action::Cancel => "cancel",
            Action::Hold => "hold",
        };
        self.check_ins.get_or_create(&ActionLabel { action }).inc();
        self.check_in_seconds.observe(took.as_secs_f64());
    }

    /// Counts a report that was taken.
    pub(crate) fn report(&self, changed: bool) {
        let outcome = if changed { "changed" } else { "unchanged" };
        self.reports.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Counts a report that will never be taken.
    pub(crate) fn report_refused(&self, device: DeviceId, refused: &RefusedReport) {
        self.reports.get_or_create(&OutcomeLabel { outcome: "refused" }).inc();
        if let Some(held_back) = self.refused_report_lines.admit() {
            let RefusedReport { code, detail, .. } = refused;
            tracing::warn!(device.id = %device, code, detail, held_back, "a report was refused");
        }
    }

    /// Counts a request of an operator whose token is wrong.
    pub(crate) fn token_refused(&self, peer: Option<IpAddr>) {
        self.refused_tokens.inc();
        if let Some(held_back) = self.refused_token_lines.admit() {
            let peer = peer.map(tracing::field::display);
            tracing::warn!(peer, held_back, "an API token was refused");
        }
    }

    /// Counts a device that tells of more than before. How much more is its own affair: a stolen one could say anything.
    pub(crate) fn attack_told(&self, kind: &str) {
        self.attacks_told.get_or_create(&KindLabel { kind: kind.to_owned() }).inc();
    }

    pub(crate) fn enrolled(&self) {
        self.enrolments.inc();
    }

    pub(crate) fn renewed(&self) {
        self.renewals.inc();
    }

    /// Everything in the OpenMetrics text format; `remaining` is what expires, with the seconds left, and
    /// whether somebody should look after it.
    pub(crate) fn encode(
        &self,
        overview: &Overview,
        remaining: impl Iterator<Item = (&'static str, i64, bool)>,
    ) -> Result<String, fmt::Error> {
        for (what, seconds, alarming) in remaining {
            self.remaining.get_or_create(&WhatLabel { what }).set(seconds);
            self.alarms.get_or_create(&WhatLabel { what }).set(i64::from(alarming));
        }
        catch_up(&self.served, self.bytes_served.load(Ordering::Relaxed));
        for purpose in Purpose::ALL {
            let label = PurposeLabel { purpose: purpose.as_str() };
            catch_up(&self.statements.get_or_create(&label), purpose.statements());
        }
        for (status, n) in &overview.devices {
            self.devices
                .get_or_create(&StatusLabel { status: status.clone() })
                .set(i64::try_from(*n).unwrap_or(i64::MAX));
        }
        for (state, n) in &overview.assignments {
            self.assignments
                .get_or_create(&StateLabel { state: state.clone() })
                .set(i64::try_from(*n).unwrap_or(i64::MAX));
        }
        self.enrolments_waiting.set(i64::try_from(overview.enrolments_waiting).unwrap_or(i64::MAX));
        for kind in ATTACKS.iter().copied().chain([OTHER_ATTACK]) {
            let label = KindLabel { kind: kind.to_owned() };
            let devices = overview.attacks.get(kind).copied().unwrap_or(0);
            self.attacked.get_or_create(&label).set(i64::try_from(devices).unwrap_or(i64::MAX));
            let alarm = overview.attack_alarms.iter().any(|alarming| alarming == kind);
            self.attack_alarms.get_or_create(&label).set(i64::from(alarm));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Brings a counter up to a total that is counted elsewhere.
fn catch_up(counter: &Counter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// Sends logs to standard error. What the HTTP library would say of malformed requests is left out, since whoever
/// connects could say it any number of times; `CALLBOARD_LOG` selects them, such as `debug` or `callboard_server=trace`.
pub(crate) fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CALLBOARD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,actix_server=warn,actix_http=off"));
    let colours = std::io::stderr().is_terminal();
    let journal = is_stderr_the_journal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer(journal, colours))
        .with_ansi(colours)
        .with_target(false);
    // A second server in one process (tests) keeps the first one's subscriber.
    let _ = if journal { builder.without_time().try_init() } else { builder.try_init() };
}

/// Lines for standard error; the journal is told which of them are warnings.
fn writer(journal: bool, colours: bool) -> BoxMakeWriter {
    let of = |priority| move || Lines::for_journal(std::io::stderr(), priority);
    if !journal {
        return BoxMakeWriter::new(move || Lines::new(std::io::stderr(), colours));
    }
    let info = of(Priority::Info).with_max_level(Level::INFO).or_else(of(Priority::Debug));
    let warning = of(Priority::Warning).with_max_level(Level::WARN).or_else(info);
    BoxMakeWriter::new(of(Priority::Error).with_max_level(Level::ERROR).or_else(warning))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_operators_page_lists_every_metric() {
        let metrics = Metrics::new();
        metrics.check_in(Action::None, Duration::from_millis(1));
        metrics.report(true);
        let one = |key: &str| [(key.to_owned(), 1)].into();
        let overview = Overview {
            devices: one("online"),
            assignments: one("staged"),
            enrolments_waiting: 1,
            ..Overview::default()
        };
        metrics.attack_told("slow");
        let text = metrics.encode(&overview, [("root", 1, false)].into_iter()).expect("text");
        let exposed = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let exposed: BTreeSet<(String, String)> = exposed
            .map(|(name, kind)| (format!("{name}{}", if kind == "counter" { "_total" } else { "" }), kind.to_owned()))
            .collect();
        let page = include_str!("../../deploy/README.md");
        let rows = page.lines().filter(|line| line.starts_with("| `callboard_"));
        let listed: BTreeSet<(String, String)> = rows
            .map(|row| {
                let cells: Vec<&str> = row.split('|').map(str::trim).collect();
                (cells[1].trim_matches('`').to_owned(), cells[2].to_owned())
            })
            .collect();
        assert_eq!(listed, exposed);
    }
}
