//! `callboard release build`: a directory or files become payloads and a release that nobody has signed yet.
//!
//! The same input gives the same bytes, so that several signers can each build and compare digests. The input is the
//! command line, the files, and the time of issue: `--issued-at`, else `SOURCE_DATE_EPOCH`, else the last change of a
//! packed file. Copies that do not keep file times need one of the first two.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use callboard_proto::{
    digest::Digest,
    ids::Product,
    payload::{CHUNK_SIZE, Format},
    release::{Hook, Installer, Kind, Payload, Release, Requirement, Restart, Rollback, Stage},
    signed::Envelope,
    time::Timestamp,
    version::Version,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    cli::{
        duration,
        exit::{BadInput, unusable},
        moment,
        release::upload::human,
        show, table,
    },
    durable::{self, Access},
    pack::{self, PackError},
};

/// Name of the envelope beside its payloads.
pub(crate) const ENVELOPE: &str = "release.json";

/// What a hook may take when nothing is said.
const HOOK_TIMEOUT_S: u32 = 60;

/// What to build.
#[derive(Clone, clap::Args)]
#[command(disable_version_flag = true)]
pub(crate) struct BuildArgs {
    /// A directory, or a single file
    #[arg(value_name = "PATH", required_unless_present = "payloads", conflicts_with = "payloads")]
    pub(crate) path: Option<PathBuf>,
    /// Instead of PATH a file as it is, such as a package or an image; give the option once for each
    #[arg(long = "payload", value_name = "FILE")]
    pub(crate) payloads: Vec<PathBuf>,
    /// What puts it in place: directory, or command for the program that devices have for the product
    #[arg(long, value_name = "WHAT", default_value = "directory", value_parser = word::<Installer>)]
    pub(crate) installer: Installer,
    /// Where to write release.json and the payload, named by its digest
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// What it is a release of
    #[arg(long, value_name = "NAME")]
    pub(crate) product: Product,
    /// Version for people; does not order releases
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Version,
    /// Orders the releases of a product; must rise with each
    #[arg(long, value_name = "N")]
    pub(crate) counter: u64,
    /// Epoch of the release role in the root
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) epoch: u32,
    /// Channel it is meant for; give the option once for each
    #[arg(long = "channel", value_name = "NAME", default_value = "stable")]
    pub(crate) channels: Vec<String>,
    /// Hardware it runs on, * for any run of characters; give the option once for each
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    pub(crate) hw: Vec<String>,
    /// Why it exists: security, feature or mixed
    #[arg(long, value_name = "KIND", default_value = "feature", value_parser = word::<Kind>)]
    pub(crate) kind: Kind,
    /// Once it is installed, nothing below this counter is accepted any more
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) min_floor: u64,
    /// No new installs from then on, such as 2028-05-31T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment::instant)]
    pub(crate) not_after: Option<Timestamp>,
    /// Where people read about it
    #[arg(long, value_name = "URL")]
    pub(crate) advisory: Option<String>,
    /// The oldest agent that can install it
    #[arg(long, value_name = "VERSION")]
    pub(crate) requires_agent: Option<Version>,
    /// A stepping stone: the counter that what devices run of the product must have at least before it is installed
    #[arg(long, value_name = "N")]
    pub(crate) requires_at_least: Option<u64>,
    /// Another product that must be there first, and its oldest version that will do; give the option once for each
    #[arg(long, value_name = "PRODUCT=VERSION", value_parser = requirement)]
    pub(crate) requires: Vec<Requirement>,
    /// What is restarted after the switch: none, service or reboot
    #[arg(long, value_name = "WHAT", default_value = "service", value_parser = word::<Restart>)]
    pub(crate) restart: Restart,
    /// A program of the directory that devices run at a stage of the update, and how long it may take; give the option
    /// once for each, such as pre-activate=hooks/drain:2m
    #[arg(long = "hook", value_name = "STAGE=PATH[:DURATION]", value_parser = hook)]
    pub(crate) hooks: Vec<Hook>,
    /// What going back takes: safe, needs_backup (hooks backup and restore) or forbidden
    #[arg(long, value_name = "HOW", default_value = "safe", value_parser = word::<Rollback>)]
    pub(crate) rollback: Rollback,
    /// Devices keep the new version only after they have reached the server under it
    #[arg(long)]
    pub(crate) needs_server_contact: bool,
    /// Devices put the switch off for so long at most because of what they are doing, such as 3d [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = postponement)]
    pub(crate) max_postpone: Option<u32>,
    /// Time of issue [default: SOURCE_DATE_EPOCH, else the last change of a packed file]
    #[arg(long, value_name = "TIME", value_parser = moment::instant)]
    pub(crate) issued_at: Option<Timestamp>,
    /// Time of issue in seconds since 1970, used when --issued-at is not given
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH", hide = true)]
    pub(crate) source_date_epoch: Option<u32>,
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let Some((product, version)) = text.split_once('=') else {
        return Err("PRODUCT=VERSION is wanted, such as os=13.1".to_owned());
    };
    let product = product.parse::<Product>().map_err(|error| error.to_string())?;
    let at_least = version.parse::<Version>().map_err(|error| error.to_string())?;
    Ok(Requirement { product, at_least })
}

fn hook(text: &str) -> Result<Hook, String> {
    let Some((stage, rest)) = text.split_once('=') else {
        return Err("STAGE=PATH is wanted, such as pre-activate=hooks/drain".to_owned());
    };
    let stage = word::<Stage>(stage)?;
    let (path, timeout_s) = match rest.split_once(':') {
        Some((path, length)) => (path, seconds(length)?),
        None => (rest, HOOK_TIMEOUT_S),
    };
    Ok(Hook { stage, path: path.to_owned(), timeout_s })
}

fn postponement(text: &str) -> Result<u32, String> {
    // No postponement at all, where a duration is at least a second.
    if text == "0" { Ok(0) } else { seconds(text) }
}

fn seconds(text: &str) -> Result<u32, String> {
    let length = duration::parse(text)?;
    u32::try_from(length.as_secs()).ok().ok_or_else(|| format!("{text:?} is too long"))
}

/// Reads a value by the word that it has on the wire.
fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::from(text)).map_err(|error| error.to_string())
}

#[derive(Serialize)]
struct Built {
    sha256: Digest,
    file: PathBuf,
    release: Release,
}

/// Runs the command.
pub(crate) fn run(args: &BuildArgs, format: show::Format, now: Timestamp) -> anyhow::Result<()> {
    let (envelope, release) = build(args, now)?;
    let built = Built { sha256: envelope.digest(), file: args.out.join(ENVELOPE), release };
    show::value(format, &built, |built| {
        describe(&built.release, built.sha256, &[("written to", built.file.display().to_string())])
    })
}

/// Packs and writes. Gives what is to be signed.
pub(crate) fn build(args: &BuildArgs, now: Timestamp) -> anyhow::Result<(Envelope, Release)> {
    // Before the long part: whatever is wrong with the rest of the document shows with any payload.
    envelope(&document(args, now, vec![placeholder()]))?;
    files_are_files(args)?;
    hooks_are_there(args)?;
    if args.product.as_str() == callboard_agent::PRODUCT {
        startable(args.path.as_deref().unwrap_or(Path::new("")))?;
    }
    let out = out_directory(args)?;
    let name = format!("{}.tar.zst", args.product);
    let mut packed = Vec::new();
    let mut pack_all = || {
        for source in args.sources() {
            packed.push(pack::pack(source, &name, &out).map_err(explain)?);
        }
        anyhow::Ok(())
    };
    let done = pack_all();
    let newest = packed.iter().map(|packed| packed.newest).max().unwrap_or(now);
    let payloads: Vec<Payload> = packed.into_iter().map(|packed| packed.payload).collect();
    let finish = || {
        done?;
        let release = document(args, issued_at(args, newest, now)?, payloads.clone());
        let envelope = envelope(&release)?;
        let file = out.join(ENVELOPE);
        durable::write_new(&file, &envelope.to_json(), Access::Everyone).map_err(unusable("write", &file))?;
        Ok((envelope, release))
    };
    finish().inspect_err(|_| {
        // A payload without its release is of no use to anybody; the error is what counts.
        for payload in &payloads {
            let _ = fs::remove_file(out.join(payload.sha256.to_string()));
        }
    })
}

/// A table of what a signature covers, for the one who signs.
pub(super) fn describe(release: &Release, sha256: Digest, more: &[(&str, String)]) -> String {
    let mut fields = vec![
        ("release", format!("{}@{}", release.product, release.version)),
        ("digest", sha256.to_string()),
        ("epoch.counter", format!("{}.{}", release.epoch, release.counter)),
        ("issued at", release.issued_at.to_string()),
        ("kind", table::word(&release.kind)),
        ("channels", release.channels.join(", ")),
        ("hardware", release.hw.join(", ")),
        ("installer", table::word(&release.installer)),
        ("restart", table::word(&release.restart)),
        ("rollback", table::word(&release.rollback)),
        ("put off", postponable(release.max_postpone_s)),
    ];
    if release.needs_server_contact {
        fields.push(("kept", "once the device has reached the server".to_owned()));
    }
    fields.extend(release.hooks.iter().map(|hook| ("hook", in_words(hook))));
    if release.min_floor > 0 {
        fields.push(("min floor", release.min_floor.to_string()));
    }
    fields.push(("not after", table::or_empty(release.not_after)));
    fields.push(("advisory", table::or_empty(release.advisory.as_ref())));
    fields.push(("requires agent", table::or_empty(release.requires_agent.as_ref())));
    fields.push(("requires counter", table::or_empty(release.requires_at_least)));
    fields.push(("requires", required(&release.requires)));
    fields.extend(more.iter().cloned());
    let rows = release.payloads.iter().map(|payload| {
        let unpacked = format!("{} in {}", human(payload.unpacked_size), payload.entries);
        [payload.name.clone(), human(payload.size), unpacked, table::word(&payload.format), payload.sha256.to_string()]
    });
    let payloads = table::list(["PAYLOAD", "SIZE", "UNPACKED", "FORMAT", "SHA-256"], rows);
    format!("{}\n\n{payloads}", table::fields(fields))
}

/// A hook in words.
pub(super) fn in_words(hook: &Hook) -> String {
    format!("{}: {}, {} s at most", hook.stage, hook.path, hook.timeout_s)
}

/// For how long devices may put a release off, in words.
pub(super) fn postponable(max_postpone_s: Option<u32>) -> String {
    max_postpone_s.map_or_else(|| "without a limit".to_owned(), |seconds| format!("for {seconds} s at most"))
}

/// Other products that a release needs, in words.
pub(super) fn required(products: &[Requirement]) -> String {
    products.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn document(args: &BuildArgs, issued_at: Timestamp, payloads: Vec<Payload>) -> Release {
    let args = args.clone();
    let release = Release {
        v: 1,
        issued_at,
        crit: Vec::new(),
        product: args.product,
        version: args.version,
        epoch: args.epoch,
        counter: args.counter,
        min_floor: args.min_floor,
        channels: args.channels,
        hw: args.hw,
        not_after: args.not_after,
        kind: args.kind,
        advisory: args.advisory,
        requires_agent: args.requires_agent,
        requires_at_least: args.requires_at_least,
        requires: args.requires,
        installer: args.installer,
        restart: args.restart,
        hooks: args.hooks,
        rollback: args.rollback,
        needs_server_contact: args.needs_server_contact,
        max_postpone_s: args.max_postpone,
        payloads,
    };
    Release { crit: release.critical().into_iter().map(str::to_owned).collect(), ..release }
}

impl BuildArgs {
    /// What is packed: one path, or the payloads one by one.
    fn sources(&self) -> impl Iterator<Item = &Path> {
        self.path.iter().chain(&self.payloads).map(PathBuf::as_path)
    }
}

/// What is taken as it is must be a file.
fn files_are_files(args: &BuildArgs) -> Result<(), BadInput> {
    let bad = |path: &Path, why: &str| BadInput(format!("{} is a directory; {why}", path.display()));
    if let Some(path) = args.payloads.iter().find(|path| path.is_dir()) {
        return Err(bad(path, "--payload takes files; give the directory without --payload"));
    }
    match args.path.iter().find(|path| args.installer == Installer::Command && path.is_dir()) {
        Some(path) => Err(bad(path, "--installer command takes files as they are, such as packages or images")),
        None => Ok(()),
    }
}

/// Every hook must be a program that is packed: a missing one would be found by the first device only.
fn hooks_are_there(args: &BuildArgs) -> Result<(), BadInput> {
    for Hook { stage, path, .. } in &args.hooks {
        let Some(tree) = args.path.as_ref().filter(|tree| tree.is_dir()) else {
            return Err(BadInput(format!("--hook {stage}: hooks are programs of a directory; give one as PATH")));
        };
        let file = tree.join(path);
        let found = file.symlink_metadata();
        let found =
            found.map_err(|error| BadInput(format!("--hook {stage}: cannot read {}: {error}", file.display())))?;
        if !found.is_file() || found.permissions().mode() & 0o100 == 0 {
            let file = file.display();
            return Err(BadInput(format!(
                "--hook {stage}: {file} is not a program; a file that its owner may run is wanted"
            )));
        }
    }
    Ok(())
}

fn placeholder() -> Payload {
    let sha256 = Digest::of(b"");
    Payload {
        name: "placeholder".to_owned(),
        sha256,
        size: 1,
        chunk_size: CHUNK_SIZE,
        chunks_sha256: sha256,
        format: Format::Raw,
        unpacked_size: 1,
        entries: 1,
    }
}

fn envelope(release: &Release) -> Result<Envelope, BadInput> {
    Envelope::unsigned(release).map_err(|error| BadInput(format!("devices would refuse such a release: {error}")))
}

/// What the agent's launcher starts. Devices would find out only when they have fetched it.
fn startable(path: &Path) -> Result<(), BadInput> {
    let program = path.join(callboard_agent::PRODUCT);
    if fs::metadata(&program).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o100 != 0) {
        return Ok(());
    }
    let what = "a release of the agent is a directory with its program at the top";
    Err(BadInput(format!("{} is missing, or not executable: {what}", program.display())))
}

/// A time in the future would make devices take it for the present: they trust what was signed offline.
fn issued_at(args: &BuildArgs, newest: Timestamp, now: Timestamp) -> Result<Timestamp, BadInput> {
    let from_epoch = |seconds: u32| Timestamp::from_millis(i64::from(seconds) * 1000);
    let (time, origin) = match (args.issued_at, args.source_date_epoch) {
        (Some(time), _) => (time, "--issued-at"),
        (None, Some(seconds)) => (from_epoch(seconds), "SOURCE_DATE_EPOCH"),
        (None, None) => (newest, "the last change of a packed file"),
    };
    if time > now {
        let hint = "give --issued-at";
        return Err(BadInput(format!(
            "the time of issue, {time} by {origin}, lies in the future (now is {now}); {hint}"
        )));
    }
    Ok(time)
}

fn out_directory(args: &BuildArgs) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(&args.out).map_err(unusable("make", &args.out))?;
    let real =
        |path: &Path| path.canonicalize().map_err(|error| BadInput(format!("cannot read {}: {error}", path.display())));
    let out = real(&args.out)?;
    for source in args.sources() {
        if out.starts_with(real(source)?) {
            let what = format!("--out {} lies inside {}, which is packed", args.out.display(), source.display());
            return Err(BadInput(what).into());
        }
    }
    if out.join(ENVELOPE).symlink_metadata().is_ok() {
        return Err(BadInput(format!("--out {} holds a release already; give another", args.out.display())).into());
    }
    Ok(out)
}

/// What the packer refuses is for the caller to mend; failing disks are not.
fn explain(error: PackError) -> anyhow::Error {
    match error {
        PackError::Io { .. } => anyhow::Error::new(error).context("cannot build the release"),
        refused => BadInput(format!("cannot {refused}")).into(),
    }
}

#[cfg(test)]
mod tests;
