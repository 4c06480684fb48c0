//! Crash points of taking in a checkpoint that a peer sends, exhaustively: at every boundary of a
//! life that lags far behind, gets a checkpoint, and goes on behind it, the power goes or a sync
//! fails; what is left is opened, with another crash at every boundary of that opening, and opened
//! again. All or nothing is found of what came, and all that was acknowledged.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "support/formed.rs"]
mod formed;
#[path = "support/power.rs"]
mod power;

use indelible::journal::parts::Next;
use indelible::journal::{
    Checkpoint, CheckpointHeader, Disk, Journal, JournalError, MemoryDisk, Options, Parts, Source,
    Unfit,
};
use indelible::sim::disk::{Mount, SimDisk, SyncFailure, When};
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{Ballot, Chain, ReplicaId, Slot};
use indelible::types::record::Record;
use indelible::types::time::Time;
use power::cut;

const WHO: ReplicaId = ReplicaId(1);
const BALLOT: Ballot = Ballot { round: 1, leader: WHO };
const OPTIONS: Options = Options {
    segment_bytes: 64 * 1024,
    inflight_max: 2,
    group_bytes_max: 32 * 1024,
    received_sync_bytes: 8192,
};

/// How far the journal comes by itself; the slot of what the peer sends, farther than any journal
/// believes of what it reads; the slot of a checkpoint that is taken behind that; and the end.
const OWN: u64 = 4;
const RECEIVED: u64 = 1 << 22;
const TAKEN: u64 = RECEIVED + 3;
const END: u64 = RECEIVED + 7;

fn entry(slot: u64) -> Entry {
    let mut builder = EntryBuilder::new(Time(1), 0);
    builder.push(&[slot as u8; 14_000]);
    builder.finish()
}

fn image(slot: u64) -> Vec<Vec<u8>> {
    (1..=3).map(|piece| vec![(slot * 16 + piece) as u8; 900 * piece as usize]).collect()
}

fn chain(slot: u64) -> Chain {
    Chain(u128::from(slot) << 64 | 5)
}

fn open<D: indelible::journal::Disk>(disk: D) -> Result<Journal<D>, JournalError> {
    let mut journal = Journal::open(disk, OPTIONS, WHO)?;
    if !journal.identity().formed {
        let membership = formed::membership(journal.identity(), 3);
        journal.agree(&membership, true)?;
    }
    Ok(journal)
}

/// What a peer has, put together again part by part.
struct Incoming {
    parts: Parts,
    file: Vec<u8>,
    at: usize,
    /// The pieces must be this many; a checkpoint of more is not wanted.
    pieces_max: usize,
}

impl Source for Incoming {
    fn piece(&mut self) -> Result<Option<Vec<u8>>, Unfit> {
        loop {
            match self.parts.take().map_err(|bad| Unfit::Bad(bad.to_string()))? {
                Next::Piece(piece) if self.pieces_max > 0 => {
                    self.pieces_max -= 1;
                    return Ok(Some(piece));
                }
                Next::Piece(_) => return Err(Unfit::Bad("too many pieces".to_owned())),
                Next::End => return Ok(None),
                Next::Wait => {
                    let part = self.file.get(self.at..).filter(|left| !left.is_empty());
                    let part = part.ok_or_else(|| Unfit::Bad("it ends".to_owned()))?;
                    let part = &part[..part.len().min(1000)];
                    self.at += part.len();
                    self.parts.push(part).map_err(|bad| Unfit::Bad(bad.to_string()))?;
                }
            }
        }
    }
}

/// The file of a checkpoint that a peer took.
fn file_of_peer() -> Vec<u8> {
    let mut journal = open(MemoryDisk::new()).unwrap();
    journal.begin_receiving(Slot(RECEIVED), chain(RECEIVED), Box::new(image(RECEIVED).into_iter()));
    while let Some(job) = journal.next_job().unwrap() {
        journal.complete(job.run()).unwrap();
    }
    let checkpoint = journal.checkpoint().unwrap().clone();
    let mut bytes = Vec::new();
    loop {
        journal.read_part(WHO, checkpoint.clone(), (bytes.len() as u64, 700));
        let job = journal.next_job().unwrap().unwrap();
        journal.complete(job.run()).unwrap();
        let part = journal.take_parts().pop().unwrap();
        assert_eq!(part.offset, bytes.len() as u64);
        let part = part.bytes.unwrap();
        if part.is_empty() {
            assert_eq!(bytes.len() as u64, checkpoint.bytes());
            return bytes;
        }
        bytes.extend(part);
    }
}

/// What the owner of the journal was told.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    checkpoint: u64,
    taking: u64,
    /// Every slot that was appended below is durable, and appended.
    durable: u64,
    appended: u64,
}

struct Life {
    disk: SimDisk,
    told: Told,
}

impl Life {
    fn run(&mut self, file: &[u8]) -> Result<(), JournalError> {
        let mut journal = open(self.disk.mount())?;
        journal.append(&[Record::Promise { ballot: BALLOT }], Slot(0))?;
        self.append(&mut journal, 0..OWN)?;
        let incoming = Incoming { parts: Parts::new(), file: file.to_vec(), at: 0, pieces_max: 3 };
        self.told.taking = RECEIVED;
        journal.begin_receiving(Slot(RECEIVED), chain(RECEIVED), Box::new(incoming));
        while self.work(&mut journal)? {}
        assert_eq!(journal.checkpoint().map(|it| it.header().slot), Some(Slot(RECEIVED)));
        journal.begin_behind(Slot(RECEIVED));
        while self.work(&mut journal)? {}
        journal.go_on_behind();
        assert_eq!(journal.slot_trimmed(), Slot(RECEIVED));
        self.append(&mut journal, RECEIVED..TAKEN)?;
        self.told.taking = TAKEN;
        journal.begin_checkpoint(Slot(TAKEN), chain(TAKEN), Box::new(image(TAKEN).into_iter()));
        self.append(&mut journal, TAKEN..END)?;
        while self.work(&mut journal)? {}
        Ok(())
    }

    fn append(
        &mut self,
        journal: &mut Journal<Mount>,
        slots: std::ops::Range<u64>,
    ) -> Result<(), JournalError> {
        for slot in slots {
            let vote = Record::Vote { slot: Slot(slot), ballot: BALLOT, entry: entry(slot) };
            journal.append(&[vote], Slot(slot))?;
            self.told.appended = slot + 1;
            for _ in 0..3 {
                self.work(journal)?;
            }
        }
        Ok(())
    }

    fn work(&mut self, journal: &mut Journal<Mount>) -> Result<bool, JournalError> {
        let Some(job) = journal.next_job()? else { return Ok(false) };
        let frontier = journal.complete(job.run())?;
        if frontier.lsn() == journal.last_lsn() {
            self.told.durable = self.told.appended;
        }
        self.told.checkpoint = journal.checkpoint().map_or(0, |it| it.header().slot.0);
        Ok(true)
    }

    /// Opens what is left, and compares it with what was told.
    fn check(&self) -> u64 {
        let mut journal = open(self.disk.mount()).unwrap();
        let recovered = journal.recovered();
        let Told { checkpoint, taking, durable, .. } = self.told;
        let found = recovered.slot_checkpointed.0;
        let fits = checkpoint <= found && [0, checkpoint, taking].contains(&found);
        assert!(fits, "told {:?}, found a checkpoint of {found}", self.told);
        for kept in journal.checkpoints() {
            let CheckpointHeader { slot, chain: found, .. } = kept.header();
            assert_eq!(found, chain(slot.0));
            assert_eq!(pieces(kept), image(slot.0));
        }
        let first = journal.slot_trimmed().0;
        assert_eq!(first, if found > 0 { RECEIVED } else { 0 });
        assert!(found <= recovered.slot_chosen.0);
        assert!(recovered.missing.is_empty() && recovered.unreadable.is_empty());
        for slot in first..durable {
            if let Some(vote) = recovered.votes.iter().find(|(voted, ..)| voted.0 == slot) {
                assert_eq!(vote.2, entry(slot), "slot {slot}");
                continue;
            }
            assert!(slot < recovered.slot_chosen.0, "slot {slot}, told {:?}", self.told);
            let read = journal.reader().read(Slot(slot), Slot(slot + 1), 0).unwrap();
            assert_eq!(read, [entry(slot)], "slot {slot}, told {:?}", self.told);
        }
        assert!(!self.disk.names().iter().any(|name| name == "checkpoint.new"));
        self.go_on(journal, recovered.slot_chosen.0)
    }

    /// What was found can be gone on with: votes for the next slots are found by another opening.
    fn go_on(&self, mut journal: Journal<Mount>, slot_chosen: u64) -> u64 {
        let next = slot_chosen.max(journal.slot_trimmed().0) + 20;
        let ballot = Ballot { round: 2, leader: WHO };
        let vote = Record::Vote { slot: Slot(next), ballot, entry: entry(next) };
        journal.append(&[Record::Promise { ballot }, vote], Slot(slot_chosen)).unwrap();
        while let Some(job) = journal.next_job().unwrap() {
            journal.complete(job.run()).unwrap();
        }
        drop(journal);
        let recovered = open(self.disk.mount()).unwrap().recovered();
        assert!(recovered.votes.iter().any(|(slot, ..)| slot.0 == next), "{recovered:?}");
        recovered.slot_checkpointed.0
    }
}

fn pieces<D: indelible::journal::Disk>(checkpoint: &Checkpoint<D>) -> Vec<Vec<u8>> {
    checkpoint.pieces().map(Result::unwrap).collect()
}

fn life() -> Life {
    Life { disk: SimDisk::new(), told: Told::default() }
}

#[test]
fn power_goes_at_every_boundary() {
    let file = file_of_peer();
    let mut whole = life();
    whole.run(&file).unwrap();
    assert_eq!((whole.told.checkpoint, whole.told.durable), (TAKEN, END));
    let (mut states, mut found) = (0, std::collections::BTreeSet::new());
    for boundary in 0..whole.disk.boundaries() {
        for survival in 0..4 {
            let mut life = life();
            life.disk.stop_at(boundary);
            let _ = life.run(&file);
            cut(&life.disk, survival);
            let image = life.disk.image();
            let before = life.disk.boundaries();
            drop(open(life.disk.mount()).unwrap());
            let count = life.disk.boundaries() - before;
            for again in (0..count).chain([u64::MAX]) {
                let disk = SimDisk::new();
                disk.restore(&image);
                disk.stop_at(again);
                assert_eq!(open(disk.mount()).is_err(), again < count);
                cut(&disk, survival);
                life.disk = disk;
                found.insert(life.check());
                states += 1;
            }
        }
    }
    println!("{states} states, {found:?}");
    assert_eq!(found, [0, RECEIVED, TAKEN].into());
    assert!(states > 4_000, "{states} states");
}

#[test]
fn every_sync_fails_once() {
    let file = file_of_peer();
    let mut failed = 0;
    for failure in [SyncFailure::Keep, SyncFailure::Revert] {
        for number in 0..200 {
            let mut life = life();
            life.disk.fail_sync(When::after(number), failure);
            if life.run(&file).is_ok() {
                break;
            }
            failed += 1;
            life.disk.disarm();
            cut(&life.disk, number % 4);
            life.check();
        }
    }
    assert!(failed > 40, "{failed} syncs");
}

/// Votes below a state that came from a peer were never compared with what was chosen. Where that
/// state is lost, they do not pass for it.
#[test]
fn votes_below_a_state_that_is_lost_do_not_count() {
    let file = file_of_peer();
    let mut life = life();
    life.run(&file).unwrap();
    for name in life.disk.names().iter().filter(|name| name.starts_with("checkpoint-")) {
        life.disk.mount().remove(name).unwrap();
    }
    let recovered = open(life.disk.mount()).unwrap().recovered();
    let missing = recovered.missing.ranges();
    assert_eq!((missing.len(), missing[0].first, missing[0].end), (1, Slot(0), Slot(RECEIVED)));
    assert!(recovered.slot_chosen >= Slot(RECEIVED));
}

/// A byte that changed on the way, anything that ends early, or goes on: nothing of it is kept.
#[test]
fn what_is_no_checkpoint_leaves_nothing() {
    let file = file_of_peer();
    let mut broken = Vec::new();
    for at in (0..file.len()).step_by(37) {
        let mut file = file.clone();
        file[at] ^= 0x10;
        broken.push(file);
    }
    broken.extend([40, 128, 129, 1000, file.len() - 1].map(|end| file[..end].to_vec()));
    broken.push([file.clone(), vec![0]].concat());
    broken.push([file.clone(), file.clone()].concat());
    let padding = |file: &[u8]| Parts::new().push(file).is_ok();
    for file in broken {
        let disk = SimDisk::new();
        let mut journal = open(disk.mount()).unwrap();
        let incoming = Incoming { parts: Parts::new(), file: file.clone(), at: 0, pieces_max: 3 };
        journal.begin_receiving(Slot(RECEIVED), chain(RECEIVED), Box::new(incoming));
        while let Some(job) = journal.next_job().unwrap() {
            journal.complete(job.run()).unwrap();
        }
        let Some(checkpoint) = journal.checkpoint() else {
            assert!(journal.take_unfit().is_some(), "it is told");
            assert!(!disk.names().iter().any(|name| name.starts_with("checkpoint")));
            continue;
        };
        // Only what nobody reads can have changed: zeros between two blocks.
        assert!(padding(&file) && pieces(checkpoint) == image(RECEIVED));
    }
}
