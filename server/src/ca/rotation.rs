//! One CA takes the place of another one in three steps: the next one is made and trusted, it issues, the former one is
//! trusted no more. Between the steps devices come to what they need by themselves, however long they were off: a device's
//! certificate of the former CA is taken until the last step, and so long the server shows with its own certificate one by
//! which the former CA vouches for the next.
//!
//! Each step is a few files that are put in place one after the other; one that was cut short is repeated.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use callboard_proto::time::Timestamp;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::{
    BACK_DATED, CA_LIFE, CaError, DEVICE_CA_CERT, DEVICE_CA_KEY, SERVER_CA_CERT, SERVER_CA_KEY, authority::Authority,
    read, write,
};
use crate::durable::{self, Access};

/// Which of the two CAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// The one that issues devices' certificates
    Device,
    /// The one that issued the certificate which devices see
    Server,
}

/// The files of a CA in a data directory.
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Made, and not issuing yet.
    pub(crate) next_certificate: PathBuf,
    pub(crate) next_key: PathBuf,
    /// The certificate of the one before. It needs no key any more.
    pub(crate) former: PathBuf,
    /// The next one as the one in use vouches for it. Only devices need that of servers.
    pub(crate) vouched: PathBuf,
}

impl Kind {
    /// Its files in `dir`.
    pub(crate) fn files(self, dir: &Path) -> Files {
        let (certificate, key) = match self {
            Self::Device => (DEVICE_CA_CERT, DEVICE_CA_KEY),
            Self::Server => (SERVER_CA_CERT, SERVER_CA_KEY),
        };
        let other = |what: &str| dir.join(format!("{}-ca-{what}", self.as_str()));
        Files {
            certificate: dir.join(certificate),
            key: dir.join(key),
            next_certificate: other("next.pem"),
            next_key: other("next.key"),
            former: other("former.pem"),
            vouched: other("vouched.pem"),
        }
    }

    /// Authorities between this one and the leaves: a server's vouches for its successor, what a device's signs signs
    /// nothing.
    pub(super) const fn between(self) -> u8 {
        match self {
            Self::Device => 0,
            Self::Server => 1,
        }
    }

    /// For people and for command lines.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Server => "server",
        }
    }
}

/// The certificates of a CA's successor and predecessor, as far as there are any.
pub(crate) fn others(dir: &Path, kind: Kind) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let files = kind.files(dir);
    let there = [files.next_certificate, files.former].into_iter().filter(|path| path.exists());
    there.map(|path| certificate(&path)).collect()
}

/// What devices that enrol are to trust of servers: the issuer of the certificate that is shown, and the one to come.
pub(crate) fn bundled(dir: &Path) -> Result<String, CaError> {
    let files = Kind::Server.files(dir);
    let next = if files.next_certificate.exists() { read(&files.next_certificate)? } else { String::new() };
    Ok(read(&files.certificate)? + &next)
}

/// What the former server CA says of the one in use, in PEM; nothing if none was replaced.
pub(super) fn vouched(dir: &Path) -> Result<String, CaError> {
    let files = Kind::Server.files(dir);
    if files.former.exists() && files.vouched.exists() { read(&files.vouched) } else { Ok(String::new()) }
}

/// The certificate in a file.
pub(crate) fn certificate(path: &Path) -> Result<CertificateDer<'static>, CaError> {
    CertificateDer::from_pem_slice(read(path)?.as_bytes()).map_err(|error| CaError::Unusable {
        path: path.to_owned(),
        reason: format!("a certificate in PEM is wanted ({error})"),
    })
}

/// Makes the next CA beside the one in use, under a name that tells them apart.
pub(crate) fn make_next(dir: &Path, kind: Kind, now: Timestamp) -> Result<CertificateDer<'static>, CaError> {
    let files = kind.files(dir);
    let made: String = now.to_string().chars().take_while(|c| *c != '.' && *c != 'Z').collect();
    let name = format!("Callboard {} CA of {made}", kind.as_str());
    let authority = Authority::create(&name, kind.between(), now - BACK_DATED, now + CA_LIFE)?;
    if kind == Kind::Server {
        let own = Authority::load(&files.certificate, &files.key)?;
        let vouched = own.vouch_for(&authority, &name, now - BACK_DATED)?;
        write(durable::replace, &files.vouched, &vouched, Access::Everyone)?;
    }
    // Of a try that was cut short.
    if !files.next_certificate.exists() && files.next_key.exists() {
        fs::remove_file(&files.next_key).map_err(|source| CaError::Write { path: files.next_key.clone(), source })?;
    }
    authority.store(&files.next_certificate, &files.next_key)?;
    Ok(authority.certificate().clone())
}

/// Puts the next CA in the place of the one in use, whose certificate is kept as the former one.
pub(crate) fn switch(dir: &Path, kind: Kind) -> Result<(), CaError> {
    let files = kind.files(dir);
    let moved =
        |from: &Path, to: &Path| fs::rename(from, to).map_err(|source| CaError::Write { path: to.to_owned(), source });
    // The key goes first: as long as the next certificate is there, this can be repeated.
    if files.next_key.exists() {
        write(durable::replace, &files.former, &read(&files.certificate)?, Access::Everyone)?;
        moved(&files.next_key, &files.key)?;
    }
    moved(&files.next_certificate, &files.certificate)?;
    durable::sync_dir(dir).map_err(|source| CaError::Write { path: dir.to_owned(), source })
}

/// Forgets the former CA.
pub(crate) fn forget_former(dir: &Path, kind: Kind) -> io::Result<()> {
    let files = kind.files(dir);
    if files.vouched.exists() {
        fs::remove_file(files.vouched)?;
    }
    // The last: as long as it is there, this can be repeated.
    fs::remove_file(files.former)?;
    durable::sync_dir(dir)
}
