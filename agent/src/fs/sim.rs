//! A filesystem in memory that can lose power: what was not synced may be lost, torn or reordered.
//!
//! Every call that changes something is counted, and from a chosen one on nothing works any more, or that one alone
//! fails. [`SimFs::reboot`] gives a filesystem as the medium may hold it then: each unsynced name and each unsynced
//! sector is there or not, as a seed decides. Copies are cheap, so that a test can keep one of every moment.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt, io,
    path::{Path, PathBuf},
    rc::Rc,
};

use file::File;

mod calls;
mod file;
mod medium;

/// A name and what it stands for; compared byte by byte.
type Names = BTreeMap<OsString, usize>;

#[derive(Clone)]
enum Node {
    File(File),
    Directory,
    Link(PathBuf),
}

/// A change of names: what each path stands for after it. One change is atomic.
struct Change {
    names: Vec<(OsString, Option<usize>)>,
}

#[derive(Clone, Default)]
struct Inner {
    nodes: Vec<Node>,
    now: Rc<Names>,
    durable: Rc<Names>,
    pending: Vec<Rc<Change>>,
    /// Where links stand: few, so that most paths need no following.
    links: Vec<OsString>,
    calls: u32,
    looks: u32,
    /// The number of the call from which on there is no power.
    cut_at: Option<u32>,
    fault: Option<Fault>,
    flaw: Option<Flaw>,
    last: Option<(&'static str, PathBuf)>,
    watcher: Option<Watcher>,
}

/// Told of every moment before a call.
type Watcher = Rc<dyn Fn(SimFs)>;

/// What the medium keeps of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    Nothing,
    Everything,
    /// A mix that the seed decides.
    Some(u64),
}

/// Something that goes wrong once, or from then on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// The number of the call that changes something, or of the one that looks.
    pub(crate) at: u32,
    pub(crate) kind: Broken,
    pub(crate) lasting: bool,
    /// Whether there was such a call.
    pub(crate) met: bool,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Whatever needs room finds none.
    NoSpace,
    /// The medium fails. After a sync that failed, what it was to write is lost, although reading still shows it and the
    /// next sync succeeds.
    Io,
    /// The medium cannot be read.
    Read,
}

/// A filesystem that does not do what the agent relies on; to see that somebody notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    Files,
    Directories,
    Trees,
}

/// The filesystem.
#[derive(Default)]
pub(crate) struct SimFs(Rc<RefCell<Inner>>);

/// A copy that goes its own way.
impl Clone for SimFs {
    fn clone(&self) -> Self {
        Self::of(Inner { watcher: None, ..self.0.borrow().clone() })
    }
}

impl fmt::Debug for SimFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.borrow().now.keys()).finish()
    }
}

impl SimFs {
    fn of(inner: Inner) -> Self {
        Self(Rc::new(RefCell::new(inner)))
    }

    /// With some directories that exist and are durable.
    pub(crate) fn with_directories(paths: &[&Path]) -> Self {
        let (mut nodes, mut names) = (Vec::new(), Names::new());
        for path in paths.iter().flat_map(|path| path.ancestors()) {
            nodes.push(Node::Directory);
            names.entry(path.as_os_str().to_owned()).or_insert(nodes.len() - 1);
        }
        let now = Rc::new(names);
        Self::of(Inner { nodes, durable: Rc::clone(&now), now, ..Inner::default() })
    }

    /// The same filesystem in other hands.
    pub(crate) fn shared(other: &Self) -> Self {
        Self(Rc::clone(&other.0))
    }

    /// From the `call`th call on nothing works.
    pub(crate) fn cut_power_at(&self, call: u32) {
        let mut inner = self.0.borrow_mut();
        (inner.calls, inner.cut_at) = (0, Some(call));
    }

    /// Whether the power was cut.
    pub(crate) fn is_off(&self) -> bool {
        self.0.borrow().is_off()
    }

    /// Lets something go wrong.
    pub(crate) fn break_at(&self, at: u32, kind: Broken, lasting: bool) {
        let mut inner = self.0.borrow_mut();
        (inner.calls, inner.looks) = (0, 0);
        inner.fault = Some(Fault { at, kind, lasting, met: false });
    }

    /// Whether something has gone wrong; nothing does any more.
    pub(crate) fn mend(&self) -> bool {
        self.0.borrow_mut().fault.take().is_some_and(|fault| fault.met)
    }

    /// Whether something has gone wrong.
    pub(crate) fn has_failed(&self) -> bool {
        self.0.borrow().fault.is_some_and(|fault| fault.met)
    }

    /// Gives it a flaw, or takes it away.
    pub(crate) fn set_flaw(&self, flaw: Option<Flaw>) {
        self.0.borrow_mut().flaw = flaw;
    }

    /// Calls `watcher` before every call that changes something, with a copy of that moment.
    pub(crate) fn watch(&self, watcher: Option<Watcher>) {
        self.0.borrow_mut().watcher = watcher;
    }

    /// The last call, for messages.
    pub(crate) fn last(&self) -> String {
        let inner = self.0.borrow();
        let name = inner.last.as_ref().map(|(name, path)| format!("{name} {}", path.display()));
        format!("call {} ({})", inner.calls, name.unwrap_or_default())
    }

    fn call<T>(&self, name: &'static str, path: &Path, run: impl FnOnce(&mut Inner) -> io::Result<T>) -> io::Result<T> {
        let watcher = self.0.borrow().watcher.clone();
        if let Some(watcher) = watcher {
            watcher(self.clone());
        }
        let mut inner = self.0.borrow_mut();
        inner.calls += 1;
        if inner.is_off() {
            return Err(io::Error::other("the power was cut"));
        }
        inner.last = Some((name, path.to_owned()));
        run(&mut inner)
    }

    /// A call that needs room where it makes something longer, or new.
    fn grow<T>(&self, name: &'static str, path: &Path, run: impl FnOnce(&mut Inner) -> io::Result<T>) -> io::Result<T> {
        self.call(name, path, |inner| {
            inner.fails(Broken::NoSpace)?;
            inner.fails(Broken::Io)?;
            run(inner)
        })
    }

    /// A call that needs none.
    fn alter<T>(
        &self,
        name: &'static str,
        path: &Path,
        run: impl FnOnce(&mut Inner) -> io::Result<T>,
    ) -> io::Result<T> {
        self.call(name, path, |inner| {
            inner.fails(Broken::Io)?;
            run(inner)
        })
    }

    /// Reading changes nothing, so there is no point in stopping before it; without power it fails all the same.
    fn look<T>(&self, run: impl FnOnce(&Inner) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.0.borrow_mut();
        if inner.is_off() {
            return Err(io::Error::other("the power was cut"));
        }
        inner.looks += 1;
        inner.fails(Broken::Read)?;
        run(&inner)
    }
}

fn apply(names: &mut Rc<Names>, change: &Change) {
    let names = Rc::make_mut(names);
    for (path, id) in &change.names {
        match id {
            Some(id) => names.insert(path.clone(), *id),
            None => names.remove(path),
        };
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// Whether `path` lies below `above`.
fn is_below(path: &OsStr, above: &OsStr) -> bool {
    let rest = path.as_encoded_bytes().strip_prefix(above.as_encoded_bytes());
    rest.is_some_and(|rest| rest.first() == Some(&b'/'))
}

impl Inner {
    fn is_off(&self) -> bool {
        self.cut_at.is_some_and(|cut| self.calls > cut)
    }

    fn fails(&mut self, kind: Broken) -> io::Result<()> {
        let number = if kind == Broken::Read { self.looks } else { self.calls };
        let Some(fault) = self.fault.as_mut().filter(|fault| fault.kind == kind) else { return Ok(()) };
        // A call that nothing can happen to is followed by one that it can.
        let now = if fault.lasting { number >= fault.at } else { number >= fault.at && !fault.met };
        if !now {
            return Ok(());
        }
        fault.met = true;
        let errno = if kind == Broken::NoSpace { rustix::io::Errno::NOSPC } else { rustix::io::Errno::IO };
        Err(errno.into())
    }

    /// Follows links in all parts but the last.
    fn resolve(&self, path: &Path) -> io::Result<OsString> {
        let mut path = path.as_os_str().to_owned();
        for _ in 0..8 {
            let Some(link) = self.links.iter().find(|link| is_below(&path, link)) else { return Ok(path) };
            let rest = path.as_encoded_bytes().get(link.len() + 1..).unwrap_or_default();
            let rest = String::from_utf8_lossy(rest).into_owned();
            path = Path::new(&self.target(link)?).join(rest).into_os_string();
        }
        Err(rustix::io::Errno::LOOP.into())
    }

    /// Follows links in all parts.
    fn follow(&self, path: &Path) -> io::Result<OsString> {
        let mut path = self.resolve(path)?;
        for _ in 0..8 {
            if !self.links.contains(&path) {
                return Ok(path);
            }
            path = self.resolve(Path::new(&self.target(&path)?))?;
        }
        Err(rustix::io::Errno::LOOP.into())
    }

    fn target(&self, link: &OsStr) -> io::Result<OsString> {
        match self.now.get(link).and_then(|id| self.nodes.get(*id)) {
            Some(Node::Link(target)) => {
                let base = Path::new(link).parent().unwrap_or(Path::new("/"));
                Ok(base.join(target).into_os_string())
            }
            _ => Err(not_found()),
        }
    }

    fn at(&self, path: &OsStr) -> Option<&Node> {
        self.now.get(path).and_then(|id| self.nodes.get(*id))
    }

    fn node(&self, path: &Path) -> io::Result<&Node> {
        self.at(&self.follow(path)?).ok_or_else(not_found)
    }

    fn file(&mut self, path: &Path) -> io::Result<&mut File> {
        let path = self.resolve(path)?;
        let id = *self.now.get(&path).ok_or_else(not_found)?;
        match self.nodes.get_mut(id) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<()> {
        let path = self.resolve(path)?;
        if self.now.contains_key(&path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        match Path::new(&path).parent().map(|parent| self.node(parent)).transpose()? {
            Some(Node::Directory) => {}
            _ => return Err(io::ErrorKind::NotADirectory.into()),
        }
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        self.change(vec![(path, Some(id))]);
        Ok(())
    }

    fn change(&mut self, names: Vec<(OsString, Option<usize>)>) {
        let change = Rc::new(Change { names });
        apply(&mut self.now, &change);
        self.pending.push(change);
        self.find_links();
    }

    fn find_links(&mut self) {
        let links = self.now.iter().filter(|(_, id)| matches!(self.nodes.get(**id), Some(Node::Link(_))));
        self.links = links.map(|(path, _)| path.clone()).collect();
    }

    /// Everything at `path` and below.
    fn below(&self, path: &OsStr) -> Vec<(OsString, usize)> {
        let from = self.now.range(path.to_owned()..);
        let near = from.take_while(|(other, _)| other.as_encoded_bytes().starts_with(path.as_encoded_bytes()));
        let within = near.filter(|(other, _)| other.as_os_str() == path || is_below(other, path));
        within.map(|(path, id)| (path.clone(), *id)).collect()
    }

    /// The names after everything at `from` stands at `to`.
    fn moved(&self, from: &OsStr, to: &OsStr) -> Vec<(OsString, Option<usize>)> {
        let rebase = |path: &OsStr| match Path::new(path).strip_prefix(from) {
            Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
            Ok(rest) => Path::new(to).join(rest).into_os_string(),
            Err(_) => path.to_owned(),
        };
        self.below(from).into_iter().map(|(path, id)| (rebase(&path), Some(id))).collect()
    }

    fn is_directory(&self, path: &OsStr) -> Option<bool> {
        self.at(path).map(|node| matches!(node, Node::Directory))
    }
}
