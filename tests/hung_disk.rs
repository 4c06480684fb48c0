//! A disk that hangs: nobody who calls a lone replica waits beyond the deadline.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indelible::journal::disk::{Disk, File};
use indelible::journal::memory::{MemoryDisk, MemoryFile, MemoryLock};
use indelible::journal::{self, Journal};
use indelible::runtime::driver::Driver;
use indelible::runtime::{batcher, threads, turn};
use indelible::types::command::Command;
use indelible::types::edition::Edition;
use indelible::types::limits::{SESSION_WINDOW, SESSIONS_MAX};
use indelible::types::message::EncodedCommand;
use indelible::types::time::{Clocks, Moment, Time};
use indelible::{ErrorKind, Pending, ReplicaId, RequestId, SessionId};

/// Whoever syncs while the flag is up waits.
#[derive(Clone)]
struct HungDisk(MemoryDisk, Arc<AtomicBool>);

struct HungFile(MemoryFile, Arc<AtomicBool>);

impl Disk for HungDisk {
    type File = HungFile;
    type Lock = MemoryLock;

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn create(&self, name: &str) -> io::Result<HungFile> {
        Ok(HungFile(self.0.create(name)?, Arc::clone(&self.1)))
    }

    fn open(&self, name: &str) -> io::Result<HungFile> {
        Ok(HungFile(self.0.open(name)?, Arc::clone(&self.1)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.0.sync_directory()
    }

    fn lock(&self) -> io::Result<MemoryLock> {
        self.0.lock()
    }
}

impl File for HungFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        while self.1.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        self.0.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
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
        heartbeat_interval: Duration::from_millis(50),
        election_timeout: Duration::from_millis(500),
        retransmit_interval: Duration::from_millis(100),
        priority: 0,
        knows: Edition::KNOWN,
        read_lease: None,
        inflight_slots_max: 2048,
        inflight_bytes_max: 1 << 24,
        message_bytes_max: 1 << 20,
        seal_after: Duration::from_secs(60),
        checkpoint_bytes: u64::MAX,
        history_bytes_min: u64::MAX,
        checkpoint_bytes_per_second: 1 << 30,
        batcher: batcher::Options {
            commands_max: 1000,
            bytes_max: 1 << 20,
            eager_bytes: 1 << 16,
            inflight_max: 4,
            gather: Duration::from_micros(100),
        },
    }
}

#[test]
fn calls_are_answered_while_the_disk_hangs() {
    let patience = Duration::from_secs(30);
    let hangs = Arc::new(AtomicBool::new(false));
    let disk = HungDisk(MemoryDisk::new(), Arc::clone(&hangs));
    let journal = Journal::open(disk, journal::Options::default(), ReplicaId(1)).unwrap();
    let driver = Driver::open(journal, options(), Moment::ZERO).unwrap();
    let close_timeout = Duration::from_millis(100);
    let start = threads::Start { driver, transport: None, close_timeout };
    let handle = threads::start(start).unwrap();
    handle.read(Some(patience)).wait().unwrap();
    let put = || handle.propose(&|ticket| Ok(Command::of(ticket).encode()));
    for _ in 0..4 {
        put().wait().unwrap();
    }

    hangs.store(true, Ordering::SeqCst);
    let mut calls = (0..6).map(|_| put()).collect::<Vec<_>>();
    let early = calls.iter_mut().map(|call| call.wait_timeout(patience)).collect::<Vec<_>>();
    // Batches are in flight for ever now: later calls gather behind them.
    let late = put().wait_timeout(patience);
    hangs.store(false, Ordering::SeqCst);
    for answer in early.into_iter().chain([late]) {
        assert!(answer.expect("every call is answered in time").is_err());
    }
    handle.close().unwrap();
}

#[test]
fn who_closes_while_the_disk_hangs_is_told_so() {
    let (hangs, patience) = (Arc::new(AtomicBool::new(false)), Duration::from_secs(30));
    let disk = HungDisk(MemoryDisk::new(), Arc::clone(&hangs));
    let journal = Journal::open(disk.clone(), journal::Options::default(), ReplicaId(1)).unwrap();
    let driver = Driver::open(journal, options(), Moment::ZERO).unwrap();
    let close_timeout = Duration::from_millis(100);
    let start = threads::Start { driver, transport: None, close_timeout };
    let handle = threads::start(start).unwrap();
    handle.read(Some(patience)).wait().unwrap();

    hangs.store(true, Ordering::SeqCst);
    let mut put = handle.propose(&|ticket| Ok(Command::of(ticket).encode()));
    assert!(put.wait_timeout(Duration::from_millis(200)).is_none());
    let err = handle.close().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::TimedOut, "{err}");
    assert!(disk.lock().is_err(), "something may still write to it");
    let err = put.wait_timeout(patience).expect("it is answered").unwrap_err();
    assert!(err.is_outcome_unknown(), "it was proposed: {err}");
    // Once the disk goes on, it can be closed.
    hangs.store(false, Ordering::SeqCst);
    handle.close().unwrap();
    disk.lock().unwrap();
}

#[test]
fn of_two_that_close_the_less_patient_one_ends_it() {
    let (hangs, patience) = (Arc::new(AtomicBool::new(false)), Duration::from_secs(60));
    let disk = HungDisk(MemoryDisk::new(), hangs);
    let journal = Journal::open(disk.clone(), journal::Options::default(), ReplicaId(1)).unwrap();
    let mut driver = Driver::open(journal, options(), Moment::ZERO).unwrap();
    let turn = |driver: &mut Driver<HungDisk>, events: Vec<turn::Event<HungDisk>>| {
        let clocks = Clocks { now: Moment(1), uptime: Moment(1), wall: Time(1) };
        driver.turn(clocks, events)
    };
    // What it writes does not come to an end.
    let (mut put, completer) = Pending::new();
    let request = RequestId { session: SessionId(1), sequence: 1 };
    let bytes = Command::of(request).encode();
    let command = EncodedCommand { request, bytes };
    let begun = turn(&mut driver, vec![turn::Event::propose(command, completer, false)]);
    assert!(!turn(&mut driver, vec![turn::Event::Close(patience)]).stopped);
    assert!(!driver.release() && disk.lock().is_err(), "it may still write");
    let end = turn(&mut driver, vec![turn::Event::Close(Duration::ZERO)]);
    assert!(end.stopped);
    end.answers.into_iter().for_each(|answer| assert!(answer.give().is_none()));
    let err = put.wait_timeout(Duration::ZERO).expect("it is answered").unwrap_err();
    assert!(err.is_outcome_unknown(), "it was proposed: {err}");
    assert!(driver.release() && disk.lock().is_ok());
    drop(begun);
}
