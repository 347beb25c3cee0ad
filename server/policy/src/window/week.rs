//! Days of the week and times of day, as operators write them.

use chrono::{NaiveTime, Weekday};

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Mon),
    ("tue", Weekday::Tue),
    ("wed", Weekday::Wed),
    ("thu", Weekday::Thu),
    ("fri", Weekday::Fri),
    ("sat", Weekday::Sat),
    ("sun", Weekday::Sun),
];

/// A day by its name, `mon` to `sun`.
pub(crate) fn day(name: &str) -> Result<Weekday, String> {
    let found = DAYS.iter().find(|(known, _)| *known == name).map(|(_, day)| *day);
    found.ok_or_else(|| format!("{name:?} is no day; mon, tue, wed, thu, fri, sat or sun is wanted"))
}

/// Every day of the week.
pub(crate) fn every_day() -> Vec<Weekday> {
    DAYS.iter().map(|(_, day)| *day).collect()
}

/// A time of day, `HH:MM`.
pub(crate) fn time(text: &str) -> Result<NaiveTime, String> {
    let time = NaiveTime::parse_from_str(text, "%H:%M").ok();
    time.ok_or_else(|| format!("{text:?} is no time of day; HH:MM such as 02:00 is wanted"))
}

/// Days in short: `daily`, `mon-fri`, `mon,wed,sat-sun`.
pub(crate) fn in_short(days: &[Weekday]) -> String {
    let has = |n: usize| DAYS.get(n).is_some_and(|(_, day)| days.contains(day));
    let name = |n: usize| DAYS.get(n).map_or("", |(name, _)| *name);
    if (0..DAYS.len()).all(has) {
        return "daily".to_owned();
    }
    let mut parts = Vec::new();
    let mut first = 0;
    while first < DAYS.len() {
        let end = (first..DAYS.len()).find(|n| !has(*n)).unwrap_or(DAYS.len());
        match end - first {
            0 => {}
            1 => parts.push(name(first).to_owned()),
            _ => parts.push(format!("{}-{}", name(first), name(end - 1))),
        }
        first = end + 1;
    }
    parts.join(",")
}
