//! One test per attack, named after it.

use callboard_proto::{check_in::Installed, ids::AssignmentId, instruction::Action, time::Timestamp};
use ed25519_dalek::SigningKey;

use super::*;
use crate::{
    config::Settings,
    testing::{self, Keys},
};

const DEVICE: &str = "0192f0c1-7e8a-7c3e-9d54-3f1f6a2b8c01";

fn asked() -> Asked {
    Asked { device_id: DEVICE.parse().expect("an id"), nonce: Nonce([7; 32]), request_sha256: Digest::of(b"request") }
}

fn answer() -> Instruction {
    let long_ago = Timestamp::from_millis(0);
    let (nonce, question) = (asked().nonce, asked().request_sha256);
    Instruction { issued_at: long_ago, server_time: long_ago, ..testing::instruction(nonce, question) }
}

fn signed_by(key: &SigningKey, instruction: &Instruction) -> Vec<u8> {
    testing::signed(instruction, &[key])
}

fn refused(bytes: &[u8]) -> Refusal {
    let root = testing::root(&Keys::fixed());
    instruction(bytes, &root, &asked()).expect_err("refused")
}

#[test]
fn the_answer_to_the_own_question_is_accepted() {
    let keys = Keys::fixed();
    let bytes = signed_by(&keys.online, &answer());
    assert!(instruction(&bytes, &testing::root(&keys), &asked()).is_ok());
}

#[test]
fn a_replayed_answer_is_refused() {
    let old = Instruction { nonce: Nonce([8; 32]), ..answer() };
    let refusal = refused(&signed_by(&Keys::fixed().online, &old));
    assert_eq!((refusal.code(), refusal.attack()), (Code::NonceMismatch, Some(Attack::NonceMismatch)));
}

#[test]
fn an_answer_for_another_device_is_refused() {
    let other = Instruction { device_id: "0192f0c1-7e8a-7c3e-9d54-3f1f6a2b8c02".parse().expect("an id"), ..answer() };
    let refusal = refused(&signed_by(&Keys::fixed().online, &other));
    assert_eq!((refusal.code(), refusal.attack()), (Code::WrongDevice, Some(Attack::WrongDevice)));
}

#[test]
fn an_answer_to_a_changed_request_is_refused() {
    let other = Instruction { request_sha256: Digest::of(b"another request"), ..answer() };
    assert_eq!(refused(&signed_by(&Keys::fixed().online, &other)).code(), Code::RequestMismatch);
}

#[test]
fn an_unsigned_answer_is_refused_even_if_it_says_nothing_to_do() {
    let refusal = refused(&testing::signed(&answer(), &[]));
    assert_eq!((refusal.code(), refusal.attack()), (Code::BadSignature, Some(Attack::BadSig)));
}

#[test]
fn an_answer_signed_by_a_release_key_is_refused() {
    assert_eq!(refused(&signed_by(&Keys::fixed().release, &answer())).code(), Code::BadSignature);
}

#[test]
fn one_flipped_bit_anywhere_is_refused() {
    let keys = Keys::fixed();
    let root = testing::root(&keys);
    let bytes = signed_by(&keys.online, &answer());
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        match instruction(&flipped, &root, &asked()) {
            Err(_) => {}
            // The key id is a hint that nobody trusts, and field names of JSON may be unknown.
            Ok(accepted) => assert_eq!(accepted.into_inner(), answer(), "byte {at}"),
        }
    }
}

#[test]
fn a_release_shown_as_an_instruction_is_refused() {
    let keys = Keys::fixed();
    let bytes = testing::signed(&testing::release(5), &[&keys.online]);
    assert_eq!(refused(&bytes).code(), Code::BadDocument);
    let text = String::from_utf8(bytes).expect("JSON");
    let renamed = text.replace("callboard.release.v1", "callboard.instruction.v1");
    assert_eq!(refused(renamed.as_bytes()).code(), Code::BadSignature);
}

#[test]
fn an_oversize_answer_is_refused_before_it_is_parsed() {
    assert_eq!(refused(&vec![b' '; 40_000]).attack(), Some(Attack::Oversize));
}

#[test]
fn junk_is_refused_without_a_panic() {
    for junk in [&b""[..], b"{}", b"null", b"\xff\xfe", b"[[[[[[[[[[[[[[[[[[[[[[[[[[", b"{\"payload\":1}"] {
        assert_eq!(refused(junk).code(), Code::BadDocument);
    }
}

fn order(action: Action) -> Instruction {
    Instruction { action, ..answer() }
}

#[test]
fn an_install_without_a_release_is_refused() {
    let bytes = serde_json::to_vec(&order(Action::Install)).expect("JSON");
    let mut envelope = Envelope {
        payload_type: <Instruction as signed::Document>::TYPE.to_owned(),
        payload: bytes,
        signatures: Vec::new(),
    };
    envelope.sign(&Keys::fixed().online);
    assert_eq!(refused(&envelope.to_json()).code(), Code::BadDocument);
    let _: AssignmentId = DEVICE.parse().expect("an id");
}

// Releases.

fn verdict(change: impl FnOnce(&mut Release), standing: Standing, allow_downgrade: bool) -> &'static str {
    let keys = Keys::fixed();
    let root = testing::root(&keys);
    let mut document = testing::release(5);
    change(&mut document);
    let bytes = testing::signed(&document, &[&keys.release]);
    let digest = Envelope::parse::<Release>(&bytes).expect("an envelope").digest();
    let settings =
        Settings::parse("hw = 'verifone-m440'\n[products.pos-app]\ndirectory = '/opt/pos'").expect("settings");
    let installed = [other_product("os", "12.4")];
    let device = Device {
        settings: &settings,
        agent_version: "0.1.0",
        root: &root,
        head: None,
        installed: &installed,
        now: testing::NOW,
    };
    match super::release(&bytes, &root, digest) {
        Ok(release) => {
            suits(&release, device, standing, allow_downgrade).map_or_else(|refusal| refusal.code().as_str(), |()| "ok")
        }
        Err(refusal) => refusal.code().as_str(),
    }
}

fn other_product(product: &str, version: &str) -> Installed {
    Installed {
        product: product.parse().expect("a name"),
        version: version.parse().expect("a version"),
        release: None,
        epoch: 0,
        counter: 0,
        floor: 0,
    }
}

fn installed(epoch: u32, counter: u64) -> Standing {
    Standing { installed: Some((Floor { epoch, counter }, Digest::of(b"installed"))), ..Standing::default() }
}

fn floor(epoch: u32, counter: u64) -> Standing {
    Standing { floor: Floor { epoch, counter }, ..Standing::default() }
}

fn plain(change: impl FnOnce(&mut Release)) -> &'static str {
    verdict(change, Standing::default(), false)
}

#[test]
fn a_suitable_release_is_accepted() {
    assert_eq!(plain(|_| {}), "ok");
    assert_eq!(verdict(|_| {}, installed(1, 4), false), "ok");
}

#[test]
fn rollback_below_the_floor_is_refused_even_if_ordered() {
    assert_eq!(verdict(|_| {}, floor(1, 6), true), "below_floor");
    assert_eq!(verdict(|_| {}, floor(2, 0), true), "below_floor");
    assert_eq!(verdict(|_| {}, floor(1, 5), false), "ok");
}

#[test]
fn a_downgrade_needs_an_order_that_allows_it() {
    assert_eq!(verdict(|_| {}, installed(1, 9), false), "downgrade");
    assert_eq!(verdict(|_| {}, installed(1, 9), true), "ok");
}

#[test]
fn the_same_counter_with_another_digest_is_refused() {
    assert_eq!(verdict(|_| {}, installed(1, 5), true), "counter_conflict");
}

#[test]
fn a_higher_version_text_with_a_lower_counter_is_refused() {
    assert_eq!(
        verdict(|release| release.version = "99.0".parse().expect("a version"), installed(1, 9), false),
        "downgrade"
    );
}

#[test]
fn wrong_hardware_is_refused() {
    assert_eq!(plain(|release| release.hw = vec!["ingenico-*".to_owned()]), "wrong_hardware");
    assert_eq!(plain(|release| release.hw = vec!["x".to_owned(), "verifone-*".to_owned()]), "ok");
}

#[test]
fn a_channel_that_the_device_does_not_accept_is_refused() {
    assert_eq!(plain(|release| release.channels = vec!["beta".to_owned()]), "wrong_channel");
}

#[test]
fn a_product_that_is_not_configured_is_refused() {
    assert_eq!(plain(|release| release.product = "other".parse().expect("a name")), "unknown_product");
}

#[test]
fn an_expired_release_is_refused() {
    assert_eq!(plain(|release| release.not_after = Some(Timestamp::from_millis(1))), "expired");
    assert_eq!(plain(|release| release.not_after = Some(testing::NOW)), "ok");
}

#[test]
fn a_release_for_a_newer_agent_is_refused() {
    assert_eq!(plain(|release| release.requires_agent = "0.1.0".parse().ok()), "ok");
    assert_eq!(plain(|release| release.requires_agent = "0.2".parse().ok()), "agent_too_old");
}

#[test]
fn a_release_for_which_a_stepping_stone_is_missing_is_refused() {
    let runs = |counter| {
        let installed = Some((Floor { epoch: 1, counter }, Digest::of(b"installed")));
        let standing = Standing { installed, ..Standing::default() };
        verdict(|release| release.requires_at_least = Some(3), standing, false)
    };
    assert_eq!(runs(2), "needs_stepping_stone");
    assert_eq!(runs(3), "ok");
    assert_eq!(verdict(|release| release.requires_at_least = Some(3), Standing::default(), false), "ok");
}

#[test]
fn a_release_that_needs_another_product_is_refused_until_that_is_there() {
    let needs = |product: &str, version: &str| {
        let (product, at_least) = (product.parse().expect("a name"), version.parse().expect("a version"));
        plain(|release| release.requires = vec![Requirement { product, at_least }])
    };
    assert_eq!(needs("os", "12.4"), "ok");
    assert_eq!(needs("os", "12.10"), "needs_product");
    assert_eq!(needs("bios", "1"), "needs_product");
}

#[test]
fn a_release_of_an_epoch_that_the_role_does_not_have_is_refused() {
    assert_eq!(plain(|release| release.epoch = 2), "bad_document");
}

#[test]
fn a_known_bad_release_is_refused() {
    assert_eq!(verdict(|_| {}, Standing { known_bad: Some(3), ..Standing::default() }, false), "known_bad");
}

#[test]
fn a_release_with_another_digest_than_ordered_is_refused() {
    let keys = Keys::fixed();
    let bytes = testing::signed(&testing::release(5), &[&keys.release]);
    let refusal = release(&bytes, &testing::root(&keys), Digest::of(b"another")).expect_err("refused");
    assert_eq!((refusal.code(), refusal.attack()), (Code::WrongRelease, Some(Attack::BadSig)));
}

#[test]
fn a_release_signed_by_the_online_key_is_refused() {
    let keys = Keys::fixed();
    let bytes = testing::signed(&testing::release(5), &[&keys.online]);
    let digest = Envelope::parse::<Release>(&bytes).expect("an envelope").digest();
    assert_eq!(release(&bytes, &testing::root(&keys), digest).expect_err("refused").code(), Code::BadSignature);
}

#[test]
fn nothing_is_installed_under_an_expired_root() {
    let keys = Keys::fixed();
    let root = testing::root(&keys);
    let bytes = testing::signed(&testing::release(5), &[&keys.release]);
    let digest = Envelope::parse::<Release>(&bytes).expect("an envelope").digest();
    let release = release(&bytes, &root, digest).expect("signed");
    let settings = Settings::parse("").expect("settings");
    let now = root.expires + std::time::Duration::from_secs(1);
    let device = Device { settings: &settings, agent_version: "0.1.0", root: &root, head: None, installed: &[], now };
    assert_eq!(suits(&release, device, Standing::default(), false), Err(Refusal::RootExpired));
}
