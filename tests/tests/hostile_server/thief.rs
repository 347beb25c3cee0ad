//! Whoever has the whole server has its keys, its database and its certificate authorities. Nothing of his ever runs.

use std::path::Path;

use callboard_proto::{
    paths,
    payload::{CHUNK_SIZE, Chunker, Format},
    release::Release,
    root::Root,
    signed::{Document as _, key_id},
};
use callboard_tests::{
    hostile::{Answer, Asked, Hostile, Kit, Software, Stolen, seal},
    proxy::Proxy,
    release::NewRelease,
    till::QUICK,
};
use ed25519_dalek::SigningKey;

use super::{Case, Scene, Sign, Sign::Counts, answer, archives, refused, release, to_check_in};

/// What the thief wants to run: it leaves a file where everybody sees it.
fn harm(marker: &Path) -> NewRelease {
    let script = format!("#!/bin/sh\ntouch '{}'\n", marker.display());
    NewRelease::with_payload("pos-app", "6.6.6", 99, archives::program(&script)).with(|release| {
        let payload = &mut release.payloads[0];
        payload.name = "pos-app.tar.zst".to_owned();
        payload.format = Format::TarZst;
        (payload.unpacked_size, payload.entries) = (10_000, 10);
    })
}

fn signed(harm: &NewRelease, keys: &[&SigningKey]) -> Software {
    let envelope = seal(Release::TYPE, &serde_json::to_vec(&harm.document).unwrap(), keys);
    Software::new(envelope, &harm.document, std::slice::from_ref(&harm.payload))
}

/// A release by keys that are no release keys.
fn signed_by(name: &'static str, harm: &NewRelease, keys: fn(&Stolen) -> Vec<&SigningKey>) -> Case {
    let harm = harm.clone();
    release(name, Counts("bad_sig"), move |stolen| signed(&harm, &keys(stolen)))
}

/// A root that lists a key of the thief's for releases, signed by what he has.
fn own_root(name: &'static str, harm: &NewRelease, keys: fn(&Stolen) -> Vec<&SigningKey>) -> Case {
    let software = harm.clone();
    let case = answer(name, Counts("bad_sig"), move |kit, asked| {
        let own = kit.stolen.own_key.verifying_key();
        let mut root = Root { version: 3, ..kit.stolen.root.clone() };
        root.keys.insert(key_id(&own), callboard_proto::root::Key::from_ed25519(&own));
        root.roles.release[0].keyids = vec![key_id(&own)];
        let sealed = || seal(Root::TYPE, &serde_json::to_vec(&root).unwrap(), &keys(&kit.stolen));
        let root = (asked.path == paths::root(3)).then(|| Answer::ok(sealed()));
        root.or_else(|| to_check_in(asked, || kit.order(asked, |order| order.root_version = 3)))
    });
    Case { software: Box::new(move |stolen| signed(&software, &[&stolen.own_key])), ..case }
}

/// The document of an honest release, and the thief's bytes under its digests.
fn under_an_honest_name(harm: &NewRelease) -> Case {
    let bytes = harm.payload.clone();
    release("other bytes under the digests of an honest release", Counts("bad_chunk"), move |stolen| {
        let honest = NewRelease::with_payload("pos-app", "6.0.0", 98, vec![0; bytes.len()]);
        let software = signed(&honest, &[&stolen.release_key]);
        let payload = &software.payloads[0];
        let mut chunker = Chunker::new(CHUNK_SIZE);
        chunker.update(&bytes);
        let files = [(payload.sha256, bytes.clone()), (payload.chunks_sha256, chunker.finish().list)].into();
        Software { files, ..software }
    })
}

fn tries(harm: &NewRelease) -> Vec<Case> {
    vec![
        signed_by("signed by nobody", harm, |_| vec![]),
        signed_by("signed by the online key", harm, |stolen| vec![&stolen.online_key]),
        signed_by("signed by a key of the thief's", harm, |stolen| vec![&stolen.own_key]),
        signed_by("signed by both", harm, |stolen| vec![&stolen.online_key, &stolen.own_key]),
        own_root("under a root by the online key", harm, |stolen| vec![&stolen.online_key]),
        own_root("under a root by a key of the thief's", harm, |stolen| vec![&stolen.own_key]),
        under_an_honest_name(harm),
    ]
}

impl Scene {
    /// A till that never had anything else meets the thief.
    fn rob(&self, n: usize, case: Case, marker: &Path) {
        let Case { name, sign, software, change, .. } = case;
        let proxy = Proxy::to(self.server.device_address());
        let product = format!("{QUICK}health = [\"bin/health\"]\n");
        let mut till = self.server.till_via(proxy.address(), &format!("till-{n}"), &product);
        let device = self.server.registered(&till).id;
        let software = software(&self.stolen);
        let kit = Kit { stolen: self.stolen.clone(), device, software, other: None };
        let answers = move |asked: &Asked| change(&kit, asked).unwrap_or_else(|| kit.honest(asked));
        let hostile = Hostile::start(self.stolen.tls(), answers);
        proxy.retarget(hostile.address);
        till.switch_on();
        hostile.wait_until(name, |seen| match sign {
            Sign::Obeys => marker.exists(),
            sign => refused(&seen.asked, sign),
        });
        assert_eq!(marker.exists(), sign == Sign::Obeys, "{name}");
        till.switch_off();
        let versions = std::fs::read_dir(till.product().join("versions")).map(Iterator::count).unwrap_or(0);
        assert_eq!(versions > 0, sign == Sign::Obeys, "{name}: {versions} versions");
    }
}

#[test]
fn a_thief_with_the_whole_server_and_no_release_key_runs_nothing() {
    let scene = Scene::new();
    let marker = scene.server.home().join("executed");
    let harm = harm(&marker);
    for (n, case) in tries(&harm).into_iter().enumerate() {
        scene.rob(n, case, &marker);
    }
    // With the release key it would have run: the tries above are not void.
    let with_the_key =
        release("with the release key", Sign::Obeys, move |stolen| signed(&harm, &[&stolen.release_key]));
    scene.rob(99, with_the_key, &marker);
}
