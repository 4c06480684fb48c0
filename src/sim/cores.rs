//! A cluster of protocol cores, in one thread and in the caller's hands.
//!
//! ```text
//!   step ---> core ---> records ---> journal --- sync ---> held messages ---+
//!    ^                  messages --------------------------------------+    |
//!    |                                                                 v    v
//!    +--- deliver ------------------------------------------------- links
//! ```
//!
//! Nothing happens unasked: records are volatile until [`Cores::sync`], messages wait on their link
//! until they are delivered, and cores tick only when time [advances](Cores::advance). Messages
//! that a core sends to itself come back within the sync that released them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::paxos::Paxos;
use crate::paxos::step::{
    Input, LeaseOptions, Options, Output, ReadBarrier, RoleName, Serve, View,
};
use crate::types::edition::Edition;
use crate::types::entry::{Entry, EntryBuilder};
use crate::types::ids::{Boot, Incarnation, Lsn, ReplicaId, Slot};
use crate::types::membership::Membership;
use crate::types::message::{Chosen, Envelope, Message};
use crate::types::record::Held;
use crate::types::time::{Moment, Time};

use super::checks::Checks;
use super::cluster::Cluster;
use super::journal::MemoryJournal;
use super::lines;
use super::links::{Filter, Link, Links};

/// So many steps without coming to rest are a loop.
const STEPS_MAX: usize = 1_000_000;

/// Protocol cores, their journals in memory, and the links between them. A method that is told of a
/// replica that is not there panics.
#[derive(Debug)]
pub struct Cores {
    cluster: Cluster,
    pub(super) first: Entry,
    pub(super) now: Moment,
    pub(super) replicas: BTreeMap<ReplicaId, Replica>,
    links: Links,
    last_link: Option<Link>,
    pub(super) checks: Checks,
    trace: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Replica {
    /// `None` while it is down.
    pub(super) core: Option<Paxos>,
    pub(super) journal: MemoryJournal,
    /// What waits for the journal to be durable up to a position.
    pub(super) held: VecDeque<(Lsn, Held)>,
    pub(super) openings: u64,
    /// The entries of all slots that it knows to be chosen, from slot 0 on.
    pub(super) chosen: Vec<Entry>,
    /// While it waits for entries that it lost: those that it has.
    pub(super) repairing: Option<BTreeMap<Slot, Entry>>,
    /// What peers lack.
    pub(super) serves: VecDeque<Serve>,
    pub(super) wake_at: Option<Moment>,
    pub(super) reads: u64,
    pub(super) role: Option<RoleName>,
}

impl Cores {
    /// A formed cluster whose log holds only the membership, all replicas up.
    #[must_use]
    pub fn new(cluster: Cluster) -> Self {
        let first = Entry::membership(&cluster.membership);
        let checks = Checks::new(cluster.membership.clone());
        let replicas = cluster.ids().into_iter().map(|id| (id, Replica::default())).collect();
        let (links, trace) = (Links::default(), Vec::new());
        let now = Moment::ZERO;
        let mut cores =
            Self { cluster, first, now, replicas, links, last_link: None, checks, trace };
        for id in cores.ids() {
            cores.restart(id);
        }
        cores
    }

    // What happens at a replica.

    /// The replica campaigns.
    pub fn campaign(&mut self, id: ReplicaId) {
        self.step(id, Input::Campaign);
    }

    /// The replica hands over to `to`, if it leads and can; as one whose disk is `stalled`, or not.
    pub fn hand_over(&mut self, id: ReplicaId, to: ReplicaId, stalled: bool) {
        self.step(id, Input::HandOver { to, stalled });
    }

    /// The replica proposes an entry with one command, if it leads and has room. Returns whether.
    pub fn propose(&mut self, id: ReplicaId, command: &str) -> bool {
        let Some(core) = &self.replica(id).core else { return false };
        if !core.has_room() {
            return false;
        }
        let mut builder = EntryBuilder::new(Time(0), command.len());
        builder.push(command.as_bytes());
        self.step(id, Input::Propose(builder.finish()));
        true
    }

    /// The replica makes `membership` count, if it may change it, and that may follow the present
    /// one.
    pub fn change(&mut self, id: ReplicaId, membership: Membership) {
        let next = membership.following(&self.membership_of(id));
        self.step(id, Input::Change(next));
    }

    /// The membership that governs the first slot that the replica does not know to be chosen.
    #[must_use]
    pub fn membership_of(&self, id: ReplicaId) -> Membership {
        let first = self.cluster.membership.clone();
        let chosen = self.replica(id).chosen.iter();
        chosen.fold(first, |present, entry| entry.membership_after(&present).unwrap_or(present))
    }

    /// A linearizable read begins at the replica. Returns its number.
    pub fn read(&mut self, id: ReplicaId) -> u64 {
        let replica = self.replica_mut(id);
        replica.reads += 1;
        let read = replica.reads;
        if replica.core.is_some() {
            self.checks.on_read(id, read);
            self.step(id, Input::Read(read));
        }
        read
    }

    /// Everything appended at the replica becomes durable.
    pub fn sync(&mut self, id: ReplicaId) {
        self.sync_some(id, usize::MAX);
    }

    /// The oldest `count` of the volatile records become durable.
    pub fn sync_some(&mut self, id: ReplicaId, count: usize) {
        if self.replica(id).core.is_none() {
            return;
        }
        let replica = self.replicas.get_mut(&id).expect("the replica exists");
        let volatile = replica.journal.volatile();
        let records = replica.journal.sync(count);
        let whole = records.len() == volatile;
        for record in records {
            self.checks.on_durable(id, record);
        }
        if volatile > 0 {
            self.tell(|cores| {
                format!("{} {}", cores.name(id), if whole { "sync" } else { "sync of some" })
            });
        }
        self.release(id);
    }

    /// The connection of `id` to `peer` ends.
    pub fn peer_down(&mut self, id: ReplicaId, peer: ReplicaId) {
        self.step(id, Input::PeerDown(peer));
    }

    /// A message that nobody sent arrives.
    pub fn inject(&mut self, link: Link, message: Message) {
        self.tell(|_| format!("{} ⇢ {} {}", link.from, link.to, lines::message(&message)));
        self.step(link.to, Input::Message { from: link.from, message });
    }

    // The network.

    /// Delivers every waiting message that is meant, in order of links. Returns how many.
    pub fn deliver(&mut self, filter: &Filter) -> usize {
        let messages = self.links.take(filter, false);
        let count = messages.len();
        for (link, message) in messages {
            self.arrive(link, message);
        }
        count
    }

    /// Delivers the message at `index` of a link.
    pub fn deliver_at(&mut self, link: Link, index: usize) {
        if let Some(message) = self.links.take_at(link, index) {
            self.arrive(link, message);
        }
    }

    /// Loses every waiting message that is meant.
    pub fn drop_messages(&mut self, filter: &Filter) {
        for (link, message) in self.links.take(filter, false) {
            self.tell_message(link, "⇥", &message);
        }
    }

    /// Delivers a copy of every waiting message that is meant.
    pub fn duplicate(&mut self, filter: &Filter) {
        for (link, message) in self.links.take(filter, true) {
            self.arrive(link, message);
        }
    }

    /// The network itself, for schedules that choose message by message.
    pub fn links(&mut self) -> &mut Links {
        &mut self.links
    }

    // Time.

    /// Time passes: every core ticks whenever it asked to. Nothing is synced or delivered.
    pub fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        while self.tick_next(end) {
            steps += 1;
            assert!(steps < STEPS_MAX, "a core asks to be woken again and again at {:?}", self.now);
        }
        self.now = end;
    }

    /// Time passes, and every sync and every message takes none of it.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.stabilize();
        while self.tick_next(end) {
            self.stabilize();
        }
        self.now = end;
    }

    /// Syncs and delivers until nothing is left to do at this moment.
    pub fn stabilize(&mut self) {
        for _ in 0..STEPS_MAX {
            for id in self.ids() {
                self.sync(id);
            }
            let Some((link, message)) = self.links.take_next(self.last_link) else {
                let volatile = |replica: &Replica| replica.journal.volatile() > 0;
                if self.replicas.values().any(volatile) {
                    continue;
                }
                return;
            };
            self.last_link = Some(link);
            self.arrive(link, message);
        }
        panic!("the cluster does not come to rest: {:?}", self.trace.last());
    }

    // What there is to see.

    /// All replicas.
    #[must_use]
    pub fn ids(&self) -> Vec<ReplicaId> {
        self.replicas.keys().copied().collect()
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.now
    }

    /// What the core tells about itself; `None` while it is down.
    #[must_use]
    pub fn view(&self, id: ReplicaId) -> Option<View> {
        self.replica(id).core.as_ref().map(Paxos::view)
    }

    /// Whether the replica is up, leads, and may propose.
    #[must_use]
    pub fn has_room(&self, id: ReplicaId) -> bool {
        self.replica(id).core.as_ref().is_some_and(Paxos::has_room)
    }

    pub(super) fn core(&self, id: ReplicaId) -> Option<&Paxos> {
        self.replica(id).core.as_ref()
    }

    /// The entries that the replica knows to be chosen, from slot 0 on.
    #[must_use]
    pub fn chosen(&self, id: ReplicaId) -> &[Entry] {
        &self.replica(id).chosen
    }

    /// How many records of the replica are volatile.
    #[must_use]
    pub fn volatile(&self, id: ReplicaId) -> usize {
        self.replica(id).journal.volatile()
    }

    /// How the cluster was made.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What the omniscient observer knows.
    #[must_use]
    pub fn checks(&self) -> &Checks {
        &self.checks
    }

    /// The replica, with its ballot where it leads or campaigns.
    #[must_use]
    pub fn name(&self, id: ReplicaId) -> String {
        lines::name(id, self.replica(id).core.as_ref())
    }

    /// The lines since the last call.
    pub fn take_trace(&mut self) -> Vec<String> {
        std::mem::take(&mut self.trace)
    }

    // Inside.

    pub(super) fn replica(&self, id: ReplicaId) -> &Replica {
        self.replicas.get(&id).unwrap_or_else(|| panic!("there is no replica {id}"))
    }

    pub(super) fn replica_mut(&mut self, id: ReplicaId) -> &mut Replica {
        self.replicas.get_mut(&id).unwrap_or_else(|| panic!("there is no replica {id}"))
    }

    pub(super) fn options(&self, id: ReplicaId, openings: u64) -> Options {
        let cluster = &self.cluster;
        Options {
            id,
            incarnation: Incarnation(u128::from(id.0)),
            boot: Boot { sequence: openings, nonce: id.0 << 32 | openings },
            membership: self.membership_of(id),
            seed: cluster.seed.wrapping_mul(1_000_003).wrapping_add(id.0 << 20 | openings),
            heartbeat_interval: cluster.heartbeat_interval,
            election_timeout: cluster.election_timeout,
            retransmit_interval: cluster.retransmit_interval,
            priority: cluster.priority(id),
            knows: Edition::KNOWN,
            lease: LeaseOptions {
                asked: cluster.read_lease,
                granted: cluster.read_lease,
                granted_before: cluster.read_lease.filter(|_| openings > 1).unwrap_or_default(),
            },
            inflight_slots_max: cluster.inflight_slots_max,
            inflight_bytes_max: 1 << 20,
            message_bytes_max: cluster.message_bytes_max,
        }
    }

    /// Ticks the core that is due first, if one is due by `end`.
    fn tick_next(&mut self, end: Moment) -> bool {
        let due = self.replicas.iter().filter_map(|(id, replica)| Some((replica.wake_at?, *id)));
        let Some((at, id)) = due.min().filter(|(at, _)| *at <= end) else { return false };
        self.now = self.now.max(at);
        self.step(id, Input::Tick);
        true
    }

    fn arrive(&mut self, link: Link, message: Message) {
        self.step(link.to, Input::Message { from: link.from, message });
    }

    pub(super) fn step(&mut self, id: ReplicaId, input: Input) {
        let (now, uptime) = (self.now, self.cluster.uptime(id, self.now));
        let Some(core) = &mut self.replica_mut(id).core else { return };
        core.set_uptime(uptime);
        let before = core.view().slot_chosen;
        core.step(now, input);
        let output = core.take_output();
        let wake_at = core.wake_at();
        let view = core.view();
        let after = view.slot_chosen;
        assert!(before <= after, "I8: replica {id} went back from slot {before} to {after}");
        if self.replica_mut(id).role.replace(view.role) != Some(view.role) {
            match view.role {
                RoleName::Follower => self.tell(|_| format!("{id} follows")),
                RoleName::Candidate => self.tell(|cores| format!("{} campaigns", cores.name(id))),
                RoleName::Leader => self.tell(|cores| format!("{} leads", cores.name(id))),
            }
        }
        self.replica_mut(id).wake_at = Some(wake_at);
        self.take_in(id, output, after);
    }

    fn take_in(&mut self, id: ReplicaId, output: Output, slot_chosen: Slot) {
        for record in &output.records {
            self.tell(|cores| format!("{} journal {}", cores.name(id), lines::record(record)));
        }
        let divergence = output.divergence;
        assert!(divergence.is_none(), "I10: replica {id} differs: {divergence:?}");
        for (slot, entry) in output.chosen {
            self.tell(|cores| {
                format!("{} learns slot={slot} {}", cores.name(id), lines::entry(&entry))
            });
            let known = self.replica(id).chosen.len();
            self.checks.on_learned(id, known, slot, &entry);
            self.replica_mut(id).chosen.push(entry);
        }
        let remembers = self.cluster.remembers_chosen;
        let replica = self.replica_mut(id);
        let known = Slot(replica.chosen.len() as u64);
        assert!(known == slot_chosen, "I8: replica {id} says {slot_chosen}, and gave {known}");
        replica.journal.append(output.records, known, remembers);
        let lsn = replica.journal.end();
        replica.held.extend(output.send_when_durable.into_iter().map(|held| (lsn, held)));
        replica.serves.extend(output.serve);
        for envelope in output.send_now {
            self.leave(id, envelope);
        }
        for ReadBarrier { read, slot } in output.reads {
            let reads = self.checks.on_barrier(id, read, slot);
            if !reads.is_empty() {
                self.tell(|cores| format!("{} may read {reads:?} at slot<{slot}", cores.name(id)));
            }
        }
        self.serve(id);
        // What waits for nothing that is still volatile leaves at once.
        if self.replica(id).journal.volatile() == 0 {
            self.release(id);
        }
    }

    /// Lets the held messages go that the journal covers.
    fn release(&mut self, id: ReplicaId) {
        loop {
            let replica = self.replica_mut(id);
            let frontier = replica.journal.frontier();
            let covered = replica.held.front().is_some_and(|(lsn, _)| *lsn <= frontier.lsn());
            if !covered || replica.core.is_none() {
                return;
            }
            let Some((_, held)) = replica.held.pop_front() else { return };
            let envelope = held.release(frontier);
            self.leave(id, envelope);
        }
    }

    fn leave(&mut self, from: ReplicaId, envelope: Envelope) {
        let Envelope { to, message } = envelope;
        self.checks.on_leave(from, &message);
        let link = Link { from, to };
        if to == from {
            self.step(to, Input::Message { from, message });
            return;
        }
        let mark = if self.links.is_cut(link) { "⇥" } else { "→" };
        self.tell_message(link, mark, &message);
        self.links.send(link, message);
    }

    fn serve(&mut self, id: ReplicaId) {
        while let Some(Serve { to, from }) = self.replica_mut(id).serves.pop_front() {
            let bytes_max = self.cluster.message_bytes_max;
            let replica = self.replica(id);
            let Some(view) = replica.core.as_ref().map(Paxos::view) else { return };
            let mut bytes = 0;
            let fits = |entry: &&Entry| {
                let first = bytes == 0;
                bytes += entry.bytes().len();
                first || bytes <= bytes_max
            };
            let known = replica.chosen.get(from.0 as usize..).unwrap_or_default();
            let entries = known.iter().take_while(fits).cloned().collect();
            let (slot_chosen, chain) = (view.slot_chosen, view.chain);
            let chosen = Chosen { first_slot: from, entries, slot_chosen, chain };
            self.leave(id, Envelope { to, message: Message::Chosen(chosen) });
        }
    }

    fn tell_message(&mut self, link: Link, mark: &str, message: &Message) {
        if !matches!(message, Message::Heartbeat(_)) || self.cluster.traces_heartbeats {
            let Link { from, to } = link;
            self.tell(|cores| {
                format!("{} {mark} {to} {}", cores.name(from), lines::message(message))
            });
        }
    }

    pub(super) fn tell(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.cluster.traces {
            let line = line(self);
            self.trace.push(line);
        }
    }
}
