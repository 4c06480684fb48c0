//! Valid data directories, as bytes, and what stands where in them.
//!
//! The images are made once, by the journal itself, and are the same in every process: the identity
//! that a directory would draw is written before it is opened. Where the frames are is found by
//! looking at every place where one can stand, not by following the journal's own chain.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use indelible::journal::frame::{Header, Kind};
use indelible::journal::identity::IDENTITY_NAME;
use indelible::journal::segment::{Front, segment_name};
use indelible::journal::{Disk, File, Identity, Journal, MemoryDisk, Options};
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{
    Ballot, Boot, ClusterId, Incarnation, Lsn, ReplicaId, Slot, SlotRange, TxId,
};
use indelible::types::membership::{Member, Membership};
use indelible::types::record::{Record, Sighting, Verdicts};
use indelible::types::time::Time;

/// Whose directories they are.
pub const WHO: ReplicaId = ReplicaId(1);

/// The smallest that there are, so that an opening is quick.
pub const OPTIONS: Options = Options {
    segment_bytes: 64 * 1024,
    inflight_max: 2,
    group_bytes_max: 32 * 1024,
    received_sync_bytes: 8 * 1024,
};

/// The files of a directory.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A valid directory.
#[derive(Clone, Debug)]
pub struct Image {
    /// The files.
    pub files: Files,
    /// The frames in them, by segment and offset: in the order in which they were written.
    pub frames: Vec<Header>,
    /// Whether it tells of a promise that is lost.
    pub promise_lost: bool,
}

/// All images.
pub fn images() -> &'static [Image] {
    static IMAGES: OnceLock<Vec<Image>> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let scripts: [fn(&MemoryDisk); 9] =
            [short, openings, segments, unsealed, agreed, long, one_of_three, rolled, muted];
        let image = |script: fn(&MemoryDisk)| {
            let disk = MemoryDisk::new();
            write_identity(&disk);
            script(&disk);
            Image::of(&disk)
        };
        scripts.map(image).to_vec()
    })
}

/// The image that seven bits choose. Of four numbers, three are for the images that there were
/// first: inputs that were found with them keep their meaning.
#[must_use]
pub fn chosen(number: u8) -> &'static Image {
    let (first, later) = images().split_at(FIRST_IMAGES);
    match usize::from(number) {
        number if number < LATER_FROM => &first[number % first.len()],
        number => &later[number % later.len()],
    }
}

const FIRST_IMAGES: usize = 7;
const LATER_FROM: usize = 96;

impl Image {
    fn of(disk: &MemoryDisk) -> Self {
        let files = load(disk);
        let frames = Self::frames(&files);
        assert!(frames.windows(2).all(|pair| pair[0].lsn < pair[1].lsn), "frames are in order");
        let opened = Journal::open(store(&files), OPTIONS, WHO);
        let recovered = opened.expect("an image can be opened").recovered();
        Self { files, frames, promise_lost: recovered.doubts.promise_lost }
    }

    fn frames(files: &Files) -> Vec<Header> {
        let mut frames = Vec::new();
        for number in 1..64 {
            let Some(bytes) = files.get(&segment_name(number)) else { continue };
            for offset in (0..bytes.len()).step_by(8) {
                if let Ok((header, _)) = Header::decode(&bytes[offset..])
                    && header.segment == number
                    && header.offset == offset as u64
                {
                    frames.push(header);
                }
            }
        }
        frames
    }
}

/// The files of a disk.
///
/// # Panics
///
/// Where a file in memory cannot be read.
#[must_use]
pub fn load(disk: &MemoryDisk) -> Files {
    let read = |name: String| {
        let file = disk.open(&name).expect("the file was listed");
        let mut bytes = vec![0; file.len().expect("it has a length") as usize];
        let count = file.read_at(0, &mut bytes).expect("it can be read");
        assert_eq!(count, bytes.len());
        (name, bytes)
    };
    disk.list().expect("a disk in memory lists its files").into_iter().map(read).collect()
}

/// A disk with these files.
///
/// # Panics
///
/// Where a file in memory cannot be written.
#[must_use]
pub fn store(files: &Files) -> MemoryDisk {
    let disk = MemoryDisk::new();
    for (name, bytes) in files {
        let file = disk.create(name).expect("names differ");
        file.write_at(0, bytes).expect("a disk in memory takes writes");
    }
    disk
}

/// An entry with one command of `bytes` bytes.
#[must_use]
pub fn entry(number: u8, bytes: usize) -> Entry {
    let mut builder = EntryBuilder::new(Time(1), bytes);
    builder.push(&vec![number; bytes]);
    builder.finish()
}

/// The membership of a replica that is alone.
///
/// # Panics
///
/// Never: one voter is a membership.
#[must_use]
pub fn alone(incarnation: Incarnation) -> Membership {
    let voter = Member { id: WHO, incarnation, address: String::new() };
    Membership::majority(vec![voter]).expect("one voter is a membership")
}

/// Does all jobs that there are.
///
/// # Panics
///
/// Where one fails, or where they do not end.
pub fn settle(journal: &mut Journal<MemoryDisk>) {
    for _ in 0..1000 {
        let Some(job) = journal.next_job().expect("nothing failed") else { return };
        journal.complete(job.run()).expect("a disk in memory takes writes");
    }
    panic!("the journal has jobs without end");
}

/// The membership of three.
fn three(incarnation: Incarnation) -> Membership {
    let voter = |id| Member {
        id: ReplicaId(id),
        incarnation: if ReplicaId(id) == WHO { incarnation } else { Incarnation(id.into()) },
        address: id.to_string(),
    };
    Membership::majority((1..=3).map(voter).collect()).expect("three voters are a membership")
}

fn write_identity(disk: &MemoryDisk) {
    let identity = Identity {
        cluster: ClusterId::UNFORMED,
        replica: WHO,
        incarnation: Incarnation(0x1f1e_1d1c_1b1a_1918),
        boot: Boot::default(),
        membership: None,
        formed: false,
        segment_last: 0,
        segment_made: 0,
        front: Front::default(),
    };
    let file = disk.create(IDENTITY_NAME).expect("the disk is empty");
    file.write_at(0, &identity.encode()).expect("a disk in memory takes writes");
}

fn open(disk: &MemoryDisk) -> Journal<MemoryDisk> {
    open_as(disk, alone)
}

/// Opens the directory, and forms it with the membership that goes with its incarnation.
fn open_as(disk: &MemoryDisk, membership: fn(Incarnation) -> Membership) -> Journal<MemoryDisk> {
    let mut journal = Journal::open(disk.clone(), OPTIONS, WHO).expect("the directory is whole");
    if !journal.identity().formed {
        let membership = membership(journal.identity().incarnation);
        journal.agree(&membership, true).expect("a disk in memory takes writes");
    }
    journal
}

fn promise(round: u64) -> Record {
    Record::Promise { ballot: Ballot { round, leader: WHO } }
}

fn vote(slot: u64, round: u64, bytes: usize) -> Record {
    let ballot = Ballot { round, leader: WHO };
    Record::Vote { slot: Slot(slot), ballot, entry: entry(slot as u8, bytes) }
}

/// Appends a group and makes it durable.
fn group(journal: &mut Journal<MemoryDisk>, records: &[Record], slot_chosen: u64) {
    journal.append(records, Slot(slot_chosen)).expect("nothing failed");
    settle(journal);
}

fn seal(journal: &mut Journal<MemoryDisk>) {
    assert!(journal.seal().expect("nothing failed"), "there is something to seal");
    settle(journal);
}

fn short(disk: &MemoryDisk) {
    let mut journal = open(disk);
    let first = Entry::membership(&alone(journal.identity().incarnation));
    group(&mut journal, &[Record::Chosen { slot: Slot(0), entry: first }], 1);
    group(&mut journal, &[promise(1), vote(1, 1, 10), vote(2, 1, 20)], 1);
    group(&mut journal, &[vote(3, 1, 30)], 3);
    seal(&mut journal);
}

fn openings(disk: &MemoryDisk) {
    let mut journal = open(disk);
    group(&mut journal, &[promise(1), vote(0, 1, 8), vote(1, 1, 3000)], 0);
    journal.append(&[vote(2, 1, 8)], Slot(1)).expect("nothing failed");
    settle(&mut journal);
    drop(journal);
    let mut journal = open(disk);
    group(&mut journal, &[promise(2), vote(1, 2, 9), vote(2, 2, 9)], 2);
    let slots = SlotRange { first: Slot(0), end: Slot(2) };
    let verdicts = Verdicts { slots, after: TxId::ZERO, took_id: vec![3] };
    group(&mut journal, &[Record::Verdicts(verdicts), promise(4)], 2);
    drop(journal);
    let mut journal = open(disk);
    group(&mut journal, &[vote(3, 4, 100)], 3);
    group(&mut journal, &[Record::Chosen { slot: Slot(4), entry: entry(9, 5) }], 3);
    seal(&mut journal);
}

fn segments(disk: &MemoryDisk) {
    let mut journal = open(disk);
    group(&mut journal, &[promise(1)], 0);
    for slot in 0..7 {
        group(&mut journal, &[vote(slot, 1, 20_000)], slot);
    }
    seal(&mut journal);
}

/// Two groups in flight when the process ends, of which the first was not written.
fn unsealed(disk: &MemoryDisk) {
    let mut journal = open(disk);
    group(&mut journal, &[promise(1), vote(0, 1, 8)], 0);
    group(&mut journal, &[vote(1, 1, 8)], 1);
    let mut jobs = Vec::new();
    for slot in [2, 3] {
        journal.append(&[vote(slot, 1, 5000)], Slot(1)).expect("nothing failed");
        jobs.extend(journal.next_job().expect("nothing failed"));
    }
    assert_eq!(jobs.len(), 2, "two groups are in flight");
    drop(jobs.pop().map(|job| job.run()));
}

/// Groups of several blocks, in which most frames begin in the middle of one; no seal.
fn long(disk: &MemoryDisk) {
    fill_long(&mut open(disk));
}

/// The same, of a replica that others have copies for; over two openings.
fn one_of_three(disk: &MemoryDisk) {
    fill_long(&mut open_as(disk, three));
    let mut journal = open_as(disk, three);
    group(&mut journal, &[promise(5)], 1);
    group(&mut journal, &[vote(6, 5, 5000), vote(7, 5, 3000)], 1);
}

/// One of three, over several segments, of which it knows half of the slots to be chosen: some it
/// voted for, some it was told. It is sealed, and knows of a peer.
fn rolled(disk: &MemoryDisk) {
    let mut journal = open_as(disk, three);
    group(&mut journal, &[promise(1), vote(0, 1, 8), vote(1, 1, 9000)], 0);
    let told = |slot| Record::Chosen { slot: Slot(slot), entry: entry(slot as u8, 12_000) };
    group(&mut journal, &[told(2), told(3), vote(4, 1, 9000)], 2);
    group(&mut journal, &[promise(3), vote(5, 3, 20_000), vote(6, 3, 40)], 4);
    group(&mut journal, &[Record::Sightings(vec![sighting()]), vote(7, 3, 9000)], 4);
    let slots = SlotRange { first: Slot(0), end: Slot(4) };
    let verdicts = Verdicts { slots, after: TxId::ZERO, took_id: vec![15] };
    group(&mut journal, &[Record::Verdicts(verdicts), told(4), vote(8, 3, 9000)], 5);
    seal(&mut journal);
}

/// One of three that lost its promise behind a torn end, and was opened since: only frames of what
/// is in doubt, and a superheader, tell of it.
fn muted(disk: &MemoryDisk) {
    let mut journal = open_as(disk, three);
    let first = Record::Chosen { slot: Slot(0), entry: entry(1, 8) };
    group(&mut journal, &[promise(1), first], 1);
    group(&mut journal, &[promise(2), vote(1, 2, 8)], 1);
    group(&mut journal, &[vote(2, 2, 8)], 1);
    drop(journal);
    let newest = Ballot { round: 2, leader: WHO };
    for header in Image::frames(&load(disk)) {
        if header.ballot == newest || header.kind == Kind::Group && header.slot > Slot(1) {
            let file = disk.open(&segment_name(header.segment)).expect("it was made");
            file.write_at(header.offset + 20, &[0xff; 4]).expect("a disk in memory takes writes");
        }
    }
    drop(open_as(disk, three));
}

fn sighting() -> Sighting {
    Sighting {
        replica: ReplicaId(2),
        incarnation: Incarnation(2),
        boot: Boot { sequence: 3, nonce: 4 },
        frontier: Lsn(5),
        fenced: false,
    }
}

fn fill_long(journal: &mut Journal<MemoryDisk>) {
    group(journal, &[promise(1), vote(0, 1, 8)], 0);
    group(journal, &[promise(2), vote(1, 2, 8)], 1);
    group(journal, &[vote(2, 2, 5000), vote(3, 2, 5000)], 1);
    group(journal, &[vote(4, 2, 5000), vote(5, 2, 5000)], 1);
}

/// Agreed to a membership, not formed.
fn agreed(disk: &MemoryDisk) {
    let mut journal = Journal::open(disk.clone(), OPTIONS, WHO).expect("the directory is whole");
    let membership = alone(journal.identity().incarnation);
    journal.agree(&membership, false).expect("a disk in memory takes writes");
}
