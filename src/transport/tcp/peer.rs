//! One peer or stranger as this replica sees it: the outgoing connection, the incoming one, and the
//! counts.
//!
//! Invariants:
//! * At most one incoming connection of a peer is *current*: the newest. Only what the current one
//!   brings is delivered, and only its end is told as `Down`.
//! * `turn` is held while something of this peer is delivered, so that what an older connection
//!   brought, and its end, is delivered before anything of a newer one. No other lock is held then,
//!   and nothing but the peer's own receiving tasks waits for it.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::outbox::{Flushed, Outbox};
use super::socket::Waker;
use crate::transport::{PeerCounters, Refusal, Refused};
use crate::types::ids::{Boot, ReplicaId};
use crate::types::message::Message;
use crate::types::time::Moment;

/// How long a connection waits for its turn before it looks whether another took its place.
const TURN_PATIENCE: Duration = Duration::from_millis(100);

/// A peer, or a stranger.
pub struct Peer {
    /// Who it is.
    pub id: ReplicaId,
    /// Wakes the task that connects and, where there is a backlog, sends. That task makes it: it
    /// takes file descriptors, and can wait for some.
    pub waker: OnceLock<Waker>,
    /// It is no peer, but was let in.
    stranger: AtomicBool,
    address: Mutex<Address>,
    /// No task shall go on for this peer.
    retired: AtomicBool,
    /// It is no peer any more, while others are.
    removed: AtomicBool,
    /// The peer was heard of: it is worth connecting now.
    nudged: AtomicBool,
    outbox: Mutex<Outbox>,
    incoming: Mutex<Incoming>,
    turn: Mutex<()>,
    received: AtomicU64,
    garbage: AtomicU64,
    refused: Mutex<Option<Refused>>,
    unreached: Mutex<Option<String>>,
}

/// Where a peer listens.
#[derive(Clone, Debug)]
pub struct Address {
    /// As it was given; resolved at each attempt to connect.
    pub text: String,
    /// How often it became another one.
    pub moves: u64,
}

#[derive(Default)]
struct Incoming {
    /// The number of the newest connection; none has the number 0.
    newest: u64,
    current: Option<(Arc<TcpStream>, Boot)>,
    /// When the last one ended; where there never was any, when somebody first looked.
    gone_since: Option<Moment>,
}

/// A place among the incoming connections of a peer.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    number: u64,
    /// The opening that its hello names.
    pub boot: Boot,
    /// It took the place of a connection of an earlier opening, whose end nobody will tell.
    pub replaced_boot: bool,
}

impl Peer {
    /// A peer to which nothing is connected yet.
    pub fn new(id: ReplicaId, address: String, queue_bytes_max: usize) -> Self {
        Self {
            id,
            waker: OnceLock::new(),
            stranger: AtomicBool::new(false),
            address: Mutex::new(Address { text: address, moves: 0 }),
            retired: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            nudged: AtomicBool::new(false),
            outbox: Mutex::new(Outbox::new(queue_bytes_max)),
            incoming: Mutex::default(),
            turn: Mutex::new(()),
            received: AtomicU64::new(0),
            garbage: AtomicU64::new(0),
            refused: Mutex::new(None),
            unreached: Mutex::new(None),
        }
    }

    /// A stranger to which nothing is connected yet.
    pub fn stranger(id: ReplicaId, address: String, queue_bytes_max: usize) -> Self {
        let stranger = AtomicBool::new(true);
        Self { stranger, ..Self::new(id, address, queue_bytes_max) }
    }

    /// Whether it is no peer.
    pub fn is_stranger(&self) -> bool {
        self.stranger.load(Ordering::SeqCst)
    }

    /// It is a peer from now on.
    pub fn become_peer(&self) {
        self.stranger.store(false, Ordering::SeqCst);
    }

    /// Where it listens.
    pub fn address(&self) -> Address {
        self.address.lock().clone()
    }

    /// Whether it listens elsewhere than after so many moves.
    pub fn has_moved(&self, moves: u64) -> bool {
        self.address.lock().moves != moves
    }

    /// It listens here. Where it was elsewhere, the connection to there ends.
    pub fn set_address(&self, text: String) {
        let mut address = self.address.lock();
        if address.text == text {
            return;
        }
        let moves = address.moves + 1;
        *address = Address { text, moves };
        drop(address);
        // A connection to the old address is installed before this, or not at all: see `dialer`.
        self.outbox.lock().disconnect();
        self.nudge();
    }

    /// The queue to this peer.
    pub fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock()
    }

    /// Takes a message on its way.
    pub fn push(&self, message: &Message) {
        self.outbox.lock().push(message);
    }

    /// Sends what waits; what cannot leave now is left to the task.
    pub fn flush(&self) {
        match self.outbox.lock().flush() {
            Flushed::Everything => {}
            Flushed::Part | Flushed::Ended => self.wake(),
        }
    }

    /// Has the task look what there is to do; before it has a waker, it is about to look anyway.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }

    /// Worth connecting to now, rather than after the pause.
    pub fn nudge(&self) {
        self.nudged.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether it was nudged since last asked.
    pub fn take_nudge(&self) -> bool {
        self.nudged.swap(false, Ordering::AcqRel)
    }

    /// Ends both connections and all tasks, for good.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        self.outbox.lock().disconnect();
        if let Some((socket, _)) = &self.incoming.lock().current {
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.wake();
    }

    /// Like [`Peer::retire`], where the transport goes on: the end of its connection is told still.
    pub fn remove(&self) {
        self.removed.store(true, Ordering::SeqCst);
        self.retire();
    }

    /// Whether [`Peer::retire`] was called.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// Makes a connection of this peer the current one, and ends the one that was; or refuses,
    /// where nothing shall be received any more.
    pub fn admit(&self, socket: &Arc<TcpStream>, boot: Boot) -> Option<Place> {
        let mut incoming = self.incoming.lock();
        // Under the lock that `retire` takes after it set the flag: one of the two sees the other.
        if self.is_retired() {
            return None;
        }
        incoming.newest += 1;
        incoming.gone_since = None;
        let replaced = incoming.current.replace((Arc::clone(socket), boot));
        if let Some((old, _)) = &replaced {
            let _ = old.shutdown(Shutdown::Both);
        }
        let replaced_boot = replaced.is_some_and(|(_, old)| old != boot);
        Some(Place { number: incoming.newest, boot, replaced_boot })
    }

    /// Delivers what the connection at `place` brought; false where that is no longer current.
    pub fn deliver(&self, place: Place, deliver: impl FnOnce()) -> bool {
        let is_current = || self.incoming.lock().newest == place.number && !self.is_retired();
        let Some(_turn) = self.turn_while(is_current) else { return false };
        let current = is_current();
        if current {
            deliver();
        }
        current
    }

    /// Waits for its turn, as long as there is a reason to. A turn can last as long as a disk
    /// hangs: connections whose place others took meanwhile must not pile up behind it.
    fn turn_while(&self, is_wanted: impl Fn() -> bool) -> Option<MutexGuard<'_, ()>> {
        while is_wanted() {
            let turn = self.turn.try_lock_for(TURN_PATIENCE);
            if turn.is_some() {
                return turn;
            }
        }
        None
    }

    /// The connection at `place` ended at `now`; calls `down` where it was the last one.
    pub fn end(&self, place: Place, now: Moment, down: impl FnOnce()) {
        let is_newest = || self.incoming.lock().newest == place.number;
        let Some(_turn) = self.turn_while(is_newest) else { return };
        let mut incoming = self.incoming.lock();
        if incoming.newest != place.number || incoming.current.take().is_none() {
            return;
        }
        incoming.gone_since = Some(now);
        drop(incoming);
        if !self.is_retired() || self.removed.load(Ordering::SeqCst) {
            down();
        }
    }

    /// Since when no connection of it stands, where none does at `now`.
    pub fn gone_since(&self, now: Moment) -> Option<Moment> {
        let mut incoming = self.incoming.lock();
        match incoming.current {
            Some(_) => None,
            None => Some(*incoming.gone_since.get_or_insert(now)),
        }
    }

    /// Counts messages that arrived.
    pub fn count_received(&self, count: usize) {
        self.received.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Counts a connection that ended because of its bytes.
    pub fn count_garbage(&self) {
        self.garbage.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a refused hello: ours, `by_peer`, or the peer's.
    pub fn note_refusal(&self, why: Refusal, by_peer: bool) {
        *self.refused.lock() = Some(Refused { why, by_peer });
    }

    /// A connection to it stands, and each end took the other's hello.
    pub fn note_reached(&self) {
        *self.refused.lock() = None;
        *self.unreached.lock() = None;
    }

    /// An attempt to connect to it came to nothing.
    pub fn note_unreached(&self, err: &io::Error) {
        let address = self.address().text;
        *self.unreached.lock() = Some(format!("{address}: {err}"));
    }

    /// What was counted.
    pub fn counters(&self) -> PeerCounters {
        let incoming = self.incoming.lock().current.is_some();
        let outbox = self.outbox.lock();
        let (sent, dropped) = outbox.counts();
        PeerCounters {
            peer: self.id,
            stranger: self.is_stranger(),
            connected: incoming && outbox.is_connected(),
            queued_bytes: outbox.queued_bytes() as u64,
            sent,
            received: self.received.load(Ordering::Relaxed),
            dropped,
            garbage: self.garbage.load(Ordering::Relaxed),
            refused: self.refused.lock().clone(),
            unreached: self.unreached.lock().clone(),
        }
    }
}
