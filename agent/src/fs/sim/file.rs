//! The bytes of a file: as reading shows them, as the medium has them, and which of them are on their way.

use std::{cell::OnceCell, ops::Deref, rc::Rc};

use callboard_proto::digest::Digest;

/// A medium writes so many bytes or none of them.
pub(super) const SECTOR: usize = 512;
/// Sectors that are told apart; all behind them count as one.
const TOLD: usize = 63;

/// Bytes that the copies of a file share until one of them is written to, with their digest once somebody has asked.
#[derive(Clone, Default)]
pub(super) struct Bytes {
    bytes: Vec<u8>,
    digest: OnceCell<Digest>,
}

impl Bytes {
    fn new(bytes: Vec<u8>) -> Rc<Self> {
        Rc::new(Self { bytes, digest: OnceCell::new() })
    }

    fn change(shared: &mut Rc<Self>) -> &mut Vec<u8> {
        let own = Rc::make_mut(shared);
        own.digest.take();
        &mut own.bytes
    }

    pub(super) fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| Digest::of(&self.bytes))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

#[derive(Clone)]
pub(super) struct File {
    pub(super) now: Rc<Bytes>,
    pub(super) durable: Rc<Bytes>,
    /// A bit for each sector that was written since the last sync.
    dirty: u64,
    pub(super) executable: bool,
}

impl File {
    pub(super) fn new(executable: bool) -> Self {
        Self { now: Rc::default(), durable: Rc::default(), dirty: 0, executable }
    }

    /// As it is found after a start.
    pub(super) fn settled(bytes: Rc<Bytes>, executable: bool) -> Self {
        Self { now: Rc::clone(&bytes), durable: bytes, dirty: 0, executable }
    }

    /// Whether anything is on its way.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty != 0 || self.now.len() != self.durable.len()
    }

    pub(super) fn write(&mut self, start: usize, bytes: &[u8]) {
        let now = Bytes::change(&mut self.now);
        let old = now.len();
        now.resize(old.max(start + bytes.len()), 0);
        now[start..start + bytes.len()].copy_from_slice(bytes);
        self.touch(start.min(old), start + bytes.len());
    }

    pub(super) fn truncate(&mut self, size: usize) {
        Bytes::change(&mut self.now).truncate(size);
    }

    fn touch(&mut self, start: usize, end: usize) {
        for sector in start / SECTOR..end.div_ceil(SECTOR) {
            self.dirty |= 1 << sector.min(TOLD);
        }
    }

    /// Everything that is on its way arrives.
    pub(super) fn sync(&mut self) {
        if self.is_dirty() {
            self.durable = self.arrived(true, |_| true);
            self.dirty = 0;
        }
    }

    /// What was on its way is taken for written, and never will be.
    pub(super) fn forget(&mut self) {
        self.dirty = 0;
    }

    /// What the medium holds if the new length has arrived, or not, and of the sectors on their way those that `keep`
    /// says. A file may be as long as it was written and full of zeros, or empty.
    pub(super) fn arrived(&self, length: bool, mut keep: impl FnMut(usize) -> bool) -> Rc<Bytes> {
        let mut bytes = self.durable.to_vec();
        if length {
            bytes.resize(self.now.len(), 0);
        }
        for (n, sector) in self.now.chunks(SECTOR).enumerate() {
            if self.dirty & (1 << n.min(TOLD)) == 0 || !keep(n) {
                continue;
            }
            let start = n * SECTOR;
            let length = sector.len().min(bytes.len().saturating_sub(start));
            if length > 0 {
                bytes[start..start + length].copy_from_slice(&sector[..length]);
            }
        }
        Bytes::new(bytes)
    }
}
