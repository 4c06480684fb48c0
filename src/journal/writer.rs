//! From records to durable groups.
//!
//! ```text
//! append -> collector -> next_job -> Job::run (any thread) -> complete
//!           groups       encodes     write, sync             frontier
//! ```
//!
//! Group commit happens by itself: while `inflight_max` groups are being written, whatever is
//! appended gathers in the open group, and becomes the next one as soon as a lane is free.
//!
//! Invariants:
//! * The frontier is a contiguous prefix of frame numbers, and never decreases.
//! * No vote is appended above the promise in force (Lamport: Phase2b needs the promise first).
//! * The first group of a segment is handed out only when all before it are durable.
//! * After the first failure nothing is written any more.
//!
//! Not here: which group an item comes into (`collector`), which syncs count (`flights`), the I/O
//! itself (`job`), what an opening writes before the first append (`recovery`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::bugs::{self, Bug};
use crate::types::ids::{Ballot, Lsn, Slot, SlotRange};
use crate::types::marks::reached;
use crate::types::record::{DurableFrontier, Record};

use super::collector::Collector;
use super::disk::{Disk, File};
use super::error::JournalError;
use super::findings::{Damage, join};
use super::flights::{Departure, Flights};
use super::frame::Home;
use super::group::{Context, Group, Item};
use super::identity::Identity;
use super::index::{Place, Shared};
use super::job::{Buffer, Done, Job, Outcome, Task};
use super::segment::{BLOCK_BYTES, End, Options, Superheader, segment_name};
use super::segments::{Ended, Removal, Segments};
use super::spare::{Ready, Spare};

/// Collects records into groups, hands the groups out, and works out what is durable.
pub(super) struct Writer<D: Disk> {
    disk: Arc<D>,
    shared: Arc<Shared<D::File>>,
    options: Options,
    home: Home,
    /// What the identity file holds; it is replaced when a segment is made.
    identity: Option<Identity>,
    /// What is not handed out yet.
    collector: Collector,
    flights: Flights,
    /// The last frame of the last group that holds anything but evidence.
    content_lsn: Lsn,
    /// What the last group handed out says is durable, and chosen.
    evidence: (Lsn, Slot),
    frontier: Lsn,
    /// The segment that the frontier is in: it is in use, and its superheader is durable.
    segment_durable: u64,
    pub(super) slot_chosen: Slot,
    /// The segment that is written to, opened once for each lane, and where its last group ends.
    lanes: Vec<Arc<D::File>>,
    end: End,
    pub(super) spare: Spare<D::File>,
    pub(super) segments: Segments,
    /// How long the segment is that is written to.
    length: u64,
    /// How long all segments are together.
    bytes_on_disk: u64,
    /// One behind the highest slot ever appended: a slot from here on has no older frame.
    slot_end: Slot,
    /// Slots with an older frame, whose newest one is not durable yet.
    newest: BTreeMap<Slot, Lsn>,
    /// What the opening found damaged, without the missing slots that were appended since. What the
    /// owner says of its doubts is about later slots only.
    damage: Damage,
    /// Buffers to use again; at most one for each lane.
    buffers: Vec<Buffer>,
    poison: Option<JournalError>,
}

/// Where a writer begins: behind what an opening wrote.
pub(super) struct Start<F> {
    /// The segment that is written to, opened once for each lane.
    pub(super) lanes: Vec<Arc<F>>,
    pub(super) end: End,
    /// How long the segment is that is written to.
    pub(super) length: u64,
    pub(super) promised: Ballot,
    pub(super) meta_seq: u64,
    /// What is vouched for, by more than a superheader, to be durable and chosen.
    pub(super) evidence: (Lsn, Slot),
    pub(super) slot_end: Slot,
    pub(super) damage: Damage,
}

impl<D: Disk> Writer<D> {
    pub(super) fn new(
        disk: Arc<D>,
        shared: Arc<Shared<D::File>>,
        options: Options,
        start: Start<D::File>,
        segments: Segments,
    ) -> Self {
        let home = *shared.home.read();
        let (promised, chosen) = ((start.promised, start.meta_seq), start.evidence.1);
        let collector = Collector::behind(&start.end, start.length, promised, chosen, &options);
        Self {
            disk,
            shared,
            options,
            home,
            identity: None,
            collector,
            flights: Flights::default(),
            content_lsn: start.end.last_lsn,
            evidence: start.evidence,
            frontier: start.end.last_lsn,
            segment_durable: start.end.number,
            slot_chosen: chosen,
            lanes: start.lanes,
            end: start.end,
            spare: Spare::new(),
            segments,
            length: start.length,
            bytes_on_disk: 0,
            slot_end: start.slot_end,
            newest: BTreeMap::new(),
            damage: start.damage,
            buffers: Vec::new(),
            poison: None,
        }
    }

    /// Whose journal this is. Needed before the first job is handed out.
    pub(super) fn set_identity(&mut self, identity: &Identity) {
        self.identity = Some(identity.clone());
    }

    pub(super) fn append(
        &mut self,
        records: &[Record],
        slot_chosen: Slot,
    ) -> Result<Lsn, JournalError> {
        self.check_poison()?;
        assert!(
            slot_chosen >= self.slot_chosen,
            "slot_chosen went back from {} to {slot_chosen}",
            self.slot_chosen
        );
        for record in records {
            let renewed = self.note(record);
            let item = self.item(record);
            self.content_lsn = self.collector.push(item);
            if let Some(slot) = renewed {
                self.newest.insert(slot, self.content_lsn);
            }
        }
        self.slot_chosen = slot_chosen;
        // Not earlier: a group that was closed on the way does not hold all these records.
        self.collector.set_chosen(slot_chosen);
        Ok(self.last_lsn())
    }

    pub(super) fn seal(&mut self) -> Result<bool, JournalError> {
        self.check_poison()?;
        let tells = self.evidence.0 < self.content_lsn || self.evidence.1 < self.slot_chosen;
        let due = tells && self.is_idle();
        if due {
            self.collector.push(Item::Seal);
        }
        Ok(due)
    }

    pub(super) fn next_job(&mut self) -> Result<Option<Job<D>>, JournalError> {
        self.check_poison()?;
        if let Some(lane) = self.flights.free_lane(self.lanes.len())
            && self.head_is_ready()
        {
            let group = self.collector.take().expect("there is a group that is ready");
            return Ok(Some(self.hand_out(&group, lane)));
        }
        Ok(self.remove_front().or_else(|| self.prepare_next()))
    }

    pub(super) fn complete(&mut self, done: Done<D>) -> Result<DurableFrontier, JournalError> {
        self.check_poison()?;
        match done.0 {
            Outcome::Prepared { number, length, result } => {
                let lanes = result.map_err(|err| self.poison_with(err))?;
                self.bytes_on_disk += length;
                self.spare.set_ready(Ready { number, length, lanes });
            }
            Outcome::Full { former, .. } => self.spare.set_full(former),
            Outcome::Trimmed { removal, result } => self.end_removal(&removal, result)?,
            Outcome::Checkpoint(_) | Outcome::Read(_) => {
                unreachable!("the journal takes these in by itself")
            }
            Outcome::Written { number, buffer, result } => {
                result.map_err(|err| self.poison_with(err))?;
                if self.buffers.len() < self.options.inflight_max {
                    self.buffers.push(buffer);
                }
                self.flights.land(number);
                self.advance();
            }
        }
        Ok(self.frontier())
    }

    pub(super) fn frontier(&self) -> DurableFrontier {
        DurableFrontier::mint(self.frontier)
    }

    pub(super) fn last_lsn(&self) -> Lsn {
        self.collector.last_lsn()
    }

    pub(super) fn backlog_bytes(&self) -> usize {
        self.flights.bytes() + self.collector.bytes()
    }

    pub(super) fn bytes_on_disk(&self) -> u64 {
        self.bytes_on_disk
    }

    /// Whether there is no space for the next segment, and little room left in this one.
    pub(super) fn is_full(&self) -> bool {
        let reserve = (self.options.segment_bytes / 4).min(RESERVE_BYTES);
        self.spare.lacks_space() && self.collector.room(self.end.number) < reserve
    }

    /// Whether segments could be removed if no slot from `limit` on goes, and `bytes_min` bytes of
    /// the others are left.
    pub(super) fn can_trim(&self, limit: Slot, bytes_min: u64) -> bool {
        self.segments.can_trim(limit, bytes_min.saturating_sub(self.end.offset))
    }

    /// Removes them once what is appended so far is durable: what else stands in them was said
    /// again by then.
    pub(super) fn trim(&mut self, limit: Slot, bytes_min: u64) {
        let bytes_min = bytes_min.saturating_sub(self.end.offset);
        self.segments.trim(limit, bytes_min, self.last_lsn());
    }

    /// The job that removes the front. It replaces the identity, as the one that makes a segment
    /// does: one of them at a time.
    fn remove_front(&mut self) -> Option<Job<D>> {
        let is_durable = self.segment_durable == self.end.number;
        let made = self.spare.settled(self.end.number).filter(|_| is_durable)?;
        let identity = self.identity.as_ref().filter(|identity| identity.formed)?;
        let removal = self.segments.next_removal(self.frontier, self.end.number)?;
        // Who asks for these slots from now on is told.
        let first = if removal.numbers.is_empty() { Slot::ZERO } else { removal.front.slot };
        self.shared.index.write().trim(first);
        let identity =
            Identity { segment_last: self.segment_durable, segment_made: made, ..identity.clone() };
        let disk = Arc::clone(&self.disk);
        Some(Job(Task::Trim { disk, removal, identity }))
    }

    fn end_removal(
        &mut self,
        removal: &Removal,
        result: Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        match result {
            Ok(()) => {
                reached!(SegmentsTrimmed);
                self.bytes_on_disk -= self.segments.complete(Some(removal));
                if let Some(identity) = &mut self.identity {
                    identity.front = removal.front;
                }
                let mut files = self.shared.files.write();
                removal.numbers.iter().for_each(|number| drop(files.remove(number)));
            }
            Err(err) if err.is_full() => drop(self.segments.complete(None)),
            Err(err) => return Err(self.poison_with(err)),
        }
        Ok(())
    }

    /// The slots below are in a checkpoint that came from a peer: what there is of them here does
    /// not count any more.
    pub(super) fn go_on_behind(&mut self, slot: Slot) {
        self.shared.index.write().trim(slot);
        self.damage.missing.remove_below(slot);
        // Whatever stands before has an older frame, as far as anybody asks.
        self.slot_end = self.slot_end.max(slot);
        self.slot_chosen = self.slot_chosen.max(slot);
    }

    pub(super) fn segments_mut(&mut self) -> &mut Segments {
        &mut self.segments
    }

    /// One behind the highest slot that was ever appended.
    pub(super) fn slot_end(&self) -> Slot {
        self.slot_end
    }

    /// The segment that is written to.
    pub(super) fn segment(&self) -> u64 {
        self.end.number
    }

    /// Measures the segments there are. Later ones are counted as they are made.
    pub(super) fn count_bytes(&mut self) -> Result<(), JournalError> {
        self.bytes_on_disk = 0;
        for (number, file) in &*self.shared.files.read() {
            let name = segment_name(*number);
            let length = file.len().map_err(JournalError::io("measure", &name))?;
            self.segments.set_bytes(*number, length);
            self.bytes_on_disk += length;
        }
        Ok(())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.collector.is_empty() && self.flights.is_empty()
    }

    /// Checks a record against what was promised. Where its slot has an older frame, takes that one
    /// out of the readers' sight, and returns the slot.
    fn note(&mut self, record: &Record) -> Option<Slot> {
        let promised = self.collector.promised();
        let slot = match record {
            Record::Promise { ballot } => {
                assert!(*ballot >= promised, "promise {ballot} after {promised}");
                return None;
            }
            Record::Verdicts(_) | Record::Doubts(_) | Record::Sightings(_) => return None,
            Record::Vote { slot, ballot, .. } => {
                assert!(*ballot <= promised, "vote {ballot} above {promised}");
                *slot
            }
            Record::Chosen { slot, .. } => *slot,
        };
        let is_renewed = slot < self.slot_end;
        if is_renewed {
            let slots = SlotRange::one(slot);
            if !bugs::is_on(Bug::ServeOldFrame) {
                self.shared.index.write().clear(slots);
            }
            self.damage.missing.remove_slot(slot);
        }
        self.slot_end = self.slot_end.max(slot.next());
        is_renewed.then_some(slot)
    }

    fn item(&mut self, record: &Record) -> Item {
        let Record::Doubts(doubts) = record else {
            return Item::of(record, self.collector.meta_seq() + 1);
        };
        let mut doubts = doubts.clone();
        doubts.promise_lost |= self.damage.doubts.promise_lost;
        self.damage.doubts.promise_lost = doubts.promise_lost;
        join(&mut doubts.faulty, &self.damage.missing);
        Item::doubts(&doubts, self.damage.digest)
    }

    fn head_is_ready(&self) -> bool {
        let Some(group) = self.collector.head() else { return false };
        if !group.first {
            return true;
        }
        // The new superheader vouches for the whole segment before it.
        let ready = self.spare.fits(group) && self.flights.is_empty();
        if !ready {
            reached!(RollAwaited);
        }
        ready
    }

    fn hand_out(&mut self, group: &Group, lane: usize) -> Job<D> {
        let header_bytes = if group.first { BLOCK_BYTES } else { 0 };
        let mut buffer = self.buffer(header_bytes + group.padded_bytes());
        let offset = group.offset - header_bytes as u64;
        if group.first {
            self.enter_segment(group, &mut buffer);
        }
        let early = bugs::is_on(Bug::EvidenceEarly);
        let durable_through = if early { self.end.last_lsn } else { self.frontier };
        let (slot_end, link) = (self.slot_end, self.end.link);
        let context = Context { home: self.home, durable_through, slot_end, link };
        let mut places = Vec::with_capacity(group.items.len());
        let link = group.encode(context, buffer.output(), &mut places);
        let last_lsn = Lsn(group.end_lsn.0 - 1);
        let end = group.offset + group.padded_bytes() as u64;
        self.end = End { number: group.segment, offset: end, last_lsn, link };
        self.evidence = (self.frontier, group.slot_chosen);
        let (segment, bytes) = (group.segment, group.padded_bytes());
        let number = self.flights.depart(Departure { lane, bytes, last_lsn, segment, places });
        let file = Arc::clone(&self.lanes[lane]);
        Job(Task::Write { number, segment, file, offset, buffer })
    }

    /// Takes the spare into use. Its superheader goes out with its first group.
    fn enter_segment(&mut self, group: &Group, buffer: &mut Buffer) {
        let spare = self.spare.take().expect("a first group is ready only with its segment");
        let Ready { number, length, lanes } = spare;
        assert!(self.frontier == self.end.last_lsn, "segment {number} before its past is durable");
        let superheader = Superheader {
            home: self.home,
            number,
            length,
            first_lsn: group.first_lsn,
            durable_through: self.frontier,
            previous: self.end,
            promised: self.collector.promised(),
            promise_lost: self.damage.doubts.promise_lost,
        };
        assert!(superheader.is_of(number), "no opening would take it: {superheader:?}");
        let (last_lsn, slot_end, bytes) = (self.end.last_lsn, self.slot_end, self.length);
        self.segments.end(self.end.number, Ended { last_lsn, slot_end, bytes });
        self.length = length;
        let (bytes, checksum) = superheader.encode();
        buffer.output().extend_from_slice(&bytes);
        self.end.link = checksum;
        // Nothing is under way in the former one any more.
        let mut files = self.shared.files.write();
        files.iter().next_back().inspect(|(_, former)| former.rest());
        files.insert(number, Arc::clone(&lanes[0]));
        drop(files);
        self.lanes = lanes;
    }

    /// The job that makes the next segment, where it is not made or too short.
    fn prepare_next(&mut self) -> Option<Job<D>> {
        // Not earlier: the job would put its identity in the place of the one that says so; and it
        // writes down which segment is in use, so that one must be durable.
        let is_durable = self.segment_durable == self.end.number;
        let identity = self.identity.as_ref().filter(|identity| identity.formed && is_durable)?;
        if self.segments.runs() {
            return None;
        }
        let number = self.end.number + 1;
        let length = self.collector.length(number).unwrap_or(self.options.segment_bytes);
        let (former, bytes) = self.spare.prepare(length)?;
        self.bytes_on_disk -= bytes;
        let identity = Identity { segment_last: self.segment_durable, ..identity.clone() };
        Some(Job(Task::Prepare {
            disk: Arc::clone(&self.disk),
            number,
            length,
            lanes: self.options.inflight_max,
            former,
            identity,
        }))
    }

    /// Moves the frontier over every group that counts, and shows their entries to readers.
    fn advance(&mut self) {
        while let Some(flight) = self.flights.pop_durable() {
            assert!(flight.last_lsn > self.frontier, "the frontier must grow");
            self.frontier = flight.last_lsn;
            self.segment_durable = flight.segment;
            let mut index = self.shared.index.write();
            for (slot, lsn, offset) in flight.places {
                match self.newest.get(&slot) {
                    Some(newest) if *newest > lsn => {
                        reached!(OldFrameHidden);
                        continue;
                    }
                    Some(_) => drop(self.newest.remove(&slot)),
                    None => {}
                }
                let place = Place::new(flight.segment, offset);
                index.set(slot, place.expect("segments are bounded in number and length"));
            }
        }
    }

    fn buffer(&mut self, length: usize) -> Buffer {
        let used = self.buffers.pop().filter(|buffer| buffer.capacity() >= length);
        let mut buffer = used.unwrap_or_else(|| Buffer::new(length.max(BUFFER_BYTES_MIN)));
        buffer.clear();
        buffer
    }

    pub(super) fn check_poison(&self) -> Result<(), JournalError> {
        self.poison.as_ref().map_or(Ok(()), |poison| Err(poison.again()))
    }

    /// Remembers the first failure. It is never retried: after a failed sync the kernel may hold
    /// the lost blocks as clean, and a second sync would succeed without writing them.
    pub(super) fn poison_with(&mut self, err: JournalError) -> JournalError {
        let poison = err.for_good();
        reached!(JournalPoisoned);
        let returned = poison.again();
        self.poison = Some(poison);
        returned
    }
}

const BUFFER_BYTES_MIN: usize = 64 * 1024;

/// How much room a segment must have while there is no space for the next one: enough for what was
/// voted for when the disk turned out to be full, and for a promise behind it.
const RESERVE_BYTES: u64 = 4 * 1024 * 1024;
