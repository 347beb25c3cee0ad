//! `callboard top`: the fleet on one screen, as it is now.

use std::{
    io::{IsTerminal as _, stdin, stdout},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use ratatui::{
    DefaultTerminal, Terminal,
    backend::TestBackend,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};

use super::{
    Context,
    api::Api,
    duration,
    exit::{BadInput, Refused, one_line},
    show::{self, Format},
    stop::Stop,
};

mod board;
mod draw;

use board::Board;

/// How long a key may wait for what it asks for.
const KEYS: Duration = Duration::from_millis(100);
/// Columns of the picture that is printed.
const WIDTH: u16 = 100;

/// How to look.
#[derive(clap::Args)]
pub(crate) struct TopArgs {
    /// How often to look
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    every: Duration,
    /// Print the screen once as text, and end
    #[arg(long)]
    once: bool,
}

/// What the thread that asks the server has found.
type Look = anyhow::Result<Board>;

/// What is on the screen.
struct Screen {
    board: Option<Board>,
    /// Why it is not as things are now.
    trouble: Option<String>,
}

/// Shows it until somebody has seen enough.
pub(crate) fn run(args: &TopArgs, context: &Context) -> anyhow::Result<()> {
    let api = context.api()?;
    if args.once || context.format == Format::Json {
        return show::value(context.format, &Board::read(&api)?, picture);
    }
    let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
    if !stdout().is_terminal() || !stdin().is_terminal() || dumb {
        let detail =
            "top needs a terminal that can be drawn on; --once prints the same as text, --output json for programs";
        return Err(BadInput::new(detail).into());
    }
    // Whatever is wrong with server or token is said before the screen is taken.
    let first = Board::read(&api)?;
    let stop = Stop::on_signals()?;
    let mut terminal = ratatui::try_init().context("cannot draw on this terminal")?;
    let ended = watch(&mut terminal, api, args.every, &stop, first);
    ratatui::try_restore().context("cannot give the terminal back; the command reset does")?;
    ended
}

/// Draws what comes until somebody quits.
fn watch(terminal: &mut DefaultTerminal, api: Api, every: Duration, stop: &Stop, first: Board) -> anyhow::Result<()> {
    let (asks, asked) = mpsc::channel();
    let (finds, found) = mpsc::channel();
    // A server that does not answer must not keep anybody from quitting. The thread ends with the process.
    thread::Builder::new().name("look".to_owned()).spawn(move || look(&api, every, &asked, &finds))?;
    let mut screen = Screen { board: Some(first), trouble: None };
    loop {
        terminal.draw(|frame| draw::screen(frame, screen.board.as_ref(), screen.trouble.as_deref()))?;
        if event::poll(KEYS)? {
            match event::read()? {
                Event::Key(key) if quits(key) => return Ok(()),
                Event::Key(KeyEvent { code: KeyCode::Char('r'), .. }) => drop(asks.send(())),
                _ => {}
            }
        }
        if stop.wait(Duration::ZERO) {
            return Ok(());
        }
        for look in found.try_iter() {
            screen.take(look)?;
        }
    }
}

/// Asks the server again and again, and at once when it is told to.
fn look(api: &Api, every: Duration, asked: &mpsc::Receiver<()>, finds: &mpsc::Sender<Look>) {
    while asked.recv_timeout(every) != Err(mpsc::RecvTimeoutError::Disconnected) {
        if finds.send(Board::read(api)).is_err() {
            return;
        }
    }
}

impl Screen {
    /// A server that is away comes back; one that says no does not.
    fn take(&mut self, look: Look) -> anyhow::Result<()> {
        match look {
            Ok(board) => *self = Self { board: Some(board), trouble: None },
            Err(error) if error.chain().any(|cause| cause.is::<Refused>()) => return Err(error),
            Err(error) => self.trouble = Some(one_line(&error)),
        }
        Ok(())
    }
}

fn quits(key: KeyEvent) -> bool {
    let interrupted = key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'd'));
    key.kind != KeyEventKind::Release && (interrupted || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

/// The same screen as text, as high as it needs to be.
fn picture(board: &Board) -> String {
    let backend = TestBackend::new(WIDTH, draw::height(board));
    let Ok(mut terminal) = Terminal::new(backend);
    let Ok(_) = terminal.draw(|frame| draw::parts(frame, board));
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(usize::from(WIDTH)).map(|row| {
        let text: String = row.iter().map(|cell| cell.symbol()).collect();
        text.trim_end().to_owned()
    });
    rows.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

#[cfg(test)]
mod tests;
