//! The shape of the workspace: who may import whom, what is embedded, which licenses come along.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Code lines of a server file that match, outside of its tests and comments.
fn offenders(allowed: impl Fn(&str) -> bool, forbidden: impl Fn(&str) -> bool) -> Vec<String> {
    let src = workspace().join("server/src");
    let mut found = Vec::new();
    for path in sources(&src) {
        let name = path.strip_prefix(&src).expect("below src").display().to_string();
        if allowed(&name) || name.ends_with("tests.rs") || name.contains("/tests/") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("text");
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let line = line.trim_start();
            if !line.starts_with("//") && forbidden(line) {
                found.push(format!("{name}:{}: {line}", number + 1));
            }
        }
    }
    found
}

#[test]
fn only_db_knows_diesel() {
    let db = |name: &str| name == "db.rs" || name.starts_with("db/");
    // The two kinds of error that callers tell apart are diesel's.
    let names = |line: &str| line.contains("diesel::") && !line.contains("diesel::result::Error");
    assert_eq!(offenders(db, names), Vec::<String>::new());
}

#[test]
fn only_http_pages_and_serve_know_actix() {
    let web =
        |name: &str| name == "http.rs" || name.starts_with("http/") || name.starts_with("ui") || name == "cli/serve.rs";
    assert_eq!(offenders(web, |line| line.contains("actix_web") || line.contains("actix_tls")), Vec::<String>::new());
}

#[test]
fn status_codes_stand_in_one_place_and_with_payloads() {
    let here = |name: &str| name == "http/problem.rs" || name.starts_with("http/device/payload");
    assert_eq!(offenders(here, |line| line.contains("StatusCode::")), Vec::<String>::new());
}

#[test]
fn only_the_clock_reads_the_clock() {
    let clock = |name: &str| name == "clock.rs";
    assert_eq!(
        offenders(clock, |line| line.contains("Utc::now") || line.contains("SystemTime::now")),
        Vec::<String>::new()
    );
}

#[test]
fn outer_layers_do_not_import_each_other() {
    for (layer, others) in [
        ("http", ["crate::cli", "crate::jobs"].as_slice()),
        ("ui", &["crate::cli", "crate::jobs"]),
        ("jobs", &["crate::http", "crate::ui", "crate::cli"]),
        ("app", &["crate::http", "crate::ui", "crate::cli", "crate::jobs"]),
        ("db", &["crate::app", "crate::http", "crate::ui", "crate::cli", "crate::jobs", "crate::store"]),
        ("store", &["crate::db", "crate::app", "crate::http"]),
        ("sign", &["crate::db", "crate::app", "crate::http"]),
    ] {
        let outside = |name: &str| !(name == format!("{layer}.rs") || name.starts_with(&format!("{layer}/")));
        let found = offenders(outside, |line| others.iter().any(|other| line.contains(other)));
        assert_eq!(found, Vec::<String>::new(), "{layer}");
    }
}

fn metadata() -> serde_json::Value {
    // What other platforms would need is neither here nor shipped.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", &platform])
        .current_dir(workspace())
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn packages_depend_on_each_other_in_one_direction() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let own = |name: &str| -> BTreeSet<String> {
        let package = packages.iter().find(|package| package["name"] == name).expect("a package of ours");
        let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
        let names = dependencies.filter_map(|dependency| dependency["name"].as_str().map(str::to_owned));
        names.filter(|name| name.starts_with("callboard-")).collect()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(own("callboard-proto"), set(&[]));
    assert_eq!(own("callboard-policy"), set(&["callboard-proto"]));
    assert_eq!(own("callboard-agent"), set(&["callboard-proto"]));
    // The demo re-executes the server's binary as an agent.
    assert_eq!(own("callboard-server"), set(&["callboard-agent", "callboard-policy", "callboard-proto"]));
}

#[test]
fn every_license_is_allowed() {
    let allowed = [
        "MIT",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Zlib",
        "Unicode-3.0",
        "PostgreSQL",
        "CDLA-Permissive-2.0",
        "MPL-2.0",
    ];
    let metadata = metadata();
    let mut refused = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().unwrap_or_default();
        // "MIT/Apache-2.0" is the old way to write OR.
        let license = package["license"].as_str().unwrap_or_default().replace('/', " OR ");
        let fine = spdx::Expression::parse(&license).is_ok_and(|expression| {
            expression.evaluate(|requirement| {
                let id = requirement.license.id().map(|id| id.name);
                id.is_some_and(|id| allowed.contains(&id))
            })
        });
        if !fine {
            refused.push(format!("{name}: {license:?}"));
        }
    }
    assert_eq!(refused, Vec::<String>::new());
}

#[test]
fn both_engines_have_the_same_migrations_and_the_binary_has_all_of_them() {
    let names = |engine: &str| -> BTreeSet<String> {
        let dir = workspace().join("migrations").join(engine);
        let entries = fs::read_dir(dir).expect("migrations");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    };
    let sqlite = names("sqlite");
    assert_eq!(sqlite, names("postgres"));
    let binary = fs::read(env!("CARGO_BIN_EXE_test-callboard")).expect("the binary");
    let contains = |text: &str| binary.windows(text.len()).any(|window| window == text.as_bytes());
    for name in sqlite {
        assert!(contains(&name), "{name} is not in the binary; touch server/src/db/conn.rs and build again");
    }
}
