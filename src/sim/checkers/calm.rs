//! **V3, V5, V6, calm**: a cluster that came together, and that nobody asks for anything, sends
//! heartbeats, renews its lease and does nothing else, takes no new ballot, and holds nothing back.
//!
//! What goes on after everything was healed would go on for ever: a repair that never ends, two
//! leaders that outbid each other, a queue that nobody empties.

use std::collections::BTreeMap;

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
    /// What each replica still had to do in the end.
    pub unfinished: Vec<(ReplicaId, Unfinished)>,
}

/// Judges a time of quiet.
///
/// # Errors
///
/// Where it was none.
pub fn check(quiet: &Quiet) -> Result<(), Violation> {
    let Quiet { rounds, sent, unfinished } = quiet;
    ensure(*rounds <= ROUNDS_MAX, "V3", || {
        format!("the ballot rose by {rounds} after the replicas had come together")
    })?;
    let busy = sent.iter().find(|((_, name), _)| !ALWAYS_SENT.contains(name));
    ensure(busy.is_none(), "V6", || format!("nothing is asked, and {busy:?} are sent"))?;
    let left = unfinished.iter().find(|(_, left)| *left != Unfinished::default());
    ensure(left.is_none(), "V5", || format!("nothing is asked, and there is left: {left:?}"))
}

/// What is sent while nothing is asked for.
const ALWAYS_SENT: [&str; 3] = ["Heartbeat", "Renew", "Granted"];

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
        let quiet = Quiet { rounds: 1, sent: heartbeats, unfinished: Vec::new() };
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
