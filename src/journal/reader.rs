//! Reading entries back, beside a journal that goes on writing.
//!
//! A frame is read through a window on its file. The window grows while it is read on from where it
//! ended, so that a replay reads large pieces and a look at one slot a small one. What is read
//! is checked again, as if nobody had: checksum, place, slot and content.

use std::fmt;
use std::sync::Arc;

use crate::types::entry::Entry;
use crate::types::ids::Slot;

use super::disk::{Disk, File};
use super::error::JournalError;
use super::frame::{BadFrame, FRAME_HEADER_BYTES, Header, Kind};
use super::index::{Place, Shared};
use super::segment::segment_name;

/// Reads the entries of a journal. Cloning is cheap; clones read at the same time.
pub struct Reader<D: Disk> {
    shared: Arc<Shared<D::File>>,
}

impl<D: Disk> Reader<D> {
    pub(super) fn new(shared: Arc<Shared<D::File>>) -> Self {
        Self { shared }
    }

    /// Every slot below was trimmed.
    #[must_use]
    pub fn first(&self) -> Slot {
        self.shared.index.read().first()
    }

    /// The newest entry of each slot in `from..end`, in order. A slot that has none, or none that
    /// is durable here, or was trimmed, is an error: ask only for slots that are known to be there.
    #[must_use]
    pub fn entries(&self, from: Slot, end: Slot) -> Entries<D> {
        Entries {
            shared: Arc::clone(&self.shared),
            next: from,
            end,
            places: Vec::new(),
            at: 0,
            window: Window::new(),
        }
    }

    /// The entries of the slots from `from` on, up to `end` or to `bytes_max` bytes, but at least
    /// one. Stops before the first slot whose entry is not durable here, or cannot be read.
    ///
    /// # Errors
    ///
    /// Where the frame of the first of them is damaged or cannot be read.
    pub fn read(
        &self,
        from: Slot,
        end: Slot,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, JournalError> {
        let mut entries = Vec::new();
        let (mut slot, mut bytes) = (from, 0);
        let mut window = Window::new();
        while slot < end {
            let Some(place) = self.shared.index.read().get(slot) else { break };
            let entry = match read_entry(&self.shared, &mut window, slot, place) {
                Ok(entry) => entry,
                Err(err) if entries.is_empty() => return Err(err),
                Err(_) => break,
            };
            bytes += entry.bytes().len();
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry);
            slot = slot.next();
        }
        Ok(entries)
    }
}

impl<D: Disk> Clone for Reader<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<D: Disk> fmt::Debug for Reader<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// The entries of a range of slots.
pub struct Entries<D: Disk> {
    shared: Arc<Shared<D::File>>,
    next: Slot,
    end: Slot,
    /// The places of some slots from `next - at` on: the index is not locked for every slot.
    places: Vec<Option<Place>>,
    at: usize,
    window: Window<D::File>,
}

impl<D: Disk> fmt::Debug for Entries<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entries({}..{})", self.next, self.end)
    }
}

impl<D: Disk> Iterator for Entries<D> {
    type Item = Result<(Slot, Entry), JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        if self.at == self.places.len() {
            let index = self.shared.index.read();
            if self.next < index.first() {
                let first = index.first();
                self.next = self.end;
                return Some(Err(JournalError::Trimmed { first }));
            }
            let count = self.next.count_to(self.end).min(PLACES_AT_ONCE);
            self.places.clear();
            self.places.extend((0..count).map(|place| index.get(self.next.plus(place))));
            self.at = 0;
        }
        let (slot, place) = (self.next, self.places[self.at]);
        self.at += 1;
        self.next = slot.next();
        let result = match place {
            Some(place) => {
                read_entry(&self.shared, &mut self.window, slot, place).map_err(|err| {
                    // It may have been trimmed since it was looked up, and its file be gone.
                    let first = self.shared.index.read().first();
                    if slot < first { JournalError::Trimmed { first } } else { err }
                })
            }
            None => Err(JournalError::Corrupt {
                file: ".".to_owned(),
                offset: 0,
                slot: Some(slot),
                reason: "no durable frame holds this slot",
            }),
        };
        if result.is_err() {
            self.next = self.end;
        }
        Some(result.map(|entry| (slot, entry)))
    }
}

fn read_entry<F: File>(
    shared: &Shared<F>,
    window: &mut Window<F>,
    slot: Slot,
    place: Place,
) -> Result<Entry, JournalError> {
    let (segment, offset) = (place.segment(), place.offset());
    let corrupt = |reason| JournalError::Corrupt {
        file: segment_name(segment),
        offset,
        slot: Some(slot),
        reason,
    };
    if window.segment() != segment {
        let file = shared.files.read().get(&segment).cloned();
        let first = shared.index.read().first();
        let gone = || match slot < first {
            true => JournalError::Trimmed { first },
            false => corrupt("the segment is gone"),
        };
        let file = file.ok_or_else(gone)?;
        window.enter(file, segment);
    }
    let bytes = window.bytes(offset, FRAME_HEADER_BYTES)?;
    let (header, _) = Header::decode(bytes).map_err(|bad: BadFrame| corrupt(bad.reason()))?;
    let entry_frame = matches!(header.kind, Kind::Vote | Kind::Chosen);
    let home = *shared.home.read();
    if !header.stands_at(home, segment, offset) || !entry_frame || header.slot != slot {
        return Err(corrupt("a frame that belongs elsewhere"));
    }
    let payload_bytes = header.payload_bytes as usize;
    let payload = window.bytes(offset + FRAME_HEADER_BYTES as u64, payload_bytes)?;
    if payload.len() < payload_bytes {
        return Err(corrupt("the file ends within a frame"));
    }
    let entry = Entry::decode(payload.to_vec()).map_err(|_| corrupt("not an entry"))?;
    // The hash was computed when the entry was taken apart; here it is only compared.
    if entry.hash() != header.content {
        return Err(corrupt("content hash mismatch"));
    }
    Ok(entry)
}

/// A piece of a file in memory, that follows what is read.
pub(super) struct Window<F> {
    file: Option<Arc<F>>,
    segment: u64,
    /// Where in the file `bytes` begin.
    start: u64,
    bytes: Vec<u8>,
    /// How many of `bytes` are of the file.
    filled: usize,
    /// How much to read next time.
    ahead: usize,
}

impl<F: File> Window<F> {
    pub(super) fn new() -> Self {
        Self { file: None, segment: 0, start: 0, bytes: Vec::new(), filled: 0, ahead: AHEAD_MIN }
    }

    /// A window that reads large pieces from the start.
    pub(super) fn large() -> Self {
        Self { ahead: AHEAD_MAX, ..Self::new() }
    }

    pub(super) fn segment(&self) -> u64 {
        self.segment
    }

    /// Goes on with another file.
    pub(super) fn enter(&mut self, file: Arc<F>, segment: u64) {
        *self = Self {
            file: Some(file),
            segment,
            start: 0,
            bytes: std::mem::take(&mut self.bytes),
            filled: 0,
            ahead: self.ahead,
        };
    }

    /// The `count` bytes at `offset`; fewer where the file ends before.
    pub(super) fn bytes(&mut self, offset: u64, count: usize) -> Result<&[u8], JournalError> {
        let filled_end = self.start + self.filled as u64;
        if offset < self.start || offset + count as u64 > filled_end {
            self.fill(offset, count)?;
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX).min(self.filled);
        Ok(&self.bytes[from..self.filled.min(from + count)])
    }

    fn fill(&mut self, offset: u64, count: usize) -> Result<(), JournalError> {
        let follows = self.start < offset && offset <= self.start + self.filled as u64;
        self.ahead = match follows {
            true => (self.ahead * 2).min(AHEAD_MAX),
            false => self.ahead,
        };
        let wanted = count.max(self.ahead);
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
        (self.start, self.filled) = (offset, 0);
        let Some(file) = &self.file else { return Ok(()) };
        let mut end = wanted;
        while self.filled < end {
            let at = offset + self.filled as u64;
            match file.read_at(at, &mut self.bytes[self.filled..end]) {
                Ok(0) => break,
                Ok(read) => self.filled += read,
                // A bad sector further on does not take what is asked for with it.
                Err(_) if end > count => end = count,
                Err(err) => {
                    self.filled = 0;
                    return Err(JournalError::io("read", &segment_name(self.segment))(err));
                }
            }
        }
        Ok(())
    }
}

const AHEAD_MIN: usize = 16 * 1024;
const AHEAD_MAX: usize = 256 * 1024;
const PLACES_AT_ONCE: u64 = 1024;
