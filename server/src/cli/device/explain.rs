//! `callboard device explain`: the server's reasons, as it gives them.

use std::fmt::Write as _;

use callboard_proto::admin::Explanation;

use crate::cli::table;

/// What comes next, where the agent stands, and every rollout considered.
pub(super) fn sentences(explained: &Explanation) -> String {
    let progress = explained.progress.as_ref().map(|progress| {
        format!("{} of {} bytes, attempt {}", progress.bytes_done, progress.bytes_total, progress.attempt)
    });
    let mut text = table::fields([
        ("device", explained.device.to_string()),
        ("at", explained.now.to_string()),
        ("last seen", explained.last_seen.map_or_else(|| "never".to_owned(), |at| at.to_string())),
        ("expected", expected(explained)),
        ("next", format!("{} ({})", explained.next.text, explained.next.code)),
        ("asks again", format!("{} s later", explained.next_check_in_s)),
        ("agent", explained.agent_state.map(|state| table::word(&state)).unwrap_or_default()),
        ("progress", progress.unwrap_or_default()),
        ("last error", explained.last_error.clone().unwrap_or_default()),
    ]);
    let rows = explained.rollouts.iter().map(|one| {
        let assignment = one.assignment.map(|state| state.as_str().to_owned()).unwrap_or_default();
        let mut why = one.reason.text.clone();
        if let Some(failure) = &one.failure {
            why += &format!(" ({}: {})", failure.code, failure.text.trim());
        }
        [one.rollout.to_string(), assignment, one.reason.code.clone(), why]
    });
    // Writing to a String cannot fail.
    let _ = if explained.rollouts.is_empty() {
        write!(text, "\n\nno rollout is active")
    } else {
        write!(text, "\n\n{}", table::list(["ROLLOUT", "ASSIGNMENT", "RULE", "WHY"], rows))
    };
    text
}

/// When it asks next, as far as that can be known.
fn expected(explained: &Explanation) -> String {
    match explained.expected_at {
        Some(at) if at < explained.now => format!("overdue since {at}"),
        Some(at) if at == explained.now => "now".to_owned(),
        Some(at) => at.to_string(),
        None => String::new(),
    }
}
