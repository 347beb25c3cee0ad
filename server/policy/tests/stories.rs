//! Fleet stories: every `scripts/*.txt` is a list of commands, and the file of the same name that ends in `.out` is
//! what they print. Run with `UPDATE_TRANSCRIPTS=1` to write the transcripts anew, and read the difference.
//!
//! The stories play the server's part in memory: what a decision proposes is done at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "test code"
)]

#[path = "stories/chance.rs"]
mod chance;
#[path = "stories/command.rs"]
mod command;
#[path = "stories/halted.rs"]
mod halted;
#[path = "stories/report.rs"]
mod report;
#[path = "stories/world.rs"]
mod world;

use std::{fs, path::Path};

#[test]
fn stories_end_as_their_transcripts_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut scripts: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    scripts.sort();
    assert!(scripts.len() >= 8, "the stories are gone");
    let mut different = Vec::new();
    for script in &scripts {
        let transcript = command::run(&fs::read_to_string(script).unwrap());
        let expected = script.with_extension("out");
        if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
            fs::write(&expected, &transcript).unwrap();
        } else if fs::read_to_string(&expected).ok().as_deref() != Some(transcript.as_str()) {
            different.push(format!("{}:\n{transcript}", script.display()));
        }
    }
    assert!(different.is_empty(), "these transcripts differ:\n\n{}", different.join("\n\n"));
}
