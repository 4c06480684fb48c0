//! A checkpoint in parts: how a peer gets it, and puts it together.
//!
//! A part is some bytes of the file, from an offset on; where it begins and ends has nothing to do
//! with the blocks. So who gets the file goes on where it stopped, and holds no more than a part
//! and a block at a time. Each block is checked as it becomes whole: its link hangs on all that
//! came before, up to the header of the replica that took the checkpoint.
//!
//! Not here: who asks whom for what (`runtime/receiving.rs`, `runtime/sending.rs`).

use std::fmt;

use crate::types::ids::ReplicaId;

use super::checkpoint::{
    BLOCK_HEAD_BYTES, BadHeader, BlockHead, Checkpoint, CheckpointHeader, HEADER_BYTES, Link,
};
use super::disk::Disk;
use super::error::JournalError;
use super::frame::FORMAT_VERSION;

/// Some bytes of a checkpoint, read for a peer.
pub struct Part<D: Disk> {
    /// For whom.
    pub to: ReplicaId,
    /// Of which checkpoint.
    pub checkpoint: Checkpoint<D>,
    /// Where in the file they begin.
    pub offset: u64,
    /// The bytes, or why they cannot be read.
    pub bytes: Result<Vec<u8>, JournalError>,
}

/// A checkpoint as far as it has come.
#[derive(Default)]
pub struct Parts {
    header: Option<CheckpointHeader>,
    /// What the next block continues; `None` before the header, and behind the end.
    link: Option<Link>,
    /// What has come and was not taken.
    bytes: Vec<u8>,
    /// How many of them were.
    taken: usize,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A piece of the image.
    Piece(Vec<u8>),
    /// Nothing, before more has come.
    Wait,
    /// Nothing any more.
    End,
}

/// Why bytes are no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPart {
    /// They do not begin with a header.
    Header,
    /// The header is of a version that is not known here.
    Version(u16),
    /// No block where one must be, or its content is another one.
    Block,
    /// More than a checkpoint.
    Rest,
}

impl BadPart {
    /// Whether a later build may have made it.
    #[must_use]
    pub fn is_later(&self) -> bool {
        matches!(self, Self::Version(version) if FORMAT_VERSION < *version)
    }
}

impl Parts {
    /// Nothing has come.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// More has come.
    ///
    /// # Errors
    ///
    /// Where it is no checkpoint, as far as can be told before the next block is whole.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), BadPart> {
        self.bytes.drain(..std::mem::take(&mut self.taken));
        self.bytes.extend_from_slice(bytes);
        if self.header.is_none() && HEADER_BYTES <= self.bytes.len() {
            let (header, link) =
                CheckpointHeader::decode(&self.bytes).map_err(|bad| match bad {
                    BadHeader::Damaged => BadPart::Header,
                    BadHeader::Version(version) => BadPart::Version(version),
                })?;
            (self.header, self.link) = (Some(header), Some(link));
            self.taken = HEADER_BYTES;
        }
        self.head().map(|_| ())
    }

    /// What the checkpoint is of, once that has come.
    #[must_use]
    pub fn header(&self) -> Option<CheckpointHeader> {
        self.header
    }

    /// Bytes that have come and were not taken.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Whether [`take`](Self::take) has more to say than that more must come.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let is_over = self.header.is_some() && self.link.is_none();
        is_over || self.head().map_or(true, |head| head.is_some_and(|it| self.holds(it)))
    }

    /// The next piece, if it has come.
    ///
    /// # Errors
    ///
    /// Where it is not what must come next. Then nothing more may be asked of this.
    pub fn take(&mut self) -> Result<Next, BadPart> {
        let Some(head) = self.head()? else {
            let is_over = self.header.is_some() && self.link.is_none();
            return Ok(if is_over { Next::End } else { Next::Wait });
        };
        let Some(link) = self.link.filter(|_| self.holds(head)) else { return Ok(Next::Wait) };
        let begin = self.taken + BLOCK_HEAD_BYTES;
        let payload = &self.bytes[begin..begin + head.length];
        let behind = link.behind(head, payload).ok_or(BadPart::Block)?;
        let payload = payload.to_vec();
        self.taken += head.block_bytes();
        self.link = (head.length > 0).then_some(behind);
        match payload.is_empty() {
            true if self.taken < self.bytes.len() => Err(BadPart::Rest),
            true => Ok(Next::End),
            false => Ok(Next::Piece(payload)),
        }
    }

    /// The head of the next block, if it has come.
    fn head(&self) -> Result<Option<BlockHead>, BadPart> {
        let left = &self.bytes[self.taken..];
        let Some(link) = self.link else {
            let is_over = self.header.is_some() && !left.is_empty();
            return if is_over { Err(BadPart::Rest) } else { Ok(None) };
        };
        let Some(head) = left.first_chunk::<BLOCK_HEAD_BYTES>() else { return Ok(None) };
        link.head(head).map(Some).ok_or(BadPart::Block)
    }

    fn holds(&self, head: BlockHead) -> bool {
        head.block_bytes() <= self.bytes.len() - self.taken
    }
}

impl<D: Disk> fmt::Debug for Part<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, checkpoint, offset, .. } = self;
        write!(f, "from {offset} of {checkpoint:?}, for {to}")
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes not taken, of {:?}", self.bytes.len() - self.taken, self.header)
    }
}

impl fmt::Display for BadPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("no header of a checkpoint"),
            Self::Version(version) => {
                write!(f, "a checkpoint of version {version}, supported is {FORMAT_VERSION}")
            }
            Self::Block => f.write_str("not the block that comes next"),
            Self::Rest => f.write_str("more than a checkpoint"),
        }
    }
}

impl std::error::Error for BadPart {}
