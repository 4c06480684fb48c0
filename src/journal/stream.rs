//! A checkpoint as a stream of bytes: what a backup is, wherever it is kept.
//!
//! The bytes are those of a checkpoint's file (`checkpoint`), so each block is checked in its place
//! as it is read, and what is missing at the end is noticed. They may come from a disk, a socket or
//! a tape; no more than a block is held at a time.
//!
//! Not here: what the pieces mean (`store/image.rs`), who asks for a backup (`runtime/backups.rs`).

use std::fmt;
use std::io::{self, Read, Write};

use super::checkpoint::{CHECKPOINT_MAGIC, CheckpointHeader};
use super::parts::{BadPart, Next, Parts};

/// Why bytes are no backup, or cannot be read.
#[derive(Debug)]
pub enum StreamError {
    /// The reader fails.
    Io {
        /// How many bytes were read before.
        offset: u64,
        /// How it fails.
        source: io::Error,
    },
    /// The bytes up to `offset` are none that a backup has.
    Bad {
        /// How many bytes were read.
        offset: u64,
        /// What is wrong.
        why: BadPart,
    },
    /// It is something else altogether.
    Foreign {
        /// What it begins with: eight bytes, if there are so many.
        first: Vec<u8>,
    },
    /// There is less than a whole one.
    Short {
        /// How many bytes there are.
        offset: u64,
    },
}

/// Writes a checkpoint of these pieces; returns how many bytes it has. A writer that has a buffer
/// is flushed.
///
/// # Errors
///
/// Where the writer fails; some of the bytes may be written.
pub fn write(
    header: &CheckpointHeader,
    pieces: impl IntoIterator<Item = Vec<u8>>,
    to: &mut dyn Write,
) -> io::Result<u64> {
    let (mut bytes, mut link) = header.encode();
    let mut count = 0;
    for piece in pieces {
        link.push(&piece, &mut bytes);
        to.write_all(&bytes)?;
        count += bytes.len() as u64;
        bytes.clear();
    }
    link.push(&[], &mut bytes);
    to.write_all(&bytes)?;
    to.flush()?;
    Ok(count + bytes.len() as u64)
}

/// Reads a checkpoint to its end, which must be that of the stream, and hands out its pieces;
/// returns its header and how many bytes it has.
///
/// # Errors
///
/// Where the stream is none, or `take` returns one.
pub fn read<E: From<StreamError>>(
    from: &mut dyn Read,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(CheckpointHeader, u64), E> {
    let (mut parts, mut offset) = (Parts::new(), 0_u64);
    let (mut buffer, mut is_over) = (vec![0; BUFFER_BYTES], false);
    let mut first = Vec::new();
    loop {
        let count = match from.read(&mut buffer) {
            Ok(count) => count,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(StreamError::Io { offset, source }.into()),
        };
        if count == 0 {
            break;
        }
        offset += count as u64;
        let missing = CHECKPOINT_MAGIC.len() - first.len();
        first.extend_from_slice(&buffer[..count.min(missing)]);
        if !CHECKPOINT_MAGIC.starts_with(&first) {
            return Err(StreamError::Foreign { first }.into());
        }
        let bad = |why| StreamError::Bad { offset, why };
        parts.push(&buffer[..count]).map_err(bad)?;
        while !is_over {
            match parts.take().map_err(bad)? {
                Next::Piece(piece) => take(&piece)?,
                Next::Wait => break,
                Next::End => is_over = true,
            }
        }
    }
    match parts.header().filter(|_| is_over) {
        Some(header) => Ok((header, offset)),
        None => Err(StreamError::Short { offset }.into()),
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { offset, source } => write!(f, "cannot be read behind {offset}: {source}"),
            Self::Bad { offset, why } => write!(f, "within the first {offset} bytes: {why}"),
            Self::Foreign { first } => write!(
                f,
                "is none: begins with \"{}\", wanted \"{}\"",
                first.escape_ascii(),
                CHECKPOINT_MAGIC.escape_ascii()
            ),
            Self::Short { offset } => write!(f, "ends after {offset} bytes, before its end"),
        }
    }
}

impl std::error::Error for StreamError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Bad { why, .. } => Some(why),
            Self::Foreign { .. } | Self::Short { .. } => None,
        }
    }
}

/// How many bytes are asked for at a time.
const BUFFER_BYTES: usize = 64 * 1024;
