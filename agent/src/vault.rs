//! The device's key at rest: a file for root alone, or one that systemd has sealed to this machine (and to its TPM, where
//! there is one), so that a copied disk has no key.
//!
//! A key is sealed when it is in use, and the plain file goes when the sealed one is durable and was opened again. So a
//! power cut leaves one of them, or both; and whatever cannot be sealed stays as it was.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{
    client::belong_together,
    fs::{self, Fs},
    identity::Identity,
    layout::StateDir,
};

/// What a credential of the unit is called (`LoadCredentialEncrypted=`), and what the sealed file is bound to.
const NAME: &str = "callboard-device-key";
const MAX_BYTES: usize = 64 * 1024;

/// Seals and opens.
pub(crate) trait Sealer {
    fn seal(&self, key: &[u8]) -> io::Result<Vec<u8>>;
    fn open(&self, sealed: &[u8]) -> io::Result<Vec<u8>>;
    /// What systemd has opened for this unit, if it was told to.
    fn given(&self) -> Option<Vec<u8>>;
}

/// `systemd-creds`, which takes the TPM if there is one, and else a key of the machine that root alone can read.
pub(crate) struct Systemd;

impl Systemd {
    fn run(verb: &str, input: &[u8]) -> io::Result<Vec<u8>> {
        let mut command = Command::new("systemd-creds");
        command.arg(format!("--name={NAME}")).args([verb, "-", "-"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let told = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input));
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let said = crate::client::plain(String::from_utf8_lossy(&output.stderr).trim(), 300);
            return Err(io::Error::other(format!("systemd-creds {verb}: {said}")));
        }
        // One that has ended without reading has said why.
        told?;
        Ok(output.stdout)
    }
}

impl Sealer for Systemd {
    fn seal(&self, key: &[u8]) -> io::Result<Vec<u8>> {
        Self::run("encrypt", key)
    }

    fn open(&self, sealed: &[u8]) -> io::Result<Vec<u8>> {
        Self::run("decrypt", sealed)
    }

    fn given(&self) -> Option<Vec<u8>> {
        let dir = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?);
        std::fs::read(dir.join(NAME)).ok().filter(|key| key.len() <= MAX_BYTES)
    }
}

/// The key of the device's certificate, PKCS#8 PEM: the plain one, else that which systemd has opened for this unit, else
/// the sealed one. After a renewal one of them may be the key before, which is not the certificate's.
pub(crate) fn read(fs: &dyn Fs, state_dir: &StateDir, own: &Identity, sealer: &dyn Sealer) -> io::Result<Vec<u8>> {
    let fits = |key: &Vec<u8>| belong_together(&own.certificate_pem, key);
    let plain = fs.read(&state_dir.key(), MAX_BYTES);
    if let Ok(key) = &plain
        && fits(key)
    {
        return plain;
    }
    if let Some(key) = sealer.given().filter(fits) {
        return Ok(key);
    }
    match fs.read(&state_dir.sealed_key(), MAX_BYTES) {
        Ok(sealed) => sealer.open(&sealed),
        // What is wrong with the plain one is the news where nothing was sealed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => plain,
        Err(error) => Err(error),
    }
}

/// Puts a sealed key in the place of the plain one.
pub(crate) fn seal(fs: &dyn Fs, state_dir: &StateDir, own: &Identity, sealer: &dyn Sealer) -> io::Result<()> {
    let key = match fs.read(&state_dir.key(), MAX_BYTES) {
        Ok(key) if belong_together(&own.certificate_pem, &key) => key,
        // It is sealed already, or not the one to seal.
        _ => return Ok(()),
    };
    let sealed = sealer.seal(&key)?;
    if sealer.open(&sealed)? != key {
        return Err(io::Error::other("what was sealed cannot be opened again"));
    }
    fs::replace(fs, &state_dir.sealed_key(), &sealed)?;
    fs.remove_file(&state_dir.key())?;
    fs.sync_dir(state_dir.path())?;
    tracing::info!("the device's key is sealed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, path::Path};

    use super::*;
    use crate::fs::{
        Disk, Mode,
        sim::{Keeps, SimFs},
    };

    const STATE: &str = "/var/lib/callboard";

    /// Turns every bit around; breaks on demand.
    #[derive(Default)]
    struct Fake {
        given: Option<Vec<u8>>,
        broken: bool,
        opened: RefCell<u32>,
    }

    impl Sealer for Fake {
        fn seal(&self, key: &[u8]) -> io::Result<Vec<u8>> {
            if self.broken { Err(io::Error::other("no TPM")) } else { Ok(key.iter().map(|byte| !byte).collect()) }
        }

        fn open(&self, sealed: &[u8]) -> io::Result<Vec<u8>> {
            *self.opened.borrow_mut() += 1;
            self.seal(sealed)
        }

        fn given(&self) -> Option<Vec<u8>> {
            self.given.clone()
        }
    }

    /// A device with a plain key, and another device's key.
    fn device() -> (SimFs, StateDir, Identity, Vec<u8>, Vec<u8>) {
        let (fs, state_dir) = (SimFs::with_directories(&[Path::new(STATE)]), StateDir::new(Path::new(STATE)));
        let (own, key) = crate::testing::identity();
        let key = key.as_bytes().to_vec();
        fs.create(&state_dir.key(), Mode::Private).expect("made");
        fs.write_at(&state_dir.key(), 0, &key).expect("written");
        fs.sync_all(Path::new("/")).expect("synced");
        let other = rcgen::KeyPair::generate().expect("a key").serialize_pem().into_bytes();
        (fs, state_dir, own, key, other)
    }

    #[test]
    fn a_sealed_key_takes_the_place_of_the_plain_one_and_is_found() {
        let (fs, state_dir, own, key, _) = device();
        let sealer = Fake::default();
        for _ in 0..2 {
            seal(&fs, &state_dir, &own, &sealer).expect("sealed");
            assert!(fs.stat(&state_dir.key()).expect("readable").is_none());
            assert_eq!(read(&fs, &state_dir, &own, &sealer).expect("the key"), key);
        }
        // What systemd has opened for the unit needs no other program.
        let given = Fake { given: Some(key.clone()), ..Fake::default() };
        assert_eq!(read(&fs, &state_dir, &own, &given).expect("the key"), key);
        assert_eq!(*given.opened.borrow(), 0);
    }

    #[test]
    fn after_a_renewal_the_key_before_is_no_key() {
        let (fs, state_dir, own, key, other) = device();
        seal(&fs, &state_dir, &own, &Fake::default()).expect("sealed");
        // The unit was started before the renewal, and got the key of that time.
        let sealer = Fake { given: Some(other), ..Fake::default() };
        assert_eq!(read(&fs, &state_dir, &own, &sealer).expect("the key"), key);
    }

    #[test]
    fn what_cannot_be_sealed_stays_as_it_was() {
        let (fs, state_dir, own, key, _) = device();
        let broken = Fake { broken: true, ..Fake::default() };
        assert!(seal(&fs, &state_dir, &own, &broken).expect_err("broken").to_string().contains("no TPM"));
        assert_eq!(read(&fs, &state_dir, &own, &broken).expect("the plain key"), key);
        assert!(fs.stat(&state_dir.sealed_key()).expect("readable").is_none());
    }

    #[test]
    fn a_power_cut_before_any_call_of_sealing_loses_no_key() {
        let (start, state_dir, own, key, _) = device();
        for cut in 0.. {
            let fs = SimFs::clone(&start);
            fs.cut_power_at(cut);
            if seal(&fs, &state_dir, &own, &Fake::default()).is_ok() && !fs.is_off() {
                assert!(cut > 6, "{cut} calls");
                return;
            }
            for keeps in [Keeps::Nothing, Keeps::Everything, Keeps::Some(1), Keeps::Some(2), Keeps::Some(3)] {
                let rebooted = fs.reboot(keeps);
                let context = format!("cut before call {cut} after {}, {keeps:?}", fs.last());
                assert_eq!(read(&rebooted, &state_dir, &own, &Fake::default()).expect(&context), key, "{context}");
                seal(&rebooted, &state_dir, &own, &Fake::default()).expect(&context);
                let again = rebooted.reboot(Keeps::Nothing);
                assert_eq!(read(&again, &state_dir, &own, &Fake::default()).expect(&context), key, "{context}");
                assert!(again.stat(&state_dir.key()).expect("readable").is_none(), "{context}");
            }
        }
    }

    #[test]
    fn systemd_seals_to_this_machine_what_it_opens_again() {
        // Wants root, and a machine with systemd.
        if !rustix::process::geteuid().is_root() || Command::new("systemd-creds").arg("--version").output().is_err() {
            eprintln!("skipped: needs root and systemd-creds");
            return;
        }
        let sealed = Systemd.seal(b"a key").expect("sealed");
        assert!(!sealed.windows(5).any(|some| some == b"a key"));
        assert_eq!(Systemd.open(&sealed).expect("opened"), b"a key");
        assert!(Systemd.open(b"nothing that was sealed").is_err());
        let dir = tempfile::tempdir().expect("a directory");
        crate::fs::replace(&Disk, &dir.path().join("sealed"), &sealed).expect("kept");
    }
}
