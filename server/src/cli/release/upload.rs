//! Uploading payloads, with progress: a bar on a terminal, lines elsewhere.

use std::{
    fs,
    io::{IsTerminal as _, Read as _, Seek as _, stderr},
    path::Path as File,
};

use anyhow::Context as _;
use callboard_proto::{admin::StoredPayload, digest::Digest, payload::Chunker, release::Payload};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::cli::{
    api::{Api, Path},
    exit::{BadInput, unusable},
};

/// Uploads a payload, and its chunk list if the server makes another one; skips what is there.
pub(super) fn payload(api: &Api, path: &File, payload: &Payload) -> anyhow::Result<()> {
    let mut file = fs::File::open(path).map_err(unusable("read the payload", path))?;
    let size = file.metadata().with_context(|| format!("cannot read the payload {}", path.display()))?.len();
    if size != payload.size {
        let what = format!("{} has {size} bytes, but the release says {}", path.display(), payload.size);
        return Err(BadInput(what).into());
    }
    let stored = match find(api, payload.sha256)? {
        Some(stored) => {
            eprintln!("{} is there already ({})", payload.name, human(size));
            stored
        }
        None => send(api, &mut file, payload)?,
    };
    if stored.chunks_sha256 == payload.chunks_sha256 || find(api, payload.chunks_sha256)?.is_some() {
        return Ok(());
    }
    chunk_list(api, &mut file, payload).with_context(|| format!("cannot upload the chunk list of {}", payload.name))
}

fn find(api: &Api, sha256: Digest) -> anyhow::Result<Option<StoredPayload>> {
    api.find(&Path::new(["payloads", &sha256.to_string(), "info"]))
}

fn send(api: &Api, file: &mut fs::File, payload: &Payload) -> anyhow::Result<StoredPayload> {
    let bar = if stderr().is_terminal() {
        let style =
            ProgressStyle::with_template("{prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} to go")?;
        ProgressBar::new(payload.size).with_style(style.progress_chars("#>.")).with_prefix(payload.name.clone())
    } else {
        eprintln!("{}: uploading {}", payload.name, human(payload.size));
        ProgressBar::hidden()
    };
    let path = Path::new(["payloads", &payload.sha256.to_string()]);
    let stored = api.put_stream(&path, payload.size, &mut bar.wrap_read(file));
    bar.finish_and_clear();
    let stored = stored.with_context(|| format!("cannot upload {}", payload.name))?;
    eprintln!("{}: uploaded {}", payload.name, human(payload.size));
    Ok(stored)
}

/// A release with chunks of an unusual size brings its own list.
fn chunk_list(api: &Api, file: &mut fs::File, payload: &Payload) -> anyhow::Result<()> {
    let mut chunker = Chunker::new(payload.chunk_size);
    let mut buffer = vec![0; 256 * 1024];
    file.rewind()?;
    loop {
        let read = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        chunker.update(bytes);
    }
    let list = chunker.finish().list;
    if Digest::of(&list) != payload.chunks_sha256 {
        return Err(BadInput::new("the chunk list that the release names is another file's: build it again").into());
    }
    let path = Path::new(["payloads", &payload.chunks_sha256.to_string()]);
    api.put_stream::<StoredPayload>(&path, u64::try_from(list.len())?, &mut list.as_slice()).map(drop)
}

/// A size as people read it.
pub(in crate::cli) fn human(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}
