//! Reading a whole journal, and telling a torn tail from rot.
//!
//! Segments form a chain: each superheader names the one before and where that one validly ends.
//! From the newest valid superheader the chain is followed back, then read forward, group by
//! group. In every segment but the last, all that is named must be whole. In the last one, the
//! first bad group decides:
//!
//! * Some valid frame that was written later says that this place was durable: it is rot. Refused.
//! * No such evidence: the group was in flight, or is not there at all. The journal ends here.
//!
//! The evidence is looked for in all blocks behind, whatever stands between: zeros do not end a
//! journal, and one torn group in front of another proves nothing. (The reasoning is that of
//! Alagappan et al., *Protocol-Aware Recovery for Consensus-Based Storage*, FAST'18, section 3.3.)
//!
//! Invariants:
//! * Nothing is written here.
//! * A frame is believed only where its whole group is, except for what it says about promises and

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::types::ids::{Ballot, Lsn, Slot};

use super::disk::{Disk, File};
use super::error::JournalError;
use super::frame::{
    BadFrame, FORMAT_VERSION, FRAME_HEADER_BYTES, Header, Home, Kind, u32_at, u64_at,
};
use super::group::{GROUP_FRAME_BYTES, GROUP_PAYLOAD_BYTES};
use super::index::{Index, Place};
use super::reader::Window;
use super::segment::{
    BLOCK_BYTES, BadSuperheader, End, SUPERHEADER_BYTES, Superheader, segment_name,
};
use super::walk::{Seen, Walk, Whole};

/// What the segments of a journal hold.
pub(super) struct Scan<F> {
    home: Home,
    window: Window<F>,
    pub(super) files: BTreeMap<u64, Arc<F>>,
    /// The newest segment with a valid superheader; 0 where there is none.
    pub(super) last: u64,
    /// Up to here everything is covered by evidence; it need not be written again.
    pub(super) kept: End,
    /// The frames behind, of groups that are whole.
    pub(super) tail: Vec<Seen>,
    /// The segments that `kept` and its predecessors stand in.
    pub(super) chain: Vec<u64>,
    /// The highest ballot on any valid frame.
    pub(super) promised: Ballot,
    /// The newest promise record: its number and its ballot.
    pub(super) promise: (u64, Ballot),
    /// The highest number of a promise, and the highest ballot, that accepted frames speak of.
    spoken_of: (u64, Ballot),
    /// The highest number on any valid frame.
    pub(super) lsn_seen: Lsn,
    /// Everything up to here was durable at some time.
    evidence: Lsn,
    pub(super) slot_chosen: Slot,
    chosen: BTreeSet<Slot>,
    /// The newest votes from `slot_chosen` on.
    pub(super) votes: BTreeMap<Slot, (Ballot, Place)>,
    pub(super) index: Index,
    pub(super) slot_end: Slot,
}

/// The first bad place of a segment.
struct Bad {
    offset: u64,
    slot: Option<Slot>,
    reason: &'static str,
}

impl<F: File> Scan<F> {
    /// Reads everything there is. `segment_last` is a segment that must be there.
    pub(super) fn run<D: Disk<File = F>>(
        disk: &D,
        home: Home,
        numbers: &[u64],
        segment_last: u64,
    ) -> Result<Self, JournalError> {
        let mut scan = Self::new(home);
        let mut superheaders = BTreeMap::new();
        for &number in numbers {
            let name = segment_name(number);
            let file = Arc::new(disk.open(&name).map_err(JournalError::io("open", &name))?);
            scan.files.insert(number, file);
            if let Some(superheader) = scan.superheader(number)? {
                superheaders.insert(number, superheader);
            }
        }
        scan.last = superheaders.last_key_value().map_or(0, |(number, _)| *number);
        if scan.last < segment_last {
            return Err(scan.lost(segment_last));
        }
        let chain = scan.follow(&superheaders)?;
        scan.chain = chain.iter().map(|(superheader, _)| superheader.number).collect();
        for (place, link) in chain.iter().enumerate() {
            match chain.get(place + 1) {
                Some((next, _)) => scan.read_complete(link, next.previous)?,
                None => scan.read_last(link)?,
            }
        }
        scan.check()?;
        Ok(scan)
    }

    fn new(home: Home) -> Self {
        Self {
            home,
            window: Window::large(),
            files: BTreeMap::new(),
            last: 0,
            kept: End::default(),
            tail: Vec::new(),
            chain: Vec::new(),
            promised: Ballot::ZERO,
            promise: (0, Ballot::ZERO),
            spoken_of: (0, Ballot::ZERO),
            lsn_seen: Lsn::ZERO,
            evidence: Lsn::ZERO,
            slot_chosen: Slot::ZERO,
            chosen: BTreeSet::new(),
            votes: BTreeMap::new(),
            index: Index::default(),
            slot_end: Slot::ZERO,
        }
    }

    /// The bytes of an entry or of verdicts.
    pub(super) fn payload(&mut self, place: Place) -> Result<Vec<u8>, JournalError> {
        self.enter(place.segment());
        let header = self.window.bytes(place.offset(), FRAME_HEADER_BYTES)?;
        let length = match Header::decode(header) {
            Ok((header, _)) => header.payload_bytes as usize,
            Err(bad) => return Err(corrupt(place.segment(), place.offset(), None, bad.reason())),
        };
        let from = place.offset() + FRAME_HEADER_BYTES as u64;
        Ok(self.window.bytes(from, length)?.to_vec())
    }

    fn enter(&mut self, number: u64) {
        if self.window.segment() != number
            && let Some(file) = self.files.get(&number)
        {
            self.window.enter(Arc::clone(file), number);
        }
    }

    fn length(&self, number: u64) -> Result<u64, JournalError> {
        let name = segment_name(number);
        self.files[&number].len().map_err(JournalError::io("measure", &name))
    }

    /// The superheader of a segment; `None` where there is no valid one.
    fn superheader(&mut self, number: u64) -> Result<Option<(Superheader, u32)>, JournalError> {
        let file = segment_name(number);
        // By itself, not through the window: of most segments nothing else is wanted yet.
        let mut bytes = [0; SUPERHEADER_BYTES];
        let count =
            self.files[&number].read_at(0, &mut bytes).map_err(JournalError::io("read", &file))?;
        let (superheader, checksum) = match Superheader::decode(&bytes[..count]) {
            Ok(decoded) => decoded,
            Err(BadSuperheader::Invalid) => return Ok(None),
            Err(BadSuperheader::Version(found)) => return Err(unsupported(number, found)),
        };
        let (wanted, found) = (self.home, superheader.home);
        if found.cluster != wanted.cluster {
            let (wanted, found) = (wanted.cluster, found.cluster);
            return Err(JournalError::WrongCluster { file, wanted, found });
        }
        if found.incarnation != wanted.incarnation {
            let (wanted, found) = (wanted.incarnation, found.incarnation);
            return Err(JournalError::ForeignSegment { file, wanted, found });
        }
        if superheader.number != number || superheader.previous.number >= number {
            return Err(corrupt(number, 0, None, "a superheader that belongs elsewhere"));
        }
        Ok(Some((superheader, checksum)))
    }

    /// The error for a segment that was in use and is not to be seen.
    fn lost(&self, number: u64) -> JournalError {
        match self.files.contains_key(&number) {
            true => corrupt(number, 0, None, "no superheader where one was acknowledged"),
            false => JournalError::MissingSegment { file: segment_name(number) },
        }
    }

    /// The chain that ends with the last segment, oldest first.
    fn follow(
        &self,
        superheaders: &BTreeMap<u64, (Superheader, u32)>,
    ) -> Result<Vec<(Superheader, u32)>, JournalError> {
        let mut chain = Vec::new();
        let mut number = self.last;
        while number > 0 {
            let superheader = superheaders.get(&number).ok_or_else(|| self.lost(number))?;
            chain.push(*superheader);
            number = superheader.0.previous.number;
        }
        chain.reverse();
        Ok(chain)
    }

    /// Reads a segment of which it is known where it ends: all of it must be good.
    fn read_complete(
        &mut self,
        (superheader, checksum): &(Superheader, u32),
        wanted: End,
    ) -> Result<(), JournalError> {
        let mut end = start(superheader, *checksum);
        // What is said of a file is one thing, how long it is another.
        let limit = wanted.offset.min(self.length(end.number)?);
        while end.offset < wanted.offset {
            match self.read_group(end, limit)? {
                Ok(whole) => {
                    self.accept(&whole)?;
                    end = whole.end;
                }
                Err(bad) => return Err(corrupt(end.number, bad.offset, bad.slot, bad.reason)),
            }
        }
        if end != wanted {
            return Err(corrupt(end.number, end.offset, None, "another end than was acknowledged"));
        }
        Ok(())
    }

    /// Reads the last segment up to its end or its first bad group.
    fn read_last(
        &mut self,
        (superheader, checksum): &(Superheader, u32),
    ) -> Result<(), JournalError> {
        let number = superheader.number;
        let length = self.length(number)?;
        self.evidence = self.evidence.max(superheader.durable_through);
        self.lsn_seen = self.lsn_seen.max(superheader.durable_through);
        self.kept = superheader.previous;
        let mut end = start(superheader, *checksum);
        let mut uncovered: Vec<Whole> = Vec::new();
        let bad = loop {
            match self.read_group(end, length)? {
                Ok(whole) => {
                    self.accept(&whole)?;
                    end = whole.end;
                    uncovered.push(whole);
                }
                Err(bad) => break bad,
            }
            // Evidence comes group by group, so only the last few are held.
            while uncovered.first().is_some_and(|first| first.end.last_lsn <= self.evidence) {
                let whole = uncovered.remove(0);
                // Promises and seals are not kept for their own sake: the next segment has both.
                if whole.frames.iter().any(Seen::is_content) {
                    self.kept = whole.end;
                }
            }
        };
        self.look_behind(number, end.offset, length);
        if self.evidence > end.last_lsn {
            return Err(corrupt(number, bad.offset, bad.slot, bad.reason));
        }
        self.look_at_newer(number, end)?;
        if self.kept.number != number {
            self.chain.pop();
        }
        self.tail = uncovered.into_iter().flat_map(|whole| whole.frames).collect();
        Ok(())
    }

    /// Looks for evidence in segments that were begun but have no superheader.
    fn look_at_newer(&mut self, number: u64, end: End) -> Result<(), JournalError> {
        let newer: Vec<u64> = self.files.range(number + 1..).map(|(number, _)| *number).collect();
        for number in newer {
            let length = self.length(number)?;
            self.look_behind(number, BLOCK_BYTES as u64, length);
            if self.evidence > end.last_lsn {
                return Err(self.lost(number));
            }
        }
        Ok(())
    }

    /// Looks at every block from `from` on for a valid frame, for what it proves.
    fn look_behind(&mut self, number: u64, from: u64, length: u64) {
        self.enter(number);
        let mut offset = from;
        while offset < length {
            // What cannot be read proves nothing; that it had to be readable, others may prove.
            if let Ok(bytes) = self.window.bytes(offset, FRAME_HEADER_BYTES)
                && let Ok((header, _)) = Header::decode(bytes)
                && header.stands_at(self.home, number, offset)
            {
                self.note(&header);
            }
            offset += BLOCK_BYTES as u64;
        }
    }

    /// What any valid frame proves, whether its group is whole or not.
    fn note(&mut self, header: &Header) {
        self.evidence = self.evidence.max(header.durable_through);
        self.lsn_seen = self.lsn_seen.max(header.lsn);
        self.promised = self.promised.max(header.ballot);
    }

    /// Reads the group behind `end`.
    fn read_group(&mut self, end: End, limit: u64) -> Result<Result<Whole, Bad>, JournalError> {
        self.enter(end.number);
        let bad = |reason| Ok(Err(Bad { offset: end.offset, slot: None, reason }));
        let (home, mut walk) = (self.home, Walk::new(end));
        let bytes = self.window.bytes(end.offset, GROUP_FRAME_BYTES)?;
        match walk.frame(home, bytes) {
            Ok(header)
                if header.kind == Kind::Group
                    && header.payload_bytes as usize == GROUP_PAYLOAD_BYTES => {}
            Ok(_) => return bad("no group where one was acknowledged"),
            Err((BadFrame::Version(found), _)) => return Err(unsupported(end.number, found)),
            Err((frame, _)) => return bad(frame.reason()),
        }
        let frame_count = u64::from(u32_at(bytes, FRAME_HEADER_BYTES));
        let group_bytes = u64_at(bytes, FRAME_HEADER_BYTES + 8);
        if group_bytes > limit.saturating_sub(end.offset) || frame_count == 0 {
            return bad("a group that is longer than its segment");
        }
        let group_bytes = usize::try_from(group_bytes).unwrap_or(usize::MAX);
        let bytes = self.window.bytes(end.offset, group_bytes)?;
        let result = walk.rest(home, bytes, frame_count);
        for Seen(header) in walk.seen() {
            self.note(header);
        }
        match result {
            Ok(()) => Ok(Ok(walk.finish(group_bytes))),
            Err((BadFrame::Version(found), _)) => Err(unsupported(end.number, found)),
            Err((frame, slot)) => {
                let offset = end.offset + walk.at() as u64;
                Ok(Err(Bad { offset, slot, reason: frame.reason() }))
            }
        }
    }

    /// Takes in the frames of a whole group.
    fn accept(&mut self, whole: &Whole) -> Result<(), JournalError> {
        for Seen(header) in &whole.frames {
            let Header { kind, slot, ballot, meta_seq, segment, offset, .. } = *header;
            self.spoken_of.0 = self.spoken_of.0.max(meta_seq);
            self.spoken_of.1 = self.spoken_of.1.max(ballot);
            match kind {
                Kind::Promise => self.promise = self.promise.max((meta_seq, ballot)),
                Kind::Vote | Kind::Chosen => {
                    let place = Place::new(segment, offset);
                    let Some(place) = place.filter(|_| self.index.can_hold(slot)) else {
                        return Err(corrupt(segment, offset, Some(slot), "a slot out of range"));
                    };
                    self.index.set(slot, place);
                    self.slot_end = self.slot_end.max(slot.next());
                    if slot >= self.slot_chosen && kind == Kind::Vote {
                        self.votes.insert(slot, (ballot, place));
                    } else if slot >= self.slot_chosen {
                        self.chosen.insert(slot);
                    }
                }
                Kind::Group => {}
                Kind::Verdicts | Kind::Doubts | Kind::Seal => {}
            }
        }
        // All frames of a group say the same, and mean the end of the group.
        if let Some(Seen(header)) = whole.frames.first() {
            self.slot_chosen = self.slot_chosen.max(header.slot_chosen);
        }
        while self.chosen.first().is_some_and(|slot| *slot <= self.slot_chosen) {
            let slot = self.chosen.pop_first().unwrap_or_default();
            self.slot_chosen = self.slot_chosen.max(slot.next());
        }
        while self.votes.first_key_value().is_some_and(|(slot, _)| *slot < self.slot_chosen) {
            self.votes.pop_first();
        }
        Ok(())
    }

    /// What must hold for a journal as a whole.
    fn check(&self) -> Result<(), JournalError> {
        if self.last == 0 {
            return Ok(());
        }
        // Amnesia: a frame speaks of a promise that is nowhere to be found. Taking the best one
        // that is left would let this replica vote below what it promised.
        let (number, ballot) = self.promise;
        if number < self.spoken_of.0 || ballot < self.spoken_of.1 {
            return Err(corrupt(self.last, 0, None, "a promise is lost"));
        }
        // Both are counted on from here. No journal comes so far; a forged one must not wrap
        // around.
        if self.lsn_seen.0 > COUNT_MAX || number > COUNT_MAX {
            return Err(corrupt(self.last, 0, None, "a number of a frame out of range"));
        }
        match self.index.first_hole(self.slot_chosen) {
            Some(slot) => Err(corrupt(self.last, 0, Some(slot), "a chosen slot has no frame")),
            None => Ok(()),
        }
    }
}

/// Where the first group of a segment must stand.
fn start(superheader: &Superheader, checksum: u32) -> End {
    End {
        number: superheader.number,
        offset: BLOCK_BYTES as u64,
        last_lsn: Lsn(superheader.first_lsn.0.saturating_sub(1)),
        link: checksum,
    }
}

fn corrupt(number: u64, offset: u64, slot: Option<Slot>, reason: &'static str) -> JournalError {
    JournalError::Corrupt { file: segment_name(number), offset, slot, reason }
}

fn unsupported(number: u64, found: u16) -> JournalError {
    let file = segment_name(number);
    JournalError::UnsupportedFormat { file, found, supported: FORMAT_VERSION }
}

/// The highest number of a frame, and of a promise, that is believed.
const COUNT_MAX: u64 = 1 << 62;
