//! Messages that wait for the journal, in the order of its positions.
//!
//! A disk that hangs keeps them here, and whoever waits for the answer asks again and again: each
//! time a promise, or a vote, is told once more. So there is a bound, and what comes beyond it to a
//! peer is dropped, as a network might: that peer asks once more when the disk goes on. What this
//! replica tells itself is never dropped, since nobody asks for it again; it is as much as it
//! proposes or promises, and that has bounds of its own.
//!
//! Invariants:
//! * Messages leave in the order in which they came, each once its position is durable.
//! * Those to peers weigh at most [`WEIGHT_MAX`] together.

use std::collections::VecDeque;

use crate::types::ids::{Lsn, ReplicaId};
use crate::types::marks::reached;
use crate::types::record::Held;

/// Messages that wait for the journal.
#[derive(Debug)]
pub(super) struct HeldMessages {
    own: ReplicaId,
    queue: VecDeque<(Lsn, Held)>,
    /// Of those to peers.
    weight: usize,
}

/// A message weighs one, and one more for each vote that it tells. Some hundred bytes each; the
/// entries are shared. A promise tells of alpha slots twice over at most, so several have room.
const WEIGHT_MAX: usize = 1 << 16;

impl HeldMessages {
    /// Nothing waits at replica `own`.
    pub(super) fn new(own: ReplicaId) -> Self {
        Self { own, queue: VecDeque::new(), weight: 0 }
    }

    /// Keeps a message until everything up to `lsn` is durable, or drops it.
    pub(super) fn push(&mut self, lsn: Lsn, held: Held) {
        if held.to() != self.own {
            let weight = held.weight();
            if self.weight + weight > WEIGHT_MAX && self.weight > 0 {
                reached!(HeldDropped);
                return;
            }
            self.weight += weight;
        }
        self.queue.push_back((lsn, held));
    }

    /// The next message, if its position is one of the durable ones.
    pub(super) fn pop_if(&mut self, is_durable: impl FnOnce(Lsn) -> bool) -> Option<Held> {
        if !self.queue.front().is_some_and(|(lsn, _)| is_durable(*lsn)) {
            return None;
        }
        let (_, held) = self.queue.pop_front()?;
        if held.to() != self.own {
            self.weight -= held.weight();
        }
        Some(held)
    }

    /// Nothing of it ever leaves.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.weight = 0;
    }

    /// How many messages wait.
    #[cfg(feature = "sim")]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}
