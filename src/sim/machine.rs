//! A machine: a disk, a clock, and the replica that runs on them, or does not.
//!
//! The replica is the shipped driver over the shipped journal. What its threads do in a service,
//! the [`world`](super::world) does here: it brings events, runs the journal's jobs, and carries
//! out what a turn decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::journal::{self, Begun, Job, Journal};
use crate::runtime::driver::Driver;
use crate::runtime::gate::Gate;
use crate::runtime::report::RoleName;
use crate::runtime::turn::{self, Event};
use crate::types::error::{Error, Result};
use crate::types::hello::Hello;
use crate::types::ids::{Boot, Chain, ReplicaId, Slot};
use crate::types::time::Moment;

use super::clock::LocalClock;
use super::disk::{Mount, SimDisk};
use super::durable::{Group, read_groups};

/// What a replica is opened with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How its journal is laid out.
    pub journal: journal::Options,
    /// What its driver is told.
    pub driver: turn::Options,
}

/// How long a disk takes.
#[derive(Clone, Copy, Debug)]
pub struct DiskSpeed {
    /// Shortest and longest time of a write with its sync.
    pub sync: (Duration, Duration),
    /// Of a thousand writes, so many take 2 to 100 times as long. To make a segment always does.
    pub straggle: u64,
}

impl Default for DiskSpeed {
    fn default() -> Self {
        Self { sync: (Duration::from_micros(150), Duration::from_micros(400)), straggle: 0 }
    }
}

/// A disk, a clock, and perhaps a replica.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) id: ReplicaId,
    pub(super) settings: Settings,
    pub(super) disk: SimDisk,
    pub(super) speed: DiskSpeed,
    pub(super) clock: LocalClock,
    /// Nothing happens on it but writes that are under way.
    pub(super) paused: bool,
    /// No write ends.
    pub(super) disk_paused: bool,
    pub(super) life: Option<Life>,
    /// Rises with each opening that is tried, and with each death. What an earlier life left
    /// behind is ignored.
    pub(super) lives: u64,
    /// Why the last opening was refused.
    pub(super) refused: Option<Error>,
    /// Whether its disk was ever set back to an earlier state.
    pub(super) was_set_back: bool,
    /// Its replica belongs to no cluster before it joined one.
    pub(super) is_outside: bool,
}

/// A replica from its opening to its end.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) driver: Driver<Mount>,
    pub(super) gate: Gate,
    pub(super) hello: Hello,
    /// The openings of peers that the gate let in.
    pub(super) admitted: BTreeSet<(ReplicaId, Boot)>,
    /// What callers brought.
    pub(super) inbox: Arc<Mutex<Vec<Event<Mount>>>>,
    /// What came while the machine was paused.
    pub(super) waiting: Vec<Event<Mount>>,
    /// Journal work under way, by number.
    pub(super) flights: BTreeMap<u64, Flight>,
    pub(super) flight_numbers: u64,
    /// When its clock will show it, it takes a turn.
    pub(super) wake_at: Option<Moment>,
    /// Nothing but time brought the last turn about, and it wanted another one at once.
    pub(super) turn_due: bool,
    pub(super) stopped: bool,
    /// The segment that the opening began; the first one, where there was none.
    pub(super) began: String,
    /// Faults of the disk before this opening.
    pub(super) faults_before: u64,
    pub(super) seen: Known,
}

/// What the world last saw of a replica.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) formed: bool,
    pub(super) role: RoleName,
    pub(super) chosen: (Slot, Chain),
    pub(super) applied: Slot,
}

/// A journal job that is under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) begun: Begun<Mount>,
    pub(super) groups: Vec<Group>,
}

impl Machine {
    /// A machine with a blank disk, switched off.
    pub(super) fn new(id: ReplicaId, settings: Settings, disk: SimDisk) -> Self {
        Self {
            id,
            settings,
            disk,
            speed: DiskSpeed::default(),
            clock: LocalClock::default(),
            paused: false,
            disk_paused: false,
            life: None,
            lives: 0,
            refused: None,
            was_set_back: false,
            is_outside: false,
        }
    }

    /// Opens the replica, as `runtime/opening.rs` does it.
    pub(super) fn open(&mut self, now: Moment) -> Result<()> {
        assert!(self.life.is_none(), "replica {} is open", self.id);
        self.lives += 1;
        let faults_before = self.disk.fired().total();
        let opened = self.open_driver(now);
        self.refused = opened.as_ref().err().cloned();
        let driver = opened?;
        let standing = driver.standing();
        let known = Known {
            formed: false,
            role: RoleName::Follower,
            chosen: (Slot::ZERO, Chain::EMPTY),
            applied: Slot::ZERO,
        };
        self.life = Some(Life {
            gate: Gate::new(&standing),
            hello: standing.hello,
            driver,
            admitted: BTreeSet::new(),
            inbox: Arc::default(),
            waiting: Vec::new(),
            flights: BTreeMap::new(),
            flight_numbers: 0,
            wake_at: None,
            turn_due: false,
            stopped: false,
            began: self.newest_segment(),
            faults_before,
            seen: known,
        });
        Ok(())
    }

    fn open_driver(&self, now: Moment) -> Result<Driver<Mount>> {
        let Settings { journal, driver: options } = self.settings.clone();
        let disk = self.disk.mount();
        Driver::check(&disk, &options)?;
        let journal = Journal::open(disk, journal, options.id)?;
        Driver::open(journal, options, self.clock.read(now))
    }

    /// The newest segment that is in use, or none. One behind it may have been made, and be empty.
    fn newest_segment(&self) -> String {
        let names = self.segments().into_iter().rev();
        names.filter(|name| !self.groups(name).is_empty()).take(1).collect()
    }

    /// What the opening wrote, and whatever was written since: before a core begins, entries may
    /// have been fetched into one segment after the other.
    pub(super) fn groups_begun(&self) -> Vec<Group> {
        let began = self.life.as_ref().map_or("", |life| &life.began);
        let names = self.segments().into_iter().filter(|name| began <= name.as_str());
        names.flat_map(|name| self.groups(&name)).collect()
    }

    fn segments(&self) -> Vec<String> {
        let mut names = self.disk.names();
        names.retain(|name| name.starts_with(SEGMENT_PREFIX));
        names.sort();
        names
    }

    fn groups(&self, segment: &str) -> Vec<Group> {
        self.disk.durable(segment).map(|bytes| read_groups(&bytes)).unwrap_or_default()
    }
}

impl Life {
    /// A job begins: its bytes are written. Returns its number.
    pub(super) fn begin(&mut self, job: Job<Mount>) -> u64 {
        self.flight_numbers += 1;
        let groups = read_groups(job.group());
        self.flights.insert(self.flight_numbers, Flight { begun: job.begin(), groups });
        self.flight_numbers
    }
}

const SEGMENT_PREFIX: &str = "segment-";
