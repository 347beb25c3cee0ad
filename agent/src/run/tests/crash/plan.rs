//! What is to happen on a till, and what the till looks like before.

use callboard_proto::{
    head::{Head, HeadProduct},
    release::{Restart, Rollback},
    root::{HeadRole, Key, Role, Root},
    signed::key_id,
    state::AgentState,
    time::Timestamp,
};
use ed25519_dalek::SigningKey;

use super::super::*;

/// One story. Everything that may differ between two runs of the agent is here.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) name: &'static str,
    pub(super) before: Before,
    pub(super) health: Health,
    pub(super) way: Way,
    /// Counters of the releases that are ordered, one after the other.
    pub(super) orders: Vec<u64>,
    /// The first order is called off when the device says that it is so far.
    pub(super) cancel_at: Option<AgentState>,
    /// The server has newer roots and a head.
    pub(super) newer_trust: bool,
    /// The device's certificate is to be renewed.
    pub(super) renewal: bool,
    /// Release 2 has hooks for every stage, and this way back.
    pub(super) hooks: Option<Rollback>,
    /// With hooks: the machine is restarted for it.
    pub(super) reboots: bool,
}

pub(super) const GOOD: Plan = Plan {
    name: "a good update",
    before: Before::Release,
    health: Health::Good,
    way: Way::Granted,
    orders: Vec::new(),
    cancel_at: None,
    newer_trust: false,
    renewal: false,
    hooks: None,
    reboots: false,
};

/// All of them.
pub(super) fn all() -> Vec<Plan> {
    let update = |name, before| Plan { name, before, orders: vec![2], ..GOOD };
    let rollback = |name, before| Plan { health: Health::Bad, ..update(name, before) };
    let alone = |name, on| Plan { way: Way::Alone(on), ..update(name, Before::Release) };
    let hooked = |name, hooks| Plan { hooks: Some(hooks), ..update(name, Before::Release) };
    let cancelled = |name, at| Plan { cancel_at: Some(at), ..update(name, Before::Release) };
    vec![
        update("the first release ever", Before::Nothing),
        update("a release over a factory version behind a link", Before::FactoryLink),
        update("a release over a factory version in a directory", Before::FactoryDirectory),
        update("a release over an earlier one", Before::Release),
        Plan { orders: vec![1, 2], ..update("two releases, one after the other", Before::FactoryLink) },
        rollback("a rollback to nothing", Before::Nothing),
        rollback("a rollback to a factory version behind a link", Before::FactoryLink),
        rollback("a rollback to a factory version in a directory", Before::FactoryDirectory),
        rollback("a rollback to a release", Before::Release),
        alone("an activation while the server is away", ActivateOn::Now),
        alone("an activation at shutdown", ActivateOn::Shutdown),
        alone("an activation at boot", ActivateOn::Boot),
        cancelled("an order called off during the download", AgentState::Downloading),
        cancelled("an order called off when it is staged", AgentState::Staged),
        Plan { newer_trust: true, ..update("newer roots and a head, then a release", Before::Release) },
        Plan { renewal: true, ..update("a renewal, then a release", Before::Release) },
        Plan { reboots: true, ..hooked("hooks and a restart of the machine", Rollback::NeedsBackup) },
        Plan {
            reboots: true,
            health: Health::Bad,
            ..hooked("hooks, and a restart for either way", Rollback::NeedsBackup)
        },
        Plan { health: Health::Bad, ..hooked("hooks, and data that stay", Rollback::Safe) },
    ]
}

impl Plan {
    /// The till before, with everything durable.
    pub(super) fn till(&self) -> SimFs {
        let fs = shop(self.before);
        let path = state_dir().identity();
        let own = serde_json::to_vec(&self.identity()).expect("JSON");
        fs.remove_file(&path).expect("removed");
        write(&fs, &path, &own);
        if self.hooks.is_some() {
            write(&fs, Path::new(hooks::DATA), b"old");
        }
        fs.sync_all(Path::new("/")).expect("synced");
        fs.reboot(Keeps::Nothing)
    }

    /// Who the device is before.
    pub(super) fn identity(&self) -> Identity {
        let year = Duration::from_secs(365 * 86_400);
        let renew_at = if self.renewal { Timestamp::from_millis(0) } else { testing::NOW + year };
        Identity { expires_at: testing::NOW + year, renew_at: Some(renew_at), ..identity().0 }
    }

    pub(super) fn settings(&self) -> Settings {
        settings(self.health)
    }

    /// A release as this story has it.
    pub(super) fn signed(&self, counter: u64) -> &'static Signed {
        let restart = if self.reboots { Restart::Reboot } else { Restart::default() };
        match self.hooks {
            Some(rollback) if counter == 2 => hooks::hooked_and(rollback, restart),
            _ => signed(counter),
        }
    }

    pub(super) fn contents_of(&self, counter: u64) -> Contents {
        self.signed(counter).tree()
    }

    /// What the hooks of release 2 leave in the product's data.
    pub(super) fn data_in_the_end(&self) -> Option<&'static [u8]> {
        let hooks = self.hooks?;
        let goes_back = self.health == Health::Bad && hooks == Rollback::NeedsBackup;
        Some(if goes_back { b"old" } else { b"new" })
    }

    /// How an order ends if nothing gets in its way.
    pub(super) const fn end(&self) -> report::Event {
        match (self.cancel_at, self.health) {
            (Some(_), _) => report::Event::Cancelled,
            (None, Health::Good) => report::Event::Succeeded,
            (None, Health::Bad) => report::Event::RolledBack,
        }
    }

    pub(super) fn floor_before(&self) -> u64 {
        u64::from(self.before == Before::Release)
    }
}

/// The key that signs instructions from root 2 on, and the one of heads.
fn newer_keys() -> (SigningKey, SigningKey) {
    (SigningKey::from_bytes(&[6; 32]), SigningKey::from_bytes(&[4; 32]))
}

/// What the server has of signed documents.
#[derive(Debug)]
pub(super) struct Trusted {
    /// Roots 1, 2, ...
    pub(super) roots: Vec<Vec<u8>>,
    pub(super) head: Option<Vec<u8>>,
    pub(super) online: SigningKey,
}

pub(super) const HEAD_SERIAL: u64 = 7;

impl Trusted {
    pub(super) fn of(plan: &Plan) -> Self {
        let keys = Keys::fixed();
        let mut roots = vec![testing::root_envelope(&keys)];
        if !plan.newer_trust {
            return Self { roots, head: None, online: keys.online };
        }
        let (online, head) = newer_keys();
        let mut root: Root = testing::first_root(&keys);
        for version in 2..=3 {
            root.version = version;
            for key in [&online, &head] {
                root.keys.insert(key_id(&key.verifying_key()), Key::from_ed25519(&key.verifying_key()));
            }
            root.roles.online = Role { keyids: vec![key_id(&online.verifying_key())], threshold: 1 };
            root.roles.head = Some(HeadRole { keyids: vec![key_id(&head.verifying_key())], threshold: 1, epoch: 1 });
            roots.push(testing::signed(&root, &[&keys.root]));
        }
        let document = Head {
            v: 1,
            issued_at: testing::NOW,
            crit: Vec::new(),
            serial: HEAD_SERIAL,
            epoch: 1,
            expires: testing::NOW + Duration::from_secs(86_400 * 30),
            products: vec![HeadProduct {
                product: "pos-app".parse().expect("a name"),
                epoch: 1,
                latest_counter: 2,
                min_counter: 1,
                revoked: Vec::new(),
            }],
        };
        Self { roots, head: Some(testing::signed(&document, &[&head])), online }
    }
}
