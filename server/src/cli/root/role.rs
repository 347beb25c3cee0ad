//! A release role as people write it: `pos=a.pub+b.pub,threshold=2,products=pos-app`.

use std::path::Path;

use callboard_proto::{ids::Product, root::ReleaseRole, signed::PublicKey};

use crate::cli::{exit::BadInput, key};

/// How a role is written, for `--help` and for errors.
pub(crate) const SYNTAX: &str = "NAME=KEY[+KEY..][,threshold=N][,products=A+B][,channels=A+B][,epoch=N], where each KEY is \
    the file of a public key, such as \"pos=ann.pub+bob.pub,threshold=2,products=pos-app,channels=stable\"";

/// A release role whose keys are at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewRole {
    pub(crate) name: String,
    pub(crate) keys: Vec<PublicKey>,
    pub(crate) threshold: u32,
    /// Of the role before, or 0, if absent.
    pub(crate) epoch: Option<u32>,
    pub(crate) products: Vec<Product>,
    pub(crate) channels: Vec<String>,
}

impl NewRole {
    /// Signs for everything.
    pub(crate) fn for_all(keys: Vec<PublicKey>, threshold: u32) -> Self {
        let (products, channels) = (Vec::new(), Vec::new());
        Self { name: "release".to_owned(), keys, threshold, epoch: None, products, channels }
    }

    /// As it stands in a root.
    pub(crate) fn role(&self, epoch_before: u32) -> ReleaseRole {
        ReleaseRole {
            name: self.name.clone(),
            keyids: self.keys.iter().map(PublicKey::id).collect(),
            threshold: self.threshold,
            epoch: self.epoch.unwrap_or(epoch_before),
            products: self.products.clone(),
            channels: self.channels.clone(),
        }
    }
}

/// Reads a role and its key files.
pub(crate) fn read(text: &str) -> anyhow::Result<NewRole> {
    let bad = |what: String| BadInput(format!("--release-role {text:?}: {what}: {SYNTAX}"));
    let (name, rest) = text.split_once('=').ok_or_else(|| bad("no name and no keys".to_owned()))?;
    let mut parts = rest.split(',').map(str::trim);
    let files = parts.next().unwrap_or_default().split('+').filter(|file| !file.is_empty());
    let keys = files.map(|file| key::read_public(Path::new(file))).collect::<anyhow::Result<Vec<_>>>()?;
    let name = name.trim().to_owned();
    if name.is_empty() || keys.is_empty() {
        return Err(bad("a name and at least one key are wanted".to_owned()).into());
    }
    let mut role = NewRole { name, ..NewRole::for_all(keys, 1) };
    for part in parts.filter(|part| !part.is_empty()) {
        let (option, value) = part.split_once('=').ok_or_else(|| bad(format!("{part:?} has no value")))?;
        let wrong = |what: &dyn std::fmt::Display| bad(format!("{option}={value}: {what}"));
        match option {
            "threshold" => role.threshold = value.parse().map_err(|error| wrong(&error))?,
            "epoch" => role.epoch = Some(value.parse().map_err(|error| wrong(&error))?),
            "products" => {
                role.products =
                    value.split('+').map(str::parse).collect::<Result<_, _>>().map_err(|error| wrong(&error))?;
            }
            "channels" => role.channels = value.split('+').map(str::to_owned).collect(),
            _ => return Err(bad(format!("{option:?} is none of threshold, products, channels, epoch")).into()),
        }
    }
    Ok(role)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit;

    #[test]
    fn a_role_says_who_signs_what() {
        let dir = tempfile::tempdir().unwrap();
        let [ann, bob] = ["ann", "bob"].map(|name| {
            key::create(&dir.path().join(name)).unwrap();
            key::public_path(&dir.path().join(name)).display().to_string()
        });
        let role =
            read(&format!("pos={ann}+{bob},threshold=2,products=pos-app+kiosk,channels=stable,epoch=3")).unwrap();
        assert_eq!((role.name.as_str(), role.keys.len(), role.threshold, role.epoch), ("pos", 2, 2, Some(3)));
        assert_eq!(role.products, ["pos-app".parse().unwrap(), "kiosk".parse().unwrap()]);
        assert_eq!(role.channels, ["stable"]);
        let plain = read(&format!("all={ann}")).unwrap().role(4);
        assert_eq!((plain.threshold, plain.epoch, plain.products.len(), plain.channels.len()), (1, 4, 0, 0));
        let bad = ["pos", "=a", "pos=", "pos=/no/such/file"].map(str::to_owned).into_iter();
        let more = ["threshold=x", "products=A B", "size=1", "threshold"].map(|more| format!("pos={ann},{more}"));
        for text in bad.chain(more) {
            assert_eq!(exit::code_of(&read(&text).unwrap_err()), exit::BAD_INPUT, "{text}");
        }
    }
}
