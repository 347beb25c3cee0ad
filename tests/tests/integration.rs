//! The integration tests: one binary, a real server as a process, every HTTP test on SQLite and on PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "test code: a surprise is a failed test"
)]

use callboard_proto::problem::Code;
use callboard_tests::{
    http::Response,
    server::{Binaries, TestServer},
};

mod activity;
mod agent_alone;
mod agent_kill;
mod agent_update;
mod api_tokens;
mod attacks;
mod attention;
mod audit;
mod authorities;
mod backup;
mod bad_input;
mod bandwidth;
mod caps;
mod check_in;
mod clones;
mod cluster;
mod control;
mod database;
mod disk;
mod documentation;
mod dpkg;
mod durability;
mod edit;
mod eligibility;
mod enrol;
mod enrol_again;
mod examples;
mod exit_codes;
mod explain;
mod forecast;
mod freezes;
mod fuzzing;
mod gates;
mod getting_through;
mod halts;
mod hooks;
mod hostile_devices;
mod hostile_operators;
mod hostile_server;
mod identity;
mod immediate;
mod injected;
mod install;
mod installers;
mod journal;
mod last_place;
mod leaving;
mod long_poll;
mod membership;
mod moving;
mod oidc;
mod on_connect;
mod operator;
mod pace;
mod parallel;
mod payloads;
mod people;
mod permission;
mod phases;
mod progressive;
mod registry;
mod reimage;
mod releases;
mod renewal;
mod reports;
mod retention;
mod retries;
mod rollout_files;
mod scheduled;
mod sealed_keys;
mod second_person;
mod selectors;
mod self_update;
mod signed_requests;
mod simulate;
mod site_state;
mod startup;
mod stepping_stones;
mod structure;
mod texts;
mod timers;
mod trading;
mod trust;
mod ui_attention;
mod ui_browser;
mod ui_devices;
mod ui_enrolment;
mod ui_login;
mod ui_overview;
mod ui_permission;
mod ui_releases;
mod ui_rollouts;
mod ui_settings;
mod waiting_enrolments;
mod webhooks;

/// The thin binaries of this package.
const BINARIES: Binaries = Binaries {
    callboard: env!("CARGO_BIN_EXE_test-callboard"),
    agent: env!("CARGO_BIN_EXE_test-callboard-agent"),
    launcher: env!("CARGO_BIN_EXE_test-callboard-launcher"),
    next_agent: env!("CARGO_BIN_EXE_test-next-agent"),
};

/// Runs a test on both engines.
fn on_both(test: impl Fn(&mut TestServer)) {
    on_both_with(&[], test);
}

/// The same with lines of `server.toml`.
fn on_both_with(settings: &[&str], test: impl Fn(&mut TestServer)) {
    callboard_tests::server::on_both(BINARIES, settings, test);
}

/// A problem with this code, whose detail says that.
#[track_caller]
fn refused(answer: &Response, code: Code, said: &str) {
    let detail = answer.problem(code);
    assert!(detail.contains(said), "{detail:?} does not say {said:?}");
}
