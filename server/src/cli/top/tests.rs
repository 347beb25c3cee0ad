use callboard_proto::admin::{Counts, Overview, Page};
use ratatui::crossterm::event::KeyEventState;
use serde_json::json;

use super::*;

fn board() -> Board {
    let counts = Counts { size: 10, succeeded: 5, failed: 1, downloading: 1, unreached: 3, ..Counts::default() };
    let rollout = crate::cli::rollout::tests::running("pos-2.1", "pos-app@2.1", counts);
    let failure = json!({
        "id": "0197ad2e-7a00-7c3e-9d54-3f1f6a2b8c01", "rollout": "pos-2.1", "device": "till-7", "site": null,
        "release": "00".repeat(32), "version": "2.1", "state": "failed", "attempt": 2, "since": "2026-11-27T20:15:00Z",
        "failure": {"class": "permanent", "code": "health_failed", "text": "\u{1b}[2J\u{1b}]0;owned\u{7} \u{202e}txet"}
    });
    let event = json!({
        "seq": 1, "at": "2026-11-27T20:15:00Z", "kind": "device.enrolled", "device": "till-7", "rollout": null,
        "text": "by token\nand more"
    });
    Board {
        overview: Overview {
            devices: [("online".to_owned(), 9), ("offline".to_owned(), 1)].into(),
            seen_last_minute: 4,
            enrolments_waiting: 2,
            ..Overview::default()
        },
        rollouts: vec![rollout],
        attention: Page { items: vec![serde_json::from_value(failure).expect("a failure")], next: None },
        events: vec![serde_json::from_value(event).expect("an event")],
    }
}

#[test]
fn the_screen_shows_fleet_rollouts_failures_and_events_and_obeys_nobody() {
    let shown = picture(&board());
    assert_eq!(
        shown,
        "Devices  9 online  1 offline  0 abandoned  0 unknown   4 checked in within a minute\n\
         2 enrolments waiting: callboard enrolment list\n\
         \n\
         Open rollouts (1)\n\
         pos-2.1  pos-app@2.1  running\n  \
         all          [##########xx>>......] 5 succeeded, 1 failed of 10\n\
         \n\
         Attention (1)\n  \
         till-7 pos-2.1 failed, attempt 2: health_failed: \u{fffd}[2J\u{fffd}]0;owned\u{fffd} \\u{202e}txet\n\
         \n\
         Events\n  \
         2026-11-27T20:15:00Z  device.enrolled till-7 by token\\nand more"
    );
}

#[test]
fn what_is_wrong_stands_below_and_the_last_look_stays() {
    let mut screen = Screen { board: Some(board()), trouble: None };
    screen.take(Err(anyhow::anyhow!("cannot reach http://127.0.0.1:1"))).expect("it goes on");
    let mut terminal = Terminal::new(TestBackend::new(80, 6)).expect("a terminal");
    terminal.draw(|frame| draw::screen(frame, screen.board.as_ref(), screen.trouble.as_deref())).expect("drawn");
    let text: String = terminal.backend().buffer().content().iter().map(|cell| cell.symbol()).collect();
    assert!(text.starts_with("Devices  9 online"), "{text}");
    assert!(text.trim_end().ends_with("cannot reach http://127.0.0.1:1; trying again"), "{text}");
    screen.take(Ok(board())).expect("it is back");
    assert_eq!(screen.trouble, None);
    let problem = json!({"type": "x", "title": "t", "status": 401, "code": "unauthorized", "detail": "no"});
    let refused = Refused(serde_json::from_value(problem).expect("a problem"));
    assert!(screen.take(Err(refused.into())).is_err(), "a token that was revoked ends it");
}

#[test]
fn any_size_of_terminal_can_be_drawn_on() {
    for (width, height) in [(0, 0), (1, 1), (7, 3), (400, 200)] {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| draw::screen(frame, Some(&board()), None)).expect("drawn");
    }
}

#[test]
fn q_escape_and_control_c_end_it() {
    let key = |code, modifiers| KeyEvent { code, modifiers, kind: KeyEventKind::Press, state: KeyEventState::NONE };
    assert!(quits(key(KeyCode::Char('q'), KeyModifiers::NONE)));
    assert!(quits(key(KeyCode::Esc, KeyModifiers::NONE)));
    assert!(quits(key(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    assert!(!quits(key(KeyCode::Char('c'), KeyModifiers::NONE)));
}
