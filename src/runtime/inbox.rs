//! Events that wait for a turn of the driver.
//!
//! A turn takes all there are, so mostly there are few. But while one turn lasts, callers that do
//! not wait, and peers, may bring any number.
//!
//! Invariants:
//! * Calls are refused, at once, where those in the inbox weigh as much as may wait for a slot: not
//!   all of them could be let in.
//! * While [`ARRIVED_BYTES_MAX`] of peers wait, whoever receives from a peer waits, too: what that
//!   peer sends on stays in its socket.
//! * What the replica itself brings (the end of a write, its own end) is always taken.

use crate::journal::disk::Disk;
use crate::sync::Mutex;
use crate::transport::{self, Arrival};

use super::turn::Event;

/// Events that wait for a turn.
pub(super) struct Inbox<D: Disk> {
    waiting: Mutex<Waiting<D>>,
    called_bytes_max: usize,
}

struct Waiting<D: Disk> {
    events: Vec<Event<D>>,
    /// What calls among them weigh.
    called_bytes: usize,
    /// What messages among them weigh.
    arrived_bytes: usize,
}

/// What messages in the inbox may weigh; and, on top, what each peer had sent by then.
const ARRIVED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What an event is taken to weigh besides the bytes it carries, with who waits for it.
const EVENT_BYTES: usize = 256;

impl<D: Disk> Inbox<D> {
    /// Nothing waits. Calls may weigh so much; one is always taken.
    pub(super) fn new(called_bytes_max: usize) -> Self {
        let waiting = Waiting { events: Vec::new(), called_bytes: 0, arrived_bytes: 0 };
        Self { waiting: Mutex::new(waiting), called_bytes_max }
    }

    /// Brings what this replica itself does.
    pub(super) fn push(&self, event: Event<D>) {
        self.waiting.lock().events.push(event);
    }

    /// Brings what must be taken before all that waits.
    pub(super) fn push_first(&self, events: impl Iterator<Item = Event<D>>) {
        self.waiting.lock().events.splice(0..0, events);
    }

    /// Brings a call. Returns how many events wait with it; or gives it back where that is too
    /// much.
    pub(super) fn push_call(&self, event: Event<D>) -> Result<usize, Box<Event<D>>> {
        let carried = match &event {
            Event::Propose { command, .. } | Event::Resolve { command, .. } => command.bytes.len(),
            _ => 0,
        };
        let mut waiting = self.waiting.lock();
        let called_bytes = waiting.called_bytes + EVENT_BYTES + carried;
        if waiting.called_bytes > 0 && called_bytes > self.called_bytes_max {
            return Err(Box::new(event));
        }
        waiting.called_bytes = called_bytes;
        waiting.events.push(event);
        Ok(waiting.events.len())
    }

    /// Brings what came from peers. Who receives asks [`Inbox::is_full`] before it goes on.
    pub(super) fn push_arrivals(&self, arrivals: Vec<Arrival>) {
        let bytes = arrivals.iter().map(weight).sum::<usize>();
        let mut waiting = self.waiting.lock();
        waiting.arrived_bytes += bytes;
        waiting.events.extend(arrivals.into_iter().map(Event::Arrived));
    }

    /// Takes all there are.
    pub(super) fn take(&self) -> Vec<Event<D>> {
        let mut waiting = self.waiting.lock();
        (waiting.called_bytes, waiting.arrived_bytes) = (0, 0);
        std::mem::take(&mut waiting.events)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.lock().events.is_empty()
    }

    /// Whether so much of peers waits that whoever brings more has to wait, too.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.lock().arrived_bytes > ARRIVED_BYTES_MAX
    }
}

fn weight(arrival: &Arrival) -> usize {
    match arrival {
        Arrival::Message { message, .. } => transport::memory::weight(message),
        Arrival::Down { .. } | Arrival::Fenced { .. } => EVENT_BYTES,
    }
}
