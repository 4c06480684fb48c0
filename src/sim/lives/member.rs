//! The lives of the journal of one member of a cluster in which the others choose, too: it votes in
//! any order, is told what is chosen, forgets how far it knew the log, and is asked late for what
//! an older leader proposed.
//!
//! ```text
//! open -> promise, vote, learn, fetch, settle ... written in any pieces -> crash -> damage -> open
//!  ^      (what a protocol core does with its journal)                                       |
//!  +-- cut short, or failed, several times over <--------------------------------------------+
//! ```
//!
//! Not here: what is compared (`memory`), what is proposed and chosen (`fates`); leaders, peers and
//! messages (`schedule`).

use std::collections::BTreeMap;

use crate::journal::{Begun, Job, Journal, JournalError, Options};
use crate::sim::disk::{Mount, SimDisk, SyncFailure, When};
use crate::sim::ravage::{self, Ravaged};
use crate::sim::rng::Rng;
use crate::types::entry::Entry;
use crate::types::ids::{Ballot, ReplicaId, Slot, SlotRange};
use crate::types::membership::Membership;
use crate::types::record::{Doubts, Record, Recovered};
use crate::types::slots::SlotSet;

use super::fates::Fates;
use super::flights::{self, Flights, check_poisoned};
use super::memory::Memory;
use super::owner::{lost, read};
use super::states::{Next, States};
use super::{LIVES, name, open_as};

/// As the member has it in memory while it is up.
#[derive(Debug, Default)]
struct Core {
    promised: Ballot,
    slot_chosen: Slot,
    /// Its newest votes from `slot_chosen` on, as far as it knows.
    log: BTreeMap<Slot, (Ballot, Entry)>,
    doubts: Doubts,
    missing: SlotSet,
    /// What it has to write down.
    records: Vec<Record>,
}

#[derive(Debug)]
pub(super) struct Member {
    rng: Rng,
    disk: SimDisk,
    options: Options,
    alpha: u64,
    /// How often, of a thousand times, the medium is damaged between two lives.
    damage: u64,
    /// Also behind openings that did not end.
    harsh: bool,
    fates: Fates,
    memory: Memory,
    states: States,
    core: Core,
    pub(super) traces: bool,
    pub(super) trace: Vec<String>,
}

impl Member {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x006d_656d_6265_7273);
        let disk = SimDisk::seeded(rng.next_u64());
        disk.tell_failures_once(rng.per_mille(500));
        let options = Options {
            segment_bytes: 64 * 1024,
            inflight_max: *rng.pick(&[1, 2, 2, 3]),
            group_bytes_max: *rng.pick(&[8, 16, 32]) * 1024,
            received_sync_bytes: 8192,
        };
        let (alpha, damage) = (*rng.pick(&[1, 3, 8]), *rng.pick(&[0, 400, 800]));
        Self {
            rng,
            disk,
            options,
            alpha,
            damage,
            harsh: false,
            fates: Fates::default(),
            memory: Memory::default(),
            states: States::default(),
            core: Core::default(),
            traces: false,
            trace: Vec::new(),
        }
    }

    pub(super) fn harsh(self) -> Self {
        Self { harsh: true, ..self }
    }

    pub(super) fn run(&mut self) {
        for _ in 0..LIVES {
            while self.rng.per_mille(400) {
                self.open_in_vain();
            }
            let mut journal = self.open();
            if !self.compare(&mut journal) {
                return;
            }
            if self.rng.per_mille(250) {
                drop(journal);
                journal = self.open();
                self.compare(&mut journal);
            }
            self.live(&mut journal);
            drop(journal);
            self.die();
        }
    }

    fn open(&self) -> Journal<Mount> {
        self.try_to_open(&self.disk).expect("D1: what is damaged opens in a cluster")
    }

    fn try_to_open(&self, disk: &SimDisk) -> Result<Journal<Mount>, JournalError> {
        open_as(disk.mount(), self.options, |voters| Membership::flexible(voters, 2, 2, self.alpha))
    }

    /// An opening that is cut short after any operation, or of which something fails.
    fn open_in_vain(&mut self) {
        if self.harsh {
            self.look();
        }
        let when = When::after(self.rng.below(6));
        let failure = *self.rng.pick(&[SyncFailure::Keep, SyncFailure::Revert]);
        match self.rng.below(4) {
            0 => self.disk.fail_sync(when, failure),
            1 => self.disk.fail_directory_sync(when, failure),
            _ => self.disk.stop_at(self.disk.boundaries() + self.rng.below(40)),
        }
        let opened = self.try_to_open(&self.disk).map(drop);
        self.tell(|| format!("opens in vain: {:?}", opened.err()));
        self.disk.disarm();
        match self.disk.is_stopped() || self.rng.per_mille(700) {
            true => self.cut_power(4),
            false => self.disk.process_crash(),
        }
        self.rot_state();
        if self.harsh && self.rng.per_mille(self.damage / 2) {
            self.ravage();
        }
    }

    /// An opening that does not end may write down what it found, and leave out what is needless by
    /// that. Where what it found is damaged then, it is the newest that is left.
    fn look(&mut self) {
        let disk = SimDisk::seeded(0);
        disk.restore(&self.disk.image());
        if let Ok(mut journal) = self.try_to_open(&disk) {
            self.memory.forget_needless(journal.recovered().slot_chosen, &self.fates);
        }
    }

    /// Returns whether it goes on: without its promise it never votes again.
    fn compare(&mut self, journal: &mut Journal<Mount>) -> bool {
        let recovered = journal.recovered();
        self.tell(|| {
            let Recovered { promised, slot_chosen, votes, doubts, .. } = &recovered;
            let votes = votes.iter().map(|(slot, ballot, _)| format!("{slot}@{ballot}"));
            let (votes, missing) = (votes.collect::<Vec<_>>(), lost(&recovered));
            let lsn = journal.frontier().lsn();
            format!(
                "opens: lsn={lsn} promised={promised} chosen<{slot_chosen} votes {votes:?} \
                 missing {missing:?} {doubts:?}"
            )
        });
        self.memory.compare(journal, &recovered, &self.fates);
        self.states.compare(&recovered);
        self.core = Core {
            promised: recovered.promised,
            slot_chosen: recovered.slot_chosen,
            missing: lost(&recovered),
            log: recovered.votes.into_iter().map(|(slot, at, entry)| (slot, (at, entry))).collect(),
            doubts: recovered.doubts,
            records: Vec::new(),
        };
        !self.core.doubts.promise_lost
    }

    fn live(&mut self, journal: &mut Journal<Mount>) {
        let mut flights = Flights::default();
        let acts = *self.rng.pick(&[4, 12, 40, 120]);
        for _ in 0..self.rng.below(acts) {
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
        match self.rng.below(22) {
            0..6 => self.take_turn(journal)?,
            6..9 => flights.jobs.extend(journal.next_job()?),
            9 => drop(journal.seal()?),
            10 => self.read_some(journal),
            11..13 => flights.begin_one(&mut self.rng),
            13..15 => {
                if let Some(begun) = flights.take_begun(&mut self.rng) {
                    let fails = self.rng.per_mille(25);
                    self.arm(fails);
                    flights.finish(begun, &self.disk, fails, &mut self.rng);
                }
            }
            15 => self.settle_all(journal, flights)?,
            16 => self.look_at_states(journal),
            17 => {
                let limit = self.states.trim(journal, &self.core.doubts)?;
                self.tell(|| format!("trim {limit:?}"));
            }
            _ => {
                if let Some(done) = flights.take_done(&mut self.rng) {
                    let frontier = journal.complete(done)?.lsn();
                    self.tell(|| format!("durable lsn={frontier}"));
                    self.memory.cover(frontier);
                }
            }
        }
        Ok(())
    }

    /// One of the next operations fails, where `fails`.
    fn arm(&mut self, fails: bool) {
        if fails {
            let failure = *self.rng.pick(&[SyncFailure::Keep, SyncFailure::Revert]);
            match self.rng.below(4) {
                0 => self.disk.fail_directory_sync(When::NEXT, failure),
                1 => self.disk.fail_sync(When::after(self.rng.below(3)), failure),
                _ => self.disk.fail_sync(When::NEXT, failure),
            }
        }
    }

    /// All that is under way ends well, and what is appended becomes durable.
    fn settle_all(
        &mut self,
        journal: &mut Journal<Mount>,
        flights: &mut Flights,
    ) -> Result<(), JournalError> {
        let begun = flights.jobs.drain(..).map(Job::begin).chain(flights.begun.drain(..));
        flights.done.extend(begun.map(Begun::finish));
        for done in flights.done.drain(..) {
            journal.complete(done)?;
        }
        while let Some(job) = journal.next_job()? {
            journal.complete(job.run())?;
        }
        let frontier = journal.frontier().lsn();
        self.tell(|| format!("settles lsn={frontier}"));
        self.memory.cover(frontier);
        Ok(())
    }

    /// What a turn of the core has to write down, and how far it lets it know the log.
    fn take_turn(&mut self, journal: &mut Journal<Mount>) -> Result<(), JournalError> {
        for _ in 0..self.rng.within(1..=4) {
            match self.rng.below(12) {
                0 => self.promise(),
                1..7 => self.vote(),
                7..10 => self.learn(),
                10 => self.settle_doubts(),
                _ => self.fetch(journal)?,
            }
        }
        let records = std::mem::take(&mut self.core.records);
        let chosen = self.core.slot_chosen;
        let last = journal.append(&records, chosen)?;
        self.memory.write(&records, last, chosen);
        self.tell(|| {
            let names = records.iter().map(name).collect::<Vec<_>>().join(" ");
            format!("append chosen<{chosen} lsn={last} {names}")
        });
        Ok(())
    }

    /// Some leader campaigns.
    fn promise(&mut self) {
        let leader = ReplicaId(1 + self.rng.below(3));
        let round = self.core.promised.round + 1 + self.rng.below(2);
        self.raise(Ballot { round, leader });
    }

    fn raise(&mut self, ballot: Ballot) {
        self.core.promised = ballot;
        self.core.records.push(Record::Promise { ballot });
    }

    /// The leader of the ballot in force asks for votes, in any slots within reach.
    fn vote(&mut self) {
        if self.core.promised == Ballot::ZERO {
            self.promise();
        }
        let (reach, ballot) = (2 * self.alpha, self.core.promised);
        let end = self.core.log.keys().next_back().map_or(self.core.slot_chosen, |it| it.next());
        let first = match self.rng.per_mille(600) {
            true => end,
            false => self.core.slot_chosen.plus(self.rng.below(reach)),
        };
        for slot in (first.0..).map(Slot).take(self.rng.within(1..=3) as usize) {
            let is_new = self.core.log.get(&slot).is_none_or(|(at, _)| *at < ballot)
                || self.core.doubts.contains(slot);
            if slot < self.core.slot_chosen.plus(reach) && is_new {
                let entry = self.fates.proposal(slot, ballot, &mut self.rng);
                self.core.log.insert(slot, (ballot, entry.clone()));
                self.core.doubts.settle(SlotRange::one(slot));
                self.core.records.push(Record::Vote { slot, ballot, entry });
            }
        }
    }

    /// Somebody says what is chosen in the next slots.
    fn learn(&mut self) {
        for _ in 0..self.rng.within(1..=3) {
            let slot = self.core.slot_chosen;
            let entry = self.fates.choose(slot, &mut self.rng);
            let voted = self.core.log.remove(&slot);
            let is_known = voted.is_some_and(|(_, voted)| voted == entry);
            if !is_known || self.core.doubts.contains(slot) {
                self.core.records.push(Record::Chosen { slot, entry });
            }
            self.core.doubts.settle(SlotRange::one(slot));
            self.core.slot_chosen = slot.next();
        }
    }

    /// A leader says that from a slot on no vote that is in doubt matters.
    fn settle_doubts(&mut self) {
        let Doubts { faulty, uncertain, .. } = &self.core.doubts;
        let Some(end) = faulty.end().max(uncertain.end()) else { return };
        let count = self.core.slot_chosen.count_to(end);
        let first = self.core.slot_chosen.plus(self.rng.below(count.max(1)));
        if self.rng.per_mille(500) {
            self.promise();
        }
        self.core.doubts.settle(SlotRange { first, end: Slot(u64::MAX) });
        self.memory.settle(first);
        self.core.records.push(Record::Doubts(self.core.doubts.clone()));
    }

    /// What is missing comes from a peer, and is written beside the core's work.
    fn fetch(&mut self, journal: &mut Journal<Mount>) -> Result<(), JournalError> {
        let Some(slot) = self.core.missing.first() else { return Ok(()) };
        let entry = self.fates.choose(slot, &mut self.rng);
        let last = journal.append_lazy(&[Record::Chosen { slot, entry }])?;
        self.core.missing.remove_slot(slot);
        self.tell(|| format!("append lazily lsn={last} chosen {slot}"));
        Ok(())
    }

    /// A checkpoint is taken, or comes from a peer and takes the place of what is known.
    fn look_at_states(&mut self, journal: &mut Journal<Mount>) {
        let next = self.states.go_on(journal);
        let chosen = self.core.slot_chosen;
        match next {
            Next::Waits => {}
            Next::Free => {
                let ahead = self.rng.below(8) * self.rng.below(2);
                let slot = chosen.plus(ahead);
                for slot in (chosen.0..slot.0).map(Slot) {
                    self.fates.choose(slot, &mut self.rng);
                }
                self.memory.hear(slot);
                self.states.begin(journal, slot, ahead > 0);
            }
            Next::Install(slot) => {
                let chosen = chosen.max(slot);
                self.core.slot_chosen = chosen;
                self.core.log = self.core.log.split_off(&chosen);
                self.core.missing.remove_below(slot);
                self.core.doubts.settle(SlotRange { first: Slot::ZERO, end: chosen });
            }
        }
        self.tell(|| format!("checkpoints: {next:?}"));
    }

    /// Reads as for a peer: what is known to be chosen, or nothing.
    fn read_some(&mut self, journal: &Journal<Mount>) {
        let slot = Slot(self.rng.below(self.core.slot_chosen.0 + 1));
        if slot < self.core.slot_chosen
            && let Some(entry) = read(journal, slot)
        {
            let is_chosen = self.fates.chosen(slot) == Some(&entry);
            assert!(is_chosen, "D5: another entry than the chosen one is read in slot {slot}");
        }
    }

    fn rot_state(&mut self) {
        if self.damage > 0 && self.rng.per_mille(150) {
            let rotten = self.states.rot(&self.disk, &mut self.rng);
            if rotten.is_some() {
                self.memory.damage(true);
            }
            self.tell(|| format!("damage {rotten:?}"));
        }
    }

    fn die(&mut self) {
        // Sometimes only the process dies.
        match self.rng.per_mille(750) {
            true => self.cut_power(5),
            false => self.disk.process_crash(),
        }
        self.rot_state();
        if self.rng.per_mille(self.damage) {
            self.ravage();
        }
    }

    fn ravage(&mut self) {
        let promised = self.memory.promised();
        let Ravaged { lines, is_promise_known } =
            ravage::ravage(&self.disk, promised, &mut self.rng);
        self.memory.damage(is_promise_known);
        self.tell(|| format!("damage {lines:?}, promise known: {is_promise_known}"));
    }

    fn cut_power(&mut self, bound: u64) {
        let keep = flights::cut_power(&self.disk, &mut self.rng, bound);
        self.tell(|| format!("power cut, keeps {keep} of {}", bound - 1));
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.traces {
            self.trace.push(line());
        }
    }
}
