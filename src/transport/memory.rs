//! Messages between replicas in one process, for tests and for trying things out.
//!
//! A [`MemoryNetwork`] stands for the wires; each replica has a [`MemoryTransport`] on it. A
//! message is put into the receiver's inbox as it is, without encoding, and one task for each
//! replica delivers everything that has come since it last looked. Links can be cut and healed,
//! each direction by itself.
//!
//! Hellos count as they do on other transports: two replicas are connected while each admits what
//! the other says, judged when one of them starts and again when a hello changes or peers do. Only
//! the delivery task calls [`Link::admit`], never the thread that changed something.
//!
//! Addresses mean nothing here: who is on the network is reached. Until peers are named, all who
//! are admitted are peers.
//!
//! Invariants:
//! * At most [`STRANGERS_MAX`] strangers are admitted by one replica.
//! * What one sender has in one inbox is bounded in messages and in bytes; beyond that is dropped.
//! * Lock order: `topology`, then `peers`, then one `inbox` or `counters`. None is held during a
//!   call to [`Link`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex, RwLock};

use super::{Arrival, Link, PeerCounters, Refusal, Refused, Task, Transport};
use crate::types::entry::Entry;
use crate::types::hello::Hello;
use crate::types::ids::{Boot, ReplicaId};
use crate::types::limits::{MESSAGE_BYTES_MAX, STRANGERS_MAX};
use crate::types::message::{Envelope, Message};

/// Messages of one sender that wait for one receiver, at most.
const QUEUE_MESSAGES_MAX: usize = 16 * 1024;
/// Their bytes, at most.
const QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What a message is taken to weigh besides the bytes it carries.
const MESSAGE_BYTES: usize = 256;

const _: () = assert!(MESSAGE_BYTES_MAX <= QUEUE_BYTES_MAX);

/// The wires between the replicas of one process. Cloning gives another handle to the same.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    topology: Arc<RwLock<Topology>>,
}

/// One replica's end of a [`MemoryNetwork`]. Dropping it disconnects the replica.
pub struct MemoryTransport {
    topology: Arc<RwLock<Topology>>,
    endpoint: Arc<Endpoint>,
}

/// Who is there, and who reaches whom.
#[derive(Default)]
struct Topology {
    replicas: BTreeMap<ReplicaId, Arc<Endpoint>>,
    /// `(from, to)`: nothing gets through.
    cuts: BTreeSet<(ReplicaId, ReplicaId)>,
    /// `(by, whom)`: the first admits the second.
    admitted: BTreeSet<(ReplicaId, ReplicaId)>,
    /// `(from, to)`: messages get through. Follows from the fields above.
    links: BTreeSet<(ReplicaId, ReplicaId)>,
}

struct Endpoint {
    replica: ReplicaId,
    hello: Mutex<Hello>,
    /// Who is no stranger; `None` while that is everyone.
    peers: Mutex<Option<BTreeSet<ReplicaId>>>,
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    /// Something was put into the inbox and nobody has rung yet.
    unflushed: AtomicBool,
    counters: Mutex<BTreeMap<ReplicaId, PeerCounters>>,
}

#[derive(Default)]
struct Inbox {
    arrivals: Vec<Arrival>,
    /// Messages and bytes in `arrivals`, by sender.
    senders: BTreeMap<ReplicaId, (usize, usize)>,
    /// Some hello must be judged again.
    stale: bool,
    closed: bool,
}

impl MemoryNetwork {
    /// A network without replicas.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The end for the replica that says `hello`. It is connected once it was started.
    #[must_use]
    pub fn transport(&self, hello: Hello) -> MemoryTransport {
        let endpoint = Arc::new(Endpoint {
            replica: hello.replica,
            hello: Mutex::new(hello),
            peers: Mutex::new(None),
            inbox: Mutex::default(),
            arrived: Condvar::new(),
            unflushed: AtomicBool::new(false),
            counters: Mutex::default(),
        });
        MemoryTransport { topology: Arc::clone(&self.topology), endpoint }
    }

    /// Drops every message that `from` sends to `to` from now on, until [`MemoryNetwork::heal`].
    /// The other direction is not touched. `to` is told once that `from` is down.
    pub fn cut(&self, from: ReplicaId, to: ReplicaId) {
        let mut topology = self.topology.write();
        topology.cuts.insert((from, to));
        topology.refresh();
    }

    /// Lets messages from `from` to `to` through again.
    pub fn heal(&self, from: ReplicaId, to: ReplicaId) {
        let mut topology = self.topology.write();
        topology.cuts.remove(&(from, to));
        topology.refresh();
    }
}

impl Transport for MemoryTransport {
    /// # Errors
    ///
    /// Where a replica with this id is on the network already.
    fn start(&self, link: Link) -> io::Result<()> {
        let mut topology = self.topology.write();
        if self.endpoint.inbox.lock().closed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if topology.replicas.contains_key(&self.endpoint.replica) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        topology.replicas.insert(self.endpoint.replica, Arc::clone(&self.endpoint));
        topology.replicas.values().for_each(|endpoint| endpoint.judge_again());
        drop(topology);
        let (topology, endpoint) = (Arc::clone(&self.topology), Arc::clone(&self.endpoint));
        let name = format!("inbox-{}", endpoint.replica);
        let spawn = Arc::clone(&link.spawn);
        let run = Box::new(move || endpoint.run(&topology, &link));
        // Where there is no thread for it, the spawner ends it all.
        let _ = spawn(Task { name, is_vital: true, run });
        Ok(())
    }

    fn send(&self, Envelope { to, message }: Envelope) {
        let from = self.endpoint.replica;
        let boot = self.endpoint.hello.lock().boot;
        let topology = self.topology.read();
        let receiver = topology.replicas.get(&to).filter(|_| topology.links.contains(&(from, to)));
        let taken = receiver.is_some_and(|receiver| receiver.put(from, boot, message));
        self.endpoint.count(to, |counters| match taken {
            true => counters.sent += 1,
            false => counters.dropped += 1,
        });
    }

    fn flush(&self) {
        for endpoint in self.topology.read().replicas.values() {
            if endpoint.unflushed.swap(false, Ordering::AcqRel) {
                endpoint.arrived.notify_one();
            }
        }
    }

    fn set_hello(&self, hello: Hello) {
        *self.endpoint.hello.lock() = hello;
        let topology = self.topology.read();
        topology.replicas.values().for_each(|endpoint| endpoint.judge_again());
    }

    fn set_peers(&self, peers: Vec<(ReplicaId, String)>) {
        let peers: BTreeSet<_> = peers.into_iter().map(|(id, _)| id).collect();
        let mut topology = self.topology.write();
        let before = self.endpoint.peers.lock().replace(peers.clone());
        let id = self.endpoint.replica;
        let is_removed = |whom: &ReplicaId| {
            !peers.contains(whom) && before.as_ref().is_none_or(|before| before.contains(whom))
        };
        topology.admitted.retain(|(by, whom)| *by != id || !is_removed(whom));
        topology.refresh();
        self.endpoint.judge_again();
    }

    fn close(&self) {
        let mut topology = self.topology.write();
        let mut inbox = self.endpoint.inbox.lock();
        inbox.closed = true;
        inbox.arrivals = Vec::new();
        drop(inbox);
        self.endpoint.arrived.notify_one();
        let id = self.endpoint.replica;
        let present = topology.replicas.get(&id);
        if present.is_some_and(|present| Arc::ptr_eq(present, &self.endpoint)) {
            topology.replicas.remove(&id);
            topology.admitted.retain(|(by, whom)| *by != id && *whom != id);
            topology.refresh();
            // A stranger that found no room may find some now.
            topology.replicas.values().for_each(|endpoint| endpoint.judge_again());
        }
    }

    fn counters(&self) -> Vec<PeerCounters> {
        let topology = self.topology.read();
        let id = self.endpoint.replica;
        let rows: Vec<PeerCounters> = self.endpoint.counters.lock().values().cloned().collect();
        let queued = |peer: ReplicaId| {
            let receiver = topology.replicas.get(&peer)?;
            receiver.inbox.lock().senders.get(&id).map(|(_, bytes)| *bytes as u64)
        };
        let complete = |row: PeerCounters| PeerCounters {
            stranger: row.peer != ReplicaId::default() && !self.endpoint.is_peer(row.peer),
            connected: topology.links.contains(&(id, row.peer))
                && topology.links.contains(&(row.peer, id)),
            queued_bytes: queued(row.peer).unwrap_or(0),
            ..row
        };
        rows.into_iter().map(complete).collect()
    }
}

impl Drop for MemoryTransport {
    fn drop(&mut self) {
        self.close();
    }
}

impl Topology {
    /// Finds out anew who reaches whom, and tells who is not reached any more.
    fn refresh(&mut self) {
        let reaches = |(from, to): &(ReplicaId, ReplicaId)| {
            self.admitted.contains(&(*from, *to))
                && self.admitted.contains(&(*to, *from))
                && !self.cuts.contains(&(*from, *to))
        };
        let links: BTreeSet<_> = self.admitted.iter().copied().filter(reaches).collect();
        for (from, to) in self.links.difference(&links) {
            if let Some(receiver) = self.replicas.get(to) {
                receiver.inbox.lock().arrivals.push(Arrival::Down { peer: *from });
                receiver.arrived.notify_one();
            }
        }
        self.links = links;
    }
}

impl Endpoint {
    /// Delivers until closed.
    fn run(self: &Arc<Self>, topology: &RwLock<Topology>, link: &Link) {
        loop {
            let mut inbox = self.inbox.lock();
            while !inbox.closed && !inbox.stale && inbox.arrivals.is_empty() {
                self.arrived.wait(&mut inbox);
            }
            if inbox.closed {
                return;
            }
            if std::mem::take(&mut inbox.stale) {
                drop(inbox);
                self.judge(topology, link);
                continue;
            }
            let arrivals = std::mem::take(&mut inbox.arrivals);
            inbox.senders.clear();
            drop(inbox);
            for arrival in &arrivals {
                if let Arrival::Message { from, .. } = arrival {
                    self.count(*from, |counters| counters.received += 1);
                }
            }
            (link.deliver)(arrivals);
        }
    }

    /// Judges what all others say.
    fn judge(self: &Arc<Self>, topology: &RwLock<Topology>, link: &Link) {
        let others: Vec<Arc<Self>> = topology.read().replicas.values().cloned().collect();
        for other in others.iter().filter(|other| other.replica != self.replica) {
            let mut hello = other.hello.lock().clone();
            hello.receiver = self.replica;
            // Before it is judged: who admits somebody remembers it, and has no more room.
            let has_room = self.has_room(&topology.read(), other.replica);
            let verdict = match has_room {
                true => (link.admit)(&hello),
                false => Err(Refusal::TooManyStrangers),
            };
            let mut topology = topology.write();
            let here = |endpoint: &Arc<Self>| {
                let present = topology.replicas.get(&endpoint.replica);
                present.is_some_and(|present| Arc::ptr_eq(present, endpoint))
            };
            // Who came in its place meanwhile has made this inbox stale again.
            if !here(other) || !here(self) {
                continue;
            }
            match verdict {
                Ok(()) => {
                    topology.admitted.insert((self.replica, other.replica));
                    self.count(other.replica, |_| ());
                }
                Err(refusal) => {
                    topology.admitted.remove(&(self.replica, other.replica));
                    self.note_refusal(other.replica, &refusal, false);
                    other.note_refusal(self.replica, &refusal, true);
                    if refusal == Refusal::Regressed {
                        other.tell_fenced(self.replica);
                    }
                }
            }
            topology.refresh();
        }
        self.forget_counters(&topology.read());
    }

    fn is_peer(&self, id: ReplicaId) -> bool {
        self.peers.lock().as_ref().is_none_or(|peers| peers.contains(&id))
    }

    /// Whether `id` is a peer or a stranger already, or one more stranger can be admitted.
    fn has_room(&self, topology: &Topology, id: ReplicaId) -> bool {
        let own = topology.admitted.iter().filter(|(by, _)| *by == self.replica);
        let strangers = own.filter(|(_, whom)| !self.is_peer(*whom)).count();
        let is_admitted = topology.admitted.contains(&(self.replica, id));
        self.is_peer(id) || is_admitted || strangers < STRANGERS_MAX
    }

    /// Of who is neither peer nor stranger, only the last refusal is kept, as of nobody by name.
    fn forget_counters(&self, topology: &Topology) {
        let peers = self.peers.lock().clone();
        let Some(peers) = peers else { return };
        let mut counters = self.counters.lock();
        let rows = std::mem::take(&mut *counters);
        let (kept, others): (BTreeMap<_, _>, BTreeMap<_, _>) = rows.into_iter().partition(|row| {
            peers.contains(&row.0) || topology.admitted.contains(&(self.replica, row.0))
        });
        *counters = kept;
        drop(counters);
        for row in others.into_values() {
            self.count(ReplicaId::default(), |counters| {
                counters.dropped += row.dropped;
                counters.refused = row.refused.or(counters.refused.take());
            });
        }
    }

    /// Puts a message into the inbox; false where there is no room.
    fn put(&self, from: ReplicaId, boot: Boot, message: Message) -> bool {
        let weight = weight(&message);
        let mut inbox = self.inbox.lock();
        let (messages, bytes) = inbox.senders.get(&from).copied().unwrap_or_default();
        let room = messages < QUEUE_MESSAGES_MAX && bytes + weight <= QUEUE_BYTES_MAX;
        if inbox.closed || weight > MESSAGE_BYTES_MAX || !room {
            return false;
        }
        inbox.senders.insert(from, (messages + 1, bytes + weight));
        inbox.arrivals.push(Arrival::Message { from, boot, message });
        self.unflushed.store(true, Ordering::Release);
        true
    }

    fn judge_again(&self) {
        self.inbox.lock().stale = true;
        self.arrived.notify_one();
    }

    fn tell_fenced(&self, by: ReplicaId) {
        self.inbox.lock().arrivals.push(Arrival::Fenced { by });
        self.arrived.notify_one();
    }

    fn note_refusal(&self, peer: ReplicaId, why: &Refusal, by_peer: bool) {
        let refused = Refused { why: why.clone(), by_peer };
        self.count(peer, |counters| counters.refused = Some(refused));
    }

    fn count(&self, peer: ReplicaId, change: impl FnOnce(&mut PeerCounters)) {
        let mut counters = self.counters.lock();
        let row = || PeerCounters { peer, ..PeerCounters::default() };
        change(counters.entry(peer).or_insert_with(row));
    }
}

/// About how many bytes a message keeps in memory.
pub fn weight(message: &Message) -> usize {
    let entries = |entries: &[Entry]| entries.iter().map(|entry| entry.bytes().len()).sum();
    let carried: usize = match message {
        Message::Accept(accept) => entries(&accept.entries),
        Message::Chosen(chosen) => entries(&chosen.entries),
        Message::Promise(promise) => {
            promise.votes.iter().map(|vote| vote.entry.bytes().len()).sum()
        }
        Message::Forward(forward) => {
            forward.commands.iter().map(|command| command.bytes.len()).sum()
        }
        Message::CheckpointPart(part) => part.bytes.len(),
        // Bounded by small constants: ids, ballots, and a membership at most.
        Message::Heartbeat(_)
        | Message::Prepare { .. }
        | Message::Accepted(_)
        | Message::Reject { .. }
        | Message::Fetch { .. }
        | Message::Confirm { .. }
        | Message::Confirmed { .. }
        | Message::Barrier { .. }
        | Message::BarrierAt { .. }
        | Message::Unsure { .. }
        | Message::Settled { .. }
        | Message::Fill { .. }
        | Message::Leaving { .. }
        | Message::Dismissed { .. }
        | Message::TakeOver(_)
        | Message::Renew { .. }
        | Message::Granted { .. }
        | Message::Trimmed { .. }
        | Message::Lost { .. }
        | Message::FetchCheckpoint { .. }
        | Message::Bounced { .. }
        | Message::Introduce(_)
        | Message::Agreed { .. } => 0,
    };
    MESSAGE_BYTES + carried
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topology = self.topology.read();
        let replicas: Vec<ReplicaId> = topology.replicas.keys().copied().collect();
        f.debug_struct("MemoryNetwork")
            .field("replicas", &replicas)
            .field("cuts", &topology.cuts)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for MemoryTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTransport")
            .field("replica", &self.endpoint.replica)
            .finish_non_exhaustive()
    }
}
