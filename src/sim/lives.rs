//! The lives of one journal: random appends, writes that are under way together, failed syncs,
//! crashes in the middle of anything, damage; and, at each opening, whether what was acknowledged
//! is there.
//!
//! ```text
//! open -> append, begin, finish, tell, read, seal ... -> crash -> damage -> open -> ...
//!  ^       cut short after any operation                            ^
//!  compared with what its owner knows: D1, D4                       only in a cluster
//! ```
//!
//! * **D1, kept**: what a frontier covered is found again, and the promise never goes back; what
//!   cannot be found is named as missing or in doubt, or the promise as lost.
//! * **D4, doubts stay**: what was in doubt stays so until it is voted for, or known to be chosen,
//!   durably; and an opening that changes nothing finds the same again.
//! * **D5, read**: what a reader gets for a slot is the newest entry appended there, or nothing.
//! * **D8, poisoned**: after a failure nothing more is written.
//! * **D10, checkpoints**: an opening finds the newest that counted, or the one that was being
//!   taken; it is whole, and where nothing was damaged, so is the journal below it.
//!
//! A journal alone never has its blocks damaged, and must open. Of zeros where nothing later speaks
//! of what was there, and of both copies of a promise that nothing speaks of, nobody can know
//! (`docs/format.md`, *What is assumed*); these are left out.
//!
//! That is a journal whose owner knows best ([`run`]). Another one belongs to a member of a cluster
//! in which the others choose, too ([`run_member`], `member`).
//!
//! Not here: whole replicas on damaged disks (`swarm`), and every boundary of one life
//! (`tests/crash_points`).

mod checkpoints;
mod fates;
mod flights;
mod member;
mod memory;
mod owner;
mod states;

use crate::journal::{Begun, Journal, JournalError, Options};
use crate::types::entry::{Entry, EntryBuilder};
use crate::types::ids::{Incarnation, ReplicaId, Slot};
use crate::types::membership::{Member, Membership, MembershipError};
use crate::types::record::{Record, Recovered};
use crate::types::time::Time;

use super::arena;
use super::checkers::Violation;
use super::disk::{Mount, SimDisk, SyncFailure, When};
use super::ravage::{self, Ravaged};
use super::rng::Rng;
use checkpoints::Taken;
use flights::{Flights, check_poisoned, cut_power};
use member::Member as Lived;
use owner::{Owner, read};

const WHO: ReplicaId = ReplicaId(1);

/// How often the journal of a seed is opened.
const LIVES: u64 = 8;

/// Runs the lives of a seed. Returns the first thing that must not happen and did, and where it is
/// asked for, what happened until then.
#[must_use]
pub fn run(seed: u64, traces: bool) -> (Option<Violation>, Vec<String>) {
    let mut lives = Lives::new(seed);
    lives.traces = traces;
    let violation = arena::caught(|| lives.run());
    (violation, lives.trace)
}

/// As [`run`], of the journal of a member of a cluster in which the others choose, too.
#[must_use]
pub fn run_member(seed: u64, traces: bool) -> (Option<Violation>, Vec<String>) {
    run_lived(Lived::new(seed), traces)
}

/// As [`run_member`], and the medium is damaged behind openings that did not end, too.
#[must_use]
pub fn run_harsh_member(seed: u64, traces: bool) -> (Option<Violation>, Vec<String>) {
    run_lived(Lived::new(seed).harsh(), traces)
}

fn run_lived(mut member: Lived, traces: bool) -> (Option<Violation>, Vec<String>) {
    member.traces = traces;
    let violation = arena::caught(|| member.run());
    (violation, member.trace)
}

#[derive(Debug)]
struct Lives {
    rng: Rng,
    voters: u64,
    disk: SimDisk,
    owner: Owner,
    taken: Taken,
    /// Whether the medium was ever damaged.
    damaged: bool,
    traces: bool,
    trace: Vec<String>,
}

impl Lives {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let voters = *rng.pick(&[1, 3, 3]);
        let disk = SimDisk::seeded(rng.next_u64());
        disk.tell_failures_once(rng.per_mille(500));
        Self {
            rng,
            voters,
            disk,
            owner: Owner::default(),
            taken: Taken::default(),
            damaged: false,
            traces: false,
            trace: Vec::new(),
        }
    }

    fn run(&mut self) {
        for _ in 0..LIVES {
            if self.rng.per_mille(333) {
                self.open_in_vain();
            }
            let mut journal = self.open().expect("D1: what is undamaged, or in a cluster, opens");
            if !self.compare(&mut journal) {
                return self.stay_mute(journal);
            }
            if self.rng.per_mille(250) {
                drop(journal);
                self.compare_again();
                journal = self.open().expect("D1: what was opened opens again");
                self.compare(&mut journal);
            }
            self.live(&mut journal);
            drop(journal);
            self.die();
        }
    }

    /// A replica that knows that it lost its promise dies again, and a stretch of its disk rots: as
    /// long as something is left that tells so, it must not forget.
    fn stay_mute(&mut self, journal: Journal<Mount>) {
        drop(journal);
        if self.owner.doubts.promise_lost {
            cut_power(&self.disk, &mut self.rng, 5);
            let stretch = ravage::rot_stretch(&self.disk, &mut self.rng);
            let tells = ravage::tells_of_lost_promise(&self.disk);
            self.tell(|| format!("damage {stretch:?}, tells of the lost promise: {tells}"));
            (self.owner.is_mute, self.owner.may_forget) = (true, !tells);
            let mut journal = self.open().expect("D1: what is damaged opens in a cluster");
            self.compare(&mut journal);
        }
    }

    /// An opening that is cut short after any operation.
    fn open_in_vain(&mut self) {
        let mount = self.disk.mount();
        self.disk.stop_at(self.disk.boundaries() + self.rng.below(40));
        drop(open(mount, self.voters));
        cut_power(&self.disk, &mut self.rng, 4);
    }

    fn open(&self) -> Result<Journal<Mount>, JournalError> {
        open(self.disk.mount(), self.voters)
    }

    /// Returns whether the replica goes on: without its promise it never votes again.
    fn compare(&mut self, journal: &mut Journal<Mount>) -> bool {
        let recovered = journal.recovered();
        self.tell(|| {
            let Recovered { promised, slot_chosen, missing, doubts, .. } = &recovered;
            format!(
                "opens: promised={promised} chosen<{slot_chosen} missing {missing:?} {doubts:?}"
            )
        });
        let kept = self.owner.durable_promise <= recovered.promised;
        self.taken.compare(journal, &recovered, self.damaged);
        self.owner.compare(journal, recovered);
        kept && !self.owner.doubts.promise_lost
    }

    /// Opens twice more, which must find the same.
    fn compare_again(&mut self) {
        let found = || {
            let mut journal = self.open().expect("D1: what was opened opens again");
            (journal.identity().boot.sequence, journal.recovered())
        };
        let ((_, first), (boot, second)) = (found(), found());
        self.owner.boots = boot;
        assert!(first == second, "D4: an opening changed what there is: {first:?}, {second:?}");
        assert!(first.doubts == self.owner.doubts, "D4: other doubts: {:?}", first.doubts);
        let missing = owner::lost(&first);
        assert!(missing == self.owner.missing, "D4: missing: {missing:?}");
    }

    fn live(&mut self, journal: &mut Journal<Mount>) {
        let mut flights = Flights::default();
        for _ in 0..self.rng.below(120) {
            if self.act(journal, &mut flights).is_err() {
                check_poisoned(journal);
                break;
            }
        }
        flights.leave(&mut self.rng);
    }

    fn act(
        &mut self,
        journal: &mut Journal<Mount>,
        flights: &mut Flights,
    ) -> Result<(), JournalError> {
        match self.rng.below(19) {
            0..5 => self.append(journal)?,
            5..8 => flights.jobs.extend(journal.next_job()?),
            8 => drop(journal.seal()?),
            9 => self.read_some(journal),
            10..12 => flights.begin_one(&mut self.rng),
            12..14 => {
                if let Some(begun) = flights.take_begun(&mut self.rng) {
                    self.finish(begun, flights);
                }
            }
            16 => self.hurry(journal, flights)?,
            15 => {
                let limit = self.taken.trim(&self.owner, journal, &mut self.rng)?;
                self.tell(|| format!("trim {limit:?}"));
            }
            14 => {
                let begun = self.taken.begin(&mut self.owner, journal, &mut self.rng);
                self.tell(|| format!("checkpoint {begun:?}"));
            }
            _ => {
                if let Some(done) = flights.take_done(&mut self.rng) {
                    let frontier = journal.complete(done)?;
                    self.tell(|| format!("durable lsn={}", frontier.lsn()));
                    self.owner.cover(frontier.lsn());
                    self.taken.note(journal);
                }
            }
        }
        Ok(())
    }

    /// All that no commit waits for is done at once, while writes are under way.
    fn hurry(
        &mut self,
        journal: &mut Journal<Mount>,
        flights: &mut Flights,
    ) -> Result<(), JournalError> {
        while let Some(job) = journal.next_job()? {
            match job.is_background() {
                true => drop(journal.complete(job.run())?),
                false => flights.jobs.push(job),
            }
            self.taken.note(journal);
        }
        Ok(())
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.traces {
            self.trace.push(line());
        }
    }

    /// Syncs what was written, or fails to.
    fn finish(&mut self, begun: Begun<Mount>, flights: &mut Flights) {
        let fails = self.rng.per_mille(40);
        if fails {
            let failure = *self.rng.pick(&[SyncFailure::Keep, SyncFailure::Revert]);
            self.disk.fail_sync(When::NEXT, failure);
        }
        flights.finish(begun, &self.disk, fails, &mut self.rng);
    }

    fn append(&mut self, journal: &mut Journal<Mount>) -> Result<(), JournalError> {
        let records = self.draw_records();
        let owner = &mut self.owner;
        // Chosen is whatever is durable without a gap, sometimes.
        if self.rng.per_mille(250) {
            while let slot = owner.slot_chosen
                && let Some((_, entry)) = owner.entries.get(&slot)
                && owner.may_be_chosen(slot, entry)
                && !owner.doubts.contains(slot)
                && !owner.written.iter().any(|(_, written, ..)| *written == slot)
                && !records.iter().any(|record| slot_of(record) == Some(slot))
            {
                owner.chosen.insert(slot, entry.clone());
                owner.slot_chosen = slot.next();
            }
        }
        let chosen = owner.slot_chosen;
        let last = journal.append(&records, chosen)?;
        self.tell(|| {
            let names = records.iter().map(name).collect::<Vec<_>>().join(" ");
            format!("append chosen<{chosen} lsn={last} {names}")
        });
        let owner = &mut self.owner;
        for record in records {
            match record {
                Record::Promise { ballot } => owner.promises.push((last, ballot)),
                Record::Vote { slot, ballot, entry } => {
                    owner.cast.insert((slot, ballot), entry.clone());
                    owner.written.push((last, slot, ballot, entry));
                }
                Record::Chosen { slot, entry } => {
                    let ballot = owner.entries[&slot].0;
                    owner.written.push((last, slot, ballot, entry));
                }
                Record::Verdicts(_) | Record::Doubts(_) | Record::Sightings(_) => {
                    unreachable!("none is drawn");
                }
            }
        }
        Ok(())
    }

    fn draw_records(&mut self) -> Vec<Record> {
        let (rng, owner) = (&mut self.rng, &mut self.owner);
        let mut records = Vec::new();
        let promise = |owner: &mut Owner| {
            owner.promised = owner.promised.next_for(WHO).expect("few ballots are used");
            Record::Promise { ballot: owner.promised }
        };
        // A vote at the ballot in force may be among what is in doubt; in one ballot and slot only
        // one entry is ever voted for.
        let is_unsure = std::mem::take(&mut owner.is_unsure);
        if is_unsure || rng.per_mille(50) {
            records.push(promise(owner));
        }
        for _ in 0..rng.below(4) {
            // A new slot, or one not chosen yet, voted for again.
            let slot = if rng.per_mille(200) && owner.slot_chosen < owner.slot_next {
                records.push(promise(owner));
                let count = owner.slot_chosen.count_to(owner.slot_next);
                owner.slot_chosen.plus(rng.below(count))
            } else {
                owner.slot_next
            };
            owner.slot_next = owner.slot_next.max(slot.next());
            let drawn = draw_entry(rng);
            let entry = owner.chosen.get(&slot).cloned().unwrap_or(drawn);
            records.push(Record::Vote { slot, ballot: owner.promised, entry });
        }
        // What is missing is fetched from a peer, sometimes.
        if let Some(slot) = owner.missing.first()
            && rng.per_mille(125)
            && let Some((_, newest)) = owner.entries.get(&slot)
        {
            let entry = owner.chosen.get(&slot).unwrap_or(newest);
            records.push(Record::Chosen { slot, entry: entry.clone() });
        }
        records
    }

    /// Reads as for a peer: the newest entry, or none while it is not durable.
    fn read_some(&mut self, journal: &Journal<Mount>) {
        let slot = Slot(self.rng.below(self.owner.slot_next.0 + 1));
        if !self.owner.is_lost(slot)
            && let Some(entry) = read(journal, slot)
        {
            let is_newest = self.owner.newest(slot) == Some(&entry);
            assert!(is_newest, "D5: an older entry of slot {slot} is read");
        }
    }

    fn die(&mut self) {
        // Sometimes only the process dies.
        match self.rng.per_mille(750) {
            true => _ = cut_power(&self.disk, &mut self.rng, 5),
            false => self.disk.process_crash(),
        }
        self.rot_checkpoint();
        if self.voters > 1 && self.rng.per_mille(500) {
            let promised = self.owner.durable_promise;
            let Ravaged { lines, is_promise_known } =
                ravage::ravage(&self.disk, promised, &mut self.rng);
            self.owner.is_mute = !is_promise_known;
            self.damaged = true;
            self.tell(|| format!("damage {lines:?}, promise known: {is_promise_known}"));
        }
    }

    /// One of two checkpoints rots, sometimes. That costs nothing.
    fn rot_checkpoint(&mut self) {
        if self.rng.per_mille(200) {
            let rotten = self.taken.damage(&self.disk, &mut self.rng);
            self.tell(|| format!("damage {rotten:?}"));
        }
    }
}

fn open(mount: Mount, voters: u64) -> Result<Journal<Mount>, JournalError> {
    let options = Options {
        segment_bytes: 64 * 1024,
        inflight_max: 2,
        group_bytes_max: 32 * 1024,
        received_sync_bytes: 8192,
    };
    open_as(mount, options, |mut members| {
        members.truncate(voters as usize);
        Membership::majority(members)
    })
}

/// Opens, and where nothing is formed yet, forms a cluster of up to three.
fn open_as(
    mount: Mount,
    options: Options,
    membership: impl FnOnce(Vec<Member>) -> Result<Membership, MembershipError>,
) -> Result<Journal<Mount>, JournalError> {
    let mut journal = Journal::open(mount, options, WHO)?;
    if !journal.identity().formed {
        let own = journal.identity().incarnation;
        let voter = |id| Member {
            id: ReplicaId(id),
            incarnation: if id == WHO.0 { own } else { Incarnation(id.into()) },
            address: id.to_string(),
        };
        let membership = membership((1..=3).map(voter).collect()).expect("the voters are few");
        journal.agree(&membership, true)?;
    }
    Ok(journal)
}

fn name(record: &Record) -> String {
    match record {
        Record::Promise { ballot } => format!("promise {ballot}"),
        Record::Vote { slot, ballot, entry } => {
            format!("vote {slot}@{ballot} ({} bytes)", entry.bytes().len())
        }
        Record::Chosen { slot, entry } => {
            format!("chosen {slot} ({} bytes)", entry.bytes().len())
        }
        Record::Doubts(doubts) => format!("{doubts:?}"),
        Record::Verdicts(_) | Record::Sightings(_) => unreachable!("none is drawn"),
    }
}

fn slot_of(record: &Record) -> Option<Slot> {
    match record {
        Record::Vote { slot, .. } | Record::Chosen { slot, .. } => Some(*slot),
        Record::Promise { .. } | Record::Verdicts(_) | Record::Doubts(_) | Record::Sightings(_) => {
            None
        }
    }
}

fn draw_entry(rng: &mut Rng) -> Entry {
    let length = match rng.below(50) {
        0 => 70_000,
        1..10 => 3000,
        _ => 200,
    };
    let mut builder = EntryBuilder::new(Time(1), 0);
    let mut bytes = vec![7; rng.below(length) as usize + 8];
    bytes[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
    builder.push(&bytes);
    builder.finish()
}
