//! The one place that names bincode.
//!
//! Options are fixed here: little-endian, fixed-width integers, a limit, no trailing bytes.
//! Decoding takes a slice whose length was bounded and whose checksum was verified by the frame
//! around it; there is no decoding from a reader, so a forged length can never allocate more than
//! the slice holds. Types that pass through here have no `usize`, no maps, no recursion and no
//! sequences of zero-sized items. `bincode` is pinned; see "About bincode" in the README.

use std::fmt;

use bincode::Options;
use serde::{Deserialize, Serialize};

/// Bytes that do not decode as what they should be.
#[derive(Debug)]
pub struct DecodeError {
    what: &'static str,
    reason: String,
}

impl DecodeError {
    /// `what` could not be decoded because of `reason`.
    #[must_use]
    pub fn new(what: &'static str, reason: impl fmt::Display) -> Self {
        Self { what, reason: reason.to_string() }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot decode {}: {}", self.what, self.reason)
    }
}

impl std::error::Error for DecodeError {}

/// A value could not be encoded: its own `Serialize` failed, or it is over the limit.
#[derive(Debug)]
pub struct EncodeError {
    reason: String,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot encode: {}", self.reason)
    }
}

impl std::error::Error for EncodeError {}

/// Appends the encoding of `value` to `bytes`.
///
/// # Errors
///
/// Where `value` refuses to serialize.
pub fn encode_into<T: Serialize + ?Sized>(
    value: &T,
    bytes: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = bytes.len();
    options(u64::MAX).serialize_into(&mut *bytes, value).map_err(|err| {
        bytes.truncate(start);
        EncodeError { reason: describe(&err) }
    })
}

/// The encoding of `value`.
///
/// # Errors
///
/// Where `value` refuses to serialize.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    // To measure it is far less than to grow step by step.
    let size = options(u64::MAX).serialized_size(value);
    let size = size.map_err(|err| EncodeError { reason: describe(&err) })?;
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    encode_into(value, &mut bytes)?;
    Ok(bytes)
}

/// The value that `bytes` encode, all of them. `what` names it in the error.
///
/// # Errors
///
/// Where the bytes are too short, too long, or not of this type.
pub fn decode<'a, T: Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<T, DecodeError> {
    options(bytes.len() as u64)
        .deserialize(bytes)
        .map_err(|err| DecodeError::new(what, describe(&err)))
}

/// The value that `bytes` begin with. `what` names it in the error.
///
/// # Errors
///
/// Where the bytes are too short, or not of this type.
pub fn decode_first<'a, T: Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<T, DecodeError> {
    options(bytes.len() as u64)
        .allow_trailing_bytes()
        .deserialize(bytes)
        .map_err(|err| DecodeError::new(what, describe(&err)))
}

fn options(limit: u64) -> impl Options {
    bincode::DefaultOptions::new()
        .with_little_endian()
        .with_fixint_encoding()
        .with_limit(limit)
        .reject_trailing_bytes()
}

/// bincode prints an end of input as an empty I/O error.
fn describe(err: &bincode::ErrorKind) -> String {
    match err {
        bincode::ErrorKind::Io(_) | bincode::ErrorKind::SizeLimit => "ends too early".into(),
        other => other.to_string(),
    }
}
