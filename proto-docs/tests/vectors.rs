//! Documents that must be accepted and documents that must be refused, as files: for every implementation of `signing.md`.
//!
//! `CALLBOARD_UPDATE=1 cargo test -p callboard-proto --test vectors` writes `vectors/`. The second verifier
//! (`second-verifier/verify.py`) must agree on all of them, on the golden examples, and on documents that are drawn anew in
//! every run.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use callboard_proto::{
    digest::Digest,
    instruction::Instruction,
    release::Release,
    root::Root,
    signed::{Document, Envelope, Refused, verify},
};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

#[path = "vectors/draw.rs"]
mod draw;
#[path = "vectors/known.rs"]
mod known;

/// How a document is to be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// A root that is trusted by the way it came.
    FirstRoot,
    /// The root after `trusted`.
    NextRoot,
    Release,
    Head,
    Instruction,
}

/// One case. Documents are the bytes as they come, in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Vector {
    name: String,
    kind: Kind,
    /// The root that the verifier trusts; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trusted: Option<String>,
    document: String,
    accept: bool,
    /// SHA-256 of the body, if it is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest>,
}

impl Vector {
    fn new(name: impl Into<String>, kind: Kind, trusted: Option<&[u8]>, document: &[u8], accept: bool) -> Self {
        let sha256 = accept.then(|| Digest::of(&body(document)));
        let (trusted, document) = (trusted.map(|root| BASE64.encode(root)), BASE64.encode(document));
        Self { name: name.into(), kind, trusted, document, accept, sha256 }
    }

    /// What this implementation says.
    fn verdict(&self) -> Result<Digest, Refused> {
        let document = BASE64.decode(self.document.as_bytes()).unwrap();
        let trusted = self.trusted.as_ref().map(|root| BASE64.decode(root.as_bytes()).unwrap());
        let trusted = trusted.map(|root| Root::open_initial(&root).unwrap());
        match (self.kind, trusted) {
            (Kind::FirstRoot, _) => Root::open_initial(&document).map(|root| root.digest()),
            (Kind::NextRoot, Some(root)) => root.open_next(&document).map(|root| root.digest()),
            (Kind::Release, Some(root)) => {
                root.verify_release(&Envelope::parse::<Release>(&document)?).map(|release| release.digest())
            }
            (Kind::Head, Some(root)) => root.open_head(&document).map(|head| head.digest()),
            (Kind::Instruction, Some(root)) => {
                let (keys, threshold) = root.online();
                let envelope = Envelope::parse::<Instruction>(&document)?;
                verify::<Instruction>(&envelope, &keys, threshold).map(|instruction| instruction.digest())
            }
            (_, None) => panic!("{} trusts nothing", self.name),
        }
    }
}

/// The body of an envelope, however it is.
fn body(envelope: &[u8]) -> Vec<u8> {
    let envelope: serde_json::Value = serde_json::from_slice(envelope).unwrap();
    let text = envelope["payload"].as_str().unwrap();
    let alphabet = if text.contains(['-', '_']) { data_encoding::BASE64URL } else { BASE64 };
    alphabet.decode(text.as_bytes()).unwrap()
}

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn the_vectors_are_what_they_are_computed_from_and_this_implementation_agrees() {
    let vectors = known::all();
    let names: BTreeSet<&str> = vectors.iter().map(|vector| vector.name.as_str()).collect();
    assert_eq!(names.len(), vectors.len(), "two have the same name");
    for vector in &vectors {
        let verdict = vector.verdict();
        assert_eq!(verdict.as_ref().ok(), vector.sha256.as_ref(), "{}: {verdict:?}", vector.name);
        let file = place("vectors").join(format!("{}.json", vector.name));
        let wanted = format!("{}\n", serde_json::to_string_pretty(vector).unwrap());
        if std::env::var_os("CALLBOARD_UPDATE").is_some() {
            fs::create_dir_all(place("vectors")).unwrap();
            fs::write(&file, &wanted).unwrap();
        }
        let committed = fs::read_to_string(&file).unwrap_or_default();
        assert!(committed == wanted, "{} is stale; run this test with CALLBOARD_UPDATE=1", file.display());
    }
    let there = fs::read_dir(place("vectors")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let there: BTreeSet<String> = there.collect();
    assert_eq!(there, names.iter().map(|name| format!("{name}.json")).collect(), "a file that no vector is written to");
}

#[test]
fn every_kind_of_document_has_vectors_of_both_verdicts() {
    for kind in [Kind::FirstRoot, Kind::NextRoot, Kind::Release, Kind::Head, Kind::Instruction] {
        for accept in [true, false] {
            assert!(known::all().iter().any(|one| one.kind == kind && one.accept == accept), "{kind:?} {accept}");
        }
    }
}

/// The golden examples as vectors.
fn golden() -> Vec<Vector> {
    let read = |name: &str| fs::read(place("examples").join(format!("{name}.envelope.json"))).unwrap();
    let root = read("root");
    let under = |name: &str, kind| Vector::new(format!("golden-{name}"), kind, Some(&root), &read(name), true);
    vec![
        Vector::new("golden-root", Kind::FirstRoot, None, &root, true),
        under("release", Kind::Release),
        under("head", Kind::Head),
        under("instruction", Kind::Instruction),
    ]
}

#[test]
fn the_second_verifier_agrees_on_the_examples_the_vectors_and_on_fresh_documents() {
    let seed = draw::seed();
    println!("seed {seed}; CALLBOARD_SEED={seed} draws the same again");
    let mut vectors = golden();
    vectors.extend(known::all());
    let fresh = draw::fresh(seed, 200);
    let accepted = fresh.iter().filter(|vector| vector.accept).count();
    assert!((20..180).contains(&accepted), "{accepted} of {} fresh documents are accepted", fresh.len());
    vectors.extend(fresh);
    let Some(answers) = python(&vectors) else {
        assert!(std::env::var_os("CI").is_none(), "python3 with cryptography has to be there in CI");
        eprintln!("skipped: needs python3 with the package cryptography");
        return;
    };
    assert_eq!(answers.len(), vectors.len());
    for (vector, answer) in vectors.iter().zip(answers) {
        let own = vector.verdict();
        let theirs = answer.sha256.as_ref();
        assert_eq!(own.as_ref().ok(), theirs, "{} (seed {seed}): {own:?}, {}\n{vector:?}", vector.name, answer.why);
        assert_eq!(own.is_ok(), vector.accept, "{}", vector.name);
    }
}

/// What the second verifier says of one vector.
#[derive(Deserialize)]
struct Answer {
    sha256: Option<Digest>,
    why: String,
}

/// Asks the second verifier; `None` where it cannot run.
fn python(vectors: &[Vector]) -> Option<Vec<Answer>> {
    let there = Command::new("python3").args(["-c", "import cryptography"]).output().ok()?;
    if !there.status.success() {
        return None;
    }
    let file = std::env::temp_dir().join(format!("callboard-vectors-{}.json", std::process::id()));
    fs::write(&file, serde_json::to_vec(vectors).unwrap()).unwrap();
    let output = Command::new("python3").arg(place("second-verifier/verify.py")).arg(&file).output().unwrap();
    fs::remove_file(&file).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// The envelope of exact bytes as a `T`, signed by nobody.
fn wrapped<T: Document>(body: &[u8]) -> Envelope {
    Envelope { payload_type: T::TYPE.to_owned(), payload: body.to_vec(), signatures: Vec::new() }
}
