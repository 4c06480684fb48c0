//! A lone replica as it ships, on a disk in memory that fails when it is told to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use indelible::journal::disk::{Disk, File};
use indelible::journal::memory::{MemoryDisk, MemoryFile, MemoryLock};
use indelible::journal::{self, Journal};
use indelible::runtime::driver::Driver;
use indelible::runtime::handle::Handle;
use indelible::runtime::{batcher, threads, turn};
use indelible::sync::{Condvar, Mutex};
use indelible::transport::{Arrival, Link, PeerCounters, Task, Transport};
use indelible::types::command::Command;
use indelible::types::edition::Edition;
use indelible::types::hello::Hello;
use indelible::types::limits::{SESSION_WINDOW, SESSIONS_MAX};
use indelible::types::message::Envelope;
use indelible::types::time::Moment;
use indelible::{Committed, Pending, ReplicaId};

use crate::explore::Time;

/// What the clock would rescue a forgotten event with, at the earliest.
pub const HEARTBEAT: Duration = Duration::from_millis(50);

pub const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);

/// A disk in memory whose syncs fail once so many have succeeded. It notices who writes to a
/// directory that was given up.
#[derive(Clone)]
pub struct Failing {
    disk: MemoryDisk,
    syncs_left: Arc<AtomicUsize>,
    trespassed: Arc<AtomicBool>,
}

pub struct FailingFile(MemoryFile, Failing);

impl Failing {
    pub fn new() -> Self {
        let syncs_left = Arc::new(AtomicUsize::new(usize::MAX));
        Self { disk: MemoryDisk::new(), syncs_left, trespassed: Arc::default() }
    }

    /// So many more syncs succeed.
    pub fn fail_after(&self, syncs: usize) {
        self.syncs_left.store(syncs, Ordering::SeqCst);
    }

    pub fn has_failed(&self) -> bool {
        self.syncs_left.load(Ordering::SeqCst) == 0
    }

    /// Asserts that another replica can be opened in this directory, unless the end of this one ran
    /// out of time; and that nobody wrote to it from when it could.
    pub fn assert_given_up(&self, time: Time) {
        assert!(time == Time::Any || self.is_free(), "the directory is still taken");
        assert!(!self.trespassed.load(Ordering::SeqCst), "somebody wrote after the end");
    }

    fn is_free(&self) -> bool {
        self.disk.lock().is_ok()
    }
}

impl Disk for Failing {
    type File = FailingFile;
    type Lock = MemoryLock;

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn create(&self, name: &str) -> io::Result<FailingFile> {
        Ok(FailingFile(self.disk.create(name)?, self.clone()))
    }

    fn open(&self, name: &str) -> io::Result<FailingFile> {
        Ok(FailingFile(self.disk.open(name)?, self.clone()))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory()
    }

    fn lock(&self) -> io::Result<MemoryLock> {
        self.disk.lock()
    }
}

impl File for FailingFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // A write takes long: much can happen before it is done.
        shuttle::thread::sleep(Duration::ZERO);
        if self.1.is_free() {
            self.1.trespassed.store(true, Ordering::SeqCst);
        }
        self.0.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        let take = |left: usize| left.checked_sub(1);
        let taken = self.1.syncs_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        taken.map_err(|_| io::Error::other("the disk is gone")).and_then(|_| self.0.sync())
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
}

/// A transport without peers. With it, callers leave the journal to the writers; its one task
/// brings events that nobody waits for, as readers do.
#[derive(Default)]
pub struct Quiet {
    arrivals: usize,
    closing: Arc<(Mutex<bool>, Condvar)>,
}

impl Quiet {
    pub fn new(arrivals: usize) -> Arc<Self> {
        Arc::new(Self { arrivals, closing: Arc::default() })
    }
}

impl Transport for Quiet {
    fn start(&self, link: Link) -> io::Result<()> {
        let (arrivals, closing) = (self.arrivals, Arc::clone(&self.closing));
        let run = move || {
            for _ in 0..arrivals {
                (link.deliver)(vec![Arrival::Down { peer: ReplicaId(9) }]);
            }
            let (closed, changed) = &*closing;
            let mut closed = closed.lock();
            while !*closed {
                changed.wait(&mut closed);
            }
        };
        let spawn = Arc::clone(&link.spawn);
        assert!(spawn(Task { name: "reader".into(), is_vital: true, run: Box::new(run) }));
        Ok(())
    }

    fn send(&self, envelope: Envelope) {
        panic!("there is nobody to send to: {envelope:?}");
    }

    fn flush(&self) {}

    fn set_hello(&self, _: Hello) {}

    fn set_peers(&self, peers: Vec<(ReplicaId, String)>) {
        assert!(peers.is_empty(), "there are none: {peers:?}");
    }

    fn close(&self) {
        *self.closing.0.lock() = true;
        self.closing.1.notify_all();
    }

    fn counters(&self) -> Vec<PeerCounters> {
        Vec::new()
    }
}

/// Who writes the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// The callers, and the writers.
    Anybody,
    /// The writers only; events of no use arrive meanwhile.
    Writers,
}

pub fn start(disk: &Failing, writes: Writes) -> Handle {
    let layout = journal::Options { segment_bytes: 1 << 16, ..journal::Options::default() };
    let journal = Journal::open(disk.clone(), layout, ReplicaId(1)).unwrap();
    let driver = Driver::open(journal, options(), Moment::ZERO).unwrap();
    let transport = match writes {
        Writes::Anybody => None,
        Writes::Writers => Some(Quiet::new(2) as Arc<dyn Transport>),
    };
    threads::start(threads::Start { driver, transport, close_timeout: CLOSE_TIMEOUT }).unwrap()
}

fn options() -> turn::Options {
    turn::Options {
        id: ReplicaId(1),
        voters: Vec::new(),
        request_timeout: Duration::from_millis(300),
        queued_bytes_max: 1 << 20,
        join: None,
        quorums: None,
        sessions_max: SESSIONS_MAX,
        session_window: SESSION_WINDOW,
        queued_transactions_max: 1 << 12,
        waiting_reads_max: 1 << 12,
        journal_backlog_bytes_max: 64 << 20,
        heartbeat_interval: HEARTBEAT,
        election_timeout: Duration::from_millis(500),
        retransmit_interval: Duration::from_millis(100),
        priority: 0,
        knows: Edition::KNOWN,
        read_lease: None,
        inflight_slots_max: 16,
        inflight_bytes_max: 1 << 20,
        message_bytes_max: 1 << 20,
        seal_after: Duration::from_secs(60),
        checkpoint_bytes: u64::MAX,
        history_bytes_min: u64::MAX,
        checkpoint_bytes_per_second: 1 << 30,
        batcher: batcher::Options {
            commands_max: 8,
            bytes_max: 1 << 16,
            eager_bytes: 1 << 12,
            inflight_max: 2,
            gather: Duration::from_micros(100),
        },
    }
}

/// A transaction that changes nothing, but goes the whole way.
pub fn put(handle: &Handle) -> Pending<Committed> {
    handle.propose(&|ticket| Ok(Command::of(ticket).encode()))
}
