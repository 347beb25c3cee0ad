//! The software of the tills: three releases of `pos-app`, each a directory tree of some megabytes.

use std::{fs, io::Write as _, path::Path};

use anyhow::Context as _;
use callboard_proto::digest::Hasher;

use super::{fleet::PRODUCT, operator::Operator};

/// A release that the demo publishes.
pub(super) struct Software {
    /// What people call it.
    pub(super) version: &'static str,
    counter: &'static str,
    kind: &'static str,
    /// Whether its health check passes on a till.
    works: bool,
}

/// Closes a hole in 2.3.
pub(super) const PATCH: Software = Software { version: "2.3.2", counter: "1", kind: "security", works: true };
/// Brings something new.
pub(super) const FEATURE: Software = Software { version: "2.4.0", counter: "2", kind: "feature", works: true };
/// Was packed without the configuration of the receipt printer.
pub(super) const BROKEN: Software = Software { version: "2.5.0", counter: "3", kind: "feature", works: false };
/// All of them, in the order of their counters.
pub(super) const ALL: [Software; 3] = [PATCH, FEATURE, BROKEN];

/// What a catalogue with pictures may take.
const CATALOGUE_BYTES: usize = 4 << 20;

const HEALTH: &str = "#!/bin/sh\n\
    # Exit code 0: this till can sell.\n\
    root=$(dirname \"$0\")/..\n\
    if ! [ -r \"$root/etc/printer.conf\" ]; then\n\
    \techo \"receipt printer: etc/printer.conf is missing\" >&2\n\
    \texit 1\n\
    fi\n";

impl Software {
    /// As rollouts name it.
    pub(super) fn release(&self) -> String {
        format!("{PRODUCT}@{}", self.version)
    }

    /// Builds, signs and publishes it with the operator's commands.
    pub(super) fn publish(&self, dir: &Path, key: &Path, operator: &Operator) -> anyhow::Result<()> {
        let tree = dir.join(format!("{PRODUCT}-{}", self.version));
        let out = dir.join(format!("release-{}", self.version));
        self.write(&tree).with_context(|| format!("cannot write {}", tree.display()))?;
        let text =
            |path: &Path| path.to_str().map(str::to_owned).context("the demo's directory must have a plain name");
        let (tree, out, key) = (text(&tree)?, text(&out)?, text(key)?);
        let build = ["release", "build", &tree, "--out", &out, "--product", PRODUCT, "--version", self.version];
        let order = ["--counter", self.counter, "--kind", self.kind];
        operator.runs(&[&build[..], &order[..]].concat())?;
        operator.runs(&["release", "sign", &out, "--key", &key])?;
        operator.runs(&["release", "publish", &out]).map(drop)
    }

    fn write(&self, tree: &Path) -> std::io::Result<()> {
        for part in ["bin", "etc", "share"] {
            fs::create_dir_all(tree.join(part))?;
        }
        fs::write(tree.join("VERSION"), format!("{}\n", self.version))?;
        let program = format!("#!/bin/sh\necho \"{PRODUCT} {}\"\n", self.version);
        for (name, text) in [("bin/pos-app", program.as_str()), ("bin/health", HEALTH)] {
            use std::os::unix::fs::PermissionsExt as _;
            fs::write(tree.join(name), text)?;
            fs::set_permissions(tree.join(name), fs::Permissions::from_mode(0o755))?;
        }
        if self.works {
            fs::write(tree.join("etc/printer.conf"), "model = 88\nwidth = 42\n")?;
        }
        let mut catalogue = std::io::BufWriter::new(fs::File::create(tree.join("share/catalogue.bin"))?);
        let mut written = 0;
        // Different for each version, the same on each machine, and not compressible.
        while written < CATALOGUE_BYTES {
            let mut hasher = Hasher::default();
            hasher.update(self.version.as_bytes());
            hasher.update(&written.to_le_bytes());
            let block = hasher.finish();
            catalogue.write_all(block.as_bytes())?;
            written += block.as_bytes().len();
        }
        catalogue.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_the_broken_release_fails_its_health_check() {
        for software in ALL {
            let dir = tempfile::tempdir().expect("a directory");
            software.write(dir.path()).expect("written");
            let health = Command::new("/bin/sh").arg(dir.path().join("bin/health")).output().expect("a shell");
            assert_eq!(health.status.success(), software.version != BROKEN.version, "{}", software.version);
            let size = fs::metadata(dir.path().join("share/catalogue.bin")).expect("a catalogue").len();
            assert_eq!(size, 4 << 20);
        }
    }
}
