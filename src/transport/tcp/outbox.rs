//! What waits to be sent to one peer, and the socket it leaves through.
//!
//! ```text
//! push --+--> current ----------------------> socket    nothing is backlogged: one buffer, one
//!        |      ^                                       system call for all that was pushed
//!        +--> queues: urgent, entries, bulk             backlogged: frames wait apart, and the
//!               |                                       urgent ones go first
//! ```
//!
//! As long as the socket takes everything, messages leave in the order of pushing. A backlog is
//! where order costs too much: behind megabytes of catching up, a heartbeat would come after the
//! election that it was to prevent. So each queue has its own bound and its own place; within a
//! queue order is kept.
//!
//! Invariants:
//! * Only whole frames wait in queues; `current` is the only buffer that may be partly sent.
//! * Nothing that was pushed for one connection is sent on another: the end of a connection drops
//!   everything.
//! * `current` is refilled only once it was sent, so at most it holds [`CURRENT_BYTES`] and one
//!   message. A queue that is empty takes one message of any size; beyond that it holds its bound.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use super::socket;
use crate::transport::wire::{self, Terms};
use crate::types::message::Message;

/// Where `current` ends and queues begin.
const CURRENT_BYTES: usize = 256 * 1024;
/// What is sent under one lock, at most: who pushes meanwhile waits for it.
const SEND_BYTES_MAX: usize = 1024 * 1024;
/// What the urgent queue holds. Its messages are of some hundred bytes, so these are thousands.
const URGENT_BYTES_MAX: usize = 1024 * 1024;
/// A buffer that held a large message gives the memory back.
const RETAINED_BYTES_MAX: usize = 1024 * 1024;

/// The queues to one peer.
#[derive(Default)]
pub struct Outbox {
    connection: Option<Connection>,
    /// Whole frames, of which `written` bytes were sent.
    current: Vec<u8>,
    written: usize,
    /// Where the frames in `current` end that were not sent completely.
    ends: VecDeque<usize>,
    /// Frames that wait behind `current`, by [`queue_of`].
    queues: [Queue; QUEUES],
    /// The socket took no more: sending is the task's until everything is gone.
    backlogged: bool,
    sent: u64,
    dropped: u64,
}

struct Connection {
    socket: Arc<TcpStream>,
    /// What the hellos agreed on that this connection began with.
    terms: Terms,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
}

/// How far sending came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing is left.
    Everything,
    /// Something is left: the socket is full, or enough was sent at once.
    Part,
    /// The connection ended, and with it everything that waited.
    Ended,
}

impl Outbox {
    /// An outbox without a connection; data queues hold half of `bytes_max` each.
    pub fn new(bytes_max: usize) -> Self {
        let queue = |bytes_max| Queue { bytes_max, ..Queue::default() };
        let queues = [queue(URGENT_BYTES_MAX), queue(bytes_max / 2), queue(bytes_max / 2)];
        Self { queues, ..Self::default() }
    }

    /// From now on messages leave through `socket`.
    pub fn connect(&mut self, socket: Arc<TcpStream>, terms: Terms) {
        self.disconnect();
        self.connection = Some(Connection { socket, terms });
    }

    /// Ends the connection and drops what waits.
    pub fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = connection.socket.shutdown(Shutdown::Both);
        }
        self.dropped += self.ends.len() as u64;
        for queue in &mut self.queues {
            self.dropped += queue.frames.len() as u64;
            queue.frames = VecDeque::new();
            queue.bytes = 0;
        }
        self.current = Vec::new();
        self.written = 0;
        self.ends.clear();
        self.backlogged = false;
    }

    /// Takes a message, or drops it: where there is no connection or no room, or where it is larger
    /// than a message may be.
    pub fn push(&mut self, message: &Message) {
        let Some(connection) = &self.connection else {
            self.dropped += 1;
            return;
        };
        let direct = !self.backlogged
            && self.current.len() < CURRENT_BYTES
            && self.queues.iter().all(|queue| queue.frames.is_empty());
        if direct {
            match wire::encode_message(message, connection.terms, &mut self.current) {
                Ok(()) => self.ends.push_back(self.current.len()),
                Err(_) => self.dropped += 1,
            }
            return;
        }
        let place = queue_of(message);
        let queue = &mut self.queues[place];
        if place == CATCHING_UP && CATCHING_UP_MAX <= queue.frames.len() {
            // Each answers a question that is asked again, perhaps since this link is so slow.
            self.dropped += 1;
            return;
        }
        let mut frame = Vec::new();
        let room = queue.bytes_max.saturating_sub(queue.bytes);
        let fits = (room > 0 || queue.frames.is_empty())
            && wire::encode_message(message, connection.terms, &mut frame).is_ok()
            && (frame.len() <= room || queue.frames.is_empty());
        if !fits {
            self.dropped += 1;
            return;
        }
        frame.shrink_to_fit();
        queue.bytes += frame.len();
        queue.frames.push_back(frame);
    }

    /// Sends from the thread that pushed, unless the task is at it.
    pub fn flush(&mut self) -> Flushed {
        if self.backlogged || self.connection.is_none() {
            return Flushed::Everything;
        }
        self.resume()
    }

    /// Sends what waits, as far as the socket takes it.
    pub fn resume(&mut self) -> Flushed {
        let flushed = match self.try_send() {
            Ok(true) => Flushed::Everything,
            Ok(false) => Flushed::Part,
            Err(_) => Flushed::Ended,
        };
        match flushed {
            Flushed::Everything => self.backlogged = false,
            Flushed::Part => self.backlogged = true,
            Flushed::Ended => self.disconnect(),
        }
        flushed
    }

    /// Whether a connection stands.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether the task must send.
    pub fn is_backlogged(&self) -> bool {
        self.backlogged
    }

    /// Bytes that wait.
    pub fn queued_bytes(&self) -> usize {
        let queues: usize = self.queues.iter().map(|queue| queue.bytes).sum();
        self.current.len() - self.written + queues
    }

    /// Messages handed to the socket so far, and messages dropped so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.sent, self.dropped)
    }

    /// Whether everything was sent.
    fn try_send(&mut self) -> io::Result<bool> {
        let Some(connection) = &self.connection else { return Ok(true) };
        let socket = Arc::clone(&connection.socket);
        let mut left = SEND_BYTES_MAX;
        loop {
            if self.written == self.current.len() && !self.refill() {
                return Ok(true);
            }
            if left == 0 {
                return Ok(false);
            }
            let end = self.current.len().min(self.written + left);
            match socket::send(&socket, &self.current[self.written..end]) {
                Ok(count) => {
                    self.written += count;
                    left -= count;
                }
                Err(err) if socket::is_transient(&err) => return Ok(false),
                Err(err) => return Err(err),
            }
            while self.ends.front().is_some_and(|end| *end <= self.written) {
                self.ends.pop_front();
                self.sent += 1;
            }
        }
    }

    /// Fills `current`, all of which was sent, from the queues; false where they are empty.
    fn refill(&mut self) -> bool {
        assert!(self.ends.is_empty(), "{} frames are lost in a refill", self.ends.len());
        self.written = 0;
        self.current.clear();
        if self.current.capacity() > RETAINED_BYTES_MAX {
            self.current = Vec::new();
        }
        while self.current.len() < CURRENT_BYTES {
            let Some(queue) = self.queues.iter_mut().find(|queue| !queue.frames.is_empty()) else {
                break;
            };
            let Some(frame) = queue.frames.pop_front() else { break };
            queue.bytes -= frame.len();
            if self.current.is_empty() {
                self.current = frame;
            } else {
                self.current.extend_from_slice(&frame);
            }
            self.ends.push_back(self.current.len());
        }
        !self.current.is_empty()
    }
}

const QUEUES: usize = 3;

/// The queue of what lets a peer catch up, and how many messages wait there at most.
const CATCHING_UP: usize = 2;
const CATCHING_UP_MAX: usize = 4;

/// What goes first where not everything can.
fn queue_of(message: &Message) -> usize {
    match message {
        // Small, and what time is measured by.
        Message::Heartbeat(_)
        | Message::Prepare { .. }
        | Message::Accepted(_)
        | Message::Reject { .. }
        | Message::Fetch { .. }
        | Message::Confirm { .. }
        | Message::Confirmed { .. }
        | Message::Barrier { .. }
        | Message::BarrierAt { .. }
        | Message::Unsure { .. }
        | Message::Settled { .. }
        | Message::Fill { .. }
        | Message::Leaving { .. }
        | Message::Dismissed { .. }
        | Message::TakeOver(_)
        | Message::Renew { .. }
        | Message::Granted { .. }
        | Message::Trimmed { .. }
        | Message::Lost { .. }
        | Message::FetchCheckpoint { .. } => 0,
        // What somebody waits for.
        Message::Promise(_)
        | Message::Accept(_)
        | Message::Forward(_)
        | Message::Bounced { .. }
        | Message::Introduce(_)
        | Message::Agreed { .. } => 1,
        // Catching a replica up must not slow the others' commits, nor its own.
        Message::Chosen(_) | Message::CheckpointPart(_) => CATCHING_UP,
    }
}
