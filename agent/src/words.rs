//! The words that the agent says to programs: codes of failures and of `last_error`, kinds of `attacks`. The pages list
//! them, and a test holds the lists equal.

use std::io;

use crate::fs;

/// Why something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Deserialize), serde(rename_all = "snake_case"))]
pub(crate) enum Code {
    // A document that is not believed, or a release that does not suit.
    BadSignature,
    BadDocument,
    Oversize,
    WrongDevice,
    NonceMismatch,
    RequestMismatch,
    WrongRelease,
    RootExpired,
    BadRoot,
    RootMissing,
    HeadMissing,
    HeadExpired,
    Revoked,
    Untrusted,
    Expired,
    UnknownProduct,
    NoLauncher,
    WrongHardware,
    WrongChannel,
    WrongInstaller,
    AgentTooOld,
    NeedsSteppingStone,
    NeedsProduct,
    BelowFloor,
    Downgrade,
    CounterConflict,
    KnownBad,
    TooManyOrders,
    // On the way.
    Unreachable,
    Proxy,
    Tls,
    Slow,
    Http,
    HttpStatus,
    Encoded,
    Download,
    BadRange,
    BadChunk,
    BadChunkList,
    WrongPayload,
    // On the device.
    NoSpace,
    Storage,
    StorageFailing,
    JournalLost,
    ReleaseLost,
    Layout,
    TooManyChunks,
    Unpack,
    PathEscape,
    NoRandomness,
    BadFacts,
    Installer,
    // Hooks, and what the device is doing.
    HookFailed,
    HookTimeout,
    HookUnsafe,
    HookMissing,
    HookDeferred,
    Inhibited,
    Postponed,
    // The new version.
    NotActive,
    NoContact,
    HealthCheck,
    ServiceDown,
    CrashLoop,
    Service,
    TrialInterrupted,
    DegradedInsecure,
    // The agent itself.
    Loop,
    Internal,
}

/// What no honest server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Deserialize), serde(rename_all = "snake_case"))]
pub(crate) enum Attack {
    BadSig,
    Threshold,
    WrongDevice,
    NonceMismatch,
    Rollback,
    Expired,
    BadChunk,
    PathEscape,
    Oversize,
    Slow,
    ClockBack,
    Flood,
}

impl Code {
    /// What a file operation failed of.
    pub(crate) fn of_storage(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::StorageFull {
            Self::NoSpace
        } else if fs::is_failing(error) {
            Self::StorageFailing
        } else {
            Self::Storage
        }
    }

    /// The word.
    #[expect(clippy::too_many_lines, reason = "one line for each code")]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::BadSignature => "bad_signature",
            Self::BadDocument => "bad_document",
            Self::Oversize => "oversize",
            Self::WrongDevice => "wrong_device",
            Self::NonceMismatch => "nonce_mismatch",
            Self::RequestMismatch => "request_mismatch",
            Self::WrongRelease => "wrong_release",
            Self::RootExpired => "root_expired",
            Self::BadRoot => "bad_root",
            Self::RootMissing => "root_missing",
            Self::HeadMissing => "head_missing",
            Self::HeadExpired => "head_expired",
            Self::Revoked => "revoked",
            Self::Untrusted => "untrusted",
            Self::Expired => "expired",
            Self::UnknownProduct => "unknown_product",
            Self::NoLauncher => "no_launcher",
            Self::WrongHardware => "wrong_hardware",
            Self::WrongChannel => "wrong_channel",
            Self::WrongInstaller => "wrong_installer",
            Self::AgentTooOld => "agent_too_old",
            Self::NeedsSteppingStone => "needs_stepping_stone",
            Self::NeedsProduct => "needs_product",
            Self::BelowFloor => "below_floor",
            Self::Downgrade => "downgrade",
            Self::CounterConflict => "counter_conflict",
            Self::KnownBad => "known_bad",
            Self::TooManyOrders => "too_many_orders",
            Self::Unreachable => "unreachable",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Slow => "slow",
            Self::Http => "http",
            Self::HttpStatus => "http_status",
            Self::Encoded => "encoded",
            Self::Download => "download",
            Self::BadRange => "bad_range",
            Self::BadChunk => "bad_chunk",
            Self::BadChunkList => "bad_chunk_list",
            Self::WrongPayload => "wrong_payload",
            Self::NoSpace => "no_space",
            Self::Storage => "storage",
            Self::StorageFailing => "storage_failing",
            Self::JournalLost => "journal_lost",
            Self::ReleaseLost => "release_lost",
            Self::Layout => "layout",
            Self::TooManyChunks => "too_many_chunks",
            Self::Unpack => "unpack",
            Self::PathEscape => "path_escape",
            Self::NoRandomness => "no_randomness",
            Self::BadFacts => "bad_facts",
            Self::HookFailed => "hook_failed",
            Self::HookTimeout => "hook_timeout",
            Self::HookUnsafe => "hook_unsafe",
            Self::HookMissing => "hook_missing",
            Self::HookDeferred => "hook_deferred",
            Self::Inhibited => "inhibited",
            Self::Postponed => "postponed",
            Self::NoContact => "no_contact",
            Self::Installer => "installer",
            Self::NotActive => "not_active",
            Self::HealthCheck => "health_check",
            Self::ServiceDown => "service_down",
            Self::CrashLoop => "crash_loop",
            Self::Service => "service",
            Self::TrialInterrupted => "trial_interrupted",
            Self::DegradedInsecure => "degraded_insecure",
            Self::Loop => "loop",
            Self::Internal => "internal",
        }
    }
}

impl Attack {
    /// The word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::BadSig => "bad_sig",
            Self::Threshold => "threshold",
            Self::WrongDevice => "wrong_device",
            Self::NonceMismatch => "nonce_mismatch",
            Self::Rollback => "rollback",
            Self::Expired => "expired",
            Self::BadChunk => "bad_chunk",
            Self::PathEscape => "path_escape",
            Self::Oversize => "oversize",
            Self::Slow => "slow",
            Self::ClockBack => "clock_back",
            Self::Flood => "flood",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::de::DeserializeOwned;

    use super::*;

    /// Every word of `T`, by the message about one that it does not have.
    fn words<T: DeserializeOwned>(as_str: impl Fn(T) -> &'static str) -> BTreeSet<String> {
        let refused = serde_json::from_str::<T>("\"no such word\"").err().expect("refused").to_string();
        let (_, known) = refused.split_once("expected one of ").expect("a list");
        let words: BTreeSet<String> = known.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        for word in &words {
            let value = serde_json::from_value(word.as_str().into()).expect("a word");
            assert_eq!(as_str(value), word);
        }
        words
    }

    /// What stands in backticks between two lines of a page.
    fn listed(page: &str, from: &str, to: &str) -> BTreeSet<String> {
        let (_, below) = page.split_once(from).unwrap_or_else(|| panic!("no {from:?}"));
        let (list, _) = below.split_once(to).unwrap_or_else(|| panic!("no {to:?}"));
        let words = list.split('`').skip(1).step_by(2);
        words.filter(|word| !word.ends_with(".md") && *word != "callboard-agent").map(str::to_owned).collect()
    }

    const CHECK_IN: &str = include_str!("../../proto-docs/check-in.md");
    const STATES: &str = include_str!("../../proto-docs/states.md");
    const SIGNING: &str = include_str!("../../proto-docs/signing.md");

    #[test]
    fn the_pages_list_every_code_that_the_agent_says_and_no_other() {
        let failures = listed(STATES, "| Codes of `callboard-agent` | When |", "\n\n");
        let others = listed(CHECK_IN, "`last_error` of `callboard-agent`", "\n\n");
        let all: BTreeSet<String> = failures.union(&others).cloned().collect();
        assert_eq!(all, words(Code::as_str));
        let refused = listed(SIGNING, "with one of the codes ", ".\n\n");
        assert!(refused.is_subset(&failures), "{refused:?}");
    }

    #[test]
    fn the_page_lists_every_kind_of_attack_and_no_other() {
        let listed = listed(CHECK_IN, "Kinds of `attacks` that the agent counts:", ".\n\n");
        assert_eq!(listed, words(Attack::as_str));
        assert_eq!(listed, callboard_proto::check_in::ATTACKS.map(str::to_owned).into(), "what the server knows");
    }
}
