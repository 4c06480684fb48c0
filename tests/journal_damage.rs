//! Journals of a member of a cluster, damaged at random, against a model that knows what was
//! written: it goes through the frames in their order, each one whole, without its payload, or
//! gone.
//!
//! What is found is what was written, or is named; and nothing is named but what the damage can
//! have taken: the slot of a frame whose header is left, and otherwise every slot that no good
//! frame behind tells of. Then the replica writes on, more of it rots, and it still tells no lie.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "support/formed.rs"]
mod formed;

use std::collections::{BTreeMap, BTreeSet};

use indelible::journal::frame::{FRAME_HEADER_BYTES, Header, Kind};
use indelible::journal::segment::{BLOCK_BYTES, Superheader, segment_name, segment_number};
use indelible::journal::{Disk, File, Journal, MemoryDisk, Options};
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{Ballot, ReplicaId, Slot, SlotRange};
use indelible::types::membership::Membership;
use indelible::types::record::{Doubts, Record, Recovered};
use indelible::types::time::Time;

const WHO: ReplicaId = ReplicaId(1);
const ALPHA: u64 = 4;
const OPTIONS: Options = Options {
    segment_bytes: 64 * 1024,
    inflight_max: 2,
    group_bytes_max: 32 * 1024,
    received_sync_bytes: 8192,
};
const SECTOR_BYTES: usize = 512;

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// What the owner of the journal knows.
#[derive(Default)]
struct Owner {
    promised: Ballot,
    slot_chosen: u64,
    /// One behind the last slot with a frame.
    end: u64,
    /// The newest vote in each slot.
    votes: BTreeMap<u64, (Ballot, Entry)>,
    /// What the newest frame of each slot holds.
    entries: BTreeMap<u64, Entry>,
    /// What it was told.
    chosen: BTreeMap<u64, Entry>,
}

impl Owner {
    /// Some records that a replica can write, and how far they let it know the log.
    fn records(&mut self, rng: &mut Rng) -> Vec<Record> {
        let mut records = Vec::new();
        if self.promised == Ballot::ZERO || rng.one_in(6) {
            self.promised = self.promised.next_for(WHO).unwrap();
            records.push(Record::Promise { ballot: self.promised });
        }
        // The first group has a slot, so that each later one says how far slots reach.
        for _ in 0..rng.below(6).max(u64::from(self.end == 0)) {
            let end = (self.end + 1).min(self.slot_chosen + 2 * ALPHA);
            let slot = self.slot_chosen + rng.below(end - self.slot_chosen);
            records.push(match rng.below(8) {
                0 => self.told(slot, rng),
                1 if self.slot_chosen > 0 => {
                    let slot = rng.below(self.slot_chosen);
                    let entry = self.entries[&slot].clone();
                    Record::Chosen { slot: Slot(slot), entry }
                }
                _ => self.vote(slot, rng),
            });
        }
        while self.entries.contains_key(&self.slot_chosen) && rng.one_in(2) {
            self.slot_chosen += 1;
        }
        records
    }

    fn vote(&mut self, slot: u64, rng: &mut Rng) -> Record {
        let ballot = self.promised;
        // At one ballot there is one entry, and one that is chosen stays it.
        let again = self.votes.get(&slot).filter(|(at, _)| *at == ballot);
        let known = self.chosen.get(&slot).or(again.map(|(_, entry)| entry));
        let entry = known.cloned().unwrap_or_else(|| entry(slot, ballot.round, rng));
        self.votes.insert(slot, (ballot, entry.clone()));
        self.hold(slot, &entry);
        Record::Vote { slot: Slot(slot), ballot, entry }
    }

    fn told(&mut self, slot: u64, rng: &mut Rng) -> Record {
        let known = self.chosen.get(&slot).cloned();
        let entry = known.unwrap_or_else(|| entry(slot, 1000, rng));
        self.chosen.insert(slot, entry.clone());
        self.hold(slot, &entry);
        let known = |slot: &u64| self.chosen.contains_key(slot);
        self.slot_chosen += (self.slot_chosen..).take_while(known).count() as u64;
        Record::Chosen { slot: Slot(slot), entry }
    }

    fn hold(&mut self, slot: u64, entry: &Entry) {
        self.entries.insert(slot, entry.clone());
        self.end = self.end.max(slot + 1);
    }
}

fn entry(slot: u64, round: u64, rng: &mut Rng) -> Entry {
    let bytes = if rng.one_in(4) { 200 + rng.below(9000) as usize } else { 8 };
    let mut builder = EntryBuilder::new(Time(1), bytes);
    builder.push(&vec![(slot * 16 + round) as u8; bytes]);
    builder.finish()
}

fn open(disk: &MemoryDisk) -> Journal<MemoryDisk> {
    let mut journal = Journal::open(disk.clone(), OPTIONS, WHO).unwrap();
    if !journal.identity().formed {
        let voters = formed::members(journal.identity(), 3);
        journal.agree(&Membership::flexible(voters, 2, 2, ALPHA).unwrap(), true).unwrap();
    }
    journal
}

fn settle(journal: &mut Journal<MemoryDisk>) {
    while let Some(job) = journal.next_job().unwrap() {
        journal.complete(job.run()).unwrap();
    }
}

/// Some groups, and perhaps a seal behind them.
fn write(journal: &mut Journal<MemoryDisk>, owner: &mut Owner, seals: bool, rng: &mut Rng) {
    for _ in 0..1 + rng.below(6) {
        let records = owner.records(rng);
        journal.append(&records, Slot(owner.slot_chosen)).unwrap();
        if !rng.one_in(3) {
            settle(journal);
        }
    }
    settle(journal);
    if seals {
        journal.seal().unwrap();
        settle(journal);
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Whole,
    /// Its header is right, its payload is not.
    Hollow,
    Gone,
}

/// The files of a directory, and the frames in them, in the order in which they were written.
struct Image {
    files: BTreeMap<String, Vec<u8>>,
    frames: Vec<Header>,
}

impl Image {
    fn of(disk: &MemoryDisk) -> Self {
        let mut image = Self { files: BTreeMap::new(), frames: Vec::new() };
        for name in disk.list().unwrap() {
            let file = disk.open(&name).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
            image.files.insert(name, bytes);
        }
        for (name, bytes) in &image.files {
            let Some(number) = segment_number(name) else { continue };
            let mut at = BLOCK_BYTES;
            while at + FRAME_HEADER_BYTES <= bytes.len() {
                at += match Header::decode(&bytes[at..]) {
                    Ok((header, _)) if (header.segment, header.offset) == (number, at as u64) => {
                        image.frames.push(header);
                        header.frame_bytes()
                    }
                    _ => 8,
                };
            }
        }
        let lsns = image.frames.iter().map(|header| header.lsn);
        assert!(lsns.is_sorted(), "frames are in the order of their numbers");

        image
    }

    /// Whether something says that all content was durable, so that none of it can pass for torn.
    fn is_sealed(&self) -> bool {
        // Where a segment begins, the promise is told once more.
        let is_repeated = |header: &Header| {
            let mut same = self.frames.iter().filter(|it| it.meta_seq == header.meta_seq);
            same.any(|it| it.kind == Kind::Promise && it.lsn.0 + 1 < header.lsn.0)
        };
        let is_content = |header: &&Header| match header.kind {
            Kind::Group | Kind::Seal => false,
            Kind::Promise => !is_repeated(header),
            _ => true,
        };
        let last = self.frames.iter().filter(is_content).map(|header| header.lsn).max();
        let superheaders = self.files.values().filter_map(|bytes| Superheader::decode(bytes).ok());
        let told = superheaders.map(|(superheader, _)| superheader.durable_through);
        let told = told.chain(self.frames.iter().map(|header| header.durable_through)).max();
        last <= told
    }

    fn bytes(&self, header: &Header) -> Option<(&[u8], &[u8])> {
        let bytes = self.files.get(&segment_name(header.segment))?;
        let frame = bytes.get(header.offset as usize..)?;
        let end = FRAME_HEADER_BYTES + header.payload_bytes as usize;
        Some(frame.get(..end)?.split_at(FRAME_HEADER_BYTES))
    }

    /// The states of this image's frames in one that was damaged.
    fn states(&self, damaged: &Self) -> Vec<State> {
        let state = |header: &Header| match (self.bytes(header), damaged.bytes(header)) {
            (Some(was), Some(is)) if was.0 != is.0 => State::Gone,
            (Some(was), Some(is)) if was.1 != is.1 && header.kind != Kind::Promise => State::Hollow,
            (Some(_), Some(_)) => State::Whole,
            _ => State::Gone,
        };
        self.frames.iter().map(state).collect()
    }

    /// The image with some damage, none of it in the first block of a segment. If `sealed`, there
    /// is none in the last group either, which proves that all before it was durable. If not,
    /// nothing is zeroed: at the end that would look as if there had never been anything.
    fn damage(&self, sealed: bool, rng: &mut Rng) -> Self {
        let mut files = self.files.clone();
        let last = self.frames.iter().rposition(|header| header.kind == Kind::Group).unwrap();
        let count = if sealed { last } else { self.frames.len() };
        for _ in 0..1 + rng.below(4) {
            // Often near the end.
            let back = if rng.one_in(2) { 12.min(count as u64) } else { count as u64 };
            let header = &self.frames[count - 1 - rng.below(back) as usize];
            let bytes = files.get_mut(&segment_name(header.segment)).unwrap();
            let (start, length) = (header.offset as usize, header.payload_bytes as usize);
            match rng.below(if sealed { 8 } else { 6 }) {
                0..3 => bytes[start + rng.below(FRAME_HEADER_BYTES as u64) as usize] ^= 1,
                3..6 if length > 0 => {
                    bytes[start + FRAME_HEADER_BYTES + rng.below(length as u64) as usize] ^= 1;
                }
                6 => {
                    let block = start / BLOCK_BYTES * BLOCK_BYTES;
                    bytes[block..block + BLOCK_BYTES].fill(0);
                }
                7 => {
                    let sector = start / SECTOR_BYTES * SECTOR_BYTES;
                    bytes[sector..sector + SECTOR_BYTES].fill(0);
                }
                _ => {}
            }
        }
        Self { files, frames: self.frames.clone() }
    }

    fn disk(&self) -> MemoryDisk {
        let disk = MemoryDisk::new();
        for (name, bytes) in &self.files {
            disk.create(name).unwrap().write_at(0, bytes).unwrap();
        }
        disk
    }
}

/// What can be told from what is left.
#[derive(Default)]
struct Model {
    slot_chosen: u64,
    chosen: BTreeSet<u64>,
    held: BTreeSet<u64>,
    doubted: BTreeSet<u64>,
    /// Known to be chosen, as a whole frame says.
    told: BTreeSet<u64>,
}

impl Model {
    fn of(image: &Image, states: &[State]) -> Self {
        let mut model = Self::default();
        for (at, header) in image.frames.iter().enumerate() {
            let slot = header.slot.0;
            // Nobody votes for what is known to be chosen: such a vote is an older one, said again.
            let is_older = header.kind == Kind::Vote && slot < model.slot_chosen;
            let is_entry = matches!(header.kind, Kind::Vote | Kind::Chosen) && !is_older;
            match states[at] {
                State::Whole if is_entry => model.take(header.kind, slot),
                State::Hollow if is_entry => drop(model.doubted.insert(slot)),
                State::Gone if !is_known_by_its_copy(image, states, at) => {
                    let rest = image.frames[at..].iter().zip(&states[at..]);
                    let mut groups = rest.filter(|(it, state)| {
                        it.kind == Kind::Group && **state != State::Gone && it.slot > Slot::ZERO
                    });
                    let limit = groups.next().unwrap().0.slot.0;
                    model.doubted.extend(model.slot_chosen..limit);
                }
                _ => {}
            }
            let is_last = image.frames.get(at + 1).is_none_or(|next| next.kind == Kind::Group);
            if is_last && is_group_whole(image, states, at) {
                model.end_group(header.slot_chosen.0);
            }
        }
        model
    }

    fn take(&mut self, kind: Kind, slot: u64) {
        self.held.insert(slot);
        if kind == Kind::Vote {
            self.doubted.remove(&slot);
        } else {
            // True whatever is lost behind it.
            self.chosen.insert(slot);
            self.end_group(0);
        }
    }

    fn end_group(&mut self, slot_chosen: u64) {
        self.slot_chosen = self.slot_chosen.max(slot_chosen);
        while let Some(slot) = self.chosen.first().copied().filter(|it| *it <= self.slot_chosen) {
            self.chosen.remove(&slot);
            self.told.insert(slot);
            self.slot_chosen = self.slot_chosen.max(slot + 1);
        }
    }

    fn is_named(&self, slot: u64) -> bool {
        let is_missing = slot < self.slot_chosen && !self.held.contains(&slot);
        is_missing || self.doubted.contains(&slot) && !self.told.contains(&slot)
    }
}

fn is_known_by_its_copy(image: &Image, states: &[State], at: usize) -> bool {
    let other = match image.frames[at].copy {
        1 => at + 1,
        2 => at - 1,
        _ => return false,
    };
    states[other] != State::Gone
}

/// Whether the group that ends with the frame `last` is whole.
fn is_group_whole(image: &Image, states: &[State], last: usize) -> bool {
    let first = image.frames[..=last].iter().rposition(|header| header.kind == Kind::Group);
    let mut frames = first.unwrap()..=last;
    frames.all(|at| states[at] == State::Whole || is_known_by_its_copy(image, states, at))
}

fn is_named(found: &Recovered, slot: Slot) -> bool {
    found.missing.contains(slot) || found.doubts.contains(slot)
}

/// Nothing that is found is another thing than what was written last.
fn check_sound(owner: &Owner, journal: &Journal<MemoryDisk>, found: &Recovered, sealed: bool) {
    let is_lost = found.promised < owner.promised && !found.doubts.promise_lost;
    assert!(!is_lost || !sealed, "a promise is lost");
    let torn = &found.doubts.uncertain;
    assert!(!sealed || torn.is_empty(), "all was durable, and called torn: {torn:?}");
    assert!(found.promised <= owner.promised);
    for slot in 0..owner.end {
        if is_named(found, Slot(slot)) {
            continue;
        }
        if slot < found.slot_chosen.0 {
            let read = journal.reader().read(Slot(slot), Slot(slot + 1), 0).unwrap();
            assert_eq!(read.first(), owner.entries.get(&slot), "slot {slot} holds something else");
            continue;
        }
        let vote = found.votes.iter().find(|(voted, ..)| voted.0 == slot);
        let vote = vote.map(|(_, ballot, entry)| (*ballot, entry.clone()));
        assert_eq!(vote, owner.votes.get(&slot).cloned(), "the vote for slot {slot}");
    }
    // Read at once, they end before the first that is missing.
    let end = found.missing.first().unwrap_or(found.slot_chosen).min(found.slot_chosen);
    if end > Slot::ZERO {
        let read = journal.reader().read(Slot::ZERO, found.slot_chosen, usize::MAX).unwrap();
        let wanted = (0..end.0).map(|slot| owner.entries[&slot].clone()).collect::<Vec<_>>();
        assert!(read == wanted, "{} entries are read, wanted those below slot {end}", read.len());
    }
}

/// Repairs what is missing, and votes for some of what is in doubt.
fn heal(journal: &mut Journal<MemoryDisk>, found: &Recovered, owner: &mut Owner, rng: &mut Rng) {
    owner.slot_chosen = owner.slot_chosen.max(found.slot_chosen.0);
    owner.promised = owner.promised.next_for(WHO).unwrap();
    let mut records = vec![Record::Promise { ballot: owner.promised }];
    for slot in 0..owner.end {
        if found.missing.contains(Slot(slot)) && !rng.one_in(4) {
            let entry = owner.entries[&slot].clone();
            records.push(Record::Chosen { slot: Slot(slot), entry });
        } else if slot >= owner.slot_chosen && rng.one_in(3) {
            records.push(owner.vote(slot, rng));
        }
    }
    journal.append(&records, Slot(owner.slot_chosen)).unwrap();
    settle(journal);
}

#[derive(Default)]
struct Counts {
    named: u64,
    kept: u64,
    doubted_again: u64,
}

fn run(seed: u64, counts: &mut Counts) {
    let mut rng = Rng(seed);
    let (disk, mut owner) = (MemoryDisk::new(), Owner::default());
    let sealed = !rng.one_in(3);
    for _ in 0..1 + rng.below(3) {
        let mut journal = open(&disk);
        owner.slot_chosen = owner.slot_chosen.max(journal.recovered().slot_chosen.0);
        write(&mut journal, &mut owner, sealed, &mut rng);
    }
    let image = Image::of(&disk);
    assert!(!sealed || image.is_sealed(), "the journal was idle, and its end is told by nothing");
    let damaged = image.damage(sealed, &mut rng);
    let (states, disk) = (image.states(&damaged), damaged.disk());
    let mut journal = open(&disk);
    let found = journal.recovered();
    check_sound(&owner, &journal, &found, sealed);
    if sealed {
        let model = Model::of(&image, &states);
        assert_eq!(found.slot_chosen.0, model.slot_chosen);
        for slot in 0..owner.end + 4 * ALPHA {
            let named = is_named(&found, Slot(slot));
            assert!(named == model.is_named(slot), "slot {slot} is named, or not: {found:?}");
            counts.named += u64::from(named);
            counts.kept += u64::from(!named && slot < owner.end);
        }
    }
    drop(journal);
    let mut journal = open(&disk);
    assert_eq!(journal.recovered(), found, "opened twice");
    if found.promised < owner.promised {
        return;
    }
    heal(&mut journal, &found, &mut owner, &mut rng);
    write(&mut journal, &mut owner, sealed, &mut rng);
    drop(journal);
    let disk = Image::of(&disk).damage(sealed, &mut rng).disk();
    let mut journal = open(&disk);
    let again = journal.recovered();
    check_sound(&owner, &journal, &again, sealed);
    counts.doubted_again += u64::from(!again.doubts.is_empty() || !again.missing.is_empty());
    drop(journal);
    assert_eq!(open(&disk).recovered(), again, "opened twice");
}

/// Says what was being tried.
struct Tell(u64);

impl Drop for Tell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

#[test]
fn what_damage_leaves_is_found_and_what_it_takes_is_named() {
    let seeds = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(600);
    let mut counts = Counts::default();
    for seed in 0..seeds {
        let _told = Tell(seed);
        run(seed, &mut counts);
    }
    let Counts { named, kept, doubted_again } = counts;
    let enough = named * 2 > seeds && kept > seeds && doubted_again * 4 > seeds;
    assert!(enough, "{seeds} seeds: {named} named, {kept} kept, {doubted_again} damaged again");
}

#[test]
fn more_doubts_than_a_frame_holds_are_written_down_coarser() {
    let disk = MemoryDisk::new();
    let mut journal = open(&disk);
    // Every third slot, as of a disk of which every third sector is lost.
    let doubted = (1..).step_by(3).map(Slot).take(300_000);
    let faulty = doubted.clone().map(SlotRange::one).collect();
    journal.append(&[Record::Doubts(Doubts { faulty, ..Doubts::default() })], Slot(1)).unwrap();
    settle(&mut journal);
    drop(journal);
    let found = open(&disk).recovered().doubts;
    assert!(doubted.clone().all(|slot| found.faulty.contains(slot)));
    assert_eq!(found.faulty.end(), doubted.last().map(Slot::next), "and nothing behind it");
}
