//! An enrolment that is cut short anywhere: the key that the server has certified is never lost, and a device that enrols
//! again stays what it was until it is what it becomes.

use std::cell::RefCell;

use callboard_proto::time::Timestamp;
use rcgen::{CertificateParams, CertificateSigningRequestParams, Issuer, KeyPair};

use super::{super::*, seed};
use crate::{
    client::belong_together,
    enrol::{self, Begun, Checked},
};

/// The server: which keys it has certified, with the last certificate of each.
type Certified = BTreeMap<String, String>;

struct Moment {
    fs: SimFs,
    certified: Certified,
}

fn bundle() -> Checked {
    let root: serde_json::Value = serde_json::from_slice(&testing::root_envelope(&Keys::fixed())).expect("JSON");
    let bundle = serde_json::json!({
        "v": 1,
        "server_url": "https://127.0.0.1:1",
        "server_ca_pem": identity().0.server_ca_pem,
        "root": root,
        "token": "a token",
    });
    enrol::read_bundle(bundle.to_string().as_bytes()).expect("a bundle")
}

/// Enrols, unless that is done; `again` if the device is enrolled and is to be anew.
fn enrol(fs: &SimFs, certified: &Rc<RefCell<Certified>>, again: bool) -> std::io::Result<()> {
    let bundle = bundle();
    enrol::prepare(fs, &state_dir())?;
    let key = match enrol::begin(fs, &state_dir(), &bundle, again) {
        Ok(Begun::Already(_)) => return Ok(()),
        Ok(Begun::Key { key, .. }) => key,
        Err(error) => return Err(std::io::Error::other(error.to_string())),
    };
    let request = enrol::request(&key).expect("a request");
    let certificate = || {
        let request = CertificateSigningRequestParams::from_pem(&request).expect("a request");
        let issuer = Issuer::new(CertificateParams::default(), KeyPair::generate().expect("a key"));
        request.signed_by(&issuer).expect("a certificate").pem()
    };
    let certificate_pem = certified.borrow_mut().entry(key.serialize_pem()).or_insert_with(certificate).clone();
    let renew_at = Some(Timestamp::from_millis(1));
    let own = Identity { certificate_pem, renew_at, ..identity().0 };
    enrol::store(fs, &state_dir(), &bundle, &own)
}

fn read(fs: &SimFs, path: &Path) -> Option<Vec<u8>> {
    fs.read(path, 1 << 20).ok()
}

/// What must hold at any moment.
fn look(fs: &SimFs, certified: &Certified, enrolled: bool) -> Result<(), String> {
    let dir = state_dir();
    let keys: Vec<Vec<u8>> = [dir.key(), dir.next_key()].iter().filter_map(|path| read(fs, path)).collect();
    let own = Identity::load(fs, &dir);
    if enrolled && own.is_err() {
        return Err(format!("I11: the device is enrolled no more: {:?}", own.err()));
    }
    if let Ok(own) = &own {
        let has_key = keys.iter().any(|key| belong_together(&own.certificate_pem, key));
        let has_root = crate::identity::load_root(fs, &dir).is_ok();
        if !has_key || !has_root {
            return Err("I11: enrolled without the certificate's key, or without a root".to_owned());
        }
    }
    // A token can be spent once. Whoever has spent it needs the key that it was spent for, until the certificate is there.
    let done = own.is_ok_and(|own| certified.values().any(|pem| *pem == own.certificate_pem));
    let kept = certified.keys().all(|key| keys.iter().any(|kept| kept == key.as_bytes()));
    if done || kept { Ok(()) } else { Err("I11: the key that was certified is lost".to_owned()) }
}

/// Everything at hand is cut at every call, and what is left enrols to the end. Says how many media were seen.
fn explore(start: &SimFs, again: bool, deep: bool, certified: &Certified) -> usize {
    let moments = Rc::new(RefCell::new(Vec::new()));
    let (fs, now) = (start.clone(), Rc::new(RefCell::new(certified.clone())));
    let (seen, known) = (Rc::clone(&moments), Rc::clone(&now));
    fs.watch(Some(Rc::new(move |fs| {
        seen.borrow_mut().push(Moment { fs, certified: known.borrow().clone() });
    })));
    let enrolled = Identity::load(&fs, &state_dir()).is_ok();
    enrol(&fs, &now, again).expect("enrolled");
    let mut media = std::collections::HashSet::new();
    for (n, moment) in moments.take().into_iter().enumerate() {
        let mixes = (0..12).map(|mix| Keeps::Some(seed().wrapping_mul(1000) + mix));
        for keeps in [Keeps::Nothing, Keeps::Everything].into_iter().chain(mixes) {
            let fs = moment.fs.reboot(keeps);
            if !media.insert(fs.fingerprint(super::invariants::varies)) {
                continue;
            }
            let context = format!("again: {again}, before call {n} after {}, {keeps:?} kept", moment.fs.last());
            look(&fs, &moment.certified, enrolled).unwrap_or_else(|found| panic!("{found}: {context}"));
            let done = |fs: &SimFs, certified: &Certified| {
                Identity::load(fs, &state_dir())
                    .is_ok_and(|own| certified.values().any(|pem| *pem == own.certificate_pem))
            };
            let left = again && !done(&fs, &moment.certified);
            if deep {
                explore(&fs, left, false, &moment.certified);
            }
            let certified = Rc::new(RefCell::new(moment.certified.clone()));
            enrol(&fs, &certified, left).unwrap_or_else(|error| panic!("{error}: {context}"));
            let certified = certified.borrow();
            look(&fs, &certified, true).unwrap_or_else(|found| panic!("{found}: {context}"));
            assert!(done(&fs, &certified), "{context}");
            let keys = certified.len();
            assert_eq!(keys, 1, "the same key is certified again: {context}");
        }
    }
    media.len()
}

#[test]
fn an_enrolment_that_is_cut_short_anywhere_twice_keeps_the_key_that_was_certified() {
    let empty = SimFs::with_directories(&[Path::new("/var/lib")]);
    let media = explore(&empty, false, true, &Certified::new());
    assert!(media > 10, "{media} media");
}

#[test]
fn a_device_that_enrols_again_and_is_cut_short_is_what_it_was_or_what_it_becomes() {
    let enrolled = shop(Before::Release);
    let media = explore(&enrolled, true, true, &Certified::new());
    assert!(media > 10, "{media} media");
}
