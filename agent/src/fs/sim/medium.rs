//! What a medium holds after the power comes back, and how two of them are told apart.

use std::{
    collections::HashMap,
    ffi::OsStr,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    rc::Rc,
};

use super::{
    Inner, Keeps, Names, Node, SimFs, apply,
    file::{File, SECTOR},
};

/// Sectors of the larger unit that some media write whole.
const PAGE: usize = 4096 / SECTOR;

/// A small generator, so that a failing mix can be repeated.
pub(super) struct Coin(u64);

impl Coin {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn toss(&mut self) -> bool {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 63 == 1
    }
}

impl SimFs {
    /// What the medium holds after the power comes back.
    pub(crate) fn reboot(&self, keeps: Keeps) -> Self {
        let inner = self.0.borrow();
        let mut coin = Coin::new(match keeps {
            Keeps::Some(seed) => seed,
            _ => 1,
        });
        let mut keep = move || match keeps {
            Keeps::Nothing => false,
            Keeps::Everything => true,
            Keeps::Some(_) => coin.toss(),
        };
        let pages = keep();
        let mut names = Rc::clone(&inner.durable);
        for change in &inner.pending {
            if keep() {
                apply(&mut names, change);
            }
        }
        let (mut kept, mut nodes, mut ids) = (Names::new(), Vec::new(), HashMap::new());
        for (path, id) in names.iter() {
            // A name whose directory was lost is lost with it. The directory comes first in order.
            let above = Path::new(path).parent();
            if !above.is_none_or(|above| kept.contains_key(above.as_os_str())) {
                continue;
            }
            let id = *ids.entry(*id).or_insert_with(|| {
                nodes
                    .push(inner.nodes.get(*id).map_or(Node::Directory, |node| after_power_cut(node, pages, &mut keep)));
                nodes.len() - 1
            });
            kept.insert(path.clone(), id);
        }
        let now = Rc::new(kept);
        let mut new = Inner { nodes, durable: Rc::clone(&now), now, flaw: inner.flaw, ..Inner::default() };
        new.find_links();
        Self::of(new)
    }

    /// Whether anything could be lost.
    pub(crate) fn is_settled(&self) -> bool {
        let inner = self.0.borrow();
        let dirty = |node: &Node| matches!(node, Node::File(file) if file.is_dirty());
        inner.pending.is_empty() && !inner.nodes.iter().any(dirty)
    }

    /// A number that two filesystems share if they look the same. Of files that `varies` names only the shape counts:
    /// which of their sectors are empty. They hold the time, or keys made by chance.
    pub(crate) fn fingerprint(&self, varies: impl Fn(&OsStr) -> bool) -> u64 {
        let inner = self.0.borrow();
        let mut hasher = DefaultHasher::new();
        for (path, id) in inner.now.iter() {
            path.as_encoded_bytes().hash(&mut hasher);
            match inner.nodes.get(*id) {
                Some(Node::File(file)) if varies(path) => {
                    for sector in file.now.chunks(SECTOR) {
                        (sector == &[0; SECTOR][..sector.len()]).hash(&mut hasher);
                    }
                }
                Some(Node::File(file)) => file.now.digest().hash(&mut hasher),
                Some(Node::Link(target)) => target.as_os_str().as_encoded_bytes().hash(&mut hasher),
                Some(Node::Directory) | None => 0_u8.hash(&mut hasher),
            }
        }
        hasher.finish()
    }
}

/// `pages`: whether sectors arrive by pages or each by itself.
fn after_power_cut(node: &Node, pages: bool, keep: &mut impl FnMut() -> bool) -> Node {
    let Node::File(file) = node else { return node.clone() };
    if !file.is_dirty() {
        return Node::File(File::settled(Rc::clone(&file.durable), file.executable));
    }
    let length = keep();
    let mut page = (usize::MAX, false);
    let bytes = file.arrived(length, |sector| {
        if !pages {
            return keep();
        }
        if page.0 != sector / PAGE {
            page = (sector / PAGE, keep());
        }
        page.1
    });
    Node::File(File::settled(bytes, file.executable))
}
