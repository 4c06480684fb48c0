//! The bytes of format 1. A change here is a change of what existing directories and peers read.
//!
//! With `UPDATE_GOLDEN=1` in the environment, missing files are written; existing ones never are.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use indelible::journal::checkpoint::checkpoint_name;
use indelible::journal::frame::{BadFrame, Header, Home, Kind};
use indelible::journal::identity::IDENTITY_NAME;
use indelible::journal::segment::{BadSuperheader, End, Front, Superheader};
use indelible::journal::{Disk, File, Identity, Journal, JournalError, MemoryDisk, Options};
use indelible::store::Store;
use indelible::store::image::{Image, ImageReader};
use indelible::store::sessions::{Outcome, SessionImage, SessionsImage};
use indelible::types::codec;
use indelible::types::command::{
    Command, Condition, Key, KeyKind, Operation, TableUse, ValueCodec,
};
use indelible::types::edition::Edition;
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::hello::Hello;
use indelible::types::ids::{
    Ballot, Boot, Chain, ClusterId, ContentHash, Incarnation, Lsn, ReplicaId, RequestId, SessionId,
    Slot, SlotRange, TxId,
};
use indelible::types::membership::{Member, Membership};
use indelible::types::message::{
    Abstention, Accept, Accepted, CheckpointPart, Chosen, Doubt, EncodedCommand, Forward,
    Heartbeat, Introduce, Message, Promise, TakeOver, Vote,
};
use indelible::types::protocols::Protocols;
use indelible::types::record::{Doubts, Record, Sighting, Verdicts};
use indelible::types::time::Time;

const HOME: Home = Home {
    cluster: ClusterId(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100),
    incarnation: Incarnation(0x1f1e_1d1c_1b1a_1918_1716_1514_1312_1110),
};
const BALLOT: Ballot = Ballot { round: 0x2a, leader: ReplicaId(3) };
const BOOT: Boot = Boot { sequence: 7, nonce: 0x0123_4567_89ab_cdef };
const REQUEST: RequestId = RequestId { session: SessionId(0x5e), sequence: 9 };

/// Compares `bytes` with the file, 32 bytes a line.
fn golden(name: &str, bytes: &[u8]) {
    let mut hex = String::new();
    for line in bytes.chunks(32) {
        line.iter().for_each(|byte| write!(hex, "{byte:02x}").unwrap());
        hex.push('\n');
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let path = path.with_extension("hex");
    if !path.exists() && std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &hex).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), hex, "{}", path.display());
}

fn command() -> Command<'static> {
    let key = |bytes| Key { table: 0, bytes };
    Command {
        request: REQUEST,
        settled_below: 4,
        resolves: None,
        tables: vec![
            TableUse { name: "notes", key_kind: KeyKind("u64"), codec: ValueCodec::Raw },
            TableUse { name: "t", key_kind: KeyKind("str"), codec: ValueCodec::Bincode },
        ],
        conditions: vec![
            Condition::Absent(key(b"a")),
            Condition::Present(key(b"b")),
            Condition::Version(key(b"c"), TxId::new(1, 2).unwrap()),
        ],
        operations: vec![Operation::Put(key(b"a"), b"value"), Operation::Delete(key(b"b"))],
    }
}

fn sessions() -> SessionsImage {
    let at = TxId::new(1, 2).unwrap();
    let outcomes = [
        Outcome::Committed { at, took_id: true },
        Outcome::Refused { condition: 1, found: Some(at) },
        Outcome::Refused { condition: 2, found: None },
        Outcome::TableMismatch { table: 3, named: Some(1) },
        Outcome::TableMismatch { table: 4, named: None },
        Outcome::Burned,
    ];
    let outcomes = (7..).zip(outcomes).collect();
    let id = SessionId::new(5, 0x5e);
    let session = SessionImage { id, used: 12, settled_below: 6, outcomes };
    SessionsImage { commands: 15, floor: 4, sessions_max: 1024, sessions: vec![session] }
}

fn membership() -> Membership {
    let voter = |id: u64| Member {
        id: ReplicaId(id),
        incarnation: Incarnation(u128::from(id) << 64),
        address: format!("host{id}:70"),
    };
    Membership::majority(vec![voter(1), voter(2), voter(3)]).unwrap()
}

fn entry() -> Entry {
    let mut builder = EntryBuilder::new(Time(1_700_000_000_123), 16);
    builder.push(b"first");
    builder.push(b"second");
    builder.finish()
}

fn header(kind: Kind) -> Header {
    let copy = u8::from(kind == Kind::Promise);
    let payload = entry();
    Header {
        kind,
        copy,
        payload_bytes: payload.bytes().len() as u32,
        link: 0xdead_beef,
        home: HOME,
        segment: 5,
        offset: 0x4000,
        lsn: Lsn(99),
        slot: Slot(12),
        ballot: BALLOT,
        meta_seq: 4,
        durable_through: Lsn(90),
        slot_chosen: Slot(10),
        content: payload.hash(),
    }
}

fn superheader() -> Superheader {
    let previous = End { number: 4, offset: 0x8000, last_lsn: Lsn(98), link: 0xfeed_f00d };
    let (first_lsn, durable_through) = (Lsn(99), Lsn(98));
    Superheader {
        home: HOME,
        number: 5,
        length: 1 << 24,
        first_lsn,
        durable_through,
        previous,
        promised: BALLOT,
        promise_lost: false,
    }
}

fn identity() -> Identity {
    Identity {
        cluster: HOME.cluster,
        replica: ReplicaId(3),
        incarnation: HOME.incarnation,
        boot: Boot { nonce: 0, ..BOOT },
        membership: Some(membership()),
        formed: true,
        segment_last: 5,
        segment_made: 6,
        front: Front { number: 2, last_lsn: Lsn(40), slot: Slot(7) },
    }
}

#[test]
fn frames() {
    for kind in [
        Kind::Group,
        Kind::Promise,
        Kind::Vote,
        Kind::Chosen,
        Kind::Verdicts,
        Kind::Seal,
        Kind::Doubts,
        Kind::Sightings,
    ] {
        let (bytes, checksum) = header(kind).encode();
        golden(&format!("frame_{kind:?}").to_lowercase(), &bytes);
        assert_eq!(Header::decode(&bytes), Ok((header(kind), checksum)));
    }
}

#[test]
fn a_part_of_a_superheader_is_none() {
    let (whole, _) = superheader().encode();
    for count in 0..128 {
        let mut part = vec![0; whole.len()];
        part[..count].copy_from_slice(&whole[..count]);
        assert_eq!(Superheader::decode(&part), Err(BadSuperheader::Invalid), "{count} bytes");
    }
}

#[test]
fn segments_and_identity() {
    let (block, checksum) = superheader().encode();
    assert_eq!(block.len(), 4096);
    assert!(block[128..].iter().all(|byte| *byte == 0));
    golden("superheader", &block[..128]);
    assert_eq!(Superheader::decode(&block), Ok((superheader(), checksum)));
    golden("identity", &identity().encode());
    assert_eq!(Identity::decode(&identity().encode()).unwrap(), identity());
}

#[test]
fn unknown_versions_are_refused() {
    let (mut frame, _) = header(Kind::Vote).encode();
    frame[4] = 2;
    assert_eq!(Header::decode(&frame), Err(BadFrame::Checksum));
    let checksum = crc32fast::hash(&frame[..140]);
    frame[140..].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(Header::decode(&frame), Err(BadFrame::Version(2)));
    let (mut block, _) = superheader().encode();
    block[8] = 2;
    assert_eq!(Superheader::decode(&block), Err(BadSuperheader::PerhapsVersion(2)));
    let checksum = crc32fast::hash(&block[..124]);
    block[124..128].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(Superheader::decode(&block), Err(BadSuperheader::Version(2)));
    let mut bytes = identity().encode();
    bytes[8] = 2;
    let err = Identity::decode(&bytes).unwrap_err();
    assert!(matches!(err, JournalError::UnsupportedFormat { found: 2, supported: 1, .. }));
}

#[test]
fn every_flipped_bit_is_seen() {
    let (frame, _) = header(Kind::Vote).encode();
    let (block, _) = superheader().encode();
    let identity = identity().encode();
    for bit in 0..frame.len() * 8 {
        let mut frame = frame;
        frame[bit / 8] ^= 1 << (bit % 8);
        assert!(Header::decode(&frame).is_err(), "bit {bit} of a frame");
    }
    for bit in 0..128 * 8 {
        let mut block = block.clone();
        block[bit / 8] ^= 1 << (bit % 8);
        assert!(Superheader::decode(&block).is_err(), "bit {bit} of a superheader");
    }
    for bit in 0..identity.len() * 8 {
        let mut identity = identity.clone();
        identity[bit / 8] ^= 1 << (bit % 8);
        assert!(Identity::decode(&identity).is_err(), "bit {bit} of an identity");
    }
}

#[test]
fn entries_and_commands() {
    golden("command", &command().encode());
    assert_eq!(Command::decode(&command().encode()).unwrap(), command());
    let resolving = Command::resolving(REQUEST, RequestId { sequence: 10, ..REQUEST });
    golden("command_resolving", &resolving.encode());
    assert_eq!(Command::decode(&resolving.encode()).unwrap(), resolving);
    golden("membership", &codec::encode(&membership()).unwrap());
    golden("entry_no_op", Entry::no_op().bytes());
    golden("entry_commands", entry().bytes());
    golden("entry_membership", Entry::membership(&membership()).bytes());
    golden("entry_on_the_wire", &codec::encode(&entry()).unwrap());
    golden("sessions", &codec::encode(&sessions()).unwrap());
    let slots = SlotRange { first: Slot(3), end: Slot(5) };
    let after = TxId::new(0, 8).unwrap();
    let verdicts = Verdicts { slots, after, took_id: vec![0b101] };
    golden("verdicts", &codec::encode(&verdicts).unwrap());
    let range = |first, end| SlotRange { first: Slot(first), end: Slot(end) };
    let doubts = Doubts {
        promise_lost: true,
        faulty: [range(3, 4), range(6, 9)].into_iter().collect(),
        uncertain: [range(9, 4096)].into_iter().collect(),
    };
    golden("doubts", &codec::encode(&doubts).unwrap());
    let sighting = Sighting {
        replica: ReplicaId(3),
        incarnation: HOME.incarnation,
        boot: BOOT,
        frontier: Lsn(99),
        fenced: true,
    };
    golden("sightings", &codec::encode(&vec![sighting]).unwrap());
    let content = ContentHash::of(b"indelible");
    golden("content_hash", &content.0.to_le_bytes());
    golden("chain", &Chain::EMPTY.extend(content).0.to_le_bytes());
    golden("cluster_id", &membership().cluster_id().0.to_le_bytes());
}

/// A checkpoint, with pieces of any bytes: what is in them is not its business.
#[test]
fn checkpoints() {
    let disk = MemoryDisk::new();
    let blank = Identity {
        cluster: ClusterId::UNFORMED,
        membership: None,
        formed: false,
        segment_last: 0,
        segment_made: 0,
        front: Front::default(),
        ..identity()
    };
    disk.create(IDENTITY_NAME).unwrap().write_at(0, &blank.encode()).unwrap();
    let mut journal = Journal::open(disk.clone(), Options::default(), ReplicaId(3)).unwrap();
    journal.agree(&membership(), true).unwrap();
    journal.append(&[Record::Chosen { slot: Slot(0), entry: entry() }], Slot(1)).unwrap();
    let pieces = [b"piece".to_vec(), vec![7; 8]].into_iter();
    journal.begin_checkpoint(Slot(1), Chain(0x2a), Box::new(pieces));
    while let Some(job) = journal.next_job().unwrap() {
        let _ = journal.complete(job.run()).unwrap();
    }
    let name = checkpoint_name(Slot(1));
    let mut bytes = vec![0; 4096];
    let count = disk.open(&name).unwrap().read_at(0, &mut bytes).unwrap();
    golden("checkpoint", &bytes[..count]);
    journal.begin_receiving(Slot(7), Chain(0x2b), Box::new([b"piece".to_vec()].into_iter()));
    while let Some(job) = journal.next_job().unwrap() {
        let _ = journal.complete(job.run()).unwrap();
    }
    let received = journal.checkpoint().unwrap();
    assert_eq!(received.header().journal_from, Slot(7));
    let count = disk.open(&received.name()).unwrap().read_at(0, &mut bytes).unwrap();
    golden("checkpoint_received", &bytes[..count]);
}

/// The pieces of an image of a state with a key, a deleted one, and a transaction that was refused.
#[test]
fn images() {
    let store = Arc::new(Store::new());
    let key = |bytes| Key { table: 0, bytes };
    let mut requests = 0;
    let mut put = |conditions: Vec<Condition<'static>>, operations: Vec<Operation<'static>>| {
        let tables = command().tables[..1].to_vec();
        requests += 1;
        let request = RequestId { sequence: requests, ..REQUEST };
        Command { tables, conditions, operations, ..Command::of(request) }.encode()
    };
    let mut builder = EntryBuilder::new(Time(1_700_000_000_123), 16);
    let both = vec![Operation::Put(key(b"a"), b"value"), Operation::Put(key(b"b"), b"")];
    builder.push(&put(Vec::new(), both));
    builder.push(&put(vec![Condition::Absent(key(b"a"))], vec![Operation::Delete(key(b"a"))]));
    builder.push(&put(Vec::new(), vec![Operation::Delete(key(b"b"))]));
    store.apply(Slot(0), &builder.finish()).unwrap();
    store.apply(Slot(1), &Entry::membership(&membership())).unwrap();
    let pieces = Image::of(&store, Slot::ZERO).collect::<Vec<_>>();
    let names = ["head", "table", "keys", "ledger", "sessions", "membership", "end"];
    assert_eq!(pieces.len(), names.len());
    let mut reader = ImageReader::new();
    for (name, piece) in names.iter().zip(&pieces) {
        golden(&format!("image_{name}"), piece);
        reader.take(piece).unwrap();
    }
    let read = reader.finish().unwrap();
    assert_eq!(read.applied(), store.applied());
    assert_eq!(read.membership(), Some(membership()));
    // Restored, and restored again, in a later epoch than the next one.
    let restored = read.begin_epoch(membership(), TxId::ZERO).unwrap();
    let restored = restored.begin_epoch(membership(), TxId::new(4, 1).unwrap()).unwrap();
    let restored = Arc::new(restored);
    let pieces = Image::of(&restored, Slot::ZERO).collect::<Vec<_>>();
    golden("image_epochs", &pieces[pieces.len() - 2]);
    let mut reader = ImageReader::new();
    pieces.iter().for_each(|piece| reader.take(piece).unwrap());
    assert_eq!(reader.finish().unwrap().applied(), restored.applied());
    let mut other = pieces[0].clone();
    other[0] += 1;
    let err = ImageReader::new().take(&other).unwrap_err();
    assert_eq!(err.to_string(), "piece 0: image version 2, supported is 1");
}

fn promise(slot_chosen: Slot, slots: SlotRange, vote: Vote) -> Promise {
    Promise {
        ballot: BALLOT,
        incarnation: HOME.incarnation,
        boot: BOOT,
        from: Slot(10),
        part: 0,
        parts: 1,
        slot_chosen,
        votes: vec![vote],
        abstained: vec![Abstention { slots, doubt: Doubt::Uncertain }],
        frontier: Lsn(6),
    }
}

fn introduce() -> Introduce {
    Introduce {
        incarnation: HOME.incarnation,
        address: "host1:70".into(),
        voters: vec![ReplicaId(1), ReplicaId(2)],
        addresses: vec!["host1:70".into(), "host2:70".into()],
        phase1: 2,
        phase2: 2,
    }
}

fn accept(slot: Slot, entries: Vec<Entry>, chain: Chain) -> Accept {
    Accept { ballot: BALLOT, first_slot: slot, entries, slot_chosen: slot, chain }
}

fn messages() -> Vec<Message> {
    let (incarnation, chain, slot) = (HOME.incarnation, Chain(0xc4a1), Slot(12));
    let part = CheckpointPart { slot, offset: 4096, bytes_total: 5000, bytes: vec![5; 9] };
    let slots = SlotRange { first: Slot(12), end: Slot(14) };
    let vote = Vote { slot, ballot: BALLOT, entry: entry() };
    let receiver = Boot { sequence: 8, nonce: 1 };
    let command = EncodedCommand { request: REQUEST, bytes: vec![1, 2, 3] };
    let heartbeat = Heartbeat {
        incarnation,
        boot: BOOT,
        ballot: BALLOT,
        leads: true,
        hears_leader: true,
        priority: 3,
        knows: Edition(4),
        promised: BALLOT,
        slot_chosen: slot,
        chain,
        frontier: Lsn(77),
        sent: 5,
        echo: Some((receiver, 4)),
    };
    let promise = promise(slot, slots, vote);
    let entries = vec![entry(), Entry::no_op()];
    let accept = accept(slot, entries.clone(), chain);
    let take_over = TakeOver { ballot: BALLOT, sent: 4, stalled: true, slot_chosen: slot, chain };
    vec![
        Message::Heartbeat(heartbeat),
        Message::Prepare { ballot: BALLOT, from: slot },
        Message::Promise(promise),
        Message::Accept(accept),
        Message::Accepted(Accepted {
            ballot: BALLOT,
            incarnation,
            slots,
            frontier: Lsn(6),
            slot_durable: slot,
        }),
        Message::Reject { ballot: BALLOT, promised: BALLOT },
        Message::Fetch { from: slot },
        Message::Chosen(Chosen { first_slot: slot, entries, slot_chosen: slot, chain }),
        Message::Confirm { ballot: BALLOT, nonce: 2 },
        Message::Confirmed { ballot: BALLOT, incarnation, nonce: 2 },
        Message::Barrier { boot: BOOT, read: 3 },
        Message::BarrierAt { boot: BOOT, read: 3, slot },
        Message::Forward(Forward {
            incarnation,
            boot: BOOT,
            receiver,
            attempt: 6,
            commands: vec![command],
        }),
        Message::Bounced { boot: BOOT, attempts: vec![6, 8] },
        Message::Introduce(introduce()),
        Message::Agreed { membership: membership(), formed: true },
        Message::Unsure { boot: BOOT, from: slot },
        Message::Settled { ballot: BALLOT, boot: receiver, from: slot },
        Message::Fill { until: slot },
        Message::Leaving { slot },
        Message::Dismissed { incarnation, slot },
        Message::Lost { slot },
        Message::TakeOver(take_over),
        Message::Trimmed { first: slot },
        Message::FetchCheckpoint { slot: Some(slot), offset: 4096 },
        Message::CheckpointPart(part),
        Message::Renew { ballot: BALLOT, nonce: 2, millis: 1500 },
        Message::Granted { ballot: BALLOT, incarnation, nonce: 2, millis: 1500 },
    ]
}

#[test]
fn messages_on_the_wire() {
    for message in messages() {
        let bytes = codec::encode(&message).unwrap();
        golden(&format!("message_{}", message.name()).to_lowercase(), &bytes);
        assert_eq!(codec::decode::<Message>("message", &bytes).unwrap(), message);
    }
    let hello = Hello {
        cluster: HOME.cluster,
        replica: ReplicaId(3),
        receiver: ReplicaId(1),
        incarnation: HOME.incarnation,
        boot: BOOT,
        frontier: Lsn(6),
        protocols: Protocols { first: 1, last: 2 },
        address: "c.example:7400".into(),
    };
    golden("hello", &codec::encode(&hello).unwrap());
}
