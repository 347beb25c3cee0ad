//! The integration tests: one binary, a real server as a process, every HTTP test on SQLite and on PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "test code: a surprise is a failed test"
)]

use callboard_tests::server::{Binaries, TestServer};

mod enrol;

/// The thin binaries of this package.
const BINARIES: Binaries =
    Binaries { callboard: env!("CARGO_BIN_EXE_test-callboard"), agent: env!("CARGO_BIN_EXE_test-callboard-agent") };

/// Runs a test on both engines.
fn on_both(test: impl Fn(&mut TestServer)) {
    callboard_tests::server::on_both(BINARIES, test);
}
