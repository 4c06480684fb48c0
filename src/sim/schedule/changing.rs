//! Members that come and go: observers become voters, and voters go for good.
//!
//! Some are asked for at any time, by any leader that may. All sizes of quorums that a membership
//! can have occur.

use std::time::Duration;

use crate::sim::links::{Filter, Link};
use crate::types::ids::ReplicaId;
use crate::types::membership::{Member, Membership, MembershipError};

use super::Schedule;

impl Schedule {
    /// Every leader that may change the membership is asked to, to one drawn for it.
    pub(super) fn change(&mut self, ids: &[ReplicaId]) {
        match self.rng.below(20) {
            0 => return self.contest(),
            1 => return self.overtake(ids),
            2 => return self.supersede(),
            _ => {}
        }
        for id in ids {
            let present = self.cores.membership_of(*id);
            if self.cores.can_change(*id)
                && let Ok(next) = self.draw_successor(&present)
            {
                self.cores.change(*id, next);
            }
        }
    }

    /// Two campaign, and the one that leads changes the membership. The other one hears only that
    /// it was changed, and is the first that the new voters hear.
    fn contest(&mut self) {
        let present = self.cores.checks().membership().clone();
        let ids = |members: &[Member]| members.iter().map(|member| member.id).collect::<Vec<_>>();
        let (voters, observers) = (ids(present.voters()), ids(present.observers()));
        let loser = *self.rng.pick(&voters);
        let others = voters.iter().copied().filter(|id| *id != loser).collect::<Vec<_>>();
        if others.len() < 2 || observers.is_empty() {
            return;
        }
        let winner = *self.rng.pick(&others);
        let late = std::iter::once(loser).chain(observers.iter().copied()).collect::<Vec<_>>();
        let links = self.part(&others, &late);
        self.cores.campaign(loser);
        self.cores.sync(loser);
        for _ in 0..self.rng.within(1..=2) {
            self.cores.campaign(winner);
        }
        self.cores.stabilize();
        self.propose(&[winner]);
        let stays = self.rng.per_mille(500);
        let gone = others.iter().filter(|id| **id != winner || !stays);
        let promoted = observers.iter().try_fold(present, |next, id| next.with_voter(*id));
        let next =
            promoted.and_then(|next| gone.copied().try_fold(next, |next, id| next.without(id)));
        if let Ok(next) = next {
            self.cores.change(winner, next);
        }
        self.cores.stabilize();
        self.cores.advance(Duration::from_millis(150));
        let third = *self.rng.pick(&others);
        let told = [(third, loser, "Heartbeat"), (loser, third, "Fetch"), (third, loser, "Chosen")];
        for (from, to, kind) in told {
            let kind = Some(kind.into());
            self.cores.deliver(&Filter { from: Some(from), to: Some(to), kind });
        }
        self.cores.stabilize();
        self.propose(&[loser]);
        self.cores.stabilize();
        links.iter().for_each(|link| self.cores.links().mend(*link));
        self.propose(&[winner]);
    }

    /// A leader changes the membership, and gets on with the new voters before the old ones hear
    /// that the change is made. One of these leads next, and finds it half made.
    fn overtake(&mut self, ids: &[ReplicaId]) {
        let present = self.cores.checks().membership().clone();
        let id = |member: &Member| member.id;
        let leader = present.voters().iter().map(id).find(|id| self.cores.can_change(*id));
        let Some(leader) = leader else { return };
        let others = present.voters().iter().map(id).filter(|id| *id != leader).collect::<Vec<_>>();
        let observers = present.observers().iter().map(id).collect::<Vec<_>>();
        if others.is_empty() || observers.is_empty() {
            return;
        }
        let rival = *self.rng.pick(&others);
        let next = observers.iter().try_fold(present, |next, id| next.with_voter(*id));
        let mut gone = others.iter().filter(|id| **id != rival).copied();
        let next = next.and_then(|next| gone.try_fold(next, |next, id| next.without(id)));
        let Ok(next) = next else { return };
        self.cores.change(leader, next);
        for kind in ["Prepare", "Promise", "Accept"] {
            ids.iter().for_each(|id| self.cores.sync(*id));
            self.cores.deliver(&Filter { from: None, to: None, kind: Some(kind.into()) });
        }
        ids.iter().for_each(|id| self.cores.sync(*id));
        let ahead = std::iter::once(leader).chain(observers.iter().copied()).collect::<Vec<_>>();
        let links = self.part(&ahead, &others);
        self.cores.deliver(&Filter { from: None, to: Some(leader), kind: Some("Accepted".into()) });
        self.propose(&[leader]);
        for (to, kind) in [(None, "Accept"), (Some(leader), "Accepted")] {
            ids.iter().for_each(|id| self.cores.sync(*id));
            self.cores.deliver(&Filter { from: None, to, kind: Some(kind.into()) });
        }
        let apart = self.part(&[leader], &observers);
        links.iter().filter(|link| link.from != leader && link.to != leader).for_each(|link| {
            self.cores.links().mend(*link);
        });
        self.cores.campaign(rival);
        self.cores.stabilize();
        self.propose(&[rival]);
        self.cores.stabilize();
        links.iter().chain(&apart).for_each(|link| self.cores.links().mend(*link));
    }

    /// What some and others say to each other stays on its way, on these links.
    pub(super) fn part(&mut self, some: &[ReplicaId], others: &[ReplicaId]) -> Vec<Link> {
        let across = |one: &ReplicaId| {
            let both = |other: &ReplicaId| {
                [Link { from: *one, to: *other }, Link { from: *other, to: *one }]
            };
            others.iter().flat_map(both).collect::<Vec<_>>()
        };
        let links = some.iter().flat_map(across).collect::<Vec<_>>();
        links.iter().for_each(|link| self.cores.links().hold(*link));
        links
    }

    /// One to three steps away from `present`.
    fn draw_successor(&mut self, present: &Membership) -> Result<Membership, MembershipError> {
        let mut next = present.clone();
        for _ in 0..self.rng.within(1..=3) {
            let voters = next.voters().len() as u64;
            let members = next.members().map(|member| member.id).collect::<Vec<_>>();
            let observers = next.observers().iter().map(|member| member.id).collect::<Vec<_>>();
            let strangers = self.cores.cluster().strangers().into_iter();
            let strangers =
                strangers.filter(|stranger| next.with_observer(stranger.clone()).is_ok());
            let strangers = strangers.collect::<Vec<_>>();
            next = match self.rng.below(6) {
                4 | 5 if !strangers.is_empty() => {
                    next.with_observer(self.rng.pick(&strangers).clone())?
                }
                0 | 1 if !observers.is_empty() => next.with_voter(*self.rng.pick(&observers))?,
                2 => next.without(*self.rng.pick(&members))?,
                _ => {
                    let phase2 = self.rng.within(1..=voters);
                    let phase1 = self.rng.within(voters + 1 - phase2..=voters);
                    next.with_quorums(phase1 as u32, phase2 as u32)?
                }
            };
        }
        Ok(next)
    }
}
