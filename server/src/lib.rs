//! The Callboard update server and its operator commands.
#![allow(dead_code, reason = "the listeners and commands that put the parts together come next")]

mod durable;
mod store;

pub fn main() {}
