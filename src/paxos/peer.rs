//! What a replica knows of one of the others, as far as that one was heard.
//!
//! Heartbeats are counted at both ends, and each echoes the count that it had from the other. So
//! each end knows whether the link carries both ways, and what is late can be told from what is
//! new.

use std::time::Duration;

use crate::types::edition::Edition;
use crate::types::ids::{Boot, Slot};
use crate::types::time::Moment;

/// What was last heard of one peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    pub(super) heard_at: Option<Moment>,
    /// The opening that was heard last.
    pub(super) boot: Boot,
    pub(super) hears_leader: bool,
    pub(super) priority: u32,
    /// The highest edition that it knows.
    pub(super) knows: Edition,
    /// How far it said that it knows the log.
    pub(super) slot_chosen: Slot,
    /// How far its votes told that it durably knows the log.
    pub(super) slot_durable: Slot,
    /// The count of heartbeats sent to it.
    pub(super) sent: u64,
    /// The highest of those that it says it has.
    pub(super) echoed: Option<u64>,
    /// When it last had one of the latest of those: when the link last carried both ways.
    pub(super) echoed_at: Option<Moment>,
    /// The highest `sent` that was heard from it.
    pub(super) heard: u64,
    /// The slot behind the last one in which it is known to have voted for what this leader
    /// proposed.
    pub(super) voted_below: Slot,
}

impl Peer {
    /// Whether it was heard within `timeout`.
    pub(super) fn is_heard(&self, now: Moment, timeout: Duration) -> bool {
        self.heard_at.is_some_and(|at| now.since(at) < timeout)
    }

    /// How far it is known to know the log, or to have voted.
    pub(super) fn known_below(&self) -> Slot {
        self.slot_chosen.max(self.voted_below)
    }

    /// Whether it has one of the last `late` heartbeats that were sent to it.
    pub(super) fn echoes(&self, late: u64) -> bool {
        self.echoed.is_some_and(|echoed| self.sent - echoed <= late)
    }
}
