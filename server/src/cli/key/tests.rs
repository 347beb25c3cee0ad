//! Key files: what is made can be read, by OpenSSL too, and nothing is overwritten.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[test]
fn a_new_key_is_private_and_can_be_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("release.key");
    let made = create(&path).unwrap();
    assert_eq!(read_private(&path).unwrap().public(), made.into());
    assert_eq!(read_online(&public_path(&path)).unwrap(), made);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_key_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("k");
    fs::write(public_path(&path), "precious").unwrap();
    let refused = create(&path).unwrap_err();
    assert_eq!(exit::code_of(&refused), exit::BAD_INPUT);
    assert!(!path.exists());
    assert_eq!(fs::read(public_path(&path)).unwrap(), b"precious");
}

#[test]
fn the_wrong_half_of_a_key_is_recognised() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("k");
    create(&path).unwrap();
    for error in [read_public(&path).map(drop), read_private(&public_path(&path)).map(drop)].map(Result::unwrap_err) {
        assert_eq!(exit::code_of(&error), exit::BAD_INPUT, "{error}");
    }
    fs::write(&path, "nonsense").unwrap();
    assert!(read_private(&path).is_err() && read_public(&path).is_err());
    assert!(read_private(&dir.path().join("missing")).is_err());
}

/// Made by `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`.
#[test]
fn keys_of_openssl_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (private, public) = (dir.path().join("k"), dir.path().join("k.pub"));
    fs::write(
        &private,
        "-----BEGIN PRIVATE KEY-----\n\
         MC4CAQAwBQYDK2VwBCIEIAW+sfD3sZK551pVCXYaOo1osNmc92r8KyDAEcphkk7V\n\
         -----END PRIVATE KEY-----\n",
    )
    .unwrap();
    fs::write(
        &public,
        "-----BEGIN PUBLIC KEY-----\n\
         MCowBQYDK2VwAyEA/4qwThVJg5tmNyIgB4wXLJAMEQMoxz0vxuRSFLgq4Dw=\n\
         -----END PUBLIC KEY-----\n",
    )
    .unwrap();
    assert_eq!(read_private(&private).unwrap().public(), read_public(&public).unwrap());
}

#[test]
fn a_new_p_256_key_can_be_read_back_and_signs_what_its_public_key_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("release.key");
    let made = create_as(&path, Algorithm::EcdsaP256).unwrap();
    let key = read_private(&path).unwrap();
    assert_eq!((key.public(), made.alg()), (made.clone(), "ecdsa-p256"));
    assert_eq!(read_public(&public_path(&path)).unwrap(), made);
    assert!(made.verifies(b"bytes", &key.signature(b"bytes")) && !made.verifies(b"others", &key.signature(b"bytes")));
    let refused = read_online(&public_path(&path)).unwrap_err();
    assert_eq!(exit::code_of(&refused), exit::BAD_INPUT);
    assert!(refused.to_string().contains("only Ed25519 keys sign instructions"), "{refused}");
}

/// Made by `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` and `openssl pkey -pubout`.
#[test]
fn p_256_keys_of_openssl_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (private, public) = (dir.path().join("k"), dir.path().join("k.pub"));
    fs::write(
        &private,
        "-----BEGIN PRIVATE KEY-----\n\
         MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgr1rb9Cz3Zz5UStEY\n\
         ItmoXM5SLNfHWYuwKbNe0buCyR2hRANCAATDH+s4mSh3vBrlzQuHhlAQX1RjpEOL\n\
         52VdqFWEYwL/RSQYHGbHTTFrS3qyNkfLwXqTEnYTlCFzLt8SZhsI2lX8\n\
         -----END PRIVATE KEY-----\n",
    )
    .unwrap();
    fs::write(
        &public,
        "-----BEGIN PUBLIC KEY-----\n\
         MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEwx/rOJkod7wa5c0Lh4ZQEF9UY6RD\n\
         i+dlXahVhGMC/0UkGBxmx00xa0t6sjZHy8F6kxJ2E5Qhcy7fEmYbCNpV/A==\n\
         -----END PUBLIC KEY-----\n",
    )
    .unwrap();
    assert_eq!(read_private(&private).unwrap().public(), read_public(&public).unwrap());
}
