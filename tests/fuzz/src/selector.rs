//! Selectors as operators type them.

use std::collections::BTreeMap;

use callboard_policy::{
    device::{Connectivity, Device},
    selector::{Seen, Selector},
};
use callboard_proto::{check_in::Installed, time::Timestamp};

/// The text of a selector.
pub(super) fn any(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let selector = match Selector::parse(text) {
        Ok(selector) => selector,
        Err(error) => {
            assert!(error.column >= 1 && error.column <= text.chars().count() + 1, "{error}");
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    let printed = selector.to_string();
    let again = Selector::parse(&printed).unwrap_or_else(|error| panic!("{printed:?} does not read back: {error}"));
    assert_eq!(again, selector, "{printed:?} is another one");
    assert_eq!(again.to_string(), printed);
    selector.doubts();
    selector.frozen_only();
    let now = Timestamp::from_millis(1_795_000_000_000);
    for (device, last_seen) in [(till(), Some(now)), (bare(), None)] {
        let seen = Seen { last_seen, status: Connectivity::Online, now };
        let matches = selector.matches(&device, &seen);
        assert_eq!(selector.why_not(&device, &seen).is_none(), matches, "{printed}");
        assert_eq!(again.matches(&device, &seen), matches);
    }
    true
}

fn till() -> Device {
    let text = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    Device {
        site: "NYC-001".parse().ok(),
        site_tz: "America/New_York".parse().ok(),
        labels: text(&[("region", "northeast"), ("canary", "true"), ("tz", "UTC")]),
        hw: "verifone-m440".to_owned(),
        arch: "x86_64".to_owned(),
        agent: "0.1.0".to_owned(),
        channels: vec!["stable".to_owned()],
        installed: vec![Installed {
            product: "pos-app".parse().expect("a name"),
            version: "2.1.0".parse().expect("a version"),
            release: None,
            epoch: 0,
            counter: 0,
            floor: 0,
        }],
        attributes: text(&[("slot", "a")]),
        enrolled_at: Some(Timestamp::from_millis(1_790_000_000_000)),
        ..bare()
    }
}

/// One that was imported and never heard of.
fn bare() -> Device {
    let id = "0192f0c1-7e8a-7c3e-9d54-3f1f6a2b8c01".parse().expect("an id");
    Device::unheard_of(id, 1, "till-1".parse().expect("a name"))
}
