//! When a checkpoint is taken, of what, and who waits for it; and how an opening goes on from one.
//!
//! One is due when entries of [`checkpoint_bytes`] were applied since the state that the newest
//! one holds, when entries were repaired beside the replica's work, when a replica is left alone
//! with nothing but one state that a peer sent, or when somebody asked for one. It is begun between
//! two turns of the core, where all that is chosen is applied, and is of just that. Its steps are
//! jobs of the journal, as writes are; the state is read piece by piece in them, while entries go
//! on being applied.
//!
//! In it is the membership that governs the slot behind it, and what became of each request: of the
//! entries below it nothing is needed any more. Nobody waits for an answer when an opening begins
//! with one, so none is left behind.
//!
//! Beside commits its pieces are spread, and written in slices: the processor and the disk would be
//! missed there. Where that takes too long, since the disk is slow or full or the next one is due
//! already, it is written as fast as it can be.
//!
//! Where the disk has no space for one, it is given up, who asked for it is told, and it is tried
//! again after a while, each time a longer one: while one is tried in vain, the journal finds no
//! space for its next segment either. Nothing else stops for it.
//!
//! [`checkpoint_bytes`]: super::turn::Options::checkpoint_bytes
//!
//! Not here: the steps (`journal/checkpointing.rs`), the bytes (`store/image.rs`).

use std::time::Duration;

use crate::journal::disk::Disk;
use crate::journal::frame::FRAME_HEADER_BYTES;
use crate::journal::{Checkpoint, Pace};
use crate::paxos::Paxos;
use crate::store::Store;
use crate::store::image::{Image, ImageError, ImageFault, ImageReader};
use crate::types::bugs::{self, Bug};
use crate::types::entry::Entry;
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::Slot;
use crate::types::marks::reached;
use crate::types::time::Moment;

use super::backups::Backup;
use super::driver::{Driver, Stage};
use super::pending::Completer;
use super::requests::Answer;
use super::space::FULL;

/// How far the state is ahead of the newest checkpoint, and who wants it to be less.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// Bytes of the entries that were applied behind the newest one.
    behind_bytes: u64,
    /// The same when the one was begun that is being taken.
    begun_bytes: Option<u64>,
    /// Callers, each with the slot that a checkpoint must reach. So many at most as may wait for
    /// another leader.
    waiting: Vec<(Slot, Completer<()>)>,
    /// Who makes a backup, and waits for the state.
    pub(super) backups: Vec<Completer<Box<Backup>>>,
    /// One that reaches this slot is wanted: entries below it rotted and were journaled again, or
    /// are lost for good, and whoever lacks them can be told so only then.
    wanted_below: Slot,
    /// One that is newer than that of this slot is wanted: a peer may have found that those here
    /// are damaged.
    wanted_other: Option<Slot>,
    /// How many bytes are written of the one that is being taken.
    written_bytes: u64,
    /// When its next piece is due, beside commits.
    piece_due_at: Moment,
    /// The next piece waits for that.
    is_waiting: bool,
    /// There was no space; when to try again.
    retry_at: Option<Moment>,
    /// How often there was none, since there was.
    given_up: u32,
}

impl Checkpoints {
    /// An entry was applied.
    pub(super) fn count(&mut self, entry: &Entry) {
        self.behind_bytes += (FRAME_HEADER_BYTES + entry.bytes().len()) as u64;
    }

    /// Entries below this slot rotted, and were fetched beside the replica's work, or are lost for
    /// good. The next opening finds the rot, and cannot tell of those around it whether they are
    /// the newest: with a checkpoint it need not.
    pub(super) fn want_below(&mut self, slot: Slot) {
        self.wanted_below = self.wanted_below.max(slot);
    }

    /// The newest checkpoint, of this slot, may be damaged, and so may the one before.
    pub(super) fn want_other_than(&mut self, newest: Slot) {
        self.wanted_other = Some(newest);
    }

    /// The slot that the newest checkpoint is to reach for that.
    pub(super) fn wanted_below(&self) -> Slot {
        self.wanted_below
    }

    /// The state is that of the newest checkpoint, for which there was space.
    pub(super) fn restart(&mut self) {
        (self.behind_bytes, self.begun_bytes) = (0, None);
        (self.given_up, self.retry_at) = (0, None);
    }

    /// How many callers wait for one.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.retry_at.into_iter().chain(self.is_waiting.then_some(self.piece_due_at)).min()
    }

    /// Answers those who wait for a checkpoint.
    fn fail_waiting(&mut self, err: &Error, answers: &mut Vec<Answer>) {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let answer = |completer| Answer::Checkpoint(completer, Err(err.clone()));
        answers.extend(waiting.map(|(_, completer)| answer(completer)));
    }

    /// Answers everyone with `err`.
    pub(super) fn fail_all(&mut self, err: &Error, answers: &mut Vec<Answer>) {
        self.fail_waiting(err, answers);
        let backups = std::mem::take(&mut self.backups).into_iter();
        answers.extend(backups.map(|completer| Answer::Backup(completer, Err(err.clone()))));
    }
}

impl<D: Disk> Driver<D> {
    /// Every slot below is in the newest checkpoint.
    #[must_use]
    pub fn slot_checkpointed(&self) -> Slot {
        self.journal.checkpoint().map_or(Slot::ZERO, |newest| newest.header().slot)
    }

    /// Begins with the state of the newest checkpoint, where there is one. Before anybody reads.
    pub(super) fn load_checkpoint(&mut self) -> Result<()> {
        let Some(checkpoint) = self.journal.checkpoint() else { return Ok(()) };
        // What became of a write below it would never be told.
        assert!(self.requests.is_empty() && self.proposals.is_empty(), "nobody calls yet");
        let store = state_of(checkpoint)?;
        let slot = store.applied().slot;
        reached!(CheckpointLoaded);
        self.time = self.time.max(store.applied().time);
        // How those commands ended is in the checkpoint.
        self.verdicts_journaled = slot;
        self.store.begin_with(store);
        self.store.trim_ledger(self.journal.slot_trimmed());
        Ok(())
    }

    /// A caller wants everything that is applied now to be in a checkpoint.
    pub(super) fn on_checkpoint(&mut self, completer: Completer<()>) {
        let crowded = || self.refuse_watcher(self.checkpoints.waiting());
        if let Some(err) = self.refuse_unready().or_else(crowded) {
            self.effects.answers.push(Answer::Checkpoint(completer, Err(err)));
            return;
        }
        self.checkpoints.waiting.push((self.store.applied().slot, completer));
        self.checkpoints.retry_at = None;
    }

    /// Takes note of how far the checkpoint has come that is being taken, and begins one where one
    /// is due.
    pub(super) fn go_on_with_checkpoints(&mut self) {
        self.note_checkpoint();
        self.begin_backups();
        if !self.checkpoints.waiting.is_empty()
            && let Some(err) = self.no_checkpoint_comes()
        {
            self.checkpoints.fail_waiting(&err, &mut self.effects.answers);
        }
        // A time that has come is forgotten: each turn looks anyway, and it would bring the next.
        if !bugs::is_on(Bug::AlarmKept) {
            self.checkpoints.retry_at.take_if(|at| *at <= self.now);
        }
        let waits = self.checkpoints.retry_at.is_some_and(|at| self.now < at);
        let (newest, applied) = (self.slot_checkpointed(), self.store.applied().slot);
        let enough = self.options.checkpoint_bytes <= self.checkpoints.behind_bytes;
        self.checkpoints.wanted_other.take_if(|slot| *slot < newest);
        let wanted = !self.checkpoints.waiting.is_empty()
            || newest < self.checkpoints.wanted_below
            || self.checkpoints.wanted_other.is_some()
            || self.wants_second_state();
        let taking = self.journal.is_taking_checkpoint() || self.receiving.is_some();
        let busy = taking || self.space.is_short();
        if busy || waits || !(enough || wanted) || applied <= newest {
            return;
        }
        // The chain is that below what is chosen; and a replica that closes takes nothing on.
        let view = self.view().filter(|view| view.slot_chosen == applied);
        let Some(view) = view.filter(|_| matches!(self.stage, Stage::Serving)) else { return };
        let image = Image::of(&self.store, self.journal.slot_trimmed());
        assert_eq!(image.boundary().slot, applied, "nobody applies meanwhile");
        let governing = self.paxos.as_ref().map(Paxos::membership);
        assert_eq!(image.membership(), governing, "state and core agree on who belongs");
        self.checkpoints.begun_bytes = Some(self.checkpoints.behind_bytes);
        (self.checkpoints.written_bytes, self.checkpoints.piece_due_at) = (0, self.now);
        self.journal.begin_checkpoint(applied, view.chain, Box::new(image));
    }

    /// Whether nobody else votes, and only one state here reaches back to where the journal begins:
    /// a peer sent it, and nothing here makes up for it.
    fn wants_second_state(&self) -> bool {
        if !self.is_only_voter() {
            return false;
        }
        // Also where all below a state that was lost was fetched again from peers: the directory
        // still says that the journal begins there.
        let first = self.slot_trimmed().max(self.journal.identity().front.slot);
        let reaching = self.journal.checkpoints().iter().filter(|it| first <= it.header().slot);
        // One that has come, and is about to be taken in, will be the only one.
        let comes = self.receiving.as_ref().is_some_and(|it| it.received().is_some());
        comes || Slot::ZERO < first && reaching.count() < 2
    }

    /// Whether this replica, which is left alone, is to take a second state first: until then it
    /// may need those who voted with it. Where there was no space for one, that is not waited for.
    pub(super) fn awaits_second_state(&self) -> bool {
        self.checkpoints.given_up == 0 && self.wants_second_state()
    }

    /// Where the one state ends with all that there is, no second one can be taken: a no-op makes
    /// a difference. Returns whether it was asked for.
    pub(super) fn fill_for_second_state(&mut self) -> bool {
        let is_level = self.slot_checkpointed() == self.store.applied().slot;
        let is_due = is_level && self.is_sharing_unsaid() && self.awaits_second_state();
        let can =
            |paxos: &Paxos| paxos.is_ready() && paxos.has_room() && paxos.inflight_slots() == 0;
        let asks = is_due && self.paxos.as_ref().is_some_and(can);
        if asks {
            self.fill_next_slot();
        }
        asks
    }

    /// Whether something was written lately, so that a disk and a processor that are busy with a
    /// checkpoint would be missed.
    pub(super) fn is_beside_commits(&self) -> bool {
        self.now.since(self.appended_at) < LATELY
    }

    /// Says how the next piece is to be written, and whether now.
    pub(super) fn pace_checkpoint(&mut self) {
        let Some(begun_bytes) = self.checkpoints.begun_bytes else {
            self.checkpoints.is_waiting = false;
            return self.journal.pace_checkpoint(Pace::Fast);
        };
        let bytes_per_second = self.options.checkpoint_bytes_per_second;
        let is_beside_commits = self.is_beside_commits();
        let newest = self.slot_checkpointed();
        let others_wait = self.is_sharing_unsaid() && self.wants_second_state();
        let checkpoints = &mut self.checkpoints;
        let written = self.journal.checkpoint_written_bytes();
        let more = written.saturating_sub(checkpoints.written_bytes);
        checkpoints.written_bytes += more;
        // Counted from when the last one was due, not from now: what was late is made up for.
        checkpoints.piece_due_at = match is_beside_commits {
            true => checkpoints.piece_due_at + time_for(more, bytes_per_second),
            false => self.now,
        };
        let is_next_due = self.options.checkpoint_bytes <= checkpoints.behind_bytes - begun_bytes;
        // A peer waits for it, or cannot change who belongs before it is there, or has the only
        // other state; or this replica waits for a peer's, which comes only behind it.
        let is_wanted = newest < checkpoints.wanted_below
            || checkpoints.wanted_other.is_some()
            || others_wait
            || self.receiving.is_some();
        let is_spread = is_beside_commits
            && !is_next_due
            && !is_wanted
            && matches!(self.stage, Stage::Serving)
            && !self.journal.lacks_space();
        let is_late = LATENESS_MAX <= self.now.since(checkpoints.piece_due_at);
        checkpoints.is_waiting = is_spread && self.now < checkpoints.piece_due_at;
        let pace = if !is_spread || is_late {
            Pace::Fast
        } else if checkpoints.is_waiting {
            reached!(PieceSpread);
            Pace::Waiting
        } else {
            Pace::Gentle
        };
        self.journal.pace_checkpoint(pace);
    }

    /// Why those who ask for a checkpoint would wait for long.
    fn no_checkpoint_comes(&self) -> Option<Error> {
        if self.space.is_short() {
            return Some(Error::new(ErrorKind::StorageFull, FULL));
        }
        let is_late = self.receiving.as_ref().is_some_and(|it| it.is_late(self.now, &self.options));
        is_late.then(|| {
            let message = "a checkpoint of a peer is being taken in, and the peer does not answer";
            Error::new(ErrorKind::Unreachable, message)
        })
    }

    fn note_checkpoint(&mut self) {
        if let Some(begun) = self.checkpoints.begun_bytes
            && !self.journal.is_taking_checkpoint()
        {
            self.checkpoints.begun_bytes = None;
            if self.journal.is_checkpoint_given_up() {
                reached!(CheckpointGivenUp);
                let err = Error::new(ErrorKind::StorageFull, NO_CHECKPOINT);
                self.checkpoints.fail_waiting(&err, &mut self.effects.answers);
                let times = self.checkpoints.given_up.min(DOUBLINGS_MAX);
                self.checkpoints.given_up += 1;
                self.checkpoints.retry_at = Some(self.now + RETRY * 2_u32.pow(times));
            } else {
                reached!(CheckpointTaken);
                if begun < self.checkpoints.behind_bytes {
                    reached!(CheckpointBeside);
                }
                self.checkpoints.behind_bytes -= begun;
                self.checkpoints.given_up = 0;
            }
        }
        let newest = self.slot_checkpointed();
        let waiting = &mut self.checkpoints.waiting;
        let done = waiting.extract_if(.., |(slot, _)| *slot <= newest);
        let answers = done.map(|(_, completer)| Answer::Checkpoint(completer, Ok(())));
        self.effects.answers.extend(answers);
    }
}

/// The state that a checkpoint holds.
pub(super) fn state_of<D: Disk>(checkpoint: &Checkpoint<D>) -> Result<Store> {
    let (name, mut image) = (checkpoint.name(), ImageReader::new());
    for piece in checkpoint.pieces() {
        image.take(&piece?).map_err(|err| not_an_image(&name, err))?;
    }
    state_below(image, &name, checkpoint.header().slot)
}

/// The state that was read, which must be that below `wanted`.
pub(super) fn state_below(image: ImageReader, name: &str, wanted: Slot) -> Result<Store> {
    let store = image.finish().map_err(|err| not_an_image(name, err))?;
    let slot = store.applied().slot;
    if slot != wanted {
        let message = format!("{name}: holds the state below slot {slot}, wanted {wanted}");
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    match store.membership() {
        None => Err(Error::new(ErrorKind::Corrupt, format!("{name}: holds no membership"))),
        Some(_) => Ok(store),
    }
}

/// A file that is whole, and does not hold what it should.
pub(super) fn not_an_image(name: &str, err: ImageError) -> Error {
    let kind = match err.fault {
        ImageFault::Version(_) => ErrorKind::UnsupportedFormat,
        ImageFault::Undecodable(_) | ImageFault::Impossible(_) | ImageFault::Digest { .. } => {
            ErrorKind::Corrupt
        }
    };
    Error::caused(kind, format!("{name}: not a state"), err)
}

/// How long so many bytes take, where so many are written or sent in a second.
pub(super) fn time_for(bytes: u64, bytes_per_second: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Why a checkpoint is given up.
const NO_CHECKPOINT: &str = "no space for a checkpoint, or no file that may be opened";

/// For so long after something was written commits count as going on: a disk that is slow just then
/// is one that a checkpoint would make slower.
const LATELY: Duration = Duration::from_millis(100);

/// One that is late by so much is written as fast as it can be.
const LATENESS_MAX: Duration = Duration::from_millis(500);

/// How long to wait before another checkpoint is tried, where there was no space for one; and how
/// often that is doubled: up to about ten minutes.
const RETRY: Duration = Duration::from_secs(10);
const DOUBLINGS_MAX: u32 = 6;
