//! Random appends, writes in flight, failed syncs and crashes: what a frontier covered is found
//! again, and the promise never goes back. In a cluster also random damage of durable blocks: then
//! no slot that had a durable vote answers as if it never had, or had only an older one. A failing
//! seed is printed; make it a script.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "support/damage.rs"]
mod damage;
#[path = "support/faulty_disk.rs"]
mod faulty_disk;

use std::collections::BTreeMap;

use faulty_disk::FaultyDisk;
use indelible::journal::{Job, Journal, JournalError, Options};
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{Ballot, Incarnation, Lsn, ReplicaId, Slot};
use indelible::types::membership::{Membership, Voter};
use indelible::types::record::{Doubts, Record};
use indelible::types::slots::SlotSet;
use indelible::types::time::Time;

const WHO: ReplicaId = ReplicaId(1);

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// What the owner of the journal knows; it outlives crashes.
#[derive(Default)]
struct Model {
    promised: Ballot,
    /// Promises and votes that were appended, and their frames.
    promises: Vec<(Lsn, Ballot)>,
    written: Vec<(Lsn, Slot, Ballot, Entry)>,
    durable: Lsn,
    durable_promise: Ballot,
    /// The newest durable entry of each slot, and its ballot.
    entries: BTreeMap<Slot, (Ballot, Entry)>,
    slot_chosen: Slot,
    slot_next: Slot,
    boots: u64,
    /// What the journal says it lost, without what was durably appended since.
    missing: SlotSet,
    doubts: Doubts,
    /// How often blocks were damaged since the last opening.
    damages: u64,
}

impl Model {
    fn settle(&mut self, slot: Slot) {
        self.missing.remove_slot(slot);
        self.doubts.faulty.remove_slot(slot);
        self.doubts.uncertain.remove_slot(slot);
    }

    /// Both copies of a promise can rot at once where nothing speaks of them yet.
    fn is_luckless(&self) -> bool {
        self.damages > 1 && !self.doubts.is_empty()
    }

    /// Whether the journal says of itself that it cannot tell.
    fn is_lost(&self, slot: Slot) -> bool {
        self.missing.contains(slot) || self.doubts.contains(slot)
    }

    fn cover(&mut self, frontier: Lsn) {
        assert!(frontier >= self.durable, "the frontier went back");
        self.durable = frontier;
        self.promises.retain(|(lsn, ballot)| {
            if *lsn <= frontier {
                self.durable_promise = self.durable_promise.max(*ballot);
            }
            *lsn > frontier
        });
        let written = std::mem::take(&mut self.written);
        for (lsn, slot, ballot, entry) in written {
            if lsn <= frontier {
                self.settle(slot);
                self.entries.insert(slot, (ballot, entry));
            } else {
                self.written.push((lsn, slot, ballot, entry));
            }
        }
    }
}

fn entry(random: &mut Random) -> Entry {
    let length = match random.below(50) {
        0 => 70_000,
        1..10 => 3000,
        _ => 200,
    };
    let mut builder = EntryBuilder::new(Time(1), 0);
    let mut bytes = vec![7; random.below(length) as usize + 8];
    bytes[..8].copy_from_slice(&random.next().to_le_bytes());
    builder.push(&bytes);
    builder.finish()
}

fn open(disk: &FaultyDisk, voters: u64) -> Result<Journal<FaultyDisk>, JournalError> {
    let options = Options { segment_bytes: 64 * 1024, inflight_max: 2, group_bytes_max: 32 * 1024 };
    let mut journal = Journal::open(disk.clone(), options, WHO)?;
    if !journal.identity().formed {
        let own = journal.identity().incarnation;
        let voter = |id| Voter {
            id: ReplicaId(id),
            incarnation: if id == WHO.0 { own } else { Incarnation(id.into()) },
            address: id.to_string(),
        };
        let voters = (1..=voters).map(voter).collect();
        journal.agree(&Membership::majority(voters).unwrap(), true)?;
    }
    Ok(journal)
}

/// Compares what an opening found with what was acknowledged, and takes it over.
fn compare(model: &mut Model, journal: &mut Journal<FaultyDisk>) {
    let recovered = journal.recovered();
    let before = std::mem::take(&mut model.doubts);
    (model.missing, model.doubts) = (recovered.missing.clone(), recovered.doubts.clone());
    let lost = recovered.doubts.promise_lost;
    assert!(!before.promise_lost || lost, "the lost promise is forgotten");
    let promised = recovered.promised >= model.durable_promise;
    assert!(promised || lost || model.is_luckless(), "promise {:?}", recovered.promised);
    assert!(recovered.slot_chosen <= model.slot_next);
    assert!(journal.identity().boot.sequence > model.boots, "the boot sequence went back");
    model.boots = journal.identity().boot.sequence;
    assert!(journal.found_through() >= model.durable, "the frontier went back over an opening");
    for (slot, (ballot, entry)) in &model.entries {
        if model.is_lost(*slot) {
            continue;
        }
        let found = journal.reader().read(*slot, slot.next(), 0).unwrap();
        let vote = recovered.votes.iter().find(|(voted, ..)| voted == slot);
        assert!(!found.is_empty(), "slot {slot} is lost");
        if *slot >= recovered.slot_chosen {
            let (_, at, voted) = vote.expect("the vote is lost");
            assert!(at >= ballot, "an older vote for slot {slot}");
            assert!(at > ballot || voted == entry, "another vote for slot {slot}");
        } else {
            assert_eq!(&found[0], entry, "another entry for the chosen slot {slot}");
        }
    }
    for slot in (0..recovered.slot_chosen.0).map(Slot) {
        let found = journal.reader().read(slot, slot.next(), 0).unwrap();
        assert_ne!(found.is_empty(), !model.missing.contains(slot), "slot {slot}");
    }
    for (slot, ballot, entry) in recovered.votes {
        model.slot_next = model.slot_next.max(slot.next());
        // What survived without having been acknowledged is now as good as anything.
        if !model.is_lost(slot) {
            model.entries.insert(slot, (ballot, entry));
        }
    }
    // And what did not is gone.
    model.promised = recovered.promised;
    model.durable_promise = recovered.promised;
    model.slot_chosen = recovered.slot_chosen;
    model.slot_next = model.entries.keys().next_back().map_or(Slot::ZERO, |slot| slot.next());
    model.slot_next = model.slot_next.max(recovered.slot_chosen);
    model.promises.clear();
    model.written.clear();
    model.durable = journal.frontier().lsn();
    model.damages = 0;
}

/// Opens once more, which must find the same.
fn compare_again(disk: &FaultyDisk, model: &mut Model, voters: u64) {
    let read = || {
        let mut journal = open(disk, voters).unwrap();
        model.boots = journal.identity().boot.sequence;
        journal.recovered()
    };
    let mut read = read;
    let (first, second) = (read(), read());
    assert_eq!(first, second, "an opening changed what there is");
    assert_eq!(first.doubts, model.doubts);
    assert_eq!(first.missing, model.missing);
}

fn append(model: &mut Model, journal: &mut Journal<FaultyDisk>, random: &mut Random) {
    let mut records = Vec::new();
    if random.below(20) == 0 {
        model.promised = model.promised.next_for(WHO).unwrap();
        records.push(Record::Promise { ballot: model.promised });
    }
    for _ in 0..random.below(4) {
        // A new slot, or one not chosen yet, voted for again.
        let again = random.below(5) == 0 && model.slot_chosen < model.slot_next;
        let slot = if again {
            // In one ballot and slot only one entry is ever voted for.
            model.promised = model.promised.next_for(WHO).unwrap();
            records.push(Record::Promise { ballot: model.promised });
            let count = model.slot_chosen.count_to(model.slot_next);
            model.slot_chosen.plus(random.below(count))
        } else {
            model.slot_next
        };
        model.slot_next = model.slot_next.max(slot.next());
        records.push(Record::Vote { slot, ballot: model.promised, entry: entry(random) });
    }
    // What is missing is fetched from a peer, sometimes.
    if let Some(slot) = model.missing.first()
        && random.below(8) == 0
        && let Some((_, entry)) = model.entries.get(&slot)
    {
        records.push(Record::Chosen { slot, entry: entry.clone() });
    }
    // Chosen is whatever is durable without a gap, sometimes.
    if random.below(4) == 0 {
        while model.entries.contains_key(&model.slot_chosen)
            && !model.doubts.contains(model.slot_chosen)
            && !model.written.iter().any(|(_, slot, ..)| *slot == model.slot_chosen)
            && !records.iter().any(
                |record| matches!(record, Record::Vote { slot, .. } if *slot == model.slot_chosen),
            )
        {
            model.slot_chosen = model.slot_chosen.next();
        }
    }
    let last = journal.append(&records, model.slot_chosen).unwrap();
    for record in records {
        match record {
            Record::Promise { ballot } => model.promises.push((last, ballot)),
            Record::Vote { slot, ballot, entry } => {
                model.written.push((last, slot, ballot, entry));
            }
            Record::Chosen { slot, entry } => {
                let ballot = model.entries[&slot].0;
                model.written.push((last, slot, ballot, entry));
            }
            _ => unreachable!(),
        }
    }
}

fn live(seed: u64, voters: u64) {
    let mut random = Random(seed);
    let disk = FaultyDisk::default();
    let mut model = Model::default();
    for _life in 0..8 {
        // Some openings are cut short, after any operation.
        if random.below(3) == 0 {
            disk.fail_after(random.below(60));
            drop(open(&disk, voters));
            let keep = random.below(4);
            disk.crash(&mut || random.below(4) < keep);
        }
        let mut journal = open(&disk, voters).unwrap_or_else(|err| panic!("seed {seed}: {err}"));
        let promised = model.durable_promise;
        compare(&mut model, &mut journal);
        if model.durable_promise < promised {
            return;
        }
        if random.below(4) == 0 {
            drop(journal);
            compare_again(&disk, &mut model, voters);
            journal = open(&disk, voters).unwrap();
            compare(&mut model, &mut journal);
        }
        if model.doubts.promise_lost {
            // It never votes again.
            return;
        }
        let mut jobs: Vec<Job<FaultyDisk>> = Vec::new();
        for _step in 0..random.below(120) {
            match random.below(12) {
                0..5 => append(&mut model, &mut journal, &mut random),
                5..8 => jobs.extend(journal.next_job().unwrap()),
                8 => drop(journal.seal().unwrap()),
                _ if !jobs.is_empty() => {
                    let job = jobs.swap_remove(random.below(jobs.len() as u64) as usize);
                    if random.below(40) == 0 {
                        disk.fail_syncs(1);
                    }
                    match journal.complete(job.run()) {
                        Ok(frontier) => model.cover(frontier.lsn()),
                        Err(_) => {
                            assert!(journal.next_job().is_err(), "written after a failure");
                            break;
                        }
                    }
                }
                _ => {}
            }
        }
        // Some writes are done whose outcome nobody hears of.
        for job in jobs {
            if random.below(2) == 0 {
                drop(job.run());
            }
        }
        drop(journal);
        let keep = random.below(5);
        // Sometimes only the process dies.
        if random.below(4) > 0 {
            disk.crash(&mut || random.below(4) < keep);
        }
        if voters > 1 && random.below(2) == 0 {
            for _ in 0..=random.below(3) {
                model.damages += damage::damage(&disk, &mut |end| random.below(end));
            }
        }
    }
}

/// Runs many lives, and says which one it was that went wrong.
fn live_often(voters: u64) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("SEED").unwrap_or(0);
    for seed in first..first + number("SEEDS").unwrap_or(300) {
        let told = TellSeed(seed);
        live(seed, voters);
        drop(told);
    }
}

struct TellSeed(u64);

impl Drop for TellSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the panic came with SEED={}", self.0);
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost() {
    live_often(1);
}

#[test]
fn nothing_damaged_is_passed_over() {
    live_often(3);
}
