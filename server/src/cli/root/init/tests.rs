//! What a first root is, and what none can be.

use callboard_proto::signed::Sign;
use ed25519_dalek::SigningKey;

use super::*;
use crate::{ca::ServerCa, cli::exit};

fn now() -> Timestamp {
    "2026-11-23T02:00:00Z".parse().unwrap()
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::Ed25519(SigningKey::from_bytes(&[seed; 32]))
}

fn online(seed: u8) -> VerifyingKey {
    SigningKey::from_bytes(&[seed; 32]).verifying_key()
}

fn release(threshold: u32) -> NewRole {
    NewRole::for_all(vec![key(4).public()], threshold)
}

/// Builds a root after `change` was made to a good description.
fn check(change: impl FnOnce(&mut FirstRoot<'_>)) -> anyhow::Result<(Envelope, Root)> {
    let dir = tempfile::tempdir()?;
    ServerCa::create(dir.path(), now())?;
    let signers = [key(1), key(2), key(3)];
    let (root_keys, release_roles) = (signers.each_ref().map(Sign::public), [release(1)]);
    let mut first = FirstRoot {
        root_keys: &root_keys,
        threshold: None,
        release_roles: &release_roles,
        head_keys: &[],
        head_threshold: 1,
        online_key: online(5),
        servers: servers(
            &["https://updates.example.com:8443/".to_owned()],
            &[dir.path().join(crate::ca::SERVER_CA_CERT)],
        )?,
        expires: None,
    };
    change(&mut first);
    build(&first, &signers, now())
}

fn refused(change: impl FnOnce(&mut FirstRoot<'_>)) -> String {
    let error = check(change).map(drop).unwrap_err();
    assert_eq!(exit::code_of(&error), exit::BAD_INPUT, "{error}");
    error.to_string()
}

#[test]
fn a_root_is_signed_by_all_its_keys_and_needs_most_of_them() {
    let (envelope, root) = check(|_| ()).unwrap();
    let opened = Root::open_initial(&envelope.to_json()).unwrap();
    assert_eq!(*opened, root);
    assert_eq!(envelope.signatures.len(), 3);
    assert_eq!(root.roles.root.threshold, 2);
    assert_eq!(root.servers[0].url, "https://updates.example.com:8443");
    assert_eq!(root.servers[0].ca_der.len(), 1);
    assert_eq!(root.expires.to_string(), "2028-05-24T02:00:00Z");
}

#[test]
fn one_key_cannot_have_two_roles() {
    let message = refused(|first| first.online_key = online(4));
    assert!(message.ends_with("as --release-key and --online-key"), "{message}");
    let twice: &'static [PublicKey] = Box::leak(Box::new([key(1).public(), key(1).public()]));
    assert!(refused(|first| first.root_keys = twice).contains("given twice"));
    let head: &'static [PublicKey] = Box::leak(Box::new([key(1).public()]));
    assert!(refused(|first| first.head_keys = head).ends_with("as --root-key and --head-key"));
}

#[test]
fn impossible_roots_are_refused() {
    assert!(refused(|first| first.threshold = Some(4)).contains("4 signatures of 3 keys"));
    assert!(refused(|first| first.threshold = Some(0)).contains("0 signatures of 3 keys"));
    let two: &'static [NewRole] = Box::leak(Box::new([release(2)]));
    assert!(refused(|first| first.release_roles = two).contains("2 signatures of 1 keys"));
    let same: &'static [NewRole] = Box::leak(Box::new([release(1), release(1)]));
    assert!(refused(|first| first.release_roles = same).contains("have the name"));
    assert!(refused(|first| first.expires = Some(now())).contains("has passed"));
}

#[test]
fn a_server_without_an_address_or_a_certificate_is_refused() {
    assert!(server("https://a", b"").unwrap_err().0.contains("none is in it"));
    for url in ["http://a", "https://", "https://a/b", "https://a b", "https://u@a", "https://a:0", "a"] {
        assert!(server(url, b"").unwrap_err().0.contains("https://HOST[:PORT] is wanted"), "{url}");
    }
}
