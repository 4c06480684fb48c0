//! Frames: what goes in comes out, however it is cut; and what is no frame costs nothing.

use indelible::transport::Refusal;
use indelible::transport::wire::{
    self, Decoder, Frame, HEADER_BYTES, HELLO_BYTES_MAX, Terms, WireError,
};
use indelible::types::hello::Hello;
use indelible::types::ids::ClusterId;
use indelible::types::limits::{ADDRESS_BYTES_MAX, MESSAGE_BYTES_MAX};
use indelible::types::message::Message;
use indelible::types::protocols::Protocols;
use proptest::prelude::*;

use crate::samples::{self, CLUSTER};

/// What a decoder may hold beyond twice what it was fed.
const MEMORY_CONSTANT: usize = 256 * 1024;

fn frames_of(messages: &[Message]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        wire::encode_message(message, CLUSTER, &mut bytes).unwrap();
    }
    bytes
}

fn message_decoder() -> Decoder {
    let mut decoder = Decoder::new();
    decoder.expect_messages(CLUSTER);
    decoder
}

fn drain(decoder: &mut Decoder) -> Result<Vec<Message>, WireError> {
    let mut messages = Vec::new();
    while let Some(frame) = decoder.next_frame()? {
        match frame {
            Frame::Message(message) => messages.push(message),
            other => panic!("unexpected {other:?}"),
        }
    }
    Ok(messages)
}

/// The error for one frame of a message whose bytes were changed, with its checksums as they were.
fn error_after(change: impl FnOnce(&mut Vec<u8>)) -> WireError {
    let mut bytes = frames_of(&[samples::numbered(1)]);
    change(&mut bytes);
    let mut decoder = message_decoder();
    decoder.feed(&bytes);
    drain(&mut decoder).unwrap_err()
}

fn reseal(frame: &mut [u8]) {
    let crc = crc32fast::hash(&frame[..32]);
    frame[32..36].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn frames_are_the_same_at_every_split() {
    let messages = samples::one_of_each();
    let bytes = frames_of(&messages);
    for split in 0..=bytes.len() {
        let mut decoder = message_decoder();
        decoder.feed(&bytes[..split]);
        let mut found = drain(&mut decoder).unwrap();
        decoder.feed(&bytes[split..]);
        found.extend(drain(&mut decoder).unwrap());
        assert_eq!(found, messages, "split at {split}");
    }
    let mut decoder = message_decoder();
    let mut found = Vec::new();
    for byte in bytes {
        decoder.feed(&[byte]);
        found.extend(drain(&mut decoder).unwrap());
    }
    assert_eq!(found, messages);
}

#[test]
fn hello_and_refusal_come_before_messages_and_not_after() {
    let hello = samples::hello(3);
    let mut decoder = Decoder::new();
    decoder.feed(&wire::encode_hello(&hello));
    assert_eq!(decoder.next_frame(), Ok(Some(Frame::Hello(hello.clone()))));
    decoder.expect_messages(hello.cluster);
    decoder.feed(&frames_of(&[samples::numbered(4)]));
    assert_eq!(drain(&mut decoder), Ok(vec![samples::numbered(4)]));
    decoder.feed(&wire::encode_hello(&hello));
    assert_eq!(decoder.next_frame(), Err(WireError::Misplaced(1)));

    let mut decoder = Decoder::new();
    decoder.feed(&frames_of(&[samples::numbered(4)]));
    assert_eq!(decoder.next_frame(), Err(WireError::Misplaced(3)));

    for refusal in [
        Refusal::WrongCluster,
        Refusal::UnknownReplica,
        Refusal::WrongReceiver,
        Refusal::SelfConnection,
        Refusal::WrongIncarnation,
        Refusal::Regressed,
        Refusal::TooManyStrangers,
        Refusal::NoCommonProtocol,
        Refusal::Unknown(99),
    ] {
        let mut decoder = Decoder::new();
        decoder.feed(&wire::encode_refusal(&refusal, CLUSTER));
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::Refused(refusal))));
    }
}

#[test]
fn the_bytes_are_those_of_the_documentation() {
    let hello = wire::encode_hello(&samples::hello(3));
    assert_eq!(hello.len(), HEADER_BYTES + 84);
    assert_eq!(hello[..12], *b"IDLP\x01\x00\x01\x00\x54\x00\x00\x00");
    assert_eq!(hello[12..16], crc32fast::hash(&hello[36..]).to_le_bytes());
    assert_eq!(hello[16..32], CLUSTER.0.to_le_bytes());
    assert_eq!(hello[32..36], crc32fast::hash(&hello[..32]).to_le_bytes());
    assert_eq!(hello[36..52], CLUSTER.0.to_le_bytes());
    assert_eq!(hello[52..60], 3_u64.to_le_bytes());
    assert_eq!(hello[100..108], 17_u64.to_le_bytes());
    assert_eq!(hello[108..112], [1, 0, 1, 0]);
    assert_eq!(hello[112..], 0_u64.to_le_bytes());
    let addressed = Hello { address: "c:7400".into(), ..samples::hello(3) };
    let addressed = wire::encode_hello(&addressed);
    assert_eq!(addressed[112..120], 6_u64.to_le_bytes());
    assert_eq!(addressed[120..], *b"c:7400");
    let refusal = wire::encode_refusal(&Refusal::SelfConnection, CLUSTER);
    assert_eq!((refusal.len(), refusal[6], refusal[36]), (HEADER_BYTES + 1, 2, 4));
}

#[test]
fn what_a_later_build_says_behind_its_hello_is_passed_over() {
    let later = Hello { protocols: Protocols { first: 1, last: 7 }, ..samples::hello(3) };
    let mut frame = wire::encode_hello(&later);
    frame.extend_from_slice(b"whatever that is");
    let length = (frame.len() - HEADER_BYTES) as u32;
    frame[8..12].copy_from_slice(&length.to_le_bytes());
    let crc = crc32fast::hash(&frame[HEADER_BYTES..]);
    frame[12..16].copy_from_slice(&crc.to_le_bytes());
    reseal(&mut frame);
    let mut decoder = Decoder::new();
    decoder.feed(&frame);
    assert_eq!(decoder.next_frame(), Ok(Some(Frame::Hello(later.clone()))));
    // The two go on with the last protocol that both speak.
    let terms = Terms::of(&later, &samples::hello(1)).unwrap();
    assert_eq!(terms, Terms::from(CLUSTER));
    let mut bytes = Vec::new();
    wire::encode_message(&samples::numbered(4), terms, &mut bytes).unwrap();
    assert_eq!(bytes, frames_of(&[samples::numbered(4)]));
}

#[test]
fn builds_agree_on_the_last_protocol_that_both_speak() {
    let speaks = |first, last| Hello { protocols: Protocols { first, last }, ..samples::hello(3) };
    let agreed = |one: (u16, u16), other: (u16, u16)| {
        let terms = Terms::of(&speaks(one.0, one.1), &speaks(other.0, other.1));
        terms.map(|terms| terms.protocol)
    };
    assert_eq!(agreed((1, 1), (1, 1)), Ok(1));
    assert_eq!(agreed((1, 3), (2, 5)), Ok(3));
    assert_eq!(agreed((2, 5), (1, 3)), Ok(3));
    assert_eq!(agreed((1, 1), (2, 3)), Err(Refusal::NoCommonProtocol));
    assert_eq!(agreed((4, 4), (2, 3)), Err(Refusal::NoCommonProtocol));
    // Messages of another one are not read.
    let terms = Terms { protocol: 3, ..Terms::from(CLUSTER) };
    let mut bytes = Vec::new();
    wire::encode_message(&samples::numbered(4), terms, &mut bytes).unwrap();
    let mut decoder = Decoder::new();
    decoder.expect_messages(terms);
    decoder.feed(&bytes);
    assert_eq!(drain(&mut decoder), Ok(vec![samples::numbered(4)]));
    let mut decoder = message_decoder();
    decoder.feed(&bytes);
    assert_eq!(drain(&mut decoder), Err(WireError::Protocol { found: 3, wanted: 1 }));
}

#[test]
fn a_hello_with_a_longer_address_than_there_may_be_is_no_hello() {
    let longest = "h".repeat(ADDRESS_BYTES_MAX);
    let hello = wire::encode_hello(&Hello { address: longest.clone(), ..samples::hello(3) });
    let mut decoder = Decoder::new();
    decoder.feed(&hello);
    let Ok(Some(Frame::Hello(decoded))) = decoder.next_frame() else { panic!("no hello") };
    assert_eq!(decoded.address, longest);
    // One byte more, in a frame that is whole.
    let mut longer = hello;
    longer.push(b'h');
    longer[112..120].copy_from_slice(&(ADDRESS_BYTES_MAX as u64 + 1).to_le_bytes());
    let length = (longer.len() - HEADER_BYTES) as u32;
    longer[8..12].copy_from_slice(&length.to_le_bytes());
    let crc = crc32fast::hash(&longer[HEADER_BYTES..]);
    longer[12..16].copy_from_slice(&crc.to_le_bytes());
    reseal(&mut longer);
    let mut decoder = Decoder::new();
    decoder.feed(&longer);
    let err = decoder.next_frame().unwrap_err();
    assert!(err.to_string().contains("an address of 256 bytes"), "{err}");
}

#[test]
fn every_damage_has_its_error() {
    assert_eq!(error_after(|frame| frame[0] = b'X'), WireError::Magic);
    assert_eq!(error_after(|frame| frame[4] = 2), WireError::Protocol { found: 2, wanted: 1 });
    assert_eq!(error_after(|frame| frame[20] ^= 1), WireError::HeaderChecksum);
    assert_eq!(error_after(|frame| frame[8] ^= 1), WireError::HeaderChecksum);
    assert_eq!(error_after(|frame| frame[HEADER_BYTES] ^= 1), WireError::BodyChecksum);
    let kind = error_after(|frame| {
        frame[6] = 9;
        reseal(frame);
    });
    assert_eq!(kind, WireError::Kind(9));
    let too_long = error_after(|frame| {
        frame[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        reseal(frame);
    });
    assert!(matches!(too_long, WireError::Length { max: MESSAGE_BYTES_MAX, .. }));
    let foreign = error_after(|frame| {
        frame[16] ^= 1;
        reseal(frame);
    });
    assert!(matches!(foreign, WireError::Cluster { wanted: CLUSTER, .. }));
    let malformed = error_after(|frame| {
        frame[HEADER_BYTES] = 0xff;
        let crc = crc32fast::hash(&frame[HEADER_BYTES..]);
        frame[12..16].copy_from_slice(&crc.to_le_bytes());
        reseal(frame);
    });
    assert!(matches!(malformed, WireError::Body(_)));
}

#[test]
fn an_error_is_final() {
    let mut decoder = message_decoder();
    decoder.feed(b"garbage");
    assert_eq!(decoder.next_frame(), Err(WireError::Magic));
    decoder.feed(&frames_of(&[samples::numbered(1)]));
    assert_eq!(decoder.next_frame(), Err(WireError::Magic));
}

#[test]
fn a_hello_that_announces_more_than_a_hello_is_refused_at_its_header() {
    let mut frame = wire::encode_hello(&samples::hello(1));
    frame[8..12].copy_from_slice(&(HELLO_BYTES_MAX as u32).to_le_bytes());
    reseal(&mut frame);
    let mut decoder = Decoder::new();
    decoder.feed(&frame[..HEADER_BYTES]);
    let max = HELLO_BYTES_MAX;
    let announced = (HELLO_BYTES_MAX + HEADER_BYTES) as u64;
    assert_eq!(decoder.next_frame(), Err(WireError::Length { announced, max }));
}

#[test]
fn the_largest_message_fits_and_one_byte_more_does_not() {
    let mut bytes = Vec::new();
    let largest = samples::sized(MESSAGE_BYTES_MAX);
    wire::encode_message(&largest, CLUSTER, &mut bytes).unwrap();
    assert_eq!(bytes.len(), MESSAGE_BYTES_MAX);
    let mut decoder = message_decoder();
    decoder.feed(&bytes);
    assert_eq!(drain(&mut decoder), Ok(vec![largest]));

    let before = bytes.len();
    let over = samples::sized(MESSAGE_BYTES_MAX + 1);
    assert!(wire::encode_message(&over, CLUSTER, &mut bytes).is_err());
    assert_eq!(bytes.len(), before);
}

#[test]
fn an_announced_length_allocates_nothing() {
    let mut bytes = Vec::new();
    wire::encode_message(&samples::sized(MESSAGE_BYTES_MAX), CLUSTER, &mut bytes).unwrap();
    let mut decoder = message_decoder();
    let mut fed = 0;
    for chunk in bytes.chunks(50_000) {
        decoder.feed(chunk);
        fed += chunk.len();
        assert!(decoder.memory_bytes() <= 2 * fed + MEMORY_CONSTANT, "{fed} fed");
        if fed < MESSAGE_BYTES_MAX {
            assert_eq!(decoder.next_frame(), Ok(None));
        }
    }
    assert_eq!(drain(&mut decoder).map(|messages| messages.len()), Ok(1));
    // What it no longer needs it gives back.
    decoder.room();
    assert!(decoder.memory_bytes() <= MEMORY_CONSTANT);
}

#[test]
fn clusters_do_not_mix() {
    let mut bytes = Vec::new();
    wire::encode_message(&samples::numbered(1), ClusterId(5), &mut bytes).unwrap();
    let mut decoder = message_decoder();
    decoder.feed(&bytes);
    let found = ClusterId(5);
    assert_eq!(decoder.next_frame(), Err(WireError::Cluster { found, wanted: CLUSTER }));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        for mut decoder in [Decoder::new(), message_decoder()] {
            decoder.feed(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
            prop_assert!(decoder.memory_bytes() <= 2 * bytes.len() + MEMORY_CONSTANT);
        }
    }

    #[test]
    fn mutated_frames_never_panic_and_never_become_others(
        mutations in proptest::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..8),
        split in any::<prop::sample::Index>(),
    ) {
        let messages = samples::one_of_each();
        let mut bytes = frames_of(&messages);
        for (at, change) in mutations {
            let at = at.index(bytes.len());
            bytes[at] ^= change;
        }
        let (first, second) = bytes.split_at(split.index(bytes.len()));
        let mut decoder = message_decoder();
        let mut found = Vec::new();
        for part in [first, second] {
            decoder.feed(part);
            while let Ok(Some(Frame::Message(message))) = decoder.next_frame() {
                found.push(message);
            }
        }
        prop_assert!(messages.starts_with(&found));
        prop_assert!(decoder.memory_bytes() <= 2 * bytes.len() + MEMORY_CONSTANT);
    }

    #[test]
    fn bodies_with_valid_checksums_never_panic(
        which in any::<prop::sample::Index>(),
        mutations in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let messages = samples::one_of_each();
        let mut frame = frames_of(&messages[which.index(messages.len())..][..1]);
        for (at, value) in mutations {
            let at = HEADER_BYTES + at.index(frame.len() - HEADER_BYTES);
            frame[at] = value;
        }
        let crc = crc32fast::hash(&frame[HEADER_BYTES..]);
        frame[12..16].copy_from_slice(&crc.to_le_bytes());
        reseal(&mut frame);
        let mut decoder = message_decoder();
        decoder.feed(&frame);
        match decoder.next_frame() {
            Ok(Some(Frame::Message(_))) | Err(WireError::Body(_)) => {}
            other => prop_assert!(false, "{other:?}"),
        }
    }
}
