//! The agent in another version: the same library, which calls itself what the file `edition` beside the program says,
//! and behaves so. Two words: the version, and `good`, `panics`, `hangs` or `deaf`. Its records are of the next schema.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a program of the tests: a panic fails them")]

use std::{ffi::OsString, fs, path::Path};

use callboard_agent::Program;

fn main() {
    let own = std::env::current_exe().unwrap();
    let edition = fs::read_to_string(own.with_file_name("edition")).unwrap();
    let (version, behaviour) = edition.trim().split_once(' ').unwrap();
    match behaviour {
        "good" => {}
        "panics" => panic!("this version of the agent is broken"),
        "hangs" => loop {
            std::thread::park();
        },
        "deaf" => return callboard_agent::main_of(program(version), deaf()),
        other => panic!("{other:?} is no behaviour"),
    }
    callboard_agent::main_of(program(version), std::env::args_os());
}

fn program(version: &str) -> Program {
    // It is one for the life of the process.
    Program { version: version.to_owned().leak(), schema: Program::OURS.schema + 1 }
}

/// The arguments, with a configuration by which no server is ever reached.
fn deaf() -> Vec<OsString> {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let at = args.iter().position(|arg| arg == "--config").unwrap() + 1;
    let text = fs::read_to_string(&args[at]).unwrap();
    let path = Path::new(&args[at]).with_extension("deaf.toml");
    fs::write(&path, text.replace("[network]\n", "[network]\nconnect_to = \"127.0.0.1:1\"\n")).unwrap();
    args[at] = path.into();
    args
}
