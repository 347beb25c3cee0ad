//! One test per attack on a root or on the chain of roots.

use std::collections::BTreeSet;

use ed25519_dalek::SigningKey;

use super::*;
use crate::signed::{Sign, key_id};

fn ed(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn p256(n: u8) -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_bytes(&[n; 32].into()).expect("a scalar below the order")
}

fn id(n: u8) -> Digest {
    key_id(&ed(n).verifying_key())
}

fn role(keys: &[u8], threshold: u32) -> Role {
    Role { keyids: keys.iter().map(|n| id(*n)).collect(), threshold }
}

/// Root `version` with these root keys; keys 100 and 101 are those for releases and answers.
fn root(version: u64, keys: &[u8], threshold: u32) -> Root {
    let all: BTreeSet<u8> = keys.iter().copied().chain([100, 101]).collect();
    Root {
        v: 1,
        issued_at: Timestamp::from_millis(0),
        crit: Vec::new(),
        version,
        expires: Timestamp::from_millis(1),
        keys: all.iter().map(|n| (id(*n), Key::from_ed25519(&ed(*n).verifying_key()))).collect(),
        roles: Roles {
            root: role(keys, threshold),
            release: vec![ReleaseRole {
                name: "all".to_owned(),
                keyids: vec![id(100)],
                threshold: 1,
                epoch: 0,
                products: Vec::new(),
                channels: Vec::new(),
            }],
            head: None,
            online: role(&[101], 1),
        },
        servers: Vec::new(),
    }
}

fn signed(root: &Root, by: &[u8]) -> Vec<u8> {
    let mut envelope = Envelope::unsigned(root).expect("an acceptable root");
    by.iter().for_each(|n| envelope.sign(&ed(*n)));
    envelope.to_json()
}

/// Whether `after`, signed by `by`, is accepted by a device that trusts `before`.
fn follows(before: (&[u8], u32), after: (&[u8], u32), by: &[u8]) -> bool {
    let before = root(1, before.0, before.1);
    before.open_next(&signed(&root(2, after.0, after.1), by)).is_ok()
}

fn malformed(change: impl FnOnce(&mut Root)) -> String {
    let mut root = root(1, &[1], 1);
    change(&mut root);
    match Document::check(&root) {
        Err(reason) => reason,
        Ok(()) => panic!("accepted: {root:?}"),
    }
}

#[test]
fn the_next_root_signed_only_by_new_keys_is_refused() {
    assert!(!follows((&[1, 2, 3], 2), (&[4, 5, 6], 2), &[4, 5, 6]));
}

#[test]
fn the_next_root_signed_only_by_old_keys_is_refused() {
    assert!(!follows((&[1, 2, 3], 2), (&[4, 5, 6], 2), &[1, 2, 3]));
    assert!(follows((&[1, 2, 3], 2), (&[4, 5, 6], 2), &[1, 2, 4, 5]), "signed by both it is accepted");
}

#[test]
fn a_raised_threshold_must_be_met_by_the_root_that_raises_it() {
    assert!(!follows((&[1, 2], 1), (&[1, 2], 2), &[1]));
    assert!(follows((&[1, 2], 1), (&[1, 2], 2), &[1, 2]));
}

#[test]
fn a_lowered_threshold_needs_the_old_number_of_signatures_once_more() {
    assert!(!follows((&[1, 2], 2), (&[1, 2], 1), &[1]));
    assert!(follows((&[1, 2], 2), (&[1, 2], 1), &[1, 2]));
    assert!(follows((&[1, 2], 1), (&[1, 2], 1), &[2]), "from then on one suffices");
}

#[test]
fn three_of_five_with_one_key_replaced_by_every_combination_of_signers() {
    let (before, after): ([u8; 5], [u8; 5]) = ([1, 2, 3, 4, 5], [1, 2, 3, 4, 6]);
    for set in 0..1_u32 << 6 {
        let by: Vec<u8> = (1..=6).filter(|n| set & (1 << (n - 1)) != 0).collect();
        let count = |keys: &[u8; 5]| by.iter().filter(|n| keys.contains(n)).count();
        let wanted = count(&before) >= 3 && count(&after) >= 3;
        assert_eq!(follows((&before, 3), (&after, 3), &by), wanted, "signed by {by:?}");
    }
}

#[test]
fn all_keys_are_replaced_through_a_root_in_between() {
    let first = root(1, &[1, 2], 2);
    let between = first.open_next(&signed(&root(2, &[1, 2, 3, 4], 2), &[1, 2])).expect("signed by both");
    let last = between.open_next(&signed(&root(3, &[3, 4], 2), &[3, 4]));
    assert_eq!(last.expect("signed by two of the four, and by its own").version, 3);
}

#[test]
fn a_root_with_another_version_than_the_next_is_refused() {
    let trusted = root(5, &[1], 1);
    for found in [1, 4, 5, 7, u64::MAX] {
        let refused = trusted.open_next(&signed(&root(found, &[1], 1), &[1])).map(drop);
        assert_eq!(refused, Err(Refused::NotNext { wanted: 6, found }));
    }
}

#[test]
fn an_expired_root_leads_to_its_successor() {
    let mut expired = root(1, &[1], 1);
    expired.expires = Timestamp::from_millis(-1);
    assert!(expired.open_next(&signed(&root(2, &[1], 1), &[1])).is_ok());
}

#[test]
fn a_root_of_another_type_is_refused_though_its_signatures_are_right() {
    let mut envelope = Envelope::unsigned(&root(2, &[1], 1)).expect("a root");
    envelope.payload_type = Release::TYPE.to_owned();
    envelope.sign(&ed(1));
    let refused = root(1, &[1], 1).open_next(&envelope.to_json()).map(drop);
    assert!(matches!(refused, Err(Refused::WrongType { .. })), "{refused:?}");
}

#[test]
fn an_unsigned_root_is_refused() {
    let unsigned = signed(&root(1, &[1], 1), &[]);
    assert_eq!(Root::open_initial(&unsigned).map(drop), Err(Refused::Threshold { valid: 0, threshold: 1 }));
}

#[test]
fn a_key_under_another_id_than_its_own_makes_the_root_invalid() {
    let reason = malformed(|root| {
        let key = root.keys.remove(&id(100)).expect("there");
        root.keys.insert(Digest::of(b"another"), key);
        for role in &mut root.roles.release {
            role.keyids = vec![Digest::of(b"another")];
        }
    });
    assert!(reason.contains("another id than its own"), "{reason}");
}

#[test]
fn a_threshold_of_zero_or_above_the_number_of_keys_makes_the_root_invalid() {
    for threshold in [0, 2] {
        assert!(malformed(|root| root.roles.root.threshold = threshold).contains("signatures of 1 keys"));
        assert!(malformed(|root| root.roles.release[0].threshold = threshold).contains("signatures of 1 keys"));
        assert!(malformed(|root| root.roles.online.threshold = threshold).contains("online"));
        let head = HeadRole { keyids: vec![id(100)], threshold, epoch: 0 };
        assert!(malformed(|root| root.roles.head = Some(head)).contains("signatures of 1 keys"));
    }
    let json = String::from_utf8(Envelope::unsigned(&root(1, &[1], 1)).expect("a root").payload).expect("JSON");
    let negative = json.replacen("\"threshold\":1", "\"threshold\":-1", 1);
    assert!(signed::parse_body::<Root>(negative.as_bytes()).is_err());
}

#[test]
fn a_key_that_a_role_names_twice_makes_the_root_invalid() {
    assert!(malformed(|root| root.roles.root = role(&[1, 1], 2)).contains("names a key twice"));
    assert!(malformed(|root| root.roles.root = role(&[1, 2], 1)).contains("not among the keys"));
}

#[test]
fn a_key_that_stands_twice_in_the_map_makes_the_root_invalid() {
    let json = String::from_utf8(Envelope::unsigned(&root(1, &[1], 1)).expect("a root").payload).expect("JSON");
    let entry = format!("\"{}\":{}", id(1), serde_json::to_string(&Key::from_ed25519(&ed(1).verifying_key())).unwrap());
    let twice = json.replacen("\"keys\":{", &format!("\"keys\":{{{entry},"), 1);
    assert!(matches!(signed::parse_body::<Root>(twice.as_bytes()), Err(Refused::Body(_))));
}

#[test]
fn a_key_of_an_unknown_algorithm_is_tolerated_and_never_counted() {
    let mut later = root(1, &[1, 2], 1);
    let kept = Key { alg: "ml-dsa-65".to_owned(), public: later.keys[&id(2)].public.clone() };
    later.keys.insert(id(2), kept.clone());
    let opened = Root::open_initial(&signed(&later, &[1])).expect("the other key suffices");
    assert_eq!(opened.keys[&id(2)], kept);
    assert_eq!(Root::open_initial(&signed(&later, &[2])).map(drop), Err(Refused::Threshold { valid: 0, threshold: 1 }));
}

#[test]
fn weak_and_non_canonical_keys_make_the_root_invalid() {
    // The identity, a point of order 8, and the identity written as y = p + 1.
    let identity = [&[1_u8][..], &[0; 31]].concat();
    let order8 = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a";
    let order8 = data_encoding::HEXLOWER.decode(order8.as_bytes()).expect("hex");
    let beyond = [&[0xee_u8][..], &[0xff; 30], &[0x7f]].concat();
    // A point whose y is 3 and not small of order, written as p + 3.
    let twin = [&[0xf0_u8][..], &[0xff; 30], &[0x7f]].concat();
    for raw in [identity, order8, beyond, twin, vec![7; 31], Vec::new()] {
        let key = Key { alg: "ed25519".to_owned(), public: BASE64.encode(&raw) };
        assert!(key.read().is_some_and(|read| read.is_err()), "{raw:?}");
        let mut bad = root(1, &[1], 1);
        bad.keys.insert(Digest::of(b"any"), key);
        assert!(Document::check(&bad).is_err());
    }
}

#[test]
fn points_that_are_not_on_p_256_or_not_written_in_full_make_the_root_invalid() {
    let good = p256(9).public().raw();
    let mut off_curve = good.clone();
    off_curve[64] ^= 1;
    let compressed = [&[2 | (good[64] & 1)][..], &good[1..33]].concat();
    let mut hybrid = good.clone();
    hybrid[0] = 6 | (good[64] & 1);
    for raw in [off_curve, compressed, hybrid, vec![0], vec![4; 65], good[..64].to_vec()] {
        let key = Key { alg: "ecdsa-p256".to_owned(), public: BASE64.encode(&raw) };
        assert!(key.read().is_some_and(|read| read.is_err()), "{raw:?}");
    }
    assert!(Key::new(&p256(9).public()).read().is_some_and(|read| read == Ok(p256(9).public())));
}

#[test]
fn keys_of_both_algorithms_count_beside_each_other() {
    let other = p256(9).public();
    let mut mixed = root(1, &[1], 1);
    mixed.keys.insert(other.id(), Key::new(&other));
    mixed.roles.root = Role { keyids: vec![id(1), other.id()], threshold: 2 };
    let mut envelope = Envelope::unsigned(&mixed).expect("a root");
    envelope.sign(&p256(9));
    assert!(Root::open_initial(&envelope.to_json()).is_err());
    envelope.sign(&ed(1));
    assert!(Root::open_initial(&envelope.to_json()).is_ok());
}

#[test]
fn an_ecdsa_key_in_the_online_role_is_never_counted() {
    let other = p256(9).public();
    let mut root = root(1, &[1], 1);
    root.keys.insert(other.id(), Key::new(&other));
    root.roles.online.keyids.push(other.id());
    let (keys, _) = root.online();
    assert!(keys.contains(id(101)) && !keys.contains(other.id()));
}

fn head(epoch: u32, serial: u64) -> Head {
    let expires = Timestamp::from_millis(1_000);
    let issued_at = Timestamp::from_millis(0);
    Head { v: 1, issued_at, crit: Vec::new(), serial, epoch, expires, products: Vec::new() }
}

fn open_head(root: &Root, head: &Head, by: u8) -> Result<(), Refused> {
    let mut envelope = Envelope::unsigned(head).expect("an acceptable head");
    envelope.sign(&ed(by));
    root.open_head(&envelope.to_json()).map(drop)
}

#[test]
fn a_head_is_believed_only_from_the_head_role_and_in_its_epoch() {
    let mut root = root(1, &[1], 1);
    assert!(matches!(open_head(&root, &head(0, 1), 100), Err(Refused::Body(_))), "there is no such role");
    root.roles.head = Some(HeadRole { keyids: vec![id(1)], threshold: 1, epoch: 3 });
    assert_eq!(open_head(&root, &head(3, 1), 1), Ok(()));
    assert!(matches!(open_head(&root, &head(3, 1), 100), Err(Refused::Threshold { valid: 0, .. })));
    assert!(matches!(open_head(&root, &head(2, 9), 1), Err(Refused::Body(_))));
}
