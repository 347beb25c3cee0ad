//! When something may be done, everything taken together: inside the windows, and outside of what forbids it.

use std::time::Duration;

use callboard_proto::time::Timestamp;
use chrono_tz::Tz;

use crate::{
    trading::{Trading, TradingHours},
    window::{Restricting, Span, WindowState},
};

/// Steps from one obstacle to the next before giving up: two months of nights that are all forbidden. What comes later
/// than that is found when it is nearer.
const MAX_STEPS: usize = 128;

/// Everything that says when.
#[derive(Clone, Debug, Default)]
pub struct Openings<'a> {
    /// Only inside these; none means always.
    pub windows: Restricting<'a>,
    /// Not while the site trades.
    pub trading: Option<(&'a TradingHours, Tz)>,
    /// Not in these.
    pub freezes: Vec<Span>,
}

/// A stretch in which nothing is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// First instant; the one that was asked for, if it lies in the stretch.
    pub start: Timestamp,
    /// First instant after it; `None` if nothing ends it.
    pub end: Option<Timestamp>,
}

impl Opening {
    /// The same with an end: devices that wait for something without one come back within a day of it.
    pub fn span(self) -> Span {
        Span { start: self.start, end: self.end.unwrap_or(self.start + Duration::from_secs(86_400)) }
    }
}

impl Openings<'_> {
    /// The first stretch at or after `from` that has `needed` left in it; `None` if none comes soon.
    pub fn next(&self, from: Timestamp, needed: Duration) -> Option<Opening> {
        let mut at = from;
        for _ in 0..MAX_STEPS {
            match self.around(at, needed) {
                Ok(end) if end.is_none_or(|end| at + needed <= end) => return Some(Opening { start: at, end }),
                Ok(end) => at = end?,
                Err(later) => at = later?,
            }
        }
        None
    }

    /// The same where windows count only up to `deadline`, if there is one.
    pub fn next_until(&self, deadline: Option<Timestamp>, from: Timestamp, needed: Duration) -> Option<Opening> {
        let Some(deadline) = deadline.filter(|_| !self.windows.is_empty()) else {
            return self.next(from, needed);
        };
        let freed = self.without_windows().next(deadline.max(from), needed);
        let before = (from < deadline).then(|| self.next(from, needed)).flatten();
        match before.filter(|opening| opening.start < deadline) {
            // It goes on where the window would have closed.
            Some(opening) if opening.end.is_some_and(|end| end >= deadline) => {
                let goes_on = freed.filter(|freed| freed.start == deadline);
                Some(Opening { end: goes_on.map_or(opening.end, |freed| freed.end), ..opening })
            }
            Some(opening) => Some(opening),
            None => freed,
        }
    }

    fn without_windows(&self) -> Self {
        Self { windows: Restricting::default(), ..self.clone() }
    }

    /// The end of the stretch that holds `at`, or when to look again.
    fn around(&self, at: Timestamp, needed: Duration) -> Result<Option<Timestamp>, Option<Timestamp>> {
        if let Some(end) = self.frozen(at).map(|span| span.end) {
            return Err(Some(end));
        }
        let trading = self.trading.map(|(hours, tz)| hours.at(at, tz));
        let begins = match trading {
            Some(Trading::Open { until, .. }) => return Err(until),
            Some(Trading::Closed { opens, .. }) => opens,
            None => None,
        };
        let closes = match self.windows.at(at, needed) {
            Some(WindowState::Closed { opens, .. }) => return Err(opens.map(|span| span.start)),
            Some(WindowState::Open { until, .. }) => Some(until),
            None => None,
        };
        Ok([begins, closes, self.freezes_from(at)].into_iter().flatten().min())
    }

    /// Since when nothing has been in the way, if nothing is at `at`; `None` if nothing ever was, as far back as one looks.
    pub fn began(&self, at: Timestamp) -> Option<Timestamp> {
        let window = self.windows.began(at);
        let closed = match self.trading.map(|(hours, tz)| hours.at(at, tz)) {
            Some(Trading::Closed { since, .. }) => since,
            _ => None,
        };
        let thawed = self.freezes.iter().map(|span| span.end).filter(|end| *end <= at).max();
        [window, closed, thawed].into_iter().flatten().max()
    }

    /// The freeze in force at `at`; of several, the one that ends last.
    pub fn frozen(&self, at: Timestamp) -> Option<Span> {
        self.freezes.iter().filter(|span| span.start <= at && at < span.end).max_by_key(|span| span.end).copied()
    }

    /// When the next freeze begins.
    pub fn freezes_from(&self, at: Timestamp) -> Option<Timestamp> {
        self.freezes.iter().map(|span| span.start).filter(|start| *start > at).min()
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveTime;

    use super::*;
    use crate::{
        fixture::at,
        trading::HoursSpec,
        window::{Clock, Gate, Gates, Mode, Start, Window, WindowTz, week},
    };

    fn window(time: &str, minutes: u64) -> Window {
        let at = NaiveTime::parse_from_str(time, "%H:%M").expect("a time of day");
        Window {
            tz: WindowTz::Zone(Tz::UTC),
            start: Start::Weekly { days: week::every_day(), at },
            duration: Duration::from_secs(minutes * 60),
            gates: Gates { download: false, install: true },
            mode: Mode::Hard,
        }
    }

    fn hours(opens: &str, closes: &str) -> TradingHours {
        let spec = HoursSpec { days: Vec::new(), opens: opens.to_owned(), closes: closes.to_owned() };
        TradingHours::read(&[spec]).expect("hours")
    }

    fn say(windows: &[Window], hours: Option<&TradingHours>, now: &str, needed_min: u64) -> String {
        say_frozen(windows, hours, &[], now, needed_min)
    }

    fn say_frozen(
        windows: &[Window],
        hours: Option<&TradingHours>,
        freezes: &[Span],
        now: &str,
        needed_min: u64,
    ) -> String {
        let openings = Openings {
            windows: Restricting::of(windows, Gate::Install, Clock::site(Tz::UTC), Tz::UTC),
            trading: hours.map(|hours| (hours, Tz::UTC)),
            freezes: freezes.to_vec(),
        };
        match openings.next(at(now), Duration::from_secs(needed_min * 60)) {
            Some(Opening { start, end: Some(end) }) => format!("{start} to {end}"),
            Some(Opening { start, end: None }) => format!("{start} for ever"),
            None => "never".to_owned(),
        }
    }

    #[test]
    fn without_anything_in_the_way_it_is_always_open() {
        assert_eq!(say(&[], None, "2026-11-23T12:00:00Z", 600), "2026-11-23T12:00:00Z for ever");
    }

    #[test]
    fn trading_cuts_a_window() {
        let (night, day) = ([window("02:00", 240)], hours("05:00", "22:00"));
        let check = |now, needed, wanted| assert_eq!(say(&night, Some(&day), now, needed), wanted, "{now}");
        check("2026-11-23T00:00:00Z", 0, "2026-11-23T02:00:00Z to 2026-11-23T05:00:00Z");
        check("2026-11-23T03:00:00Z", 120, "2026-11-23T03:00:00Z to 2026-11-23T05:00:00Z");
        check("2026-11-23T03:00:00Z", 121, "2026-11-24T02:00:00Z to 2026-11-24T05:00:00Z");
        check("2026-11-23T05:00:00Z", 0, "2026-11-24T02:00:00Z to 2026-11-24T05:00:00Z");
    }

    #[test]
    fn a_window_may_open_while_the_shop_trades_and_is_used_from_its_closing_on() {
        let late = [window("21:00", 120)];
        let check = |now, wanted| assert_eq!(say(&late, Some(&hours("08:00", "22:00")), now, 15), wanted, "{now}");
        check("2026-11-23T12:00:00Z", "2026-11-23T22:00:00Z to 2026-11-23T23:00:00Z");
        check("2026-11-23T22:50:00Z", "2026-11-24T22:00:00Z to 2026-11-24T23:00:00Z");
    }

    #[test]
    fn a_window_that_lies_in_trading_hours_never_comes() {
        let noon = [window("12:00", 60)];
        assert_eq!(say(&noon, Some(&hours("08:00", "22:00")), "2026-11-23T00:00:00Z", 0), "never");
        assert_eq!(say(&[], Some(&hours("00:00", "24:00")), "2026-11-23T00:00:00Z", 0), "never");
    }

    #[test]
    fn short_windows_do_not_hide_the_night() {
        let short = Window { start: Start::Cron("*/10 * * * *".parse().expect("cron")), ..window("00:00", 5) };
        let windows = [short, window("23:00", 60)];
        let check = |needed, wanted| {
            let found = say(&windows, Some(&hours("08:00", "20:00")), "2026-11-23T08:00:00Z", needed);
            assert_eq!(found, wanted);
        };
        check(5, "2026-11-23T20:00:00Z to 2026-11-23T20:05:00Z");
        check(30, "2026-11-23T23:00:00Z to 2026-11-24T00:05:00Z");
    }

    #[test]
    fn from_the_deadline_on_windows_do_not_count_and_trading_hours_do() {
        let (night, day) = ([window("02:00", 120)], hours("08:00", "20:00"));
        let openings = Openings {
            windows: Restricting::of(&night, Gate::Install, Clock::site(Tz::UTC), Tz::UTC),
            trading: Some((&day, Tz::UTC)),
            freezes: Vec::new(),
        };
        let say = |deadline: &str, from: &str| match openings.next_until(Some(at(deadline)), at(from), Duration::ZERO) {
            Some(Opening { start, end: Some(end) }) => format!("{start} to {end}"),
            other => format!("{other:?}"),
        };
        let deadline = "2026-11-24T03:00:00Z";
        assert_eq!(say(deadline, "2026-11-23T01:00:00Z"), "2026-11-23T02:00:00Z to 2026-11-23T04:00:00Z");
        assert_eq!(say(deadline, "2026-11-23T05:00:00Z"), "2026-11-24T02:00:00Z to 2026-11-24T08:00:00Z");
        assert_eq!(say(deadline, "2026-11-24T05:00:00Z"), "2026-11-24T05:00:00Z to 2026-11-24T08:00:00Z");
        assert_eq!(say("2026-11-24T00:00:00Z", "2026-11-23T05:00:00Z"), "2026-11-24T00:00:00Z to 2026-11-24T08:00:00Z");
        assert_eq!(say("2026-11-23T12:00:00Z", "2026-11-23T05:00:00Z"), "2026-11-23T20:00:00Z to 2026-11-24T08:00:00Z");
    }

    #[test]
    fn freezes_are_left_out_and_end_a_stretch() {
        let span = |from: &str, to: &str| Span { start: at(from), end: at(to) };
        // Two that overlap.
        let freezes = [
            span("2026-11-24T00:00:00Z", "2026-11-26T00:00:00Z"),
            span("2026-11-25T00:00:00Z", "2026-12-24T02:30:00Z"),
        ];
        let check = |now, needed, wanted| {
            let (night, day) = ([window("02:00", 120)], hours("03:30", "22:00"));
            assert_eq!(say_frozen(&night, Some(&day), &freezes, now, needed), wanted, "{now}");
        };
        check("2026-11-24T02:00:00Z", 0, "2026-12-24T02:30:00Z to 2026-12-24T03:30:00Z");
        check("2026-11-24T02:00:00Z", 61, "2026-12-25T02:00:00Z to 2026-12-25T03:30:00Z");
        let always = |now, needed| say_frozen(&[], None, &freezes, now, needed);
        assert_eq!(always("2026-11-23T23:00:00Z", 60), "2026-11-23T23:00:00Z to 2026-11-24T00:00:00Z");
        assert_eq!(always("2026-11-23T23:00:00Z", 61), "2026-12-24T02:30:00Z for ever");
    }
}
