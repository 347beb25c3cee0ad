//! Bodies of signed documents: what is read is written the same, and only whoever may sign it makes it count.

use std::fmt::Debug;

use callboard_proto::{
    digest::Digest,
    head::Head,
    instruction::Instruction,
    release::Release,
    root::Root,
    signed::{self, Document, Envelope, Refused, Sealer},
};
use ed25519_dalek::SigningKey;

use super::keys::Keys;

/// The body of a root.
pub(super) fn root(body: &[u8]) -> bool {
    let keys = Keys::fixed();
    let Some((envelope, root)) = read::<Root>(body) else { return false };
    assert!(Root::open_initial(&envelope.to_json()).is_err(), "a root that nobody signed");
    // Whatever it says of itself, the root before it must be asked.
    let own = with(&envelope, &[&keys.online]);
    assert!(keys.trusted().open_next(&own).is_err(), "a next root without the keys of the one before");
    let both = with(&envelope, &keys.all());
    if let Ok(next) = keys.trusted().open_next(&both) {
        assert_eq!((next.version, &*next), (2, &root));
        assert!(Root::open_initial(&both).is_ok(), "a next root that its own keys did not sign");
    }
    // What a root is asked for, whatever stands in it.
    let (set, threshold) = root.own();
    assert!(threshold > 0 && root.online().1 == 1 && root.release_keys().len() <= root.keys.len());
    assert!(set.len() <= root.keys.len());
    true
}

/// The body of a release.
pub(super) fn release(body: &[u8]) -> bool {
    let (keys, trusted) = (Keys::fixed(), Keys::fixed().trusted());
    let Some((envelope, release)) = read::<Release>(body) else { return false };
    let open = |key: &SigningKey| {
        Envelope::parse::<Release>(&with(&envelope, &[key])).and_then(|signed| trusted.verify_release(&signed))
    };
    assert!(open(&keys.online).is_err() && open(&keys.root).is_err(), "a key that may not sign releases did");
    let covered = trusted.roles.release.iter().any(|role| role.covers(&release));
    assert_eq!(open(&keys.release).is_ok(), covered);
    assert!(release.space() > 0 && release.min_floor <= release.counter);
    for payload in &release.payloads {
        assert!(payload.chunk_count().saturating_mul(payload.chunk_size.into()) >= payload.size);
    }
    assert_eq!(release.unmet(|_| None).is_some(), !release.requires.is_empty());
    true
}

/// The body of a head.
pub(super) fn head(body: &[u8]) -> bool {
    let (keys, trusted) = (Keys::fixed(), Keys::fixed().trusted());
    let Some((envelope, head)) = read::<Head>(body) else { return false };
    assert!(trusted.open_head(&with(&envelope, &[&keys.online])).is_err(), "the online key signed a head");
    assert_eq!(trusted.open_head(&with(&envelope, &[&keys.head])).is_ok(), head.epoch == 1);
    assert!(!head.replaces(&head));
    assert!(head.issued_at <= head.half_life() && head.half_life() <= head.expires);
    for one in &head.products {
        assert_eq!(head.product(&one.product), Some(one));
    }
    true
}

/// The body of an instruction.
pub(super) fn instruction(body: &[u8]) -> bool {
    let (keys, trusted) = (Keys::fixed(), Keys::fixed().trusted());
    let Some((envelope, instruction)) = read::<Instruction>(body) else { return false };
    let (set, threshold) = trusted.online();
    let open = |bytes: &[u8]| {
        let envelope = Envelope::parse::<Instruction>(bytes)?;
        signed::verify::<Instruction>(&envelope, &set, threshold)
    };
    assert!(open(&with(&envelope, &[&keys.release, &keys.root])).is_err(), "an offline key signed an instruction");
    assert!(open(&with(&envelope, &[&keys.online])).is_ok_and(|opened| *opened == instruction));
    // The server's shorter way to the same envelope.
    if let Ok(sealed) = Sealer::new(keys.online.clone()).seal(&instruction) {
        assert!(open(&sealed).is_ok_and(|opened| *opened == instruction));
    }
    true
}

/// Reads a body. What is written of it is read as the same, and written the same again.
fn read<T: Document + PartialEq + Debug>(body: &[u8]) -> Option<(Envelope, T)> {
    let envelope = Envelope { payload_type: T::TYPE.to_owned(), payload: body.to_vec(), signatures: Vec::new() };
    let document = envelope.claim::<T>().ok()?;
    assert!(document.format() == 1 && document.check().is_ok());
    match Envelope::unsigned(&document) {
        Ok(written) => {
            assert_eq!(written.claim::<T>().as_ref(), Ok(&document), "it does not read back");
            assert_eq!(Envelope::unsigned(&document).map(|again| again.digest()), Ok(written.digest()));
        }
        // With all that was left out it may be longer than it was.
        Err(refused) => assert!(matches!(refused, Refused::TooLarge { .. }), "{refused}"),
    }
    Some((envelope, document))
}

/// The same body signed by these, and by nobody who matters with a signature that is none.
fn with(envelope: &Envelope, keys: &[&SigningKey]) -> Vec<u8> {
    let mut envelope = envelope.clone();
    envelope.attach(Digest::of(b"nobody"), &[0; 64]);
    for key in keys {
        envelope.sign(*key);
    }
    envelope.to_json()
}
