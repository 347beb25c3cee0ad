use std::time::Duration;

use chrono::Timelike;

use super::*;
use crate::fixture::at;

const NEW_YORK: Tz = Tz::America__New_York;

/// `mon-fri` is not understood here: days are a list, as on the wire.
fn spec(days: &str, opens: &str, closes: &str) -> HoursSpec {
    let days = days.split(',').filter(|day| !day.is_empty()).map(str::to_owned).collect();
    HoursSpec { days, opens: opens.to_owned(), closes: closes.to_owned() }
}

fn hours(specs: &[(&str, &str, &str)]) -> TradingHours {
    let specs: Vec<_> = specs.iter().map(|(days, opens, closes)| spec(days, opens, closes)).collect();
    TradingHours::read(&specs).expect("hours")
}

fn say(hours: &TradingHours, tz: Tz, now: &str) -> String {
    match hours.at(at(now), tz) {
        Trading::Open { since, until: Some(until) } => format!("open {since} to {until}"),
        Trading::Open { until: None, .. } => "always open".to_owned(),
        Trading::Closed { opens: Some(opens), .. } => format!("opens {opens}"),
        Trading::Closed { opens: None, .. } => "never opens".to_owned(),
    }
}

#[test]
fn a_shop_is_open_from_its_opening_up_to_its_closing() {
    let hours = hours(&[("mon,tue,wed,thu,fri,sat", "08:00", "20:00")]);
    let check = |now, wanted| assert_eq!(say(&hours, NEW_YORK, now), wanted, "{now}");
    check("2026-11-23T12:59:59.999Z", "opens 2026-11-23T13:00:00Z");
    check("2026-11-23T13:00:00Z", "open 2026-11-23T13:00:00Z to 2026-11-24T01:00:00Z");
    check("2026-11-24T00:59:59.999Z", "open 2026-11-23T13:00:00Z to 2026-11-24T01:00:00Z");
    check("2026-11-24T01:00:00Z", "opens 2026-11-24T13:00:00Z");
    // Saturday evening: closed on Sunday.
    check("2026-11-29T01:00:00Z", "opens 2026-11-30T13:00:00Z");
    assert_eq!(hours.to_string(), "mon-sat 08:00-20:00");
}

#[test]
fn a_bar_trades_over_midnight_and_the_end_of_the_week() {
    let hours = hours(&[("sun", "18:00", "02:00")]);
    let check = |now, wanted| assert_eq!(say(&hours, Tz::UTC, now), wanted, "{now}");
    check("2026-11-22T17:00:00Z", "opens 2026-11-22T18:00:00Z");
    check("2026-11-23T01:59:00Z", "open 2026-11-22T18:00:00Z to 2026-11-23T02:00:00Z");
    check("2026-11-23T02:00:00Z", "opens 2026-11-29T18:00:00Z");
}

#[test]
fn spans_that_overlap_or_touch_are_one() {
    let hours = hours(&[("mon", "08:00", "12:00"), ("mon", "12:00", "24:00"), ("tue", "00:00", "01:00")]);
    assert_eq!(say(&hours, Tz::UTC, "2026-11-23T12:00:00Z"), "open 2026-11-23T08:00:00Z to 2026-11-24T01:00:00Z");
    assert_eq!(hours.to_string(), "mon 08:00-12:00; mon 12:00-24:00; tue 00:00-01:00");
}

#[test]
fn a_shop_that_never_closes_is_always_open_and_one_without_hours_never() {
    let always = hours(&[("", "00:00", "24:00")]);
    assert_eq!(say(&always, NEW_YORK, "2026-11-23T12:00:00Z"), "always open");
    assert_eq!(always.to_string(), "daily 00:00-24:00");
    assert_eq!(say(&TradingHours::default(), NEW_YORK, "2026-11-23T12:00:00Z"), "never opens");
    // A week of trading with one free hour is not always.
    let nearly = hours(&[("mon,tue,wed,thu,fri,sat", "00:00", "24:00"), ("sun", "01:00", "24:00")]);
    assert_eq!(say(&nearly, Tz::UTC, "2026-11-22T01:00:00Z"), "open 2026-11-22T01:00:00Z to 2026-11-29T00:00:00Z");
}

#[test]
fn of_two_readings_of_a_time_the_longer_one_holds() {
    // New York, 2026-11-01: 02:00 EDT becomes 01:00 EST, at 06:00 UTC.
    let night = hours(&[("", "22:00", "01:30")]);
    assert_eq!(say(&night, NEW_YORK, "2026-11-01T06:10:00Z"), "open 2026-11-01T02:00:00Z to 2026-11-01T06:30:00Z");
    let early = hours(&[("", "01:30", "03:00")]);
    assert_eq!(say(&early, NEW_YORK, "2026-11-01T06:10:00Z"), "open 2026-11-01T05:30:00Z to 2026-11-01T08:00:00Z");
}

#[test]
fn a_time_that_does_not_exist_is_the_end_of_the_gap() {
    // New York, 2026-03-08: 02:00 EST becomes 03:00 EDT, at 07:00 UTC.
    let early = hours(&[("sun", "02:30", "06:00")]);
    assert_eq!(say(&early, NEW_YORK, "2026-03-08T07:00:00Z"), "open 2026-03-08T07:00:00Z to 2026-03-08T10:00:00Z");
    let night = hours(&[("sat", "22:00", "02:30")]);
    assert_eq!(say(&night, NEW_YORK, "2026-03-08T06:59:00Z"), "open 2026-03-08T03:00:00Z to 2026-03-08T07:00:00Z");
    let swallowed = hours(&[("sun", "02:10", "02:50")]);
    assert_eq!(say(&swallowed, NEW_YORK, "2026-03-08T06:59:00Z"), "opens 2026-03-15T06:10:00Z");
}

#[test]
fn what_is_wrong_is_said() {
    let refused = |days, opens, closes| TradingHours::read(&[spec(days, opens, closes)]).expect_err("refused");
    assert_eq!(
        refused("monday", "08:00", "20:00"),
        "span 1: \"monday\" is no day; mon, tue, wed, thu, fri, sat or sun is wanted"
    );
    assert_eq!(refused("", "8 am", "20:00"), "span 1: \"8 am\" is no time of day; HH:MM such as 02:00 is wanted");
    assert_eq!(refused("", "24:00", "20:00"), "span 1: \"24:00\" is no time of day; HH:MM such as 02:00 is wanted");
    assert_eq!(refused("", "08:00", "08:00"), "span 1: it ends when it begins; a whole day is 00:00 to 24:00");
    let many = vec![spec("", "08:00", "20:00"); 33];
    assert_eq!(TradingHours::read(&many), Err("there are 33 spans; at most 32 are allowed".to_owned()));
}

mod by_the_clock_on_the_wall {
    use chrono::{Offset, TimeZone};
    use chrono_tz::TZ_VARIANTS;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        /// Whoever looks at the clock in the shop and at the sign on its door knows the same, but for the hours that
        /// clocks repeat or leave out.
        #[test]
        fn open_is_what_the_sign_on_the_door_says(
            zone in 0..TZ_VARIANTS.len(),
            // 1995 to 2034: offsets in whole minutes.
            from in 788_918_400i64..2_019_686_400,
            days in proptest::sample::subsequence(vec!["mon", "tue", "wed", "thu", "fri", "sat", "sun"], 1..=7),
            opens in 0u32..1440,
            length in 1u32..1440,
        ) {
            let tz = TZ_VARIANTS[zone];
            let now = Timestamp::from_millis(from * 1000);
            let offset = |at: Timestamp| tz.offset_from_utc_datetime(&at.utc().naive_utc()).fix();
            let day = Duration::from_secs(86_400);
            prop_assume!((0..10).all(|n| offset(now) == offset(now + day * n) && offset(now) == offset(now - day * n)));
            let text = |minute: u32| format!("{:02}:{:02}", minute / 60 % 24, minute % 60);
            let hours = TradingHours::read(&[spec(&days.join(","), &text(opens), &text(opens + length))]).expect("hours");
            let trades = |at: Timestamp| {
                let face = start::local(tz, at).expect("a face");
                let minute = face.time().num_seconds_from_midnight() / 60;
                let on = |date: NaiveDate| days.contains(&week::in_short(&[date.weekday()]).as_str());
                let today = on(face.date()) && (opens..opens + length).contains(&minute);
                let since_yesterday = on(face.date().pred_opt().expect("a day")) && minute + 1440 < opens + length;
                today || since_yesterday
            };
            match hours.at(now, tz) {
                Trading::Open { since, until } => {
                    prop_assert!(trades(now) && trades(since) && !trades(since - Duration::from_secs(1)));
                    let until = until.expect("there is a pause every day");
                    prop_assert!(now < until && !trades(until) && trades(until - Duration::from_secs(1)));
                }
                Trading::Closed { since, opens } => {
                    let since = since.expect("at least once a week");
                    prop_assert!(since <= now && !trades(since) && trades(since - Duration::from_secs(1)));
                    prop_assert!(now.since(since) <= day * 8);
                    let opens = opens.expect("at least once a week");
                    prop_assert!(!trades(now) && trades(opens) && !trades(opens - Duration::from_secs(1)));
                    prop_assert!(opens.since(now) <= day * 8);
                }
            }
        }
    }
}
