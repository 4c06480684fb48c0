//! The outgoing side of one peer: connects, says hello, and sends what others left behind.
//!
//! One task for each peer. While nothing is backlogged it sleeps: messages leave from the thread
//! that flushes. It wakes when the connection ends, when a flush left something, and when the peer
//! was heard of, or listens elsewhere, while the pause before the next attempt was running.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;

use super::Shared;
use super::peer::Peer;
use super::socket::{self, Received, Waker};
use crate::transport::wire::{self, Decoder, Frame, Terms};
use crate::transport::{Clock, Refusal};
use crate::types::hello::Hello;
use crate::types::time::Moment;

/// Addresses tried, of those that a name resolves to.
const ADDRESSES_MAX: usize = 8;
/// How long to wait where there are no file descriptors for a waker.
const WAKER_PAUSE: Duration = Duration::from_millis(50);

/// What the task works with.
struct Dialer<'a> {
    shared: &'a Shared,
    peer: &'a Peer,
    waker: &'a Waker,
    clock: &'a Clock,
}

/// An attempt to connect.
struct Attempt {
    /// How often the peer's address had become another one.
    moves: u64,
    /// By when this part of it must be done.
    deadline: Moment,
}

/// Keeps `peer` connected until it is retired.
pub fn run(shared: &Shared, peer: &Peer, clock: &Clock) {
    if let Some(waker) = waker(peer) {
        Dialer { shared, peer, waker, clock }.run();
    }
}

/// The waker of the task; `None` where the peer was retired before there was one.
fn waker(peer: &Peer) -> Option<&Waker> {
    while !peer.is_retired() {
        match Waker::new() {
            Ok(waker) => return Some(peer.waker.get_or_init(|| waker)),
            // There are no file descriptors left. Nothing can be connected to without some.
            Err(_) => socket::poll(&mut [], Some(WAKER_PAUSE)),
        }
    }
    None
}

impl Dialer<'_> {
    fn run(&self) {
        let (min, max) = (self.shared.options.backoff_min, self.shared.options.backoff_max);
        let mut backoff = min;
        while !self.peer.is_retired() {
            match self.dial() {
                Ok(socket) => {
                    self.peer.note_reached();
                    let since = (self.clock)();
                    self.pump(&socket);
                    // A connection that ends at once is no success to start over from.
                    if (self.clock)().since(since) >= max {
                        backoff = min;
                    }
                }
                Err(err) => self.peer.note_unreached(&err),
            }
            self.pause(min, backoff);
            backoff = (backoff * 2).min(max);
        }
    }

    /// A connection on which both sides accepted the other's hello, installed as the peer's
    /// outgoing one. Somebody else may answer at one of the addresses that a name stands for: the
    /// next one is tried then, too.
    fn dial(&self) -> io::Result<Arc<TcpStream>> {
        let named = self.peer.address();
        let mut dialed = Err(io::ErrorKind::NotFound.into());
        for address in named.text.to_socket_addrs()?.take(ADDRESSES_MAX) {
            dialed = self.dial_at(address, named.moves);
            if dialed.is_ok() || self.peer.is_retired() || self.peer.has_moved(named.moves) {
                break;
            }
        }
        dialed
    }

    fn dial_at(&self, address: SocketAddr, moves: u64) -> io::Result<Arc<TcpStream>> {
        let Self { shared, peer, .. } = self;
        // Each address has its own: how long the name took, or one that swallows packets, is not
        // the fault of the next one.
        let deadline = (self.clock)() + shared.options.connect_timeout;
        let mut attempt = Attempt { moves, deadline };
        let connected = socket::connect(address, self.waker, &|| self.left(&attempt));
        let socket = Arc::new(connected?);
        socket::configure(&socket, shared.options.unacknowledged_timeout)?;
        let mut hello = shared.hello();
        hello.receiver = peer.id;
        socket::send_first(&socket, &wire::encode_hello(&hello))?;
        attempt.deadline = (self.clock)() + shared.options.handshake_timeout;
        let answer = self.await_answer(&attempt, &socket)?;
        let judged = self.judge_answer(&answer);
        let terms = judged.and_then(|()| Terms::of(&hello, &answer)).map_err(|refusal| {
            peer.note_refusal(refusal, false);
            io::Error::from(io::ErrorKind::ConnectionAborted)
        })?;
        let mut outbox = peer.outbox();
        // Under the lock that `retire` and `set_address` take after they said so: one of the two
        // sees the other.
        if peer.is_retired() || peer.has_moved(moves) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        outbox.connect(Arc::clone(&socket), terms);
        Ok(socket)
    }

    /// The hello that answers ours. A refusal is noted, and bytes that are neither are counted.
    fn await_answer(&self, attempt: &Attempt, socket: &TcpStream) -> io::Result<Hello> {
        let Self { shared, peer, waker, .. } = self;
        let mut decoder = Decoder::new();
        loop {
            match decoder.next_frame() {
                Ok(Some(Frame::Hello(hello))) => return Ok(hello),
                Ok(Some(Frame::Refused(refusal))) => {
                    if refusal == Refusal::Regressed {
                        shared.tell_fenced(peer.id);
                    }
                    peer.note_refusal(refusal, true);
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                Ok(Some(Frame::Message(_))) | Err(_) => {
                    peer.count_garbage();
                    let answer = "what answers there is no replica";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, answer));
                }
                Ok(None) => {}
            }
            let timeout = self.left(attempt).ok_or(io::ErrorKind::TimedOut)?;
            socket::wait(socket, PollFlags::IN, waker, Some(timeout));
            match socket::receive(socket, decoder.room()) {
                Received::Bytes(count) => decoder.fill(count),
                Received::Nothing => {}
                Received::End => {
                    let end = "what answers there ended the connection";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, end));
                }
            }
        }
    }

    fn judge_answer(&self, answer: &Hello) -> Result<(), Refusal> {
        if answer.replica != self.peer.id && answer.replica != self.shared.replica {
            return Err(Refusal::WrongReceiver);
        }
        self.shared.judge(answer)
    }

    /// How long an attempt may still take; `None` where it is over, as all are once the peer is
    /// retired, and those to where it is no more.
    fn left(&self, attempt: &Attempt) -> Option<Duration> {
        let left = self.left_until(attempt.deadline)?;
        (!self.peer.has_moved(attempt.moves)).then_some(left)
    }

    fn left_until(&self, deadline: Moment) -> Option<Duration> {
        let left = deadline.since((self.clock)());
        (!left.is_zero() && !self.peer.is_retired()).then_some(left)
    }

    /// Watches over a connection, and sends what a flush left behind, until the connection ends.
    fn pump(&self, socket: &TcpStream) {
        let peer = self.peer;
        loop {
            let outbox = peer.outbox();
            if !outbox.is_connected() {
                return;
            }
            let backlogged = outbox.is_backlogged();
            drop(outbox);
            let wanted = if backlogged { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            let ready = socket::wait(socket, wanted, self.waker, None);
            if ready.contains(PollFlags::OUT) {
                peer.outbox().resume();
            }
            if ready.difference(PollFlags::OUT).is_empty() {
                continue;
            }
            match socket::receive(socket, &mut [0; 64]) {
                Received::Nothing => continue,
                Received::End => {}
                // After its hello, who was dialed has nothing to say.
                Received::Bytes(_) => peer.count_garbage(),
            }
            peer.outbox().disconnect();
        }
    }

    /// Waits before the next attempt: about `backoff`, or only `min` where the peer was heard of.
    fn pause(&self, min: Duration, backoff: Duration) {
        let now = (self.clock)();
        let (floor, mut deadline) = (now + min, now + jittered(backoff));
        while let Some(timeout) = self.left_until(deadline) {
            if self.peer.take_nudge() {
                deadline = deadline.min(floor);
                continue;
            }
            socket::pause(self.waker, timeout);
        }
    }
}

/// Between half of `duration` and all of it, so that replicas that lost one another at the same
/// moment do not dial one another at the same moment for ever.
fn jittered(duration: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    let share = u32::try_from(random % 1024).unwrap_or(0);
    duration / 2 + duration / 2 * share / 1024
}
