//! Reading a whole journal, and telling a torn tail from rot.
//!
//! The segments of the chain are read oldest first, group by group. Where a group is bad, what was
//! written later decides:
//!
//! * Something says that this place was durable: a superheader that names where its predecessor
//!   ends, a `durable_through` of any valid frame behind, the identity. It is rot.
//! * Nothing does: the group was in flight, or is not there at all. The journal ends here.
//!
//! The evidence is looked for in all blocks behind, whatever stands between: zeros do not end a
//! journal, and one torn group in front of another proves nothing. (The reasoning is that of
//! Alagappan et al., *Protocol-Aware Recovery for Consensus-Based Storage*, FAST'18, section 3.3.)
//!
//! Rot ends the reading where the replica is alone: nobody else has what is lost. (Where others
//! had it once, `recovery` reads on, to see whether they gave it back.) In a cluster it goes on at
//! the next whole group that stands in its place. What lies between is a bad region, of which
//! whole frames count (`salvage`), and what is lost leaves doubts (`findings`). A torn tail is
//! cut; in a cluster, unless it is all zeros, with doubts.
//!
//! Invariants:
//! * Nothing is written here.
//! * A frame is believed where its whole group is, or in a bad region by itself. What it says about
//!   promises and evidence is believed anywhere: there the highest is always the safe one.
//! * A region that is bad stays in the journal, up to its end, and is found again by every opening.
//!
//! Not here: bytes and frames (`source`, `walk`), which segments there are (`chain`), what is done
//! about a bad region (`salvage`), where the journal ends (`tail`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::bugs::{self, Bug};
use crate::types::codec;
use crate::types::ids::{Ballot, Lsn, Slot};
use crate::types::record::{Doubts, Sighting};

use super::chain::{self, Known, Link, Rot};
use super::disk::{Disk, File};
use super::error::JournalError;
use super::findings::{Damage, Findings};
use super::frame::{COUNT_MAX, FRAME_ALIGNMENT, Header, Home, Kind};
use super::index::Place;
use super::numbers::Numbers;
use super::salvage::Gap;
use super::segment::{BLOCK_BYTES, End, Options, Superheader, segment_name};
use super::source::{Bad, Expected, Source};
use super::walk::{Seen, Whole};

/// What the segments of a journal hold.
pub(super) struct Scan<F> {
    pub(super) source: Source<F>,
    pub(super) rot: Rot,
    pub(super) slot_checkpointed: Slot,
    /// What the frames say.
    pub(super) found: Findings,
    /// What damage there is, when all is read.
    pub(super) damage: Damage,
    /// Up to here everything is covered by evidence; it need not be written again.
    pub(super) kept: End,
    /// The frames of whole groups that no evidence covers.
    pub(super) tail: Vec<Seen>,
    /// The segments that `kept` and its predecessors stand in.
    pub(super) chain: Vec<u64>,
    /// Whether any segment was ever in use.
    pub(super) is_begun: bool,
    /// The highest ballot on any valid frame, or on a superheader of the chain.
    pub(super) promised: Ballot,
    /// Whether any valid frame was found.
    is_ours: bool,
    /// The highest number that a frame may have had.
    pub(super) lsn_seen: Lsn,
    /// Those of the frames that were seen.
    numbers: Numbers,
    /// Everything up to here was durable at some time.
    pub(super) evidence: Lsn,
    /// Everything up to here was durable, as some *frame* says. A superheader says so of the groups
    /// behind it too, but it may itself be read from the cache of a system whose sync failed; a
    /// frame behind it was written only after it was synced.
    vouched: Lsn,
    /// How long a segment was made, at most, of which nothing says how long.
    longest: u64,
    /// The end of the last whole group.
    pub(super) end: End,
    /// Of each segment but the last, its last frame and one behind the highest slot so far.
    pub(super) ended: BTreeMap<u64, (Lsn, Slot)>,
    /// The bad region that is being passed.
    pub(super) gap: Option<Gap>,
    /// Whole groups that no frame vouches for.
    pub(super) uncovered: Vec<Whole>,
    /// Where in the segments that may be the last everything but zeros ends, once looked at.
    pub(super) behind: BTreeMap<u64, u64>,
    /// To whom groups belong that are none of ours.
    pub(super) foreign: Option<(u64, Home)>,
}

impl<F: File> Scan<F> {
    /// Reads everything there is.
    pub(super) fn run<D: Disk<File = F>>(
        disk: &D,
        known: Known,
        alpha: Option<u64>,
        numbers: &[u64],
    ) -> Result<Self, JournalError> {
        let mut scan = Self::new(known, alpha);
        for &number in numbers {
            let name = segment_name(number);
            let file = Arc::new(disk.open(&name).map_err(JournalError::io("open", &name))?);
            file.rest();
            scan.source.files.insert(number, file);
        }
        let links = chain::links(&scan.source.files, known)?;
        scan.is_begun = links.iter().any(|link| link.certain);
        if scan.is_begun {
            scan.read(&links)?;
            scan.finish(&links)?;
        }
        Ok(scan)
    }

    fn new(known: Known, alpha: Option<u64>) -> Self {
        Self {
            source: Source::new(known.home, known.rot.is_alone()),
            rot: known.rot,
            slot_checkpointed: known.slot_checkpointed,
            found: Findings::new(alpha, known.front.slot, known.slot_first),
            damage: Damage::default(),
            kept: End::default(),
            tail: Vec::new(),
            chain: Vec::new(),
            is_begun: false,
            promised: Ballot::ZERO,
            is_ours: false,
            lsn_seen: Lsn::ZERO,
            numbers: Numbers::default(),
            evidence: known.durable_through,
            vouched: Lsn::ZERO,
            longest: Options::default().segment_bytes,
            end: known.front.end_before(),
            ended: BTreeMap::new(),
            gap: None,
            uncovered: Vec::new(),
            behind: BTreeMap::new(),
            foreign: None,
        }
    }

    /// Reads the segments, up to where the journal ends.
    fn read(&mut self, links: &[Link]) -> Result<(), JournalError> {
        for (superheader, _) in links.iter().filter_map(|link| link.superheader) {
            self.evidence = self.evidence.max(superheader.durable_through);
            self.longest = self.longest.max(superheader.length);
            if !bugs::is_on(Bug::PromiseNotRecovered) {
                self.promised = self.promised.max(superheader.promised);
            }
            if superheader.promise_lost {
                self.found.take_promise_lost();
            }
        }
        for (place, link) in links.iter().enumerate() {
            self.chain.push(link.number);
            self.begin(link);
            if !self.read_segment(link, &links[place + 1..])? {
                break;
            }
            let last_lsn = link.end.map_or(self.end.last_lsn, |end| end.last_lsn);
            self.ended.insert(link.number, (last_lsn, self.found.slot_end));
        }
        if let (Some(link), Some(gap)) = (links.last(), &self.gap) {
            self.skip_numbers(gap.bytes);
            let (number, offset) = (link.number, self.limit(link)?);
            self.end_gap(End { number, offset, last_lsn: self.lsn_seen, link: 0 });
        }
        // None was looked at where the region that is bad began with a superheader.
        for link in links.iter().filter(|link| !link.certain) {
            self.look_behind(link.number, 0, true)?;
        }
        // An opening that did not end told nobody of what it wrote; but its numbers are used up.
        // The promise that it wrote may be the best that was left of what it knew to be lost.
        let top = links.last().map_or(0, |link| link.number);
        let newer = self.source.files.range(top + 1..).map(|(number, _)| *number);
        for number in newer.collect::<Vec<_>>() {
            self.look_behind(number, BLOCK_BYTES as u64, false)?;
        }
        self.lsn_seen = self.lsn_seen.max(self.evidence);
        if let Some((number, offset)) = self.numbers.fall() {
            return Err(corrupt(number, offset, None, "numbers of frames that do not grow"));
        }
        match self.foreign {
            // Not a single frame is ours: it is another journal.
            Some((number, home)) if !self.is_ours => chain::foreign(self.source.home, home, number),
            _ => Ok(()),
        }
    }

    /// At the beginning of a segment.
    fn begin(&mut self, link: &Link) {
        if let Some((superheader, checksum)) = &link.superheader {
            self.end = start(superheader, *checksum);
            self.kept = superheader.previous;
            self.uncovered.clear();
        } else if self.gap.is_none() {
            // What its first frame must link to is not known. Whether anything is lost is seen when
            // the next whole group is found.
            self.gap = Some(Gap::new(self.end));
        }
    }

    /// Reads a segment; `false` where the journal ends in it. `rest` may come behind.
    fn read_segment(&mut self, link: &Link, rest: &[Link]) -> Result<bool, JournalError> {
        let (number, mut offset) = (link.number, BLOCK_BYTES as u64);
        let limit = self.limit(link)?;
        self.check_length(link, rest)?;
        while offset < limit || self.gap.is_none() && link.end.is_none() {
            let is_over = link.last_lsn.is_some_and(|last| last <= self.end.last_lsn);
            if is_over && link.end.is_none() && self.gap.is_none() {
                break;
            }
            let expected = match &self.gap {
                None => Expected::Next(self.end),
                Some(gap) => Expected::Above(gap.last_lsn()),
            };
            match self.source.group(number, offset, limit, expected)? {
                Ok(whole) => {
                    whole.frames.iter().for_each(|Seen(header)| self.note(header));
                    if link.was_cut(whole.frames[0].0.lsn) {
                        break;
                    }
                    whole.frames.iter().for_each(|Seen(header)| self.see(link, header));
                    self.leave_gap(&whole, offset);
                    offset = whole.end.offset;
                    self.accept(whole, link.end.is_some())?;
                }
                Err(bad) => {
                    bad.seen.iter().for_each(|Seen(header)| self.note(header));
                    if self.gap.is_none() {
                        if !self.is_rotten(link, rest, &bad)? {
                            self.tear(link)?;
                            return Ok(false);
                        }
                        self.gap = Some(Gap::new(self.end));
                    }
                    if self.pass((link, rest), (offset, limit), &bad)? {
                        return Ok(false);
                    }
                    offset += BLOCK_BYTES as u64;
                }
            }
        }
        match link.end {
            Some(wanted) => self.end_segment(wanted)?,
            // All that is lost may have been counted in its last block.
            None => return Ok(!self.ends_in_gap(link, rest)?),
        }
        Ok(true)
    }

    /// Where what is read of a segment ends. A file can be shorter than it was made.
    fn limit(&mut self, link: &Link) -> Result<u64, JournalError> {
        let length = self.source.length(link.number)?;
        let wanted = match (link.end, link.superheader) {
            (Some(end), _) => end.offset,
            (None, _) if self.rot.is_alone() => length,
            (None, Some((superheader, _))) => length.max(superheader.length),
            (None, None) => length.max(self.longest),
        };
        // Nothing is made longer than that; what says so was forged.
        Ok(wanted.min(length.max(LENGTH_MAX)))
    }

    /// Whether the bad place behind the last whole group was durable. Alone, that is an error.
    fn is_rotten(&mut self, link: &Link, rest: &[Link], bad: &Bad) -> Result<bool, JournalError> {
        if bugs::is_on(Bug::CutAtBadGroup) {
            return Ok(false);
        }
        let (number, offset) = (link.number, self.end.offset);
        let refusal = || corrupt(number, bad.offset, bad.slot, bad.reason);
        if link.end.is_some() || rest.iter().any(|link| link.certain) {
            return if self.rot == Rot::Refused { Err(refusal()) } else { Ok(true) };
        }
        self.look_behind(number, offset, true)?;
        if self.rot == Rot::Refused && self.evidence > self.end.last_lsn {
            return Err(refusal());
        }
        for newer in rest.iter().map(|link| link.number) {
            self.look_behind(newer, 0, true)?;
            if self.rot == Rot::Refused && self.evidence > self.end.last_lsn {
                return Err(chain::lost(&self.source.files, newer));
            }
        }
        // Who lost its superheader may have lost evidence with it, and says not how long it was.
        let no_end = self.behind[&number] > offset || self.source.length(number)? <= offset;
        let unsure = link.superheader.is_none() && no_end;
        Ok(self.evidence > self.end.last_lsn || unsure)
    }

    /// Compares where a segment ends with where it is said to end.
    fn end_segment(&mut self, wanted: End) -> Result<(), JournalError> {
        match self.gap {
            Some(_) => self.end_gap(wanted),
            None if self.end == wanted => {}
            None if self.rot == Rot::Refused => {
                let reason = "another end than was acknowledged";
                return Err(corrupt(self.end.number, self.end.offset, None, reason));
            }
            None => {
                let (number, offset) = (wanted.number, wanted.offset);
                self.found.rot([number, offset, number, offset], 0, 0);
            }
        }
        Ok(())
    }

    /// Looks, once, at every block from `from` on: for valid frames, which may begin anywhere in
    /// it, for what they prove, and for where the last block ends that is not all zeros. `is_ours`:
    /// the segment belongs to the journal, if it was used.
    fn look_behind(&mut self, number: u64, from: u64, is_ours: bool) -> Result<(), JournalError> {
        if self.behind.contains_key(&number) {
            return Ok(());
        }
        let (length, mut offset, mut end) = (self.source.length(number)?, from, 0);
        while let Some(block) = self.source.next_block(number, offset, length) {
            if block > offset && bugs::is_on(Bug::ZerosEndJournal) {
                break;
            }
            offset = block + BLOCK_BYTES as u64;
            end = offset;
            let mut at = block;
            while let Some(stray) = self.source.stray(number, at, end) {
                if stray.header.offset > block && bugs::is_on(Bug::LookAtBlocksOnly) {
                    break;
                }
                self.note(&stray.header);
                if is_ours {
                    self.found.finds(&stray.header);
                }
                // The numbers of those that did not get onto the disk with it are used up, too.
                self.lsn_seen = self.lsn_seen.max(stray.last_lsn);
                at = stray.header.offset + FRAME_ALIGNMENT as u64;
            }
        }
        self.behind.insert(number, end);
        Ok(())
    }

    /// What any valid frame proves, whether its group is whole or not.
    pub(super) fn note(&mut self, header: &Header) {
        self.is_ours = true;
        self.evidence = self.evidence.max(header.durable_through);
        self.vouched = self.vouched.max(header.durable_through);
        self.lsn_seen = self.lsn_seen.max(header.lsn);
        self.found.hears(header);
        if header.kind != Kind::Promise || !bugs::is_on(Bug::PromiseNotRecovered) {
            self.promised = self.promised.max(header.ballot);
        }
    }

    /// Compares the number of a frame that counts, unless it stands where only an opening that did
    /// not end may have written: the next one may not have been able to read that.
    pub(super) fn see(&mut self, link: &Link, header: &Header) {
        if link.certain || !self.rot.is_alone() {
            self.numbers.see(header.segment, header.offset, header.lsn);
        }
    }

    /// Takes in the frames of a whole group. `covered`: all of it is known to be durable.
    fn accept(&mut self, whole: Whole, covered: bool) -> Result<(), JournalError> {
        for Seen(header) in &whole.frames {
            self.take(header)?;
        }
        // All frames of a group say the same, and mean the end of the group.
        self.found.end_group(whole.frames[0].0.slot_chosen);
        self.end = whole.end;
        // Its last frame may be the copy of a promise that is lost.
        self.lsn_seen = self.lsn_seen.max(whole.end.last_lsn);
        if covered || bugs::is_on(Bug::TailNotRewritten) {
            self.kept = if covered { self.kept } else { self.end };
            self.source.take_back(whole);
            return Ok(());
        }
        self.uncovered.push(whole);
        // Evidence comes group by group, so only the last few are held.
        while self.uncovered.first().is_some_and(|first| first.end.last_lsn <= self.vouched) {
            let whole = self.uncovered.remove(0);
            let is_behind =
                (self.kept.number, self.kept.offset) < (whole.end.number, whole.end.offset);
            // Promises and seals are not kept for their own sake: the next segment has both.
            if is_behind && whole.frames.iter().any(Seen::is_content) {
                self.kept = whole.end;
            }
            self.source.take_back(whole);
        }
        Ok(())
    }

    /// Takes in a good frame.
    pub(super) fn take(&mut self, header: &Header) -> Result<(), JournalError> {
        let Header { kind, slot, segment, offset, .. } = *header;
        if !self.found.take(header) {
            return Err(corrupt(segment, offset, Some(slot), "a slot out of range"));
        }
        if kind == Kind::Doubts {
            let doubts = self.doubts(header)?;
            self.found.take_doubts(doubts, (slot.0, header.content));
        }
        if kind == Kind::Sightings {
            self.found.sightings = self.sightings(header)?;
        }
        Ok(())
    }

    fn doubts(&mut self, header: &Header) -> Result<Doubts, JournalError> {
        let Header { segment, offset, .. } = *header;
        let wrong = || corrupt(segment, offset, None, "no doubts where some were written down");
        let bytes = self.source.payload(Place::new(segment, offset).ok_or_else(wrong)?)?;
        let doubts: Doubts = codec::decode("doubts", &bytes).map_err(|_| wrong())?;
        let sound = doubts.faulty.is_sound() && doubts.uncertain.is_sound();
        sound.then_some(doubts).ok_or_else(wrong)
    }

    fn sightings(&mut self, header: &Header) -> Result<Vec<Sighting>, JournalError> {
        let Header { segment, offset, .. } = *header;
        let wrong = || corrupt(segment, offset, None, "no sightings where some were written down");
        let bytes = self.source.payload(Place::new(segment, offset).ok_or_else(wrong)?)?;
        codec::decode("sightings", &bytes).map_err(|_| wrong())
    }

    /// What holds for the journal as a whole.
    fn finish(&mut self, links: &[Link]) -> Result<(), JournalError> {
        let number = self.chain.last().copied().unwrap_or_default();
        self.chain.retain(|number| *number <= self.kept.number);
        let uncovered = std::mem::take(&mut self.uncovered);
        self.tail = uncovered.into_iter().flat_map(|whole| whole.frames).collect();
        if self.lsn_seen.0 > COUNT_MAX || self.found.next_promise() > COUNT_MAX {
            return Err(corrupt(number, 0, None, "a number of a frame out of range"));
        }
        let chosen = self.found.slot_chosen.max(self.slot_checkpointed);
        if !self.found.index.can_hold(chosen) {
            return Err(corrupt(number, 0, Some(chosen), "a slot out of range"));
        }
        // What a checkpoint holds is chosen, whatever the journal says.
        self.found.end_group(self.slot_checkpointed);
        let promise_lost = self.found.lacks_promise() || self.lost_head(links, number);
        self.damage = self.found.damage(promise_lost);
        if self.damage.doubts.promise_lost && self.rot == Rot::Refused {
            return Err(corrupt(number, 0, None, "a promise is lost"));
        }
        match self.damage.missing.first() {
            Some(slot) if self.rot == Rot::Refused => {
                Err(corrupt(number, 0, Some(slot), "a chosen slot has no frame"))
            }
            _ => Ok(()),
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

/// Longer than any segment is made, one for a long record included.
pub(super) const LENGTH_MAX: u64 = 1 << 31;
