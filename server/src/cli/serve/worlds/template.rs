//! A data directory with a root and releases, made once; every world gets a copy of its database.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    sync::Mutex,
};

use callboard_proto::{
    digest::Digest,
    release::{Installer, Kind, Release, Restart, Rollback},
    root::Root,
    signed::Envelope,
};

use super::{
    postgres::{self, Database},
    setup::Setup,
};
use crate::{
    cli::{key, run_args},
    config::{Fragment, Settings},
    db::{self, Db, DbError, url::DbUrl},
};

pub(super) struct Template {
    dir: tempfile::TempDir,
    /// What worlds on SQLite are copied from: everything in one file.
    file: PathBuf,
    releases: Vec<Digest>,
    /// Where worlds live on PostgreSQL: what they are copied from.
    postgres: Option<Mutex<Database>>,
}

/// The database of one world.
pub(super) enum Copy {
    Sqlite(tempfile::TempDir),
    Postgres(Database),
}

impl Copy {
    pub(super) fn url(&self) -> DbUrl {
        match self {
            Self::Sqlite(dir) => DbUrl::Sqlite(dir.path().join("world.db").to_str().unwrap().to_owned()),
            Self::Postgres(database) => DbUrl::parse(&database.url).unwrap(),
        }
    }

    /// SQLite counts commits in the third word of the index of its log.
    pub(super) fn commits(&self) -> Option<u32> {
        let Self::Sqlite(dir) = self else { return None };
        let mut words = [0; 12];
        std::fs::File::open(dir.path().join("world.db-shm")).unwrap().read_exact(&mut words).unwrap();
        Some(u32::from_ne_bytes([words[8], words[9], words[10], words[11]]))
    }
}

/// Where files are memory, if there is such a place.
pub(super) fn memory() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() }
}

impl Template {
    /// For worlds on SQLite.
    pub(super) fn make() -> Self {
        Self::make_on(None)
    }

    /// For worlds on PostgreSQL, if there is one.
    pub(super) fn make_on_postgres() -> Option<Self> {
        Some(Self::make_on(Some(postgres::database()?)))
    }

    fn make_on(postgres: Option<Database>) -> Self {
        let dir = tempfile::tempdir_in(memory()).unwrap();
        let data = dir.path().join("data");
        let args = ["init", "--no-profile", "--fixed-clock", "2026-10-01T00:00:00Z", "--dir"];
        let args = args.iter().map(Into::into).chain([data.clone().into_os_string()]);
        run_args(args).unwrap();
        let file = dir.path().join("template.db");
        let mut template = Self { dir, file, releases: Vec::new(), postgres: postgres.map(Mutex::new) };
        template.releases = template.publish();
        if template.postgres.is_none() {
            // The database itself may have what was written last in its log still: a connection that the pool was
            // opening when it ended closes only some time later.
            let database = template.dir.path().join("data/callboard.db");
            db::snapshot(database.to_str().unwrap(), &template.file).unwrap();
        }
        template
    }

    pub(super) fn settings(&self) -> Settings {
        let data = self.dir.path().join("data");
        Settings::merge(&data, &[Fragment::from_file(&data.join(crate::config::FILE)).unwrap()]).unwrap()
    }

    /// A database of its own for one world.
    pub(super) fn copy(&self) -> Copy {
        match &self.postgres {
            None => {
                let dir = tempfile::tempdir_in(memory()).unwrap();
                std::fs::copy(&self.file, dir.path().join("world.db")).unwrap();
                Copy::Sqlite(dir)
            }
            Some(template) => Copy::Postgres(template.lock().unwrap().copy()),
        }
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
        let url = match &self.postgres {
            None => self.settings().database,
            Some(template) => DbUrl::parse(&template.lock().unwrap().url).unwrap(),
        };
        let db = Db::open(url).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        if self.postgres.is_some() {
            // As `init` has done for the other one.
            let bytes = std::fs::read(data.join("root.json")).unwrap();
            let stored = runtime.block_on(db.write(move |conn| {
                db::trust::insert_root(conn, 1, &bytes, now)?;
                Ok::<_, DbError>(())
            }));
            stored.unwrap();
        }
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
                hooks: Vec::new(),
                rollback: Rollback::Safe,
                needs_server_contact: false,
                max_postpone_s: None,
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
