use std::{collections::BTreeSet, os::unix::fs::symlink};

use callboard_proto::signed::KeySet;
use clap::Parser;
use ed25519_dalek::SigningKey;

use super::*;
use crate::cli::{exit, key::PrivateKey, release::sign, signing::Signer};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: BuildArgs,
}

fn now() -> Timestamp {
    "2026-11-23T02:00:00Z".parse().unwrap()
}

/// A directory with an application in `app`.
fn scene() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("app")).unwrap();
    let file = fs::File::create(dir.path().join("app/pos")).unwrap();
    fs::write(dir.path().join("app/pos"), "program").unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000)).unwrap();
    dir
}

fn args(dir: &Path, more: &[&str]) -> BuildArgs {
    let (app, out) = (dir.join("app").display().to_string(), dir.join("out").display().to_string());
    let fixed = ["build", &app, "--out", &out, "--product", "pos-app", "--version", "2.3.1", "--counter", "7"];
    let mut args = Line::try_parse_from(fixed.iter().chain(more)).unwrap().args;
    // Whoever runs the tests may have set it.
    args.source_date_epoch = None;
    args
}

fn refused(result: anyhow::Result<(Envelope, Release)>) -> String {
    let error = result.map(drop).unwrap_err();
    assert_eq!(exit::code_of(&error), exit::BAD_INPUT, "{error:#}");
    error.to_string()
}

fn files(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_release_lies_beside_its_payload_and_says_what_was_asked() {
    let dir = scene();
    let more = ["--kind", "security", "--min-floor", "5", "--restart", "none", "--channel", "beta", "--hw", "till-*"];
    let (envelope, release) = build(&args(dir.path(), &more), now()).unwrap();
    let payload = &release.payloads[0];
    assert_eq!(files(&dir.path().join("out")), BTreeSet::from([ENVELOPE.to_owned(), payload.sha256.to_string()]));
    assert_eq!(payload.name, "pos-app.tar.zst");
    assert_eq!((release.kind, release.restart, release.min_floor), (Kind::Security, Restart::None, 5));
    assert_eq!(
        (release.channels.as_slice(), release.hw.as_slice()),
        (&["beta".to_owned()][..], &["till-*".to_owned()][..])
    );
    assert_eq!(release.issued_at, Timestamp::from_millis(1_700_000_000_000));
    assert_eq!(fs::read(dir.path().join("out").join(ENVELOPE)).unwrap(), envelope.to_json());
    assert!(envelope.signatures.is_empty());
}

/// A directory with an application and hooks in `app`.
fn scene_with_hooks() -> tempfile::TempDir {
    let dir = scene();
    fs::create_dir(dir.path().join("app/hooks")).unwrap();
    for name in ["drain", "backup", "restore"] {
        let file = dir.path().join("app/hooks").join(name);
        fs::write(&file, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

#[test]
fn what_an_agent_must_not_overlook_is_named_as_critical() {
    let dir = scene_with_hooks();
    let more = [
        ["--hook", "pre-activate=hooks/drain:2m"],
        ["--hook", "backup=hooks/backup"],
        ["--hook", "restore=hooks/restore:1h"],
        ["--rollback", "needs_backup"],
        ["--max-postpone", "3d"],
        ["--restart", "reboot"],
    ];
    let more: Vec<&str> = more
        .iter()
        .flatten()
        .copied()
        .chain(["--needs-server-contact", "--issued-at", "2026-11-20T00:00:00Z"])
        .collect();
    let (_, release) = build(&args(dir.path(), &more), now()).unwrap();
    assert_eq!(release.crit, ["hooks", "rollback", "needs_server_contact"]);
    let hooks: Vec<_> = release.hooks.iter().map(|hook| (hook.stage, hook.timeout_s)).collect();
    assert_eq!(hooks, [(Stage::PreActivate, 120), (Stage::Backup, 60), (Stage::Restore, 3600)]);
    assert_eq!((release.rollback, release.restart), (Rollback::NeedsBackup, Restart::Reboot));
    assert_eq!((release.needs_server_contact, release.max_postpone_s), (true, Some(259_200)));
    let (_, plain) = build(&args(scene().path(), &["--max-postpone", "0"]), now()).unwrap();
    assert!(plain.crit.is_empty());
    assert_eq!(plain.max_postpone_s, Some(0));
}

#[test]
fn hooks_that_no_device_could_run_are_refused_before_packing() {
    let dir = scene_with_hooks();
    symlink("drain", dir.path().join("app/hooks/link")).unwrap();
    for (more, wanted) in [
        (&["--hook", "health=hooks/missing"][..], "--hook health: cannot read"),
        (&["--hook", "health=pos"], "is not a program"),
        (&["--hook", "health=hooks"], "is not a program"),
        (&["--hook", "health=hooks/link"], "is not a program"),
        (&["--hook", "health=../pos"], "is not a plain path in the tree"),
        (&["--hook", "health=hooks/drain:2h"], "timeout_s of hook health is 7200"),
        (&["--hook", "health=hooks/drain", "--hook", "health=hooks/backup"], "names stage health twice"),
        (&["--hook", "backup=hooks/backup"], "a hook for stage backup needs rollback needs_backup"),
        (&["--hook", "backup=hooks/backup", "--rollback", "needs_backup"], "needs a hook for stage restore"),
        (&["--max-postpone", "91d"], "max_postpone_s is 7862400"),
    ] {
        let said = refused(build(&args(dir.path(), more), now()));
        assert!(said.contains(wanted), "{more:?}: {said}");
    }
    assert!(!dir.path().join("out").exists());
}

#[test]
fn two_signers_who_build_the_same_sign_the_same() {
    let (one, other) = (scene(), scene());
    let (first, _) = build(&args(one.path(), &[]), now()).unwrap();
    let (second, _) = build(&args(other.path(), &[]), now() + std::time::Duration::from_secs(3600)).unwrap();
    assert_eq!(first, second);
}

/// As on another machine: files have the times of the checkout and the group rights of another umask.
#[test]
fn a_checkout_elsewhere_is_the_same_release_when_the_time_of_issue_is_given() {
    use std::os::unix::fs::PermissionsExt as _;
    let (one, other) = (scene(), scene());
    let program = other.path().join("app/pos");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o664)).unwrap();
    fs::File::open(&program).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let given = ["--issued-at", "2026-01-01T00:00:00Z"];
    let built = [&one, &other].map(|dir| build(&args(dir.path(), &given), now()).unwrap().0);
    assert_eq!(built[0], built[1]);
    let (one, other) = (tempfile::tempdir().unwrap(), other);
    fs::rename(other.path().join("app"), one.path().join("app")).unwrap();
    let (_, without) = build(&args(one.path(), &[]), now()).unwrap();
    assert_eq!(without.issued_at, Timestamp::from_millis(0), "the last change of a packed file");
}

#[test]
fn the_time_of_issue_can_be_given_and_is_never_in_the_future() {
    let at = |more: &[&str], epoch| {
        let dir = scene();
        build(&BuildArgs { source_date_epoch: epoch, ..args(dir.path(), more) }, now())
    };
    assert_eq!(at(&[], Some(5)).unwrap().1.issued_at, Timestamp::from_millis(5000));
    let given = ["--issued-at", "2026-01-01T00:00:00Z"];
    assert_eq!(at(&given, Some(5)).unwrap().1.issued_at.to_string(), "2026-01-01T00:00:00Z");
    assert!(refused(at(&["--issued-at", "2026-11-23T02:00:01Z"], None)).contains("lies in the future"));
    let dir = scene();
    let early = Timestamp::from_millis(1_600_000_000_000);
    assert!(refused(build(&args(dir.path(), &[]), early)).contains("the last change of a packed file"));
    assert!(files(&dir.path().join("out")).is_empty(), "no payload is left without its release");
}

#[test]
fn what_devices_would_refuse_is_refused_before_packing() {
    let dir = scene();
    for (more, wanted) in [(["--min-floor", "8"], "min_floor at most counter"), (["--min-floor", "100"], "min_floor")] {
        assert!(refused(build(&args(dir.path(), &more), now())).contains(wanted));
    }
    assert!(!dir.path().join("out").exists());
}

#[test]
fn a_release_of_the_agent_has_a_program_that_the_launcher_can_start() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = scene();
    let of_agent =
        || BuildArgs { product: "callboard-agent".parse().unwrap(), issued_at: Some(now()), ..args(dir.path(), &[]) };
    assert!(refused(build(&of_agent(), now())).contains("app/callboard-agent is missing, or not executable"));
    let program = dir.path().join("app/callboard-agent");
    fs::write(&program, "program").unwrap();
    assert!(refused(build(&of_agent(), now())).contains("not executable"));
    assert!(!dir.path().join("out").exists());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    build(&of_agent(), now()).unwrap();
}

#[test]
fn nothing_is_packed_into_itself_or_over_another_release() {
    let dir = scene();
    build(&args(dir.path(), &[]), now()).unwrap();
    assert!(refused(build(&args(dir.path(), &[]), now())).contains("holds a release already"));
    let inside = BuildArgs { out: dir.path().join("app/out"), ..args(dir.path(), &[]) };
    assert!(refused(build(&inside, now())).contains("lies inside"));
    let missing = BuildArgs { path: Some(dir.path().join("missing")), ..args(dir.path(), &[]) };
    assert!(refused(build(&missing, now())).contains("cannot read"));
}

#[test]
fn words_and_times_are_checked_on_the_command_line() {
    let parse = |more: [&str; 2]| {
        let fixed = ["build", "app", "--out", "o", "--product", "p", "--version", "1", "--counter", "1"];
        Line::try_parse_from(fixed.iter().chain(&more)).map(drop)
    };
    for bad in [
        ["--rollback", "never"],
        ["--hook", "hooks/drain"],
        ["--hook", "before=hooks/drain"],
        ["--hook", "health=hooks/health:soon"],
        ["--max-postpone", "0s"],
    ] {
        assert_eq!(parse(bad).unwrap_err().kind(), clap::error::ErrorKind::ValueValidation, "{bad:?}");
    }
    for bad in [["--kind", "urgent"], ["--restart", "later"], ["--not-after", "tomorrow"], ["--requires-agent", ""]] {
        assert_eq!(parse(bad).unwrap_err().kind(), clap::error::ErrorKind::ValueValidation, "{bad:?}");
    }
    assert!(parse(["--kind", "mixed"]).is_ok());
}

#[test]
fn signatures_add_up_and_none_counts_twice() {
    let dir = scene();
    let (envelope, _) = build(&args(dir.path(), &[]), now()).unwrap();
    let file = dir.path().join("out").join(ENVELOPE);
    let keys = [SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32])];
    let signer = |key: &SigningKey| Signer::Key(PrivateKey::Ed25519(key.clone()));
    for (n, key) in keys.iter().chain(&keys).enumerate() {
        let (release, signed) = sign::sign(&file, &signer(key)).unwrap();
        assert_eq!(release.digest(), envelope.digest());
        assert_eq!(signed.signatures.len(), (n + 1).min(2));
    }
    let once = fs::read(&file).unwrap();
    sign::sign(&file, &signer(&keys[0])).unwrap();
    assert_eq!(fs::read(&file).unwrap(), once, "signing again changes nothing");
    let signed = Envelope::parse::<Release>(&once).unwrap();
    assert_eq!(signed.signers(&KeySet::new(keys.map(|key| key.verifying_key()))).len(), 2);
    assert_eq!(signed.payload, envelope.payload);
}

#[test]
fn what_is_not_a_release_is_not_signed() {
    let dir = scene();
    let file = dir.path().join(ENVELOPE);
    let key = Signer::Key(PrivateKey::Ed25519(SigningKey::from_bytes(&[1; 32])));
    let body = br#"{"v":1}"#;
    let forged = Envelope {
        payload_type: "application/vnd.callboard.release.v1+json".to_owned(),
        payload: body.to_vec(),
        signatures: Vec::new(),
    };
    for bytes in [b"{}".to_vec(), forged.to_json()] {
        fs::write(&file, &bytes).unwrap();
        assert_eq!(exit::code_of(&sign::sign(&file, &key).map(drop).unwrap_err()), exit::BAD_INPUT);
        assert_eq!(fs::read(&file).unwrap(), bytes);
    }
}

#[test]
fn a_directory_or_its_envelope_can_be_named_for_signing() {
    let dir = scene();
    let file = dir.path().join(ENVELOPE);
    fs::write(&file, "").unwrap();
    assert_eq!(sign::envelope_of(dir.path()), file);
    assert_eq!(sign::envelope_of(&file), file);
}

/// Two packages in the place of a directory.
fn packages(dir: &Path, more: &[&str]) -> BuildArgs {
    let files = ["till-app_2.0_all.deb", "till-data_2.0_all.deb"].map(|name| dir.join(name));
    for file in &files {
        fs::write(file, format!("package {}", file.display())).unwrap();
        let written = fs::File::options().append(true).open(file).unwrap();
        written.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000)).unwrap();
    }
    BuildArgs { path: None, payloads: files.to_vec(), ..args(dir, more) }
}

#[test]
fn packages_for_a_devices_own_installer_are_taken_as_they_are_and_in_their_order() {
    let dir = scene();
    let (envelope, release) = build(&packages(dir.path(), &["--installer", "command"]), now()).unwrap();
    assert_eq!(release.installer, Installer::Command);
    let names: Vec<&str> = release.payloads.iter().map(|payload| payload.name.as_str()).collect();
    assert_eq!(names, ["till-app_2.0_all.deb", "till-data_2.0_all.deb"]);
    for payload in &release.payloads {
        assert_eq!((payload.format, payload.entries, payload.unpacked_size), (Format::Raw, 1, payload.size));
        let bytes = fs::read(dir.path().join("out").join(payload.sha256.to_string())).unwrap();
        assert_eq!(bytes, fs::read(dir.path().join(&payload.name)).unwrap());
    }
    let shown = describe(&release, envelope.digest(), &[]);
    assert!(shown.lines().any(|line| line.starts_with("installer") && line.ends_with("command")), "{shown}");
    let (_, plain) = build(&args(scene().path(), &[]), now()).unwrap();
    assert_eq!(plain.installer, Installer::Directory);
}

#[test]
fn a_devices_own_installer_takes_neither_directories_nor_hooks_nor_restarts_of_the_release() {
    let dir = scene();
    let command = ["--installer", "command"];
    assert!(
        refused(build(&args(dir.path(), &command), now())).contains("is a directory; --installer command takes files")
    );
    let directory = BuildArgs { payloads: vec![dir.path().join("app")], ..packages(dir.path(), &command) };
    assert!(refused(build(&directory, now())).contains("--payload takes files"));
    let reboot = packages(dir.path(), &["--installer", "command", "--restart", "reboot"]);
    assert!(refused(build(&reboot, now())).contains("the device's program says when"));
    let hook = packages(dir.path(), &["--installer", "command", "--hook", "pre-activate=drain"]);
    assert!(refused(build(&hook, now())).contains("hooks are programs of an installed tree"));
    let hook = packages(dir.path(), &["--hook", "pre-activate=drain"]);
    assert!(refused(build(&hook, now())).contains("give one as PATH"));
    let twice =
        BuildArgs { payloads: vec![dir.path().join("till-app_2.0_all.deb"); 2], ..packages(dir.path(), &command) };
    assert!(refused(build(&twice, now())).contains("stands twice"));
    assert!(files(&dir.path().join("out")).is_empty(), "no payload is left without its release");
    let parse = |more: &[&str]| {
        let fixed = ["build", "--out", "o", "--product", "p", "--version", "1", "--counter", "1"];
        Line::try_parse_from(fixed.iter().chain(more)).map(drop)
    };
    let kind = |more: &[&str]| parse(more).unwrap_err().kind();
    assert_eq!(kind(&[]), clap::error::ErrorKind::MissingRequiredArgument);
    assert_eq!(kind(&["app", "--payload", "x"]), clap::error::ErrorKind::ArgumentConflict);
    assert_eq!(kind(&["app", "--installer", "rpm"]), clap::error::ErrorKind::ValueValidation);
}
