//! Three replicas, each a process of its own, of which the memory is measured while one of them, or
//! a disk, stands still, or more is asked of them than they can do.
//!
//! What is written holds under a condition that never does: it travels, is journaled and judged,
//! and nothing of it stays in the state, which would grow by right.

use std::collections::VecDeque;
use std::io::{self, BufRead};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indelible::journal::disk::{Disk, File, RealDisk};
use indelible::runtime::handle::Handle;
use indelible::runtime::opening::{Opening, Reach};
use indelible::{Committed, ErrorKind, Pending, ReplicaId};

use crate::child::{self, Process};
use crate::cluster::{addresses, until};
use crate::replica::{options, propose};

const MIB: u64 = 1 << 20;
/// What one of the callers has outstanding at most: together more than may wait for a slot, and
/// be in one.
const OUTSTANDING_MAX: usize = 32 * 1024;
/// How much more memory a process may take while something stands still than the same flood took
/// before: what its disk or a lane may hold (4 MiB each, twice: as entries, and as bytes that are
/// on their way), and what the allocator does not give back. Without the bounds it would be all
/// that is written.
const MORE_MAX: u64 = 64 * MIB;
/// What the limits of a replica add up to, 4 MiB each: commands that callers brought since the turn
/// began, that wait for a slot, and that are in one; groups that wait for the disk; and two lanes,
/// each with entries, and with bytes that are on their way.
const LIMITS: u64 = (4 + 2 * 2) * 4 * MIB;
/// How much more memory a process may take in its first flood than it had: a command is held as
/// such, in its entry, and in a message; and of what many threads freed, the allocator keeps a part
/// for each. What fits the limits took 85 MiB.
const ROOM: u64 = 4 * LIMITS;
/// The same for small ones, each of which takes more than its bytes: a call and its answer for all
/// that the four callers have outstanding, and what its session keeps. It took 175 MiB.
const ROOM_OF_SMALL: u64 = ROOM + (4 * OUTSTANDING_MAX as u64) * 1024;
/// How much is written before, so that whatever is kept for later use is there.
const WARM: u64 = 64 * MIB;
/// How much is written meanwhile: whoever kept it all would be found out.
const WRITTEN: u64 = 96 * MIB;

/// A disk on which no sync ends while the flag is up. Else they take no time: nothing here loses
/// power, and much is to be written.
struct HangingDisk(RealDisk, Arc<AtomicBool>);

struct HangingFile(<RealDisk as Disk>::File, Arc<AtomicBool>);

impl Disk for HangingDisk {
    type File = HangingFile;
    type Lock = <RealDisk as Disk>::Lock;

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn create(&self, name: &str) -> io::Result<HangingFile> {
        Ok(HangingFile(self.0.create(name)?, Arc::clone(&self.1)))
    }

    fn open(&self, name: &str) -> io::Result<HangingFile> {
        Ok(HangingFile(self.0.open(name)?, Arc::clone(&self.1)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<Self::Lock> {
        self.0.lock()
    }
}

impl File for HangingFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        while self.1.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
}

// The child.

/// The replica. It says a line in answer to each of `flood BYTES MILLISECONDS`, `hang`, `go on`,
/// `leader` and `slot`.
pub fn serve(id: u64, directory: &str, peers: &[String]) {
    let voters = peers.iter().map(|peer| {
        let (id, address) = peer.split_once('=').unwrap();
        (ReplicaId(id.parse().unwrap()), address.to_owned())
    });
    let hangs = Arc::new(AtomicBool::new(false));
    let disk = HangingDisk(RealDisk::new(Path::new(directory)).unwrap(), Arc::clone(&hangs));
    let opening = Opening {
        journal: indelible::journal::Options { segment_bytes: 4 << 20, ..Default::default() },
        driver: options(id, voters.collect()),
        reach: Reach::Tcp { listen: None, peer_queue_bytes_max: 4 << 20 },
        close_timeout: Duration::from_secs(1),
    };
    let handle = opening.open_on(disk).unwrap();
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let words = line.split(' ').collect::<Vec<_>>();
        let view = handle.report().0.view;
        child::say(&match words[..] {
            ["flood", bytes, millis] => propose_for(
                &handle,
                bytes.parse().unwrap(),
                Duration::from_millis(millis.parse().unwrap()),
            ),
            ["hang"] => {
                hangs.store(true, Ordering::SeqCst);
                "hangs".into()
            }
            ["go", "on"] => {
                hangs.store(false, Ordering::SeqCst);
                "goes on".into()
            }
            ["leader"] => {
                let leader = view.and_then(|view| view.leader);
                leader.map_or("none".into(), |ballot| format!("{} {}", ballot.leader, ballot.round))
            }
            ["slot"] => view.map_or(0, |view| view.slot_chosen.0).to_string(),
            _ => panic!("{line}"),
        });
    }
}

/// The answer, if there is one already.
fn first_answer(pending: &mut Pending<Committed>) -> Option<indelible::Result<Committed>> {
    pending.wait_timeout(Duration::ZERO)
}

/// Some threads propose as fast as they can, and wait for nobody; but where they are refused, as
/// long as they are told. Says how many ended, were refused as busy, and failed.
fn propose_for(handle: &Handle, bytes: usize, time: Duration) -> String {
    let counts = [const { AtomicU64::new(0) }; 3];
    let until = Instant::now() + time;
    // Returns for how long to wait.
    let count = |result: indelible::Result<Committed>| {
        let err = result.expect_err("its condition never holds");
        let place = match err.kind() {
            ErrorKind::Refused => 0,
            ErrorKind::Busy => 1,
            _ => 2,
        };
        counts[place].fetch_add(1, Ordering::Relaxed);
        err.retry_after()
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let value = vec![7; bytes];
                let mut pending = VecDeque::new();
                while Instant::now() < until {
                    let mut newest = propose(handle, &value);
                    let mut wait = None;
                    match newest.wait_timeout(Duration::ZERO) {
                        Some(answer) => wait = count(answer),
                        None => pending.push_back(newest),
                    }
                    while let Some(answer) = pending.front_mut().and_then(first_answer) {
                        pending.pop_front();
                        wait = wait.max(count(answer));
                    }
                    // Answers that nobody took are not the replica's.
                    if pending.len() > OUTSTANDING_MAX
                        && let Some(oldest) = pending.pop_front()
                    {
                        wait = wait.max(count(oldest.wait()));
                    }
                    std::thread::sleep(wait.unwrap_or_default());
                }
                for it in pending {
                    count(it.wait());
                }
            });
        }
    });
    counts.map(|count| count.into_inner().to_string()).join(" ")
}

// The parent.

struct Running {
    id: u64,
    process: Process,
}

impl Running {
    fn start(id: u64, directory: &Path, peers: &[(u64, String)]) -> Self {
        let peers = peers.iter().map(|(id, address)| format!("{id}={address}"));
        let peers = peers.collect::<Vec<_>>();
        let (name, path) = (id.to_string(), directory.join(id.to_string()));
        std::fs::create_dir(&path).unwrap();
        let mut role = vec!["replica", &name, path.to_str().unwrap()];
        role.extend(peers.iter().map(String::as_str));
        Self { id, process: Process::start(&role) }
    }

    fn ask(&mut self, line: &str) -> String {
        self.process.tell(line);
        self.process.line().unwrap()
    }

    fn signal(&self, signal: &str) {
        let mut command = std::process::Command::new("kill");
        let sent = command.args([signal, &self.process.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }
}

/// Bytes of memory that a process holds.
fn memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Three processes in a directory, the leader first.
fn start(directory: &Path) -> Vec<Running> {
    let peers = addresses(3);
    let begin = |(id, _): &(u64, String)| Running::start(*id, directory, &peers);
    let mut running = peers.iter().map(begin).collect::<Vec<_>>();
    let leader = leader(&mut running);
    let place = running.iter().position(|it| leader.starts_with(&format!("{} ", it.id))).unwrap();
    running.swap(0, place);
    running
}

/// The leader on whom these agree, and its round.
fn leader(running: &mut [Running]) -> String {
    let mut leader = String::new();
    until("a leader on whom all agree", || {
        leader = running[0].ask("leader");
        leader != "none" && running.iter_mut().all(|it| it.ask("leader") == leader)
    });
    leader
}

/// What came of a flood.
#[derive(Debug, Default)]
struct Flooded {
    ended: u64,
    busy: u64,
    failed: u64,
    /// Most memory that each process held while it lasted, in MiB.
    most: Vec<u64>,
}

/// Floods one process until `written` bytes went through.
fn flood(running: &mut [Running], at: usize, bytes: u64, written: u64) -> Flooded {
    let processes = running.iter().map(|it| it.process.child.id()).collect::<Vec<_>>();
    let mut flooded = Flooded::default();
    let over = AtomicBool::new(false);
    flooded.most = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = vec![0; processes.len()];
            while !over.load(Ordering::SeqCst) {
                for (most, process) in most.iter_mut().zip(&processes) {
                    *most = memory(*process).div_ceil(MIB).max(*most);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            most
        });
        until("enough is written", || {
            let said = running[at].ask(&format!("flood {bytes} 500"));
            let mut numbers = said.split(' ').map(|number| number.parse::<u64>().unwrap());
            flooded.ended += numbers.next().unwrap();
            flooded.busy += numbers.next().unwrap();
            flooded.failed += numbers.next().unwrap();
            flooded.ended * bytes >= written
        });
        over.store(true, Ordering::SeqCst);
        watch.join().unwrap()
    });
    println!("{flooded:?}");
    assert!(flooded.ended > 0 && flooded.busy > 0, "it was no flood: {flooded:?}");
    flooded
}

/// Everybody comes to know what the leader knows.
fn expect_level(running: &mut [Running]) {
    until("all know the same", || {
        let slot = running[0].ask("slot");
        running.iter_mut().all(|it| it.ask("slot") == slot)
    });
}

/// What each of them holds while nothing is asked of it, in MiB.
fn idle(running: &[Running]) -> Vec<u64> {
    running.iter().map(|it| memory(it.process.child.id()).div_ceil(MIB)).collect()
}

/// A flood takes no more memory than there is room for.
#[track_caller]
fn check_room(flooded: &Flooded, idle: &[u64], room: u64) {
    for (most, idle) in flooded.most.iter().zip(idle) {
        assert!(*most <= idle + room / MIB, "{flooded:?}, and {idle:?} MiB before it");
    }
}

/// A flood takes no more memory than one before it.
#[track_caller]
fn check(flooded: &Flooded, before: &Flooded) {
    for (most, before) in flooded.most.iter().zip(&before.most) {
        assert!(*most <= before + MORE_MAX / MIB, "{flooded:?}, and before that {before:?}");
    }
}

#[test]
fn a_stopped_follower_costs_its_leader_no_memory() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = start(directory.path());
    let idle = idle(&running);
    let before = flood(&mut running, 0, 60_000, WARM);
    check_room(&before, &idle, ROOM);
    let ballot = running[0].ask("leader");
    running[2].signal("-STOP");
    let flooded = flood(&mut running, 0, 60_000, WRITTEN);
    running[2].signal("-CONT");
    check(&flooded, &before);
    assert_eq!(flooded.failed, 0);
    assert_eq!(running[0].ask("leader"), ballot, "nobody was unseated");
    expect_level(&mut running);
}

#[test]
fn a_follower_whose_disk_hangs_holds_no_more_than_it_may() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = start(directory.path());
    let idle = idle(&running);
    let before = flood(&mut running, 0, 60_000, WARM);
    check_room(&before, &idle, ROOM);
    let ballot = running[0].ask("leader");
    running[2].ask("hang");
    let flooded = flood(&mut running, 0, 60_000, WRITTEN);
    running[2].ask("go on");
    check(&flooded, &before);
    assert_eq!(flooded.failed, 0);
    assert_eq!(running[0].ask("leader"), ballot, "nobody was unseated");
    expect_level(&mut running);
}

#[test]
fn a_leader_whose_disk_hangs_holds_no_more_than_it_may() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = start(directory.path());
    let idle = idle(&running);
    let before = flood(&mut running, 0, 60_000, WARM);
    check_room(&before, &idle, ROOM);
    // It leads on at first, and proposes what its disk may be behind; then it hands over, and is
    // sent what the others agree on.
    running[0].ask("hang");
    let led = running[1].ask("leader");
    let hung = flood(&mut running, 0, 60_000, 1);
    until("another one leads", || ![led.as_str(), "none"].contains(&&*running[1].ask("leader")));
    let flooded = flood(&mut running, 1, 60_000, WRITTEN);
    running[0].ask("go on");
    check(&hung, &before);
    // Another one has the callers now.
    let [hung, _, third] = before.most[..] else { panic!("{before:?}") };
    check(&flooded, &Flooded { most: vec![hung, hung, third], ..before });
    expect_level(&mut running);
}

#[test]
fn a_flood_of_small_ones_is_refused_and_unseats_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = start(directory.path());
    let ballot = running[0].ask("leader");
    for at in 0..3 {
        let idle = idle(&running);
        // As many small ones as may wait do so only in the second flood, where all is slow.
        let first = flood(&mut running, at, 10, 2 * MIB);
        let before = flood(&mut running, at, 10, 2 * MIB);
        check_room(&first, &idle, ROOM_OF_SMALL);
        check_room(&before, &idle, ROOM_OF_SMALL);
        let flooded = flood(&mut running, at, 10, 2 * MIB);
        check(&flooded, &before);
        assert_eq!(first.failed + before.failed + flooded.failed, 0);
    }
    assert_eq!(leader(&mut running), ballot, "nobody was unseated");
    expect_level(&mut running);
}
