//! Showing texts that somebody else wrote: on terminals, in logs, on pages. They are shown, and never obeyed.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, Write},
};

use super::Priority;

/// Whether `c` is a command rather than a character: control characters, and marks that turn the order of what is around
/// them.
pub fn is_command(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with commands written out, such as `\u{1b}`.
pub fn shown(text: &str) -> Cow<'_, str> {
    written_out(text, is_command, |shown, c| write!(shown, "{}", c.escape_default()))
}

/// The same for JSON, as its grammar has it; JSON it stays, and the lines that it consists of.
pub fn shown_json(json: &str) -> Cow<'_, str> {
    written_out(json, |c| is_command(c) && c != '\n', |shown, c| write!(shown, "\\u{:04x}", u32::from(c)))
}

fn written_out(
    text: &str,
    is_bad: impl Fn(char) -> bool,
    write: impl Fn(&mut String, char) -> std::fmt::Result,
) -> Cow<'_, str> {
    if !text.contains(&is_bad) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_bad(c) {
            // Writing to a String cannot fail.
            let _ = write(&mut shown, c);
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Writes log lines, each of which comes whole: only its last character may end it.
#[derive(Debug)]
pub struct Lines<W> {
    to: W,
    /// Whether whoever makes the lines colours them.
    colours: bool,
    priority: Option<Priority>,
}

impl<W: Write> Lines<W> {
    /// Writes to `to`; with `colours` the lines may have escape sequences, in which case their maker must let none of
    /// anybody else in.
    pub const fn new(to: W, colours: bool) -> Self {
        Self { to, colours, priority: None }
    }

    /// Writes to the journal of systemd, which takes the priority from the beginning of each line.
    pub const fn for_journal(to: W, priority: Priority) -> Self {
        Self { to, colours: false, priority: Some(priority) }
    }
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let (text, end) = text.strip_suffix('\n').map_or((&*text, ""), |text| (text, "\n"));
        let colours = self.colours;
        let is_bad = |c: char| is_command(c) && !(colours && c == '\u{1b}');
        let shown = written_out(text, is_bad, |shown, c| write!(shown, "{}", c.escape_default()));
        let priority = self.priority.map(Priority::prefix).unwrap_or_default();
        self.to.write_all(format!("{priority}{shown}{end}").as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[2J\u{9b}31m\u{202e}b\u{2066}\u{7f}\n\u{61c}c";

    #[test]
    fn commands_are_written_out_and_everything_else_stays() {
        assert_eq!(shown("Café 東京 עברית 👩\u{200d}🍳"), "Café 東京 עברית 👩\u{200d}🍳");
        assert_eq!(shown(HOSTILE), "a\\u{1b}[2J\\u{9b}31m\\u{202e}b\\u{2066}\\u{7f}\\n\\u{61c}c");
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({ "hw": HOSTILE, "list": ["\u{85}", "plain"] });
        let json = serde_json::to_string_pretty(&value).unwrap_or_default();
        let safe = shown_json(&json);
        assert!(safe.chars().all(|c| !is_command(c) || c == '\n'), "{safe:?}");
        assert!(safe.contains("\\u009b31m\\u202eb\\u2066\\u007f\\n\\u061cc"), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).ok(), Some(value));
    }

    #[test]
    fn a_line_for_the_journal_begins_with_its_priority() {
        let mut to = Vec::new();
        for priority in [Priority::Error, Priority::Warning, Priority::Info, Priority::Debug] {
            Lines::for_journal(&mut to, priority).write_all(b"a\n<0>b\n").unwrap_or_default();
        }
        assert_eq!(String::from_utf8_lossy(&to), "<3>a\\n<0>b\n<4>a\\n<0>b\n<6>a\\n<0>b\n<7>a\\n<0>b\n");
    }

    #[test]
    fn a_log_line_is_one_line() {
        let write = |colours: bool, line: &str| {
            let mut to = Vec::new();
            Lines::new(&mut to, colours).write_all(line.as_bytes()).unwrap_or_default();
            String::from_utf8_lossy(&to).into_owned()
        };
        assert_eq!(write(false, "a\nINFO forged\u{202e}\u{1b}[0m\n"), "a\\nINFO forged\\u{202e}\\u{1b}[0m\n");
        assert_eq!(write(true, "\u{1b}[32mINFO\u{1b}[0m x\ty\n"), "\u{1b}[32mINFO\u{1b}[0m x\\ty\n");
    }
}
