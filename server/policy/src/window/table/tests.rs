use callboard_proto::time::Timestamp;
use chrono::{NaiveTime, Weekday};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;
use crate::{
    fixture::at,
    openings::Openings,
    window::{Clock, Gates, Restricting, Start, week},
};

fn window(start: Start, minutes: u64) -> Window {
    Window {
        tz: WindowTz::Site,
        start,
        duration: Duration::from_secs(minutes * 60),
        gates: Gates { download: false, install: true },
        mode: crate::window::Mode::BestEffort,
    }
}

fn weekly(days: Vec<Weekday>, minute: u32) -> Start {
    let at = NaiveTime::from_num_seconds_from_midnight_opt(minute * 60, 0).expect("a time of day");
    Start::Weekly { days, at }
}

fn any_start() -> impl Strategy<Value = Start> {
    let cron = |text: &str| Start::Cron(text.parse().expect("cron"));
    prop_oneof![
        (1u8..128, 0u32..1440).prop_map(|(mask, minute)| {
            let days = week::every_day().into_iter().enumerate().filter(|(n, _)| mask & (1 << n) != 0);
            weekly(days.map(|(_, day)| day).collect(), minute)
        }),
        prop::sample::select(vec![
            cron("0 2 * * 1-5"),
            cron("30 */4 * * *"),
            cron("15,45 1-3 * * *"),
            cron("*/20 0 1,15 * *"),
            cron("0 3 2,9 * *"),
        ]),
    ]
}

/// Days around which clocks change somewhere, and one on which none does.
fn any_base() -> impl Strategy<Value = Timestamp> {
    let days = ["2026-03-08", "2026-03-29", "2026-10-25", "2026-11-01", "2026-04-05", "2026-06-10"];
    prop::sample::select(days.map(|day| at(&format!("{day}T00:00:00Z"))).to_vec())
}

fn minutes(n: u32) -> Duration {
    Duration::from_secs(u64::from(n) * 60)
}

proptest! {
    #[test]
    fn a_table_says_what_the_windows_say(
        starts in prop::collection::vec((any_start(), 1u64..2000), 1..4),
        tz in prop::sample::select(vec![
            Tz::America__New_York, Tz::Europe__Berlin, Tz::Australia__Lord_Howe, Tz::America__Havana, Tz::UTC,
        ]),
        base in any_base(),
        asked in prop::collection::vec((0u32..3 * 1440, prop_oneof![Just(0u32), 0u32..900]), 20),
    ) {
        let windows: Vec<Window> = starts.into_iter().map(|(start, minutes)| window(start, minutes)).collect();
        let tables = Tables::of(&windows, &[tz], base, None);
        let followed = Restricting::of(&windows, Gate::Install, Clock::site(tz), Tz::UTC);
        let looked_up = followed.with(&tables);
        let both = [looked_up, followed].map(|windows| Openings { windows, ..Openings::default() });
        for (after, needed) in asked {
            // Before and after what it covers, too.
            let now = base - minutes(720) + minutes(after);
            let needed = minutes(needed);
            let [one, other] = both.each_ref().map(|openings| {
                let windows = &openings.windows;
                let (at, before) = (windows.at(now, needed), windows.before(now));
                (at, before, windows.lenient_before(now), windows.began(now), openings.next(now, needed))
            });
            prop_assert_eq!(one, other);
        }
    }
}

#[test]
fn ordinary_nights_have_a_table_and_what_is_open_for_days_has_none() {
    let now = at("2026-11-01T00:00:00Z");
    let tz = Tz::America__New_York;
    let table = |windows: &[Window]| Tables::of(windows, &[tz], now, None).get(Gate::Install, tz).cloned();
    let night = || window(weekly(week::every_day(), 120), 180);
    let made = table(&[night()]).expect("a table");
    let standing = made.at(at("2026-11-01T08:00:00Z")).expect("it is covered");
    // The night in which the hour from one to two came twice.
    assert_eq!(standing.open, Some(Span { start: at("2026-11-01T07:00:00Z"), end: at("2026-11-01T10:00:00Z") }));
    assert_eq!(made.at(now + FORESEEN), None, "it reaches not farther");
    assert_eq!(table(&[window(weekly(week::every_day(), 0), 1440)]), None);
    let other_clock = Window { tz: WindowTz::Zone(Tz::UTC), ..night() };
    assert_eq!(table(&[night(), other_clock]), None);
    assert!(Tables::of(&[night()], &[tz], now, None).get(Gate::Download, tz).is_none(), "they do not restrict it");
}

#[test]
fn tables_are_kept_while_they_reach_far_enough_and_zones_are_added() {
    let (now, windows) = (at("2026-11-01T00:00:00Z"), [window(weekly(week::every_day(), 120), 180)]);
    let (first, second) = (Tz::America__New_York, Tz::Europe__Berlin);
    let of = |zones: &[Tz], now, before: &Arc<Tables>| Tables::of(&windows, zones, now, Some(before));
    let one = Tables::of(&windows, &[first], now, None);
    assert!(Arc::ptr_eq(&one, &of(&[first], now + FORESEEN / 2, &one)));
    let both = of(&[first, second], now + FORESEEN / 2, &one);
    assert_eq!(both.get(Gate::Install, first), one.get(Gate::Install, first));
    assert!(both.get(Gate::Install, second).is_some() && one.get(Gate::Install, second).is_none());
    let later = of(&[first, second], now + FORESEEN, &both);
    let asked = now + FORESEEN + FORESEEN / 2;
    assert!(later.get(Gate::Install, first).is_some_and(|table| table.at(asked).is_some()));
    let back = of(&[first], now - FORESEEN, &later);
    assert!(back.get(Gate::Install, first).is_some_and(|table| table.at(now - FORESEEN).is_some()), "a clock set back");
}
