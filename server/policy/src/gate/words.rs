//! What a gate waits for, in words and numbers.

use std::time::Duration;

use callboard_proto::time::Timestamp;

use super::Gate;
use crate::rollout::{Approval, Share};

impl Gate<'_> {
    pub(super) fn waiting_text(&self) -> String {
        let (completed, size) = (self.counts.completed(), self.counts.counted_size());
        let mut conditions = vec![self.missing()];
        if !self.phase.soak.is_zero() && !self.times.soak_skipped {
            conditions.push(format!("{} of soak have passed", span(self.phase.soak)));
        }
        let needed = self.needed();
        if completed < needed {
            let numbers = format!("{completed} of {size} completed, {} needed", are(needed));
            return format!("{} ({numbers}){}", self.opens_when(conditions), self.patience());
        }
        let (successes, percent) = (self.successes(), self.phase.success_percent);
        let numbers = format!("{successes} of {completed} completed devices succeeded, {percent} % are needed");
        format!("{} ({numbers})", self.opens_when(conditions))
    }

    pub(super) fn soaking_text(&self, until: Timestamp) -> String {
        let left = span(until.since(self.now));
        let conditions = vec![format!("the soak has run {left} more (until {until})")];
        format!("{} ({})", self.opens_when(conditions), self.success_text())
    }

    pub(super) fn approval_text(&self, why: &str) -> String {
        format!("{} ({why})", self.opens_when(Vec::new()))
    }

    pub(super) fn success_text(&self) -> String {
        let completed = self.counts.completed();
        format!("phase {}: {} of {completed} completed devices succeeded", self.phase.name, self.successes())
    }

    pub(super) fn impossible_text(&self) -> String {
        format!(
            "phase {}: {} of {} failed, so {} % success cannot be reached any more",
            self.phase.name,
            self.counts.failures(),
            self.counts.counted_size(),
            self.phase.success_percent
        )
    }

    /// Acknowledged failures left too few devices that could say something good.
    pub(super) fn acknowledged_text(&self) -> String {
        let (name, left, least) = (&self.phase.name, self.counts.counted_size(), self.least());
        let acknowledged = self.counts.asked() - left;
        format!(
            "phase {name}: acknowledged failures ({acknowledged}) are no successes, and its other devices ({left}) are fewer \
             than must be through ({least}); {}",
            self.by_hand()
        )
    }

    pub(super) fn empty_text(&self) -> String {
        let name = &self.phase.name;
        let why = match self.phase.share {
            Share::Selector(_) => format!("the selector of phase {name} takes no device that needs the release"),
            Share::Percent(_) => format!("phase {name} has no device, and none has succeeded before it"),
        };
        format!("{why}, so nothing can be learned from it; {}", self.by_hand())
    }

    /// The way on when the gate cannot be met.
    fn by_hand(&self) -> String {
        let next = self.next.map_or("?", |next| next.name.as_str());
        format!("open-phase opens phase {next} regardless")
    }

    /// The sentence around the conditions; the approval is always the last.
    fn opens_when(&self, mut conditions: Vec<String>) -> String {
        if self.phase.approval == Approval::Manual && !self.times.approved {
            conditions.push(format!("somebody approves phase {}", self.phase.name));
        }
        let what = match self.next {
            Some(next) => format!("phase {} opens", next.name),
            None => "the rollout completes".to_owned(),
        };
        match conditions.split_last() {
            Some((last, [])) => format!("{what} when {last}"),
            Some((last, before)) => format!("{what} when {} and {last}", before.join(", ")),
            None => what,
        }
    }

    /// How many more devices have to succeed.
    fn missing(&self) -> String {
        let (completed, name) = (self.counts.completed(), &self.phase.name);
        let open = self.counts.counted_size().saturating_sub(completed);
        let unfinished = self.needed().saturating_sub(completed);
        // With n more successes, succeeded + n must be the percentage of completed + n.
        let percent = u64::from(self.phase.success_percent);
        let short = (percent * completed).saturating_sub(100 * self.successes());
        let diluted = match 100_u64.saturating_sub(percent) {
            0 if short > 0 => u64::MAX,
            0 => 0,
            rest => short.div_ceil(rest),
        };
        let more = unfinished.max(diluted);
        let devices = |n: u64| {
            if n == 1 {
                format!("1 more device of phase {name} succeeds")
            } else {
                format!("{n} more devices of phase {name} succeed")
            }
        };
        let late = self.counts.timed_out;
        match (more <= open, open) {
            (true, _) => devices(more),
            (false, 0) => match late {
                1 => format!("the device of phase {name} that timed out succeeds after all"),
                _ => format!("some of the {late} devices of phase {name} that timed out succeed after all"),
            },
            (false, _) => format!("{}, and some of the {late} that timed out after all", devices(open)),
        }
    }

    fn patience(&self) -> String {
        let least = self.least();
        match self.patient_until() {
            Some(until) if self.now < until && least < self.needed() => {
                format!("; from {until} on {} enough", are(least))
            }
            _ => String::new(),
        }
    }
}

fn are(n: u64) -> String {
    if n == 1 { "1 is".to_owned() } else { format!("{n} are") }
}

/// A length of time for people: `3 h`, `2 h 10 min`, `45 s`.
pub(crate) fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let parts = [(days, "d"), (hours, "h"), (minutes, "min")];
    let mut shown: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n} {unit}")).collect();
    if shown.is_empty() {
        shown.push(format!("{seconds} s"));
    }
    shown.truncate(2);
    shown.join(" ")
}
