//! Damage to what lies on the medium, at any time and without a word to anybody.
//!
//! What is damaged is read back damaged, as if nobody had it in memory; only what waits to be
//! written still is what it was, and replaces the damage when it is synced. Every method but
//! `plant` says whether it changed anything. Damaged bytes count as a fault once somebody reads
//! them: before, nobody could know. A file that is cut or gone, and a stale name, count at once.
//!
//! Not here: damage done by writing (`inject`), whole disks (`Image`).

use std::ops::Range;

use super::SimDisk;
use super::content::{Content, pieces};
use super::faults::DiskFault;
use super::state::{PIECE_BYTES, Scar, SimulatedFile};

impl SimDisk {
    /// Changes bits of a file: `change` gets the bytes of `range`, as far as there are any.
    pub fn rot(&self, name: &str, range: Range<usize>, change: impl FnOnce(&mut [u8])) -> bool {
        self.with_file(name, |file| {
            let mut bytes = file.medium.bytes(range.clone());
            change(&mut bytes);
            file.damage(DiskFault::BitRot, range.start, &bytes)
        })
    }

    /// Changes the bits of `mask` in one byte.
    pub fn flip(&self, name: &str, offset: usize, mask: u8) -> bool {
        self.rot(name, offset..offset + 1, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= mask))
    }

    /// Makes a range zeros.
    pub fn zero(&self, name: &str, range: Range<usize>) -> bool {
        self.with_file(name, |file| {
            let end = range.end.min(file.medium.len());
            let zeros = vec![0; end.saturating_sub(range.start)];
            file.damage(DiskFault::ZeroedRange, range.start, &zeros)
        })
    }

    /// Makes the sectors that `range` touches unreadable, until each is written anew as a whole.
    pub fn make_unreadable(&self, name: &str, range: Range<usize>) -> bool {
        self.with_file(name, |file| {
            let range = range.start..range.end.min(file.medium.len());
            let sectors = pieces(range, PIECE_BYTES).map(|piece| piece.start / PIECE_BYTES);
            let before = file.unreadable.len();
            file.unreadable.extend(sectors);
            file.unreadable.len() > before
        })
    }

    /// Turns a range back to what it was `syncs` syncs ago, where [`SimDisk::record_history`] was
    /// on; zeros where the file was shorter then.
    pub fn make_stale(&self, name: &str, range: Range<usize>, syncs: usize) -> bool {
        self.with_file(name, |file| {
            let version = file.history.len().checked_sub(syncs);
            let Some(old) = version.and_then(|version| file.history.get(version)) else {
                return false;
            };
            let end = range.end.min(file.medium.len());
            let mut bytes = old.bytes(range.start..end);
            bytes.resize(end.saturating_sub(range.start), 0);
            file.damage(DiskFault::StaleRange, range.start, &bytes)
        })
    }

    /// Makes a name stand for the file that it stood for before, durably, where
    /// [`SimDisk::record_history`] was on. That file is as it is now.
    pub fn make_name_stale(&self, name: &str) -> bool {
        let mut state = self.lock();
        let Some(former) = state.former_names.get_mut(name).and_then(Vec::pop) else {
            return false;
        };
        if !state.files.contains_key(&former) || state.names.get(name) == Some(&former) {
            return false;
        }
        state.names.insert(name.to_owned(), former);
        state.durable_names.insert(name.to_owned(), former);
        state.pending_names.retain(|(_, change)| change.name() != name);
        state.fired.count(DiskFault::StaleName);
        true
    }

    /// Lets two ranges, each a name and an offset, change places, as far as both files go.
    pub fn swap(&self, one: (&str, usize), other: (&str, usize), length: usize) -> bool {
        let read = |(name, offset): (&str, usize)| {
            self.with_named(name, |file| file.medium.bytes(offset..offset + length))
        };
        let (Some(mut first), Some(mut second)) = (read(one), read(other)) else { return false };
        let length = first.len().min(second.len());
        first.truncate(length);
        second.truncate(length);
        let place = |(name, offset), bytes: &[u8]| {
            self.with_file(name, |file| file.damage(DiskFault::SwappedRanges, offset, bytes))
        };
        let changed = place(one, &second);
        place(other, &first) || changed
    }

    /// Cuts a file.
    pub fn truncate(&self, name: &str, length: usize) -> bool {
        let cut = self.with_file(name, |file| {
            let is_longer = file.medium.len() > length;
            if is_longer {
                file.medium.resize(length);
                file.evict();
            }
            is_longer
        });
        self.count_if(cut, DiskFault::TruncatedFile)
    }

    /// Takes a file away, durably.
    pub fn delete(&self, name: &str) -> bool {
        let mut state = self.lock();
        let listed = state.names.remove(name).is_some();
        let durable = state.durable_names.remove(name).is_some();
        state.pending_names.retain(|(_, change)| change.name() != name);
        drop(state);
        self.count_if(listed || durable, DiskFault::DeletedFile)
    }

    /// Puts a file with these bytes there, durably, in place of what had the name. It counts as no
    /// fault.
    pub fn plant(&self, name: &str, bytes: &[u8]) {
        let mut state = self.lock();
        let mut content = Content::default();
        content.write(0, bytes);
        let file = state.file_next;
        state.file_next += 1;
        let (name, cache, medium) = (name.to_owned(), content.clone(), content);
        state.names.insert(name.clone(), file);
        state.durable_names.insert(name.clone(), file);
        state.files.insert(file, SimulatedFile { name, cache, medium, ..Default::default() });
    }

    fn with_file(&self, name: &str, act: impl FnOnce(&mut SimulatedFile) -> bool) -> bool {
        self.with_named(name, act).unwrap_or(false)
    }

    fn with_named<T>(&self, name: &str, act: impl FnOnce(&mut SimulatedFile) -> T) -> Option<T> {
        self.lock().named(name).map(act)
    }

    fn count_if(&self, acted: bool, fault: DiskFault) -> bool {
        if acted {
            self.lock().fired.count(fault);
        }
        acted
    }
}

impl SimulatedFile {
    /// Replaces bytes on the medium; returns whether that changed any.
    fn damage(&mut self, fault: DiskFault, offset: usize, bytes: &[u8]) -> bool {
        let range = offset..offset + bytes.len();
        let before = self.medium.bytes(range.clone());
        if before == bytes {
            return false;
        }
        self.medium.write(offset, bytes);
        self.evict_range(range);
        // The place is what differs, not all that was offered for damage.
        let differs = |(old, new): (&u8, &u8)| old != new;
        let start = before.iter().zip(bytes).position(differs).unwrap_or(0);
        let end = before.iter().zip(bytes).rposition(differs).map_or(0, |last| last + 1);
        self.scars.push(Scar { fault, range: offset + start..offset + end });
        true
    }
}
