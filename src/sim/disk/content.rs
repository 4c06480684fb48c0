//! The bytes of a file, in pages that are shared until one of them is written to.
//!
//! A copy of a file is a copy of pointers, and a sync moves pointers. Zeros at the end of a page
//! take no memory, and so a page of nothing else takes none: a segment that was just made costs
//! next to nothing, and a group of one small record what it holds, not the block that it fills.
//!
//! Invariants:
//! * There are as many pages as the length needs, and bytes behind the length are zeros.
//! * What is kept of a page does not end with a zero. So equal pages are kept equal.

use std::ops::Range;
use std::sync::Arc;

/// What the cache of a system works in. The journal writes whole ones.
pub(super) const PAGE_BYTES: usize = 4096;

/// A page up to its last byte that is not zero; `None` is a page of zeros.
#[derive(Clone, Debug, Default, PartialEq)]
struct Page(Option<Arc<[u8]>>);

/// The bytes of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Content {
    length: usize,
    pages: Vec<Page>,
}

/// Bytes that were written, with their place. They stay what they were.
#[derive(Clone, Debug)]
pub(super) struct Patch {
    pub(super) range: Range<usize>,
    pages: Vec<Page>,
}

impl Content {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Cuts, or grows by zeros.
    pub(super) fn resize(&mut self, length: usize) {
        let cut = length % PAGE_BYTES;
        self.pages.resize(length.div_ceil(PAGE_BYTES), Page::default());
        if length < self.length
            && cut > 0
            && let Some(page) = self.pages.last_mut()
            && page.kept(0..PAGE_BYTES).len() > cut
        {
            *page = Page::new(page.kept(0..cut));
        }
        self.length = length;
    }

    /// Grows by zeros, where it is shorter.
    pub(super) fn extend_to(&mut self, length: usize) {
        if self.length < length {
            self.resize(length);
        }
    }

    /// Copies what there is from `offset` on; returns how much.
    pub(super) fn read(&self, offset: usize, buffer: &mut [u8]) -> usize {
        let end = offset.saturating_add(buffer.len()).min(self.length);
        for (page, within, at) in parts(offset..end) {
            self.pages[page].read(within.start, &mut buffer[at..at + within.len()]);
        }
        end.saturating_sub(offset)
    }

    /// The bytes in `range`, as far as there are any.
    pub(super) fn bytes(&self, range: Range<usize>) -> Vec<u8> {
        let end = range.end.min(self.length);
        let mut bytes = vec![0; end.saturating_sub(range.start)];
        self.read(range.start, &mut bytes);
        bytes
    }

    /// Writes, and grows as needed.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.extend_to(offset + bytes.len());
        for (page, within, at) in parts(offset..offset + bytes.len()) {
            self.pages[page].write(within.start, &bytes[at..at + within.len()]);
        }
    }

    /// What stands in `range`, to be put elsewhere.
    pub(super) fn patch(&self, range: Range<usize>) -> Patch {
        let range = range.start.min(self.length)..range.end.min(self.length);
        let pages = range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES);
        Patch { pages: self.pages[pages].to_vec(), range }
    }

    /// Puts the part of a patch that lies in `range` into its place, within the length.
    pub(super) fn put(&mut self, patch: &Patch, range: Range<usize>) {
        let start = range.start.max(patch.range.start);
        let end = range.end.min(patch.range.end).min(self.length);
        let first = patch.range.start / PAGE_BYTES;
        let mut bytes = [0; PAGE_BYTES];
        for (page, within, _) in parts(start..end) {
            let from = &patch.pages[page - first];
            if within.len() == PAGE_BYTES {
                self.pages[page].clone_from(from);
            } else {
                let bytes = &mut bytes[..within.len()];
                from.read(within.start, bytes);
                self.pages[page].write(within.start, bytes);
            }
        }
    }

    /// Whether the part of a patch that lies in `range` would change anything.
    pub(super) fn differs(&self, patch: &Patch, range: Range<usize>) -> bool {
        let start = range.start.max(patch.range.start);
        let end = range.end.min(patch.range.end);
        let first = patch.range.start / PAGE_BYTES;
        end > self.length
            || parts(start..end).any(|(page, within, _)| {
                self.pages[page].differs(&patch.pages[page - first], within)
            })
    }

    /// Whether anything but zeros stands in `range`.
    pub(super) fn holds_data(&self, range: Range<usize>) -> bool {
        let mut parts = parts(range.start..range.end.min(self.length));
        parts.any(|(page, within, _)| !is_zeros(self.pages[page].kept(within)))
    }
}

impl Patch {
    pub(super) fn bytes(&self, range: Range<usize>) -> Vec<u8> {
        let first = self.range.start / PAGE_BYTES;
        let mut bytes = vec![0; range.len()];
        for (page, within, at) in parts(range) {
            self.pages[page - first].read(within.start, &mut bytes[at..at + within.len()]);
        }
        bytes
    }
}

impl Page {
    fn new(bytes: &[u8]) -> Self {
        let kept = without_zeros(bytes);
        Self((!kept.is_empty()).then(|| Arc::from(kept)))
    }

    /// What is kept of `range`; zeros come behind it.
    fn kept(&self, range: Range<usize>) -> &[u8] {
        let kept = self.0.as_deref().unwrap_or_default();
        let end = range.end.min(kept.len());
        &kept[range.start.min(end)..end]
    }

    fn read(&self, offset: usize, buffer: &mut [u8]) {
        let kept = self.kept(offset..offset + buffer.len());
        let (held, zeros) = buffer.split_at_mut(kept.len());
        held.copy_from_slice(kept);
        zeros.fill(0);
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.len() == PAGE_BYTES {
            *self = Self::new(bytes);
            return;
        }
        let mut page = [0; PAGE_BYTES];
        self.read(0, &mut page);
        page[offset..offset + bytes.len()].copy_from_slice(bytes);
        *self = Self::new(&page);
    }

    fn differs(&self, other: &Self, range: Range<usize>) -> bool {
        let is_same = |(one, other)| Arc::ptr_eq(one, other);
        if self.0.as_ref().zip(other.0.as_ref()).is_some_and(is_same) {
            return false;
        }
        let (one, other) = (self.kept(range.clone()), other.kept(range));
        let both = one.len().min(other.len());
        one[..both] != other[..both] || !is_zeros(&one[both..]) || !is_zeros(&other[both..])
    }
}

/// The bytes up to the last that is not zero.
fn without_zeros(bytes: &[u8]) -> &[u8] {
    // Chunks first, then words, then single bytes.
    let bytes = without_zero_chunks::<CHUNK_BYTES>(bytes);
    let bytes = without_zero_chunks::<WORD_BYTES>(bytes);
    &bytes[..bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)]
}

/// The bytes up to the last chunk that is not all zeros.
fn without_zero_chunks<const N: usize>(bytes: &[u8]) -> &[u8] {
    let (_, chunks) = bytes.as_rchunks::<N>();
    // All of a chunk, rather than up to the first that differs: that is done many at a time.
    let is_zeros = |chunk: &&[u8; N]| chunk.iter().fold(0, |any, byte| any | byte) == 0;
    let zeros = chunks.iter().rev().take_while(is_zeros).count();
    &bytes[..bytes.len() - zeros * N]
}

fn is_zeros(bytes: &[u8]) -> bool {
    without_zeros(bytes).is_empty()
}

/// How much is compared with zeros at once.
const CHUNK_BYTES: usize = 256;
const WORD_BYTES: usize = 16;

/// The pages that `range` touches: which, what of each, and how far from the start of the range.
fn parts(range: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>, usize)> {
    pieces(range.clone(), PAGE_BYTES).map(move |part| {
        let page = part.start / PAGE_BYTES;
        let start = part.start - page * PAGE_BYTES;
        (page, start..start + part.len(), part.start - range.start)
    })
}

/// `range`, cut at every multiple of `size`.
pub(super) fn pieces(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let from = start;
        start = (start / size + 1).saturating_mul(size).min(range.end);
        (from < range.end).then_some(from..start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_behaves_like_a_vector() {
        let mut random = 1_u64;
        let mut draw = |end: usize| {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (random >> 33) as usize % end
        };
        let (mut content, mut model) = (Content::default(), Vec::new());
        for _ in 0..2000 {
            let (offset, length) = (draw(20_000), draw(10_000));
            match draw(5) {
                0 => {
                    content.resize(offset);
                    model.resize(offset, 0);
                }
                1 => {
                    let patch = content.patch(offset..offset + length);
                    let kept = content.bytes(offset..offset + length);
                    assert_eq!(patch.bytes(patch.range.clone()), kept);
                    content.write(offset, &vec![9; length]);
                    let within = offset..offset + length / 2;
                    content.put(&patch, within.clone());
                    model.resize(model.len().max(offset + length), 0);
                    model[offset..offset + length].fill(9);
                    let end = kept.len().min(within.len());
                    model[offset..offset + end].copy_from_slice(&kept[..end]);
                }
                kind => {
                    let bytes = vec![if kind == 2 { 0 } else { draw(256) as u8 }; length];
                    content.write(offset, &bytes);
                    model.resize(model.len().max(offset + length), 0);
                    model[offset..offset + length].copy_from_slice(&bytes);
                }
            }
            assert_eq!(content.len(), model.len());
            assert_eq!(content.bytes(0..usize::MAX), model);
            let range = offset.min(model.len())..(offset + length).min(model.len());
            let data = model[range].iter().any(|byte| *byte != 0);
            assert_eq!(content.holds_data(offset..offset + length), data);
            let mut other = Content::default();
            other.write(0, &model);
            assert_eq!(content, other);
        }
    }

    #[test]
    fn a_patch_stays_what_it_was() {
        let mut content = Content::default();
        content.write(100, &[1; 5000]);
        let patch = content.patch(100..5100);
        assert!(!content.differs(&patch, 0..9000));
        content.write(200, &[2; 10]);
        assert!(content.differs(&patch, 0..9000));
        assert!(!content.differs(&patch, 210..9000));
        assert_eq!(patch.bytes(100..5100), [1; 5000]);
        content.put(&patch, 0..usize::MAX);
        assert_eq!(content.bytes(100..9000), [1; 5000]);
    }
}
