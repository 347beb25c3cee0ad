//! A data directory with a root and releases, made once; every world gets a copy of its database.

use std::path::{Path, PathBuf};

use callboard_proto::{
    digest::Digest,
    release::{Installer, Kind, Release, Restart},
    root::Root,
    signed::Envelope,
};

use super::setup::Setup;
use crate::{
    cli::{key, run_args},
    config::{Fragment, Settings},
    db::{self, Db, DbError, url::DbUrl},
};

pub(super) struct Template {
    pub(super) dir: tempfile::TempDir,
    releases: Vec<Digest>,
}

/// Where files are memory, if there is such a place.
pub(super) fn memory() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() }
}

impl Template {
    pub(super) fn make() -> Self {
        let dir = tempfile::tempdir_in(memory()).unwrap();
        let data = dir.path().join("data");
        let args = ["init", "--no-profile", "--fixed-clock", "2026-10-01T00:00:00Z", "--dir"];
        let args = args.iter().map(Into::into).chain([data.clone().into_os_string()]);
        run_args(args).unwrap();
        let mut template = Self { dir, releases: Vec::new() };
        template.releases = template.publish();
        template
    }

    pub(super) fn settings(&self) -> Settings {
        let data = self.dir.path().join("data");
        Settings::merge(&data, &[Fragment::from_file(&data.join(crate::config::FILE)).unwrap()]).unwrap()
    }

    /// A database of its own for one world.
    pub(super) fn copy(&self, to: &Path) -> DbUrl {
        let file = to.join("world.db");
        std::fs::copy(self.dir.path().join("data/callboard.db"), &file).unwrap();
        DbUrl::Sqlite(file.to_str().unwrap().to_owned())
    }

    pub(super) fn name_releases(&self, setup: &mut Setup) {
        setup.releases.iter_mut().zip(&self.releases).for_each(|(release, digest)| release.digest = *digest);
    }

    fn publish(&self) -> Vec<Digest> {
        let data = self.dir.path().join("data");
        let key = key::read_private(&data.join("try-out-keys/release.key")).unwrap();
        let root = Root::open_initial(&std::fs::read(data.join("root.json")).unwrap()).unwrap();
        let now = "2026-10-01T00:00:00Z".parse().unwrap();
        let mut digests = Vec::new();
        let db = Db::open(self.settings().database).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for one in Setup::draw(0, 5).releases {
            let document = Release {
                v: 1,
                issued_at: now,
                crit: Vec::new(),
                product: one.product.parse().unwrap(),
                version: one.version.parse().unwrap(),
                epoch: 0,
                counter: one.counter,
                min_floor: 0,
                channels: vec!["stable".to_owned()],
                hw: vec![one.hw.to_owned()],
                not_after: None,
                kind: Kind::Feature,
                advisory: None,
                requires_agent: None,
                requires_at_least: None,
                requires: Vec::new(),
                installer: Installer::Directory,
                restart: Restart::None,
                payloads: vec![payload()],
            };
            let mut envelope = Envelope::unsigned(&document).unwrap();
            envelope.sign(&key);
            let verified = root.verify_release(&envelope).unwrap();
            digests.push(verified.digest());
            let bytes = envelope.to_json();
            let stored = runtime.block_on(db.write(move |conn| {
                db::releases::insert(conn, verified.digest(), &verified, &bytes, now)?;
                Ok::<_, DbError>(())
            }));
            stored.unwrap();
        }
        db.close();
        drop(db);
        digests
    }
}

fn payload() -> callboard_proto::release::Payload {
    use callboard_proto::payload::{CHUNK_SIZE, Chunker, Format};
    let mut chunker = Chunker::new(CHUNK_SIZE);
    chunker.update(b"a world");
    let chunked = chunker.finish();
    callboard_proto::release::Payload {
        name: "world.bin".to_owned(),
        sha256: chunked.sha256,
        size: chunked.size,
        chunk_size: CHUNK_SIZE,
        chunks_sha256: Digest::of(&chunked.list),
        format: Format::Raw,
        unpacked_size: chunked.size,
        entries: 1,
    }
}
