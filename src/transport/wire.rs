//! The wire format: how hellos and messages become frames in a stream of bytes, and back.
//!
//! A frame is a header of 36 bytes, little-endian, and a body:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic, `IDLP` |
//! | 4 | 2 | protocol: 1 of a hello or refusal; of a message, the one agreed on |
//! | 6 | 1 | kind: 1 hello, 2 refusal, 3 message |
//! | 7 | 1 | zero |
//! | 8 | 4 | length of the body |
//! | 12 | 4 | CRC-32 of the body |
//! | 16 | 16 | cluster id of the sender, as its hello says |
//! | 32 | 4 | CRC-32 of the 32 bytes before |
//! | 36 | | body: a hello or a message as [`codec`] encodes it; of a refusal one byte, its code |
//!
//! A connection begins with one hello each way, or a hello answered by a refusal; only then come
//! messages, from the side that dialed. The header has a checksum of its own, so that a damaged
//! length is noticed before anything waits for bytes that never come.
//!
//! Invariants:
//! * No length is believed before the header's checksum passed, and none above the maximum of its
//!   kind and stage.
//! * A [`Decoder`] holds less than twice the bytes that it was fed and has not yet given out, plus
//!   a constant: it grows as bytes arrive, never by what a header announces.
//! * A body is decoded only after its checksum and its cluster were found right.
//! * After an error a decoder says nothing but that error: a stream that was wrong once has no
//!   frame boundary to go on from.

use std::fmt;

use super::Refusal;
use crate::types::codec::{self, DecodeError};
use crate::types::hello::Hello;
use crate::types::ids::ClusterId;
use crate::types::limits::{ADDRESS_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::types::message::Message;

/// The protocol of hellos and refusals, for all time: by them builds agree on what they speak.
pub const HELLO_PROTOCOL: u16 = 1;

/// Length of the header, in bytes.
pub const HEADER_BYTES: usize = 36;

/// Largest frame before the hello was accepted, in bytes, header included.
pub const HELLO_BYTES_MAX: usize = 4 * 1024;

const MAGIC: [u8; 4] = *b"IDLP";
/// How much a decoder for messages reads at once.
const READ_BYTES: usize = 64 * 1024;
/// A decoder that once held a large message gives the memory back when it holds nothing.
const RETAINED_BYTES_MAX: usize = 1024 * 1024;

const _: () = assert!(HELLO_BYTES_MAX < READ_BYTES);
const _: () = assert!(HEADER_BYTES + ADDRESS_BYTES_MAX + 1024 <= HELLO_BYTES_MAX, "a hello fits");
const _: () = assert!(MESSAGE_BYTES_MAX <= u32::MAX as usize);

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Who is speaking. The first frame each way.
    Hello(Hello),
    /// The hello was not accepted; the connection ends.
    Refused(Refusal),
    /// A message.
    Message(Message),
}

/// Bytes that are no frame that belongs here. The connection cannot be used any further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The frame does not begin as one.
    Magic,
    /// The frame is of another protocol.
    Protocol {
        /// What its header says.
        found: u16,
        /// What the hellos agreed on; that of hellos before.
        wanted: u16,
    },
    /// The header was damaged.
    HeaderChecksum,
    /// No frame is of this kind.
    Kind(u8),
    /// A frame of this kind does not come at this point of a connection.
    Misplaced(u8),
    /// The header announces more than a frame may hold.
    Length {
        /// The frame that was announced, in bytes.
        announced: u64,
        /// The largest that is allowed here.
        max: usize,
    },
    /// The frame is of another cluster than the hello of its connection.
    Cluster {
        /// What the header says.
        found: ClusterId,
        /// What the hello said.
        wanted: ClusterId,
    },
    /// The body was damaged.
    BodyChecksum,
    /// The body is not what its kind says.
    Body(String),
}

/// What the two hellos of a connection agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The cluster of who sends.
    pub cluster: ClusterId,
    /// How messages are laid out.
    pub protocol: u16,
}

impl Terms {
    /// Of a connection on which `sender` sends, whose hello was answered with `receiver`.
    ///
    /// # Errors
    ///
    /// Where they speak no protocol in common.
    pub fn of(sender: &Hello, receiver: &Hello) -> Result<Self, Refusal> {
        let protocol = sender.protocols.common(receiver.protocols);
        let protocol = protocol.ok_or(Refusal::NoCommonProtocol)?;
        Ok(Self { cluster: sender.cluster, protocol })
    }
}

/// With the first protocol.
impl From<ClusterId> for Terms {
    fn from(cluster: ClusterId) -> Self {
        Self { cluster, protocol: HELLO_PROTOCOL }
    }
}

/// A message that does not fit a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// The frame it would make, in bytes.
    pub bytes: usize,
}

/// Takes bytes as they arrive, and gives out the frames that are complete.
pub struct Decoder {
    /// What was fed lies in `start..end`; the rest is room.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Whose messages are expected; before that, only hello and refusal are.
    terms: Option<Terms>,
    failed: Option<WireError>,
}

impl Decoder {
    /// For the beginning of a connection: accepts a hello or a refusal.
    #[must_use]
    pub fn new() -> Self {
        Self { buffer: Vec::new(), start: 0, end: 0, terms: None, failed: None }
    }

    /// From now on accepts messages, and only on these terms.
    pub fn expect_messages(&mut self, terms: impl Into<Terms>) {
        self.terms = Some(terms.into());
    }

    /// Room to read into; never empty. [`Decoder::fill`] tells how much of it was used.
    pub fn room(&mut self) -> &mut [u8] {
        let unread = self.end - self.start;
        if unread == 0 {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > RETAINED_BYTES_MAX {
                self.buffer = Vec::new();
            }
        }
        let read = if self.terms.is_some() { READ_BYTES } else { HELLO_BYTES_MAX };
        if self.buffer.len() - self.end < read / 2 && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, unread);
        }
        if self.buffer.len() - self.end < read / 2 {
            // As much again as is there: a large message takes few reads, and a forged length no
            // memory.
            let room = unread.clamp(read, MESSAGE_BYTES_MAX);
            self.buffer.reserve_exact(unread + room - self.buffer.len());
            self.buffer.resize(unread + room, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// `count` bytes were read into the room.
    ///
    /// # Panics
    ///
    /// Where there was no room for as many.
    pub fn fill(&mut self, count: usize) {
        assert!(count <= self.buffer.len() - self.end, "{count} bytes read into less room");
        self.end += count;
    }

    /// Takes a copy of `bytes`.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.room();
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            self.fill(count);
            bytes = &bytes[count..];
        }
    }

    /// The next frame, or `None` where more bytes are needed.
    ///
    /// # Errors
    ///
    /// Where the bytes are no frame that may come here; from then on, always.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        if let Some(err) = &self.failed {
            return Err(err.clone());
        }
        self.try_next().inspect_err(|err| self.failed = Some(err.clone()))
    }

    /// How many bytes of memory this holds.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    fn try_next(&mut self) -> Result<Option<Frame>, WireError> {
        let unread = &self.buffer[self.start..self.end];
        let magic = unread.len().min(MAGIC.len());
        if unread[..magic] != MAGIC[..magic] {
            return Err(WireError::Magic);
        }
        let Some(header) = unread.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = Header::decode(header, self.terms)?;
        let Some(body) = unread[HEADER_BYTES..].get(..header.length) else { return Ok(None) };
        if crc32fast::hash(body) != header.body_crc {
            return Err(WireError::BodyChecksum);
        }
        let frame = header.decode_body(body)?;
        self.start += HEADER_BYTES + header.length;
        Ok(Some(frame))
    }
}

/// The frame of a hello.
///
/// # Panics
///
/// Where the address is longer than one may be: the settings that it comes from are checked.
#[must_use]
pub fn encode_hello(hello: &Hello) -> Vec<u8> {
    let address = hello.address.len();
    assert!(address <= ADDRESS_BYTES_MAX, "a hello with an address of {address} bytes");
    let mut bytes = vec![0; HEADER_BYTES];
    codec::encode_into(hello, &mut bytes).expect("plain data always encodes");
    assert!(bytes.len() <= HELLO_BYTES_MAX, "a hello of {} bytes", bytes.len());
    seal(&mut bytes, Kind::Hello, hello.cluster.into());
    bytes
}

/// The frame that refuses a hello, said by a replica of `cluster`.
#[must_use]
pub fn encode_refusal(refusal: &Refusal, cluster: ClusterId) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes.push(refusal_code(refusal));
    seal(&mut bytes, Kind::Refusal, cluster.into());
    bytes
}

/// Appends the frame of a message to `bytes`, or leaves them as they are.
///
/// # Errors
///
/// Where the frame would pass [`MESSAGE_BYTES_MAX`].
///
/// # Panics
///
/// Never: messages consist of types that always encode.
pub fn encode_message(
    message: &Message,
    terms: impl Into<Terms>,
    bytes: &mut Vec<u8>,
) -> Result<(), TooLarge> {
    let terms = terms.into();
    let start = bytes.len();
    bytes.resize(start + HEADER_BYTES, 0);
    codec::encode_into(message, bytes).expect("plain data always encodes");
    let length = bytes.len() - start;
    if length > MESSAGE_BYTES_MAX {
        bytes.truncate(start);
        return Err(TooLarge { bytes: length });
    }
    seal(&mut bytes[start..], Kind::Message, terms);
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Hello = 1,
    Refusal = 2,
    Message = 3,
}

impl TryFrom<u8> for Kind {
    type Error = WireError;

    fn try_from(number: u8) -> Result<Self, WireError> {
        match number {
            1 => Ok(Self::Hello),
            2 => Ok(Self::Refusal),
            3 => Ok(Self::Message),
            other => Err(WireError::Kind(other)),
        }
    }
}

struct Header {
    kind: Kind,
    cluster: ClusterId,
    length: usize,
    body_crc: u32,
}

impl Header {
    /// The header that `bytes` hold, where it may come at this point of a connection.
    fn decode(bytes: &[u8; HEADER_BYTES], terms: Option<Terms>) -> Result<Self, WireError> {
        // The protocol is looked at first: another one may have another header.
        let found = u16::from_le_bytes(array(bytes, 4));
        let wanted = terms.map_or(HELLO_PROTOCOL, |terms| terms.protocol);
        if found != wanted {
            return Err(WireError::Protocol { found, wanted });
        }
        if crc32fast::hash(&bytes[..32]) != u32::from_le_bytes(array(bytes, 32)) {
            return Err(WireError::HeaderChecksum);
        }
        let kind = Kind::try_from(bytes[6])?;
        if bytes[7] != 0 {
            return Err(WireError::Kind(bytes[7]));
        }
        if (kind == Kind::Message) != terms.is_some() {
            return Err(WireError::Misplaced(bytes[6]));
        }
        let max = if terms.is_some() { MESSAGE_BYTES_MAX } else { HELLO_BYTES_MAX };
        let length = u32::from_le_bytes(array(bytes, 8));
        let announced = u64::from(length) + HEADER_BYTES as u64;
        if announced > max as u64 {
            return Err(WireError::Length { announced, max });
        }
        let cluster = ClusterId(u128::from_le_bytes(array(bytes, 16)));
        let other = terms.map(|terms| terms.cluster).filter(|wanted| *wanted != cluster);
        if let Some(wanted) = other {
            return Err(WireError::Cluster { found: cluster, wanted });
        }
        let body_crc = u32::from_le_bytes(array(bytes, 12));
        Ok(Self { kind, cluster, length: length as usize, body_crc })
    }

    fn decode_body(&self, body: &[u8]) -> Result<Frame, WireError> {
        let malformed = |err: DecodeError| WireError::Body(err.to_string());
        match self.kind {
            Kind::Hello => {
                // What a later build says behind is not for this one.
                let hello: Hello = codec::decode_first("hello", body).map_err(malformed)?;
                if hello.cluster != self.cluster {
                    let (found, wanted) = (self.cluster, hello.cluster);
                    return Err(WireError::Cluster { found, wanted });
                }
                Ok(Frame::Hello(hello))
            }
            Kind::Refusal => match body {
                [code, ..] => Ok(Frame::Refused(refusal_from(*code))),
                [] => Err(WireError::Body("cannot decode refusal: wanted a byte".into())),
            },
            Kind::Message => codec::decode("message", body).map(Frame::Message).map_err(malformed),
        }
    }
}

/// Writes the header of the frame that `frame` holds, before its body.
fn seal(frame: &mut [u8], kind: Kind, terms: Terms) {
    let (header, body) = frame.split_at_mut(HEADER_BYTES);
    let length = u32::try_from(body.len()).expect("bounded by the caller");
    header[..4].copy_from_slice(&MAGIC);
    header[4..6].copy_from_slice(&terms.protocol.to_le_bytes());
    header[6] = kind as u8;
    header[7] = 0;
    header[8..12].copy_from_slice(&length.to_le_bytes());
    header[12..16].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    header[16..32].copy_from_slice(&terms.cluster.0.to_le_bytes());
    let crc = crc32fast::hash(&header[..32]);
    header[32..].copy_from_slice(&crc.to_le_bytes());
}

fn refusal_code(refusal: &Refusal) -> u8 {
    match refusal {
        Refusal::WrongCluster => 1,
        Refusal::UnknownReplica => 2,
        Refusal::WrongReceiver => 3,
        Refusal::SelfConnection => 4,
        Refusal::WrongIncarnation => 5,
        Refusal::Regressed => 6,
        Refusal::TooManyStrangers => 7,
        Refusal::NoCommonProtocol => 8,
        Refusal::Unknown(code) => *code,
    }
}

fn refusal_from(code: u8) -> Refusal {
    match code {
        1 => Refusal::WrongCluster,
        2 => Refusal::UnknownReplica,
        3 => Refusal::WrongReceiver,
        4 => Refusal::SelfConnection,
        5 => Refusal::WrongIncarnation,
        6 => Refusal::Regressed,
        7 => Refusal::TooManyStrangers,
        8 => Refusal::NoCommonProtocol,
        other => Refusal::Unknown(other),
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has N bytes")
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("unread", &(self.end - self.start)).finish_non_exhaustive()
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("no frame begins like this"),
            Self::Protocol { found, wanted } => write!(f, "protocol {found}, wanted {wanted}"),
            Self::HeaderChecksum => f.write_str("frame header: checksum mismatch"),
            Self::Kind(kind) => write!(f, "unknown kind of frame {kind}"),
            Self::Misplaced(kind) => write!(f, "a frame of kind {kind} does not come here"),
            Self::Length { announced, max } => {
                write!(f, "a frame of {announced} bytes, wanted at most {max}")
            }
            Self::Cluster { found, wanted } => {
                write!(f, "a frame of cluster {found}, wanted {wanted}")
            }
            Self::BodyChecksum => f.write_str("frame body: checksum mismatch"),
            Self::Body(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for WireError {}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message of {} bytes, wanted at most {MESSAGE_BYTES_MAX}", self.bytes)
    }
}

impl std::error::Error for TooLarge {}
