//! How long silence is borne: grants are leases.
//!
//! | It | after silence for | then |
//! |---|---|---|
//! | downloads | [`OFFER_LEASE`] | its place is free, and it is queued again; a download that goes on later is the same attempt |
//! | was granted the switch, and has not begun it | [`STEP_TIMEOUT`] | its place is free, and it is staged again |
//! | has begun to switch | [`SILENT_AFTER`] | it is counted as silent |
//! | has begun to switch | [`STEP_TIMEOUT`] | it has timed out, which is a failure until it says otherwise |
//!
//! Nothing is held longer than [`GRANT_CAP`], however much is heard of it. A device that is off is no failure: in the
//! states in which it may be switched off safely its grant lapses, and from the switch on silence counts only in hours in
//! which it is usually there ([`crate::rhythm`]), a week at most.

use std::time::Duration;

use callboard_proto::{state::AssignmentState as State, time::Timestamp};

use crate::{assignment::Event, device::Assignment, rhythm::Rhythm};

/// A download without a sign of life gives its place back: longer than any agent waits between two tries at a bad line.
pub const OFFER_LEASE: Duration = Duration::from_secs(30 * 60);
/// A switch without a sign of life: longer than any trial and the restarts that it may have.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// Three check-ins of a device that asks every five minutes.
pub const SILENT_AFTER: Duration = Duration::from_secs(15 * 60);
/// What one grant may be held for.
pub const GRANT_CAP: Duration = Duration::from_secs(24 * 3600);

/// By then every hour has come in which a device might usually be there.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);

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
pub fn next(one: &Assignment, heard_at: Timestamp, rhythm: &Rhythm) -> Option<(Timestamp, Due)> {
    let cap = one.granted_at + GRANT_CAP;
    match one.state {
        State::Downloading => Some(((heard_at + OFFER_LEASE).min(cap), Due::Lapse)),
        State::Activating if !one.begun => Some(((heard_at + STEP_TIMEOUT).min(cap), Due::Lapse)),
        State::Activating | State::Verifying => {
            let expected =
                |from: Timestamp, time| rhythm.after(from, time).map_or(from + PATIENCE, |at| at.min(from + PATIENCE));
            let times_out = expected(heard_at, STEP_TIMEOUT).min(expected(one.granted_at, GRANT_CAP));
            let silent = expected(heard_at, SILENT_AFTER);
            let silence = !one.silent && silent < times_out;
            Some(if silence { (silent, Due::Silence) } else { (times_out, Due::TimeOut) })
        }
        _ => None,
    }
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
        next(one, at(heard), &Rhythm::ALWAYS)
            .map_or_else(|| "no timer".to_owned(), |(at, due)| format!("{due:?} at {at}"))
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
    fn a_device_that_was_switched_off_in_the_middle_of_it_is_expected_in_the_morning() {
        let mut day = Rhythm::ALWAYS;
        let (mut now, mut last) = (at("2026-11-02T08:00:00Z"), None);
        while now < at("2026-11-23T20:00:00Z") {
            if (8..20).contains(&(now.millis() / 3_600_000 % 24)) {
                day = day.seen(last, now, Duration::from_secs(600));
                last = Some(now);
            }
            now = now + Duration::from_secs(600);
        }
        let says = |one: &Assignment, heard| next(one, at(heard), &day).map(|(at, due)| format!("{due:?} at {at}"));
        let begun = one(State::Verifying, true, false);
        assert_eq!(says(&begun, "2026-11-23T19:30:00Z").as_deref(), Some("Silence at 2026-11-24T09:15:00Z"));
        let silent = one(State::Verifying, true, true);
        assert_eq!(says(&silent, "2026-11-23T19:30:00Z").as_deref(), Some("TimeOut at 2026-11-24T10:00:00Z"));
        // Nothing waits for ever for a device that is never there.
        let never = Rhythm::from_slice(&[0; crate::rhythm::BYTES]).expect("a rhythm");
        let (due, _) = next(&begun, at("2026-11-23T19:30:00Z"), &never).expect("a timer");
        assert_eq!(due, at("2026-11-30T12:00:00Z"), "a week after the grant");
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
