//! The calls, as a filesystem answers them.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{Broken, Change, File, Flaw, Node, SimFs, apply, not_found};
use crate::fs::{Fs, Kind, Meta, Mode, Space};

impl Fs for SimFs {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        self.look(|inner| match inner.node(path)? {
            Node::File(file) if file.now.len() > limit => Err(io::ErrorKind::FileTooLarge.into()),
            Node::File(file) => Ok(file.now.to_vec()),
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
        self.grow("create", path, |inner| inner.add(path, Node::File(File::new(mode == Mode::Program))))
    }

    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.call("write", path, |inner| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            // What was written before has its room.
            if inner.file(path)?.now.len() < start + bytes.len() {
                inner.fails(Broken::NoSpace)?;
            }
            inner.fails(Broken::Io)?;
            inner.file(path)?.write(start, bytes);
            Ok(())
        })
    }

    fn reserve(&self, path: &Path, _size: u64) -> io::Result<()> {
        self.grow("reserve", path, |inner| inner.file(path).map(|_file| ()))
    }

    fn truncate(&self, path: &Path, size: u64) -> io::Result<()> {
        self.alter("truncate", path, |inner| {
            inner.file(path)?.truncate(usize::try_from(size).unwrap_or(usize::MAX));
            Ok(())
        })
    }

    fn sync_data(&self, path: &Path) -> io::Result<()> {
        self.call("sync_data", path, |inner| {
            let failed = inner.fails(Broken::Io);
            let skipped = inner.flaw == Some(Flaw::Files);
            let file = inner.file(path)?;
            match failed {
                Ok(()) if skipped => {}
                Ok(()) => file.sync(),
                Err(_) => file.forget(),
            }
            failed
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.alter("sync_dir", path, |inner| {
            let path = inner.follow(path)?;
            if inner.flaw == Some(Flaw::Directories) {
                return Ok(());
            }
            let of_it = |change: &Rc<Change>| {
                change.names.iter().any(|(name, _)| Path::new(name).parent() == Some(Path::new(&path)))
            };
            let (synced, pending) = std::mem::take(&mut inner.pending).into_iter().partition(of_it);
            inner.pending = pending;
            let synced: Vec<Rc<Change>> = synced;
            for change in &synced {
                apply(&mut inner.durable, change);
            }
            Ok(())
        })
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        self.call("sync_all", path, |inner| {
            let failed = inner.fails(Broken::Io);
            if inner.flaw == Some(Flaw::Trees) {
                return failed;
            }
            if failed.is_ok() {
                inner.durable = Rc::clone(&inner.now);
                inner.pending.clear();
            }
            for node in &mut inner.nodes {
                match node {
                    Node::File(file) if failed.is_ok() => file.sync(),
                    Node::File(file) => file.forget(),
                    _ => {}
                }
            }
            failed
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.grow("rename", to, |inner| {
            let (from, to) = (inner.resolve(from)?, inner.resolve(to)?);
            match (inner.is_directory(&from), inner.is_directory(&to)) {
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
        self.grow("exchange", b, |inner| {
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
        self.grow("symlink", link, |inner| inner.add(link, Node::Link(target.to_owned())))
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.look(|inner| match inner.at(&inner.resolve(path)?) {
            Some(Node::Link(target)) => Ok(target.clone()),
            Some(_) => Err(io::ErrorKind::InvalidInput.into()),
            None => Err(not_found()),
        })
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.grow("create_dir", path, |inner| inner.add(path, Node::Directory))
    }

    fn make_private(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.alter("remove_file", path, |inner| {
            let path = inner.resolve(path)?;
            match inner.is_directory(&path) {
                Some(true) => return Err(io::ErrorKind::IsADirectory.into()),
                Some(false) => {}
                None => return Err(not_found()),
            }
            inner.change(vec![(path, None)]);
            Ok(())
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.alter("remove_dir", path, |inner| {
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
            match inner.at(&path) {
                Some(Node::Directory) => {}
                Some(_) => return Err(io::ErrorKind::NotADirectory.into()),
                None => return Err(not_found()),
            }
            let mut names: Vec<OsString> = inner
                .below(&path)
                .iter()
                .filter(|(other, _)| Path::new(other).parent() == Some(Path::new(&path)))
                .filter_map(|(other, _)| Path::new(other).file_name().map(ToOwned::to_owned))
                .collect();
            names.sort_unstable();
            Ok(names)
        })
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Meta>> {
        self.look(|inner| {
            Ok(inner.at(&inner.resolve(path)?).map(|node| match node {
                Node::File(file) => {
                    let size = u64::try_from(file.now.len()).unwrap_or(u64::MAX);
                    Meta { kind: Kind::File, size, executable: file.executable }
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
