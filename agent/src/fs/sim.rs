//! A filesystem in memory that can lose power: what was not synced may be lost, torn or reordered.
//!
//! Every call is counted, and from a chosen call on nothing works any more. [`SimFs::reboot`] then gives a filesystem
//! as the medium may hold it: each unsynced name and each unsynced sector is there or not, as a seed decides.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{Fs, Kind, Meta, Mode, Space};

const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Node {
    File { now: Vec<u8>, durable: Vec<u8>, executable: bool },
    Directory,
    Link(PathBuf),
}

/// A change of names: what each path stands for after it. One change is atomic.
#[derive(Clone, Debug)]
struct Change {
    names: Vec<(PathBuf, Option<usize>)>,
}

#[derive(Clone, Debug, Default)]
struct Inner {
    nodes: Vec<Node>,
    now: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    pending: Vec<Change>,
    calls: u32,
    /// The number of the call from which on there is no power.
    cut_at: Option<u32>,
    log: Vec<String>,
}

/// What the medium keeps of what was not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keeps {
    Nothing,
    Everything,
    /// A mix that the seed decides.
    Some(u64),
}

/// The filesystem.
#[derive(Debug, Default)]
pub(crate) struct SimFs(Rc<RefCell<Inner>>);

/// A copy that goes its own way.
impl Clone for SimFs {
    fn clone(&self) -> Self {
        Self(Rc::new(RefCell::clone(&self.0)))
    }
}

/// A small generator, so that a failing mix can be repeated.
struct Coin(u64);

impl Coin {
    fn toss(&mut self) -> bool {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 63 == 1
    }
}

impl SimFs {
    /// With some directories that exist and are durable.
    pub(crate) fn with_directories(paths: &[&Path]) -> Self {
        let mut inner = Inner::default();
        for path in paths.iter().flat_map(|path| path.ancestors()) {
            inner.nodes.push(Node::Directory);
            let id = inner.nodes.len() - 1;
            inner.now.entry(path.to_owned()).or_insert(id);
        }
        inner.durable = inner.now.clone();
        Self(Rc::new(RefCell::new(inner)))
    }

    /// The same filesystem in other hands.
    pub(crate) fn shared(other: &Self) -> Self {
        Self(Rc::clone(&other.0))
    }

    /// From the `call`th call on nothing works.
    pub(crate) fn cut_power_at(&self, call: u32) {
        let mut inner = self.0.borrow_mut();
        (inner.calls, inner.cut_at) = (0, Some(call));
        inner.log.clear();
    }

    /// Whether the power was cut.
    pub(crate) fn is_off(&self) -> bool {
        let inner = self.0.borrow();
        inner.cut_at.is_some_and(|cut| inner.calls > cut)
    }

    /// The last calls, for messages.
    pub(crate) fn log(&self) -> Vec<String> {
        self.0.borrow().log.clone()
    }

    /// What the medium holds after the power comes back.
    pub(crate) fn reboot(&self, keeps: Keeps) -> Self {
        let inner = self.0.borrow();
        let mut coin = Coin(match keeps {
            Keeps::Some(seed) => seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            _ => 1,
        });
        let mut keep = move || match keeps {
            Keeps::Nothing => false,
            Keeps::Everything => true,
            Keeps::Some(_) => coin.toss(),
        };
        let mut after = inner.durable.clone();
        for change in &inner.pending {
            if keep() {
                apply(&mut after, change);
            }
        }
        // A name whose directory was lost is lost with it.
        let known: BTreeSet<PathBuf> = after.keys().cloned().collect();
        after.retain(|path, _| path.ancestors().all(|above| known.contains(above)));
        let nodes = inner.nodes.iter().map(|node| after_power_cut(node, &mut keep)).collect();
        let new = Inner { nodes, now: after.clone(), durable: after, ..Inner::default() };
        Self(Rc::new(RefCell::new(new)))
    }

    fn call<T>(&self, name: &str, path: &Path, run: impl FnOnce(&mut Inner) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.0.borrow_mut();
        inner.calls += 1;
        if inner.cut_at.is_some_and(|cut| inner.calls > cut) {
            return Err(io::Error::other("the power was cut"));
        }
        let calls = inner.calls;
        inner.log.push(format!("{calls} {name} {}", path.display()));
        run(&mut inner)
    }

    /// Reading changes nothing, so there is no point in stopping before it; without power it fails all the same.
    fn look<T>(&self, run: impl FnOnce(&Inner) -> io::Result<T>) -> io::Result<T> {
        let inner = self.0.borrow();
        if inner.cut_at.is_some_and(|cut| inner.calls > cut) {
            return Err(io::Error::other("the power was cut"));
        }
        run(&inner)
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, change: &Change) {
    for (path, id) in &change.names {
        match id {
            Some(id) => names.insert(path.clone(), *id),
            None => names.remove(path),
        };
    }
}

fn after_power_cut(node: &Node, keep: &mut impl FnMut() -> bool) -> Node {
    let Node::File { now, durable, executable } = node else { return node.clone() };
    let mut bytes = durable.clone();
    if now != durable {
        // The length first: a file may be as long as it was written and full of zeros, or empty.
        if keep() {
            bytes.resize(now.len(), 0);
        }
        for (n, sector) in now.chunks(SECTOR).enumerate() {
            let range = n * SECTOR..(n * SECTOR + sector.len()).min(bytes.len());
            if range.start < range.end && keep() {
                let length = range.len();
                bytes[range].copy_from_slice(&sector[..length]);
            }
        }
    }
    Node::File { now: bytes.clone(), durable: bytes, executable: *executable }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Inner {
    /// Follows links in all parts but the last.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let Some(parent) = path.parent() else { return Ok(path.to_owned()) };
        let parent = self.follow(parent)?;
        Ok(path.file_name().map_or(parent.clone(), |name| parent.join(name)))
    }

    /// Follows links in all parts.
    fn follow(&self, path: &Path) -> io::Result<PathBuf> {
        let path = self.resolve(path)?;
        match self.now.get(&path).map(|id| &self.nodes[*id]) {
            Some(Node::Link(target)) => {
                let base = path.parent().unwrap_or(Path::new("/"));
                self.follow(&base.join(target))
            }
            _ => Ok(path),
        }
    }

    fn node(&self, path: &Path) -> io::Result<&Node> {
        let path = self.follow(path)?;
        self.now.get(&path).map(|id| &self.nodes[*id]).ok_or_else(not_found)
    }

    fn file(&mut self, path: &Path) -> io::Result<&mut Vec<u8>> {
        let path = self.resolve(path)?;
        let id = *self.now.get(&path).ok_or_else(not_found)?;
        match &mut self.nodes[id] {
            Node::File { now, .. } => Ok(now),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<()> {
        let path = self.resolve(path)?;
        if self.now.contains_key(&path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        match path.parent().map(|parent| self.node(parent)).transpose()? {
            Some(Node::Directory) => {}
            _ => return Err(io::ErrorKind::NotADirectory.into()),
        }
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        self.change(vec![(path, Some(id))]);
        Ok(())
    }

    fn change(&mut self, names: Vec<(PathBuf, Option<usize>)>) {
        let change = Change { names };
        apply(&mut self.now, &change);
        self.pending.push(change);
    }

    fn below(&self, path: &Path) -> Vec<(PathBuf, usize)> {
        self.now.iter().filter(|(other, _)| other.starts_with(path)).map(|(path, id)| (path.clone(), *id)).collect()
    }

    /// The names after everything at `from` stands at `to`.
    fn moved(&self, from: &Path, to: &Path) -> Vec<(PathBuf, Option<usize>)> {
        let rebase = |path: &Path| match path.strip_prefix(from) {
            Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
            Ok(rest) => to.join(rest),
            Err(_) => path.to_owned(),
        };
        self.below(from).into_iter().map(|(path, id)| (rebase(&path), Some(id))).collect()
    }
}

impl Fs for SimFs {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        self.look(|inner| match inner.node(path)? {
            Node::File { now, .. } if now.len() > limit => Err(io::ErrorKind::FileTooLarge.into()),
            Node::File { now, .. } => Ok(now.clone()),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        })
    }

    fn read_at(&self, path: &Path, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.read(path, usize::MAX)?;
        let rest = bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let filled = rest.len().min(buffer.len());
        buffer[..filled].copy_from_slice(&rest[..filled]);
        Ok(filled)
    }

    fn create(&self, path: &Path, mode: Mode) -> io::Result<()> {
        let node = Node::File { now: Vec::new(), durable: Vec::new(), executable: mode == Mode::Program };
        self.call("create", path, |inner| inner.add(path, node))
    }

    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.call("write", path, |inner| {
            let file = inner.file(path)?;
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            file.resize(file.len().max(start + bytes.len()), 0);
            file[start..start + bytes.len()].copy_from_slice(bytes);
            Ok(())
        })
    }

    fn reserve(&self, path: &Path, _size: u64) -> io::Result<()> {
        self.call("reserve", path, |inner| inner.file(path).map(|_file| ()))
    }

    fn truncate(&self, path: &Path, size: u64) -> io::Result<()> {
        self.call("truncate", path, |inner| {
            inner.file(path)?.truncate(usize::try_from(size).unwrap_or(usize::MAX));
            Ok(())
        })
    }

    fn sync_data(&self, path: &Path) -> io::Result<()> {
        self.call("sync_data", path, |inner| {
            let path = inner.resolve(path)?;
            let id = *inner.now.get(&path).ok_or_else(not_found)?;
            if let Node::File { now, durable, .. } = &mut inner.nodes[id] {
                durable.clone_from(now);
            }
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call("sync_dir", path, |inner| {
            let path = inner.follow(path)?;
            let (synced, pending) = std::mem::take(&mut inner.pending)
                .into_iter()
                .partition(|change: &Change| change.names.iter().any(|(name, _)| name.parent() == Some(&path)));
            inner.pending = pending;
            let synced: Vec<Change> = synced;
            for change in &synced {
                apply(&mut inner.durable, change);
            }
            Ok(())
        })
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        self.call("sync_all", path, |inner| {
            inner.durable = inner.now.clone();
            inner.pending.clear();
            for node in &mut inner.nodes {
                if let Node::File { now, durable, .. } = node {
                    durable.clone_from(now);
                }
            }
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename", to, |inner| {
            let (from, to) = (inner.resolve(from)?, inner.resolve(to)?);
            let directory =
                |inner: &Inner, path: &Path| inner.now.get(path).map(|id| matches!(inner.nodes[*id], Node::Directory));
            match (directory(inner, &from), directory(inner, &to)) {
                (None, _) => return Err(not_found()),
                (Some(false), Some(true)) => return Err(io::ErrorKind::IsADirectory.into()),
                (Some(true), Some(_)) => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
                _ => {}
            }
            let gone = inner.below(&from).into_iter().map(|(path, _)| (path, None));
            let names = gone.chain(inner.moved(&from, &to)).collect();
            inner.change(names);
            Ok(())
        })
    }

    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
        self.call("exchange", b, |inner| {
            let (a, b) = (inner.resolve(a)?, inner.resolve(b)?);
            if !inner.now.contains_key(&a) || !inner.now.contains_key(&b) {
                return Err(not_found());
            }
            let gone = inner.below(&a).into_iter().chain(inner.below(&b)).map(|(path, _)| (path, None));
            let names = gone.chain(inner.moved(&a, &b)).chain(inner.moved(&b, &a)).collect();
            inner.change(names);
            Ok(())
        })
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        self.call("symlink", link, |inner| inner.add(link, Node::Link(target.to_owned())))
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.look(|inner| {
            let path = inner.resolve(path)?;
            match inner.now.get(&path).map(|id| &inner.nodes[*id]) {
                Some(Node::Link(target)) => Ok(target.clone()),
                Some(_) => Err(io::ErrorKind::InvalidInput.into()),
                None => Err(not_found()),
            }
        })
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.call("create_dir", path, |inner| inner.add(path, Node::Directory))
    }

    fn make_private(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.call("remove_file", path, |inner| {
            let path = inner.resolve(path)?;
            match inner.now.get(&path).map(|id| &inner.nodes[*id]) {
                Some(Node::Directory) => return Err(io::ErrorKind::IsADirectory.into()),
                Some(_) => {}
                None => return Err(not_found()),
            }
            inner.change(vec![(path, None)]);
            Ok(())
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.call("remove_dir", path, |inner| {
            let path = inner.resolve(path)?;
            if inner.below(&path).len() > 1 {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            inner.change(vec![(path, None)]);
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.look(|inner| {
            let path = inner.follow(path)?;
            match inner.node(&path)? {
                Node::Directory => {}
                _ => return Err(io::ErrorKind::NotADirectory.into()),
            }
            let names = inner.now.keys().filter(|other| other.parent() == Some(&path));
            Ok(names.filter_map(|path| path.file_name().map(ToOwned::to_owned)).collect())
        })
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Meta>> {
        self.look(|inner| {
            let path = inner.resolve(path)?;
            Ok(inner.now.get(&path).map(|id| match &inner.nodes[*id] {
                Node::File { now, executable, .. } => {
                    let size = u64::try_from(now.len()).unwrap_or(u64::MAX);
                    Meta { kind: Kind::File, size, executable: *executable }
                }
                Node::Directory => Meta { kind: Kind::Directory, size: 0, executable: true },
                Node::Link(_) => Meta { kind: Kind::Link, size: 0, executable: true },
            }))
        })
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        Ok(Space { free: 1 << 40, total: 1 << 40 })
    }
}
