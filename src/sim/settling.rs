//! The end of a swarm: all is healed, and the cluster comes together (liveness).
//!
//! * **V1** a new write through each replica is committed.
//! * **V2** all replicas come to one log and one state, and nothing is in doubt; or it is proved
//!   that they cannot ([`blocked_at`]).
//! * **V7** of those that vote, one with the highest priority comes to lead.
//! * **V3, V5, V6** then there is quiet ([`calm`]).
//! * **V4** every call is answered in time.
//!
//! Where members come and go, this is demanded of those who belong to the newest membership. Who
//! was removed, or joined and was not made to belong, is switched off before the quiet.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::ids::{ReplicaId, Slot};
use crate::types::membership::{Member, Membership};
use crate::types::record::Doubts;

use super::checkers::Violation;
use super::checkers::blocked::{Quorums, SLOTS_AHEAD, Voter, blocked_at};
use super::checkers::calm::{self, Quiet};
use super::churn::Churn;
use super::network::Weather;
use super::swarm::Swarm;

impl Swarm {
    /// Everything works again, for good.
    pub(super) fn heal(&mut self) -> Result<(), Violation> {
        self.healed_at = self.sim.now();
        self.sim.heal();
        self.sim.set_weather(Weather::default());
        self.strikes.heal(&self.sim)
    }

    /// All replicas come to one log and one state, and everyone is answered (V1, V2, V4).
    pub(super) fn converge(&mut self) -> Result<(), Violation> {
        let patience = Duration::from_secs(60);
        let end = self.sim.now() + patience;
        loop {
            self.run_until(self.sim.now() + Duration::from_millis(100))?;
            self.strikes.undo_due(&self.sim)?;
            if let Some(churn) = &mut self.churn {
                churn.look();
            }
            if self.is_one() {
                break;
            }
            if end <= self.sim.now() {
                return Err(Violation::new("V2", self.apart()));
            }
        }
        self.check_preferred()?;
        self.round_at_peace = self.round();
        // A new write through each replica.
        let before = self.workload.committed;
        let members = self.members();
        for id in &members {
            if !self.sim.is_fenced(*id) {
                self.write_through(*id)?;
            }
        }
        if self.workload.committed == before && !members.is_empty() {
            return Err(Violation::new("V1", "no new write is committed"));
        }
        if self.plan.read_lease.is_some() {
            // As long as some are bound by an earlier lease, the others may campaign in vain.
            self.round_at_peace = self.round();
        }
        let end = self.sim.now() + patience;
        while !self.is_one() {
            self.run_until(self.sim.now() + Duration::from_millis(100))?;
            if end <= self.sim.now() {
                return Err(Violation::new("V2", self.apart()));
            }
        }
        Ok(())
    }

    /// Who belongs, as far as is chosen; all, where nothing is.
    fn members(&self) -> Vec<ReplicaId> {
        let members = self.sim.members();
        if members.is_empty() { self.strikes.ids().to_vec() } else { members }
    }

    /// One with the highest priority of those that vote leads, or comes to lead as soon as a leader
    /// must have handed over, whatever it tried before (V7). Where nobody leads, other checks tell.
    fn check_preferred(&mut self) -> Result<(), Violation> {
        let membership = self.sim.membership();
        let votes = |id: &ReplicaId| {
            !self.sim.is_fenced(*id)
                && membership.as_ref().is_none_or(|it| it.voter(*id).is_some())
                && self.sim.report(*id).is_some_and(|report| !report.doubts.promise_lost)
        };
        let voters = self.members().into_iter().filter(votes);
        let highest = voters.map(|id| self.plan.priority(id)).max().unwrap_or_default();
        let end = self.sim.now() + self.plan.election_timeout * PREFERRED_TIMEOUTS;
        loop {
            let leader = self.sim.leader();
            let preferred = leader.is_none_or(|id| self.plan.priority(id) == highest);
            if preferred && (leader.is_some() || end <= self.sim.now() || highest == 0) {
                return Ok(());
            }
            if end <= self.sim.now() {
                let event = format!("{leader:?} leads, and one of priority {highest} could");
                return Err(Violation::new("V7", event));
            }
            self.run_until(self.sim.now() + Duration::from_millis(100))?;
            self.strikes.undo_due(&self.sim)?;
        }
    }

    /// A new write through a replica, as long as it belongs: a change that was asked for before,
    /// and of which nobody waits to hear any more, may still be made.
    fn write_through(&mut self, id: ReplicaId) -> Result<(), Violation> {
        let (replica, value) = (self.sim.replica(id), [id.0 as u8 - 1]);
        let mut write = replica.put(LAST, 1, &value);
        let end = self.sim.now() + Duration::from_secs(30);
        loop {
            self.run_until(self.sim.now() + Duration::from_millis(20))?;
            if !self.members().contains(&id) {
                return Ok(());
            }
            match write.wait_timeout(Duration::ZERO) {
                Some(Ok(_)) => {
                    self.workload.committed += 1;
                    return Ok(());
                }
                Some(Err(err)) if end <= self.sim.now() => {
                    return Err(Violation::new("V1", format!("{id} does not commit: {err}")));
                }
                Some(Err(_)) => write = replica.put(LAST, 1, &value),
                None if end <= self.sim.now() => {
                    let report = self.sim.report(id);
                    let why = report.map_or("it is down".into(), |report| report.why_late());
                    return Err(Violation::new("V4", format!("{id} does not answer: {why}")));
                }
                None => {}
            }
        }
    }

    /// Whether all replicas are up and stand at the same slot, and nobody waits. One whose disk was
    /// set back must know of it, and is left out; no other may be taken for such a one.
    fn is_one(&self) -> bool {
        let ids = self.members();
        let (fenced, others): (Vec<_>, Vec<_>) =
            ids.iter().partition(|id| self.sim.is_fenced(**id));
        let known = ids.iter().all(|id| self.sim.was_set_back(*id) == fenced.contains(&id));
        let slots = others.iter().map(|id| self.sim.slot_chosen(**id)).collect::<Vec<_>>();
        let one = slots.iter().all(|slot| *slot == slots[0] && *slot > Slot::ZERO);
        let whole = |id: &&ReplicaId| {
            self.sim.report(**id).is_some_and(|report| {
                let told = !is_in_doubt(&report.doubts, slots[0]) && report.repair.is_none();
                report.stopped.is_none() && report.fenced_by.is_none() && told
            })
        };
        known && one && others.iter().all(whole) && self.waiting() == 0
    }

    /// Whether nothing can be chosen any more, and must not be: the journals of so many replicas
    /// cannot tell what they voted for that no leader can know what is safe.
    /// It takes damage on one replica and a torn end on others at the same time.
    pub(super) fn is_blocked(&self) -> bool {
        let ids = self.sim.ids();
        let next = ids.iter().map(|id| self.sim.slot_chosen(*id)).max().unwrap_or_default();
        let fenced = ids.iter().copied().filter(|id| self.sim.is_fenced(*id));
        let fenced = fenced.collect::<Vec<_>>();
        let world = self.sim.lock();
        let is_blocked_in = |membership: &Membership| {
            let voters = membership.voters().iter().map(|Member { id, .. }| {
                let mut doubts = world.judges.doubted.of(*id).cloned().unwrap_or_default();
                // It was set back, truly, and knows.
                doubts.promise_lost |= fenced.contains(id);
                let voted = world.witness.cast_from(*id, next).map(|(slot, _)| slot).collect();
                Voter { doubts, voted }
            });
            let (phase1, phase2) = (membership.phase1() as usize, membership.phase2() as usize);
            let quorums = Quorums { phase1, phase2 };
            let slots = (0..SLOTS_AHEAD).map(|ahead| next.plus(ahead));
            blocked_at(&voters.collect::<Vec<_>>(), quorums, slots).is_some()
        };
        // Of a change that is half made, nobody knows which of both decides.
        world.witness.deciding_from(next).iter().any(is_blocked_in)
    }

    /// How many calls are not answered.
    fn waiting(&self) -> usize {
        let changes = self.churn.as_ref().is_some_and(Churn::waits);
        self.workload.waiting() + usize::from(changes)
    }

    /// Also where a cluster stands still, everyone is answered in time (V4).
    pub(super) fn check_answered(&self) -> Result<(), Violation> {
        match self.waiting() {
            0 => Ok(()),
            waiting => {
                let event = format!("the cluster is blocked, and {waiting} are not answered");
                Err(Violation::new("V4", event))
            }
        }
    }

    /// Nobody asks for anything any more: nothing happens but heartbeats (V3, V5, V6).
    pub(super) fn check_calm(&mut self) -> Result<(), Violation> {
        let members = self.members();
        let gone = self.sim.ids().into_iter().filter(|id| !members.contains(id));
        self.strikes.retire(&self.sim, &gone.collect::<Vec<_>>());
        let late = self.healed_at + LATEST;
        self.run_until(late.max(self.sim.now() + TO_SETTLE))?;
        // What was late may have moved the leader, and then the preferred one is asked once more.
        let round = self.round();
        self.check_preferred()?;
        if self.round() > round {
            self.round_at_peace += self.round() - round;
            self.run_until(self.sim.now() + TO_SETTLE)?;
        }
        self.sim.lock().judges.sent = Some(BTreeMap::new());
        self.run_until(self.sim.now() + QUIET)?;
        // What a fenced one asks, nobody answers.
        let others = members.into_iter().filter(|id| !self.sim.is_fenced(*id));
        let others = others.collect::<Vec<_>>();
        let sent = self.sim.lock().judges.sent.take();
        // A timer may have had something written just now: trimming has, and a seal comes behind.
        let writes = |id: &ReplicaId| self.sim.unfinished(*id).is_some_and(|left| left.writes);
        if others.iter().any(writes) {
            self.run_until(self.sim.now() + QUIET)?;
        }
        let world = self.sim.lock();
        let mut sent = sent.unwrap_or_default();
        sent.retain(|(id, _), _| others.contains(id));
        let lives = others.iter().filter_map(|id| Some((*id, world.machine(*id).life.as_ref()?)));
        let unfinished = lives.map(|(id, life)| (id, life.driver.unfinished())).collect();
        let lease = |id: &ReplicaId| world.machine(*id).settings.driver.read_lease;
        let leases = others.iter().filter_map(|id| Some((*id, lease(id)?))).collect();
        drop(world);
        let rounds = self.round().saturating_sub(self.round_at_peace);
        let members = self.members().len() as u64;
        calm::check(&Quiet { rounds, sent, time: QUIET, members, leases, unfinished })
    }

    /// The highest round that anybody promised.
    fn round(&self) -> u64 {
        let members = self.members();
        let views = members.iter().filter_map(|id| self.sim.report(*id)?.view);
        views.map(|view| view.promised.round).max().unwrap_or_default()
    }

    fn apart(&self) -> String {
        let replicas = self.members().into_iter().map(|id| {
            let report = self.sim.report(id);
            let stopped = report.as_ref().and_then(|report| report.stopped.clone());
            let refusal = self.sim.refusal(id);
            let repair = report.as_ref().and_then(|report| report.repair);
            let doubts = report.as_ref().map(|report| report.doubts.clone());
            let view = report.and_then(|report| report.view);
            format!("{id}: {view:?} stopped {stopped:?} refused {refusal:?} {doubts:?} {repair:?}")
        });
        let replicas = replicas.collect::<Vec<_>>().join("; ");
        format!("the replicas do not come together, {} wait: {replicas}", self.waiting())
    }
}

/// Whether a replica that knows all slots below `slot_chosen` still has to learn what it lost. One
/// that lost its promise votes nowhere any more, so nothing ever ends its doubts from there on.
fn is_in_doubt(doubts: &Doubts, slot_chosen: Slot) -> bool {
    let Doubts { promise_lost, faulty, uncertain } = doubts;
    let firsts = faulty.first().into_iter().chain(uncertain.first());
    firsts.min().is_some_and(|first| !promise_lost || first < slot_chosen)
}

const LAST: crate::RawTable<u64> = crate::RawTable::new("last");

/// A leader hands over to who is preferred after eight times ten election timeouts at the latest;
/// that one may be heard late, and is given time for it.
const PREFERRED_TIMEOUTS: u32 = 90;

/// Time for what is under way to end, and for the journals to be sealed.
const TO_SETTLE: Duration = Duration::from_secs(5);

/// What was sent through a clogged link, on a slow network, has arrived by then.
const LATEST: Duration = Duration::from_secs(15);

/// How long nothing may happen.
const QUIET: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::super::machine::Settings;
    use super::super::swarm::Limits;
    use super::*;

    /// How a cluster of three comes together after nothing went wrong, where replica 2 gives its
    /// callers so long.
    fn converge(request_timeout: Duration) -> Result<(), Violation> {
        let swarms = (0..).map(|seed| Swarm::new(seed, &Limits::default()));
        let mut plain = swarms.filter(|it| it.plan.replicas == 3 && it.churn.is_none());
        let mut swarm = plain.next().expect("most seeds are such");
        let change = |settings: &mut Settings| settings.driver.request_timeout = request_timeout;
        swarm.sim.change_settings(2, change);
        swarm.heal()?;
        swarm.converge()
    }

    #[test]
    fn a_replica_through_which_no_write_commits_is_told() {
        assert_eq!(converge(Duration::from_secs(5)), Ok(()));
        // Every call is answered, and none with what the caller waits for.
        let Violation { invariant, event } = converge(Duration::from_micros(1)).unwrap_err();
        assert_eq!(invariant, "V1", "{event}");
        assert!(event.starts_with("2 does not commit: "), "{event}");
    }
}
