//! One PostgreSQL for all tests of a run, and a database of its own for each test.
//!
//! `CALLBOARD_TEST_POSTGRES` may name a server (`postgres://USER@HOST/DATABASE`, allowed to create databases). Without
//! it one is started on a temporary directory, reachable by a Unix socket only; PostgreSQL refuses to run as root, so
//! root starts it as an unprivileged user. It ends with the tests, however they end.

use std::{
    fs,
    io::ErrorKind,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use diesel::{Connection as _, PgConnection, connection::SimpleConnection as _};

use super::wait;

/// Names a PostgreSQL that is there already.
const URL: &str = "CALLBOARD_TEST_POSTGRES";
/// Waits for its input to end, which it does when the test process ends, in whatever way; then stops and removes all.
const GUARD: &str =
    r#"dir=$1; shift; "$@" & server=$!; cat > /dev/null; kill -INT $server; wait $server; rm -rf "$dir""#;

/// A PostgreSQL in which tests make databases.
#[derive(Debug)]
struct Cluster {
    /// With `{}` where the name of the database stands.
    pattern: String,
    admin_url: String,
    _guard: Option<(Child, ChildStdin)>,
}

/// A fresh database of one test.
#[derive(Debug)]
pub struct Database {
    pub url: String,
    name: String,
}

/// A fresh database, or `None` where there is no PostgreSQL.
///
/// # Panics
/// Where there is none and `CI` or `CALLBOARD_TEST_REQUIRE_POSTGRES` is set.
pub fn database() -> Option<Database> {
    Some(cluster()?.create("template1"))
}

impl Database {
    /// Another one that holds the same. Nobody may be connected to this one meanwhile.
    pub fn copy(&self) -> Self {
        cluster().unwrap().create(&self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(mut conn) = cluster().and_then(|cluster| PgConnection::establish(&cluster.admin_url).ok()) {
            // What is left over ends with the cluster.
            let _ = conn.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        }
    }
}

fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(|| match std::env::var(URL) {
        Ok(url) => Some(Cluster::given(&url)),
        Err(_) => programs().map(|programs| Cluster::start(&programs)),
    });
    let required = ["CI", "CALLBOARD_TEST_REQUIRE_POSTGRES"].iter().any(|name| std::env::var_os(name).is_some());
    assert!(cluster.is_some() || !required, "PostgreSQL is required here: install it, or name one in {URL}");
    cluster.as_ref()
}

/// Where `initdb` and `postgres` are: in the path, or where Debian keeps them.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = debian.map(|entry| entry.path()).collect();
    versions.sort_by_key(|dir| dir.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
    let installed = versions.into_iter().rev().map(|dir| dir.join("bin"));
    std::env::split_paths(&path)
        .chain(installed)
        .find(|dir| ["initdb", "postgres"].iter().all(|program| dir.join(program).exists()))
}

impl Cluster {
    fn create(&self, template: &str) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("callboard_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut conn = PgConnection::establish(&self.admin_url).unwrap();
        conn.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).unwrap();
        conn.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")).unwrap();
        Database { url: self.pattern.replace("{}", &name), name }
    }

    fn given(url: &str) -> Self {
        let (base, query) =
            url.split_once('?').map_or((url, String::new()), |(base, query)| (base, format!("?{query}")));
        let (server, _) = base.rsplit_once('/').unwrap_or_else(|| panic!("{URL} = {url:?} names no database"));
        Self { pattern: format!("{server}/{{}}{query}"), admin_url: url.to_owned(), _guard: None }
    }

    fn start(programs: &Path) -> Self {
        let user = unprivileged_user();
        // The directory is removed by the guard, which may outlive this process by a moment.
        let dir = tempfile::Builder::new().prefix("callboard-postgres-").tempdir().unwrap().keep();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        let run = |program: PathBuf| {
            let mut command = Command::new(program);
            command.current_dir(&dir).env_remove("PGDATA").env("LC_ALL", "C");
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command
        };
        if let Some((uid, gid)) = user {
            let owner = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            rustix::fs::chown(&dir, Some(owner.0), Some(owner.1)).unwrap();
        }
        let data = dir.join("data");
        let made = run(programs.join("initdb"))
            .args(["--username=callboard", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let log = fs::File::create(dir.join("log")).unwrap();
        let mut guard = run("sh".into());
        guard
            .args(["-c", GUARD, "sh"])
            .arg(&dir)
            .arg(programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&dir);
        for setting in ["listen_addresses=", "max_connections=200", "fsync=off", "full_page_writes=off"] {
            guard.args(["-c", setting]);
        }
        let mut guard = guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).process_group(0).spawn().unwrap();
        let input = guard.stdin.take().unwrap();
        let pattern = format!("postgres://callboard@/{{}}?host={}", dir.display());
        let admin_url = pattern.replace("{}", "postgres");
        wait::until("PostgreSQL accepts connections", || {
            if let Ok(Some(status)) = guard.try_wait() {
                panic!("PostgreSQL ended with {status}");
            }
            PgConnection::establish(&admin_url).is_ok()
        });
        Self { pattern, admin_url, _guard: Some((guard, input)) }
    }
}

/// Who does what root must not do, by user and group; `None` unless this is root.
pub(crate) fn unprivileged_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = match fs::read_to_string("/etc/passwd") {
        Ok(users) => users,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => panic!("/etc/passwd: {error}"),
    };
    let find = |name: &str| {
        let mut fields =
            users.lines().map(|line| line.split(':')).find(|fields| fields.clone().next() == Some(name))?;
        let uid = fields.nth(2)?.parse().ok()?;
        Some((uid, fields.next()?.parse().ok()?))
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("root needs a user postgres or nobody to start PostgreSQL"))
}
