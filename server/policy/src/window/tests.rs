use chrono::{DateTime, NaiveDate, Offset, TimeZone};

use super::*;
use crate::fixture::at;

fn weekly(days: &[Weekday], time: &str, minutes: u64) -> Window {
    let at = NaiveTime::parse_from_str(time, "%H:%M").expect("a time of day");
    window(Start::Weekly { days: days.to_vec(), at }, minutes)
}

fn cron(text: &str, minutes: u64) -> Window {
    window(Start::Cron(text.parse().expect("a cron expression")), minutes)
}

fn window(start: Start, minutes: u64) -> Window {
    let gates = Gates { download: false, install: true };
    Window { tz: WindowTz::Site, start, duration: Duration::from_secs(minutes * 60), gates, mode: Mode::Hard }
}

const DAILY: [Weekday; 7] =
    [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri, Weekday::Sat, Weekday::Sun];

fn zoned(tz: Tz, windows: &[Window]) -> Vec<(&Window, Zone)> {
    let zone = Zone { tz, source: ZoneSource::Site, mismatch: None };
    windows.iter().map(|window| (window, zone)).collect()
}

/// What the windows say at a time: `open until ..` or `opens .. to ..`.
fn say(tz: Tz, windows: &[Window], now: &str, needed_min: u64) -> String {
    match state_at(at(now), &zoned(tz, windows), Duration::from_secs(needed_min * 60)) {
        Some(WindowState::Open { until, .. }) => format!("open until {until}"),
        Some(WindowState::Closed { opens: Some(span), .. }) => format!("opens {} to {}", span.start, span.end),
        Some(WindowState::Closed { opens: None, .. }) => "never opens".to_owned(),
        None => "no windows".to_owned(),
    }
}

const NEW_YORK: Tz = Tz::America__New_York;

#[test]
fn a_window_is_open_from_its_start_up_to_its_end() {
    let windows = [weekly(&DAILY, "02:00", 120)];
    let check = |now, wanted| assert_eq!(say(NEW_YORK, &windows, now, 0), wanted, "{now}");
    check("2026-11-23T06:59:59.999Z", "opens 2026-11-23T07:00:00Z to 2026-11-23T09:00:00Z");
    check("2026-11-23T07:00:00Z", "open until 2026-11-23T09:00:00Z");
    check("2026-11-23T08:59:59.999Z", "open until 2026-11-23T09:00:00Z");
    check("2026-11-23T09:00:00Z", "opens 2026-11-24T07:00:00Z to 2026-11-24T09:00:00Z");
}

#[test]
fn a_window_may_cross_midnight_and_the_end_of_the_week() {
    let windows = [weekly(&[Weekday::Sun], "23:00", 180)];
    let check = |now, wanted| assert_eq!(say(Tz::UTC, &windows, now, 0), wanted, "{now}");
    check("2026-11-22T22:00:00Z", "opens 2026-11-22T23:00:00Z to 2026-11-23T02:00:00Z");
    check("2026-11-23T01:30:00Z", "open until 2026-11-23T02:00:00Z");
    check("2026-11-23T02:00:00Z", "opens 2026-11-29T23:00:00Z to 2026-11-30T02:00:00Z");
}

#[test]
fn windows_that_overlap_or_touch_are_one() {
    let windows = [weekly(&DAILY, "01:00", 60), weekly(&DAILY, "02:00", 60), weekly(&DAILY, "02:30", 60)];
    let check = |now, wanted| assert_eq!(say(Tz::UTC, &windows, now, 0), wanted, "{now}");
    check("2026-11-23T00:00:00Z", "opens 2026-11-23T01:00:00Z to 2026-11-23T03:30:00Z");
    check("2026-11-23T01:30:00Z", "open until 2026-11-23T03:30:00Z");
    let closed = last_closed(at("2026-11-23T12:00:00Z"), &zoned(Tz::UTC, &windows)).map(|(span, _)| span);
    assert_eq!(closed, Some(Span { start: at("2026-11-23T01:00:00Z"), end: at("2026-11-23T03:30:00Z") }));
    let closed = last_closed(at("2026-11-23T03:00:00Z"), &zoned(Tz::UTC, &windows)).map(|(span, _)| span);
    assert_eq!(closed, Some(Span { start: at("2026-11-22T01:00:00Z"), end: at("2026-11-22T03:30:00Z") }));
    assert_eq!(say(Tz::UTC, &[weekly(&DAILY, "00:00", 1440)], "2026-11-23T00:00:00Z", 24 * 60 * 7), {
        // Always open: told as far as it is followed.
        "open until 2026-12-01T00:00:00Z"
    });
}

#[test]
fn with_too_little_time_left_the_next_long_enough_window_counts() {
    let windows = [weekly(&[Weekday::Mon], "02:00", 30), weekly(&[Weekday::Wed], "02:00", 120)];
    let check = |now, needed, wanted| assert_eq!(say(Tz::UTC, &windows, now, needed), wanted, "{now}");
    check("2026-11-23T02:10:00Z", 20, "open until 2026-11-23T02:30:00Z");
    check("2026-11-23T02:11:00Z", 20, "opens 2026-11-25T02:00:00Z to 2026-11-25T04:00:00Z");
    check("2026-11-23T01:00:00Z", 45, "opens 2026-11-25T02:00:00Z to 2026-11-25T04:00:00Z");
    check("2026-11-23T01:00:00Z", 121, "never opens");
}

#[test]
fn a_start_that_does_not_exist_moves_to_the_end_of_the_gap() {
    // New York, 2026-03-08: 02:00 EST becomes 03:00 EDT, at 07:00 UTC.
    let windows = [weekly(&DAILY, "02:30", 120)];
    let check = |now, wanted| assert_eq!(say(NEW_YORK, &windows, now, 0), wanted, "{now}");
    check("2026-03-08T06:59:00Z", "opens 2026-03-08T07:00:00Z to 2026-03-08T09:00:00Z");
    check("2026-03-08T07:00:00Z", "open until 2026-03-08T09:00:00Z");
    check("2026-03-08T09:00:00Z", "opens 2026-03-09T06:30:00Z to 2026-03-09T08:30:00Z");
}

#[test]
fn an_ambiguous_start_is_the_first_and_the_length_is_elapsed_time() {
    // New York, 2026-11-01: 02:00 EDT becomes 01:00 EST, at 06:00 UTC.
    let windows = [weekly(&DAILY, "01:30", 120)];
    let check = |now, wanted| assert_eq!(say(NEW_YORK, &windows, now, 0), wanted, "{now}");
    check("2026-11-01T05:29:00Z", "opens 2026-11-01T05:30:00Z to 2026-11-01T07:30:00Z");
    // 01:10 for the second time: the window began before it, and goes on.
    check("2026-11-01T06:10:00Z", "open until 2026-11-01T07:30:00Z");
    // 01:30 for the second time opens nothing.
    let short = [weekly(&DAILY, "01:30", 10)];
    let check = |now, wanted| assert_eq!(say(NEW_YORK, &short, now, 0), wanted, "{now}");
    check("2026-11-01T06:31:00Z", "opens 2026-11-02T06:30:00Z to 2026-11-02T06:40:00Z");
}

#[test]
fn a_day_that_a_zone_skipped_opens_at_the_next_instant() {
    // Samoa crossed the date line: 2011-12-29 was followed by 2011-12-31, at 10:00 UTC.
    let windows = [weekly(&[Weekday::Fri], "12:00", 60)];
    let check = |now, wanted| assert_eq!(say(Tz::Pacific__Apia, &windows, now, 0), wanted, "{now}");
    check("2011-12-30T09:00:00Z", "opens 2011-12-30T10:00:00Z to 2011-12-30T11:00:00Z");
}

#[test]
fn cron_starts_follow_the_same_rules() {
    let nightly = [cron("30 2 * * *", 120)];
    assert_eq!(
        say(NEW_YORK, &nightly, "2026-03-08T06:59:00Z", 0),
        "opens 2026-03-08T07:00:00Z to 2026-03-08T09:00:00Z"
    );
    let twice = [cron("30 1 * * *", 120)];
    assert_eq!(say(NEW_YORK, &twice, "2026-11-01T06:10:00Z", 0), "open until 2026-11-01T07:30:00Z");
    let weekday = [cron("0 22 * * MON-FRI", 60)];
    assert_eq!(say(Tz::UTC, &weekday, "2026-11-27T23:00:00Z", 0), "opens 2026-11-30T22:00:00Z to 2026-11-30T23:00:00Z");
    let first = [cron("0 3 1 * *", 60)];
    assert_eq!(say(Tz::UTC, &first, "2026-11-23T00:00:00Z", 0), "opens 2026-12-01T03:00:00Z to 2026-12-01T04:00:00Z");
}

#[test]
fn many_short_windows_hide_no_long_one_behind_them() {
    let long = weekly(&[Weekday::Sun], "03:00", 60);
    let short = || cron("*/10 * * * *", 5);
    let windows: Vec<Window> = [vec![long], (0..31).map(|_| short()).collect()].concat();
    let opens = "opens 2026-11-29T03:00:00Z to 2026-11-29T04:05:00Z";
    assert_eq!(say(Tz::UTC, &windows, "2026-11-23T00:00:00Z", 30), opens);
    assert_eq!(say(Tz::UTC, &windows, "2026-11-23T00:06:00Z", 5), "opens 2026-11-23T00:10:00Z to 2026-11-23T00:15:00Z");
    // What is two years away is found too.
    let rare = [cron("0 3 29 2 *", 60)];
    let leap_day = "opens 2028-02-29T03:00:00Z to 2028-02-29T04:00:00Z";
    assert_eq!(say(Tz::UTC, &rare, "2026-11-23T00:00:00Z", 30), leap_day);
    assert_eq!(say(Tz::UTC, &[rare.to_vec(), vec![short()]].concat(), "2026-11-23T00:00:00Z", 30), "never opens");
}

#[test]
fn openings_that_lead_into_each_other_are_one() {
    let minutes = [cron("* 2-3 * * *", 1)];
    let check = |windows: &[Window], now, wanted| assert_eq!(say(NEW_YORK, windows, now, 0), wanted, "{now}");
    check(&minutes, "2026-11-23T07:00:30Z", "open until 2026-11-23T09:00:00Z");
    check(&minutes, "2026-11-23T09:00:00Z", "opens 2026-11-24T07:00:00Z to 2026-11-24T09:00:00Z");
    let gaps = [cron("0,20,50 2 * * *", 20)];
    check(&gaps, "2026-11-23T07:00:00Z", "open until 2026-11-23T07:40:00Z");
    check(&gaps, "2026-11-23T07:45:00Z", "opens 2026-11-23T07:50:00Z to 2026-11-23T08:10:00Z");
    // New York, 2026-11-01: 01:00 to 02:00 comes twice, and opens the first time only.
    let day = [cron("* * * * *", 1)];
    check(&day, "2026-11-01T05:30:00Z", "open until 2026-11-01T06:00:00Z");
    check(&day, "2026-11-01T06:30:00Z", "opens 2026-11-01T07:00:00Z to 2026-11-10T05:00:00Z");
    assert_eq!(day[0].start.openings_a_day(day[0].duration), 1);
    assert_eq!(gaps[0].start.openings_a_day(gaps[0].duration), 2);
}

#[test]
fn cron_expressions_have_five_fields() {
    for bad in ["", "* * * *", "0 0 2 * * *", "@daily", "61 * * * *", "a b c d e"] {
        assert!(bad.parse::<CronStart>().is_err(), "{bad}");
    }
    assert_eq!("0  2 *\t* 1-5".parse::<CronStart>().expect("five").to_string(), "0 2 * * 1-5");
    assert!(!Start::Cron("0 0 30 2 *".parse().expect("five")).ever_opens());
    assert!(Start::Cron("0 0 29 2 *".parse().expect("five")).ever_opens());
}

#[test]
fn the_zone_is_the_sites_or_the_labels_or_the_devices_or_the_default() {
    let now = at("2026-11-23T12:00:00Z");
    let mut device = crate::fixture::till(1);
    let zone = |device: &crate::device::Device| zone_of(WindowTz::Site, device, Tz::UTC, now).to_string();
    device.tz = Some(Tz::America__Chicago);
    device.labels.insert("tz".to_owned(), "Europe/Berlin".to_owned());
    assert_eq!(zone(&device), "America/New_York, the site's zone (the device reports America/Chicago)");
    device.tz = Some(Tz::US__Eastern);
    assert_eq!(zone(&device), "America/New_York, the site's zone", "the same clock is no mismatch");
    device.site_tz = None;
    assert_eq!(zone(&device), "Europe/Berlin, the zone of label tz");
    device.labels.insert("tz".to_owned(), "Berlin".to_owned());
    assert_eq!(zone(&device), "US/Eastern, the zone the device reports");
    device.tz = None;
    assert_eq!(zone(&device), "UTC, the rollout's default zone");
    let named = zone_of(WindowTz::Zone(NEW_YORK), &device, Tz::UTC, now).to_string();
    assert_eq!(named, "America/New_York, the window's zone");
}

mod across_clock_changes {
    use chrono_tz::TZ_VARIANTS;
    use proptest::prelude::*;

    use super::*;

    /// Every opening of a weekly window between two instants, found the slow way: day by day, minute by minute.
    fn openings(tz: Tz, days: &[Weekday], at: NaiveTime, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
        use chrono::Datelike;
        let first = from.utc().date_naive() - chrono::Days::new(3);
        let dates = first.iter_days().take_while(|date| *date <= to.utc().date_naive() + chrono::Days::new(3));
        let faces = dates.filter(|date| days.contains(&date.weekday())).map(|date: NaiveDate| date.and_time(at));
        faces.filter_map(|face| first_instant(tz, face)).filter(|at| (from..=to).contains(at)).collect()
    }

    /// The first whole minute at which the local clock shows `face` or, coming from before it, something later.
    fn first_instant(tz: Tz, face: chrono::NaiveDateTime) -> Option<Timestamp> {
        let shows = |at: DateTime<chrono::Utc>| at.naive_utc() + tz.offset_from_utc_datetime(&at.naive_utc()).fix();
        let around = face.and_utc();
        let mut minute = around - chrono::Duration::hours(50);
        while shows(minute) < face {
            minute += chrono::Duration::minutes(1);
        }
        Some(minute.into())
    }

    /// Instants near a change of clocks, or anywhere if the zone has none soon.
    fn near_change(tz: Tz, from: i64, nudge_s: i64) -> Timestamp {
        let offset = |s: i64| {
            let at = DateTime::from_timestamp(s, 0).expect("a time").naive_utc();
            tz.offset_from_utc_datetime(&at).fix().local_minus_utc()
        };
        let (mut low, step) = (from, 86_400);
        for _ in 0..400 {
            if offset(low) != offset(low + step) {
                let mut high = low + step;
                while high - low > 1 {
                    let middle = low + (high - low) / 2;
                    if offset(middle) == offset(low) { low = middle } else { high = middle }
                }
                return Timestamp::from_millis((high + nudge_s) * 1000);
            }
            low += step;
        }
        Timestamp::from_millis((from + nudge_s) * 1000)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn a_weekly_window_is_what_a_search_by_minutes_finds(
            zone in 0..TZ_VARIANTS.len(),
            // 1995 to 2034: offsets in whole minutes everywhere but in Liberia, which had them in 1972.
            from in 788_918_400i64..2_019_686_400,
            nudge_s in prop_oneof![-8_000i64..8_000, -100_000i64..100_000],
            days in proptest::sample::subsequence(DAILY.to_vec(), 1..=7),
            minute in 0u32..1440,
            minutes in 1u64..3000,
        ) {
            let tz = TZ_VARIANTS[zone];
            let now = near_change(tz, from, nudge_s);
            let time = NaiveTime::from_hms_opt(minute / 60, minute % 60, 0).expect("a time of day");
            let windows = [window(Start::Weekly { days: days.clone(), at: time }, minutes)];
            let length = Duration::from_secs(minutes * 60);
            let day = Duration::from_secs(86_400);
            let slow = openings(tz, &days, time, now - length - day * 2, now + day * 10);
            let open = slow.iter().any(|start| *start <= now && now < *start + length);
            let next = slow.iter().find(|start| **start > now);
            match state_at(now, &zoned(tz, &windows), Duration::ZERO) {
                Some(WindowState::Open { until, .. }) => {
                    prop_assert!(open);
                    // Elapsed time: as long as the window if nothing overlaps it.
                    let last = slow.iter().rev().find(|start| **start <= now).expect("open");
                    prop_assert!(until >= *last + length);
                    if next.is_none_or(|next| *next > *last + length) {
                        prop_assert_eq!(until, *last + length);
                    }
                }
                Some(WindowState::Closed { opens: Some(span), .. }) => {
                    prop_assert!(!open);
                    prop_assert_eq!(Some(&span.start), next);
                    prop_assert!(span.end >= span.start + length);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn cron_and_days_agree(
            zone in 0..TZ_VARIANTS.len(),
            from in 788_918_400i64..2_019_686_400,
            nudge_s in prop_oneof![-8_000i64..8_000, -100_000i64..100_000],
            day in 0usize..7,
            minute in 0u32..1440,
            minutes in 1u64..3000,
        ) {
            let tz = TZ_VARIANTS[zone];
            let now = near_change(tz, from, nudge_s);
            let time = format!("{:02}:{:02}", minute / 60, minute % 60);
            let by_days = [weekly(&[DAILY[day]], &time, minutes)];
            let by_cron = [cron(&format!("{} {} * * {}", minute % 60, minute / 60, (day + 1) % 7), minutes)];
            prop_assert_eq!(
                state_at(now, &zoned(tz, &by_days), Duration::ZERO),
                state_at(now, &zoned(tz, &by_cron), Duration::ZERO)
            );
            prop_assert_eq!(last_closed(now, &zoned(tz, &by_days)), last_closed(now, &zoned(tz, &by_cron)));
        }
    }
}
