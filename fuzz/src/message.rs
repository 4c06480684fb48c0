//! What a peer sends: streams of frames, and bodies of messages.
//!
//! Of the input's first byte the lowest bit says which of two things the rest is:
//!
//! * A **stream**, as it comes over a connection: first a hello or a refusal, then messages. It is
//!   fed whole and in pieces. Asserted: both give the same frames and the same error; an error is
//!   final; the frames, encoded again, are the bytes that they came from, but for what a hello or
//!   refusal says behind what is known here; the decoder holds at most twice what it was fed and
//!   has not given out, and a constant.
//! * The **body** of a message or of a hello, whose frame is made around it: as it is, and once
//!   more with the hashes of its entries made right. Asserted: what decodes encodes to the same
//!   bytes, and comes out of a decoder as it went in; what does not decode ends the connection.

use indelible::transport::wire::{
    Decoder, Frame, HEADER_BYTES, WireError, encode_hello, encode_message, encode_refusal,
};
use indelible::types::codec;
use indelible::types::hello::Hello;
use indelible::types::ids::{ClusterId, ContentHash};
use indelible::types::message::Message;

use crate::allocations::bounded;
use crate::checksum::{crc32, put_crc32};
use crate::input::Input;

const CLUSTER: ClusterId = ClusterId(0x1234_5678_9abc_def0_0fed_cba9_8765_4321);
/// What a decoder may hold beside twice its input: what it reads at once, twice.
const DECODER_BYTES: usize = 2 * 64 * 1024;

/// Takes `data` as a stream or as a body.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte();
    match how % 4 {
        0 | 2 => body(input.rest()),
        1 => stream(input.rest(), usize::from(how / 4) + 1),
        _ => hello(input.rest()),
    }
}

/// What came out of a stream, and with what it ended.
type Told = (Vec<Frame>, Option<WireError>);

fn stream(bytes: &[u8], piece: usize) {
    let mut sealed = bytes.to_vec();
    seal_frames(&mut sealed);
    for bytes in [bytes, &sealed] {
        let whole = bounded(bytes.len(), || receive(bytes, bytes.len().max(1)));
        let pieces = bounded(bytes.len(), || receive(bytes, piece));
        assert_eq!(whole, pieces, "it matters how the bytes arrive");
        let mut at = 0;
        for frame in &whole.0 {
            let again = encode(frame, &bytes[at..]);
            // Of a hello or refusal with more behind it, the header has another length, and other
            // checksums.
            let from = if matches!(frame, Frame::Message(_)) { 0 } else { HEADER_BYTES };
            let same = bytes[at + from..].starts_with(&again[from..]);
            assert!(same, "another encoding of {frame:?}");
            at += length(&bytes[at..]);
        }
    }
}

/// How long the frame is that these bytes begin with.
fn length(bytes: &[u8]) -> usize {
    HEADER_BYTES + u32::from_le_bytes(array(&bytes[8..12])) as usize
}

/// Gives every frame in the stream right checksums, where its length can be followed.
fn seal_frames(mut bytes: &mut [u8]) {
    while bytes.len() >= HEADER_BYTES {
        let length = u32::from_le_bytes(array(&bytes[8..12])) as usize;
        let length = length.min(bytes.len() - HEADER_BYTES);
        let (frame, rest) = bytes.split_at_mut(HEADER_BYTES + length);
        seal(frame);
        bytes = rest;
    }
}

/// Makes the checksums of a frame right, that of its body and that of its header.
fn seal(frame: &mut [u8]) {
    let sum = crc32(&frame[HEADER_BYTES..]);
    frame[12..16].copy_from_slice(&sum.to_le_bytes());
    put_crc32(frame, HEADER_BYTES - 4);
}

fn receive(bytes: &[u8], piece: usize) -> Told {
    let mut decoder = Decoder::new();
    let (mut frames, mut fed, mut given) = (Vec::new(), 0, 0);
    let all = bytes;
    for bytes in bytes.chunks(piece) {
        decoder.feed(bytes);
        fed += bytes.len();
        loop {
            let unread = fed - given;
            assert!(decoder.memory_bytes() <= 2 * unread + DECODER_BYTES);
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    given += length(&all[given..]);
                    if let Frame::Hello(hello) = &frame {
                        decoder.expect_messages(hello.cluster);
                    }
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(err) => {
                    assert_eq!(decoder.next_frame(), Err(err.clone()), "an error is final");
                    return (frames, Some(err));
                }
            }
        }
    }
    (frames, None)
}

/// The frame, encoded as the sender did whose bytes were `bytes`.
fn encode(frame: &Frame, bytes: &[u8]) -> Vec<u8> {
    // A refusal and a message do not say of which cluster they were; their headers did.
    let cluster = ClusterId(u128::from_le_bytes(array(&bytes[16..32])));
    match frame {
        Frame::Hello(hello) => encode_hello(hello),
        Frame::Refused(refusal) => encode_refusal(refusal, cluster),
        Frame::Message(message) => {
            let mut bytes = Vec::new();
            encode_message(message, cluster, &mut bytes).expect("it came in a frame");
            bytes
        }
    }
}

fn hello(body: &[u8]) {
    let decoded = codec::decode::<Hello>("hello", body);
    let Ok(hello) = decoded else { return };
    assert_eq!(codec::encode(&hello).expect("plain data always encodes"), body);
    let (frames, err) = receive(&encode_hello(&hello), usize::MAX);
    assert_eq!((frames.as_slice(), err), ([Frame::Hello(hello)].as_slice(), None));
}

fn body(body: &[u8]) {
    message(body);
    let mut hashed = body.to_vec();
    rehash(&mut hashed);
    if hashed != body {
        message(&hashed);
    }
}

fn message(body: &[u8]) {
    let decoded = bounded(body.len(), || codec::decode::<Message>("message", body));
    let Ok(message) = decoded else { return };
    let mut frame = Vec::new();
    encode_message(&message, CLUSTER, &mut frame).expect("the input is shorter than a frame");
    assert_eq!(&frame[HEADER_BYTES..], body, "another encoding of {message:?}");
    let mut decoder = Decoder::new();
    decoder.expect_messages(CLUSTER);
    decoder.feed(&frame);
    assert_eq!(decoder.next_frame(), Ok(Some(Frame::Message(message))));
    assert_eq!(decoder.next_frame(), Ok(None));
}

/// Makes the hash before each entry right, as far as the bytes can be followed.
fn rehash(body: &mut [u8]) {
    // Where the number of entries stands, and what stands before each of them.
    let Some(tag) = body.first_chunk().map(|tag| u32::from_le_bytes(*tag)) else { return };
    let (count_at, before) = match tag {
        2 => (4 + 16 + 16 + 16 + 8 + 4 + 4 + 8, 8 + 16), // Promise: each vote has slot and ballot.
        3 => (4 + 16 + 8, 0),                            // Accept.
        7 => (4 + 8, 0),                                 // Chosen.
        _ => return,
    };
    let mut at = count_at + 8;
    let Some(count) = body.get(count_at..at).map(|bytes| u64::from_le_bytes(array(bytes))) else {
        return;
    };
    for _ in 0..count {
        let hash = at + before;
        let Some(length) = body.get(hash + 16..hash + 24) else { return };
        let length = usize::try_from(u64::from_le_bytes(array(length))).unwrap_or(usize::MAX);
        let begin = hash + 24;
        let Some(entry) = begin.checked_add(length).and_then(|end| body.get(begin..end)) else {
            return;
        };
        let sum = ContentHash::of(entry).0.to_le_bytes();
        body[hash..hash + 16].copy_from_slice(&sum);
        at = begin + length;
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the slice has N bytes")
}
