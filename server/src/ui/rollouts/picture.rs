//! The burn-up picture: how many devices were done with a rollout by when, drawn here, with the same numbers as a table.

use std::fmt::Write as _;

use callboard_policy::forecast::Hour;
use callboard_proto::time::Timestamp;

const HOUR_MS: i64 = 3_600_000;
/// Size of the picture, in units of its own.
const WIDTH: i64 = 600;
const HEIGHT: i64 = 140;
/// Rows of the table: two days of a busy rollout.
const ROWS: usize = 48;

/// What is drawn.
pub(super) struct Picture {
    /// The line of those that are done, as points of a polyline.
    pub(super) line: String,
    /// The area below it, as a path.
    pub(super) area: String,
    /// How high the goal lies.
    pub(super) goal: i64,
    pub(super) width: i64,
    pub(super) height: i64,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    /// Hours with what was done in each and by its end, newest first.
    pub(super) rows: Vec<(Timestamp, u32, u64)>,
    pub(super) done: u64,
    pub(super) wanted: u64,
}

/// Draws `hours`, of which the last ends at `now`; `done` of `wanted` devices are done by then.
pub(super) fn draw(hours: &[Hour], done: u64, wanted: u64, since: Timestamp, now: Timestamp) -> Option<Picture> {
    let first = hours.first()?;
    let counted: u64 = hours.iter().map(|hour| u64::from(hour.done)).sum();
    let mut sum = done.saturating_sub(counted);
    let from = if first.start > since { since } else { first.start };
    let length = (now.millis() - from.millis()).max(HOUR_MS);
    let top = i64::try_from(wanted.max(done).max(1)).unwrap_or(i64::MAX);
    let x = |at: i64| ((at - from.millis()).clamp(0, length)) * WIDTH / length;
    let y = |n: u64| HEIGHT - i64::try_from(n).unwrap_or(i64::MAX).saturating_mul(HEIGHT - 4) / top;
    let mut line = format!("0,{}", y(sum));
    let mut rows = Vec::new();
    for hour in hours {
        // Writing to a text cannot fail.
        let _ = write!(line, " {},{}", x(hour.start.millis()), y(sum));
        sum = sum.saturating_add(hour.done.into());
        let _ = write!(line, " {},{}", x((hour.start.millis() + HOUR_MS).min(now.millis())), y(sum));
        rows.push((hour.start, hour.done, sum));
    }
    let _ = write!(line, " {WIDTH},{}", y(sum));
    rows.reverse();
    rows.truncate(ROWS);
    let area = format!("M{} L{WIDTH},{HEIGHT} L0,{HEIGHT} Z", line.replace(' ', " L"));
    Some(Picture { line, area, goal: y(wanted), width: WIDTH, height: HEIGHT, from, to: now, rows, done, wanted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_rises_to_what_is_done() {
        let at = |hour: i64| Timestamp::from_millis(hour * HOUR_MS);
        let hours = [Hour { start: at(1), done: 2 }, Hour { start: at(3), done: 3 }];
        let picture = draw(&hours, 6, 10, at(0), at(4)).expect("something to draw");
        assert_eq!(picture.line, "0,127 150,127 300,100 450,100 600,59 600,59");
        assert_eq!((picture.goal, picture.rows.len()), (4, 2));
        assert_eq!(picture.rows[0], (at(3), 3, 6));
        assert!(draw(&[], 0, 10, at(0), at(4)).is_none());
    }
}
