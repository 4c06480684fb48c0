//! What the frames of a journal add up to, and what damage leaves in doubt.
//!
//! Frames are taken in in the order of their numbers. Where frames are lost, votes may be lost with
//! them, for any slot that was not known to be chosen before: whatever stands further back is only
//! what is left, and may be the older copy of a slot that was voted for again, a well-formed lie.
//! Such a slot is *suspect* until a good frame with a higher number tells about it.
//!
//! ```text
//!   whole groups             bad region          whole groups
//!   slot_chosen is c   ->    c.. are suspect ->  votes and chosen entries clear single slots
//! ```
//!
//! Whatever is whole in a bad region counts, so that what is lost is short stretches with frames
//! between them. A frame of which only the payload is lost tells its slot all the same; no other is
//! suspect then (`salvage`).
//!
//! **How far** suspicion reaches: a vote is only ever cast below `slot_chosen` + 2 alpha of the
//! replica that casts it, and each slot that it knows to be chosen has a frame, written before.
//! Those frames stand before the region, or are lost in it. So a lost vote was for a slot below the
//! highest slot seen, + 2 alpha, + the frames that fit the bytes that are lost; or below one that
//! was lost or in doubt before, of which the head of a group speaks. That bound is for a region
//! behind which nothing is whole. Each group says how far the slots of all frames before its own
//! reach, whether they are read or lost, and how far doubts did: behind a region the next head says
//! where suspicion ends, also where that is farther than the bound.
//!
//! **When all is read**, with `slot_chosen` at k: a suspect slot below k is *missing*, its entry
//! must be fetched; from k on it is FAULTY, or UNCERTAIN where nothing proves that what is lost
//! was ever durable (a torn tail).
//!
//! **Doubts are written down** at each opening, and whenever some are settled; twice. Such a frame
//! replaces what earlier ones said. It replaces what bad regions make suspect only where it
//! accounts for them: it carries a digest of the lost stretches known when it was written. Where
//! more was lost later the digest is another one, and what that makes suspect stays so. That
//! includes all that was in doubt before it: a frame that settled it may have stood there. So an
//! opening that finds anything lost says what it made of it, also where that is nothing.
//!
//! Invariants:
//! * A place in the index belongs to no suspect slot, when all is read.
//! * A chosen entry that was told by a peer is true whatever is lost; as a vote it counts for
//!   nothing. So it clears its slot once that is below `slot_chosen`, and not before; and a vote
//!   that was cast behind it, by who did not know of it any more, does not take its place.
//!
//! Not here: what is good, and what proves that a region was durable (`scan`).

use std::collections::{BTreeMap, BTreeSet};

use crate::types::bugs::{self, Bug};
use crate::types::ids::{Ballot, ContentHash, Slot, SlotRange};
use crate::types::limits::ALPHA;
use crate::types::marks::reached;
use crate::types::record::{Doubts, Sighting};
use crate::types::slots::SlotSet;

use super::frame::{FRAME_HEADER_BYTES, Header, Kind};
use super::index::{Index, Place};

/// What the frames taken in so far say.
pub(super) struct Findings {
    /// The newest promise record: its number and its ballot.
    pub(super) promise: (u64, Ballot),
    /// The newest segment in which a promise record was found.
    pub(super) promise_segment: u64,
    /// The highest number of a promise, and the highest ballot, that frames speak of.
    spoken_of: (u64, Ballot),
    /// The highest number of a promise that any frame speaks of, whether it counts or not.
    pub(super) heard_of: u64,
    /// Whether frames are lost that were durable, and nothing that counts behind them tells that
    /// no newer promise was among them.
    pub(super) lost_behind_promise: bool,
    pub(super) slot_chosen: Slot,
    /// Slots from `slot_chosen` on whose chosen entry a peer told.
    chosen: BTreeSet<Slot>,
    /// Slots below `slot_chosen` whose chosen entry a peer told. It stands in the index.
    told: SlotSet,
    /// Slots for which was voted behind what is chosen, by who did not know that any more.
    voted_behind: BTreeSet<Slot>,
    /// The newest votes from `slot_chosen` on.
    pub(super) votes: BTreeMap<Slot, (Ballot, Place)>,
    pub(super) index: Index,
    pub(super) slot_end: Slot,
    /// How far the slots reached that were voted for, or in doubt, as the heads of groups say.
    spoken_end: Slot,
    /// The newest that were written down.
    pub(super) sightings: Vec<Sighting>,
    /// Suspect since a region is bad that was durable.
    rotten: SlotSet,
    /// Suspect up to where the next head of a group says that votes and doubts reached: none was
    /// found yet behind the last bad region.
    unlimited: SlotSet,
    /// Suspect since doubts may be lost with a bad region, where none are left that name them.
    doubted: SlotSet,
    /// Suspect since the tail is torn.
    torn: SlotSet,
    /// Suspect since it was written down.
    written: Doubts,
    /// The doubts that were taken in last, as long as nothing but heads of groups came since.
    just_written: Option<(u64, ContentHash)>,
    /// Where the lost stretches begin and end: segment and offset of each.
    regions: Vec<[u64; 4]>,
    /// How many votes can have stood in lost bytes, at most.
    votes_lost: u64,
    alpha: u64,
}

/// What is to be told of damage when all is read.
#[derive(Default)]
pub(super) struct Damage {
    pub(super) missing: SlotSet,
    pub(super) doubts: Doubts,
    /// Where entries stand that a peer told, in slots that are in doubt.
    pub(super) told: Vec<(Slot, Place)>,
    /// Which bad regions that accounts for.
    pub(super) digest: u64,
    /// The first and the last segment with one of these.
    pub(super) segments: Option<(u64, u64)>,
}

impl Damage {
    /// Whether nothing is lost but what is `needless` below a slot: no slot from there on is
    /// missing, none is FAULTY, and the promise is there.
    pub(super) fn is_healed(&self, needless: Slot) -> bool {
        let Doubts { promise_lost, faulty, .. } = &self.doubts;
        let mut missing = self.missing.clone();
        missing.remove_below(needless);
        missing.is_empty() && faulty.is_empty() && !promise_lost
    }

    /// One behind the last slot in doubt.
    pub(super) fn end(&self) -> Slot {
        let Doubts { faulty, uncertain, .. } = &self.doubts;
        faulty.end().max(uncertain.end()).unwrap_or_default()
    }

    /// What is written down of it. Missing slots count as faulty.
    pub(super) fn record(&self) -> Doubts {
        let mut doubts = self.doubts.clone();
        join(&mut doubts.faulty, &self.missing);
        doubts
    }
}

impl Findings {
    /// Nothing is read yet. Every slot below `front` is chosen, and was trimmed; of those from
    /// `first` on there is no state either.
    pub(super) fn new(alpha: Option<u64>, front: Slot, first: Slot) -> Self {
        let mut index = Index::beginning_with(first);
        index.may_lack(first.count_to(front));
        Self {
            promise: (0, Ballot::ZERO),
            promise_segment: 0,
            spoken_of: (0, Ballot::ZERO),
            heard_of: 0,
            lost_behind_promise: false,
            slot_chosen: front,
            chosen: BTreeSet::new(),
            told: SlotSet::default(),
            voted_behind: BTreeSet::new(),
            votes: BTreeMap::new(),
            index,
            slot_end: front,
            spoken_end: front,
            sightings: Vec::new(),
            rotten: SlotSet::default(),
            unlimited: SlotSet::default(),
            doubted: SlotSet::default(),
            torn: SlotSet::default(),
            written: Doubts::default(),
            just_written: None,
            regions: Vec::new(),
            votes_lost: 0,
            alpha: alpha.unwrap_or(ALPHA),
        }
    }

    /// Takes in a frame of a whole group; `false` where it can be none of ours.
    pub(super) fn take(&mut self, header: &Header) -> bool {
        self.speaks(header);
        // Who speaks of no newer promise was written before there was one.
        self.lost_behind_promise &= header.meta_seq > self.promise.0;
        let &Header { kind, slot, ballot, segment, offset, .. } = header;
        if kind == Kind::Group && slot > Slot::ZERO && !self.unlimited.is_empty() {
            join(&mut self.doubted, &std::mem::take(&mut self.unlimited));
            self.doubted.remove(all_from(slot));
            self.rotten.remove(all_from(slot));
        }
        match kind {
            Kind::Group => self.spoken_end = self.spoken_end.max(slot),
            Kind::Doubts => {}
            _ => self.just_written = None,
        }
        if !matches!(kind, Kind::Vote | Kind::Chosen) {
            return true;
        }
        let place = Place::new(segment, offset).filter(|_| self.index.can_hold(slot));
        let Some(place) = place else { return false };
        self.slot_end = self.slot_end.max(slot.next());
        if kind == Kind::Vote && slot < self.slot_chosen {
            // Nobody votes for what is known to be chosen. It is what nobody compared with that:
            // what a checkpoint stands for, or cast while what is known was not to be read.
            if self.index.get(slot).is_some() {
                self.voted_behind.insert(slot);
            }
            return true;
        }
        let is_vote = kind == Kind::Vote;
        if is_vote && (self.chosen.contains(&slot) || self.voted_behind.contains(&slot)) {
            reached!(VotedBehindTold);
            self.voted_behind.insert(slot);
        } else {
            self.index.set(slot, place);
            self.voted_behind.remove(&slot);
        }
        match kind {
            Kind::Vote => {
                self.votes.insert(slot, (ballot, place));
                self.settle(slot);
            }
            _ if slot >= self.slot_chosen => drop(self.chosen.insert(slot)),
            _ => self.settle_told(slot),
        }
        true
    }

    /// A whole group was taken in, and says that everything below `slot_chosen` is chosen.
    pub(super) fn end_group(&mut self, slot_chosen: Slot) {
        self.slot_chosen = self.slot_chosen.max(slot_chosen);
        while self.chosen.first().is_some_and(|slot| *slot <= self.slot_chosen) {
            let slot = self.chosen.pop_first().unwrap_or_default();
            self.slot_chosen = self.slot_chosen.max(slot.next());
            self.settle_told(slot);
        }
        while self.votes.first_key_value().is_some_and(|(slot, _)| *slot < self.slot_chosen) {
            self.votes.pop_first();
        }
    }

    /// What is chosen, and stands before a vote that may be for something else. It is to be said
    /// again: nobody shall take the vote for it where the first one is lost.
    pub(super) fn hidden(&self) -> Vec<(Slot, Place)> {
        let told = self.voted_behind.iter();
        told.filter_map(|slot| Some((*slot, self.index.get(*slot)?))).collect()
    }

    /// Takes in what was written down of doubts; of two copies, one. By the second one, the end of
    /// the first one's group may have settled some of them.
    pub(super) fn take_doubts(&mut self, doubts: Doubts, said: (u64, ContentHash)) {
        let is_copy = self.just_written.replace(said) == Some(said);
        if is_copy || bugs::is_on(Bug::DoubtsForgotten) {
            return;
        }
        let (digest, _) = said;
        // A doubt that ended since a peer told the entry is one until that is known to be chosen.
        // The group that says so may be lost, or come behind this.
        let told = self.chosen.iter().filter_map(|slot| Some((*slot, self.is_faulty(*slot)?)));
        let told = told.collect::<Vec<_>>();
        if digest == self.digest() {
            if !self.rotten.is_empty() {
                reached!(DoubtsRead);
            }
            self.rotten = SlotSet::default();
            self.unlimited = SlotSet::default();
            self.doubted = SlotSet::default();
        }
        // What was promised and is lost stays lost.
        let promise_lost = doubts.promise_lost || self.written.promise_lost;
        self.written = Doubts { promise_lost, ..doubts };
        for (slot, is_faulty) in told {
            if self.is_faulty(slot).is_none() {
                let Doubts { faulty, uncertain, .. } = &mut self.written;
                let doubt = if is_faulty { faulty } else { uncertain };
                doubt.insert(SlotRange::one(slot));
            }
        }
    }

    /// What was promised is lost, or was before, as a superheader tells.
    pub(super) fn take_promise_lost(&mut self) {
        self.written.promise_lost =
            !bugs::is_on(Bug::DoubtsForgotten) && !bugs::is_on(Bug::LossToldOnce);
    }

    /// A region was durable and is bad: `bytes` bytes with at most `frames` frames. `place` says
    /// where it begins and ends.
    pub(super) fn rot(&mut self, place: [u64; 4], bytes: u64, frames: u64) {
        reached!(RotFound);
        self.lost_behind_promise = true;
        self.note_region(place);
        let range = self.suspect(bytes, frames);
        self.rotten.insert(range);
        self.unlimited.insert(all_from(range.first));
        // What settled a doubt may be lost here too, and later doubts that leave it out rely on it.
        join(&mut self.rotten, &self.written.faulty);
        join(&mut self.rotten, &self.written.uncertain);
    }

    /// A frame was durable that was about `slot`, and its payload is lost.
    pub(super) fn rot_slot(&mut self, place: [u64; 4], slot: Slot) {
        self.index.may_lack(1);
        if !self.index.can_hold(slot) {
            // No disk does that. Whoever forged it is told that all is in doubt.
            return self.rot(place, 0, 1);
        }
        self.note_region(place);
        self.slot_end = self.slot_end.max(slot.next());
        self.rotten.insert(SlotRange::one(slot));
    }

    /// Something is lost there. It is always the same regions that are found, whatever is known to
    /// be chosen by then: doubts that were written down name all of them.
    pub(super) fn note_region(&mut self, place: [u64; 4]) {
        self.just_written = None;
        self.regions.push(place);
    }

    /// The journal ends `bytes` bytes too early. They were there, and anything may have stood in
    /// them.
    pub(super) fn lose_end(&mut self, bytes: u64) {
        let range = self.suspect(bytes, u64::MAX);
        self.rotten.insert(range);
    }

    /// The journal ends with `bytes` bytes that are bad and may never have been durable.
    pub(super) fn tear(&mut self, bytes: u64) {
        let range = self.suspect(bytes, u64::MAX);
        self.torn.insert(range);
    }

    /// Whether a frame speaks of a promise that is nowhere to be found. Taking the best one that is
    /// left would let this replica vote below what it promised. What a frame says that may never
    /// have been durable counts where it can be about frames that are lost and were.
    pub(super) fn lacks_promise(&self) -> bool {
        let lacks = self.promise.0 < self.spoken_of.0
            || self.promise.1 < self.spoken_of.1
            || self.lost_behind_promise && self.promise.0 < self.heard_of;
        lacks && !bugs::is_on(Bug::BestPromiseLeft)
    }

    /// Takes note of a frame that may count or not.
    pub(super) fn hears(&mut self, header: &Header) {
        self.heard_of = self.heard_of.max(header.meta_seq);
    }

    /// Takes note of a frame that stands in its place in the journal, whether it counts or not: a
    /// promise is the newest that was made before it.
    pub(super) fn finds(&mut self, header: &Header) {
        if header.kind == Kind::Promise {
            self.promise = self.promise.max((header.meta_seq, header.ballot));
            self.promise_segment = self.promise_segment.max(header.segment);
        }
    }

    /// The number of a promise that none ever had.
    pub(super) fn next_promise(&self) -> u64 {
        self.promise.0.max(self.spoken_of.0).max(self.heard_of).saturating_add(1)
    }

    /// What is missing or in doubt, when all is read. Takes it out of the index.
    pub(super) fn damage(&mut self, promise_lost: bool) -> Damage {
        let (mut faulty, mut uncertain) = (self.rotten.clone(), self.torn.clone());
        join(&mut faulty, &self.written.faulty);
        join(&mut uncertain, &self.written.uncertain);
        let mut doubted = std::mem::take(&mut self.doubted);
        uncertain.ranges().iter().for_each(|range| doubted.remove(*range));
        join(&mut faulty, &doubted);
        // Who wrote a doubt down may not have known that it was told.
        for range in self.told.ranges() {
            faulty.remove(*range);
            uncertain.remove(*range);
        }
        // A torn copy never weakens what is faulty.
        faulty.ranges().iter().for_each(|range| uncertain.remove(*range));
        let in_doubt = |slot: &&Slot| faulty.contains(**slot) || uncertain.contains(**slot);
        let told = self.chosen.iter().filter(in_doubt);
        let told = told.filter_map(|slot| Some((*slot, self.index.get(*slot)?))).collect();
        for range in faulty.ranges().iter().chain(uncertain.ranges()) {
            self.index.clear(*range);
        }
        let missing = self.index.holes(self.slot_chosen);
        if !missing.is_empty() {
            reached!(EntriesMissing);
        }
        faulty.remove_below(self.slot_chosen);
        uncertain.remove_below(self.slot_chosen);
        let promise_lost = promise_lost || self.written.promise_lost;
        let doubts = Doubts { promise_lost, faulty, uncertain };
        let segments = self.regions.iter().map(|[first, _, last, _]| (*first, *last));
        let segments = segments.reduce(|all, it| (all.0.min(it.0), all.1.max(it.1)));
        Damage { missing, doubts, told, digest: self.digest(), segments }
    }

    /// Takes note of the promise that a frame speaks of.
    pub(super) fn speaks(&mut self, header: &Header) {
        self.spoken_of.0 = self.spoken_of.0.max(header.meta_seq);
        self.spoken_of.1 = self.spoken_of.1.max(header.ballot);
        self.finds(header);
    }

    /// Whether a slot is FAULTY, as far as was read, or UNCERTAIN; `None` where it is not in doubt.
    fn is_faulty(&self, slot: Slot) -> Option<bool> {
        let is_in = |sets: [&SlotSet; 2]| sets.into_iter().any(|set| set.contains(slot));
        match is_in([&self.rotten, &self.written.faulty]) {
            true => Some(true),
            false => is_in([&self.torn, &self.written.uncertain]).then_some(false),
        }
    }

    /// What a peer told is true whatever is in doubt about it, now and later.
    fn settle_told(&mut self, slot: Slot) {
        self.told.insert(SlotRange::one(slot));
        self.settle(slot);
    }

    fn settle(&mut self, slot: Slot) {
        self.rotten.remove_slot(slot);
        self.unlimited.remove_slot(slot);
        self.doubted.remove_slot(slot);
        self.written.faulty.remove_slot(slot);
        self.written.uncertain.remove_slot(slot);
    }

    /// The slots for which votes can be lost in a region of `bytes` bytes with `frames` frames.
    fn suspect(&mut self, bytes: u64, frames: u64) -> SlotRange {
        let votes = bytes.div_ceil(VOTE_BYTES_MIN).min(frames);
        self.votes_lost = self.votes_lost.saturating_add(votes);
        self.index.may_lack(votes);
        let seen = self.slot_end.max(self.slot_chosen);
        let end = seen.plus(self.alpha.saturating_mul(2)).plus(self.votes_lost);
        SlotRange { first: self.slot_chosen, end: end.max(self.spoken_end) }
    }

    fn digest(&self) -> u64 {
        if self.regions.is_empty() {
            return 0;
        }
        let parts = self.regions.iter().flatten().flat_map(|part| part.to_le_bytes());
        ContentHash::of(&parts.collect::<Vec<_>>()).0 as u64
    }
}

/// A slot and all behind it.
fn all_from(slot: Slot) -> SlotRange {
    SlotRange { first: slot, end: Slot(u64::MAX) }
}

/// Adds the slots of one set to another.
pub(super) fn join(set: &mut SlotSet, more: &SlotSet) {
    more.ranges().iter().for_each(|range| set.insert(*range));
}

/// The smallest frame that holds a vote: one for a no-op, whose entry is 16 bytes.
const VOTE_BYTES_MIN: u64 = FRAME_HEADER_BYTES as u64 + 16;
