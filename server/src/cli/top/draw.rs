//! The screen of `top`: four parts from above to below, each as high as what it shows. What devices and people wrote is
//! shown, never obeyed.

use callboard_proto::{
    admin::{Attention, Event, Page, PhaseProgress, Rollout, RolloutState},
    text::shown,
};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize as _},
    text::{Line, Span},
    widgets::Paragraph,
};

use super::Board;
use crate::cli::{rollout, table};

/// Cells of a bar.
const BAR: u32 = 20;
/// Failures that are named; the rest is counted.
const FAILURES: usize = 5;
/// Events of the picture that is printed; on a screen there are as many as fit.
const EVENTS: usize = 10;

/// The whole screen, with the last line for keys or for what is wrong.
pub(super) fn screen(frame: &mut Frame<'_>, board: Option<&Board>, trouble: Option<&str>) {
    let [above, below] = Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    if let Some(board) = board {
        lines_of(frame, board, above);
    }
    let said = match trouble {
        Some(trouble) => Line::from(format!("{}; trying again", shown(trouble))).fg(Color::Red),
        None => Line::from("q ends, r looks at once").dim(),
    };
    frame.render_widget(Paragraph::new(said), below);
}

/// The parts alone.
pub(super) fn parts(frame: &mut Frame<'_>, board: &Board) {
    let area = frame.area();
    lines_of(frame, board, area);
}

/// Lines that the parts need.
pub(super) fn height(board: &Board) -> u16 {
    let lines = all(board).map(|part| part.len()).iter().sum::<usize>().min(usize::from(u16::MAX));
    u16::try_from(lines.saturating_sub(board.events.len().saturating_sub(EVENTS))).unwrap_or(u16::MAX)
}

fn all(board: &Board) -> [Vec<Line<'static>>; 4] {
    [fleet(board), rollouts(&board.rollouts), attention(&board.attention), events(&board.events)]
}

/// What does not fit is cut off from below, events first.
fn lines_of(frame: &mut Frame<'_>, board: &Board, area: Rect) {
    let lines: Vec<Line<'_>> = all(board).into_iter().flatten().collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn heading(text: impl Into<String>) -> Line<'static> {
    Line::from(text.into()).bold()
}

fn fleet(board: &Board) -> Vec<Line<'static>> {
    let overview = &board.overview;
    let mut devices = vec![Span::from("Devices ").bold()];
    for (status, colour) in
        [("online", Color::Green), ("offline", Color::Yellow), ("abandoned", Color::Red), ("unknown", Color::Reset)]
    {
        let n = overview.devices.get(status).copied().unwrap_or_default();
        let span = Span::from(format!(" {n} {status} "));
        devices.push(if n > 0 { span.fg(colour) } else { span.dim() });
    }
    devices.push(Span::from(format!("  {} checked in within a minute", overview.seen_last_minute)));
    let mut lines = vec![Line::from(devices)];
    if overview.enrolments_waiting > 0 {
        let n = overview.enrolments_waiting;
        lines.push(
            Line::from(format!("{} waiting: callboard enrolment list", callboard_policy::counted(n, "enrolment")))
                .fg(Color::Yellow),
        );
    }
    for kind in &overview.attack_alarms {
        let n = overview.attacks.get(kind).copied().unwrap_or_default();
        let said = format!(
            "{} from {}: callboard attention attacks list",
            shown(kind),
            callboard_policy::counted(n, "device")
        );
        lines.push(Line::from(said).fg(Color::Red).bold());
    }
    lines
}

fn rollouts(rollouts: &[Rollout]) -> Vec<Line<'static>> {
    let mut lines = vec![Line::default(), heading(format!("Open rollouts ({})", rollouts.len()))];
    for one in rollouts {
        let mut name = vec![Span::from(shown(one.spec.name.as_str()).into_owned()).bold()];
        name.push(Span::from(format!("  {}", shown(&one.spec.release.to_string()))));
        let colour = if one.state == RolloutState::Paused { Color::Yellow } else { Color::Green };
        name.push(Span::from(format!("  {}", table::word(&one.state))).fg(colour));
        if let Some(reason) = &one.state_reason {
            name.push(Span::from(format!(": {}", shown(reason))));
        }
        lines.push(Line::from(name));
        lines.extend(one.phases.iter().map(phase));
    }
    lines
}

/// The bar of `rollout status`, in the colours of the page.
fn phase(phase: &PhaseProgress) -> Line<'static> {
    let mut spans = vec![Span::from(format!("  {:<12} ", shown(&phase.name)))];
    for cell in rollout::bar(&phase.counts, BAR).chars() {
        let colour = match cell {
            '#' => Color::Green,
            'x' => Color::Red,
            '>' => Color::Cyan,
            _ => Color::Reset,
        };
        spans.push(Span::styled(cell.to_string(), Style::new().fg(colour)));
    }
    let gate = phase.gate.as_ref().map(|gate| format!(" - {}", gate.text)).unwrap_or_default();
    spans.push(Span::from(shown(&format!(" {}{gate}", rollout::result(&phase.counts))).into_owned()));
    Line::from(spans)
}

fn attention(failures: &Page<Attention>) -> Vec<Line<'static>> {
    let more = if failures.next.is_some() { "+" } else { "" };
    let mut lines = vec![Line::default(), heading(format!("Attention ({}{more})", failures.items.len()))];
    lines.extend(failures.items.iter().take(FAILURES).map(|one| {
        let why = one.failure.as_ref().map(|why| format!(": {}: {}", why.code, why.text.trim())).unwrap_or_default();
        let said = format!("  {} {} {}, attempt {}{why}", one.device, one.rollout, one.state.as_str(), one.attempt);
        Line::from(shown(&said).into_owned()).fg(Color::Red)
    }));
    if failures.items.len() > FAILURES || failures.next.is_some() {
        lines.push(Line::from("  and more: callboard attention list").dim());
    }
    lines
}

fn events(events: &[Event]) -> Vec<Line<'static>> {
    let mut lines = vec![Line::default(), heading("Events")];
    lines.extend(events.iter().map(|event| {
        let whom = [event.device.as_ref().map(ToString::to_string), event.rollout.as_ref().map(ToString::to_string)];
        let whom: Vec<String> = whom.into_iter().flatten().collect();
        let text = format!("{} {} {}", event.kind, whom.join(" "), event.text);
        Line::from(vec![Span::from(format!("  {}  ", event.at)).dim(), Span::from(shown(&text).into_owned())])
    }));
    lines
}
