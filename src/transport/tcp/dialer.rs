//! The outgoing side of one peer: connects, says hello, and sends what others left behind.
//!
//! One task for each peer. While nothing is backlogged it sleeps: messages leave from the thread
//! that flushes. It wakes when the connection ends, when a flush left something, and when the peer
//! was heard of while the pause before the next attempt was running.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;

use super::Shared;
use super::peer::Peer;
use super::socket::{self, Received};
use crate::transport::wire::{self, Decoder, Frame};
use crate::transport::{Clock, Refusal};
use crate::types::message::Hello;
use crate::types::time::Moment;

/// Addresses tried, of those that a name resolves to.
const ADDRESSES_MAX: usize = 8;

/// Keeps `peer` connected until it is retired.
pub fn run(shared: &Shared, peer: &Peer, clock: &Clock) {
    let (min, max) = (shared.options.backoff_min, shared.options.backoff_max);
    let mut backoff = min;
    while !peer.is_retired() {
        if let Ok(socket) = dial(shared, peer, clock) {
            let since = clock();
            pump(peer, &socket);
            // A connection that ends at once is no success to start over from.
            if clock().since(since) >= max {
                backoff = min;
            }
        }
        pause(peer, clock, min, backoff);
        backoff = (backoff * 2).min(max);
    }
}

/// A connection on which both sides accepted the other's hello, installed as the peer's outgoing
/// one.
fn dial(shared: &Shared, peer: &Peer, clock: &Clock) -> io::Result<Arc<TcpStream>> {
    let deadline = clock() + shared.options.connect_timeout;
    let left = || left(peer, clock, deadline);
    let mut connected = Err(io::ErrorKind::NotFound.into());
    for address in peer.address().to_socket_addrs()?.take(ADDRESSES_MAX) {
        connected = socket::connect(address, &peer.waker, &left);
        if connected.is_ok() {
            break;
        }
    }
    let socket = Arc::new(connected?);
    socket::configure(&socket, shared.options.unacknowledged_timeout)?;
    let mut hello = shared.hello();
    hello.receiver = peer.id;
    socket::send_first(&socket, &wire::encode_hello(&hello))?;
    let answer = await_answer(shared, peer, clock, &socket)?;
    judge_answer(shared, peer, &answer).map_err(|refusal| {
        peer.note_refusal(refusal, false);
        io::Error::from(io::ErrorKind::ConnectionAborted)
    })?;
    let mut outbox = peer.outbox();
    // Under the lock that `retire` takes after it set the flag: one of the two sees the other.
    if peer.is_retired() {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    outbox.connect(Arc::clone(&socket), hello.cluster);
    Ok(socket)
}

/// The hello that answers ours. A refusal is noted, and bytes that are neither are counted.
fn await_answer(
    shared: &Shared,
    peer: &Peer,
    clock: &Clock,
    socket: &TcpStream,
) -> io::Result<Hello> {
    let deadline = clock() + shared.options.handshake_timeout;
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
                return Err(io::ErrorKind::InvalidData.into());
            }
            Ok(None) => {}
        }
        let timeout = left(peer, clock, deadline).ok_or(io::ErrorKind::TimedOut)?;
        socket::wait(socket, PollFlags::IN, &peer.waker, Some(timeout));
        match socket::receive(socket, decoder.room()) {
            Received::Bytes(count) => decoder.fill(count),
            Received::Nothing => {}
            Received::End => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// How long what must be done by `deadline` may still take; `None` where it is over, as all is once
/// the peer is retired.
fn left(peer: &Peer, clock: &Clock, deadline: Moment) -> Option<Duration> {
    let left = deadline.since(clock());
    (!left.is_zero() && !peer.is_retired()).then_some(left)
}

fn judge_answer(shared: &Shared, peer: &Peer, answer: &Hello) -> Result<(), Refusal> {
    if answer.replica != peer.id && answer.replica != shared.replica {
        return Err(Refusal::WrongReceiver);
    }
    shared.judge(answer)
}

/// Watches over a connection, and sends what a flush left behind, until the connection ends.
fn pump(peer: &Peer, socket: &TcpStream) {
    loop {
        let outbox = peer.outbox();
        if !outbox.is_connected() {
            return;
        }
        let backlogged = outbox.is_backlogged();
        drop(outbox);
        let wanted = if backlogged { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let ready = socket::wait(socket, wanted, &peer.waker, None);
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
fn pause(peer: &Peer, clock: &Clock, min: Duration, backoff: Duration) {
    let now = clock();
    let (floor, mut deadline) = (now + min, now + jittered(backoff));
    while let Some(timeout) = left(peer, clock, deadline) {
        if peer.take_nudge() {
            deadline = deadline.min(floor);
            continue;
        }
        socket::pause(&peer.waker, timeout);
    }
}

/// Between half of `duration` and all of it, so that replicas that lost one another at the same
/// moment do not dial one another at the same moment for ever.
fn jittered(duration: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    let share = u32::try_from(random % 1024).unwrap_or(0);
    duration / 2 + duration / 2 * share / 1024
}
