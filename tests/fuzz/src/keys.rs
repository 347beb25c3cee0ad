//! Keys that are always the same, and the root that trusts them.

use std::{collections::BTreeMap, sync::LazyLock};

use callboard_proto::{
    root::{HeadRole, Key, ReleaseRole, Role, Roles, Root},
    signed::{PublicKey, Sign},
    time::Timestamp,
};
use ed25519_dalek::SigningKey;

/// One key for each role.
pub(super) struct Keys {
    pub(super) root: SigningKey,
    pub(super) release: SigningKey,
    pub(super) head: SigningKey,
    pub(super) online: SigningKey,
}

impl Keys {
    pub(super) fn fixed() -> &'static Self {
        static FIXED: LazyLock<Keys> = LazyLock::new(|| {
            let key = |n| SigningKey::from_bytes(&[n; 32]);
            Keys { root: key(1), release: key(2), head: key(4), online: key(3) }
        });
        &FIXED
    }

    /// All of them, with nobody's right to sign anything.
    pub(super) fn all(&self) -> [&SigningKey; 4] {
        [&self.root, &self.release, &self.head, &self.online]
    }

    /// A root in which each has its role alone; releases and heads are of epoch 1.
    pub(super) fn trusted(&self) -> Root {
        let id = |key: &SigningKey| PublicKey::from(key.verifying_key()).id();
        let role = |key: &SigningKey| Role { keyids: vec![id(key)], threshold: 1 };
        Root {
            v: 1,
            issued_at: Timestamp::from_millis(0),
            crit: Vec::new(),
            version: 1,
            expires: Timestamp::from_millis(4_000_000_000_000),
            keys: self.all().map(|key| (id(key), Key::new(&key.public()))).into_iter().collect::<BTreeMap<_, _>>(),
            roles: Roles {
                root: role(&self.root),
                release: vec![ReleaseRole {
                    name: "all".to_owned(),
                    keyids: vec![id(&self.release)],
                    threshold: 1,
                    epoch: 1,
                    products: Vec::new(),
                    channels: Vec::new(),
                }],
                head: Some(HeadRole { keyids: vec![id(&self.head)], threshold: 1, epoch: 1 }),
                online: role(&self.online),
            },
            servers: Vec::new(),
        }
    }
}
