//! The end of the faults of a schedule: what cores must do then, and within which time.
//!
//! All are up, every link carries what is sent, and every sync succeeds. Within ten election
//! timeouts the cores must agree, commit something new, and answer every read; unless damage left
//! too few who can tell what they voted for. That excuse is checked, not believed.

use std::time::Duration;

use crate::types::ids::{ReplicaId, Slot};
use crate::types::membership::Membership;

use super::checkers::blocked::{Quorums, SLOTS_AHEAD, Voter, blocked_at};
use super::cores::Cores;

/// How long a healed cluster may take: 10 election timeouts.
pub const HEALED_MAX: Duration = Duration::from_millis(10 * 500);

/// Ends all faults, and waits until the cluster has come together. Returns whether it has; with too
/// much damage it need not.
///
/// # Panics
///
/// Where it must and does not, and where an invariant is broken on the way.
pub fn heal(cores: &mut Cores) -> bool {
    cores.links().heal();
    let end = cores.now() + HEALED_MAX;
    // At which ballot the new entry was proposed.
    let mut proposed = None;
    loop {
        if end <= cores.now() {
            assert!(is_blocked(cores), "V2: healed, and at odds after {HEALED_MAX:?}");
            return false;
        }
        // Who lacks entries waits until the others know them.
        cores.ids().into_iter().for_each(|id| cores.restart(id));
        cores.run(Duration::from_millis(50));
        let members = cores.checks().membership().members();
        let members = members.map(|member| member.id).collect::<Vec<_>>();
        let leader = members.iter().copied().find(|id| is_ready(cores, *id));
        let ballot = leader.and_then(|leader| cores.view(leader)?.leader);
        match (leader, proposed) {
            (Some(leader), None) => proposed = ballot.filter(|_| propose(cores, leader, &members)),
            // It was lost with who led.
            (Some(leader), Some(_)) if ballot != proposed && !is_fresh(cores, leader) => {
                proposed = None;
            }
            _ if is_fresh(cores, members[0]) && is_one(cores, &members) => return true,
            _ => {}
        }
    }
}

fn is_ready(cores: &Cores, id: ReplicaId) -> bool {
    cores.has_room(id) && cores.view(id).is_some_and(|view| view.ready)
}

/// Proposes the new entry, and has everyone read. Returns whether there was room.
fn propose(cores: &mut Cores, leader: ReplicaId, ids: &[ReplicaId]) -> bool {
    let taken = cores.propose(leader, "fresh");
    if taken {
        ids.iter().for_each(|id| assert!(cores.read(*id) > 0));
    }
    taken
}

/// Whether the replica knows the entry that was proposed after all faults.
fn is_fresh(cores: &Cores, id: ReplicaId) -> bool {
    let mut chosen = cores.chosen(id).iter();
    chosen.any(|entry| entry.commands().any(|command| command == b"fresh"))
}

/// Whether all know as much as the members do, or that they were removed, and no read of a member
/// waits.
fn is_one(cores: &Cores, members: &[ReplicaId]) -> bool {
    let count = cores.chosen(members[0]).len();
    let knows = |id: &ReplicaId| {
        let was_removed = || cores.membership_of(*id).removed().contains(id);
        cores.chosen(*id).len() == count || was_removed()
    };
    cores.ids().iter().all(knows) && members.iter().all(|id| cores.checks().reads_waiting(*id) == 0)
}

/// Whether the damage, though nothing chosen can be lost by it, is more than a cluster can go on
/// with before an operator replaces a replica: too few vote, or their answers about some slot do
/// not let any of them lead ([`blocked_at`]). Also where that holds of voters of whom it is not
/// known whether they are those who decide.
fn is_blocked(cores: &Cores) -> bool {
    let known = cores.ids().into_iter().filter_map(|id| Some(cores.view(id)?.slot_chosen));
    let next = known.max().unwrap_or_default();
    let mut deciding = cores.checks().deciding_from(next).into_iter();
    deciding.any(|membership| is_blocked_in(cores, &membership, next))
}

fn is_blocked_in(cores: &Cores, membership: &Membership, next: Slot) -> bool {
    let ids = membership.voters().iter().map(|voter| voter.id).collect::<Vec<_>>();
    let Some(doubts) = ids.iter().map(|id| cores.doubts(*id)).collect::<Option<Vec<_>>>() else {
        // It lost what nobody else knows to be chosen.
        return true;
    };
    let (phase1, phase2) = (membership.phase1() as usize, membership.phase2() as usize);
    let voters = ids.iter().zip(doubts).map(|(id, doubts)| {
        let voted = cores.checks().voted_from(*id, next).collect();
        Voter { doubts: doubts.clone(), voted }
    });
    let voters = voters.collect::<Vec<_>>();
    let voting = voters.iter().filter(|voter| !voter.doubts.promise_lost).count();
    let slots = (0..SLOTS_AHEAD).map(|ahead| next.plus(ahead));
    voting < phase2 || blocked_at(&voters, Quorums { phase1, phase2 }, slots).is_some()
}
