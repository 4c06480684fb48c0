//! Files that no medium makes of ours: fields are set to what they never hold, and every checksum
//! is right. An opening refuses them, and neither panics nor allocates for a number that it was
//! told.
//!
//! Some of the cases were found by fuzzing (`fuzz/`), the others by writing its targets.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use indelible::journal::frame::{BadFrame, FRAME_HEADER_BYTES, FRAME_MAGIC, Header};
use indelible::journal::segment::{BadSuperheader, SUPERHEADER_BYTES, Superheader, segment_name};
use indelible::journal::{Disk, File, Identity, Journal, JournalError, MemoryDisk, Options};
use indelible::types::entry::EntryBuilder;
use indelible::types::ids::{Ballot, ContentHash, Incarnation, ReplicaId, Slot};
use indelible::types::membership::{Member, Membership};
use indelible::types::record::Record;
use indelible::types::time::Time;

const WHO: ReplicaId = ReplicaId(1);
const LSN: usize = 64;
const SLOT: usize = 72;
const META_SEQ: usize = 96;
const DURABLE_THROUGH: usize = 104;
const SLOT_CHOSEN: usize = 112;
const CONTENT: usize = 120;

/// Kinds of frames.
const PROMISE: u8 = 2;
const VOTE: u8 = 3;

/// The bytes of one segment and where its frames are.
struct Segment {
    disk: MemoryDisk,
    name: String,
    bytes: Vec<u8>,
    frames: Vec<usize>,
}

impl Segment {
    fn load(disk: &MemoryDisk, number: u64) -> Self {
        let name = segment_name(number);
        let file = disk.open(&name).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
        let places = (4096..bytes.len()).step_by(8);
        let frames = places.filter(|at| bytes[*at..].starts_with(&FRAME_MAGIC)).collect();
        Self { disk: disk.clone(), name, bytes, frames }
    }

    fn add(&mut self, at: usize, count: u64) {
        let field = self.bytes[at..].first_chunk_mut().unwrap();
        *field = u64::from_le_bytes(*field).wrapping_add(count).to_le_bytes();
    }

    fn add_to_frames(&mut self, field: usize, count: u64) {
        for at in self.frames.clone() {
            self.add(at + field, count);
        }
    }

    /// Where the frames of a kind are.
    fn of_kind(&self, kind: u8) -> Vec<usize> {
        self.frames.iter().copied().filter(|at| self.bytes[at + 6] == kind).collect()
    }

    /// Makes all checksums and links right, and writes the segment back.
    fn store(mut self) {
        let mut link = put_crc(&mut self.bytes[..SUPERHEADER_BYTES]);
        for at in &self.frames {
            let header = &mut self.bytes[*at..*at + FRAME_HEADER_BYTES];
            header[12..16].copy_from_slice(&link);
            link = put_crc(header);
        }
        let file = self.disk.open(&self.name).unwrap();
        file.set_len(self.bytes.len() as u64).unwrap();
        file.write_at(0, &self.bytes).unwrap();
    }
}

/// Ends a header with its checksum.
fn put_crc(header: &mut [u8]) -> [u8; 4] {
    let (content, place) = header.split_at_mut(header.len() - 4);
    let sum = crc32fast::hash(content).to_le_bytes();
    place.copy_from_slice(&sum);
    sum
}

fn open(disk: &MemoryDisk) -> Result<Journal<MemoryDisk>, JournalError> {
    let options = Options { segment_bytes: 64 * 1024, ..Options::default() };
    Journal::open(disk.clone(), options, WHO)
}

/// A journal with some votes in one segment, sealed.
fn journal() -> MemoryDisk {
    journal_of(1)
}

/// The same of one replica among so many.
fn journal_of(voters: u64) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let mut journal = open(&disk).unwrap();
    let own = journal.identity().incarnation;
    let voter = |id| {
        let incarnation = if id == 1 { own } else { Incarnation(u128::from(id)) };
        Member { id: ReplicaId(id), incarnation, address: id.to_string() }
    };
    let membership = Membership::majority((1..=voters).map(voter).collect()).unwrap();
    journal.agree(&membership, true).unwrap();
    let ballot = Ballot { round: 1, leader: WHO };
    journal.append(&[Record::Promise { ballot }], Slot(0)).unwrap();
    for slot in 0..20 {
        let mut builder = EntryBuilder::new(Time(1), 1);
        builder.push(&[slot as u8]);
        let entry = builder.finish();
        journal.append(&[Record::Vote { slot: Slot(slot), ballot, entry }], Slot(0)).unwrap();
    }
    for _ in 0..2 {
        while let Some(job) = journal.next_job().unwrap() {
            journal.complete(job.run()).unwrap();
        }
        // Without it, the next opening would keep nothing of this segment.
        journal.seal().unwrap();
    }
    disk
}

#[track_caller]
fn refused(disk: &MemoryDisk, reason: &str) {
    let err = open(disk).unwrap_err();
    assert!(matches!(err, JournalError::Corrupt { .. }), "{err}");
    assert!(err.to_string().contains(reason), "{err}");
}

#[track_caller]
fn unsupported(disk: &MemoryDisk, number: u64) {
    let told = open(disk).unwrap_err().to_string();
    assert_eq!(told, format!("{}: format version 2, supported is 1", segment_name(number)));
}

#[test]
fn what_is_not_forged_opens() {
    let disk = journal();
    let segment = Segment::load(&disk, 1);
    assert!(segment.frames.len() > 20);
    segment.store();
    assert_eq!(open(&disk).unwrap().recovered().votes.len(), 20);
}

#[test]
fn an_end_far_behind_the_file_allocates_nothing() {
    let disk = journal();
    drop(open(&disk).unwrap());
    let mut next = Segment::load(&disk, 3);
    next.add(88, 1 << 60);
    next.store();
    // The first group of the segment before says that it is as long.
    let mut segment = Segment::load(&disk, 1);
    let payload = segment.frames[0] + FRAME_HEADER_BYTES;
    segment.add(payload + 8, 1 << 50);
    let content = ContentHash::of(&segment.bytes[payload..payload + 16]);
    let at = segment.frames[0] + 120;
    segment.bytes[at..at + 16].copy_from_slice(&content.0.to_le_bytes());
    segment.store();
    refused(&disk, "longer than its segment");
}

#[test]
fn numbers_of_frames_do_not_wrap_around() {
    for far in [1 << 62, u64::MAX - 64, u64::MAX - 3] {
        let disk = journal();
        let mut segment = Segment::load(&disk, 1);
        segment.add(64, far);
        segment.add(72, far);
        segment.add_to_frames(LSN, far);
        segment.add_to_frames(DURABLE_THROUGH, far);
        segment.store();
        refused(&disk, "");
    }
}

/// In a cluster too, where anything else that is bad is passed: what one opening makes of such a
/// journal the next one does not find again.
#[test]
fn numbers_of_frames_grow_from_place_to_place() {
    let disk = journal_of(3);
    let mut segment = Segment::load(&disk, 1);
    let at = segment.frames[10];
    segment.add(at + LSN, 0_u64.wrapping_sub(1));
    segment.store();
    refused(&disk, "numbers of frames that do not grow");
    // From segment to segment, where neither superheaders nor the first group of the next one are
    // left to tell where the first one ends.
    let disk = journal_of(3);
    drop(open(&disk).unwrap());
    for number in [1, 3] {
        let mut segment = Segment::load(&disk, number);
        if number == 1 {
            segment.add_to_frames(LSN, 100);
        }
        segment.store();
        disk.open(&segment_name(number)).unwrap().write_at(0, &[0; SUPERHEADER_BYTES]).unwrap();
    }
    let next = disk.open(&segment_name(3)).unwrap();
    next.write_at(4096, &[0; FRAME_HEADER_BYTES]).unwrap();
    refused(&disk, "numbers of frames that do not grow");
}

#[test]
fn numbers_of_promises_do_not_wrap_around() {
    for far in [1 << 62, u64::MAX - 2] {
        let disk = journal();
        let mut segment = Segment::load(&disk, 1);
        segment.add_to_frames(META_SEQ, far);
        segment.store();
        refused(&disk, "out of range");
    }
}

#[test]
fn numbers_of_segments_do_not_wrap_around() {
    for number in [1 << 32, u64::MAX] {
        let disk = journal();
        disk.create(&segment_name(number)).unwrap();
        refused(&disk, "a number that no segment has");
    }
}

#[test]
fn far_slots_allocate_once() {
    let disk = journal();
    let mut segment = Segment::load(&disk, 1);
    let votes = segment.of_kind(VOTE);
    // Each as far behind the one before as one may be, if that one had not been as far already.
    for (count, at) in (1..).zip(votes) {
        segment.add(at + SLOT, count * ((1 << 20) - 1));
    }
    segment.store();
    refused(&disk, "a slot out of range");
}

#[test]
fn a_superheader_names_nothing_before_it_that_cannot_be() {
    // No segment before, and frames in it; frames before that have higher numbers.
    for (field, count) in [(88, 4096), (96, 100), (104, 1)] {
        let disk = journal();
        let mut segment = Segment::load(&disk, 1);
        segment.add(field, count);
        segment.store();
        refused(&disk, "cannot stand here");
    }
    let disk = journal();
    drop(open(&disk).unwrap());
    let mut next = Segment::load(&disk, 3);
    next.add(96, 100);
    next.store();
    refused(&disk, "cannot stand here");
}

#[test]
fn an_end_above_all_frames_is_no_panic() {
    let disk = journal_of(3);
    drop(open(&disk).unwrap());
    let mut next = Segment::load(&disk, 3);
    next.bytes[4096..].fill(0);
    next.frames.clear();
    next.add(64, 1 << 20);
    next.add(96, 1 << 20);
    next.store();
    // It is no superheader of ours, and the others have what stood there.
    assert!(open(&disk).unwrap().recovered().doubts.promise_lost);
}

#[test]
fn a_group_frame_that_is_too_short_is_none() {
    let disk = journal();
    let mut segment = Segment::load(&disk, 1);
    let at = segment.frames[0];
    segment.bytes[at + 8..at + 12].fill(0);
    let content = ContentHash::of(&[]).0;
    segment.bytes[at + 120..at + 136].copy_from_slice(&content.to_le_bytes());
    segment.bytes.truncate(at + FRAME_HEADER_BYTES);
    segment.frames.truncate(1);
    // Nothing vouches for it, so that it is looked at as an end that was torn.
    segment.bytes[72..80].fill(0);
    let length = segment.bytes.len() as u64;
    segment.bytes[56..64].copy_from_slice(&length.to_le_bytes());
    segment.store();
    assert!(open(&disk).is_ok_and(|mut journal| journal.recovered().votes.is_empty()));
}

/// Nothing that another version wrote is passed over or cut. (Of a promise one copy is enough.)
#[test]
fn frames_of_another_version_are_refused() {
    for voters in [1, 3] {
        let whole = Segment::load(&journal_of(voters), 1);
        for (frame, at) in whole.frames.iter().enumerate() {
            if whole.bytes[at + 6] == PROMISE {
                continue;
            }
            let disk = journal_of(voters);
            let mut segment = Segment::load(&disk, 1);
            let at = segment.frames[frame];
            segment.bytes[at + 4] = 2;
            segment.store();
            unsupported(&disk, 1);
        }
    }
}

#[test]
fn a_superheader_of_another_version_is_refused() {
    for voters in [1, 3] {
        let disk = journal_of(voters);
        let mut segment = Segment::load(&disk, 1);
        segment.bytes[8] = 2;
        segment.store();
        unsupported(&disk, 1);
    }
}

/// Others have what a superheader holds; but the frames behind it tell of what version they are.
#[test]
fn a_segment_of_another_version_without_its_superheader_is_refused() {
    let disk = journal_of(3);
    let mut segment = Segment::load(&disk, 1);
    for at in segment.frames.clone() {
        segment.bytes[at + 4] = 2;
    }
    segment.bytes[0] = 0;
    segment.store();
    unsupported(&disk, 1);
}

#[test]
fn slots_that_are_said_to_be_chosen_must_be_there() {
    // Others may have one that is missing, but not one that nobody can have come to.
    for (voters, count) in [(1, 21), (3, 1 << 40)] {
        let disk = journal_of(voters);
        let mut segment = Segment::load(&disk, 1);
        segment.add_to_frames(SLOT_CHOSEN, count);
        segment.store();
        refused(&disk, if voters == 1 { "a chosen slot has no frame" } else { "out of range" });
    }
}

#[test]
fn a_promise_that_is_spoken_of_must_be_there() {
    let disk = journal();
    let mut segment = Segment::load(&disk, 1);
    let last = *segment.of_kind(VOTE).last().unwrap();
    segment.add(last + META_SEQ, 1);
    segment.store();
    refused(&disk, "a promise is lost");
}

/// The segment before ends with another frame than the next one says. Alone that is refused;
/// among others it is doubted what stood there.
#[test]
fn a_segment_ends_with_the_frame_that_the_next_one_names() {
    for voters in [1, 3] {
        let disk = journal_of(voters);
        drop(open(&disk).unwrap());
        let mut next = Segment::load(&disk, 3);
        next.add(104, 1 << 7);
        next.store();
        if voters == 1 {
            refused(&disk, "another end than was acknowledged");
        } else {
            let mut journal = open(&disk).unwrap();
            let recovered = journal.recovered();
            let faulty = recovered.doubts.faulty;
            assert!((0..20).all(|slot| faulty.contains(Slot(slot))), "{faulty:?}");
        }
    }
}

#[test]
fn a_vote_holds_an_entry() {
    let disk = journal();
    let mut segment = Segment::load(&disk, 1);
    let at = *segment.of_kind(VOTE).last().unwrap();
    let payload = at + FRAME_HEADER_BYTES;
    let length = u32::from_le_bytes(*segment.bytes[at + 8..].first_chunk().unwrap()) as usize;
    // There is no kind of this number.
    segment.bytes[payload + 1] = 0xee;
    let content = ContentHash::of(&segment.bytes[payload..payload + length]);
    segment.bytes[at + CONTENT..][..16].copy_from_slice(&content.0.to_le_bytes());
    segment.store();
    refused(&disk, "slot 19: not an entry");
}

/// A segment of another directory that lost its superheader is known by its frames.
#[test]
fn a_journal_in_which_no_frame_is_ours_is_refused() {
    let (disk, other) = (journal_of(3), journal_of(3));
    let theirs = Segment::load(&other, 1);
    let file = disk.open(&segment_name(1)).unwrap();
    file.write_at(0, &[0; SUPERHEADER_BYTES]).unwrap();
    file.write_at(4096, &theirs.bytes[4096..]).unwrap();
    let err = open(&disk).unwrap_err();
    assert!(matches!(err, JournalError::WrongCluster { .. }), "{err}");

    // Another directory of the same cluster, which has the same founders.
    let own = Journal::peek(&disk).unwrap().unwrap();
    let mut theirs = theirs;
    for at in theirs.frames.clone() {
        theirs.bytes[at + 16..][..16].copy_from_slice(&own.home().cluster.0.to_le_bytes());
    }
    let found = Journal::peek(&other).unwrap().unwrap().incarnation;
    theirs.disk = disk.clone();
    theirs.bytes[..SUPERHEADER_BYTES].fill(0);
    theirs.store();
    let told = open(&disk).unwrap_err().to_string();
    let wanted = own.incarnation;
    let name = segment_name(1);
    assert_eq!(told, format!("{name}: belongs to incarnation {found}, wanted {wanted}"));
}

#[test]
fn a_header_has_one_encoding() {
    let disk = journal();
    let segment = Segment::load(&disk, 1);
    for at in [7, 136, 139] {
        let mut bytes = segment.bytes[segment.frames[0]..][..FRAME_HEADER_BYTES].to_vec();
        bytes[at] = 9;
        put_crc(&mut bytes);
        assert_eq!(Header::decode(&bytes), Err(BadFrame::Content), "byte {at}");
    }
    for (at, value) in [(10, 2), (11, 1), (15, 1)] {
        let mut bytes = segment.bytes[..SUPERHEADER_BYTES].to_vec();
        bytes[at] = value;
        put_crc(&mut bytes);
        assert_eq!(Superheader::decode(&bytes), Err(BadSuperheader::Invalid), "byte {at}");
    }
    let identity = Journal::peek(&disk).unwrap().unwrap();
    for (at, value) in [(10, 2), (11, 1)] {
        let mut bytes = identity.encode();
        bytes[at] = value;
        put_crc(&mut bytes);
        assert!(Identity::decode(&bytes).is_err(), "byte {at}");
    }
    // Formed by nobody, or without a segment.
    let nobody = Identity { membership: None, ..identity.clone() };
    assert!(Identity::decode(&nobody.encode()).is_err());
    let nowhere = Identity { segment_last: 0, ..identity.clone() };
    assert!(Identity::decode(&nowhere.encode()).is_err());
    // More, or less, of a membership than is said.
    for length in [0, 1] {
        let mut bytes = identity.encode();
        bytes[12] = length;
        put_crc(&mut bytes);
        let told = Identity::decode(&bytes).unwrap_err().to_string();
        assert_eq!(told, "identity offset 0: wrong length");
    }
}

#[test]
fn an_identity_holds_no_number_that_none_can_follow() {
    let identity = Journal::peek(&journal()).unwrap().unwrap();
    // The last frame, and the first slot, of a journal of which something was removed.
    for at in [88, 96] {
        let mut bytes = identity.encode();
        bytes[80] = 1;
        bytes[at..at + 8].fill(0xff);
        put_crc(&mut bytes);
        let told = Identity::decode(&bytes).unwrap_err().to_string();
        assert_eq!(told, "identity offset 0: impossible content", "byte {at}");
    }
}
