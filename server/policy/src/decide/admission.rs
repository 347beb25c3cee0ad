//! Whether something may be done now: windows, and what no window lifts.

use std::time::Duration;

use callboard_proto::time::Timestamp;
use chrono_tz::Tz;

use super::{
    Right,
    judge::Case,
    verdict::{Grounds, Verdict},
};
use crate::{
    catalog::Catalog,
    device::{Connection, Connectivity, Contact, Device},
    guard::Loads,
    openings::Openings,
    rollout::{Plan, Policy, Rollout},
    selector::Seen,
    trading::Trading,
    window::{Gate, Restricting, Span, WindowState, WindowTz, Zone},
};

/// A right is given for times that begin within a week: what comes later may still be changed by people. Where nothing
/// else ends it, it lasts to the end of the next day.
const FORESEEN: Duration = Duration::from_secs(7 * 86_400);

/// Whether this is the first check-in of a connection, where the policy asks for it, or the first one that could be
/// answered with an offer. A device that has an assignment was admitted when it connected, and is not asked again.
pub(super) fn connects(case: &Case<'_>, rollout: &Rollout) -> bool {
    let Policy::OnConnect { min_absence } = rollout.plan.policy else {
        return true;
    };
    // What began later was not there to be offered: it waits for the next connection.
    let was_there = |owed: &Connection| rollout.begins_at().is_some_and(|begins| begins <= owed.at);
    let owed = case.contact.owed.filter(was_there);
    [Some(case.contact.begins(case.now)), owed].into_iter().flatten().any(|one| one.after >= min_absence)
}

/// Something may be done.
pub(super) struct Admitted {
    /// Until then; without limit if there is none.
    pub(super) until: Option<Timestamp>,
    pub(super) grounds: Grounds,
}

/// Whether what `gate` stands for is let through.
pub(super) fn admitted(case: &Case<'_>, rollout: &Rollout, gate: Gate) -> Result<Admitted, Verdict> {
    let needed = needed(&rollout.plan, gate);
    let (openings, exempt) = openings(case, rollout, gate);
    let opens_from = |from| openings.next_until(rollout.plan.deadline, from, needed).map(|opening| opening.span());
    let opens = || opens_from(case.now);
    if let Some((freeze, span, zone)) = frozen(case, rollout, needed) {
        return Err(Verdict::Frozen { freeze, span, gate, opens: opens(), zone });
    }
    if let Some(opens) = (gate == Gate::Download).then(|| stopped(case)).flatten() {
        return Err(Verdict::NoBandwidth { opens });
    }
    let (closes, grounds) = match openings.windows.at(case.now, needed) {
        None => (None, exempt),
        Some(WindowState::Open { until, zone }) => (Some(until), Grounds::Window { until, zone }),
        Some(WindowState::Closed { zone, opens: next }) => {
            // Before the window nothing opens but by the deadline.
            let from = next.filter(|_| rollout.plan.deadline.is_none()).map_or(case.now, |span| span.start);
            return Err(Verdict::WindowClosed { gate, opens: opens_from(from), zone });
        }
    };
    let trades = match openings.trading.map(|(hours, tz)| hours.at(case.now, tz)) {
        Some(Trading::Closed { opens, .. }) if opens.is_none_or(|at| case.now + needed <= at) => opens,
        Some(Trading::Closed { opens: begins, .. }) => return Err(trading(case, rollout, begins, opens())),
        Some(Trading::Open { .. }) => return Err(trading(case, rollout, None, opens())),
        None => None,
    };
    let until = [closes, trades, openings.freezes_from(case.now)].into_iter().flatten().min();
    Ok(Admitted { until, grounds })
}

/// Whether the site allows no downloads at this hour, and until when.
fn stopped(case: &Case<'_>) -> Option<Option<Timestamp>> {
    let allowed = case.device.site_rules.bandwidth.at(case.now, case.device.site_tz?)?;
    (allowed.bytes_per_s == 0).then_some(allowed.until)
}

/// The freeze in force, of several the one that ends last; else one that begins before `needed` has passed.
fn frozen(case: &Case<'_>, rollout: &Rollout, needed: Duration) -> Option<(usize, Span, Zone)> {
    let zone = zone(case, rollout);
    let in_force = freezes(case, rollout, zone.tz).filter(|(_, span)| span.start <= case.now);
    let soon = || freezes(case, rollout, zone.tz).filter(|(_, span)| span.start < case.now + needed);
    let found = in_force.max_by_key(|(_, span)| span.end).or_else(|| soon().min_by_key(|(_, span)| span.start));
    found.map(|(freeze, span)| (freeze, span, zone))
}

/// The freezes for this device that are not over and do not let the rollout pass, each with its place in the catalog.
fn freezes(case: &Case<'_>, rollout: &Rollout, tz: Tz) -> impl Iterator<Item = (usize, Span)> {
    // Who is being answered is online; selectors that could tell the difference are not allowed in freezes.
    let seen = Seen { last_seen: case.contact.last_seen, status: Connectivity::Online, now: case.now };
    let freezes = if rollout.passes_freezes() { &[] } else { case.catalog.freezes.as_slice() };
    freezes.iter().enumerate().filter_map(move |(n, freeze)| {
        let span = freeze.span(tz).filter(|span| case.now < span.end)?;
        freeze.selector.matches(case.device, &seen).then_some((n, span))
    })
}

/// The device's own zone.
fn zone(case: &Case<'_>, rollout: &Rollout) -> Zone {
    case.clock.zone(WindowTz::Site, rollout.plan.default_tz)
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

/// Everything that restricts `gate` for this device now, and why windows do not where there are some: the deadline has
/// passed, or the device slept through one in best-effort mode. Trading hours and freezes do even then.
fn openings<'a>(case: &Case<'a>, rollout: &'a Rollout, gate: Gate) -> (Openings<'a>, Grounds) {
    let plan = &rollout.plan;
    let windows = Restricting::of(&plan.windows, gate, case.clock, plan.default_tz).with(&rollout.tables);
    let mut openings = Openings { windows, ..Openings::default() };
    let exempt = match plan.deadline.filter(|deadline| case.now >= *deadline && !openings.windows.is_empty()) {
        Some(deadline) => Grounds::Overdue { deadline },
        None => missed(case, rollout, &openings.windows, needed(plan, gate)),
    };
    if exempt != Grounds::Unrestricted {
        openings = Openings::default();
    }
    let hours = &case.device.site_rules.trading;
    let trading = case.device.site_tz.filter(|_| gate == Gate::Install && !plan.during_trading && !hours.is_empty());
    openings.trading = trading.map(|tz| (hours, tz));
    openings.freezes = freezes(case, rollout, zone(case, rollout).tz).map(|(_, span)| span).collect();
    (openings, exempt)
}

/// Whether the windows are closed now, but the device was away for all of the last one in best-effort mode.
fn missed(case: &Case<'_>, rollout: &Rollout, windows: &Restricting<'_>, needed: Duration) -> Grounds {
    let (Some(absence), Some(begins)) = (case.contact.absence, rollout.begins_at()) else {
        return Grounds::Unrestricted;
    };
    let closed = || matches!(windows.at(case.now, needed), Some(WindowState::Closed { .. }));
    match windows.lenient_before(case.now) {
        Some((span, zone)) if begins < span.end && absence.covers(span) && closed() => {
            Grounds::MissedWindow { span, zone }
        }
        _ => Grounds::Unrestricted,
    }
}

/// The next time at which the device may activate by itself, where its rollout allows that: the next stretch in which
/// nothing is in the way, as far as that can be known now. It is told the same way again and again while it lasts, so
/// that devices need not write it down anew.
pub(super) fn right(case: &Case<'_>, rollout: &Rollout) -> Option<Right> {
    let plan = &rollout.plan;
    let release = case.catalog.releases.get(&plan.release).filter(|_| plan.offline_activation)?;
    let (openings, _) = openings(case, rollout, Gate::Install);
    let found = openings.next_until(plan.deadline, case.now, plan.expected_install);
    let began = openings.began(case.now);
    let opening = found.filter(|opening| opening.start <= case.now + FORESEEN)?;
    let not_before = if opening.start > case.now { opening.start } else { began.max(rollout.begins_at())? };
    let closes = opening.end.map(|end| end - plan.expected_install);
    let ends = [closes, plan.ends_at, release.not_after, Some(end_of_next_day(opening.start))];
    let not_after = ends.into_iter().flatten().min()?;
    (not_before < not_after && case.now <= not_after).then_some(Right { not_before, not_after, on: plan.activate_on })
}

pub(super) fn stretches(
    catalog: &Catalog,
    rollout: &Rollout,
    device: &Device,
    (from, to): (Timestamp, Timestamp),
    most: usize,
) -> Vec<Span> {
    let poll_interval = Duration::from_secs(300);
    let (last_seen, absence, owed, works_on) = (None, None, None, None);
    let contact = Contact { last_seen, absence, boot_changed: false, owed, poll_interval, works_on, free_bytes: None };
    let loads = Loads::default();
    let case = Case::of(from, catalog, device, &contact, &loads);
    let openings = openings(&case, rollout, Gate::Install).0;
    let plan = &rollout.plan;
    let to = plan.ends_at.map_or(to, |ends| ends.min(to));
    let mut found = Vec::new();
    let mut at = rollout.begins_at().map_or(to, |begins| begins.max(from));
    while at < to && found.len() < most {
        let next = openings.next_until(plan.deadline, at, plan.expected_install);
        let Some(opening) = next.filter(|one| one.start < to) else {
            break;
        };
        let ends = opening.end.unwrap_or(to).min(to);
        found.push(Span { start: opening.start, end: ends });
        at = ends;
    }
    found
}

fn end_of_next_day(at: Timestamp) -> Timestamp {
    const DAY_MS: i64 = 86_400_000;
    Timestamp::from_millis((at.millis().div_euclid(DAY_MS) + 2) * DAY_MS)
}

/// Until when an activation that was granted may begin. It may have passed.
pub(super) fn activation_ends(case: &Case<'_>, rollout: &Rollout) -> Option<Timestamp> {
    let last = match admitted(case, rollout, Gate::Install) {
        Ok(admitted) => admitted.until?,
        Err(_) => passed(case, rollout)?,
    };
    Some(last - rollout.plan.expected_install)
}

/// When the last stretch ended in which an activation could begin, or ends that is too short now.
fn passed(case: &Case<'_>, rollout: &Rollout) -> Option<Timestamp> {
    let (openings, _) = openings(case, rollout, Gate::Install);
    let closed = match openings.windows.at(case.now, Duration::ZERO) {
        None => None,
        Some(WindowState::Open { until, .. }) => Some(until),
        Some(WindowState::Closed { .. }) => openings.windows.before(case.now).map(|(span, _)| span.end),
    };
    let traded = match openings.trading.map(|(hours, tz)| hours.at(case.now, tz)) {
        None => None,
        Some(Trading::Open { since, .. }) => Some(since),
        Some(Trading::Closed { opens, .. }) => opens,
    };
    let frozen = openings.frozen(case.now).map(|span| span.start).or_else(|| openings.freezes_from(case.now));
    [closed, traded, frozen].into_iter().flatten().min()
}
