//! The body of a check-in, as a server reads it from a device that may be anybody's.

use callboard_proto::{
    check_in::{CheckIn, MAX_ATTACKS, MAX_INSTALLED, MAX_WAIT_S},
    text::Check as _,
};

/// A body.
pub(super) fn any(body: &[u8]) -> bool {
    let Ok(check_in) = serde_json::from_slice::<CheckIn>(body) else { return false };
    let accepted = check_in.check();
    let written = serde_json::to_vec(&check_in).expect("what was read can be written");
    let again: CheckIn = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(again, check_in, "it does not read back");
    assert_eq!(again.check(), accepted);
    if accepted.is_ok() {
        assert!(check_in.facts.installed.len() <= MAX_INSTALLED && check_in.attacks.len() <= MAX_ATTACKS);
        assert!(check_in.wait_s <= MAX_WAIT_S && !check_in.facts.agent.is_empty());
        let mut names: Vec<_> = check_in.facts.installed.iter().map(|one| &one.product).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), check_in.facts.installed.len(), "one product twice");
    }
    accepted.is_ok()
}
