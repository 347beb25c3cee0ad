//! Callboard's decisions: which device gets which release, when, and why.
//!
//! Everything here is a function of its arguments. There is no I/O, no clock, no async, no logging, no randomness
//! and no serialisation: the caller brings the time, the facts and the entropy, and stores what comes back.
//!
//! [`decide::decide`] answers one check-in. The same function explains a device, and [`preview::preview`] uses the
//! same parts to show a rollout before it exists.
#![warn(missing_docs)]

pub mod assignment;
pub mod audience;
pub mod bandwidth;
pub mod bucket;
pub mod catalog;
mod counted;
pub mod decide;
pub mod device;
pub mod forecast;
pub mod freeze;
pub mod gate;
pub mod guard;
pub mod ledger;
pub mod mixed;
pub mod openings;
pub mod preview;
pub mod release;
pub mod rhythm;
pub mod rollout;
pub mod selector;
pub mod simulate;
pub mod site;
pub mod timer;
pub mod trading;
pub mod trust;
pub mod window;

pub use counted::counted;

#[cfg(test)]
mod fixture;
