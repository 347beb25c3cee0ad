//! The picture of a simulation: burn-up of each phase with what happens to the rollout, and below it the load.

use std::{fmt::Write as _, time::Duration};

use callboard_proto::{
    admin::{SimulatedEvent, SimulatedHour, SimulatedMark, Simulation},
    ids::RolloutName,
    text::shown,
    time::Timestamp,
};

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 660.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 930.0;
/// Top and bottom of the burn-up.
const UPPER: (f64, f64) = (90.0, 390.0);
/// Top and bottom of the load.
const LOWER: (f64, f64) = (470.0, 600.0);
/// Told apart also by those who see no red or no green.
const COLOURS: [&str; 8] = ["#0072b2", "#56b4e9", "#009e73", "#e69f00", "#cc79a7", "#f0e442", "#999999", "#332288"];
const FAILED: &str = "#d55e00";
const CHECK_INS: &str = "#444444";
const OFFERS: &str = "#0072b2";
const DOWNLOADING: &str = "#e69f00";
/// Labels of marks that are closer than this are put on different lines.
const LABEL_WIDTH: f64 = 110.0;
const LABEL_LINES: usize = 3;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// Days with their names that have room side by side.
const MOST_TICKS: u32 = 20;

/// Times along the picture.
struct Axis {
    from: Timestamp,
    to: Timestamp,
}

impl Axis {
    /// From the start to a little after the last thing that happened.
    fn of(simulation: &Simulation) -> Self {
        let last = simulation.hours.last().map_or(simulation.from, |hour| hour.until);
        let length = last.since(simulation.from).max(HOUR);
        let to = (simulation.from + length + length / 20).min(simulation.to.max(simulation.from + HOUR));
        Self { from: simulation.from, to }
    }

    fn x(&self, at: Timestamp) -> f64 {
        let part = at.since(self.from).as_secs_f64() / self.to.since(self.from).as_secs_f64().max(1.0);
        LEFT + (RIGHT - LEFT) * part.min(1.0)
    }

    /// Midnights, or hours where the picture is short, or some of the weeks where it is long: never more than fit.
    fn ticks(&self) -> Vec<(Timestamp, String)> {
        let length = self.to.since(self.from);
        let (step, format) = match length {
            _ if length <= 12 * HOUR => (HOUR, "%H:%M"),
            _ if length <= 3 * DAY => (6 * HOUR, "%b %d %H:%M"),
            _ if length <= MOST_TICKS * DAY => (DAY, "%b %d"),
            _ if length <= MOST_TICKS * 7 * DAY => (7 * DAY, "%b %d"),
            // Nobody simulates so long, but an answer may say so.
            _ => (length / MOST_TICKS, "%Y-%m-%d"),
        };
        let step_ms = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
        let mut at = Timestamp::from_millis((self.from.millis().div_euclid(step_ms) + 1) * step_ms);
        let mut ticks = Vec::new();
        while at < self.to {
            ticks.push((at, at.utc().format(format).to_string()));
            at = at + step;
        }
        ticks
    }
}

/// Draws.
pub(super) fn draw(name: &RolloutName, simulation: &Simulation) -> String {
    let axis = Axis::of(simulation);
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12" role="img">"#
    );
    let _ = writeln!(svg, r##"<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>"##);
    let _ = writeln!(svg, r#"<title>Simulation of rollout {}</title>"#, text(name.as_str()));
    let state = crate::cli::table::word(&simulation.state);
    let _ = writeln!(
        svg,
        r#"<text x="{LEFT}" y="24" font-size="16" font-weight="bold">{}: {} at the end ({} devices; times in UTC)</text>"#,
        text(name.as_str()),
        text(&state),
        simulation.devices
    );
    burn_up(&mut svg, &axis, simulation);
    load(&mut svg, &axis, simulation);
    marks(&mut svg, &axis, &simulation.marks);
    svg.push_str("</svg>\n");
    svg
}

/// Devices that had succeeded, phase upon phase, and on top of them those that had failed.
fn burn_up(svg: &mut String, axis: &Axis, simulation: &Simulation) {
    let size: u32 = simulation.phases.iter().map(|phase| phase.counts.size).sum();
    let scale = Scale::of(size, UPPER);
    frame(svg, axis, &scale, UPPER, "devices");
    let hours = &simulation.hours;
    let mut below: Vec<u32> = vec![0; hours.len()];
    let mut legend = Vec::new();
    for (idx, phase) in simulation.phases.iter().enumerate() {
        let above: Vec<u32> = hours
            .iter()
            .zip(&below)
            .map(|(hour, below)| below + hour.succeeded.get(idx).copied().unwrap_or_default())
            .collect();
        let colour = COLOURS.get(idx % COLOURS.len()).copied().unwrap_or(CHECK_INS);
        band(svg, axis, &scale, hours, (&below, &above), colour);
        let (done, of) = (phase.counts.succeeded, phase.counts.size);
        legend.push((colour, format!("{} {done} of {of}", phase.name)));
        below = above;
    }
    let failed: Vec<u32> = hours.iter().zip(&below).map(|(hour, below)| below + hour.counts.unsuccessful()).collect();
    band(svg, axis, &scale, hours, (&below, &failed), FAILED);
    let total: u32 = simulation.phases.iter().map(|phase| phase.counts.unsuccessful()).sum();
    legend.push((FAILED, format!("failed {total}")));
    let y = scale.y(size);
    let _ = writeln!(
        svg,
        r##"<line x1="{LEFT}" y1="{y:.1}" x2="{RIGHT}" y2="{y:.1}" stroke="#000000" stroke-dasharray="4 4"/>"##
    );
    self::legend(svg, UPPER.1 + 36.0, &legend);
}

/// Check-ins and offers a minute, and devices that were downloading.
fn load(svg: &mut String, axis: &Axis, simulation: &Simulation) {
    let (hours, check_ins) = (&simulation.hours, super::check_ins_per_minute(simulation));
    let offers: Vec<u32> = hours.iter().map(|hour| hour.offers_in_busiest_minute).collect();
    let downloading: Vec<u32> = hours.iter().map(|hour| hour.downloading).collect();
    let curves = [
        (CHECK_INS, "check-ins a minute", &check_ins),
        (OFFERS, "offers in the busiest minute", &offers),
        (DOWNLOADING, "downloading at once", &downloading),
    ];
    let most = curves.iter().flat_map(|(_, _, values)| values.iter().copied()).max().unwrap_or_default();
    let scale = Scale::of(most, LOWER);
    frame(svg, axis, &scale, LOWER, "load");
    let mut names = Vec::new();
    for (colour, name, values) in curves {
        let points = steps(axis, &scale, hours, values);
        let _ = writeln!(svg, r#"<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>"#);
        names.push((colour, format!("{name}, at most {}", values.iter().max().copied().unwrap_or_default())));
    }
    legend(svg, LOWER.1 + 40.0, &names);
}

/// What happened to the rollout, as lines through the burn-up.
fn marks(svg: &mut String, axis: &Axis, marks: &[SimulatedMark]) {
    let mut taken = [f64::NEG_INFINITY; LABEL_LINES];
    for mark in marks {
        let (colour, label) = match mark.what {
            SimulatedEvent::GateMet | SimulatedEvent::Approved => continue,
            SimulatedEvent::Started => ("#666666", "started".to_owned()),
            SimulatedEvent::PhaseOpened => ("#666666", format!("{} opens", mark.phase.as_deref().unwrap_or_default())),
            SimulatedEvent::GateLost => (FAILED, "gate lost".to_owned()),
            SimulatedEvent::Paused => (FAILED, "paused".to_owned()),
            SimulatedEvent::Cancelled => (FAILED, "cancelled".to_owned()),
            SimulatedEvent::TakenBack => (FAILED, "taken back".to_owned()),
            SimulatedEvent::Completed => ("#009e73", "completed".to_owned()),
        };
        let x = axis.x(mark.at);
        let line = taken.iter().position(|taken| x - taken >= LABEL_WIDTH).unwrap_or(LABEL_LINES - 1);
        if let Some(taken) = taken.get_mut(line) {
            *taken = x;
        }
        let lines: f64 = u32::try_from(line).map(f64::from).unwrap_or_default();
        let y = UPPER.0 - 6.0 - 14.0 * lines;
        let anchor = if x > RIGHT - LABEL_WIDTH { "end" } else { "start" };
        let _ = writeln!(
            svg,
            r#"<g stroke="{colour}" fill="{colour}"><title>{}: {}</title><line x1="{x:.1}" y1="{y:.1}" x2="{x:.1}" y2="{:.1}"/><text x="{x:.1}" y="{y:.1}" dx="2" stroke="none" text-anchor="{anchor}">{}</text></g>"#,
            mark.at,
            text(&mark.text),
            UPPER.1,
            text(&label)
        );
    }
}

/// Numbers up the side.
struct Scale {
    most: u32,
    step: u32,
    bottom: f64,
    height: f64,
}

impl Scale {
    fn of(most: u32, (top, bottom): (f64, f64)) -> Self {
        let most = most.max(1);
        // 1, 2 or 5 with noughts, so that there are four to ten lines.
        let mut step = 1_u32;
        for factor in [2, 5, 2].into_iter().cycle().take(27) {
            if most / step <= 8 {
                break;
            }
            // 1, 2, 10, 20, 100 would be too coarse: 2 becomes 5 by two and a half.
            step = match factor {
                5 => step.saturating_mul(5) / 2,
                _ => step.saturating_mul(2),
            };
        }
        Self { most: most.div_ceil(step).saturating_mul(step), step, bottom, height: bottom - top }
    }

    fn y(&self, value: u32) -> f64 {
        self.bottom - self.height * f64::from(value) / f64::from(self.most)
    }
}

fn frame(svg: &mut String, axis: &Axis, scale: &Scale, (top, bottom): (f64, f64), what: &str) {
    for (at, label) in axis.ticks() {
        let x = axis.x(at);
        let _ = writeln!(
            svg,
            r##"<line x1="{x:.1}" y1="{top}" x2="{x:.1}" y2="{bottom}" stroke="#eeeeee"/><text x="{x:.1}" y="{:.1}" text-anchor="middle" font-size="10">{label}</text>"##,
            bottom + 14.0
        );
    }
    let mut value = 0;
    while value <= scale.most {
        let y = scale.y(value);
        let _ = writeln!(
            svg,
            r##"<line x1="{LEFT}" y1="{y:.1}" x2="{RIGHT}" y2="{y:.1}" stroke="#dddddd"/><text x="{:.1}" y="{:.1}" text-anchor="end" font-size="10">{value}</text>"##,
            LEFT - 6.0,
            y + 3.0
        );
        let Some(next) = value.checked_add(scale.step) else {
            break;
        };
        value = next;
    }
    let _ = writeln!(svg, r#"<text x="{LEFT}" y="{:.1}" dx="-60" font-size="11">{what}</text>"#, top - 8.0);
}

/// The band between two rows of numbers, one for each hour.
fn band(
    svg: &mut String,
    axis: &Axis,
    scale: &Scale,
    hours: &[SimulatedHour],
    (below, above): (&[u32], &[u32]),
    colour: &str,
) {
    let point = |(hour, value): (&SimulatedHour, &u32)| format!("{:.1},{:.1}", axis.x(hour.until), scale.y(*value));
    let mut points = vec![format!("{LEFT:.1},{:.1}", scale.y(0))];
    points.extend(hours.iter().zip(above).map(point));
    points.extend(hours.iter().zip(below).rev().map(point));
    let _ = writeln!(svg, r#"<polygon points="{}" fill="{colour}" fill-opacity="0.85"/>"#, points.join(" "));
}

/// One level for each hour.
fn steps(axis: &Axis, scale: &Scale, hours: &[SimulatedHour], values: &[u32]) -> String {
    let mut points = Vec::new();
    let mut from = LEFT;
    for (hour, value) in hours.iter().zip(values) {
        let (to, y) = (axis.x(hour.until), scale.y(*value));
        points.push(format!("{from:.1},{y:.1} {to:.1},{y:.1}"));
        from = to;
    }
    points.join(" ")
}

/// Patches of colour with their names, one after the other, as many as fit.
fn legend(svg: &mut String, y: f64, entries: &[(&str, String)]) {
    let mut x = LEFT;
    for (colour, name) in entries {
        let letters: u32 = u32::try_from(name.chars().count()).unwrap_or(u32::MAX);
        let width = 30.0 + 7.0 * f64::from(letters.min(40));
        if x + width > WIDTH {
            return;
        }
        let name: String = name.chars().take(40).collect();
        let _ = writeln!(
            svg,
            r#"<rect x="{x:.1}" y="{:.1}" width="10" height="10" fill="{colour}"/><text x="{:.1}" y="{y:.1}">{}</text>"#,
            y - 9.0,
            x + 14.0,
            text(&name)
        );
        x += width;
    }
}

/// Text that neither ends an element nor orders a terminal about.
fn text(raw: &str) -> String {
    // These two are no characters of XML.
    shown(raw)
        .replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_any_numbers_and_names_is_drawn() {
        let scale = Scale::of(u32::MAX, (0.0, 100.0));
        assert!(scale.y(u32::MAX).is_finite() && scale.step > 0);
        assert_eq!(text("a\u{ffff}<b>\u{fffe}&"), "a\u{fffd}&lt;b&gt;\u{fffd}&amp;");
    }

    #[test]
    fn there_is_room_for_the_times_however_long_it_takes() {
        let check = |from: &str, to: &str| {
            let axis = Axis { from: from.parse().expect("a time"), to: to.parse().expect("a time") };
            let ticks = axis.ticks();
            assert!((4..=20).contains(&ticks.len()), "{from} to {to}: {ticks:?}");
            let spaced = ticks.windows(2).all(|two| axis.x(two[1].0) - axis.x(two[0].0) > 25.0);
            assert!(spaced, "{from} to {to}: {ticks:?}");
        };
        for to in ["2026-11-23T05:00:00Z", "2026-11-25T00:00:00Z", "2026-12-12T00:00:00Z", "2027-01-22T00:00:00Z"] {
            check("2026-11-23T00:00:00Z", to);
        }
        check("0000-01-01T00:00:00Z", "9999-12-31T23:00:00Z");
    }

    #[test]
    fn lines_are_at_round_numbers() {
        let steps = |most| Scale::of(most, (0.0, 100.0)).step;
        assert_eq!(
            [0, 1, 8, 9, 20, 70, 100, 999, 5000, 100_000, u32::MAX / 4].map(steps),
            [1, 1, 1, 2, 5, 10, 20, 200, 1000, 20_000, 200_000_000]
        );
        let scale = Scale::of(100, (0.0, 100.0));
        assert!((scale.y(0) - 100.0).abs() < 1e-9 && scale.y(100).abs() < 1e-9);
    }

    #[test]
    fn what_others_wrote_stays_text() {
        assert_eq!(text("a<b>&\"\u{1b}"), "a&lt;b&gt;&amp;&quot;\\u{1b}");
    }
}
