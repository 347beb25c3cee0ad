//! What the integration tests are made of: a server on either engine, a device that speaks the protocol by itself,
//! a proxy that breaks connections, and builders for releases and fleets.
//!
//! Tests drive real processes over real sockets and look only at what operators and devices can see. Time is the
//! server's fixed clock, ports are given by the system, and nothing sleeps: [`wait`] waits for conditions.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "test code: a surprise is a failed test"
)]

pub mod api;
pub mod browser;
pub mod clock;
pub mod connect_proxy;
pub mod device;
#[path = "../fuzz/src/lib.rs"]
pub mod fuzz;
pub mod hostile;
pub mod http;
pub mod inspector;
pub mod launched;
mod listener;
pub mod machine;
pub mod postgres;
pub mod proxy;
pub mod release;
pub mod server;
pub mod till;
pub mod wait;
pub mod world;
