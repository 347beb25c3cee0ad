//! One test per attack on an envelope.

use ed25519_dalek::{Signer as _, SigningKey};

use super::*;
use crate::{
    instruction::{Action, ActivateOn, Instruction, Nonce, Reason},
    release::Release,
    time::Timestamp,
};

fn instruction() -> Instruction {
    Instruction {
        v: 1,
        issued_at: Timestamp::from_millis(0),
        crit: Vec::new(),
        device_id: crate::ids::DeviceId::from_slice(&[7; 16]).expect("16 bytes"),
        nonce: Nonce([1; 32]),
        request_sha256: Digest::of(b"request"),
        server_time: Timestamp::from_millis(0),
        action: Action::None,
        reason: Reason { code: "nothing_pending".to_owned(), text: "no rollout".to_owned() },
        release_sha256: None,
        assignment_id: None,
        attempt: None,
        not_before: None,
        not_after: None,
        offline_activation: false,
        activate_on: ActivateOn::Now,
        allow_downgrade: false,
        max_bytes_per_s: None,
        next_checkin_s: 300,
        root_version: 1,
        head_serial: None,
        want: Vec::new(),
    }
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn keys(numbers: &[u8]) -> KeySet {
    KeySet::new(numbers.iter().map(|n| key(*n).verifying_key()))
}

fn signed(by: &[u8]) -> Envelope {
    let mut envelope = Envelope::unsigned(&instruction()).expect("acceptable");
    by.iter().for_each(|n| envelope.sign(&key(*n)));
    envelope
}

fn check(envelope: &Envelope, trusted: &[u8], threshold: usize) -> Result<(), Refused> {
    let read = Envelope::parse::<Instruction>(&envelope.to_json())?;
    assert_eq!(read, *envelope, "what is written is what is read");
    verify::<Instruction>(&read, &keys(trusted), threshold).map(drop)
}

#[test]
fn a_signed_document_is_accepted_and_an_unsigned_one_is_not() {
    assert_eq!(check(&signed(&[1]), &[1], 1), Ok(()));
    assert_eq!(check(&signed(&[]), &[1], 1), Err(Refused::Threshold { valid: 0, threshold: 1 }));
    assert_eq!(check(&signed(&[2]), &[1], 1), Err(Refused::Threshold { valid: 0, threshold: 1 }));
    assert_eq!(check(&signed(&[1]), &[1], 0), Err(Refused::Threshold { valid: 1, threshold: 0 }));
}

#[test]
fn sealing_gives_the_same_bytes_as_signing() {
    assert_eq!(Sealer::new(key(1)).seal(&instruction()), Ok(signed(&[1]).to_json()));
    assert_eq!(Sealer::new(key(1)).key_id(), key_id(&key(1).verifying_key()));
    let unacceptable = Instruction { action: Action::Install, ..instruction() };
    assert!(matches!(Sealer::new(key(1)).seal(&unacceptable), Err(Refused::Body(_))));
}

#[test]
fn every_flipped_bit_of_the_body_and_of_the_signature_is_refused() {
    let good = signed(&[1]);
    for bit in 0..good.payload.len() * 8 {
        let mut bad = good.clone();
        bad.payload[bit / 8] ^= 1 << (bit % 8);
        assert!(verify::<Instruction>(&bad, &keys(&[1]), 1).is_err(), "bit {bit} of the body");
    }
    let sig = BASE64.decode(good.signatures[0].sig.as_bytes()).expect("base64");
    for bit in 0..sig.len() * 8 {
        let mut flipped = sig.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let mut bad = good.clone();
        bad.signatures[0].sig = BASE64.encode(&flipped);
        assert!(verify::<Instruction>(&bad, &keys(&[1]), 1).is_err(), "bit {bit} of the signature");
    }
}

#[test]
fn the_same_key_does_not_count_twice_under_any_hint_or_alphabet() {
    let mut twice = signed(&[1]);
    let mut again = twice.signatures[0].clone();
    again.keyid = String::new();
    again.sig = BASE64URL.encode(&BASE64.decode(again.sig.as_bytes()).expect("base64"));
    twice.signatures.push(again);
    assert_eq!(check(&twice, &[1, 2], 2), Err(Refused::Threshold { valid: 1, threshold: 2 }));
    assert_eq!(check(&signed(&[1, 2]), &[1, 2], 2), Ok(()));
}

#[test]
fn bad_signatures_beside_good_ones_do_no_harm() {
    let mut envelope = signed(&[1]);
    for sig in ["", "AAAA", "not base64"] {
        envelope.signatures.insert(0, Signature { keyid: String::new(), sig: sig.to_owned() });
    }
    assert_eq!(check(&envelope, &[1], 1), Ok(()));
}

#[test]
fn seventeen_signatures_are_refused() {
    let mut envelope = signed(&[1]);
    let one = envelope.signatures[0].clone();
    envelope.signatures = vec![one; MAX_SIGNATURES + 1];
    assert_eq!(check(&envelope, &[1], 1), Err(Refused::TooManySignatures));
}

#[test]
fn another_type_is_refused_though_the_signature_is_right() {
    let mut envelope = signed(&[]);
    envelope.payload_type = Release::TYPE.to_owned();
    envelope.sign(&key(1));
    assert!(matches!(Envelope::parse::<Instruction>(&envelope.to_json()), Err(Refused::WrongType { .. })));
    assert!(verify::<Release>(&envelope, &keys(&[1]), 1).is_err());
}

#[test]
fn a_signature_without_the_pre_authentication_encoding_is_refused() {
    let mut envelope = signed(&[]);
    let sig = BASE64.encode(&key(1).sign(&envelope.payload).to_bytes());
    envelope.signatures.push(Signature { keyid: String::new(), sig });
    assert_eq!(check(&envelope, &[1], 1), Err(Refused::Threshold { valid: 0, threshold: 1 }));
}

fn body(text: &str) -> Result<Instruction, Refused> {
    parse_body(text.as_bytes())
}

#[test]
fn unknown_fields_are_ignored_unless_they_are_critical() {
    let good = serde_json::to_string(&instruction()).expect("json");
    let with = |extra: &str| good.replacen('{', &format!("{{{extra},"), 1);
    assert_eq!(body(&with("\"later\":[1]")), Ok(instruction()));
    assert_eq!(body(&with("\"later\":1,\"crit\":[\"later\"]")), Err(Refused::Critical("later".to_owned())));
    assert!(body(&with("\"crit\":[\"action\"]")).is_ok());
    assert!(matches!(body(&with("\"action\":\"none\"")), Err(Refused::Body(_))), "a field that stands twice");
    assert!(body(&format!("{good} ")).is_ok(), "white space at the end is not a second value");
    assert!(matches!(body(&format!("{good}{{}}")), Err(Refused::Body(_))), "something behind the value");
    assert_eq!(body(&good.replace("\"v\":1", "\"v\":2")), Err(Refused::Format(2)));
    let bomb = with(&format!("\"later\":{}{}", "[".repeat(100), "]".repeat(100)));
    assert!(matches!(body(&bomb), Err(Refused::Body(_))), "a depth bomb");
}

#[test]
fn envelopes_over_the_cap_or_with_junk_are_refused() {
    let long = vec![b'x'; max_envelope(Instruction::MAX_BYTES) + 1];
    assert!(matches!(Envelope::parse::<Instruction>(&long), Err(Refused::TooLarge { .. })));
    let json = String::from_utf8(signed(&[1]).to_json()).expect("utf-8");
    for bad in [
        json.replacen('{', "{\"payload\":\"\",", 1),
        format!("{json}x"),
        json.replace("\"payload\":\"", "\"payload\":\" "),
        "[]".to_owned(),
        "{}".to_owned(),
    ] {
        assert!(Envelope::parse::<Instruction>(bad.as_bytes()).is_err(), "{bad}");
    }
}
