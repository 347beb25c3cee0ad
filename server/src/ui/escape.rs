//! How values stand in pages: as text, whoever wrote them. HTML in them is no markup, and characters that a reader would
//! not see (control characters, marks that turn the order of what is around them) are written out.
//!
//! `askama.toml` names [`Shown`] for all templates, so no page has to think of it.

use std::fmt::{Result, Write};

use askama::filters::Escaper;
use callboard_proto::text::is_command;

/// The escaping of every `{{ value }}` that is not marked `safe`.
#[derive(Clone, Copy)]
pub(crate) struct Shown;

impl Escaper for Shown {
    fn write_escaped_str<W: Write>(&self, mut to: W, text: &str) -> Result {
        let mut plain = 0;
        for (at, c) in text.char_indices().filter(|(_, c)| is_special(*c)) {
            to.write_str(text.get(plain..at).unwrap_or_default())?;
            self.write_escaped_char(&mut to, c)?;
            plain = at + c.len_utf8();
        }
        to.write_str(text.get(plain..).unwrap_or_default())
    }

    fn write_escaped_char<W: Write>(&self, mut to: W, c: char) -> Result {
        match c {
            '<' | '>' | '"' | '\'' | '&' => write!(to, "&#{};", u32::from(c)),
            c if is_special(c) => write!(to, "{}", c.escape_default()),
            c => to.write_char(c),
        }
    }
}

fn is_special(c: char) -> bool {
    // Logs have lines and tabs.
    matches!(c, '<' | '>' | '"' | '\'' | '&') || is_command(c) && !matches!(c, '\n' | '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_what_no_eye_can_see_is_text() {
        let mut shown = String::new();
        let text = "a<b>\"'&\u{1b}[31m\u{202e}é\n\t東";
        Shown.write_escaped_str(&mut shown, text).unwrap();
        assert_eq!(shown, "a&#60;b&#62;&#34;&#39;&#38;\\u{1b}[31m\\u{202e}é\n\t東");
        assert_eq!(text.chars().count(), 17);
    }
}
