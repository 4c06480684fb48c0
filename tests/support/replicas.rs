//! Whole replicas in one thread, over disks that fail as they are told, and messages that take no
//! time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::faulty_disk::FaultyDisk;
use indelible::journal::disk::Disk;
use indelible::journal::{self, Journal};
use indelible::runtime::driver::Driver;
use indelible::runtime::pending::Pending;
use indelible::runtime::report::Report;
use indelible::runtime::{batcher, turn};
use indelible::transport::Arrival;
use indelible::types::command::Command;
use indelible::types::edition::Edition;
use indelible::types::entry::Entry;
use indelible::types::hello::Hello;
use indelible::types::ids::Slot;
use indelible::types::limits::{SESSION_WINDOW, SESSIONS_MAX};
use indelible::types::message::{EncodedCommand, Message};
use indelible::types::record::{Record, Recovered, Sighting};
use indelible::types::time::{Clocks, Moment, Time};
use indelible::{Committed, ReplicaId};

pub type Event = turn::Event<FaultyDisk>;

/// Replicas, and messages that take no time.
pub struct World {
    pub now: Moment,
    pub disks: BTreeMap<u64, FaultyDisk>,
    pub drivers: BTreeMap<u64, Driver<FaultyDisk>>,
    pub events: VecDeque<(u64, Event)>,
    pub history_bytes_min: u64,
    /// Whoever this is gives no parts of checkpoints.
    pub mute: Option<u64>,
    /// Who sent anything to whom.
    pub sent: BTreeSet<(u64, u64)>,
}

impl World {
    pub fn of(count: u64) -> Self {
        let disks = (1..=count).map(|id| (id, FaultyDisk::default())).collect();
        let mut world = Self {
            now: Moment::ZERO,
            disks,
            drivers: BTreeMap::new(),
            events: VecDeque::new(),
            history_bytes_min: u64::MAX,
            mute: None,
            sent: BTreeSet::new(),
        };
        (1..=count).for_each(|id| world.open(id));
        world.run(2000);
        world
    }

    /// Three replicas, the third of which is away while the others trim what they commit.
    pub fn with_one_cut_off() -> Self {
        let mut world = Self::of(3);
        world.history_bytes_min = 0;
        (1..=3).for_each(|id| world.kill(id));
        (1..=3).for_each(|id| world.open(id));
        world.run(2000);
        world.commit_some(1, 5);
        world.kill(3);
        for _ in 0..3 {
            world.commit_some(1, 30);
            [1, 2].iter().for_each(|id| world.checkpoint(*id));
        }
        for id in [1, 2] {
            assert!(Slot(40) < world.report(id).slot_trimmed, "nobody is waited for");
        }
        world
    }

    pub fn options(&self, id: u64) -> turn::Options {
        let address = |id: &u64| (ReplicaId(*id), format!("replica-{id}"));
        turn::Options {
            id: ReplicaId(id),
            voters: self.disks.keys().map(address).collect(),
            request_timeout: Duration::from_secs(3),
            queued_bytes_max: 1 << 20,
            join: None,
            quorums: None,
            sessions_max: SESSIONS_MAX,
            session_window: SESSION_WINDOW,
            queued_transactions_max: 1 << 12,
            waiting_reads_max: 1 << 12,
            journal_backlog_bytes_max: 64 << 20,
            heartbeat_interval: Duration::from_millis(50),
            election_timeout: Duration::from_millis(500),
            retransmit_interval: Duration::from_millis(100),
            priority: 0,
            knows: Edition::KNOWN,
            read_lease: None,
            inflight_slots_max: 2048,
            inflight_bytes_max: 1 << 24,
            message_bytes_max: 1 << 10,
            seal_after: Duration::from_millis(100),
            checkpoint_bytes: u64::MAX,
            history_bytes_min: self.history_bytes_min,
            checkpoint_bytes_per_second: 1 << 30,
            batcher: batcher::Options {
                commands_max: 1000,
                bytes_max: 1 << 20,
                eager_bytes: 1 << 16,
                inflight_max: 4,
                gather: Duration::ZERO,
            },
        }
    }

    pub fn journal(&self, id: u64) -> Journal<FaultyDisk> {
        // Small, so that a disk is full soon.
        let options = journal::Options { segment_bytes: 64 * 1024, ..Default::default() };
        let journal = Journal::open(self.disks[&id].clone(), options, ReplicaId(id));
        journal.expect("the directory is usable")
    }

    pub fn open(&mut self, id: u64) {
        let journal = self.journal(id);
        let driver = Driver::open(journal, self.options(id), self.now);
        let driver = driver.expect("the replica can begin");
        // Each gate lets the other in: what a replica votes that was never met does not count.
        let sighting = |hello: Hello| {
            let Hello { replica, incarnation, boot, frontier, .. } = hello;
            Event::Met(Sighting { replica, incarnation, boot, frontier, fenced: false })
        };
        for (other_id, other) in self.drivers.iter().filter(|(other, _)| **other != id) {
            self.events.push_back((id, sighting(other.standing().hello)));
            self.events.push_back((*other_id, sighting(driver.standing().hello)));
        }
        self.drivers.insert(id, driver);
    }

    pub fn kill(&mut self, id: u64) {
        self.drivers.remove(&id);
        self.events.retain(|(to, _)| *to != id);
    }

    /// Time passes, in steps of 10 ms; in each, all that can happen does.
    pub fn run(&mut self, millis: u64) {
        for _ in 0..millis / 10 {
            self.now = self.now + Duration::from_millis(10);
            for id in self.drivers.keys().copied().collect::<Vec<_>>() {
                self.turn(id, Vec::new());
            }
            while let Some((id, event)) = self.events.pop_front() {
                self.turn(id, vec![event]);
            }
        }
    }

    pub fn turn(&mut self, id: u64, events: Vec<Event>) {
        let Some(driver) = self.drivers.get_mut(&id) else { return };
        let boot = driver.standing().hello.boot;
        let effects =
            driver.turn(Clocks { now: self.now, uptime: self.now, wall: Time(1) }, events);
        for job in effects.jobs {
            self.events.push_back((id, Event::Written(job.run())));
        }
        for envelope in effects.sends {
            if self.mute == Some(id) && matches!(envelope.message, Message::CheckpointPart(_)) {
                continue;
            }
            self.sent.insert((id, envelope.to.0));
            let arrival = Arrival::Message { from: ReplicaId(id), boot, message: envelope.message };
            self.events.push_back((envelope.to.0, Event::Arrived(arrival)));
        }
        let answers = effects.answers.into_iter();
        let wakers = answers.filter_map(indelible::runtime::requests::Answer::give);
        wakers.for_each(std::task::Waker::wake);
    }

    /// A transaction begins at a replica.
    pub fn commit(&mut self, id: u64) -> Pending<Committed> {
        let ticket = self.drivers[&id].tickets().draw(|| 0);
        let (request, bytes) = (ticket.request, Command::of(ticket).encode());
        let (pending, completer) = Pending::new();
        let command = EncodedCommand { request, bytes };
        self.events.push_back((id, Event::Propose { command, completer, again: false }));
        pending
    }

    pub fn commit_some(&mut self, id: u64, count: usize) {
        for _ in 0..count {
            let mut pending = self.commit(id);
            let answer = (0..60).find_map(|_| {
                self.run(50);
                pending.wait_timeout(Duration::ZERO)
            });
            answer.expect("every call ends in time").expect("somebody commits");
        }
    }

    pub fn checkpoint(&mut self, id: u64) {
        let (mut pending, completer) = Pending::new();
        self.events.push_back((id, Event::Checkpoint { completer }));
        self.run(500);
        pending.wait_timeout(Duration::ZERO).expect("it is answered").expect("it is taken");
    }

    /// While a replica is closed it learns of a further entry; returns in which slot.
    pub fn learn(&self, id: u64, entry: &Entry) -> Slot {
        let mut journal = self.journal(id);
        let Recovered { slot_chosen, votes, .. } = journal.recovered();
        let slot = votes.last().map_or(slot_chosen, |(slot, ..)| slot.next());
        let record = Record::Chosen { slot, entry: entry.clone() };
        journal.append(&[record], slot.next()).expect("the disk works");
        while let Some(job) = journal.next_job().expect("the disk works") {
            journal.complete(job.run()).expect("the disk works");
        }
        slot
    }

    pub fn report(&self, id: u64) -> Report {
        self.drivers[&id].report()
    }

    /// Damages every frame of the slot in the replica's journal.
    pub fn damage(&self, id: u64, slot: u64) {
        let disk = &self.disks[&id];
        let mut count = 0;
        for name in disk
            .list()
            .expect("the directory can be read")
            .iter()
            .filter(|name| name.starts_with("segment"))
        {
            let bytes = disk.content(name);
            for at in (0..bytes.len() - 144).step_by(8) {
                let is_entry = &bytes[at..at + 4] == b"iLfr" && matches!(bytes[at + 6], 3 | 4);
                if is_entry && bytes[at + 72..at + 80] == slot.to_le_bytes() {
                    disk.rot(name, |bytes| bytes[at + 144] ^= 0x55);
                    count += 1;
                }
            }
        }
        assert!(count > 0, "replica {id} has no frame of slot {slot}");
    }

    pub fn digests(&self) -> Vec<(Slot, u128)> {
        let digests = self.drivers.values().map(|driver| driver.store().digest());
        digests.map(|(slot, _, digest)| (slot, digest)).collect()
    }

    /// All that a replica's journal holds can be read.
    pub fn assert_readable(&self, id: u64) {
        let end = self.drivers[&id].store().applied().slot;
        let entries = self.drivers[&id].reader().entries(Slot::ZERO, end);
        assert_eq!(entries.map(Result::unwrap).count() as u64, end.0);
    }
}
