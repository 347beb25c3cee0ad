//! What the fuzz targets do with the bytes they are given: read them as the product would, and hold it to what must be
//! true of whatever it accepted.
//!
//! One list for both who use it: the fuzzer in this directory, and the ordinary tests, which replay the corpus. A finding
//! is a panic.

mod agent;
mod check_in;
mod documents;
mod envelope;
mod keys;
mod range_header;
mod selector;

/// The range header's reader itself: the package around it would bring a database and a web framework.
#[path = "../../../server/src/store/range.rs"]
mod range;

/// One reader and what must be true of it.
#[derive(Clone, Copy)]
pub struct Target {
    /// Of the program in `targets/` and of the directory in `corpus/`.
    pub name: &'static str,
    /// Says whether the bytes were taken for what they should be; panics when something is not true.
    pub run: fn(&[u8]) -> bool,
}

/// All of them.
pub const TARGETS: [Target; 10] = [
    Target { name: "envelope", run: envelope::any },
    Target { name: "root", run: documents::root },
    Target { name: "release", run: documents::release },
    Target { name: "head", run: documents::head },
    Target { name: "instruction", run: documents::instruction },
    Target { name: "chunk_list", run: agent::chunk_list },
    Target { name: "range_header", run: range_header::any },
    Target { name: "selector", run: selector::any },
    Target { name: "journal", run: agent::journal },
    Target { name: "check_in", run: check_in::any },
];

/// Runs the target of this name, for the fuzzer.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("there is no target {name}")).run)(bytes);
}
