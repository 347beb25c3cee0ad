use Reported as R;

use super::*;

const EVENTS: [Event; 19] = [
    Event::DownloadGranted,
    Event::ActivationGranted,
    Event::Reported(R::Downloading),
    Event::Reported(R::Staged),
    Event::Reported(R::Deferred),
    Event::Reported(R::Activating),
    Event::Reported(R::Verifying),
    Event::Reported(R::Succeeded),
    Event::Reported(R::RolledBack),
    Event::Reported(R::Failed),
    Event::Reported(R::Cancelled),
    Event::FailedForNow,
    Event::ActivatedAlone,
    Event::SeenInstalled,
    Event::Requeued,
    Event::Cancelled,
    Event::Expired,
    Event::TimedOut,
    Event::Retried,
];

/// One line an event, one column a state; `.` is illegal, `=` changes nothing.
#[test]
fn the_whole_table() {
    let short = |state: State| match state {
        State::Queued => "Q",
        State::Downloading => "D",
        State::Staged => "S",
        State::Activating => "A",
        State::Verifying => "V",
        State::Succeeded => "ok",
        State::RolledBack => "rb",
        State::Failed => "F",
        State::TimedOut => "T",
        State::Cancelled => "C",
        State::Expired => "X",
    };
    let mut table = format!("{:24}", "");
    for state in State::ALL {
        table += &format!("{:>4}", short(state));
    }
    for event in EVENTS {
        table += &format!("\n{:24}", format!("{event:?}"));
        for state in State::ALL {
            table += &format!(
                "{:>4}",
                match transition(state, event) {
                    Ok(next) if next == state => "=",
                    Ok(next) => short(next),
                    Err(_) => ".",
                }
            );
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn from_activating_on_a_device_is_left_alone() {
    for state in [State::Activating, State::Verifying] {
        for event in [Event::Cancelled, Event::Expired, Event::Requeued, Event::DownloadGranted] {
            let error = transition(state, event).expect_err("left alone");
            assert_eq!(error, IllegalTransition { state, event });
        }
    }
    let error = transition(State::Activating, Event::Cancelled).expect_err("left alone");
    assert_eq!(error.to_string(), "an assignment that is activating does not allow Cancelled");
}

#[test]
fn only_passing_failures_with_an_attempt_left_are_tried_again() {
    let event = |class, attempt| Event::from_report(R::Failed, class, attempt, 3);
    assert_eq!(event(Some(FailureClass::Transient), 2), Event::FailedForNow);
    assert_eq!(event(Some(FailureClass::Transient), 3), Event::Reported(R::Failed));
    assert_eq!(event(Some(FailureClass::Permanent), 1), Event::Reported(R::Failed));
    assert_eq!(event(None, 1), Event::Reported(R::Failed));
    let rolled_back = Event::from_report(R::RolledBack, Some(FailureClass::Transient), 1, 3);
    assert_eq!(rolled_back, Event::Reported(R::RolledBack));
    assert!(Event::FailedForNow.raises_attempt() && !rolled_back.raises_attempt());
}

#[test]
fn back_off_doubles_up_to_an_hour() {
    let longest = |attempt| backoff(attempt).as_secs();
    assert_eq!([1, 2, 3, 4, 8, 9, 100].map(longest), [60, 60, 120, 240, 3600, 3600, 3600]);
}
