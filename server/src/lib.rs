//! The Callboard update server and its operator commands.
#![allow(dead_code, reason = "the listeners and commands that put the parts together come next")]

mod ca;
mod durable;
mod pack;
mod store;
mod tls;

pub fn main() {}
