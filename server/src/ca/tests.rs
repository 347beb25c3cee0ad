use std::os::unix::fs::PermissionsExt as _;

use rcgen::CertificateParams;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, parse_x509_certificate};

use super::{csr::BadCsr, *};

fn now() -> Timestamp {
    "2026-11-23T02:00:00Z".parse().unwrap()
}

fn device() -> DeviceId {
    "0192f0c1-7e8a-7c3e-9d54-3f1f6a2b8c11".parse().unwrap()
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn request(key: &KeyPair, params: CertificateParams) -> String {
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn p256() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
}

fn issue(ca: &DeviceCa, pem: &str) -> Result<String, BadCsr> {
    let (not_before, not_after) = DeviceCa::validity(now());
    Csr::verify(pem).map(|csr| ca.issue(&csr, device(), not_before, not_after).unwrap())
}

fn uris_and_names<'a>(certificate: &'a X509Certificate<'_>) -> Vec<&'a GeneralName<'a>> {
    let san = certificate.subject_alternative_name().unwrap().unwrap();
    san.value.general_names.iter().collect()
}

#[test]
fn a_device_certificate_names_the_device_and_allows_nothing_but_being_a_client() {
    let dir = tempfile::tempdir().unwrap();
    let ca = DeviceCa::create(dir.path(), now()).unwrap();
    let key = p256();
    let certificate = der(&issue(&ca, &request(&key, CertificateParams::default())).unwrap());
    let (_, parsed) = parse_x509_certificate(&certificate).unwrap();
    let (_, issuer) = parse_x509_certificate(ca.certificate()).unwrap();
    parsed.verify_signature(Some(issuer.public_key())).unwrap();

    let urn = format!("urn:callboard:device:{}", device());
    assert_eq!(uris_and_names(&parsed), [&GeneralName::URI(&urn)]);
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any && usage.other.is_empty());
    assert!(!parsed.basic_constraints().unwrap().unwrap().value.ca);
    assert!(issuer.basic_constraints().unwrap().unwrap().value.ca);
    assert_eq!(parsed.validity().not_after.timestamp() * 1000, (now() + DAY * 180).millis());
    assert!(parsed.validity().not_before.timestamp() * 1000 < now().millis());
    assert_eq!(spki_sha256(&certificate).unwrap(), Digest::of(&key.subject_public_key_info()));
    assert!(certificate.len() < 512, "{} bytes travel in every full handshake", certificate.len());
}

#[test]
fn names_and_extensions_of_a_request_are_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let ca = DeviceCa::create(dir.path(), now()).unwrap();
    let mut greedy = CertificateParams::new(vec!["admin.example.com".to_owned()]).unwrap();
    greedy.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    greedy.distinguished_name = named("somebody else");
    greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::CodeSigning];
    let certificate = der(&issue(&ca, &request(&p256(), greedy)).unwrap());
    let (_, parsed) = parse_x509_certificate(&certificate).unwrap();
    assert!(!parsed.basic_constraints().unwrap().unwrap().value.ca);
    assert_eq!(parsed.subject().to_string(), format!("CN={}", device()));
    assert_eq!(uris_and_names(&parsed).len(), 1);
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.code_signing);
}

#[test]
fn a_request_signed_by_another_key_is_refused() {
    let key = p256();
    let good = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(
        request(&key, CertificateParams::default()).as_bytes(),
    );
    let mut bytes = good.unwrap().to_vec();
    let raw = key.public_key_raw();
    let at = bytes.windows(raw.len()).position(|window| window == raw).unwrap();
    bytes[at..at + raw.len()].copy_from_slice(p256().public_key_raw());
    assert_eq!(Csr::verify(&pem(&bytes)).unwrap_err(), BadCsr::Signature);
}

#[test]
fn keys_of_other_kinds_are_refused() {
    for kind in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let key = KeyPair::generate_for(kind).unwrap();
        let refused = Csr::verify(&request(&key, CertificateParams::default())).unwrap_err();
        assert_eq!(refused, BadCsr::KeyType, "{kind:?}");
    }
    assert_eq!(Csr::verify(RSA_1024).unwrap_err(), BadCsr::KeyType);
}

#[test]
fn what_is_not_a_request_is_refused_with_a_reason() {
    let good = request(&p256(), CertificateParams::default());
    for bad in ["", "x", &good.replace("CERTIFICATE REQUEST", "CERTIFICATE"), &good[..good.len() / 2]] {
        assert!(matches!(Csr::verify(bad), Err(BadCsr::Pem(_))), "{bad}");
    }
    assert!(matches!(Csr::verify(&pem(b"\x30\x03\x02\x01\x05")), Err(BadCsr::Request(_))));
}

#[test]
fn a_reloaded_ca_is_the_same_ca() {
    let dir = tempfile::tempdir().unwrap();
    let made = DeviceCa::create(dir.path(), now()).unwrap();
    let loaded = DeviceCa::load(dir.path()).unwrap();
    assert_eq!(made.certificate(), loaded.certificate());
    let certificate = der(&issue(&loaded, &request(&p256(), CertificateParams::default())).unwrap());
    let (_, parsed) = parse_x509_certificate(&certificate).unwrap();
    let (_, issuer) = parse_x509_certificate(made.certificate()).unwrap();
    parsed.verify_signature(Some(issuer.public_key())).unwrap();
    assert_eq!(parsed.issuer(), issuer.subject());
}

#[test]
fn keys_are_private_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    DeviceCa::create(dir.path(), now()).unwrap();
    let server = ServerCa::create(dir.path(), now()).unwrap();
    server.issue_server(dir.path(), "updates.example.com", now()).unwrap();
    for key in [DEVICE_CA_KEY, SERVER_CA_KEY, SERVER_KEY] {
        let mode = fs::metadata(dir.path().join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let before = fs::read(dir.path().join(DEVICE_CA_KEY)).unwrap();
    assert!(matches!(DeviceCa::create(dir.path(), now()), Err(CaError::Write { .. })));
    assert_eq!(fs::read(dir.path().join(DEVICE_CA_KEY)).unwrap(), before);
}

#[test]
fn a_ca_with_another_ones_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    DeviceCa::create(dir.path(), now()).unwrap();
    fs::write(dir.path().join(DEVICE_CA_KEY), p256().serialize_pem()).unwrap();
    assert!(matches!(DeviceCa::load(dir.path()), Err(CaError::Unusable { .. })));
}

#[test]
fn the_server_certificate_names_host_and_loopback_and_is_back_dated() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ServerCa::create(dir.path(), now()).unwrap();
    for (host, names) in [("updates.example.com", 4), ("10.1.2.3", 4), ("[2001:db8::1]", 4), ("localhost", 3)] {
        ca.issue_server(dir.path(), host, now()).unwrap();
        let certificate = der(&fs::read_to_string(dir.path().join(SERVER_CERT)).unwrap());
        let (_, parsed) = parse_x509_certificate(&certificate).unwrap();
        let (_, issuer) = parse_x509_certificate(ca.certificate()).unwrap();
        parsed.verify_signature(Some(issuer.public_key())).unwrap();
        assert_eq!(uris_and_names(&parsed).len(), names, "{host}");
        let a_year_ago = (now() - DAY * 365).millis() / 1000;
        assert!(parsed.validity().not_before.timestamp() < a_year_ago);
        assert!(issuer.validity().not_before.timestamp() < a_year_ago);
    }
    assert!(matches!(ca.issue_server(dir.path(), "not a host", now()), Err(CaError::Host { .. })));
}

fn pem(der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
}

/// `openssl req -new -newkey rsa:1024 -subj /CN=till`
const RSA_1024: &str = "\
-----BEGIN CERTIFICATE REQUEST-----
MIIBTjCBuAIBADAPMQ0wCwYDVQQDDAR0aWxsMIGfMA0GCSqGSIb3DQEBAQUAA4GN
ADCBiQKBgQChgKxhJOTtuZCoCuHbRqzuqbzgJIyfeCHiPObi32k2HsWDWUuB1Pjp
/9SaSMYa1zetyOQQiWRzZiMDNHDF/Mx0Y+YtsVh9YsYx3hFJ+polbrd4iKC/v4UU
lBTxIk1nprsOgwMA/jgjtW5LVW+aOtFLyQofnymITSosAnic1Uc+2QIDAQABoAAw
DQYJKoZIhvcNAQELBQADgYEAQODXkkpZvXFNHBsmc/nTyXAkzF2S/BT+sfFOr9v3
23DZyjOIIuQTycE6v7sFthAsTgmFqKhU474VVeLv3zuwEKew9ixbcHK7ATSdYfgO
0aQOW8kYCYNQ66yt3APZX3heG8vATrBgtg7uK48bFy+GnP04wIF8VNsG4kBjR6vH
OSg=
-----END CERTIFICATE REQUEST-----
";

#[test]
fn an_exchange_of_a_ca_can_be_cut_short_anywhere_and_repeated() {
    use rotation::{Kind, forget_former, make_next, switch};
    let dir = tempfile::tempdir().unwrap();
    let first = DeviceCa::create(dir.path(), now()).unwrap();
    let old = der(&issue(&first, &request(&p256(), CertificateParams::default())).unwrap());
    let next = make_next(dir.path(), Kind::Device, now()).unwrap();
    assert!(make_next(dir.path(), Kind::Device, now()).is_err(), "one at a time");
    assert_ne!(name(first.certificate()).unwrap(), name(&next).unwrap());
    let issuers = |ca: &DeviceCa| ca.certificates().cloned().collect::<Vec<_>>();
    assert_eq!(issuers(&DeviceCa::load(dir.path()).unwrap()), [first.certificate().clone(), next.clone()]);
    // The power goes after the first of the two names was changed.
    let files = Kind::Device.files(dir.path());
    fs::copy(&files.certificate, &files.former).unwrap();
    fs::rename(&files.next_key, &files.key).unwrap();
    switch(dir.path(), Kind::Device).unwrap();
    let switched = DeviceCa::load(dir.path()).unwrap();
    assert_eq!(issuers(&switched), [next, first.certificate().clone()]);
    let new = der(&issue(&switched, &request(&p256(), CertificateParams::default())).unwrap());
    let issuer = |leaf: &CertificateDer<'_>| Digest::of(parse_x509_certificate(leaf).unwrap().1.issuer.as_raw());
    assert_eq!([&new, &old].map(issuer), [0, 1].map(|n| name(&issuers(&switched)[n]).unwrap()));
    forget_former(dir.path(), Kind::Device).unwrap();
    assert_eq!(issuers(&DeviceCa::load(dir.path()).unwrap()).len(), 1);
    // What was begun and has no certificate yet is begun anew.
    fs::write(&files.next_key, "half a key").unwrap();
    make_next(dir.path(), Kind::Device, now()).unwrap();
    switch(dir.path(), Kind::Device).unwrap();
    DeviceCa::load(dir.path()).unwrap();
}
