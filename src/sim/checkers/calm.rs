//! **V3, V5, V6, calm**: a cluster that came together, and that nobody asks for anything, sends
//! heartbeats, renews its lease in time and does nothing else, takes no new ballot, and holds
//! nothing back.
//!
//! What goes on after everything was healed would go on for ever: a repair that never ends, two
//! leaders that outbid each other, a queue that nobody empties.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::paxos::lease::RENEWALS_PER_LEASE;
use crate::runtime::report::Unfinished;
use crate::types::ids::ReplicaId;

use super::{Violation, ensure};

/// What was seen while nothing should happen.
#[derive(Clone, Debug, Default)]
pub struct Quiet {
    /// Rounds by which the highest promise rose since the cluster came together.
    pub rounds: u64,
    /// Messages that left, by sender and kind.
    pub sent: BTreeMap<(ReplicaId, &'static str), u64>,
    /// How long it was looked at.
    pub time: Duration,
    /// How many belong.
    pub members: u64,
    /// The leases of those that have one.
    pub leases: BTreeMap<ReplicaId, Duration>,
    /// What each replica still had to do in the end.
    pub unfinished: Vec<(ReplicaId, Unfinished)>,
}

/// Judges a time of quiet.
///
/// # Errors
///
/// Where it was none.
pub fn check(quiet: &Quiet) -> Result<(), Violation> {
    let Quiet { rounds, sent, unfinished, .. } = quiet;
    ensure(*rounds <= ROUNDS_MAX, "V3", || {
        format!("the ballot rose by {rounds} after the replicas had come together")
    })?;
    let busy = sent
        .iter()
        .find(|((id, name), count)| quiet.allows(*id, name).is_some_and(|most| most < **count));
    ensure(busy.is_none(), "V6", || format!("nothing is asked, and {busy:?} are sent"))?;
    let left = unfinished.iter().find(|(_, left)| *left != Unfinished::default());
    ensure(left.is_none(), "V5", || format!("nothing is asked, and there is left: {left:?}"))
}

impl Quiet {
    /// How many messages of a kind a replica may send while nothing is asked for; `None` where that
    /// is not counted.
    fn allows(&self, id: ReplicaId, name: &str) -> Option<u64> {
        match name {
            "Heartbeat" => None,
            "Renew" => Some(self.renewals(id) * self.members.saturating_sub(1)),
            // Whoever has no lease grants none.
            "Granted" if self.leases.contains_key(&id) => {
                let others = self.leases.keys().filter(|other| **other != id);
                Some(others.map(|other| self.renewals(*other)).max().unwrap_or_default())
            }
            _ => Some(0),
        }
    }

    /// How often a replica may ask one other for its lease.
    fn renewals(&self, id: ReplicaId) -> u64 {
        let Some(length) = self.leases.get(&id) else { return 0 };
        let interval = (*length / RENEWALS_PER_LEASE).as_nanos().max(1);
        // One at the beginning, and one that another has asked while it led.
        u64::try_from(self.time.as_nanos() / interval).unwrap_or(u64::MAX).saturating_add(2)
    }
}

/// Ballots that may follow when all is healed: the one that ends what was under way, and another.
const ROUNDS_MAX: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(quiet: &Quiet) -> Result<(), &'static str> {
        check(quiet).map_err(|violation| violation.invariant)
    }

    #[test]
    fn what_goes_on_is_seen() {
        let heartbeats = BTreeMap::from([((ReplicaId(1), "Heartbeat"), 40)]);
        let quiet = Quiet { rounds: 1, sent: heartbeats, ..Quiet::default() };
        assert_eq!(judge(&quiet), Ok(()));
        let duel = Quiet { rounds: 9, ..quiet.clone() };
        assert_eq!(judge(&duel), Err("V3"));
        let mut sent = quiet.sent.clone();
        sent.insert((ReplicaId(2), "Fetch"), 3);
        assert_eq!(judge(&Quiet { sent, ..quiet.clone() }), Err("V6"));
        let left = Unfinished { held: 1, ..Unfinished::default() };
        let unfinished = vec![(ReplicaId(1), Unfinished::default()), (ReplicaId(2), left)];
        assert_eq!(judge(&Quiet { unfinished, ..quiet }), Err("V5"));
    }
}
