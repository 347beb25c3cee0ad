//! Whether a verified release suits this device.

use callboard_proto::{
    check_in::Installed, digest::Digest, head::Head, ids::Product, release::Release, root::Root, signed::Verified,
    time::Timestamp, version::Version,
};
use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::config::Settings;

/// The lowest `(epoch, counter)` that is still accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Floor {
    pub(crate) epoch: u32,
    pub(crate) counter: u64,
}

/// What a release must suit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) agent_version: &'a str,
    pub(crate) root: &'a Root,
    /// What it has of every product.
    pub(crate) installed: &'a [Installed],
    /// The newest one, if there is any.
    pub(crate) head: Option<&'a Head>,
    pub(crate) now: Timestamp,
}

/// Where the release's product stands on the device.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    /// `(epoch, counter)` and digest of the installed release.
    pub(crate) installed: Option<(Floor, Digest)>,
    pub(crate) floor: Floor,
    /// How often this release was rolled back here, if that is why it may not be begun again.
    pub(crate) known_bad: Option<u32>,
}

/// Whether anything new may be installed as far as the head goes.
pub(crate) fn stale(root: &Root, head: Option<&Head>, now: Timestamp) -> Result<(), Refusal> {
    match (&root.roles.head, head) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(Refusal::HeadMissing),
        (Some(_), Some(head)) if now > head.expires => Err(Refusal::HeadExpired(head.expires)),
        (Some(_), Some(_)) => Ok(()),
    }
}

/// Accepts `release` for `device`, or says what speaks against it.
pub(crate) fn suits(
    release: &Verified<Release>,
    device: Device<'_>,
    standing: Standing,
    allow_downgrade: bool,
) -> Result<(), Refusal> {
    let settings = device.settings;
    if device.now > device.root.expires {
        return Err(Refusal::RootExpired);
    }
    stale(device.root, device.head, device.now)?;
    if let Some(head) = device.head.filter(|_| device.root.roles.head.is_some()) {
        head.allows(release, release.digest()).map_err(Refusal::TakenBack)?;
    }
    let Some(product) = settings.products.get(&release.product) else {
        return Err(Refusal::UnknownProduct(release.product.clone()));
    };
    let own = product.installer();
    if release.installer != own {
        return Err(Refusal::WrongInstaller { wanted: release.installer, own });
    }
    if !release.hw.iter().any(|pattern| matches(pattern.as_bytes(), settings.hw.as_bytes())) {
        return Err(Refusal::WrongHardware { wanted: release.hw.clone(), own: settings.hw.clone() });
    }
    if !release.channels.iter().any(|channel| settings.channels.contains(channel)) {
        return Err(Refusal::WrongChannel { wanted: release.channels.clone(), own: settings.channels.clone() });
    }
    ordered_right(release, standing, allow_downgrade)?;
    if let Some(wanted) = &release.requires_agent
        && device.agent_version.parse::<Version>().is_ok_and(|own| own < *wanted)
    {
        return Err(Refusal::AgentTooOld { wanted: wanted.clone(), own: device.agent_version.to_owned() });
    }
    stepping_stone(release, standing)?;
    let version =
        |product: &Product| device.installed.iter().find(|one| one.product == *product).map(|one| &one.version);
    if let Some(wanted) = release.unmet(version) {
        let own = version(&wanted.product).cloned();
        return Err(Refusal::NeedsProduct { wanted: wanted.clone(), own });
    }
    if let Some(not_after) = release.not_after.filter(|not_after| device.now > *not_after) {
        return Err(Refusal::Expired(not_after));
    }
    standing.known_bad.map_or(Ok(()), |times| Err(Refusal::KnownBad { times }))
}

/// What is installed must be able to hand over to the release. A release of an older epoch never is.
fn stepping_stone(release: &Verified<Release>, standing: Standing) -> Result<(), Refusal> {
    match (release.requires_at_least, standing.installed) {
        (Some(wanted), Some((own, _))) if own < (Floor { epoch: release.epoch, counter: wanted }) => {
            Err(Refusal::NeedsSteppingStone { wanted, own })
        }
        _ => Ok(()),
    }
}

fn ordered_right(release: &Verified<Release>, standing: Standing, allow_downgrade: bool) -> Result<(), Refusal> {
    let (epoch, counter) = (release.epoch, release.counter);
    let offered = Floor { epoch, counter };
    if offered < standing.floor {
        return Err(Refusal::BelowFloor { epoch, counter, floor: standing.floor });
    }
    match standing.installed {
        Some((installed, digest)) if offered == installed && release.digest() != digest => Err(Refusal::SameCounter),
        Some((installed, _)) if offered < installed && !allow_downgrade => Err(Refusal::Downgrade { epoch, counter }),
        _ => Ok(()),
    }
}

/// Whether `text` matches `pattern`, in which `*` stands for any run of characters.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut pieces = pattern.split(|c| *c == b'*');
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut pieces: Vec<&[u8]> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let found = (0..=rest.len()).find_map(|at| rest.get(at..).and_then(|tail| tail.strip_prefix(piece)));
        let Some(tail) = found else { return false };
        rest = tail;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_any_run_of_characters() {
        for (pattern, text, wanted) in [
            ("*", "", true),
            ("verifone-*", "verifone-m440", true),
            ("verifone-*", "ingenico", false),
            ("*-m4*0", "verifone-m440", true),
            ("m440", "m440", true),
            ("m440", "m4400", false),
            ("a*a", "a", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), wanted, "{pattern} {text}");
        }
    }
}
