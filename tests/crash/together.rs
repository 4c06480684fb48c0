//! Three replicas, each a process of its own, killed one after the other while clients write.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use indelible::{Config, Replica, TxId};

use crate::Random;
use crate::child::{self, Process};
use crate::cluster::{NOTES, PATIENCE, addresses, config, ledger, until};

const KILLS: u64 = 20;

/// The replica: for each line `KEY` it writes that key, and says `ok KEY TXID` or `failed KEY`.
pub fn serve(id: u64, directory: &str, peers: &[String]) {
    let peers = peers.iter().map(|peer| {
        let (id, address) = peer.split_once('=').unwrap();
        (id.parse::<u64>().unwrap(), address)
    });
    let config = Config { request_timeout: Duration::from_secs(3), ..config() };
    let builder = Replica::builder(directory).id(id).peers(peers).config(config);
    let replica = builder.open().unwrap();
    let (sender, receiver) = mpsc::channel::<(u64, indelible::Pending<indelible::Committed>)>();
    std::thread::spawn(move || {
        for (key, put) in receiver {
            child::say(&match put.wait() {
                Ok(committed) => format!("ok {key} {}", committed.txid.unwrap().get()),
                Err(err) => format!("failed {key} {err}"),
            });
        }
    });
    for line in std::io::stdin().lock().lines() {
        let key = line.unwrap().parse().unwrap();
        sender.send((key, replica.put(NOTES, key, &key.to_le_bytes()))).unwrap();
    }
}

/// Where clients write to and what they were told.
struct Clients {
    next: AtomicU64,
    stop: AtomicBool,
    acknowledged: Mutex<BTreeMap<u64, TxId>>,
}

/// Writes to one replica's process until that is killed: a few at a time.
fn write(clients: &Clients, process: &mut Process) {
    let mut under_way = 0;
    loop {
        while under_way < 8 && !clients.stop.load(Ordering::SeqCst) {
            process.tell(&clients.next.fetch_add(1, Ordering::SeqCst).to_string());
            under_way += 1;
        }
        let Some(line) = (under_way > 0).then(|| process.line()).flatten() else { return };
        under_way -= 1;
        let words = line.split(' ').collect::<Vec<_>>();
        if let ["ok", key, txid] = words[..] {
            let txid = TxId::from_number(txid.parse().unwrap()).unwrap();
            let earlier = clients.acknowledged.lock().unwrap().insert(key.parse().unwrap(), txid);
            assert!(earlier.is_none(), "{key} was acknowledged twice");
        }
    }
}

struct Running {
    pid: u32,
    client: std::thread::JoinHandle<()>,
}

fn start(id: u64, directory: &Path, peers: &[(u64, String)], clients: &Arc<Clients>) -> Running {
    let peers = peers.iter().map(|(id, address)| format!("{id}={address}")).collect::<Vec<_>>();
    let (id, path) = (id.to_string(), directory.join(id.to_string()));
    let mut role = vec!["replica", &id, path.to_str().unwrap()];
    role.extend(peers.iter().map(String::as_str));
    let mut process = Process::start(&role);
    let (pid, clients) = (process.child.id(), Arc::clone(clients));
    let client = std::thread::spawn(move || write(&clients, &mut process));
    Running { pid, client }
}

/// SIGKILL, to a process that this test started and has not waited for.
fn kill(running: Running) {
    let killed = std::process::Command::new("kill").args(["-9", &running.pid.to_string()]).status();
    assert!(killed.unwrap().success());
    running.client.join().unwrap();
}

#[test]
fn nothing_acknowledged_is_lost_while_three_processes_are_killed() {
    let directory = tempfile::tempdir().unwrap();
    let peers = addresses(3);
    let clients = Arc::new(Clients {
        next: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        acknowledged: Mutex::default(),
    });
    let count = || clients.acknowledged.lock().unwrap().len();
    let begin = |id| (id, start(id, directory.path(), &peers, &clients));
    let mut running = (1..=3).map(begin).collect::<BTreeMap<_, _>>();
    let mut random = Random(11);
    let mut longest = Duration::ZERO;
    for round in 0..KILLS {
        let (before, began) = (count(), Instant::now());
        until("writes go on", || count() > before + 20);
        longest = longest.max(began.elapsed());
        // Mostly one, now and then two at once, or all.
        let victims = match round % 7 {
            6 => vec![1, 2, 3],
            4 => vec![1 + random.below(3)],
            3 => vec![1 + round % 3, 1 + (round + 1) % 3],
            _ => vec![1 + random.below(3)],
        };
        for victim in &victims {
            kill(running.remove(victim).unwrap());
        }
        if victims.len() == 1 && round % 2 == 0 {
            let (before, began) = (count(), Instant::now());
            until("the others go on", || count() > before + 20);
            longest = longest.max(began.elapsed());
        }
        running.extend(victims.into_iter().map(begin));
    }
    clients.stop.store(true, Ordering::SeqCst);
    // They are killed once their last answers are there.
    running.into_values().for_each(|running| running.client.join().unwrap());
    let acknowledged = clients.acknowledged.lock().unwrap();
    compare(directory.path(), &peers, &acknowledged, clients.next.load(Ordering::SeqCst));
    println!("{} acknowledged, at most {longest:?} for the next twenty", acknowledged.len());
}

/// Opens all three here, and compares what they have with each other and with what was told.
fn compare(
    directory: &Path,
    peers: &[(u64, String)],
    acknowledged: &BTreeMap<u64, TxId>,
    asked: u64,
) {
    let open = |id: u64| {
        let builder = Replica::builder(directory.join(id.to_string())).id(id);
        builder.peers(peers.to_vec()).config(config()).open().unwrap()
    };
    let replicas = (1..=3).map(open).collect::<Vec<_>>();
    replicas.iter().for_each(|replica| replica.wait_ready(PATIENCE).unwrap());
    until("all have the same", || {
        let told = replicas.iter().map(Replica::status);
        let told = told.map(|status| (status.slot_applied, status.digest)).collect::<Vec<_>>();
        told.iter().all(|one| *one == told[0])
    });
    let ledgers = replicas.iter().map(ledger).collect::<Vec<_>>();
    assert!(ledgers.iter().all(|other| *other == ledgers[0]), "the ledgers differ");
    let mut found = BTreeMap::new();
    for record in &ledgers[0] {
        let change = record.changes().of(NOTES).next().unwrap().unwrap();
        assert_eq!(*change.value.unwrap(), change.key.to_le_bytes());
        assert!(change.key < asked, "nobody asked for {}", change.key);
        let earlier = found.insert(change.key, record.txid());
        assert!(earlier.is_none(), "{} was committed twice", change.key);
    }
    for (key, txid) in acknowledged {
        assert_eq!(found.get(key), Some(txid), "{key} was acknowledged");
    }
    replicas.iter().for_each(|replica| replica.close().unwrap());
}
