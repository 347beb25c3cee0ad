//! Where things lie: the state directory and the directory of a product.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use callboard_proto::{digest::Digest, ids::Product};

/// Paths below the state directory.
#[derive(Clone, Debug)]
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Held while an agent runs on this directory.
    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// The two slots of the journal.
    pub(crate) fn slots(&self) -> [PathBuf; 2] {
        [self.0.join("state.0"), self.0.join("state.1")]
    }

    /// The device's private key, PKCS#8 PEM.
    pub(crate) fn key(&self) -> PathBuf {
        self.0.join("device.key")
    }

    /// The same, sealed by systemd.
    pub(crate) fn sealed_key(&self) -> PathBuf {
        self.0.join("device.key.sealed")
    }

    /// The key of an enrolment or a renewal that is to replace the present one.
    pub(crate) fn next_key(&self) -> PathBuf {
        self.0.join("device.key.next")
    }

    /// A certificate for that key, until the server has answered to it.
    pub(crate) fn renewal(&self) -> PathBuf {
        self.0.join("renewal.json")
    }

    /// Who this device is; written last by enrolment.
    pub(crate) fn identity(&self) -> PathBuf {
        self.0.join("device.json")
    }

    /// The trusted root, bytes as received.
    pub(crate) fn root(&self) -> PathBuf {
        self.0.join("root.json")
    }

    /// The newest head, bytes as received.
    pub(crate) fn head(&self) -> PathBuf {
        self.0.join("head.json")
    }

    /// For `status` only; never read by the agent.
    pub(crate) fn status(&self) -> PathBuf {
        self.0.join("status.json")
    }

    /// What a hook that failed has said.
    pub(crate) fn output(&self) -> PathBuf {
        self.0.join("hook-output.json")
    }

    pub(crate) fn releases(&self) -> PathBuf {
        self.0.join("releases")
    }

    /// The envelope of a release, bytes as received.
    pub(crate) fn release(&self, sha256: Digest) -> PathBuf {
        self.releases().join(format!("{sha256}.json"))
    }

    /// What the agent keeps for a product that an installer program installs.
    pub(crate) fn by_program(&self, product: &Product) -> ProductDir {
        ProductDir(self.0.join("by-program").join(product.to_string()))
    }

    /// The release at hand without its envelope, for installer programs.
    pub(crate) fn manifest(&self) -> PathBuf {
        self.0.join("manifest.json")
    }

    pub(crate) fn products(&self) -> PathBuf {
        self.0.join("products")
    }

    /// What is installed of a product, its floor and its bad releases: two slots.
    pub(crate) fn product(&self, product: &Product) -> [PathBuf; 2] {
        [0, 1].map(|n| self.products().join(format!("{product}.{n}")))
    }

    /// Reports that the server has not acknowledged.
    pub(crate) fn outbox(&self) -> PathBuf {
        self.0.join("outbox")
    }

    pub(crate) fn payloads(&self) -> PathBuf {
        self.0.join("payloads")
    }

    /// A payload on its way in.
    pub(crate) fn payload(&self, sha256: Digest) -> PathBuf {
        self.payloads().join(sha256.to_string())
    }

    /// Every directory that must exist before the agent runs.
    pub(crate) fn directories(&self) -> [PathBuf; 4] {
        [self.releases(), self.products(), self.outbox(), self.payloads()]
    }
}

/// Whose envelope a file is, by its name among the releases.
pub(crate) fn release_of(name: &OsStr) -> Option<Digest> {
    Path::new(name).file_stem()?.to_str()?.parse().ok()
}

/// Paths below a product's directory.
#[derive(Clone, Debug)]
pub(crate) struct ProductDir(PathBuf);

impl ProductDir {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// What runs: a link into [`Self::versions`], or whatever the image brought.
    pub(crate) fn current(&self) -> PathBuf {
        self.0.join("current")
    }

    /// What ran before.
    pub(crate) fn previous(&self) -> PathBuf {
        self.0.join("previous")
    }

    pub(crate) fn versions(&self) -> PathBuf {
        self.0.join("versions")
    }

    pub(crate) fn backups(&self) -> PathBuf {
        self.0.join(".callboard-backups")
    }

    /// What the hook `backup` has saved before the switch to this tree.
    pub(crate) fn backup(&self, dir: &str) -> PathBuf {
        self.backups().join(dir)
    }

    /// When the backup was made, as long as it is whole.
    pub(crate) fn backup_note(&self, dir: &str) -> PathBuf {
        self.backups().join(format!("{dir}.made"))
    }

    /// A complete tree.
    pub(crate) fn version(&self, dir: &str) -> PathBuf {
        self.versions().join(dir)
    }

    /// A tree that is being unpacked.
    pub(crate) fn staging(&self, dir: &str) -> PathBuf {
        self.versions().join(format!(".{dir}.tmp"))
    }
}

/// What a link to a tree says: relative, so that the product's directory can be moved as a whole.
pub(crate) fn link_target(dir: &str) -> PathBuf {
    Path::new("versions").join(dir)
}
