//! One durable replica in a process that is killed 50 times.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use indelible::{Pending, Replica, TxId};

use crate::Random;
use crate::child::{self, Process};
use crate::cluster::{NOTES, PATIENCE, config, ledger};

const LIVES: u64 = 50;
/// Writes that a writer has under way.
const OUTSTANDING: usize = 16;

/// The key of the `number`th write of a life.
fn key(life: u64, number: u64) -> u64 {
    life * 1_000_000 + number
}

/// What is written at `key`: its length varies, its content is the key.
fn value(key: u64) -> Vec<u8> {
    key.to_le_bytes().repeat(1 + usize::try_from(key * 37 % 100).unwrap())
}

/// The writer: says `ack KEY TXID` for each write that was acknowledged, until it is killed.
pub fn write(path: &str, life: u64) {
    let replica = Replica::builder(path).config(config()).open().unwrap();
    let mut under_way: VecDeque<(u64, Pending<indelible::Committed>)> = VecDeque::new();
    for number in 0.. {
        let key = key(life, number);
        under_way.push_back((key, replica.put(NOTES, key, &value(key))));
        if under_way.len() == OUTSTANDING {
            let (key, put) = under_way.pop_front().unwrap();
            let txid = put.wait().unwrap().txid.unwrap();
            child::say(&format!("ack {key} {}", txid.get()));
        }
    }
}

/// Lets a writer live for a while, kills it, and returns what it had acknowledged.
fn live_and_die(path: &Path, life: u64, random: &mut Random) -> Vec<(u64, TxId)> {
    let mut process = Process::start(&["writer", path.to_str().unwrap(), &life.to_string()]);
    let mut lines = Vec::new();
    // Some die while they open, the others after their first acknowledgement.
    let millis = if life % 5 == 4 {
        random.below(15)
    } else {
        lines.push(process.line().expect("the writer acknowledges something"));
        2 + random.below(100)
    };
    // Not a wait for something: the moment of death.
    let (_sender, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(Duration::from_millis(millis));
    lines.extend(process.kill());
    let parse = |line: String| {
        let words = line.split(' ').collect::<Vec<_>>();
        let ["ack", key, txid] = words[..] else { panic!("the writer said {line:?}") };
        (key.parse().unwrap(), TxId::from_number(txid.parse().unwrap()).unwrap())
    };
    lines.into_iter().map(parse).collect()
}

#[test]
fn nothing_acknowledged_is_lost_in_fifty_kills() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random(7);
    // Everything that was ever seen, acknowledged or found: it may never change again.
    let mut history: Vec<(TxId, u64)> = Vec::new();
    let mut acknowledged = 0;
    for life in 0..LIVES {
        let told = live_and_die(directory.path(), life, &mut random);
        acknowledged += told.len();
        let replica = Replica::builder(directory.path()).config(config()).open().unwrap();
        replica.wait_ready(PATIENCE).unwrap();
        let records = ledger(&replica);
        let found = records.iter().map(|record| {
            let change = record.changes().of(NOTES).next().unwrap().unwrap();
            assert!(*change.value.unwrap() == *value(change.key), "{} is garbled", change.key);
            (record.txid(), change.key)
        });
        let found = found.collect::<Vec<_>>();
        assert!(found.starts_with(&history), "life {life}: what was there before has changed");
        assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0), "ids do not increase");
        // Of this life there is a prefix, in order, with at least what was acknowledged.
        let own = found[history.len()..].iter().map(|(_, key)| *key);
        assert!(own.eq((0..).map(|number| key(life, number)).take(found.len() - history.len())));
        let index = found.iter().map(|(txid, key)| (*key, *txid)).collect::<BTreeMap<_, _>>();
        for (key, txid) in told {
            assert_eq!(index.get(&key), Some(&txid), "life {life}: {key} was acknowledged");
        }
        let snapshot = replica.snapshot().wait().unwrap();
        let state = snapshot.range(NOTES, ..).map(|entry| {
            let (key, found) = entry.unwrap();
            (key, found.version)
        });
        assert!(state.eq(index), "life {life}: the state is not what the ledger adds up to");
        history = found;
        // Half of the time the next life follows a kill, not a clean close.
        if life % 2 == 0 {
            replica.close().unwrap();
        }
    }
    assert!(acknowledged > 50 * OUTSTANDING, "{acknowledged}: the writers hardly wrote");
    println!("{acknowledged} acknowledged, {} found, in {LIVES} lives", history.len());
}
