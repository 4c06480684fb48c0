//! Chosen entries that this replica's journal lost: fetched from the peers, and journaled again.
//!
//! Where they are missing when the journal is opened, the state cannot be built, and the protocol
//! core does not begin: a replica that is silent is safe. It asks one peer after the other: the
//! newest members that what is left tells of, those that it was told of, and whoever is heard to
//! know more. It journals what it lacks, and begins to serve once that is durable and can be read.
//! Meanwhile it gives away what it has, so that replicas heal each other that each lost another
//! part.
//!
//! Where rot is found later, while entries are read for a peer or for somebody who reads the
//! ledger, the state in memory is whole, and the replica goes on; the entries are fetched beside
//! its work. Who read is told of the damage, and finds the entry when it is repaired. A replica
//! that is alone tells, and leaves the entry where it is.
//!
//! Invariants:
//! * Only slots that are missing are journaled, each as chosen, by the word of a peer that knows it
//!   to be.
//! * The core does not begin before every missing entry is durable.
//! * Until the core has begun, nothing is promised or voted for, and no chain is told: none is
//!   known.
//!
//! Not here: what is in doubt from `slot_chosen` on (`paxos`); what becomes of a peer that wants
//! what nobody has any more (`lost.rs`).

use std::fmt;
use std::time::Duration;

use crate::journal::JournalError;
use crate::journal::disk::Disk;
use crate::paxos::Paxos;
use crate::types::entry::Entry;
use crate::types::error::Result;
use crate::types::ids::{Chain, Lsn, ReplicaId, Slot, SlotRange};
use crate::types::marks::reached;
use crate::types::membership::Membership;
use crate::types::message::{Chosen, Envelope, Message};
use crate::types::record::{Record, Recovered};
use crate::types::slots::SlotSet;
use crate::types::time::Moment;

use super::driver::Driver;
use super::lost::Lost;
use super::search::Search;

/// What is repaired.
#[derive(Debug)]
pub(super) struct Repair {
    /// Chosen slots whose entries are wanted.
    missing: SlotSet,
    /// How many were journaled again.
    repaired: u64,
    /// The last frame of those that are not known to be durable.
    written: Option<Lsn>,
    search: Search,
    /// When to ask the next one.
    ask_at: Moment,
    /// Something was missed or journaled again beside the work, and no checkpoint was asked for.
    changed: bool,
    /// What the core begins with, once nothing is missing.
    pub(super) opening: Option<Recovered>,
    /// Until then: who belongs, as far as can be read.
    pub(super) members: Option<Membership>,
    /// Until then: who was heard last that knows more. It may belong by what is missing.
    informant: Option<ReplicaId>,
    /// The peers that want what is missing here.
    pub(super) lost: Lost,
}

/// How far a repair has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairReport {
    /// The first slot whose entry is wanted; `None` where the last ones are being written.
    pub first: Option<Slot>,
    /// How many entries were fetched and journaled again in this opening.
    pub repaired: u64,
    /// Whether the replica serves nobody until it is done.
    pub before_serving: bool,
}

impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let repaired = self.repaired;
        match self.first {
            Some(slot) => write!(
                f,
                "fetching entries that the journal lost: {repaired} so far, slot {slot} next"
            ),
            None => write!(f, "writing {repaired} entries that the journal had lost"),
        }
    }
}

impl Repair {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            missing: SlotSet::default(),
            repaired: 0,
            written: None,
            search: Search::new(now),
            ask_at: now,
            changed: false,
            opening: None,
            members: None,
            informant: None,
            lost: Lost::default(),
        }
    }

    /// Wants these as well.
    pub(super) fn want(&mut self, slots: SlotRange, now: Moment) {
        if !self.missing.contains(slots.first) {
            self.search.begin_anew(now);
        }
        self.missing.insert(slots);
    }

    /// The first slot whose entry is wanted.
    pub(super) fn first(&self) -> Option<Slot> {
        self.missing.first()
    }

    /// Whether the core waits for it.
    pub(super) fn is_opening(&self) -> bool {
        self.opening.is_some()
    }

    /// When to ask again.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        (!self.missing.is_empty()).then_some(self.ask_at)
    }

    pub(super) fn report(&self) -> Option<RepairReport> {
        let under_way = self.is_opening() || !self.missing.is_empty() || self.written.is_some();
        under_way.then(|| RepairReport {
            first: self.missing.first(),
            repaired: self.repaired,
            before_serving: self.is_opening(),
        })
    }
}

impl<D: Disk> Driver<D> {
    /// Entries are missing that the state is made of: they come first.
    pub(super) fn repair_before_serving(&mut self, recovered: Recovered) {
        reached!(RepairedBeforeServing);
        self.repair.members = self.newest_members(&recovered);
        self.repair.missing = recovered.missing.clone();
        self.repair.opening = Some(Recovered { missing: SlotSet::default(), ..recovered });
    }

    /// Who belongs, as far as the newest checkpoint, and the entries that are left behind it, tell.
    /// Whether each of them counted is not known, where one before may be missing: it says whom to
    /// ask, and nothing else.
    pub(super) fn newest_members(&self, recovered: &Recovered) -> Option<Membership> {
        let agreed = || self.journal.identity().membership.clone();
        let mut newest = self.store.membership().or_else(agreed);
        let mut slot = recovered.slot_checkpointed.max(self.reader.first());
        while slot < recovered.slot_chosen {
            let entries = self.reader.entries(slot, recovered.slot_chosen);
            for (at, entry) in entries.map_while(|entry| entry.ok()) {
                slot = at.next();
                newest = entry.as_membership().or(newest);
            }
            // What cannot be read tells nothing.
            slot = slot.next();
        }
        newest
    }

    /// A peer tells how far it knows the log. While the core has not begun, whoever knows more is
    /// asked, member or not: that it is one may be what is missing.
    pub(super) fn note_informant(&mut self, from: ReplicaId, message: &Message) {
        if let (Message::Heartbeat(heartbeat), true) = (message, self.repair.is_opening())
            && self.repair.first().is_some_and(|first| first < heartbeat.slot_chosen)
        {
            self.repair.informant = Some(from);
        }
    }

    /// Looks again at what somebody could not read: it may have been fetched meanwhile, or be on
    /// its way to the disk. What is not needed to begin waits until the core has begun.
    fn look_at_unreadable(&mut self) {
        if self.repair.is_opening() {
            return;
        }
        let unreadable = self.tail.take_unreadable();
        for range in unreadable.ranges() {
            // One by one: they are looked at, not wanted.
            for slot in (range.first.0..range.end.0).map(Slot) {
                // Where no file may be opened just now, that says nothing of the entry.
                let read = self.reader.read(slot, slot.next(), 0);
                if let Some(err) = read.err().filter(|err| !err.is_passing()) {
                    self.repair_beside_serving(slot, Some(err));
                }
            }
        }
    }

    /// Whether the entry of a slot whose turn has come is not there to be read, as was just found,
    /// and is not being written either.
    pub(super) fn is_lost(&self, slot: Slot, read: &Result<Vec<Entry>, JournalError>) -> bool {
        match read {
            Err(_) => true,
            Ok(entries) if !entries.is_empty() => false,
            Ok(_) if slot < self.slot_trimmed() => false,
            // A checkpoint has its name only when what it stands for is durable; but one that a
            // peer sent may have it before it is taken in.
            Ok(_) => {
                let taken_in = self.slot_checkpointed() <= self.store.applied().slot;
                let is_durable = self.repair.written.is_none() && taken_in;
                self.repair.missing.contains(slot) || is_durable && slot < self.slot_checkpointed()
            }
        }
    }

    /// An entry is lost: wants it, and shows it to no reader until it is there again. Where nobody
    /// else is there, it stays where it is. `err` is how that was just found, and is told.
    pub(super) fn repair_beside_serving(&mut self, slot: Slot, err: Option<JournalError>) {
        let is_new = err.is_some();
        if let Some(err) = err {
            self.damage = Some(err.into());
        }
        if !self.others().is_empty() {
            // Who is left alone with it opens again only behind a checkpoint.
            self.repair.changed |= is_new;
            reached!(RepairedBesideServing);
            let slots = SlotRange::one(slot);
            self.journal.forget(slots);
            self.repair.want(slots, self.now);
        }
    }

    /// The entries below `slot` are not needed any more: they are trimmed here, or what they did is
    /// in a state here. Where nothing else is missing, the damage is told no longer.
    pub(super) fn give_up_missing(&mut self, slot: Slot) {
        if self.repair.first().is_some() {
            self.repair.missing.remove_below(slot);
            self.forgive_if_whole();
        }
    }

    /// What was lost is here again, or not needed: it is told no longer.
    fn forgive_if_whole(&mut self) {
        let is_whole = self.repair.missing.is_empty() && self.repair.written.is_none();
        self.damage.take_if(|_| is_whole);
    }

    /// What is still to come before this replica may be left alone, if anything is: its journal is
    /// repaired as far as it will be, a checkpoint makes up for what was repaired beside its work,
    /// and a leader settled what it forgot to have voted for. Who is alone with that does not lead
    /// any more.
    pub(super) fn awaited_before_alone(&self) -> Option<String> {
        let comes = self.repair.written.is_some() || self.repair.changed;
        let repair = self.repair.report().filter(|_| comes || !self.repairs_in_vain());
        repair.map(|repair| repair.to_string()).or_else(|| {
            let waits = self.slot_checkpointed() < self.checkpoints.wanted_below();
            let forgot = self.paxos.as_ref().is_some_and(|it| !it.doubts().faulty.is_empty());
            let what = match (waits, forgot) {
                (true, _) => "taking a checkpoint, since its journal was repaired",
                (_, true) => "asking a leader about votes that its journal lost",
                _ => return None,
            };
            Some(what.to_owned())
        })
    }

    /// Whether a leader gets no promise for a change of the membership: it may leave this replica
    /// alone, and something is still to come before.
    pub(super) fn keeps_silent_until_whole(&self, message: &Message) -> bool {
        let waits = Paxos::is_announcement(message) && self.awaited_before_alone().is_some();
        if waits {
            reached!(PromisedWhenWhole);
        }
        waits
    }

    /// Whether nobody gave what is missing for long, though all of it was asked for.
    fn repairs_in_vain(&self) -> bool {
        let since = self.repair.search.in_vain_since();
        since.is_some_and(|since| self.repair_patience() <= self.now.since(since))
    }

    /// For how long an entry is waited for that nobody gives.
    pub(super) fn repair_patience(&self) -> Duration {
        REPAIR_TIMEOUTS * self.options.election_timeout
    }

    /// What was journaled again beside the work, or is lost for good, wants a checkpoint, once
    /// nothing more comes.
    fn note_changed(&mut self) {
        let frontier = self.journal.frontier().lsn();
        let healed = self.repair.written.take_if(|lsn| *lsn <= frontier).is_some();
        if healed {
            self.repair.changed = true;
            self.forgive_if_whole();
        }
        let ended = self.repair.missing.is_empty() || self.repairs_in_vain();
        if self.repair.written.is_some() || !ended {
            return;
        }
        let changed = std::mem::take(&mut self.repair.changed);
        if let Some(view) = self.view().filter(|_| changed) {
            self.checkpoints.want_below(view.slot_chosen);
        }
    }

    /// Asks for what is missing; and where nothing is any more, begins to serve.
    pub(super) fn go_on_repairing(&mut self) -> Result<()> {
        self.look_at_unreadable();
        self.note_changed();
        if self.repair.first().is_some() {
            if self.repair.ask_at <= self.now {
                self.ask_next();
            }
            return Ok(());
        }
        if self.repair.written.is_some() {
            return Ok(());
        }
        match self.repair.opening.take() {
            Some(recovered) => {
                (self.repair.members, self.repair.informant) = (None, None);
                self.start_core(recovered)
            }
            None => Ok(()),
        }
    }

    /// One peer after the other.
    fn ask_next(&mut self) {
        // Also where nobody is there to be asked.
        self.repair.ask_at = self.now + self.options.retransmit_interval;
        let mut others = self.others();
        if self.repair.is_opening() {
            others.extend(self.repair.informant);
            others.extend(self.options.voters.iter().map(|(id, _)| *id));
            others.retain(|id| *id != self.options.id);
        }
        // The search goes by ids.
        others.sort_unstable();
        let Repair { search, missing, .. } = &mut self.repair;
        if let Some((peer, from)) = search.next(&others, missing) {
            self.ask(peer, from);
        } else if !self.repair.is_opening() {
            // Who is left alone waits for nobody.
            self.repair.missing = SlotSet::default();
        }
    }

    fn ask(&mut self, peer: ReplicaId, from: Slot) {
        self.repair.ask_at = self.now + self.options.retransmit_interval;
        self.effects.sends.push(Envelope { to: peer, message: Message::Fetch { from } });
    }

    /// A peer sends what is chosen: takes what is missing.
    pub(super) fn take_missing(&mut self, from: ReplicaId, chosen: &Chosen) -> Result<()> {
        if self.repair.missing.is_empty() {
            return Ok(());
        }
        let slots = (0..).map(|count| chosen.first_slot.plus(count));
        let known = slots.zip(&chosen.entries).filter(|(slot, _)| *slot < chosen.slot_chosen);
        let wanted = known.filter(|(slot, _)| self.repair.missing.contains(*slot));
        let record =
            |(slot, entry): (Slot, &_)| Record::Chosen { slot, entry: Clone::clone(entry) };
        let records = wanted.map(record).collect::<Vec<_>>();
        if records.is_empty() {
            return Ok(());
        }
        for record in &records {
            if let Record::Chosen { slot, .. } = record {
                self.repair.missing.remove_slot(*slot);
            }
        }
        self.repair.repaired += records.len() as u64;
        self.repair.search.begin_anew(self.now);
        self.repair.lost.came_at = self.now;
        // They are below what the journal knows to be chosen. What the core has learned beyond may
        // not be journaled yet.
        self.journal.append_lazy(&records)?;
        self.appended_at = self.now;
        self.repair.written = Some(self.journal.last_lsn());
        // Who had this may have more of it.
        let missing = &self.repair.missing;
        if let Some(next) = missing.first_from(chosen.first_slot).or(missing.first()) {
            self.repair.search.note_asked(from);
            self.ask(from, next);
        }
        Ok(())
    }

    /// A peer lacks what this replica may have, though it does not serve yet.
    ///
    /// The chain below `slot_chosen` is not known while entries below are missing; the message says
    /// so, and whoever reaches that slot compares nothing.
    pub(super) fn serve_while_repairing(&mut self, to: ReplicaId, from: Slot) {
        if from < self.slot_trimmed() {
            return self.tell_trimmed(to);
        }
        let Some(recovered) = &self.repair.opening else { return };
        let slot_chosen = recovered.slot_chosen;
        // What cannot be read, it does not have; the peer asks others.
        let entries = match self.reader.read(from, slot_chosen, self.options.message_bytes_max) {
            Ok(entries) if !entries.is_empty() => entries,
            read if self.is_lost(from, &read) => return self.lacks_as_well(to, from),
            _ => return,
        };
        reached!(ServedWhileRepairing);
        let chosen = Chosen { first_slot: from, entries, slot_chosen, chain: Chain::EMPTY };
        self.effects.sends.push(Envelope { to, message: Message::Chosen(chosen) });
    }
}

/// For how many election timeouts an entry is waited for that nobody gives.
const REPAIR_TIMEOUTS: u32 = 60;
