//! One fault on the medium, in every block of 512 bytes of every file of a directory: zeros, a
//! flipped bit, an error of reading or writing, what stood there before, what stands elsewhere; and
//! noise from there over the next few to forty blocks, up to the head of the last group; or the
//! file ends there.
//!
//! A replica that is alone has everything afterwards, or refuses, names the file, and changes
//! nothing; also one that healed rot with what others had before they left. One of three has each
//! record, or tells that it may lack it. One thing is excused: what no evidence covers, at the
//! very end, cannot be told from a torn write (`docs/format.md`).

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "support/formed.rs"]
mod formed;

use std::collections::BTreeMap;
use std::time::Instant;

use indelible::journal::frame::{FRAME_HEADER_BYTES, Header, Kind};
use indelible::journal::sharing::alone_name;
use indelible::journal::{Journal, JournalError, Options};
use indelible::sim::disk::{Image, Mount, SimDisk, When};
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{Ballot, ReplicaId, Slot};
use indelible::types::record::{Record, Recovered};
use indelible::types::time::Time;

const WHO: ReplicaId = ReplicaId(1);
const BLOCK_BYTES: usize = 512;
/// More than any file saw.
const SYNCS_MAX: usize = 64;
const OPTIONS: Options = Options {
    segment_bytes: 64 * 1024,
    inflight_max: 2,
    group_bytes_max: 16 * 1024,
    received_sync_bytes: 8192,
};

/// What happens to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Zero,
    Flip,
    ReadFails,
    WriteFails,
    Stale,
    Swap,
    Stretch,
    /// All from there on is gone.
    Cut,
}

const FAULTS: [Fault; 8] = [
    Fault::Zero,
    Fault::Flip,
    Fault::ReadFails,
    Fault::WriteFails,
    Fault::Stale,
    Fault::Swap,
    Fault::Stretch,
    Fault::Cut,
];

/// What became of it, how often.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// Nothing was changed: it was zeros already, say.
    without_effect: u64,
    opened: u64,
    refused: u64,
    told: u64,
    excused: u64,
}

/// A directory, and what was acknowledged of it.
struct Directory {
    voters: u64,
    is_alone: bool,
    disk: SimDisk,
    image: Image,
    promised: Ballot,
    slot_chosen: Slot,
    votes: BTreeMap<Slot, (Ballot, Entry)>,
    /// The last group is covered by no evidence: only the votes before it must be there, and the
    /// promise before it.
    unsealed: Slot,
    promised_before: Ballot,
}

fn open(disk: &SimDisk, voters: u64) -> Result<Journal<Mount>, JournalError> {
    let mut journal = Journal::open(disk.mount(), OPTIONS, WHO)?;
    if !journal.identity().formed {
        let membership = formed::membership(journal.identity(), voters);
        journal.agree(&membership, true)?;
    }
    Ok(journal)
}

fn entry(slot: u64, round: u64) -> Entry {
    let mut builder = EntryBuilder::new(Time(1), 0);
    builder.push(&vec![(slot * 8 + round) as u8; 200 + slot as usize * 700 % 9000]);
    builder.finish()
}

fn settle(journal: &mut Journal<Mount>) {
    while let Some(job) = journal.next_job().unwrap() {
        journal.complete(job.run()).unwrap();
    }
}

/// The block is lost in which the vote for a slot begins.
fn rot_vote(disk: &SimDisk, slot: Slot) {
    for name in disk.names().into_iter().filter(|name| name.starts_with("segment-")) {
        let bytes = disk.durable(&name).unwrap();
        for at in (0..bytes.len().saturating_sub(FRAME_HEADER_BYTES)).step_by(8) {
            let header = Header::decode(&bytes[at..]).map(|(header, _)| header);
            if header.is_ok_and(|header| (header.kind, header.slot) == (Kind::Vote, slot)) {
                let start = at / BLOCK_BYTES * BLOCK_BYTES;
                return assert!(disk.zero(&name, start..start + BLOCK_BYTES));
            }
        }
    }
    panic!("nothing is voted for in slot {slot}");
}

/// Writes what is missing, as others would send it. `lacks`: whether anything has to be.
fn heal(journal: &mut Journal<Mount>, votes: &BTreeMap<Slot, (Ballot, Entry)>, lacks: bool) {
    let found = journal.recovered();
    assert!(found.doubts.is_empty() && found.missing.is_empty() != lacks, "{found:?}");
    let chosen = votes.iter().filter(|(slot, _)| found.missing.contains(**slot));
    let record = |(slot, (_, entry)): (&Slot, &(Ballot, Entry))| Record::Chosen {
        slot: *slot,
        entry: entry.clone(),
    };
    let records = chosen.map(record).collect::<Vec<_>>();
    journal.append_lazy(&records).unwrap();
    settle(journal);
}

impl Directory {
    fn new(voters: u64, sealed: bool) -> Self {
        Self::make(voters, sealed, false)
    }

    /// Several segments, three openings, promises at several places. Where it `heals`, a block
    /// rots before the second opening, which gets what was lost from others; they leave at the end.
    fn make(voters: u64, sealed: bool, heals: bool) -> Self {
        let disk = SimDisk::new();
        disk.record_history(true);
        let mut votes = BTreeMap::new();
        let mut slot = 0;
        let (mut promised, mut promised_before) = (Ballot::ZERO, Ballot::ZERO);
        let mut slot_chosen = Slot::ZERO;
        for round in 1..=3 {
            if heals && round == 2 {
                disk.process_crash();
                rot_vote(&disk, Slot(2));
            }
            let mut journal = open(&disk, voters).unwrap();
            heal(&mut journal, &votes, heals && round == 2);
            for group in 0..5 {
                let mut records = Vec::new();
                promised_before = promised;
                if group == 0 || group == 3 {
                    promised = promised.next_for(WHO).unwrap();
                    records.push(Record::Promise { ballot: promised });
                }
                for _ in 0..=group % 3 {
                    let entry = entry(slot, round);
                    votes.insert(Slot(slot), (promised, entry.clone()));
                    records.push(Record::Vote { slot: Slot(slot), ballot: promised, entry });
                    slot += 1;
                }
                slot_chosen = Slot(slot.saturating_sub(6));
                journal.append(&records, slot_chosen).unwrap();
                settle(&mut journal);
            }
            if round < 3 || sealed {
                assert!(journal.seal().unwrap());
                settle(&mut journal);
            }
        }
        disk.process_crash();
        if heals {
            disk.plant(&alone_name(slot_chosen), &[]);
        }
        let is_alone = voters == 1 || heals;
        let image = disk.image();
        // The last group has the votes of its last two slots.
        let unsealed = Slot(if sealed { slot } else { slot - 2 });
        let promised_before = if sealed { promised } else { promised_before };
        Self {
            voters,
            is_alone,
            disk,
            image,
            promised,
            slot_chosen,
            votes,
            unsealed,
            promised_before,
        }
    }

    /// The disk with a fault; `None` where nothing is changed by it.
    fn damage(&self, name: &str, block: usize, fault: Fault) -> Option<SimDisk> {
        let (start, end) = (block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
        let disk = SimDisk::new();
        disk.restore(&self.image);
        let changed = match fault {
            Fault::Zero => disk.zero(name, start..end),
            Fault::Flip => disk.flip(name, start + block * 37 % BLOCK_BYTES, 1 << (block % 8)),
            Fault::ReadFails => disk.make_unreadable(name, start..end),
            Fault::WriteFails => {
                disk.fail_write(When::after(block as u64 % 6), block % 3 * 100);
                true
            }
            Fault::Cut => disk.truncate(name, start),
            Fault::Stale => self.stale(name, start, &disk),
            Fault::Swap => {
                let length = disk.durable_length(name).unwrap();
                let other = (start + 9 * BLOCK_BYTES + length / 2) % length / BLOCK_BYTES;
                disk.swap((name, start), (name, other * BLOCK_BYTES), BLOCK_BYTES)
            }
            Fault::Stretch => {
                let last = (start + (3 + block % 37) * BLOCK_BYTES).min(self.stretch_end(name));
                disk.rot(name, start..last.max(start), |bytes| {
                    let noise = (0..251).cycle().map(|step: u8| step + 1);
                    bytes.iter_mut().zip(noise).for_each(|(byte, noise)| *byte ^= noise);
                })
            }
        };
        changed.then_some(disk)
    }

    /// Up to where a stretch may reach: of the last group, whose frames alone prove what was
    /// durable before it, only the first ones are hit.
    fn stretch_end(&self, name: &str) -> usize {
        let bytes = self.disk.durable(name).unwrap();
        let groups = |name: &str| {
            let bytes = self.disk.durable(name).unwrap();
            let headers = bytes.chunks(4096).filter_map(|block| Header::decode(block).ok());
            headers.map(|(header, _)| header).rfind(|header| header.kind == Kind::Group)
        };
        let names = self.disk.names();
        let newest = names.iter().filter_map(|name| groups(name)).max_by_key(|group| group.lsn);
        match (groups(name), newest) {
            (Some(group), Some(newest)) if group == newest => {
                // A seal is proof as a whole; of a vote behind another, the header.
                let is_sealed = self.unsealed == Slot(self.votes.len() as u64);
                newest.offset as usize + if is_sealed { 0 } else { 500 }
            }
            _ => bytes.len(),
        }
    }

    /// What stood there before the last sync that changed it. The history is that of the first
    /// disk, on which all of it was written.
    fn stale(&self, name: &str, start: usize, disk: &SimDisk) -> bool {
        let now = disk.durable(name).unwrap();
        let end = now.len().min(start + BLOCK_BYTES);
        for syncs in 1..SYNCS_MAX {
            if !self.disk.make_stale(name, start..end, syncs) {
                continue;
            }
            let old = self.disk.durable(name).unwrap();
            self.disk.rot(name, start..end, |bytes| bytes.copy_from_slice(&now[start..end]));
            return disk.rot(name, start..end, |bytes| bytes.copy_from_slice(&old[start..end]));
        }
        false
    }

    fn check(&self, disk: &SimDisk, fault: Fault, counts: &mut Counts) {
        let before = disk.image();
        let mut journal = match open(disk, self.voters) {
            Ok(journal) => journal,
            Err(err) => {
                self.check_refusal(disk, &before, fault, &err);
                counts.refused += 1;
                return;
            }
        };
        let found = journal.recovered();
        assert!(found.slot_chosen <= self.slot_chosen, "more is chosen than was");
        self.check_promise(&found, counts);
        let (mut lost, mut excused) = (0, 0);
        for (slot, (ballot, entry)) in &self.votes {
            let doubted = found.missing.contains(*slot) || found.doubts.contains(*slot);
            if doubted {
                lost += 1;
                continue;
            }
            let is_there = if *slot < found.slot_chosen {
                let read = journal.reader().read(*slot, slot.next(), 0).unwrap();
                read.first() == Some(entry)
            } else {
                found.votes.contains(&(*slot, *ballot, entry.clone()))
            };
            assert!(is_there || *slot >= self.unsealed, "slot {slot} is lost: {found:?}");
            excused += u64::from(!is_there);
        }
        assert!(lost == 0 || !self.is_alone, "alone it cannot be in doubt");
        counts.opened += 1;
        counts.told += u64::from(lost > 0 || found.doubts.promise_lost);
        counts.excused += u64::from(excused > 0);
        drop(journal);
        disk.disarm();
        let again = open(disk, self.voters).unwrap().recovered();
        assert_eq!(again, found, "opened twice");
    }

    fn check_promise(&self, found: &Recovered, counts: &mut Counts) {
        assert!(found.promised <= self.promised, "a promise that was never given");
        if found.promised < self.promised && !found.doubts.promise_lost {
            assert!(found.promised >= self.promised_before, "the promise went back");
            counts.excused += 1;
        }
    }

    fn check_refusal(&self, disk: &SimDisk, before: &Image, fault: Fault, err: &JournalError) {
        let text = err.to_string();
        let named = text.contains("segment-") || text.contains("identity");
        assert!(named, "no file is named: {text}");
        if fault == Fault::WriteFails {
            // An opening that began to write is no refusal; the next one has everything.
            disk.disarm();
            disk.process_crash();
            let mut none = Counts::default();
            self.check(disk, Fault::Zero, &mut none);
            assert_eq!((none.opened, none.told, none.excused), (1, 0, 0));
            return;
        }
        assert_eq!(disk.image(), *before, "a directory that is refused was changed: {text}");
        // Of a segment that was made ahead, and has no superheader left, nobody knows whether it
        // was used.
        let is_cut = fault == Fault::Cut && text.contains("made longer");
        let is_told = is_cut || text.contains("identity");
        assert!(self.is_alone || is_told, "a member refuses: {text}");
    }
}

/// Every block, every fault.
fn campaign(voters: u64, sealed: bool) -> Counts {
    campaign_on(&Directory::new(voters, sealed))
}

fn campaign_on(directory: &Directory) -> Counts {
    let (begun, voters) = (Instant::now(), directory.voters);
    let (mut all, mut blocks) = (Counts::default(), 0);
    for fault in FAULTS {
        let mut counts = Counts::default();
        for name in directory.disk.names() {
            let length = directory.disk.durable_length(&name).unwrap();
            for block in 0..length.div_ceil(BLOCK_BYTES) {
                blocks += u64::from(fault == Fault::Zero);
                let told = Tell(format!("{voters} voters, {name} block {block} {fault:?}"));
                match directory.damage(&name, block, fault) {
                    Some(disk) => directory.check(&disk, fault, &mut counts),
                    None => counts.without_effect += 1,
                }
                drop(told);
            }
        }
        let (alone, votes) = (directory.is_alone, directory.unsealed);
        println!("{voters} voters, alone {alone}, below {votes} sealed, {fault:?}: {counts:?}");
        all.opened += counts.opened;
        all.refused += counts.refused;
        all.told += counts.told;
        all.excused += counts.excused;
    }
    println!("{blocks} blocks in {:.1?}: {all:?}", begun.elapsed());
    all
}

/// Says what was being tried.
struct Tell(String);

impl Drop for Tell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

#[test]
fn alone_damage_is_refused_or_harmless() {
    let counts = campaign(1, true);
    assert!(counts.refused > 100 && counts.told == 0 && counts.excused == 0, "{counts:?}");
}

#[test]
fn alone_only_the_unsealed_end_can_pass_for_torn() {
    let counts = campaign(1, false);
    assert!(counts.refused > 100 && counts.excused > 0, "{counts:?}");
}

#[test]
fn healed_and_left_alone_damage_is_refused_or_harmless() {
    let counts = campaign_on(&Directory::make(2, true, true));
    assert!(counts.opened > 1000, "{counts:?}");
    assert!(counts.refused > 100 && counts.told == 0 && counts.excused == 0, "{counts:?}");
}

#[test]
fn healed_and_left_alone_only_the_unsealed_end_can_pass_for_torn() {
    let counts = campaign_on(&Directory::make(2, false, true));
    assert!(counts.refused > 100 && counts.excused > 0, "{counts:?}");
}

#[test]
fn in_a_cluster_damage_is_told_or_harmless() {
    let counts = campaign(3, true);
    assert!(counts.told > 100 && counts.excused == 0, "{counts:?}");
}

#[test]
fn in_a_cluster_only_the_unsealed_end_can_pass_for_torn() {
    let counts = campaign(3, false);
    assert!(counts.told > 100, "{counts:?}");
}

/// A system may give fewer bytes than were asked for, and the rest when asked again.
#[test]
fn a_short_read_is_no_damage() {
    for voters in [1, 3] {
        let directory = Directory::new(voters, true);
        let mut counts = Counts::default();
        for read in 0..100 {
            let disk = SimDisk::new();
            disk.restore(&directory.image);
            disk.shorten_read(When::after(read), 100);
            directory.check(&disk, Fault::ReadFails, &mut counts);
        }
        assert_eq!((counts.opened, counts.told, counts.excused), (100, 0, 0), "{voters} voters");
    }
}
