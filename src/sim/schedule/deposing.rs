//! A leader is replaced behind its back, and gets on with what it was about. All that it does then
//! is late, and must do no harm.

use std::time::Duration;

use crate::paxos::step::RoleName;
use crate::sim::links::{Filter, Link};
use crate::types::ids::ReplicaId;

use super::Schedule;

impl Schedule {
    /// Makes a rival lead behind a leader's back. Before it hears of that, the deposed leader, and
    /// who is on its side, get on.
    pub(super) fn depose(&mut self, ids: &[ReplicaId]) {
        if self.rng.per_mille(300) {
            self.lead_late(ids);
        }
        let leads =
            |id: &ReplicaId| self.cores.view(*id).is_some_and(|view| view.role == RoleName::Leader);
        let leaders = ids.iter().copied().filter(leads).collect::<Vec<_>>();
        if leaders.is_empty() {
            return;
        }
        let deposed = *self.rng.pick(&leaders);
        let behind = self.side_of(deposed, ids);
        let ahead = ids.iter().copied().filter(|id| !behind.contains(id)).collect::<Vec<_>>();
        if ahead.is_empty() {
            return;
        }
        let rival = *self.rng.pick(&ahead);
        self.use_leader(deposed);
        if self.rng.per_mille(500) {
            self.reach(deposed, &behind);
        }
        for _ in 0..self.rng.below(8) {
            self.deliver(false);
        }
        let links = behind.iter().flat_map(|one| {
            let across = |other: &ReplicaId| {
                let link = Link { from: *one, to: *other };
                [link, Link { from: *other, to: *one }]
            };
            ahead.iter().flat_map(across).collect::<Vec<_>>()
        });
        let links = links.collect::<Vec<_>>();
        links.iter().for_each(|link| self.cores.links().hold(*link));
        self.cores.campaign(rival);
        self.cores.stabilize();
        for _ in 0..self.rng.below(4) {
            self.propose(&[rival]);
        }
        self.cores.stabilize();
        self.use_leader(deposed);
        if self.rng.per_mille(700) && self.ask_again(deposed, &ahead) {
            self.cores.advance(Duration::from_millis(self.rng.below(200)));
            self.reach(deposed, &behind);
        }
        // The rival itself is not heard for a while.
        for link in links.iter().filter(|link| link.from != rival && link.to != rival) {
            self.cores.links().mend(*link);
        }
    }

    /// Makes a replica lead that missed something, so that it had to ask for it.
    fn lead_late(&mut self, ids: &[ReplicaId]) {
        let late = *self.rng.pick(ids);
        let others = ids.iter().filter(|id| **id != late);
        let links = others.map(|id| Link { from: *id, to: late }).collect::<Vec<_>>();
        links.iter().for_each(|link| self.cores.links().cut(*link));
        self.propose(ids);
        self.cores.stabilize();
        links.iter().for_each(|link| self.cores.links().mend(*link));
        self.cores.campaign(late);
        for _ in 0..self.rng.within(20..=60) {
            self.deliver(true);
            ids.iter().for_each(|id| self.cores.sync(*id));
        }
    }

    /// A leader, and some who will hear of the next one no sooner: mostly no more than the others
    /// can elect somebody without.
    fn side_of(&mut self, leader: ReplicaId, ids: &[ReplicaId]) -> Vec<ReplicaId> {
        let membership = &self.cores.cluster().membership;
        let quorum = membership.phase1().max(membership.phase2()) as usize;
        let most = if self.rng.per_mille(800) { ids.len() - quorum } else { ids.len() };
        let mut side = vec![leader];
        for id in ids.iter().filter(|id| **id != leader) {
            if side.len() < most && self.rng.per_mille(500) {
                side.push(*id);
            }
        }
        side
    }

    /// A question of long ago, for what is chosen, arrives once more, and its answer at once.
    /// Returns whether there was one.
    fn ask_again(&mut self, id: ReplicaId, others: &[ReplicaId]) -> bool {
        let asked = self.asked.iter().filter(|(link, _)| link.from == id);
        let asked = asked.filter(|(link, _)| others.contains(&link.to));
        let asked = asked.map(|(link, question)| (*link, question.clone())).collect::<Vec<_>>();
        if asked.is_empty() {
            return false;
        }
        let (link, question) = self.rng.pick(&asked).clone();
        self.cores.inject(link, question);
        let (from, to, kind) = (Some(link.to), Some(id), Some("Chosen".into()));
        self.cores.deliver(&Filter { from, to, kind });
        true
    }

    /// What one says to some others arrives.
    pub(super) fn reach(&mut self, one: ReplicaId, others: &[ReplicaId]) {
        for to in others {
            self.cores.deliver(&Filter { from: Some(one), to: Some(*to), kind: None });
        }
    }

    fn use_leader(&mut self, leader: ReplicaId) {
        if self.rng.per_mille(700) {
            assert!(self.cores.read(leader) > 0);
        }
        if self.rng.per_mille(500) {
            self.propose(&[leader]);
        }
    }
}
