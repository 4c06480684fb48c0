//! Getting a checkpoint from a peer, part by part, where nobody has the entries any more that this
//! replica lacks.
//!
//! A peer that was asked for entries said that it trimmed them, or lost them as everybody did
//! (`lost.rs`). From then on it is asked for a checkpoint: one part at a time, and the
//! next one as soon as there is room for it. Parts are put together, checked, written and made into
//! a state by jobs of the journal (`journal/parts.rs`, `journal/checkpointing.rs`), while this
//! replica goes on with what it can. When the file has its name, the state is taken in
//! (`installing`).
//!
//! What has come is kept while the connection is lost or the peer restarts. It is given up, and a
//! transfer begun with whoever next says that these slots are gone,
//!
//! * where the peer does not have that checkpoint any more, or sent something else;
//! * where the peer never answered;
//! * where it stopped answering, and another peer says that they are gone, or it says so itself for
//!   as long again;
//! * where the disk has no space for it: that is tried again after a while, longer each time;
//! * where entries came after all, and this replica got beyond it.
//!
//! A peer that is to blame is passed over for a while.
//!
//! Invariants:
//! * At most [`HELD_BYTES`], a part and a block are in memory of what has come, besides the state
//!   that is made of it.
//! * A checkpoint that does not reach beyond what is known here is not begun.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::journal::disk::Disk;
use crate::journal::parts::{BadPart, Next};
use crate::journal::{CheckpointHeader, Parts, Source, Unfit};
use crate::store::Store;
use crate::store::image::{ImageError, ImageReader};
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::{ReplicaId, Slot};
use crate::types::marks::reached;
use crate::types::membership::Membership;
use crate::types::message::{CheckpointPart, Envelope, Message};
use crate::types::time::Moment;

use super::driver::{Driver, Stage};
use super::events;
use super::turn::Options;

/// A checkpoint that comes from a peer.
#[derive(Debug)]
pub(super) struct Receiving {
    from: ReplicaId,
    /// What it is of, once something has come.
    header: Option<CheckpointHeader>,
    shared: Arc<Shared>,
    /// How far it has come, of how much.
    offset: u64,
    bytes_total: u64,
    /// When the peer was asked for what comes next; `None` where it is not.
    asked_at: Option<Moment>,
    /// When what was asked for came last, or was asked for first.
    moved_at: Moment,
    /// When anything of it came last: a part that came before, too, as a slow link brings them.
    heard_at: Moment,
    /// How long a part is waited for before it is asked for once more, where that is longer than
    /// the usual: the last one took about half of it, and each time that it is asked for in vain
    /// doubles it. Who asks more often than a slow link brings is sent the same again and again.
    pace: Duration,
    /// Since when it was told again that these slots are gone, while the peer does not answer.
    tells_since: Option<Moment>,
    /// It is given up as soon as no job is at it.
    given_up: bool,
    /// Only later builds know its version.
    later: Option<BadPart>,
}

/// When a transfer may begin, after one that came to nothing.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// Not before. While a whole one is taken in: when the journal is asked again to begin behind
    /// it.
    pub(super) until: Option<Moment>,
    /// How often there was no space.
    full: u32,
    /// Who sent what was no checkpoint, or nothing, and until when each is asked for none.
    avoided: BTreeMap<ReplicaId, Moment>,
}

/// How far a transfer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivingReport {
    /// Who sends it.
    pub from: ReplicaId,
    /// The slot of the checkpoint, once that is known.
    pub slot: Option<Slot>,
    /// How many bytes have come.
    pub bytes: u64,
    /// Of how many; 0 before that is known.
    pub bytes_total: u64,
}

/// What the driver and the jobs share.
#[derive(Debug, Default)]
struct Shared {
    parts: Mutex<Parts>,
    given_up: AtomicBool,
    /// The state, once all of it has come.
    store: Mutex<Option<Store>>,
}

/// Makes a state of what comes, in the jobs that write it down.
struct Incoming {
    shared: Arc<Shared>,
    slot: Slot,
    image: Option<ImageReader>,
}

impl fmt::Display for ReceivingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, bytes, bytes_total, .. } = self;
        write!(f, "taking in a checkpoint of replica {from}: {bytes} of {bytes_total} bytes")
    }
}

impl Receiving {
    fn new(from: ReplicaId, now: Moment) -> Self {
        let (shared, asked_at) = (Arc::default(), None);
        let (offset, bytes_total, given_up) = (0, 0, false);
        let (header, later, tells_since) = (None, None, None);
        let (moved_at, heard_at, pace) = (now, now, Duration::ZERO);
        Self {
            from,
            header,
            shared,
            offset,
            bytes_total,
            asked_at,
            moved_at,
            heard_at,
            pace,
            tells_since,
            given_up,
            later,
        }
    }

    pub(super) fn report(&self) -> ReceivingReport {
        let (slot, bytes) = (self.header.map(|header| header.slot), self.offset);
        ReceivingReport { from: self.from, slot, bytes, bytes_total: self.bytes_total }
    }

    /// The state, once all of it has come: below which slot it is, and who belongs.
    pub(super) fn received(&self) -> Option<(Slot, Membership)> {
        let membership = self.shared.store.lock().as_ref().and_then(Store::membership)?;
        Some((self.header?.slot, membership))
    }

    /// No job goes on with it.
    fn give_up(&mut self) {
        self.given_up = true;
        self.asked_at = None;
        self.shared.given_up.store(true, Ordering::SeqCst);
    }

    /// Whether there is room for another part.
    fn has_room(&self) -> bool {
        let parts = self.shared.parts.lock();
        parts.held_bytes() < HELD_BYTES || !parts.is_ready()
    }
}

impl<D: Disk> Driver<D> {
    /// A peer has not what comes before `first`, and will not have it. If that is what this replica
    /// lacks, it wants a checkpoint.
    pub(super) fn receive_if_cut_off(&mut self, from: ReplicaId, first: Slot) {
        let is_cut_off = self.first_lacking().is_some_and(|lacks| lacks < first);
        if !is_cut_off
            || !matches!(self.stage, Stage::Serving)
            || self.pauses.avoids(from, self.now)
        {
            return;
        }
        let (now, options) = (self.now, &self.options);
        match &mut self.receiving {
            Some(receiving) if receiving.is_late(now, options) => {
                let patience = LATE_TIMEOUTS * options.election_timeout;
                let since = *receiving.tells_since.get_or_insert(now);
                if receiving.from != from || patience <= now.since(since) {
                    reached!(TransferAnew);
                    self.pauses.avoid(receiving.from, now, options);
                    receiving.give_up();
                }
            }
            None if !self.pauses.waits(now) && !self.space.is_short() => {
                self.receiving = Some(Receiving::new(from, now));
            }
            Some(_) | None => {}
        }
    }

    /// The first slot that this replica must take in to go on, as entries or in a state.
    pub(super) fn first_lacking(&self) -> Option<Slot> {
        match self.repair.is_opening() {
            true => self.repair.first(),
            false => self.view().map(|view| view.slot_chosen),
        }
    }

    /// Bytes of a checkpoint have come.
    pub(super) fn on_checkpoint_part(&mut self, from: ReplicaId, part: &CheckpointPart) {
        let (lacks, newest) = (self.first_lacking(), self.slot_checkpointed());
        let cluster = self.journal.identity().cluster;
        let Some(receiving) = self.receiving.as_mut() else { return };
        if receiving.from != from || receiving.given_up || part.bytes.is_empty() {
            return;
        }
        let end = part.offset.saturating_add(part.bytes.len() as u64);
        if receiving.asked_at.is_none() || part.bytes_total < end {
            return;
        }
        if receiving.header.is_some_and(|header| header.slot != part.slot) {
            // It has that one no more.
            reached!(TransferAnew);
            return receiving.give_up();
        }
        receiving.heard_at = self.now;
        if receiving.offset != part.offset {
            return;
        }
        receiving.pace = 2 * self.now.since(receiving.moved_at);
        receiving.moved_at = self.now;
        (receiving.asked_at, receiving.tells_since) = (None, None);
        receiving.offset = end;
        receiving.bytes_total = part.bytes_total;
        let pushed = receiving.shared.parts.lock().push(&part.bytes);
        if receiving.header.is_some() {
            // What is wrong with it, the next job finds.
            return;
        }
        let header = receiving.shared.parts.lock().header().filter(|header| {
            let is_newer = lacks.is_some_and(|lacks| lacks.max(newest) < header.slot);
            header.home.cluster == cluster && header.slot == part.slot && is_newer
        });
        let is_taking = self.journal.is_taking_checkpoint();
        receiving.later = pushed.err().filter(BadPart::is_later);
        if pushed.is_err() {
            self.pauses.avoid(from, self.now, &self.options);
        }
        let Some(header) = header.filter(|_| pushed.is_ok() && !is_taking) else {
            return receiving.give_up();
        };
        receiving.header = Some(header);
        let (shared, image) = (Arc::clone(&receiving.shared), Some(ImageReader::new()));
        let incoming = Incoming { shared, slot: header.slot, image };
        self.journal.begin_receiving(header.slot, header.chain, Box::new(incoming));
    }

    /// All has come and has its name: takes it in, once it is durable that the journal begins
    /// behind it.
    fn take_in(&mut self, header: CheckpointHeader) -> Result<()> {
        let Some(receiving) = &self.receiving else { return Ok(()) };
        let shared = Arc::clone(&receiving.shared);
        if self.journal.begins_behind(header.slot) {
            let store = shared.store.lock().take();
            (self.receiving, self.pauses) = (None, Pauses::default());
            return self.install(header, store.expect("a whole checkpoint is a state"));
        }
        // Again, where there was no space for it.
        if !self.pauses.waits(self.now) {
            self.pauses.until = Some(self.now + self.options.election_timeout);
            self.journal.begin_behind(header.slot);
        }
        Ok(())
    }

    /// Asks for more, takes in what is whole, or gives it up.
    pub(super) fn go_on_receiving(&mut self) -> Result<()> {
        self.say_who_shares_state()?;
        let lacks = self.first_lacking();
        let Some(receiving) = &mut self.receiving else { return Ok(()) };
        let is_taking = self.journal.is_taking_checkpoint();
        let kept = self.journal.checkpoint().map(|newest| newest.header().slot);
        if let Some(header) = receiving.header
            && kept == Some(header.slot)
        {
            return self.take_in(header);
        }
        if let Some(later) = receiving.later {
            return Err(outdated(receiving.from, &later.to_string()));
        }
        // One that was given up ends as unfit, too.
        if let Some(unfit) = self.journal.take_unfit().filter(|_| !receiving.given_up) {
            events::unfit(self.options.id, receiving.from, &unfit);
            if let Unfit::Later(reason) = unfit {
                return Err(outdated(receiving.from, &reason));
            }
            self.pauses.avoid(receiving.from, self.now, &self.options);
            receiving.give_up();
        }
        let is_full = receiving.header.is_some() && self.journal.is_checkpoint_given_up();
        let is_over = receiving.header.is_some_and(|it| lacks.is_none_or(|lacks| it.slot <= lacks));
        let to_blame = receiving.is_to_blame(self.now, &self.options);
        if !receiving.given_up && (is_full || is_over || to_blame) {
            reached!(TransferAnew);
            if to_blame {
                self.pauses.avoid(receiving.from, self.now, &self.options);
            }
            if is_over {
                self.pauses.full = 0;
            }
            receiving.give_up();
        }
        if receiving.given_up {
            if !is_taking {
                let timeouts = if is_full { self.pauses.of_full_disk() } else { 1 };
                self.pauses.until = Some(self.now + timeouts * self.options.election_timeout);
                self.receiving = None;
            }
            return Ok(());
        }
        // Before anything has come, one that is being taken here may be in the way.
        let may_ask = receiving.header.is_some() || !is_taking;
        let interval = receiving.interval(&self.options);
        let waits = receiving.asked_at.is_some_and(|at| self.now.since(at) < interval);
        if may_ask && !waits && receiving.has_room() && !receiving.is_whole() {
            match receiving.asked_at {
                None => (receiving.moved_at, receiving.heard_at) = (self.now, self.now),
                Some(_) => receiving.pace = interval * 2,
            }
            receiving.asked_at = Some(self.now);
            let slot = receiving.header.map(|header| header.slot);
            let message = Message::FetchCheckpoint { slot, offset: receiving.offset };
            self.effects.sends.push(Envelope { to: receiving.from, message });
        }
        Ok(())
    }
}

impl Receiving {
    /// Whether all has come.
    fn is_whole(&self) -> bool {
        self.header.is_some() && self.bytes_total <= self.offset
    }

    /// How long a part is waited for before it is asked for once more.
    fn interval(&self, options: &Options) -> Duration {
        let longest = options.election_timeout * AGAIN_TIMEOUTS;
        self.pace.min(longest).max(options.retransmit_interval)
    }

    /// Whether the peer was asked, and has not answered for long.
    pub(super) fn is_late(&self, now: Moment, options: &Options) -> bool {
        self.asked_at.is_some()
            && LATE_TIMEOUTS * options.election_timeout <= now.since(self.heard_at)
    }

    /// Whether this peer is not worth waiting for: it has not answered at all, or all that it
    /// said to have has come and is not all of a checkpoint.
    fn is_to_blame(&self, now: Moment, options: &Options) -> bool {
        let is_nobody = self.header.is_none() && self.is_late(now, options);
        is_nobody || self.is_whole() && !self.shared.parts.lock().is_ready()
    }

    /// When to look again, if nothing happens before.
    pub(super) fn wake_at(&self, now: Moment, options: &Options) -> Option<Moment> {
        let late = self.heard_at + LATE_TIMEOUTS * options.election_timeout;
        let again = self.asked_at.map(|at| at + self.interval(options));
        // What is due and not done waits for a job.
        [again, Some(late)].into_iter().flatten().filter(|at| now < *at).min()
    }
}

impl Pauses {
    /// Whether nothing is begun now.
    fn waits(&self, now: Moment) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// This peer is asked for nothing for a while.
    fn avoid(&mut self, peer: ReplicaId, now: Moment, options: &Options) {
        self.avoided.retain(|_, until| now < *until);
        self.avoided.insert(peer, now + AVOIDED_TIMEOUTS * options.election_timeout);
    }

    /// Whether nothing is asked of this peer now.
    fn avoids(&self, peer: ReplicaId, now: Moment) -> bool {
        self.avoided.get(&peer).is_some_and(|until| now < *until)
    }

    /// How many election timeouts to wait where there was no space, which is longer each time.
    fn of_full_disk(&mut self) -> u32 {
        let times = self.full.min(DOUBLINGS_MAX);
        self.full += 1;
        FULL_TIMEOUTS << times
    }
}

impl Source for Incoming {
    fn is_ready(&self) -> bool {
        self.shared.given_up.load(Ordering::SeqCst) || self.shared.parts.lock().is_ready()
    }

    fn piece(&mut self) -> std::result::Result<Option<Vec<u8>>, Unfit> {
        if self.shared.given_up.load(Ordering::SeqCst) {
            return Err(Unfit::Bad("it was given up".to_owned()));
        }
        let unfit = |err: ImageError| match err.fault.is_later() {
            true => Unfit::Later(err.to_string()),
            false => Unfit::Bad(err.to_string()),
        };
        let next = self.shared.parts.lock().take();
        let next = next.map_err(|bad| Unfit::Bad(bad.to_string()))?;
        let image = self.image.as_mut().expect("nothing comes behind the end");
        match next {
            Next::Piece(piece) => {
                image.take(&piece).map_err(unfit)?;
                Ok(Some(piece))
            }
            Next::End => {
                let image = self.image.take().expect("it was just there");
                let store = image.finish().map_err(unfit)?;
                let found = store.applied().slot;
                if found != self.slot {
                    let wanted = self.slot;
                    let what = format!("the state below slot {found}, wanted {wanted}");
                    return Err(Unfit::Bad(what));
                }
                if store.membership().is_none() {
                    return Err(Unfit::Bad("it holds no membership".to_owned()));
                }
                *self.shared.store.lock() = Some(store);
                Ok(None)
            }
            Next::Wait => unreachable!("a job comes when there is something for it"),
        }
    }
}

/// Builds write files as the ledger's edition has them: so the ledger is of a later one.
fn outdated(from: ReplicaId, reason: &str) -> Error {
    let message = format!(
        "the state that replica {from} sends: {reason}: open this replica with a newer release"
    );
    Error::new(ErrorKind::Outdated, message)
}

/// What has come and waits for its job, from which on nothing more is asked for.
const HELD_BYTES: usize = 1024 * 1024;

/// How many election timeouts a part is waited for at most, before it is asked for once more.
pub(super) const AGAIN_TIMEOUTS: u32 = 4;

/// For so many election timeouts a peer may leave a question unanswered; then it is late.
const LATE_TIMEOUTS: u32 = 10;

/// For so many election timeouts a peer is passed over that sent no checkpoint, or nothing. Not for
/// ever: it may be the only one that has any.
const AVOIDED_TIMEOUTS: u32 = 20;

/// How many election timeouts to wait where there was no space; and how often that is doubled.
const FULL_TIMEOUTS: u32 = 20;
const DOUBLINGS_MAX: u32 = 3;
