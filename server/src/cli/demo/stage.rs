//! What the audience sees: everything, or one line for each scenario.

use std::io::{IsTerminal as _, stderr};

use callboard_proto::text::shown;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::show;

/// How much is told, and the lines that change in place while it happens.
#[derive(Clone)]
pub(super) struct Stage {
    talks: bool,
    /// Only on a terminal.
    bars: Option<MultiProgress>,
}

impl Stage {
    /// Silent but for results, or talkative.
    pub(super) fn new(once: bool) -> Self {
        Self { talks: !once, bars: (!once && stderr().is_terminal()).then(MultiProgress::new) }
    }

    /// Whether it talks.
    pub(super) fn talks(&self) -> bool {
        self.talks
    }

    /// A line for everybody.
    pub(super) fn result(&self, text: &str) -> anyhow::Result<()> {
        match &self.bars {
            Some(bars) => bars.suspend(|| show::line(text)),
            None => show::line(text),
        }
    }

    /// A line for people who watch.
    pub(super) fn say(&self, text: &str) -> anyhow::Result<()> {
        if self.talks { self.result(text) } else { Ok(()) }
    }

    /// A command that is run now, as one would type it.
    pub(super) fn command(&self, args: &[&str]) -> anyhow::Result<()> {
        let words: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
        self.say(&format!("  $ callboard {}", words.join(" ")))
    }

    /// A place for the fleet's progress.
    pub(super) fn board(&self) -> anyhow::Result<Board> {
        let style = ProgressStyle::with_template("  {bar:40} {pos} of {len} devices as expected")?;
        let done = self.bars.as_ref().map(|bars| bars.add(ProgressBar::new(0).with_style(style.progress_chars("#>."))));
        Ok(Board { stage: self.clone(), done, rows: Vec::new() })
    }
}

fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./@=:,%+".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) { arg.to_owned() } else { format!("'{}'", arg.replace('\'', "'\\''")) }
}

/// One line for each device: redrawn on a terminal, printed on change elsewhere.
pub(super) struct Board {
    stage: Stage,
    done: Option<ProgressBar>,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    text: String,
    bar: Option<ProgressBar>,
}

impl Board {
    /// Shows how a device stands.
    pub(super) fn show(&mut self, name: &str, text: &str) -> anyhow::Result<()> {
        if !self.stage.talks {
            return Ok(());
        }
        let text = shown(text).into_owned();
        if let Some(row) = self.rows.iter_mut().find(|row| row.name == name) {
            return if row.text == text { Ok(()) } else { row.show(text) };
        }
        let bar = match (&self.stage.bars, &self.done) {
            (Some(bars), Some(done)) => Some(line_for(bars, done, name)?),
            _ => None,
        };
        let mut row = Row { name: name.to_owned(), text: String::new(), bar };
        row.show(text)?;
        self.rows.push(row);
        Ok(())
    }

    /// Shows how far it is.
    pub(super) fn count(&self, done: usize, of: usize) {
        if let Some(bar) = &self.done {
            bar.set_length(u64::try_from(of).unwrap_or(0));
            bar.set_position(u64::try_from(done).unwrap_or(0));
        }
    }
}

impl Row {
    fn show(&mut self, text: String) -> anyhow::Result<()> {
        self.text = text;
        match &self.bar {
            Some(bar) => bar.set_message(self.text.clone()),
            None => show::line(&format!("  {:<16} {}", self.name, self.text))?,
        }
        Ok(())
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        for bar in self.rows.iter().filter_map(|row| row.bar.as_ref()).chain(&self.done) {
            bar.finish_and_clear();
        }
    }
}

fn line_for(bars: &MultiProgress, before: &ProgressBar, name: &str) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("  {prefix:<16} {wide_msg}")?;
    let bar = ProgressBar::no_length().with_style(style).with_prefix(name.to_owned());
    Ok(bars.insert_before(before, bar))
}
