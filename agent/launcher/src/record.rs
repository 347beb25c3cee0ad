//! What the launcher is told, as lines of text: `committed`, `previous`, `trial`, `starts`.
//!
//! The launcher of today reads what agents write in years, so there is nothing to add here: a line that it does not know
//! makes the record one that it does not believe.

use std::{fmt, str::FromStr};

/// The schema of the slots, for good.
pub const SCHEMA: u32 = 1;

/// Which version is to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    /// The version that runs unless another is on trial; without one, the packaged agent.
    pub committed: Option<Dir>,
    /// What was committed before it.
    pub previous: Option<Dir>,
    /// The version that is on trial.
    pub trial: Option<Trial>,
    /// How often something else than a trial was started since an agent has lasted for a while.
    pub starts: u8,
}

/// A version on trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Which.
    pub dir: Dir,
    /// How often it may still be started. The one with none left has failed.
    pub tries_left: u8,
    /// In what schema it writes the agent's journal, so that the agent before it can read that.
    pub schema: u32,
}

/// The name of a version's directory below `versions/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dir(String);

impl Dir {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Dir {
    type Err = ();

    /// Lower-case letters, digits and dots, and no dot first: it leads nowhere else.
    fn from_str(text: &str) -> Result<Self, ()> {
        let legal = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'z' | b'.');
        let right = (1..=64).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(legal);
        if right { Ok(Self(text.to_owned())) } else { Err(()) }
    }
}

impl fmt::Display for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Launch {
    /// The lines.
    pub fn to_text(&self) -> String {
        let mut text = format!("starts {}\n", self.starts);
        for (key, dir) in [("committed", &self.committed), ("previous", &self.previous)] {
            if let Some(dir) = dir {
                text.push_str(&format!("{key} {dir}\n"));
            }
        }
        if let Some(Trial { dir, tries_left, schema }) = &self.trial {
            text.push_str(&format!("trial {dir} {tries_left} {schema}\n"));
        }
        text
    }

    /// Reads the lines; `None` if there is anything in them that does not belong there.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut launch = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match *words.as_slice() {
                ["starts", count] => launch.starts = count.parse().ok()?,
                ["committed", dir] => launch.committed = Some(dir.parse().ok()?),
                ["previous", dir] => launch.previous = Some(dir.parse().ok()?),
                ["trial", dir, tries, schema] => {
                    let (dir, tries_left, schema) = (dir.parse().ok()?, tries.parse().ok()?, schema.parse().ok()?);
                    launch.trial = Some(Trial { dir, tries_left, schema });
                }
                _ => return None,
            }
        }
        Some(launch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str) -> Dir {
        name.parse().expect("a name")
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let trial = Trial { dir: dir("0123456789ab.1"), tries_left: 3, schema: 1 };
        let full = Launch { committed: Some(dir("a")), previous: Some(dir("b")), trial: Some(trial), starts: 2 };
        for launch in [full, Launch::default()] {
            assert_eq!(Launch::from_text(&launch.to_text()), Some(launch));
        }
    }

    #[test]
    fn what_is_not_understood_is_not_believed() {
        for text in [
            "committed ../evil",
            "committed .hidden",
            "committed a/b",
            "committed",
            "committed A",
            "committed a b",
            "starts -1",
            "starts 256",
            "trial a 3",
            "trial a x 1",
            "colour blue",
            "\n",
        ] {
            assert_eq!(Launch::from_text(text), None, "{text:?}");
        }
        assert!("a".repeat(65).parse::<Dir>().is_err());
    }
}
