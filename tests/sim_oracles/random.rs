//! Histories of the shipped store under random overlaps pass; with one wrong answer they do not.
//!
//! The store applies transactions one after the other. Around the moment at which each was applied
//! lies a random span in which a client waited for it, so that calls overlap, and some outcomes are
//! forgotten.

use std::time::Instant;

use indelible::TxId;
use indelible::sim::checkers::history::{
    Call, Change, Condition, Conflict, Expectation, History, Key, Operation, Outcome, Record,
    Transaction, Versioned,
};
use indelible::sim::checkers::{Conclusion, occ, replay, search};
use indelible::store::Store;
use indelible::store::verdict::Verdict;
use indelible::types::command::{self, Command, KeyKind, TableUse, ValueCodec};
use indelible::types::entry::EntryBuilder;
use indelible::types::error::Expectation as Wanted;
use indelible::types::ids::{RequestId, Slot};
use indelible::types::time::Time;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const TABLE: TableUse<'static> =
    TableUse { name: "t", key_kind: KeyKind("bytes"), codec: ValueCodec::Raw };

/// A generator of numbers: equal seeds, equal histories.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }

    fn key(&mut self) -> Key {
        Key::new(0, format!("key {}", self.below(6)))
    }
}

/// A correct history in the making.
struct Made {
    random: Random,
    store: Store,
    history: History,
    ledger: Vec<Record>,
    slot: Slot,
    /// For each key, versions that it had.
    versions: Vec<(Key, u64)>,
}

impl Made {
    /// `calls` calls, each waiting up to `overlap` times as long as it takes to the next one.
    fn of(seed: u64, calls: u64, overlap: u64) -> Self {
        let mut made = Self {
            random: Random(seed),
            store: Store::new(),
            history: History::default(),
            ledger: Vec::new(),
            slot: Slot::ZERO,
            versions: Vec::new(),
        };
        for number in 0..calls {
            made.call(number, overlap);
        }
        made
    }

    fn call(&mut self, number: u64, overlap: u64) {
        let now = 1_000 * (number + overlap);
        let forgotten = self.random.below(20) == 0;
        let (call, mut outcome) = match self.random.below(10) {
            0..3 => self.read(),
            _ => self.transaction(number, forgotten),
        };
        if forgotten {
            outcome = Outcome::Unknown;
        }
        let invoked = now - self.random.below(1_000 * overlap);
        let returned = Some(now + self.random.below(1_000 * overlap));
        let operation = Operation { client: 1, number, invoked, returned, call, outcome };
        self.history.operations.push(operation);
    }

    fn read(&mut self) -> (Call, Outcome) {
        let keys: Vec<Key> = (0..=self.random.below(2)).map(|_| self.random.key()).collect();
        let at = self.store.applied().txid;
        let value = |key: &Key| {
            let found = self.store.get(&TABLE, &key.bytes, at).unwrap()?;
            Some(Versioned { version: found.version.get(), value: found.value.to_vec() })
        };
        let values = keys.iter().map(value).collect();
        (Call::Read(keys), Outcome::Read { at: at.get(), values })
    }

    fn transaction(&mut self, number: u64, forgotten: bool) -> (Call, Outcome) {
        let mut transaction = Transaction::default();
        for index in 0..=self.random.below(2) {
            let value =
                (self.random.below(4) > 0).then(|| format!("{number}.{index}").into_bytes());
            transaction.changes.push(Change { key: self.random.key(), value });
        }
        if self.random.below(2) == 0 {
            let key = self.random.key();
            let had = self.versions.iter().rev().filter(|(had, _)| *had == key);
            let wanted = match self.random.below(6) {
                0 => Expectation::Absent,
                1 => Expectation::Present,
                back => match had.map(|(_, version)| *version).nth(back as usize / 5) {
                    Some(version) => Expectation::Version(version),
                    None => Expectation::Absent,
                },
            };
            transaction.conditions.push(Condition { key, wanted });
        }
        let happens = !forgotten || self.random.below(2) == 0;
        let outcome = if happens { self.apply(number, &transaction) } else { Outcome::NotHappened };
        (Call::Transaction(transaction), outcome)
    }

    fn apply(&mut self, number: u64, transaction: &Transaction) -> Outcome {
        let mut entry = EntryBuilder::new(Time(0), 0);
        entry.push(&encoded(transaction));
        let applied = self.store.apply(self.slot, &entry.finish()).unwrap();
        self.slot = self.slot.next();
        match &applied.verdicts[0].1 {
            Verdict::Committed { at, txid } => {
                let txid = txid.map(TxId::get);
                if let Some(txid) = txid {
                    let transaction = transaction.clone();
                    let keys = transaction.standing().map(|change| (change.key.clone(), txid));
                    self.versions.extend(keys);
                    self.ledger.push(Record { txid, client: 1, number, transaction });
                }
                Outcome::Committed { at: at.get(), txid }
            }
            Verdict::Refused(told) => Outcome::Conflict(Conflict {
                condition: told.condition,
                key: Key::new(0, told.key.clone()),
                wanted: match told.wanted {
                    Wanted::Absent => Expectation::Absent,
                    Wanted::Version(version) => Expectation::Version(version.get()),
                    _ => Expectation::Present,
                },
                found: told.found.map(TxId::get),
            }),
            Verdict::TableMismatch(mismatch) => panic!("{mismatch}"),
        }
    }
}

fn encoded(transaction: &Transaction) -> Vec<u8> {
    fn key(key: &Key) -> command::Key<'_> {
        command::Key { table: 0, bytes: &key.bytes }
    }
    let mut command = Command {
        request: RequestId::default(),
        tables: vec![TABLE],
        conditions: Vec::new(),
        operations: Vec::new(),
    };
    for it in &transaction.conditions {
        command.conditions.push(match it.wanted {
            Expectation::Absent => command::Condition::Absent(key(&it.key)),
            Expectation::Present => command::Condition::Present(key(&it.key)),
            Expectation::Version(version) => {
                let version = TxId::from_number(version).unwrap();
                command::Condition::Version(key(&it.key), version)
            }
        });
    }
    for change in &transaction.changes {
        command.operations.push(match &change.value {
            Some(value) => command::Operation::Put(key(&change.key), value),
            None => command::Operation::Delete(key(&change.key)),
        });
    }
    command.encode()
}

/// Makes one answer wrong, whatever else it could be; which one is left to `pick`.
fn spoil(history: &mut History, last: u64, pick: usize) -> &'static str {
    let count = history.operations.len();
    for index in (0..count).map(|index| (pick + index) % count) {
        let operation = &mut history.operations[index];
        match &mut operation.outcome {
            Outcome::Read { values, .. } => match &mut values[0] {
                Some(read) if pick.is_multiple_of(3) => {
                    read.value.push(b'!');
                    return "value";
                }
                Some(read) if pick % 3 == 1 => {
                    read.version = if read.version == 1 { 2 } else { read.version - 1 };
                    return "version";
                }
                Some(_) => {
                    values[0] = None;
                    return "value gone";
                }
                None => {}
            },
            Outcome::Conflict(conflict) => {
                conflict.found = Some(last + 1);
                return "found";
            }
            Outcome::Committed { at, txid: txid @ Some(_) } => {
                (*at, *txid) = match pick % 2 {
                    0 => (*at, None),
                    _ => (last + 1, Some(last + 1)),
                };
                return if pick.is_multiple_of(2) { "no id" } else { "id" };
            }
            _ => {}
        }
    }
    "nothing"
}

#[test]
fn correct_histories_pass_and_spoiled_ones_do_not() {
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let caught = std::cell::RefCell::new(std::collections::BTreeMap::new());
    let strategy = (any::<u64>(), 20_u64..120, 1_u64..8, any::<usize>());
    let judged = runner.run(&strategy, |(seed, calls, overlap, pick)| {
        let Made { mut history, ledger, .. } = Made::of(seed, calls, overlap);
        let passed = |told: Conclusion| assert_eq!(told, Conclusion::Passed);
        let by_replay = replay::check(&history, Some(&ledger)).map(passed);
        prop_assert_eq!(by_replay, Ok(()));
        let by_search = search::check(&history, 1_000_000).map(|it| passed(it.conclusion()));
        prop_assert_eq!(by_search, Ok(()));
        prop_assert_eq!(occ::check(&history), Ok(()));

        let how = spoil(&mut history, ledger.len() as u64, pick);
        let by_replay = replay::check(&history, Some(&ledger)).is_err();
        let by_search = search::check(&history, 1_000_000).is_err();
        let by_rules = occ::check(&history).is_err();
        let mut caught = caught.borrow_mut();
        let told: &mut [u32; 4] = caught.entry(how).or_default();
        for (count, is) in told.iter_mut().zip([true, by_replay, by_search, by_rules]) {
            *count += u32::from(is);
        }
        prop_assert!(by_replay || how == "nothing", "{} is not seen", how);
        Ok(())
    });
    let caught = caught.into_inner();
    println!("spoiled: times, caught by the replay, the search, the rules: {caught:?}");
    judged.unwrap();
    let by_search: u32 = caught.values().map(|told| told[2]).sum();
    let spoiled: u32 = caught.values().map(|told| told[0]).sum();
    assert!(by_search * 2 > spoiled, "the search catches {by_search} of {spoiled}");
}

#[test]
#[ignore = "measures; run it with --release and --nocapture"]
fn figures() {
    let Made { history, ledger, .. } = Made::of(7, 1_000, 5);
    let time = |what: &str, check: &dyn Fn()| {
        let took = |()| {
            let start = Instant::now();
            check();
            start.elapsed()
        };
        let mut took: Vec<_> = [(); 101].map(took).into();
        took.sort();
        let calls = history.operations.len();
        println!("{what} of {calls} calls: median {:?}, least {:?}", took[50], took[0]);
    };
    time("replay", &|| _ = replay::check(&history, Some(&ledger)).unwrap());
    time("search", &|| _ = search::check(&history, 1_000_000).unwrap());
    time("rules", &|| occ::check(&history).unwrap());
    println!("{:?}", search::check(&history, 1_000_000).unwrap());
}
