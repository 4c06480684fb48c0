//! Correct histories of the shipped store: random transactions, random overlaps.
//!
//! The store applies transactions one after the other. Around the moment at which each was applied
//! lies a random span in which a client waited for it, so that calls overlap, and some outcomes are
//! forgotten. Equal seeds, equal histories.

use indelible::TxId;
use indelible::sim::checkers::history::{
    Call, Change, Condition, Conflict, Expectation, History, Key, Operation, Outcome, Record,
    Transaction, Versioned,
};
use indelible::store::Store;
use indelible::store::verdict::Verdict;
use indelible::types::command::{self, Command, KeyKind, TableUse, ValueCodec};
use indelible::types::conflict::Expectation as Wanted;
use indelible::types::entry::EntryBuilder;
use indelible::types::ids::{RequestId, Slot};
use indelible::types::time::Time;

const TABLE: TableUse<'static> =
    TableUse { name: "t", key_kind: KeyKind("bytes"), codec: ValueCodec::Raw };

/// A generator of numbers.
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
pub struct Made {
    random: Random,
    store: Store,
    pub history: History,
    pub ledger: Vec<Record>,
    slot: Slot,
    /// For each key, versions that it had.
    versions: Vec<(Key, u64)>,
}

impl Made {
    /// `calls` calls, each waiting up to `overlap` times as long as it takes to the next one.
    pub fn of(seed: u64, calls: u64, overlap: u64) -> Self {
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
        let operation =
            Operation { client: 1, number, invoked, returned, call, outcome, told_to: 1 };
        self.history.operations.push(operation);
    }

    fn read(&mut self) -> (Call, Outcome) {
        let keys: Vec<Key> = (0..=self.random.below(2)).map(|_| self.random.key()).collect();
        let at = self.store.applied().txid;
        let value = |key: &Key| {
            let found = self.store.get(&TABLE, &key.bytes, at).expect("the table's own types")?;
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
        entry.push(&encoded(transaction, number));
        let applied = self.store.apply(self.slot, &entry.finish()).expect("a known command");
        self.slot = self.slot.next();
        match &applied.verdicts[0].verdict {
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
            other => panic!("{other:?}"),
        }
    }
}

fn encoded(transaction: &Transaction, sequence: u64) -> Vec<u8> {
    fn key(key: &Key) -> command::Key<'_> {
        command::Key { table: 0, bytes: &key.bytes }
    }
    let request = RequestId { sequence, ..RequestId::default() };
    let mut command = Command { tables: vec![TABLE], ..Command::of(request) };
    for it in &transaction.conditions {
        command.conditions.push(match it.wanted {
            Expectation::Absent => command::Condition::Absent(key(&it.key)),
            Expectation::Present => command::Condition::Present(key(&it.key)),
            Expectation::Version(version) => {
                let version = TxId::from_number(version).expect("it was an id");
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
