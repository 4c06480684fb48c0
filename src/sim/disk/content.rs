//! The bytes of a file, in pages that are shared until one of them is written to.
//!
//! A copy of a file is a copy of pointers, and a sync moves pointers. A page of zeros takes no
//! memory, so a segment that was just made costs next to nothing.
//!
//! Invariants:
//! * There are as many pages as the length needs, and bytes behind the length are zeros.

use std::ops::Range;
use std::sync::Arc;

/// What the cache of a system works in. The journal writes whole ones.
pub(super) const PAGE_BYTES: usize = 4096;

/// `None` is a page of zeros.
type Page = Option<Arc<[u8]>>;

static ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// The bytes of a file.
#[derive(Clone, Debug, Default)]
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
        self.pages.resize(length.div_ceil(PAGE_BYTES), None);
        if length < self.length
            && cut > 0
            && let Some(page) = self.pages.last_mut().and_then(Option::as_mut)
        {
            Arc::make_mut(page)[cut..].fill(0);
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
            buffer[at..at + within.len()].copy_from_slice(&self.page(page)[within]);
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
            let part = &bytes[at..at + within.len()];
            if part.len() == PAGE_BYTES {
                self.pages[page] = (*part != ZEROS).then(|| Arc::from(part));
            } else {
                self.page_mut(page)[within].copy_from_slice(part);
            }
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
        for (page, within, _) in parts(start..end) {
            let from = &patch.pages[page - first];
            if within.len() == PAGE_BYTES {
                self.pages[page].clone_from(from);
            } else {
                let from = from.as_deref().unwrap_or(&ZEROS);
                self.page_mut(page)[within.clone()].copy_from_slice(&from[within]);
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
                let from = patch.pages[page - first].as_deref().unwrap_or(&ZEROS);
                self.page(page)[within.clone()] != from[within]
            })
    }

    /// Whether anything but zeros stands in `range`.
    pub(super) fn holds_data(&self, range: Range<usize>) -> bool {
        parts(range.start..range.end.min(self.length)).any(|(page, within, _)| {
            self.pages[page].as_ref().is_some_and(|page| page[within.clone()] != ZEROS[within])
        })
    }

    fn page(&self, page: usize) -> &[u8] {
        self.pages[page].as_deref().unwrap_or(&ZEROS)
    }

    fn page_mut(&mut self, page: usize) -> &mut [u8] {
        Arc::make_mut(self.pages[page].get_or_insert_with(|| Arc::from(ZEROS.as_slice())))
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.length == other.length
            && self.pages.iter().zip(&other.pages).all(|(one, other)| match (one, other) {
                (Some(one), Some(other)) => one == other,
                (Some(page), None) | (None, Some(page)) => **page == ZEROS,
                (None, None) => true,
            })
    }
}

impl Patch {
    pub(super) fn bytes(&self, range: Range<usize>) -> Vec<u8> {
        let first = self.range.start / PAGE_BYTES;
        let mut bytes = Vec::with_capacity(range.len());
        for (page, within, _) in parts(range) {
            let page = self.pages[page - first].as_deref().unwrap_or(&ZEROS);
            bytes.extend_from_slice(&page[within]);
        }
        bytes
    }
}

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
