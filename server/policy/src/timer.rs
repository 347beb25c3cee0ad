//! How long silence is borne: grants are leases.
//!
//! | It | after silence for | then |
//! |---|---|---|
//! | downloads | [`OFFER_LEASE`] | its place is free, and it is queued again; a download that goes on later is the same attempt |
//! | was granted the switch, and has not begun it | [`STEP_TIMEOUT`] | its place is free, and it is staged again |
//! | has begun to switch | [`SILENT_AFTER`] | it is counted as silent |
//! | has begun to switch | [`STEP_TIMEOUT`] | it has timed out, which is a failure until it says otherwise |
//!
//! Nothing is held longer than [`GRANT_CAP`], however much is heard of it. A device that is off is no failure in any of
//! the states in which it may be switched off safely.

use std::time::Duration;

use callboard_proto::{state::AssignmentState as State, time::Timestamp};

use crate::{assignment::Event, device::Assignment};

/// A download without a sign of life gives its place back: longer than any agent waits between two tries at a bad line.
pub const OFFER_LEASE: Duration = Duration::from_secs(30 * 60);
/// A switch without a sign of life: longer than any trial and the restarts that it may have.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// Three check-ins of a device that asks every five minutes.
pub const SILENT_AFTER: Duration = Duration::from_secs(15 * 60);
/// What one grant may be held for.
pub const GRANT_CAP: Duration = Duration::from_secs(24 * 3600);

/// What silence leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The grant lapses.
    Lapse,
    /// It is counted as silent.
    Silence,
    /// It times out.
    TimeOut,
}

impl Due {
    /// What happens to the assignment; silence is no event of its own.
    pub const fn event(self) -> Option<Event> {
        match self {
            Self::Lapse => Some(Event::Lapsed),
            Self::TimeOut => Some(Event::TimedOut),
            Self::Silence => None,
        }
    }
}

/// When something is due if nothing more is heard of the device, and what; `None` if no timer runs. `heard_at` is its
/// last sign of life.
pub fn next(one: &Assignment, heard_at: Timestamp) -> Option<(Timestamp, Due)> {
    let cap = one.granted_at + GRANT_CAP;
    let (at, due) = match one.state {
        State::Downloading => (heard_at + OFFER_LEASE, Due::Lapse),
        State::Activating if !one.begun => (heard_at + STEP_TIMEOUT, Due::Lapse),
        State::Activating | State::Verifying if one.silent => (heard_at + STEP_TIMEOUT, Due::TimeOut),
        State::Activating | State::Verifying => match heard_at + SILENT_AFTER {
            at if at < cap => (at, Due::Silence),
            _ => (cap, Due::TimeOut),
        },
        _ => return None,
    };
    Some((at.min(cap), due))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{assignment, at, release, rollout_id};

    fn one(state: State, begun: bool, silent: bool) -> Assignment {
        let one = assignment(rollout_id(1), &release("2.2.0", 22), state);
        Assignment { begun, silent, granted_at: at("2026-11-23T12:00:00Z"), ..one }
    }

    fn says(one: &Assignment, heard: &str) -> String {
        next(one, at(heard)).map_or_else(|| "no timer".to_owned(), |(at, due)| format!("{due:?} at {at}"))
    }

    #[test]
    fn each_state_bears_silence_for_its_own_time() {
        let check = |state, begun, silent, wanted| {
            assert_eq!(says(&one(state, begun, silent), "2026-11-23T12:10:00Z"), wanted, "{state:?} {begun} {silent}");
        };
        check(State::Downloading, false, false, "Lapse at 2026-11-23T12:40:00Z");
        check(State::Activating, false, false, "Lapse at 2026-11-23T13:10:00Z");
        check(State::Activating, true, false, "Silence at 2026-11-23T12:25:00Z");
        check(State::Activating, true, true, "TimeOut at 2026-11-23T13:10:00Z");
        check(State::Verifying, true, false, "Silence at 2026-11-23T12:25:00Z");
        check(State::Verifying, true, true, "TimeOut at 2026-11-23T13:10:00Z");
        for state in State::ALL
            .into_iter()
            .filter(|state| !matches!(state, State::Downloading | State::Activating | State::Verifying))
        {
            check(state, true, true, "no timer");
        }
    }

    #[test]
    fn nothing_is_held_for_more_than_a_day() {
        let check = |state, begun, silent, wanted| {
            assert_eq!(says(&one(state, begun, silent), "2026-11-24T11:50:00Z"), wanted, "{state:?} {begun} {silent}");
        };
        check(State::Downloading, false, false, "Lapse at 2026-11-24T12:00:00Z");
        check(State::Activating, false, false, "Lapse at 2026-11-24T12:00:00Z");
        check(State::Verifying, true, false, "TimeOut at 2026-11-24T12:00:00Z");
        check(State::Verifying, true, true, "TimeOut at 2026-11-24T12:00:00Z");
    }
}
