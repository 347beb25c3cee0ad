//! Rules about the code itself: who may import whom, what every file has, what the project may depend on.

use std::collections::{BTreeMap, BTreeSet};

use callboard_tests::server::Engine;
use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, sql_query, sql_types::Text};
use serde_json::Value;

mod source;

use crate::on_both;
use source::{Source, server, workspace};

/// Files that mention `word` as a path, outside of what is allowed.
fn strays(word: &str, allowed: &[&str]) -> Vec<String> {
    let files = server().into_iter().filter(|file| file.mentions(word) && !file.is_under(allowed));
    files.map(|file| file.path).collect()
}

#[test]
fn the_database_library_is_known_to_db_alone() {
    assert_eq!(strays("diesel", &["db"]), Vec::<String>::new());
    assert_eq!(strays("diesel_migrations", &["db"]), Vec::<String>::new());
}

#[test]
fn the_web_framework_is_known_to_http_ui_and_serve_alone() {
    for library in ["actix_web", "actix_service", "actix_tls"] {
        assert_eq!(strays(library, &["http", "ui", "cli/serve"]), Vec::<String>::new());
    }
    // What they log is chosen by their names.
    for library in ["actix_http", "actix_server"] {
        assert_eq!(strays(library, &["http", "telemetry"]), Vec::<String>::new());
    }
}

#[test]
fn status_codes_stand_where_problems_and_payloads_are_answered() {
    assert_eq!(strays("StatusCode", &["http/problem", "http/device/payload"]), Vec::<String>::new());
}

#[test]
fn one_file_of_each_program_reads_the_wall_clock() {
    // This file names what it looks for.
    for file in workspace().iter().filter(|file| !file.path.ends_with("/structure.rs")) {
        let reads = file.mentions("Utc::now") || file.mentions("SystemTime::now");
        assert!(!reads || file.path.ends_with("/clock.rs"), "{} reads the clock", file.path);
    }
}

#[test]
fn http_ui_cli_and_jobs_do_not_import_each_other() {
    // The route table names the pages, pages ask who is looking and answer as the API does, and serve starts everything.
    let allowed =
        BTreeSet::from([("http", "http.rs", "ui"), ("cli", "cli/serve.rs", "http"), ("cli", "cli/serve.rs", "jobs")]);
    let parts = ["http", "ui", "cli", "jobs"];
    for file in server() {
        for own in parts.into_iter().filter(|own| file.is_under(&[own])) {
            for other in parts.into_iter().filter(|other| *other != own && file.imports().contains(*other)) {
                let allowed = (own, other) == ("ui", "http") || allowed.contains(&(own, file.path.as_str(), other));
                assert!(allowed, "{} imports {other}", file.path);
            }
        }
    }
}

#[test]
fn the_store_and_the_signer_know_nothing_of_the_database() {
    for file in server().iter().filter(|file| file.is_under(&["store", "sign", "pack", "ca", "tls"])) {
        for above in ["db", "app", "http", "cli", "ui", "jobs"] {
            assert!(!file.imports().contains(above), "{} imports {above}", file.path);
        }
    }
}

#[test]
fn use_cases_know_neither_http_nor_the_command_line() {
    for file in server().iter().filter(|file| file.is_under(&["app", "db"])) {
        for above in ["http", "cli", "ui", "jobs"] {
            assert!(!file.imports().contains(above), "{} imports {above}", file.path);
        }
    }
}

#[test]
fn every_file_says_what_it_is_for_and_is_short_enough_to_read() {
    for file in workspace() {
        let header = ["//!", "#![doc = include_str!("].iter().any(|header| file.text.starts_with(header));
        assert!(header || file.is_entry() || file.is_test(), "{} has no header", file.path);
        let lines = file.text.lines().count();
        let limit = if file.is_test() { 800 } else { 500 };
        assert!(lines <= limit, "{} has {lines} lines, over {limit}", file.path);
        assert!(!file.path.ends_with("/mod.rs"), "{}", file.path);
    }
}

#[derive(QueryableByName)]
struct Applied {
    #[diesel(sql_type = Text)]
    version: String,
}

/// The directories of one engine's migrations.
fn migrations(engine: &str) -> BTreeSet<String> {
    let dir = source::root().join("migrations").join(engine);
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn migrations_have_the_same_names_on_both_engines() {
    assert_eq!(migrations("sqlite"), migrations("postgres"));
    for engine in ["sqlite", "postgres"] {
        for name in migrations(engine) {
            let dir = source::root().join("migrations").join(engine).join(&name);
            assert!(dir.join("up.sql").exists(), "{name} of {engine} has no up.sql");
        }
    }
}

#[test]
fn every_migration_file_is_in_the_binary() {
    on_both(|server| {
        let query = "SELECT version FROM __diesel_schema_migrations";
        let url = server.database_url();
        let applied: Vec<Applied> = match server.engine {
            Engine::Sqlite => {
                let mut conn = diesel::SqliteConnection::establish(url.strip_prefix("sqlite:").unwrap()).unwrap();
                sql_query(query).load(&mut conn).unwrap()
            }
            Engine::Postgres => {
                let mut conn = diesel::PgConnection::establish(&url).unwrap();
                sql_query(query).load(&mut conn).unwrap()
            }
        };
        let applied: BTreeSet<String> = applied.into_iter().map(|one| one.version).collect();
        let files = migrations(if server.engine == Engine::Sqlite { "sqlite" } else { "postgres" });
        let files: BTreeSet<String> = files.iter().map(|name| name.split('_').next().unwrap().to_owned()).collect();
        assert_eq!(applied, files, "touch server/src/db/conn.rs so that the files are embedded again");
    });
}

/// What cargo knows of the project and everything it is built of, on this platform.
fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = std::process::Command::new(cargo)
        .current_dir(source::root())
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &host])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_dependency_has_a_license_that_we_may_use() {
    const ALLOWED: [&str; 12] = [
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CDLA-Permissive-2.0",
        "ISC",
        "MIT",
        "MPL-2.0",
        "PostgreSQL",
        "Unicode-3.0",
        "Unicode-DFS-2016",
        "Zlib",
    ];
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "{} packages are too few to be all", packages.len());
    for package in packages {
        let (name, license) = (package["name"].as_str().unwrap(), package["license"].as_str());
        // An old way to write OR.
        let license = license.unwrap_or_else(|| panic!("{name} says no license")).replace('/', " OR ");
        let expression = spdx::Expression::parse(&license).unwrap_or_else(|error| panic!("{name}: {error}"));
        let usable = expression.evaluate(|requirement| ALLOWED.contains(&requirement.to_string().as_str()));
        assert!(usable, "{name} has the license {license}, which is not among those that we may use");
    }
}

/// The packages that each of ours depends on, tests aside.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let name = |id: &Value| {
        let package = metadata["packages"].as_array().unwrap().iter().find(|package| package["id"] == *id).unwrap();
        package["name"].as_str().unwrap().to_owned()
    };
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let ours = nodes.iter().filter(|node| name(&node["id"]).starts_with("callboard-"));
    ours.map(|node| {
        let normal =
            node["deps"].as_array().unwrap().iter().filter(|dependency| {
                dependency["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null())
            });
        (name(&node["id"]), normal.map(|dependency| name(&dependency["pkg"])).collect())
    })
    .collect()
}

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    let all = dependencies();
    let ours =
        |name: &str| -> Vec<&str> { all[name].iter().filter_map(|name| name.strip_prefix("callboard-")).collect() };
    assert_eq!(ours("callboard-proto"), Vec::<&str>::new());
    assert_eq!(ours("callboard-policy"), ["proto"]);
    assert_eq!(ours("callboard-launcher"), Vec::<&str>::new());
    assert_eq!(ours("callboard-agent"), ["launcher", "proto"]);
    assert_eq!(ours("callboard-server"), ["agent", "policy", "proto"]);
}

#[test]
fn decisions_are_made_without_input_output_clock_or_chance() {
    let policy = &dependencies()["callboard-policy"];
    let known = ["callboard-proto", "chrono", "chrono-tz", "croner", "roaring", "sha2", "thiserror", "winnow"];
    assert_eq!(policy.iter().map(String::as_str).collect::<Vec<_>>(), known, "is the new one free of effects?");
    for file in source::of("server/policy/src") {
        for effect in ["std::fs", "std::net", "std::io", "std::env", "std::process", "std::thread", "Instant"] {
            assert!(!file.mentions(effect), "{} uses {effect}", file.path);
        }
    }
}

#[test]
fn the_launcher_has_neither_network_nor_much_else() {
    let launcher = &dependencies()["callboard-launcher"];
    assert_eq!(launcher.iter().map(String::as_str).collect::<Vec<_>>(), ["nix", "sha2"], "is the new one needed?");
    for file in source::of("agent/launcher/src") {
        assert!(!file.mentions("std::net"), "{} uses the network", file.path);
    }
}

#[test]
fn the_agent_stays_small() {
    let agent = &dependencies()["callboard-agent"];
    for heavy in ["actix-web", "diesel", "reqwest", "ureq", "chrono-tz", "libsqlite3-sys", "pq-sys", "utoipa"] {
        assert!(!agent.contains(heavy), "the agent depends on {heavy}");
    }
}

#[test]
fn the_rules_are_looked_for_in_the_right_places() {
    let imports = |text: &str| Source::new("http/admin/x.rs", text).imports();
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(
        imports("use crate::{\n    app::{self, App},\n    db,\n    http::page,\n};"),
        names(&["app", "db", "http"])
    );
    assert_eq!(imports("fn f() { crate::cli::x() } // crate::ui"), names(&["cli"]));
    assert_eq!(imports("use super::super::super::jobs::x;\nuse super::y;"), names(&["http", "jobs"]));
    assert!(Source::new("x.rs", "use diesel::X;").mentions("diesel"));
    assert!(!Source::new("x.rs", "//! diesel\nfn f() {} // diesel\n").mentions("diesel"));
    assert!(!Source::new("x.rs", "use diesel_migrations::X;").mentions("diesel"));
}
