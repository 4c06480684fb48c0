//! A journal: what is durable, and what a crash still loses.
//!
//! Records become durable in the order in which they were appended, one at a time. With each group
//! of records it remembers how far the log was known to be chosen.
//!
//! A crash loses every record that is not durable. That a real disk may keep some of them is
//! covered: the same replica comes back where they were synced just before the crash, and every
//! message that this sync released was lost. It is covered because an opening syncs what it reads;
//! where it does not ([`Bug::ReopenWithoutSync`](crate::bugs::Bug)), it is a crash of its own
//! ([`Journal::kill`]).
//!
//! A state of a peer is durable before the core hears of it, whatever is volatile. The next opening
//! begins with it, and finds nothing of the slots below: they are trimmed.
//!
//! Every vote that was ever durable is kept, also where a newer one replaced it, or where it is
//! trimmed: what is chosen is a matter of history.

use std::collections::VecDeque;

use indelible::types::entry::Entry;
use indelible::types::ids::{Ballot, Chain, Slot, SlotRange};
use indelible::types::message::Doubt;
use indelible::types::record::{Doubts, Record, Recovered};

/// How far a doubt reaches that has no end.
const DOUBT_SLOTS: u64 = 1 << 20;

/// A vote that is durable, or was.
pub type Voted = (Slot, Ballot, Entry);

/// The records of one replica.
#[derive(Clone, Debug, Default, Hash)]
pub struct Journal {
    /// The highest durable promise; a vote promises too.
    pub promised: Ballot,
    /// Every vote that was ever durable, by slot and ballot.
    pub votes: Vec<Voted>,
    /// What peers told to be chosen, by slot.
    told: Vec<(Slot, Entry)>,
    /// The entries, from slot 0 on, that a state of a peer adds up to; empty where there is none.
    state: Vec<Entry>,
    /// How far the log is known to be chosen.
    mark: Slot,
    /// Votes that were damaged: they count for what is chosen, and no opening finds them.
    damaged: Vec<(Slot, Ballot)>,
    /// What the newest record of doubts says.
    doubts: Doubts,
    /// What is not durable, oldest first.
    volatile: VecDeque<Volatile>,
    /// How many of `volatile` were read by an opening that did not sync them.
    read_unsynced: usize,
}

#[derive(Clone, Debug, Hash)]
struct Volatile {
    record: Record,
    mark: Option<Slot>,
}

impl Journal {
    /// Appends a group; with it, that every slot below `mark` is known to be chosen.
    pub fn append(&mut self, records: Vec<Record>, mark: Slot) {
        let count = records.len();
        for (index, record) in records.into_iter().enumerate() {
            let mark = (index + 1 == count).then_some(mark);
            self.volatile.push_back(Volatile { record, mark });
        }
    }

    /// The state that these entries add up to, from slot 0 on, is durable.
    pub fn install(&mut self, state: Vec<Entry>) {
        self.state = state;
        let trimmed = self.trimmed();
        self.told.retain(|(slot, _)| trimmed <= *slot);
    }

    /// The state is gone. What was trimmed for it does not come back.
    pub fn lose_state(&mut self) {
        let trimmed = self.trimmed();
        if trimmed == Slot::ZERO {
            return;
        }
        let gone = self.votes.iter().filter(|(slot, _, _)| *slot < trimmed);
        self.damaged.extend(gone.map(|(slot, ballot, _)| (*slot, *ballot)));
        self.damaged.sort();
        self.damaged.dedup();
        self.state.clear();
        self.mark = Slot::ZERO;
    }

    /// The first slot whose entry may be here: those below are in a state.
    #[must_use]
    pub fn trimmed(&self) -> Slot {
        Slot(self.state.len() as u64)
    }

    /// How many records are not durable.
    #[must_use]
    pub fn volatile(&self) -> usize {
        self.volatile.len()
    }

    /// The oldest volatile record becomes durable. Returns whether that keeps what was promised.
    pub fn sync(&mut self) -> bool {
        let Some(Volatile { record, mark }) = self.volatile.pop_front() else { return true };
        self.read_unsynced = self.read_unsynced.saturating_sub(1);
        self.mark = self.mark.max(mark.unwrap_or_default());
        match record {
            Record::Promise { ballot } => {
                let rises = ballot > self.promised;
                self.promised = self.promised.max(ballot);
                rises
            }
            Record::Vote { slot, ballot, entry } => {
                let keeps = ballot == self.promised;
                self.promised = self.promised.max(ballot);
                let place = self.votes.partition_point(|(of, at, _)| (*of, *at) < (slot, ballot));
                self.settle(slot);
                self.damaged.retain(|damaged| *damaged != (slot, ballot));
                let vote = (slot, ballot, entry.clone());
                if self.votes.get(place) != Some(&vote) {
                    self.votes.insert(place, (slot, ballot, entry));
                }
                keeps
            }
            Record::Chosen { slot, entry } => {
                self.settle(slot);
                self.told.retain(|(of, _)| *of != slot);
                self.told.push((slot, entry));
                true
            }
            Record::Doubts(doubts) => {
                self.doubts = doubts;
                true
            }
            Record::Verdicts(_) | Record::Sightings(_) => true,
        }
    }

    /// What stands behind a doubt ends it.
    fn settle(&mut self, slot: Slot) {
        self.doubts.settle(SlotRange { first: slot, end: slot.next() });
    }

    /// The power fails: what is not durable is gone.
    pub fn crash(&mut self) {
        self.volatile.clear();
        self.read_unsynced = 0;
    }

    /// Only the process dies: the next opening reads what is not durable either, and does not sync
    /// it. Returns the journal as it looks to that opening.
    pub fn kill(&mut self) -> Self {
        self.read_unsynced = self.volatile.len();
        let mut seen = self.clone();
        while seen.volatile() > 0 {
            seen.sync();
        }
        seen
    }

    /// How many records an opening read and did not sync.
    #[must_use]
    pub fn read_unsynced(&self) -> usize {
        self.read_unsynced
    }

    /// Whether a vote of these is durable.
    #[must_use]
    pub fn has_vote(&self, slot: Slot, ballot: Ballot) -> bool {
        self.votes.iter().any(|(of, at, _)| (*of, *at) == (slot, ballot))
    }

    /// The newest durable vote in `slot` that can be read.
    #[must_use]
    pub fn newest(&self, slot: Slot) -> Option<&Voted> {
        self.readable().rev().find(|(of, _, _)| *of == slot)
    }

    fn readable(&self) -> impl DoubleEndedIterator<Item = &Voted> {
        let trimmed = self.trimmed();
        let left = self.votes.iter().filter(move |(slot, _, _)| trimmed <= *slot);
        left.filter(|(slot, ballot, _)| !self.damaged.contains(&(*slot, *ballot)))
    }

    /// The newest durable vote in `slot` is damaged, and the opening that follows notices. Returns
    /// whether there is such a vote; the entry of a slot that is known to be chosen is not meant.
    ///
    /// FAULTY: evidence shows that something was durable there. UNCERTAIN: it looks like the end of
    /// a journal that a crash tore.
    pub fn damage(&mut self, slot: Slot, doubt: Doubt) -> bool {
        let vote = self.newest(slot).map(|(_, ballot, _)| (slot, *ballot));
        let Some(vote) = vote.filter(|_| slot >= self.known()) else { return false };
        self.damaged.push(vote);
        self.damaged.sort();
        match doubt {
            Doubt::Faulty => {
                let slots = SlotRange { first: slot, end: slot.next() };
                self.doubts.faulty.insert(slots);
                self.doubts.uncertain.remove(slots);
            }
            Doubt::Uncertain => self.tear(),
        }
        true
    }

    /// A crash left pieces of what was not durable. They could be of any slot.
    pub fn tear(&mut self) {
        let first = self.known();
        self.doubts.uncertain.insert(SlotRange { first, end: first.plus(DOUBT_SLOTS) });
        for slots in self.doubts.faulty.ranges() {
            self.doubts.uncertain.remove(*slots);
        }
    }

    /// Every record of the promise is damaged, and so are those that would show how high it was:
    /// what is left are votes. Returns whether anything was promised.
    pub fn lose_promise(&mut self) -> bool {
        self.doubts.promise_lost = true;
        self.promised > Ballot::ZERO
    }

    /// The first slot that no record shows to be chosen.
    #[must_use]
    pub fn known(&self) -> Slot {
        let told = self.told.iter().map(|(slot, _)| slot.next()).max();
        told.unwrap_or(Slot(1)).max(self.mark).max(self.trimmed())
    }

    /// The newest vote in `slot`, durable or not.
    #[must_use]
    pub fn newest_appended(&self, slot: Slot) -> Option<&Entry> {
        let appended = self.volatile.iter().rev().find_map(|volatile| match &volatile.record {
            Record::Vote { slot: of, entry, .. } if *of == slot => Some(entry),
            _ => None,
        });
        appended.or_else(|| self.newest(slot).map(|(_, _, entry)| entry))
    }

    /// What a core is told at its start, and the entries of all slots known to be chosen. `first`
    /// is the membership, which slot 0 holds.
    ///
    /// # Panics
    ///
    /// Where a slot that was remembered as chosen has no entry.
    #[must_use]
    pub fn recover(&self, first: Entry) -> (Recovered, Vec<Entry>) {
        let mut chosen = if self.state.is_empty() { vec![first] } else { self.state.clone() };
        let mut chain = chain_over(&chosen);
        let mut slot = Slot(chosen.len() as u64);
        loop {
            let vouched = |_: &&Entry| !self.doubts.contains(slot);
            let told = self.told.iter().find(|(of, _)| *of == slot).map(|(_, entry)| entry);
            let own = self
                .newest(slot)
                .map(|(_, _, entry)| entry)
                .filter(|_| slot < self.mark)
                .filter(vouched);
            // What a peer told outlives a vote for something else; otherwise the vote is it.
            let Some(entry) = told.or(own) else { break };
            chain = chain.extend(entry.hash());
            chosen.push(entry.clone());
            slot = slot.next();
        }
        assert!(slot >= self.mark, "slot {slot} was remembered as chosen, and has no entry");
        let mut votes: Vec<Voted> = Vec::new();
        for vote in self.readable().filter(|(of, _, _)| *of >= slot) {
            // The votes are in order: the last one in a slot is the newest.
            votes.retain(|(of, _, _)| *of != vote.0);
            votes.push(vote.clone());
        }
        let mut doubts = self.doubts.clone();
        doubts.settle(SlotRange { first: Slot::ZERO, end: slot });
        let promised = match doubts.promise_lost {
            true => self.readable().map(|(_, ballot, _)| *ballot).max().unwrap_or_default(),
            false => self.promised,
        };
        let slot_chosen = slot;
        let recovered =
            Recovered { promised, slot_chosen, chain, votes, doubts, ..Recovered::default() };
        (recovered, chosen)
    }
}

/// The chain over these entries, from slot 0 on.
#[must_use]
pub fn chain_over(entries: &[Entry]) -> Chain {
    entries.iter().fold(Chain::EMPTY, |chain, entry| chain.extend(entry.hash()))
}
