//! Globs: `*` is any run of characters, `?` is exactly one, everything else is itself.
//!
//! There is no escape and there are no classes, and case counts. A character is a Unicode scalar value. The same
//! pattern can be written for SQLite's `GLOB` and for a `LIKE ... ESCAPE '\'` that minds case (PostgreSQL).

use std::fmt;

/// A pattern for text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Glob(String);

impl Glob {
    /// Every text is a pattern.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// The pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether all of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        // Most patterns are a beginning and a star. What is alike need not be taken apart into characters.
        let alike = |(p, t): &(u8, u8)| p == t && !matches!(p, b'*' | b'?');
        let alike = self.0.bytes().zip(text.bytes()).take_while(alike).count();
        let (mut pattern, mut rest) = self.0.get(alike..).zip(text.get(alike..)).unwrap_or((&self.0, text));
        // Where to go on when a later part fails: the last star, and the text from which it was tried.
        let mut retry: Option<(&str, &str)> = None;
        loop {
            let (p, t) = (pattern.chars().next(), rest.chars().next());
            match (p, t) {
                (None, None) => return true,
                // The last star takes all that is left.
                (Some('*'), _) if pattern.len() == 1 => return true,
                (Some('*'), _) => {
                    pattern = tail(pattern);
                    retry = Some((pattern, rest));
                }
                (Some(p), Some(t)) if p == '?' || p == t => (pattern, rest) = (tail(pattern), tail(rest)),
                _ => match retry {
                    Some((after_star, from)) if !from.is_empty() => {
                        (pattern, rest) = (after_star, tail(from));
                        retry = Some((after_star, rest));
                    }
                    _ => return false,
                },
            }
        }
    }

    /// The pattern for SQLite's `GLOB`, which has classes that ours has not.
    pub fn to_sqlite_glob(&self) -> String {
        self.0.replace('[', "[[]")
    }

    /// The pattern for `LIKE ... ESCAPE '\'`.
    pub fn to_like(&self) -> String {
        let mut like = String::with_capacity(self.0.len() + 4);
        for c in self.0.chars() {
            match c {
                '*' => like.push('%'),
                '?' => like.push('_'),
                '%' | '_' | '\\' => like.extend(['\\', c]),
                c => like.push(c),
            }
        }
        like
    }
}

fn tail(text: &str) -> &str {
    let mut chars = text.chars();
    chars.next();
    chars.as_str()
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_and_question_marks_stand_for_characters() {
        for (pattern, text, wanted) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("verifone-*", "verifone-m440", true),
            ("verifone-*", "Verifone-m440", false),
            ("*-m4?0", "verifone-m440", true),
            ("*ab*ab", "ababxab", true),
            ("a?c", "ac", false),
            ("a?c", "aäc", true),
            ("[a]", "a", false),
            ("[a]", "[a]", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn patterns_are_rewritten_for_databases() {
        assert_eq!(Glob::new("a[b]*").to_sqlite_glob(), "a[[]b]*");
        assert_eq!(Glob::new("5%_\\*?").to_like(), "5\\%\\_\\\\%_");
    }

    fn slow(pattern: &[char], text: &[char]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some('*'), _) => slow(&pattern[1..], text) || (!text.is_empty() && slow(pattern, &text[1..])),
            (Some(p), Some(t)) => (*p == '?' || p == t) && slow(&pattern[1..], &text[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_equals_the_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            prop_assert_eq!(Glob::new(pattern.clone()).matches(&text), slow(&chars(&pattern), &chars(&text)));
        }
    }
}
