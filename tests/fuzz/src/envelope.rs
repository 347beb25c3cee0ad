//! Envelopes as they come from the network: nothing counts as signed that is not.

use callboard_proto::{
    head::Head,
    instruction::Instruction,
    release::Release,
    root::Root,
    signed::{self, Document, Envelope, KeySet, PublicKey, Verified},
};

use super::keys::Keys;

/// The bytes of an envelope.
pub(super) fn any(bytes: &[u8]) -> bool {
    let root = Keys::fixed().trusted();
    let mut taken = false;
    if let Some(envelope) = read::<Root>(bytes) {
        let (keys, threshold) = root.own();
        taken |= signed_by(&envelope, signed::verify::<Root>(&envelope, &keys, threshold).ok(), &keys);
        if let Ok(next) = root.open_next(bytes) {
            assert_eq!(next.version, root.version + 1);
            assert!(!envelope.signers(&keys).is_empty(), "the keys of the root before did not sign it");
        }
    }
    if let Some(envelope) = read::<Release>(bytes) {
        taken |= signed_by(&envelope, root.verify_release(&envelope).ok(), &root.release_keys());
    }
    if let Some(envelope) = read::<Head>(bytes)
        && let Some((keys, _)) = root.head()
    {
        taken |= signed_by(&envelope, root.open_head(bytes).ok(), &keys);
    }
    if let Some(envelope) = read::<Instruction>(bytes) {
        let (keys, threshold) = root.online();
        taken |= signed_by(&envelope, signed::verify::<Instruction>(&envelope, &keys, threshold).ok(), &keys);
    }
    taken
}

/// Reads it; what was read, written and read again is the same.
fn read<T: Document>(bytes: &[u8]) -> Option<Envelope> {
    let envelope = Envelope::parse::<T>(bytes).ok()?;
    assert!(envelope.payload.len() <= T::MAX_BYTES && envelope.payload_type == T::TYPE);
    // With white space left out it is never longer, and with the usual alphabet it is as long.
    assert_eq!(Envelope::parse::<T>(&envelope.to_json()).as_ref(), Ok(&envelope), "it does not read back");
    Some(envelope)
}

/// What was verified has a signature over type and body by one of `keys`, found without the envelope's own means.
fn signed_by<T: Document>(envelope: &Envelope, verified: Option<Verified<T>>, keys: &KeySet) -> bool {
    let Some(verified) = verified else { return false };
    assert_eq!(verified.digest(), envelope.digest());
    let mut message = b"DSSEv1 ".to_vec();
    for part in [T::TYPE.as_bytes(), &envelope.payload] {
        message.extend_from_slice(part.len().to_string().as_bytes());
        message.push(b' ');
        message.extend_from_slice(part);
        message.push(b' ');
    }
    message.pop();
    let fixed = Keys::fixed();
    let valid = fixed.all().into_iter().any(|key| {
        let public = PublicKey::from(key.verifying_key());
        keys.contains(public.id())
            && envelope.signatures.iter().any(|signature| {
                let alphabet =
                    if signature.sig.contains(['-', '_']) { data_encoding::BASE64URL } else { data_encoding::BASE64 };
                let sig = alphabet.decode(signature.sig.as_bytes()).ok().and_then(|sig| sig.try_into().ok());
                sig.is_some_and(|sig| public.verifies(&message, &sig))
            })
    });
    assert!(valid, "it counts as signed and is not");
    true
}
