//! A leader that holds a lease is cut off, and the others elect another one as soon as they may.
//! Then it is asked to read.

use std::time::Duration;

use crate::paxos::step::RoleName;
use crate::sim::links::{Filter, Link};
use crate::types::ids::ReplicaId;
use crate::types::message::Message;

use super::Schedule;

/// How often the others try.
const TRIES: u64 = 12;

impl Schedule {
    /// Tries to make somebody lead while another one holds a lease.
    pub(super) fn usurp(&mut self, ids: &[ReplicaId]) {
        let Some(length) = self.cores.cluster().read_lease else { return };
        if self.rng.per_mille(700) {
            self.cores.links().heal();
            self.cores.stabilize();
        }
        let Some(holder) = self.leader_among(ids) else { return };
        let others = ids.iter().copied().filter(|id| *id != holder).collect::<Vec<_>>();
        if self.rng.per_mille(300) {
            let starved = *self.rng.pick(&others);
            self.starve(holder, starved, length);
        }
        if self.rng.per_mille(400) {
            self.answer_late(holder, &others, length);
        }
        self.give_up_again(holder);
        if self.rng.per_mille(300) {
            self.hand_over_unheard(holder, &others);
        }
        let links = others
            .iter()
            .flat_map(|id| [Link { from: holder, to: *id }, Link { from: *id, to: holder }]);
        let links = links.collect::<Vec<_>>();
        links.iter().for_each(|link| self.cores.links().hold(*link));
        if self.rng.per_mille(300) {
            for id in &others {
                if self.rng.per_mille(700) {
                    self.cores.crash(*id);
                    self.cores.restart(*id);
                }
            }
        }
        self.elect(holder, &others, length);
        if self.rng.per_mille(500) {
            self.renew(holder, &others);
            assert!(self.cores.read(holder) > 0);
        }
        if self.rng.per_mille(700) {
            links.iter().for_each(|link| self.cores.links().mend(*link));
        }
    }

    /// Whoever can be elected is, and learns something new, of which the holder does not hear.
    fn elect(&mut self, holder: ReplicaId, others: &[ReplicaId], length: Duration) {
        let asks_nobody = self.rng.per_mille(300);
        self.cores.advance(self.rng.time(Duration::ZERO..=length));
        for _ in 0..self.rng.within(1..=TRIES) {
            self.cores.advance(self.rng.time(Duration::ZERO..=length / 10));
            let rival = *self.rng.pick(others);
            self.cores.campaign(rival);
            self.settle(others, asks_nobody);
            let Some(leader) = self.leader_among(others) else { continue };
            let before = self.cores.checks().learned();
            self.propose(&[leader]);
            self.settle(others, asks_nobody);
            if before < self.cores.checks().learned() {
                assert!(self.cores.read(holder) > 0);
                return;
            }
        }
    }

    /// All arrives that these say to each other; where they are to ask for no lease, but that.
    fn settle(&mut self, ids: &[ReplicaId], asks_nobody: bool) {
        if !asks_nobody {
            return self.cores.stabilize();
        }
        for _ in 0..6 {
            ids.iter().for_each(|id| self.cores.sync(*id));
            for from in ids {
                for to in ids {
                    let filter = |kind: Option<&str>| Filter {
                        from: Some(*from),
                        to: Some(*to),
                        kind: kind.map(Into::into),
                    };
                    self.cores.drop_messages(&filter(Some("Renew")));
                    self.cores.deliver(&filter(None));
                }
            }
        }
    }

    /// What it asked for meanwhile arrives, and so do the answers; perhaps nothing else.
    fn renew(&mut self, holder: ReplicaId, others: &[ReplicaId]) {
        let only = self.rng.per_mille(700);
        let kind = |kind: &str| only.then(|| kind.into());
        for id in others {
            let (holder, id) = (Some(holder), Some(*id));
            self.cores.deliver(&Filter { from: holder, to: id, kind: kind("Renew") });
            self.cores.deliver(&Filter { from: id, to: holder, kind: kind("Granted") });
        }
    }

    /// One of them is granted nothing for more than a lease.
    fn starve(&mut self, holder: ReplicaId, starved: ReplicaId, length: Duration) {
        let link = Link { from: holder, to: starved };
        self.cores.links().hold(link);
        self.cores.run(length * 6 / 5);
        let (from, to) = (Some(holder), Some(starved));
        self.cores.drop_messages(&Filter { from, to, kind: Some("Renew".into()) });
        self.cores.links().mend(link);
    }

    /// The holder asks, and is answered late.
    fn answer_late(&mut self, holder: ReplicaId, others: &[ReplicaId], length: Duration) {
        let links = others.iter().map(|id| Link { from: *id, to: holder }).collect::<Vec<_>>();
        links.iter().for_each(|link| self.cores.links().hold(*link));
        self.cores.run(length / 3);
        self.cores.advance(self.rng.time(Duration::ZERO..=length * 2 / 3));
        for link in &links {
            self.cores.links().mend(*link);
            self.reach(link.from, &[holder]);
        }
    }

    /// It hands over; what it gave up is heard, or is not, or much later.
    fn hand_over_unheard(&mut self, holder: ReplicaId, others: &[ReplicaId]) {
        let successor = *self.rng.pick(others);
        self.cores.hand_over(holder, successor, false);
        for to in others {
            let link = Link { from: holder, to: *to };
            let said = (0..).map_while(|index| self.cores.links().peek_at(link, index).cloned());
            let gives_up = |message: &Message| matches!(message, Message::Renew { millis: 0, .. });
            let released = said.filter(gives_up).map(|message| (link, message));
            let released = released.collect::<Vec<_>>();
            self.released.extend(released);
        }
        match self.rng.below(3) {
            0 => self.reach(holder, others),
            1 => others.iter().for_each(|to| {
                let (from, to) = (Some(holder), Some(*to));
                self.cores.drop_messages(&Filter { from, to, kind: None });
            }),
            _ => {}
        }
        if self.rng.per_mille(500) {
            self.cores.run(Duration::from_millis(600));
        }
    }

    /// What gave a lease up long ago arrives once more.
    fn give_up_again(&mut self, holder: ReplicaId) {
        for (link, message) in std::mem::take(&mut self.released) {
            match link.from == holder && self.rng.per_mille(700) {
                true => self.cores.inject(link, message),
                false => self.released.push((link, message)),
            }
        }
    }

    fn leader_among(&mut self, ids: &[ReplicaId]) -> Option<ReplicaId> {
        let leads =
            |id: &ReplicaId| self.cores.view(*id).is_some_and(|view| view.role == RoleName::Leader);
        let leaders = ids.iter().copied().filter(leads).collect::<Vec<_>>();
        (!leaders.is_empty()).then(|| *self.rng.pick(&leaders))
    }
}
