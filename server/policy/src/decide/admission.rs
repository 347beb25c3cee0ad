//! Whether something may be done now: windows, and what no window lifts.

use std::time::Duration;

use callboard_proto::time::Timestamp;
use chrono_tz::Tz;

use super::{judge::Case, verdict::Verdict};
use crate::{
    device::{Assignment, Connectivity},
    openings::Openings,
    rollout::{Plan, Policy, Rollout},
    selector::Seen,
    trading::Trading,
    window::{self, Gate, Mode, Span, WindowState, WindowTz, Zone},
};

/// Whether this is the first check-in of a connection, where the policy asks for it. A device that has an assignment
/// was admitted when it connected, and is not asked again.
pub(super) fn connects(case: &Case<'_>, plan: &Plan) -> bool {
    let Policy::OnConnect { min_absence } = plan.policy else {
        return true;
    };
    let contact = case.contact;
    contact.boot_changed || contact.last_seen.is_none_or(|seen| case.now.since(seen) >= min_absence)
}

/// Until when what `gate` stands for is let through: `Ok(None)` without limit.
pub(super) fn admitted(
    case: &Case<'_>,
    rollout: &Rollout,
    gate: Gate,
    assignment: Option<&Assignment>,
) -> Result<Option<Timestamp>, Verdict> {
    let needed = needed(&rollout.plan, gate);
    let openings = openings(case, rollout, gate, assignment);
    let opens = || openings.next(case.now, needed).map(|opening| opening.span());
    if let Some((freeze, span, zone)) = frozen(case, rollout, needed) {
        return Err(Verdict::Frozen { freeze, span, gate, opens: opens(), zone });
    }
    let closes = match window::state_at(case.now, &openings.windows, needed) {
        None => None,
        Some(WindowState::Open { until, .. }) => Some(until),
        Some(WindowState::Closed { zone, .. }) => return Err(Verdict::WindowClosed { gate, opens: opens(), zone }),
    };
    let trades = match openings.trading.map(|(hours, tz)| hours.at(case.now, tz)) {
        Some(Trading::Closed { opens }) if opens.is_none_or(|at| case.now + needed <= at) => opens,
        Some(Trading::Closed { opens: begins }) => return Err(trading(case, rollout, begins, opens())),
        Some(Trading::Open { .. }) => return Err(trading(case, rollout, None, opens())),
        None => None,
    };
    Ok([closes, trades, openings.freezes_from(case.now)].into_iter().flatten().min())
}

/// The freeze in force, of several the one that ends last; else one that begins before `needed` has passed.
fn frozen(case: &Case<'_>, rollout: &Rollout, needed: Duration) -> Option<(usize, Span, Zone)> {
    let zone = zone(case, rollout);
    let in_force = freezes(case, zone.tz).filter(|(_, span)| span.start <= case.now);
    let soon = || freezes(case, zone.tz).filter(|(_, span)| span.start < case.now + needed);
    let found = in_force.max_by_key(|(_, span)| span.end).or_else(|| soon().min_by_key(|(_, span)| span.start));
    found.map(|(freeze, span)| (freeze, span, zone))
}

/// The freezes for this device that are not over, each with its place in the catalog.
fn freezes(case: &Case<'_>, tz: Tz) -> impl Iterator<Item = (usize, Span)> {
    // Who is being answered is online; selectors that could tell the difference are not allowed in freezes.
    let seen = Seen { last_seen: case.contact.last_seen, status: Connectivity::Online, now: case.now };
    case.catalog.freezes.iter().enumerate().filter_map(move |(n, freeze)| {
        let span = freeze.span(tz).filter(|span| case.now < span.end)?;
        freeze.selector.matches(case.device, &seen).then_some((n, span))
    })
}

/// The device's own zone.
fn zone(case: &Case<'_>, rollout: &Rollout) -> Zone {
    window::zone_of(WindowTz::Site, case.device, rollout.plan.default_tz, case.now)
}

fn trading(case: &Case<'_>, rollout: &Rollout, begins: Option<Timestamp>, opens: Option<Span>) -> Verdict {
    Verdict::Trading { begins, opens, zone: zone(case, rollout) }
}

/// Time that must be left.
fn needed(plan: &Plan, gate: Gate) -> Duration {
    match gate {
        Gate::Download => Duration::ZERO,
        Gate::Install => plan.expected_install,
    }
}

/// Everything that restricts `gate` for this device now. Windows do not, once the deadline has passed or a device
/// slept through one in best-effort mode; trading hours and freezes do even then.
fn openings<'a>(case: &Case<'a>, rollout: &'a Rollout, gate: Gate, assignment: Option<&Assignment>) -> Openings<'a> {
    let plan = &rollout.plan;
    let mut windows = plan.windows_for(gate, case.device, case.now);
    let overdue = plan.deadline.is_some_and(|deadline| case.now >= deadline);
    if overdue || makes_up(case, rollout, &windows, needed(plan, gate), assignment) {
        windows.clear();
    }
    let hours = &case.device.site_rules.trading;
    let trading = case.device.site_tz.filter(|_| gate == Gate::Install && !plan.during_trading && !hours.is_empty());
    let freezes = freezes(case, zone(case, rollout).tz).map(|(_, span)| span).collect();
    Openings { windows, trading: trading.map(|tz| (hours, tz)), freezes }
}

/// Whether the windows are closed, but the device was away for all of the last one in best-effort mode.
fn makes_up(
    case: &Case<'_>,
    rollout: &Rollout,
    windows: &[(&window::Window, Zone)],
    needed: Duration,
    assignment: Option<&Assignment>,
) -> bool {
    let closed = matches!(window::state_at(case.now, windows, needed), Some(WindowState::Closed { .. }));
    let mut lenient = windows.to_vec();
    lenient.retain(|(window, _)| window.mode == Mode::BestEffort);
    closed
        && window::last_closed(case.now, &lenient)
            .is_some_and(|missed| slept_through(case, rollout, missed, assignment))
}

/// Whether the device was away for all of `missed`, as it could be seen at this check-in or at the one that made the
/// assignment.
fn slept_through(case: &Case<'_>, rollout: &Rollout, missed: Span, assignment: Option<&Assignment>) -> bool {
    let began = rollout.begins_at().is_some_and(|begins| begins < missed.end);
    let away = |seen: Option<Timestamp>| seen.is_none_or(|seen| seen < missed.start);
    let at_offer = assignment.is_some_and(|one| one.offered_at >= missed.end && away(one.seen_before_offer));
    began && (away(case.contact.last_seen) || at_offer)
}

/// Until when an activation that was granted may begin. It may have passed.
pub(super) fn activation_ends(case: &Case<'_>, rollout: &Rollout, assignment: &Assignment) -> Option<Timestamp> {
    let last = match admitted(case, rollout, Gate::Install, Some(assignment)) {
        Ok(until) => until?,
        Err(_) => passed(case, rollout, assignment)?,
    };
    Some(last - rollout.plan.expected_install)
}

/// When the last stretch ended in which an activation could begin, or ends that is too short now.
fn passed(case: &Case<'_>, rollout: &Rollout, assignment: &Assignment) -> Option<Timestamp> {
    let openings = openings(case, rollout, Gate::Install, Some(assignment));
    let closed = match window::state_at(case.now, &openings.windows, Duration::ZERO) {
        None => None,
        Some(WindowState::Open { until, .. }) => Some(until),
        Some(WindowState::Closed { .. }) => window::last_closed(case.now, &openings.windows).map(|span| span.end),
    };
    let traded = match openings.trading.map(|(hours, tz)| hours.at(case.now, tz)) {
        None => None,
        Some(Trading::Open { since, .. }) => Some(since),
        Some(Trading::Closed { opens }) => opens,
    };
    let frozen = openings.frozen(case.now).map(|span| span.start).or_else(|| openings.freezes_from(case.now));
    [closed, traded, frozen].into_iter().flatten().min()
}
