//! Where leases meet the owner of the core: the clocks, and what must be known of them durably.
//!
//! The rules are in `paxos/lease.rs`. What was granted is forgotten in a restart; that it may have
//! been, and for how long, is in the directory (`journal/lease.rs`): written before the core
//! begins, so before anything is granted. A replica that is alone then grants nothing before its
//! next opening, and is not made to wait by it either: nobody else can lead.
//!
//! Invariants:
//! * The core grants nothing longer than what is durable.
//! * The uptime never goes back, and was read after the events of its turn.

use crate::journal::disk::Disk;
use crate::paxos::step::LeaseOptions;
use crate::types::error::Result;
use crate::types::membership::Membership;
use crate::types::time::{Clocks, Moment};

use super::driver::Driver;

impl<D: Disk> Driver<D> {
    /// What the clocks show in this turn.
    pub(super) fn read_clocks(&mut self, clocks: Clocks) {
        let Clocks { now, uptime, wall } = clocks;
        self.now = self.now.max(now);
        self.clocks = Clocks { now, uptime: self.clocks.uptime.max(uptime), wall };
        if let Some(paxos) = &mut self.paxos {
            paxos.set_uptime(self.clocks.uptime);
        }
    }

    /// How the core is to hold leases. That it may grant one is durable from here on.
    pub(super) fn begin_leases(&mut self, membership: &Membership) -> Result<LeaseOptions> {
        let granted_before = self.journal.longest_lease()?;
        let asked = self.options.read_lease;
        let granted = asked.filter(|_| !membership.is_only(self.options.id));
        if let Some(length) = granted {
            self.journal.note_lease(length)?;
        }
        Ok(LeaseOptions { asked, granted, granted_before })
    }

    /// A core that begins within a turn is told its time at once. At the opening no clock was read
    /// yet; then the first turn tells it.
    pub(super) fn core_begins_leases(&mut self) {
        if Moment::ZERO < self.clocks.uptime
            && let Some(paxos) = &mut self.paxos
        {
            paxos.set_uptime(self.clocks.uptime);
        }
    }
}
