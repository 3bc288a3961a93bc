//! A file's bytes: as they are, as they would be after a power loss, and what lies between.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use weir_base::Entropy;

const PAGE_BYTES: usize = 4096;
pub(super) const SECTOR_BYTES: usize = 512;

/// Sparse bytes; pages are shared between the two versions until one is written.
#[derive(Clone, Default)]
struct Content {
    pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES]>>,
    len: u64,
}

#[derive(Default)]
pub(super) struct SimFile {
    live: Content,
    durable: Content,
    pending: Vec<Change>,
    /// How many of those, the oldest, a sync that lied said to be durable.
    claimed: usize,
}

enum Change {
    Write(u64, Bytes),
    Length(u64),
}

/// Page number and place within it.
fn place(at: u64) -> (u64, usize) {
    let page = PAGE_BYTES as u64;
    (at / page, usize::try_from(at % page).unwrap_or(0))
}

impl Content {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (number, from) = place(at);
            let (piece, behind) = rest.split_at(rest.len().min(PAGE_BYTES - from));
            let page = self
                .pages
                .entry(number)
                .or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(page)[from..from + piece.len()].copy_from_slice(piece);
            at += piece.len() as u64;
            rest = behind;
        }
        self.len = self.len.max(at);
    }

    fn read(&self, offset: u64, len: usize) -> Bytes {
        let there = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut out = vec![0; len.min(there)];
        let mut done = 0;
        while done < out.len() {
            let (number, from) = place(offset + done as u64);
            let piece = (out.len() - done).min(PAGE_BYTES - from);
            if let Some(page) = self.pages.get(&number) {
                out[done..done + piece].copy_from_slice(&page[from..from + piece]);
            }
            done += piece;
        }
        out.into()
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (last, from) = place(len);
            self.pages.split_off(&(last + 1));
            if let Some(page) = self.pages.get_mut(&last) {
                Arc::make_mut(page)[from..].fill(0);
            }
        }
        self.len = len;
    }
}

impl SimFile {
    pub(super) fn len(&self) -> u64 {
        self.live.len
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> Bytes {
        self.live.read(offset, len)
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.live.write(offset, bytes);
            let copy = Bytes::copy_from_slice(bytes);
            self.pending.push(Change::Write(offset, copy));
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.live.set_len(len);
        self.pending.push(Change::Length(len));
    }

    pub(super) fn sync(&mut self) {
        self.claimed = self.pending.len();
        self.settle();
    }

    /// The disk says that it synced, and holds it all in its cache.
    pub(super) fn claim(&mut self) {
        self.claimed = self.pending.len();
    }

    /// What was said to be durable is.
    pub(super) fn settle(&mut self) {
        // Applied, not copied from the live bytes: what a failed sync dropped stays lost.
        for change in self.pending.drain(..std::mem::take(&mut self.claimed)) {
            match change {
                Change::Write(offset, bytes) => self.durable.write(offset, &bytes),
                Change::Length(len) => self.durable.set_len(len),
            }
        }
    }

    /// The dirty bytes are dropped: readers still see them, the disk never will.
    pub(super) fn fail_sync(&mut self) {
        self.pending.truncate(self.claimed);
    }

    pub(super) fn power_loss(&mut self, entropy: &Entropy) {
        self.claimed = 0;
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Write(offset, bytes) => {
                    keep_some(&mut self.durable, offset, &bytes, entropy)
                }
                Change::Length(len) => {
                    if entropy.below(2) == 0 {
                        self.durable.set_len(len);
                    }
                }
            }
        }
        self.live = self.durable.clone();
    }

    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) -> io::Result<()> {
        if offset >= self.live.len {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for content in [&mut self.live, &mut self.durable] {
            let old = content.read(offset, 1);
            if let Some(byte) = old.first() {
                content.write(offset, &[byte ^ (1 << (bit % 8))]);
            }
        }
        Ok(())
    }
}

/// Writes a random subset of the sectors that `bytes` cover.
fn keep_some(durable: &mut Content, offset: u64, bytes: &[u8], entropy: &Entropy) {
    // All, none, or each sector by itself.
    let mood = entropy.below(3);
    let mut at = offset;
    let mut rest = bytes;
    while !rest.is_empty() {
        let (_, from) = place(at);
        let (piece, behind) = rest.split_at(rest.len().min(SECTOR_BYTES - from % SECTOR_BYTES));
        let kept = match mood {
            0 => true,
            1 => false,
            _ => entropy.below(2) == 0,
        };
        if kept {
            durable.write(at, piece);
        }
        at += piece.len() as u64;
        rest = behind;
    }
}
