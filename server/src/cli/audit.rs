//! `callboard audit`: every change that somebody made, and whether the chain of them is whole.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Write},
    path::PathBuf,
    str::FromStr,
};

use anyhow::Context as _;
use callboard_proto::{
    admin::{AuditEntry, AuditHead, AuditPlace, AuditStart, ChainReader, MAX_PAGE, Page, WholeChain},
    digest::Digest,
};

use super::{
    Context,
    api::{Api, PageArgs, Path},
    exit::{self, BadInput},
    show, table,
};

/// What to do with the audit.
#[derive(clap::Subcommand)]
pub(crate) enum AuditCommand {
    /// List changes, oldest first: who, from where, what
    List {
        #[command(flatten)]
        page: PageArgs,
    },
    /// Write the whole chain as JSON lines: first where it begins, then a line for each change
    #[command(
        after_help = "Examples:\n  callboard audit export --out audit.jsonl\n  callboard audit export | gzip > audit.jsonl.gz"
    )]
    Export {
        /// To this file, and not to standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Follow the chain: whether every change is what was hashed, and nothing is missing
    #[command(
        after_help = "Examples:\n  callboard audit verify audit.jsonl --pin 17:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n  callboard audit verify"
    )]
    Verify {
        /// An export, and no server is asked; without it the chain that the server has now
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// A head that was written down elsewhere, as `audit head` prints it; may be repeated
        #[arg(long = "pin", value_name = "LINK:HASH")]
        pins: Vec<Pin>,
    },
    /// Print the newest link and its hash, to be written down where the server's administrators cannot change it
    Head,
}

/// A head that was written down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pin(AuditPlace);

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let place = || {
            let (link, hash) = text.split_once(':')?;
            Some(AuditPlace { link: link.parse().ok()?, hash: hash.parse::<Digest>().ok()? })
        };
        place().map(Self).ok_or_else(|| "a head is LINK:HASH, a number and 64 hexadecimal digits".to_owned())
    }
}

/// Runs a command.
pub(crate) fn run(command: AuditCommand, context: &Context) -> anyhow::Result<()> {
    match command {
        AuditCommand::List { page } => {
            let found: Page<AuditEntry> = context.api()?.list(&Path::new(["audit"]), &page)?;
            show::page(context.format, "changes", &found, list)
        }
        AuditCommand::Head => {
            let head: AuditHead = context.api()?.get(&Path::new(["audit", "head"]))?;
            show::value(context.format, &head, |head| format!("{}:{}\n", head.head.link, head.head.hash))
        }
        AuditCommand::Export { out } => {
            let api = context.api()?;
            match out {
                Some(path) => {
                    let file = File::create(&path).map_err(exit::unusable("make", &path))?;
                    let mut file = BufWriter::new(file);
                    let links = export(&api, &mut file).with_context(|| format!("cannot write {}", path.display()))?;
                    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
                    show::done(context.format, &format!("{links} changes are written to {}", path.display()))
                }
                None => export(&api, &mut io::stdout().lock()).map(drop),
            }
        }
        AuditCommand::Verify { file, pins } => {
            let pins = pins.into_iter().map(|pin| pin.0).collect();
            let whole = match file {
                Some(path) => of_file(&path, pins)?,
                None => of_server(&context.api()?, pins)?,
            };
            show::done(context.format, &whole.to_string())
        }
    }
}

/// Hands the chain over from its beginning, page by page; it may grow meanwhile.
fn each(api: &Api, start: AuditPlace, mut f: impl FnMut(&AuditEntry) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut after = start.link;
    loop {
        let path = Path::new(["audit"]).query("limit", MAX_PAGE).query("after", after);
        let page: Page<AuditEntry> = api.get(&path)?;
        for entry in &page.items {
            f(entry)?;
            after = entry.link;
        }
        if page.next.is_none() {
            return Ok(());
        }
    }
}

fn export(api: &Api, out: &mut impl Write) -> anyhow::Result<u64> {
    let AuditHead { start, .. } = api.get(&Path::new(["audit", "head"]))?;
    let mut links = 0;
    writeln!(out, "{}", serde_json::to_string(&AuditStart { start })?)?;
    each(api, start, |entry| {
        links += 1;
        Ok(writeln!(out, "{}", serde_json::to_string(entry)?)?)
    })?;
    out.flush()?;
    Ok(links)
}

fn of_server(api: &Api, pins: Vec<AuditPlace>) -> anyhow::Result<WholeChain> {
    let AuditHead { start, .. } = api.get(&Path::new(["audit", "head"]))?;
    let mut reader = ChainReader::new(start, pins)?;
    each(api, start, |entry| Ok(reader.next(entry)?))?;
    Ok(reader.end()?)
}

fn of_file(path: &std::path::Path, pins: Vec<AuditPlace>) -> anyhow::Result<WholeChain> {
    let file = File::open(path).map_err(exit::unusable("read", path))?;
    let mut lines = BufReader::new(file).lines();
    let wrong = |n: usize, what: &dyn std::fmt::Display| {
        BadInput(format!("{} line {n} is not a line of an export: {what}", path.display()))
    };
    let first = lines.next().transpose()?.unwrap_or_default();
    let AuditStart { start } = serde_json::from_str(&first).map_err(|source| wrong(1, &source))?;
    let mut reader = ChainReader::new(start, pins)?;
    for (n, line) in lines.enumerate() {
        let entry: AuditEntry = serde_json::from_str(&line?).map_err(|source| wrong(n + 2, &source))?;
        reader.next(&entry)?;
    }
    Ok(reader.end()?)
}

fn list(entries: &[AuditEntry]) -> String {
    let rows = entries.iter().map(|entry| {
        let AuditEntry { link, at, kind, who, source, text, .. } = entry;
        [link.to_string(), at.to_string(), who.clone(), source.clone(), kind.clone(), text.clone()]
    });
    table::list(["LINK", "AT", "WHO", "FROM", "KIND", "WHAT"], rows)
}
