//! The windows of one rollout that restrict something on one device. They are listed only where no table says when they
//! are open: a device in a large fleet is asked about by many rollouts, all the time.

use std::time::Duration;

use callboard_proto::time::Timestamp;
use chrono_tz::Tz;

use super::{
    Clock, Gate, Mode, Span, Table, Tables, Window, WindowState, Zone, last_closed, spans, state_at, table::Standing,
};

/// The windows that restrict something on a device. Without any, it is allowed at any time.
#[derive(Clone, Copy, Debug)]
pub struct Restricting<'a> {
    windows: &'a [Window],
    gate: Gate,
    clock: Clock,
    default_tz: Tz,
    /// The zone of the first one.
    zone: Option<Zone>,
    table: Option<&'a Table>,
}

impl Default for Restricting<'_> {
    fn default() -> Self {
        let (clock, default_tz) = (Clock::default(), Tz::UTC);
        Self { windows: &[], gate: Gate::Install, clock, default_tz, zone: None, table: None }
    }
}

impl<'a> Restricting<'a> {
    /// Those of `windows` that restrict `gate`, by this clock.
    pub(crate) fn of(windows: &'a [Window], gate: Gate, clock: Clock, default_tz: Tz) -> Self {
        let first = windows.iter().find(|window| window.gates.restrict(gate));
        let zone = first.map(|window| clock.zone(window.tz, default_tz));
        Self { windows, gate, clock, default_tz, zone, table: None }
    }

    /// The same, with what was worked out of them beforehand.
    pub(crate) fn with(self, tables: &'a Tables) -> Self {
        Self { table: self.zone.and_then(|zone| tables.get(self.gate, zone.tz)), ..self }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.zone.is_none()
    }

    /// Where they stand at `now`, as [`state_at`] tells it.
    pub(crate) fn at(&self, now: Timestamp, needed: Duration) -> Option<WindowState> {
        // Where there is a table, they have one zone.
        let zone = self.zone?;
        let looked_up =
            self.looked_up(now).and_then(|standing| match standing.open.filter(|open| now + needed <= open.end) {
                Some(open) => Some(WindowState::Open { until: open.end, zone }),
                None => {
                    let opens = standing.coming.iter().find(|span| span.start + needed <= span.end);
                    Some(WindowState::Closed { opens: Some(*opens?), zone })
                }
            });
        looked_up.or_else(|| state_at(now, &self.listed(), needed))
    }

    /// The last time that ended at or before `now`, as [`last_closed`] tells it.
    pub(crate) fn before(&self, now: Timestamp) -> Option<(Span, Zone)> {
        match self.looked_up(now) {
            Some(standing) => Some((standing.last, self.zone?)),
            None => last_closed(now, &self.listed()),
        }
    }

    /// The same of those in best-effort mode.
    pub(crate) fn lenient_before(&self, now: Timestamp) -> Option<(Span, Zone)> {
        let lenient = |window: &Window| window.mode == Mode::BestEffort;
        if self.iter().all(lenient) {
            return self.before(now);
        }
        if !self.iter().any(lenient) {
            return None;
        }
        let listed: Vec<(&Window, Zone)> = self.listed().into_iter().filter(|(window, _)| lenient(window)).collect();
        last_closed(now, &listed)
    }

    /// When the stretch began that is open at `now`.
    pub(crate) fn began(&self, now: Timestamp) -> Option<Timestamp> {
        match self.looked_up(now) {
            Some(standing) => standing.open.map(|span| span.start),
            None => spans::around(now, &self.listed()).map(|span| span.start),
        }
    }

    fn looked_up(&self, now: Timestamp) -> Option<Standing<'a>> {
        self.table?.at(now)
    }

    fn iter(&self) -> impl Iterator<Item = &'a Window> {
        let gate = self.gate;
        self.windows.iter().filter(move |window| window.gates.restrict(gate))
    }

    /// Each with the zone that it follows.
    pub(crate) fn listed(&self) -> Vec<(&'a Window, Zone)> {
        self.iter().map(|window| (window, self.clock.zone(window.tz, self.default_tz))).collect()
    }
}
