//! Releases: published after everything about them was verified, and refused otherwise.

use callboard_proto::{
    admin::Release,
    digest::Digest,
    paths,
    problem::Code,
    root::Root,
    signed::{Document as _, Envelope},
};
use callboard_tests::{
    device::FakeDevice,
    http::Request,
    release::{NewRelease, bytes},
    server::TestServer,
};
use ed25519_dalek::SigningKey;
use std::time::Duration;

use crate::{on_both, refused};

fn published(server: &TestServer) -> usize {
    server.api().list::<Release>("releases").len()
}

/// A release whose payload has been uploaded.
fn uploaded(server: &TestServer, version: &str, counter: u64) -> NewRelease {
    let release = NewRelease::new("pos-app", version, counter);
    server.api().upload(&release.payload).ok();
    release
}

#[test]
fn a_signed_release_is_published_and_devices_get_the_very_bytes() {
    on_both(|server| {
        let envelope = uploaded(server, "2.0.0", 1).signed(server);
        let answer = server.try_publish(&envelope.to_json());
        assert_eq!(answer.status, 201);
        let release: Release = answer.json();
        assert_eq!((release.sha256, release.version.as_str(), release.counter), (envelope.digest(), "2.0.0", 1));
        assert_eq!(release.signed_by.len(), 1);
        let mut device = FakeDevice::enrol(server, "till-1");
        let served = device.wire.send(&Request::get(paths::release(release.sha256)));
        assert_eq!(served.body, envelope.to_json());
        device.fetch_release(release.sha256);
        for reference in [release.sha256.to_string(), "pos-app@2.0.0".to_owned()] {
            assert_eq!(server.api().get::<Release>(&format!("releases/{reference}")), release);
        }
    });
}

#[test]
fn publishing_the_same_twice_is_the_same() {
    on_both(|server| {
        let envelope = uploaded(server, "2.0.0", 1).signed(server).to_json();
        let (first, second) = (server.try_publish(&envelope), server.try_publish(&envelope));
        assert_eq!((first.status, second.status, published(server)), (201, 200, 1));
        assert_eq!(first.json::<Release>(), second.json::<Release>());
    });
}

#[test]
fn a_release_needs_its_payloads() {
    on_both(|server| {
        let release = NewRelease::new("pos-app", "2.0.0", 1);
        let said = format!("payload pos-app.bin ({}) has not been uploaded", release.document.payloads[0].sha256);
        refused(&server.try_publish(&release.signed(server).to_json()), Code::Invalid, &said);
        server.api().upload(&release.payload).ok();
        let size = release.clone().with(|doc| doc.payloads[0].size += 1).signed(server);
        refused(&server.try_publish(&size.to_json()), Code::DigestMismatch, "has 3000 bytes, the release says 3001");
        let list = release.clone().with(|doc| doc.payloads[0].chunks_sha256 = Digest::of(b"x")).signed(server);
        refused(&server.try_publish(&list.to_json()), Code::DigestMismatch, "the chunk list of payload pos-app.bin");
        assert_eq!(published(server), 0);
        server.try_publish(&release.signed(server).to_json()).ok();
    });
}

#[test]
fn a_release_by_a_key_that_the_root_does_not_trust_for_it_is_refused() {
    on_both(|server| {
        let release = uploaded(server, "2.0.0", 1);
        let stranger = SigningKey::from_bytes(&[7; 32]);
        for key in [&stranger, &server.try_out_key("root.key")] {
            let answer = server.try_publish(&release.signed_by(key).to_json());
            refused(&answer, Code::DocumentRefused, "0 valid signatures of trusted keys, 1 are needed");
        }
        let nobody = Envelope::unsigned(&release.document).unwrap();
        server.try_publish(&nobody.to_json()).problem(Code::DocumentRefused);
        let other_epoch = release.clone().with(|doc| doc.epoch = 1).signed(server);
        refused(&server.try_publish(&other_epoch.to_json()), Code::DocumentRefused, "may not sign pos-app of epoch 1");
        // An untrusted signature beside a trusted one does no harm.
        let mut both = release.signed(server);
        both.sign(&stranger);
        server.try_publish(&both.to_json()).ok();
    });
}

#[test]
fn a_tampered_release_is_refused() {
    on_both(|server| {
        let envelope = uploaded(server, "2.0.0", 1).signed(server);
        let refuse = |envelope: &Envelope| server.try_publish(&envelope.to_json()).problem(Code::DocumentRefused);
        for place in [0, envelope.payload.len() / 2, envelope.payload.len() - 2] {
            let mut changed = envelope.clone();
            changed.payload[place] ^= 0x01;
            assert!(refuse(&changed).contains("0 valid signatures"));
        }
        let mut renamed = envelope.clone();
        renamed.payload_type = Root::TYPE.to_owned();
        assert!(refuse(&renamed).contains("wanted is \"application/vnd.callboard.release.v1+json\""));
        let text = String::from_utf8(envelope.to_json()).unwrap();
        for bad in [
            "",
            "{}",
            "[]",
            &text[..text.len() - 1],
            &format!("{text}{text}"),
            &text.replace("payload\":\"", "payload\":\"*"),
        ] {
            server.try_publish(bad.as_bytes()).problem(Code::DocumentRefused);
        }
        let critical = NewRelease::new("pos-app", "2.0.0", 1).with(|doc| doc.crit = vec!["v".to_owned()]);
        let mut unknown = critical.signed(server);
        let body = String::from_utf8(unknown.payload).unwrap().replace("[\"v\"]", "[\"colour\"]");
        unknown.payload = body.into_bytes();
        unknown.signatures.clear();
        unknown.sign(&server.try_out_key("release.key"));
        assert!(refuse(&unknown).contains("field \"colour\" is critical"));
        assert_eq!(published(server), 0);
    });
}

#[test]
fn a_release_that_is_too_large_is_refused() {
    on_both(|server| {
        let large = bytes("x", 300_000);
        server.try_publish(&large).problem(Code::TooLarge);
        let text = "x".repeat(100_000);
        let envelope = format!("{{\"payloadType\":\"{text}\",\"payload\":\"\",\"signatures\":[]}}");
        server.try_publish(envelope.as_bytes()).problem(Code::DocumentRefused);
    });
}

#[test]
fn counters_rise_and_versions_are_unique() {
    on_both(|server| {
        uploaded(server, "2.0.0", 5).publish(server);
        let publish = |release: &NewRelease| server.try_publish(&release.signed(server).to_json());
        for counter in [4, 5] {
            let answer = publish(&uploaded(server, "2.0.1", counter));
            let said = format!("counter 0.{counter} of pos-app is not above the newest published one, 0.5");
            refused(&answer, Code::Conflict, &said);
        }
        let same_version = uploaded(server, "2.0.0", 6);
        refused(&publish(&same_version), Code::Conflict, "pos-app 2.0.0 is published with digest");
        let other = NewRelease::new("os", "2.0.0", 1);
        other.publish(server);
        publish(&uploaded(server, "2.0.1", 6)).ok();
        assert_eq!(published(server), 3);
    });
}

#[test]
fn releases_are_listed_newest_first_and_unknown_ones_are_said_to_be() {
    on_both(|server| {
        for n in 1..=5 {
            uploaded(server, &format!("2.0.{n}"), n).publish(server);
            server.advance(Duration::from_secs(1));
        }
        NewRelease::new("os", "12", 1).publish(server);
        let listed: Vec<Release> = server.api().list("releases?product=pos-app&limit=2");
        let versions: Vec<&str> = listed.iter().map(|release| release.version.as_str()).collect();
        assert_eq!(versions, ["2.0.5", "2.0.4", "2.0.3", "2.0.2", "2.0.1"]);
        refused(&server.api().try_get("releases/pos-app@9.9"), Code::NotFound, "there is no release pos-app@9.9");
        refused(&server.api().try_get("releases/pos-app"), Code::Invalid, "a digest or product@version is wanted");
    });
}

#[test]
fn releases_of_one_moment_are_listed_by_product_and_counter_on_pages_of_any_size() {
    on_both(|server| {
        // The clock stands still, so all of these have the same time of publication.
        for (product, version, counter) in
            [("pos-app", "2.0.9", 9), ("os", "12", 1), ("pos-app", "2.0.10", 10), ("drivers", "7", 3), ("os", "13", 2)]
        {
            NewRelease::new(product, version, counter).publish(server);
        }
        server.advance(Duration::from_secs(1));
        NewRelease::new("os", "14", 3).publish(server);
        let listed = |path: &str| -> Vec<String> {
            let all: Vec<Release> = server.api().list(path);
            all.iter().map(|release| format!("{} {}", release.product, release.version)).collect()
        };
        let wanted = ["os 14", "drivers 7", "os 13", "os 12", "pos-app 2.0.10", "pos-app 2.0.9"];
        for limit in 1..=7 {
            assert_eq!(listed(&format!("releases?limit={limit}")), wanted, "pages of {limit}");
        }
        assert_eq!(listed("releases?product=os&limit=1"), ["os 14", "os 13", "os 12"]);
        let unknown = Digest::of(b"no release");
        let answer = server.api().try_get(&format!("releases?after={unknown}"));
        refused(&answer, Code::BadRequest, "`next` of the page before is wanted");
    });
}
