//! Waiting for what another process does: by its effects, never by time alone.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

/// Far more than anything takes on a loaded machine, so that only what never comes runs into it.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks.
const STEP: Duration = Duration::from_millis(5);

/// Asks until there is an answer.
///
/// # Panics
/// When there is none within [`LIMIT`]; says what was waited for.
pub fn until_some<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    // Nobody sends: the receiver is a pause that cannot be cut short.
    let (_sender, pause) = mpsc::channel::<()>();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < LIMIT, "waited {LIMIT:?} in vain for: {what}");
        let _ = pause.recv_timeout(STEP);
    }
}

/// Asks until it is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    until_some(what, || is_so().then_some(()));
}
