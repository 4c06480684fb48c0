//! Whole replicas, one thread: entries that journals lost come back from the others, and a full
//! disk is waited out.

#[path = "support/faulty_disk.rs"]
mod faulty_disk;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use faulty_disk::FaultyDisk;
use indelible::journal::disk::Disk;
use indelible::journal::{self, Journal};
use indelible::runtime::driver::Driver;
use indelible::runtime::pending::Pending;
use indelible::runtime::report::Report;
use indelible::runtime::tail::AppliedEntries;
use indelible::runtime::{batcher, turn};
use indelible::transport::Arrival;
use indelible::types::command::Command;
use indelible::types::ids::Slot;
use indelible::types::limits::{SESSION_WINDOW, SESSIONS_MAX};
use indelible::types::message::EncodedCommand;
use indelible::types::time::{Moment, Time};
use indelible::{Committed, ErrorKind, ReplicaId};

type Event = turn::Event<FaultyDisk>;

/// Replicas, and messages that take no time.
struct World {
    now: Moment,
    disks: BTreeMap<u64, FaultyDisk>,
    drivers: BTreeMap<u64, Driver<FaultyDisk>>,
    events: VecDeque<(u64, Event)>,
}

impl World {
    fn of(count: u64) -> Self {
        let disks = (1..=count).map(|id| (id, FaultyDisk::default())).collect();
        let mut world =
            Self { now: Moment::ZERO, disks, drivers: BTreeMap::new(), events: VecDeque::new() };
        (1..=count).for_each(|id| world.open(id));
        world.run(2000);
        world
    }

    fn options(&self, id: u64) -> turn::Options {
        let address = |id: &u64| (ReplicaId(*id), format!("replica-{id}"));
        turn::Options {
            id: ReplicaId(id),
            voters: self.disks.keys().map(address).collect(),
            request_timeout: Duration::from_secs(3),
            queued_bytes_max: 1 << 20,
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
            inflight_slots_max: 2048,
            inflight_bytes_max: 1 << 24,
            message_bytes_max: 1 << 10,
            seal_after: Duration::from_millis(100),
            checkpoint_bytes: u64::MAX,
            history_bytes_min: u64::MAX,
            batcher: batcher::Options {
                commands_max: 1000,
                bytes_max: 1 << 20,
                eager_bytes: 1 << 16,
                inflight_max: 4,
                gather: Duration::ZERO,
            },
        }
    }

    fn open(&mut self, id: u64) {
        // Small, so that a disk is full soon.
        let options = journal::Options { segment_bytes: 64 * 1024, ..Default::default() };
        let journal = Journal::open(self.disks[&id].clone(), options, ReplicaId(id));
        let journal = journal.expect("the directory is usable");
        let driver = Driver::open(journal, self.options(id), self.now);
        let driver = driver.expect("the replica can begin");
        self.drivers.insert(id, driver);
    }

    fn kill(&mut self, id: u64) {
        self.drivers.remove(&id);
        self.events.retain(|(to, _)| *to != id);
    }

    /// Time passes, in steps of 10 ms; in each, all that can happen does.
    fn run(&mut self, millis: u64) {
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

    fn turn(&mut self, id: u64, events: Vec<Event>) {
        let Some(driver) = self.drivers.get_mut(&id) else { return };
        let effects = driver.turn(self.now, Time(1), events);
        for job in effects.jobs {
            self.events.push_back((id, Event::Written(job.run())));
        }
        for envelope in effects.sends {
            let arrival = Arrival::Message { from: ReplicaId(id), message: envelope.message };
            self.events.push_back((envelope.to.0, Event::Arrived(arrival)));
        }
        effects.answers.into_iter().for_each(indelible::runtime::requests::Answer::give);
    }

    /// A transaction begins at a replica.
    fn commit(&mut self, id: u64) -> Pending<Committed> {
        let ticket = self.drivers[&id].tickets().draw(|| 0);
        let (request, bytes) = (ticket.request, Command::of(ticket).encode());
        let (pending, completer) = Pending::new();
        let command = EncodedCommand { request, bytes };
        self.events.push_back((id, Event::Propose { command, completer, again: false }));
        pending
    }

    fn commit_some(&mut self, id: u64, count: usize) {
        for _ in 0..count {
            let mut pending = self.commit(id);
            let answer = (0..60).find_map(|_| {
                self.run(50);
                pending.wait_timeout(Duration::ZERO)
            });
            answer.expect("every call ends in time").expect("somebody commits");
        }
    }

    fn report(&self, id: u64) -> Report {
        self.drivers[&id].report()
    }

    /// Damages every frame of the slot in the replica's journal.
    fn damage(&self, id: u64, slot: u64) {
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

    fn digests(&self) -> Vec<(Slot, u128)> {
        let digests = self.drivers.values().map(|driver| driver.store().digest());
        digests.map(|(slot, _, digest)| (slot, digest)).collect()
    }

    /// All that a replica's journal holds can be read.
    fn assert_readable(&self, id: u64) {
        let end = self.drivers[&id].store().applied().slot;
        let entries = self.drivers[&id].reader().entries(Slot::ZERO, end);
        assert_eq!(entries.map(Result::unwrap).count() as u64, end.0);
    }
}

#[test]
fn replicas_that_lost_different_entries_heal_each_other() {
    let mut world = World::of(5);
    world.commit_some(1, 12);
    world.run(500);
    let before = world.digests();
    (1..=5).for_each(|id| world.kill(id));
    for (id, slots) in [(1, [2, 3, 9]), (2, [5, 6, 11])] {
        slots.iter().for_each(|slot| world.damage(id, *slot));
    }

    // The first one waits, and tells for what.
    world.open(1);
    let mut early = world.commit(1);
    world.run(1000);
    let report = world.report(1);
    let repair = report.repair.expect("entries are missing");
    let first = repair.first.expect("nobody was there to give anything");
    // Entries next to what is damaged are missing too.
    assert!(first <= Slot(2) && repair.repaired == 0 && repair.before_serving, "{repair:?}");
    let told = format!("slot {first} next");
    let why = report.in_the_way().unwrap();
    assert!(why.contains(&told), "{why}");
    assert!(report.view.is_none() && early.wait_timeout(Duration::ZERO).is_none());
    world.run(3000);
    let err = early.wait_timeout(Duration::ZERO).expect("every call ends in time").unwrap_err();
    assert_eq!(err.kind(), ErrorKind::TimedOut);
    assert!(err.to_string().contains(&told), "{err}");

    // The two together have everything, though neither can do more than tell what it has.
    world.open(2);
    world.run(1000);
    for id in 1..=2 {
        assert_eq!(world.report(id).repair, None);
        world.assert_readable(id);
    }
    assert!(world.digests().iter().all(|digest| *digest == before[0]), "{:?}", world.digests());

    // With a quorum of others, what they doubt is settled.
    (3..=5).for_each(|id| world.open(id));
    world.run(3000);
    for id in 1..=5 {
        assert_eq!(world.report(id).in_the_way(), None);
        let doubts = world.report(id).doubts;
        assert!(doubts.is_empty(), "replica {id}: {doubts:?}");
        world.assert_readable(id);
    }
    world.commit_some(2, 3);
    world.run(500);
    let digests = world.digests();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");

    // What was repaired stays so: each comes back by itself.
    for id in 1..=5 {
        (1..=5).for_each(|id| world.kill(id));
        world.open(id);
        assert_eq!(world.report(id).repair, None);
        world.assert_readable(id);
    }
}

#[test]
fn what_is_lost_behind_a_checkpoint_is_fetched_and_what_is_before_later() {
    let mut world = World::of(3);
    world.commit_some(1, 6);
    let (mut pending, completer) = Pending::new();
    world.events.push_back((2, Event::Checkpoint { completer }));
    world.run(500);
    pending.wait_timeout(Duration::ZERO).expect("it is answered").expect("it is taken");
    let held = world.report(2).slot_checkpointed;
    assert!(Slot(6) < held, "{held}");
    world.commit_some(1, 6);
    world.run(500);
    (1..=3).for_each(|id| world.kill(id));
    world.damage(2, 3);
    world.damage(2, held.0 + 2);

    // It begins with the state of the checkpoint, and waits for what is behind it, and for no more.
    world.open(2);
    world.run(1000);
    let repair = world.report(2).repair.expect("entries are missing");
    assert!(repair.before_serving && Some(held) <= repair.first, "{repair:?}");
    assert_eq!(world.drivers[&2].store().applied().slot, held);

    // Then it serves, and fetches the rest of the history beside.
    world.open(1);
    world.open(3);
    world.run(3000);
    assert_eq!(world.report(2).repair, None);
    world.assert_readable(2);
    let digests = world.digests();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    world.commit_some(2, 1);
}

#[test]
fn rot_that_is_found_while_a_peer_is_served_is_repaired() {
    let mut world = World::of(3);
    world.commit_some(1, 3);
    world.kill(3);
    world.run(1500);
    world.commit_some(1, 12);
    world.run(500);
    // Whoever 3 asks finds a rotten entry, though each another one.
    world.damage(1, 8);
    world.damage(2, 10);
    world.open(3);
    world.run(3000);
    let digests = world.digests();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    // The damage that nobody asked for is not known yet; reading finds it.
    let damaged = (1..=2).filter(|id| world.report(*id).damage.is_some()).collect::<Vec<_>>();
    assert_eq!(damaged, [], "what was found is repaired");
    let repaired = (1..=2).filter(|id| {
        let end = world.drivers[id].store().applied().slot;
        world.drivers[id].reader().entries(Slot::ZERO, end).all(|entry| entry.is_ok())
    });
    assert!(repaired.count() > 0, "nobody found anything");
    world.assert_readable(3);
}

#[test]
fn rot_that_a_reader_of_the_ledger_finds_is_repaired() {
    let mut world = World::of(3);
    world.commit_some(1, 12);
    world.run(500);
    world.damage(2, 5);
    world.damage(2, 9);
    let read = |world: &World| {
        let driver = &world.drivers[&2];
        let end = driver.store().applied().slot;
        AppliedEntries::new(driver.reader(), driver.tail(), Slot::ZERO, end)
            .find_map(Result::err)
            .map(|err| err.to_string())
    };
    for slot in [5, 9] {
        let told = read(&world).expect("a damaged entry cannot be read");
        assert!(told.contains(&format!("slot {slot}:")), "{told}");
        assert!(world.report(2).damage.is_none(), "the driver knows nothing of it yet");
        world.run(500);
        assert_eq!(world.report(2).repair, None);
        assert!(world.report(2).damage.is_none(), "what was found is repaired");
    }
    assert_eq!(read(&world), None);
    // For good, and the replica went on meanwhile.
    world.commit_some(2, 1);
    world.kill(2);
    world.open(2);
    world.assert_readable(2);
}

#[test]
fn who_is_alone_tells_of_rot_and_goes_on() {
    let mut world = World::of(1);
    world.commit_some(1, 5);
    world.damage(1, 3);
    let driver = &world.drivers[&1];
    let end = driver.store().applied().slot;
    let entries = AppliedEntries::new(driver.reader(), driver.tail(), Slot::ZERO, end);
    assert_eq!(entries.filter(Result::is_err).count(), 1);
    world.run(10);
    let report = world.report(1);
    assert!(report.damage.is_some() && report.repair.is_none(), "{report:?}");
    world.commit_some(1, 2);
}

#[test]
fn doubts_are_settled_by_the_leader_of_the_others() {
    // The slots behind the last one known to be chosen are in doubt at one replica, and settled by
    // the leader that the others elect.
    let mut world = World::of(3);
    world.commit_some(1, 5);
    let last = world.drivers[&3].store().applied().slot.0 - 1;
    world.kill(3);
    world.run(1500);
    world.damage(3, last);
    world.commit_some(1, 5);
    world.open(3);
    world.run(3000);
    assert!(world.report(3).doubts.is_empty(), "{:?}", world.report(3).doubts);
    // So 3 is a voter like any other: with it, one of the others is enough.
    world.kill(2);
    world.run(2000);
    world.commit_some(3, 3);
    world.assert_readable(3);
}

#[test]
fn who_has_no_space_leaves_it_to_the_others() {
    let mut world = World::of(3);
    world.commit_some(1, 3);
    let leader = |world: &World| {
        let view = world.drivers.values().find_map(|driver| driver.report().view?.leader);
        view.expect("somebody leads").leader.0
    };
    let full = leader(&world);
    let other = full % 3 + 1;
    world.disks[&full].limit_space(Some(0));
    // Until its segment is nearly full, it goes on; then another one leads.
    while !world.report(full).storage_full {
        world.commit_some(other, 1);
    }
    world.run(2000);
    assert_ne!(leader(&world), full);
    let mut refused = world.commit(full);
    world.run(10);
    let err = refused.wait_timeout(Duration::ZERO).expect("it is refused at once").unwrap_err();
    assert!(err.is_storage_full(), "{err}");
    assert_eq!(
        world.report(full).in_the_way().as_deref(),
        Some("the disk of this replica is full")
    );
    world.commit_some(other, 3);

    // There is space again: it catches up, and takes transactions.
    world.disks[&full].limit_space(None);
    world.run(3000);
    assert!(!world.report(full).storage_full);
    world.commit_some(full, 3);
    world.run(500);
    let digests = world.digests();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn a_lone_replica_without_space_goes_on_when_there_is_some() {
    let mut world = World::of(1);
    world.commit_some(1, 3);
    world.disks[&1].limit_space(Some(0));
    while !world.report(1).storage_full {
        world.commit_some(1, 1);
    }
    let mut refused = world.commit(1);
    world.run(10);
    let err = refused.wait_timeout(Duration::ZERO).expect("it is refused at once").unwrap_err();
    assert!(err.is_storage_full(), "{err}");
    world.disks[&1].limit_space(None);
    world.run(2000);
    world.commit_some(1, 3);
    let before = world.digests();
    world.kill(1);
    world.open(1);
    world.run(1000);
    assert_eq!(world.digests(), before, "what was acknowledged is there");
}
