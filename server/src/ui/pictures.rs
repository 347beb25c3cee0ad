//! Pictures that are drawn here, as SVG that takes its colours from the stylesheet. Whoever does not see them has the table
//! that stands behind each.

use std::fmt::Write as _;

use callboard_proto::time::Timestamp;

/// Width and height of what is drawn in, without the words around it.
const WIDTH: u64 = 600;
const HEIGHT: u64 = 120;
/// Room for the words at the left and below.
const LEFT: u64 = 44;
const BELOW: u64 = 20;

/// A picture and what it says in words.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    /// Markup of our own, to be shown as it is.
    pub(crate) svg: String,
    /// Rows of the table behind it.
    pub(crate) rows: Vec<(String, String)>,
}

/// Columns over time, such as check-ins over a day. `title` says what it is, in words without markup.
pub(crate) fn columns(title: &str, columns: &[(Timestamp, u64)]) -> Picture {
    let most = round_up(columns.iter().map(|(_, n)| *n).max().unwrap_or(0));
    let count = u64::try_from(columns.len()).unwrap_or(1).max(1);
    let mut svg = begin(title);
    grid(&mut svg, most);
    for (k, (_, n)) in (0..).zip(columns) {
        let (from, to) = (WIDTH * k / count, WIDTH * (k + 1) / count);
        let tall = scaled(*n, most);
        let (x, y, wide) = (LEFT + from, HEIGHT - tall, (to - from).saturating_sub(1).max(1));
        // Writing to a String cannot fail.
        let _ = write!(svg, "<rect class=\"column\" x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{tall}\"/>");
    }
    let labels = [0, count / 4, count / 2, count * 3 / 4];
    for k in labels {
        let at = usize::try_from(k).ok().and_then(|k| columns.get(k));
        if let Some((at, _)) = at {
            let (x, y) = (LEFT + WIDTH * k / count, HEIGHT + 15);
            let _ = write!(svg, "<text x=\"{x}\" y=\"{y}\">{}</text>", clock(*at));
        }
    }
    svg.push_str("</svg>");
    let rows = columns.iter().filter(|(_, n)| *n > 0).map(|(at, n)| (at.to_string(), n.to_string())).collect();
    Picture { svg, rows }
}

/// How many of `total` were done by when: `points` rise, in order of time, and the last one is now.
pub(crate) fn burn_up(title: &str, points: &[(Timestamp, u64)], total: u64) -> Picture {
    let mut svg = begin(title);
    let most = total.max(1);
    grid(&mut svg, most);
    let (first, last) = (points.first().map(|(at, _)| at.millis()), points.last().map(|(at, _)| at.millis()));
    if let (Some(first), Some(last)) = (first, last) {
        let wide = u64::try_from(last - first).unwrap_or(0).max(1);
        let place = |(at, n): &(Timestamp, u64)| {
            let along = u64::try_from(at.millis() - first).unwrap_or(0);
            (LEFT + scale(along, wide, WIDTH), HEIGHT - scaled(*n, most))
        };
        let line: Vec<String> = points.iter().map(place).map(|(x, y)| format!("{x},{y}")).collect();
        let (line, end) = (line.join(" "), LEFT + WIDTH);
        let _ = write!(svg, "<polygon class=\"under\" points=\"{LEFT},{HEIGHT} {line} {end},{HEIGHT}\"/>");
        let _ = write!(svg, "<polyline class=\"line\" points=\"{line}\"/>");
        if let (Some((from, _)), Some((to, _))) = (points.first(), points.last()) {
            let y = HEIGHT + 15;
            let _ = write!(svg, "<text x=\"{LEFT}\" y=\"{y}\">{}</text>", day(*from));
            let _ = write!(svg, "<text class=\"end\" x=\"{end}\" y=\"{y}\">{}</text>", day(*to));
        }
    }
    svg.push_str("</svg>");
    let rows = points.iter().map(|(at, n)| (at.to_string(), format!("{n} of {total}"))).collect();
    Picture { svg, rows }
}

fn begin(title: &str) -> String {
    let (wide, tall) = (LEFT + WIDTH, HEIGHT + BELOW);
    let plain: String = title.chars().filter(|c| !matches!(c, '<' | '>' | '&' | '"' | '\'')).collect();
    format!("<svg class=\"picture\" viewBox=\"0 -8 {wide} {}\" role=\"img\" aria-label=\"{plain}\">", tall + 8)
}

/// Lines at nothing, a half and all, with their numbers.
fn grid(svg: &mut String, most: u64) {
    let end = LEFT + WIDTH;
    for n in [0, most / 2, most] {
        if n == most / 2 && (most < 2 || !most.is_multiple_of(2)) {
            continue;
        }
        let y = HEIGHT - scaled(n, most);
        let _ = write!(svg, "<path class=\"grid\" d=\"M{LEFT} {y}H{end}\"/>");
        let (x, below) = (LEFT - 6, y + 4);
        let _ = write!(svg, "<text class=\"end\" x=\"{x}\" y=\"{below}\">{n}</text>");
    }
}

fn scaled(n: u64, most: u64) -> u64 {
    scale(n, most, HEIGHT)
}

fn scale(n: u64, most: u64, to: u64) -> u64 {
    let scaled = u128::from(n) * u128::from(to) / u128::from(most.max(1));
    u64::try_from(scaled).unwrap_or(to).min(to)
}

/// The next number that is easy to read: 1, 2, 4, 6, 8 or 10 of its size.
fn round_up(n: u64) -> u64 {
    let size = 10_u64.saturating_pow(n.max(1).ilog10());
    let found = [1, 2, 4, 6, 8, 10].into_iter().map(|step| size.saturating_mul(step)).find(|round| *round >= n);
    found.unwrap_or(n).max(2)
}

fn clock(at: Timestamp) -> String {
    at.to_string().get(11..16).unwrap_or_default().to_owned()
}

fn day(at: Timestamp) -> String {
    at.to_string().get(..16).unwrap_or_default().replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_hold_what_was_counted_and_nothing_that_could_be_markup() {
        let at = |hours: i64| Timestamp::from_millis(1_800_000_000_000 + hours * 3_600_000);
        let drawn = columns("check-ins <b>", &[(at(0), 0), (at(1), 7), (at(2), 3)]);
        assert_eq!(drawn.svg.matches("<rect").count(), 3, "{}", drawn.svg);
        assert!(drawn.svg.contains("aria-label=\"check-ins b\"") && drawn.svg.contains(">8</text>"), "{}", drawn.svg);
        assert_eq!(drawn.rows.len(), 2);
        let drawn = burn_up("done", &[(at(0), 0), (at(5), 4), (at(10), 8)], 10);
        assert!(drawn.svg.contains("points=\"44,120 344,72 644,24\""), "{}", drawn.svg);
        assert_eq!(drawn.rows[2].1, "8 of 10");
        assert_eq!([0, 3, 10, 11, 61, 99, 101].map(round_up), [2, 4, 10, 20, 80, 100, 200]);
        assert!(burn_up("none", &[], 0).svg.ends_with("</svg>"));
    }
}
