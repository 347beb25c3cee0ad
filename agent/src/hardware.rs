//! Which machine this is: a digest of what its board or its network says, so that two machines with the same identity
//! are found out.
//!
//! Neither a new image nor a new disk changes it. What goes into it is not told: the digest is of the device's id as
//! well, so nobody who sees it finds the same machine elsewhere.

use std::{
    fs,
    path::{Path, PathBuf},
};

use callboard_proto::{digest::Digest, ids::DeviceId};

/// No such fact is longer.
const MAX_BYTES: usize = 256;
/// What boards say that were never told who they are.
const SAID_BY_MANY: [&str; 12] = [
    "none",
    "n/a",
    "default string",
    "to be filled by o.e.m.",
    "to be filled by o.e.m",
    "system serial number",
    "not specified",
    "not applicable",
    "base board serial number",
    "03000200-0400-0500-0006-000700080009",
    "0123456789",
    "123456789",
];

/// What tells this machine from others, if anything does.
pub(crate) fn facts() -> Option<String> {
    of(Path::new("/"))
}

fn of(root: &Path) -> Option<String> {
    board(root).or_else(|| network(root))
}

/// The id of the machine with these facts in the eyes of this device.
pub(crate) fn id(facts: &str, device: DeviceId) -> Option<String> {
    let text = format!("callboard hardware id\n{device}\n{facts}");
    Digest::of(text.as_bytes()).to_string().get(..32).map(str::to_owned)
}

/// What the board says of itself. A board that is exchanged is another machine.
fn board(root: &Path) -> Option<String> {
    let names = ["sys/class/dmi/id/product_uuid", "sys/class/dmi/id/board_serial", "sys/class/dmi/id/product_serial"];
    let names = names.into_iter().chain(["proc/device-tree/serial-number"]);
    let found: Vec<String> = names.filter_map(|name| Some(format!("{name}={}", own(&root.join(name))?))).collect();
    (!found.is_empty()).then(|| found.join("\n"))
}

/// A fact that only this machine has.
fn own(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok().filter(|bytes| bytes.len() <= MAX_BYTES)?;
    let text = String::from_utf8(bytes).ok()?;
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_lowercase();
    let mut letters = text.chars().filter(|c| c.is_ascii_alphanumeric());
    let first = letters.next()?;
    // Zeros, or one letter over and over, is what is written where nobody has written anything.
    let varied = letters.any(|other| other != first);
    (varied && !SAID_BY_MANY.contains(&text.as_str())).then_some(text)
}

/// The address of the first network card that is part of the machine: what is plugged in comes and goes.
fn network(root: &Path) -> Option<String> {
    let dir = root.join("sys/class/net");
    let mut names: Vec<PathBuf> = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).collect();
    names.sort();
    let built_in = |path: &PathBuf| {
        let device = fs::canonicalize(path.join("device")).ok();
        device.is_some_and(|device| {
            !device.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"usb"))
        })
    };
    // A given address (bit 1 of the first byte) is no card's own.
    let is_cards_own = |address: &String| {
        let first = address.get(..2).and_then(|byte| u8::from_str_radix(byte, 16).ok());
        first.is_some_and(|byte| byte & 2 == 0)
    };
    let address = |path: PathBuf| own(&path.join("address")).filter(is_cards_own);
    names.into_iter().filter(built_in).find_map(address).map(|address| format!("mac={address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new(facts: &[(&str, &str)]) -> Self {
            let machine = Self(tempfile::tempdir().expect("a directory"));
            for (name, text) in facts {
                let path = machine.0.path().join(name);
                fs::create_dir_all(path.parent().expect("a parent")).expect("made");
                fs::write(path, text).expect("written");
            }
            machine
        }

        fn id(&self) -> Option<String> {
            id(&of(self.0.path())?, "0192f0c1-7e8a-7c3e-9d54-3f1f6a2b8c01".parse().expect("an id"))
        }
    }

    const UUID: (&str, &str) = ("sys/class/dmi/id/product_uuid", "4c4c4544-0043-3510-8052-b4c04f564433\n");

    #[test]
    fn a_board_is_known_by_its_numbers_and_another_one_is_another_machine() {
        let first = Machine::new(&[UUID]).id().expect("an id");
        assert_eq!(first.len(), 32);
        assert!(!first.contains("4c4c4544"), "the number is not told");
        assert_eq!(
            Machine::new(&[UUID, ("sys/class/dmi/id/board_serial", "Default string")]).id(),
            Some(first.clone())
        );
        let other = Machine::new(&[("sys/class/dmi/id/product_uuid", "4c4c4544-0043-3510-8052-b4c04f564434")]);
        assert!(other.id().is_some_and(|other| other != first));
        let facts = of(Machine::new(&[UUID]).0.path()).expect("facts");
        let stranger = id(&facts, "0192f0c1-7e8a-7c3e-9d54-3f1f6a2b8c02".parse().expect("an id"));
        assert!(stranger.is_some_and(|other| other != first), "no two devices' ids can be compared");
    }

    #[test]
    fn what_many_boards_say_is_nothing() {
        for text in ["", "00000000-0000-0000-0000-000000000000", "To Be Filled By O.E.M.", "FFFFFFFF", "None", "\0\0"] {
            assert_eq!(Machine::new(&[("sys/class/dmi/id/product_uuid", text)]).id(), None, "{text:?}");
        }
    }

    #[test]
    fn without_a_board_that_knows_itself_the_built_in_card_counts() {
        let card = |name: &str, bus: &str, address: &str| {
            let (vendor, its) = (format!("sys/devices/{bus}/{name}/vendor"), format!("sys/class/net/{name}/address"));
            let machine = Machine::new(&[(vendor.as_str(), "x"), (its.as_str(), address)]);
            let root = machine.0.path();
            std::os::unix::fs::symlink(
                root.join(format!("sys/devices/{bus}/{name}")),
                root.join(format!("sys/class/net/{name}/device")),
            )
            .expect("linked");
            machine.id()
        };
        assert_eq!(card("eth0", "pci0000:00", "52:54:00:aa:bb:01\n"), None, "a given address");
        let first = card("eth0", "pci0000:00", "d8:5e:d3:aa:bb:01\n");
        assert!(first.is_some() && first != card("eth0", "pci0000:00", "d8:5e:d3:aa:bb:02"));
        assert_eq!(first, card("enp3s0", "pci0000:00", "D8:5E:D3:AA:BB:01"), "whatever the card is called");
        assert_eq!(card("eth0", "usb1", "d8:5e:d3:aa:bb:01"), None, "what is plugged in comes and goes");
        assert_eq!(Machine::new(&[("sys/class/net/lo/address", "00:00:00:00:00:00")]).id(), None);
    }
}
