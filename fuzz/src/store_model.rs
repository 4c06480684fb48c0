//! The store against a naive model: a list of whole states, one for each id.
//!
//! The bytes are operations on few keys of three tables, in transactions, in entries; some come a
//! second time, and some requests are resolved, before or after they came. Asserted: the store and
//! the model give the same verdicts and ids; at every id both hold the same keys, values, versions
//! and counts, read one by one and page by page in both directions; the ledger finds each id in its
//! slot.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use indelible::TxId;
use indelible::store::Store;
use indelible::store::sessions::Outcome;
use indelible::store::verdict::Verdict;
use indelible::store::versions::PageRequest;
use indelible::types::command::{
    Command, Condition, Key, KeyKind, Operation, TableUse, Ticket, ValueCodec,
};
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{RequestId, SessionId, Slot};
use indelible::types::time::Time;

use crate::input::Input;

/// The last one has the name of the first with another type: using both is a mismatch.
const TABLES: [TableUse<'static>; 3] = [
    TableUse { name: "left", key_kind: KeyKind("bytes"), codec: ValueCodec::Raw },
    TableUse { name: "right", key_kind: KeyKind("bytes"), codec: ValueCodec::Bincode },
    TableUse { name: "left", key_kind: KeyKind("str"), codec: ValueCodec::Raw },
];
/// Keys up to 22 bytes and longer ones are kept differently; these lie around that length.
const KEYS: [&[u8]; 8] = [
    b"",
    b"\0",
    b"a",
    b"a\0",
    b"\xff\xff",
    b"aaaaaaaaaaaaaaaaaaaaaa",
    b"aaaaaaaaaaaaaaaaaaaaaaa",
    b"aaaaaaaaaaaaaaaaaaaaaa\0",
];
const TRANSACTIONS_MAX: usize = 96;

type Place = (usize, &'static [u8]);
type State = BTreeMap<Place, Cell>;

#[derive(Clone, Debug, PartialEq)]
struct Cell {
    version: u64,
    created: u64,
    writes: u32,
    value: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Wanted {
    Absent,
    Present,
    Version(u64),
}

#[derive(Debug)]
struct Tx<'a> {
    conditions: Vec<(Place, Wanted)>,
    operations: Vec<(Place, Option<&'a [u8]>)>,
}

/// What the model says of a transaction.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Committed(Option<u64>),
    Refused(usize, Option<u64>),
    Mismatch,
    Burned,
}

/// A transaction that was here, and what was told of it.
struct Past {
    sequence: u64,
    command: Vec<u8>,
    told: Told,
}

/// Takes `data` as entries of transactions.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let limit = input.below(4) + 1;
    let store = Store::new();
    let mut states = vec![State::new()];
    // Which tables were written, and the slot of each id.
    let (mut written, mut slots) = ([None; 2], Vec::new());
    let (mut past, mut burned, mut sequence) = (Vec::new(), BTreeSet::new(), 0);
    let mut count = 0;
    while !input.is_empty() && count < TRANSACTIONS_MAX {
        let (mut commands, mut wanted) = (Vec::new(), Vec::new());
        for _ in 0..input.below(4) + 1 {
            let how = input.byte();
            let arrived =
                |sequence: u64| past.iter().find(|past: &&Past| past.sequence == sequence);
            match how {
                // A copy of what was here before.
                0xe0.. if !past.is_empty() => {
                    let Past { command, told, .. } = &past[input.below(past.len())];
                    commands.push(command.clone());
                    wanted.push(told.clone());
                }
                // A request is resolved that was here, or that comes later, or never.
                0xc0..0xe0 => {
                    let sequence = u64::from(input.byte());
                    let resolving = Command::resolving(request(sequence), request(0));
                    commands.push(resolving.encode());
                    wanted.push(arrived(sequence).map_or(Told::Burned, |past| past.told.clone()));
                    if arrived(sequence).is_none() {
                        burned.insert(sequence);
                    }
                }
                _ => {
                    sequence += 1;
                    let tx = tx(&mut input, states.len() as u64);
                    let command = encode(&tx, sequence);
                    let told = match burned.contains(&sequence) {
                        true => Told::Burned,
                        false => apply(&mut states, &mut written, &tx),
                    };
                    commands.push(command.clone());
                    wanted.push(told.clone());
                    past.push(Past { sequence, command, told });
                }
            }
        }
        count += commands.len();
        let slot = store.applied().slot;
        let applied = store.apply(slot, &entry(&commands)).expect("the commands are right");
        let found: Vec<_> = applied.verdicts.iter().map(|it| told(&it.verdict)).collect();
        assert_eq!(found, wanted);
        slots.resize(states.len() - 1, slot);
    }
    compare(&store, &states, &slots, limit);
}

fn tx<'a>(input: &mut Input<'a>, next: u64) -> Tx<'a> {
    let shape = input.byte();
    let mut tx = Tx { conditions: Vec::new(), operations: Vec::new() };
    for _ in 0..shape % 4 {
        let place = place(input);
        let wanted = match input.byte() {
            0..0x60 => Wanted::Absent,
            0x60..0xc0 => Wanted::Present,
            byte => Wanted::Version(next.saturating_sub(u64::from(byte & 0x1f))),
        };
        tx.conditions.push((place, wanted));
    }
    for _ in 0..shape >> 2 & 7 {
        let place = place(input);
        let how = input.byte();
        let value = (!how.is_multiple_of(4)).then(|| input.take(usize::from(how >> 4)));
        tx.operations.push((place, value));
    }
    tx
}

fn place(input: &mut Input<'_>) -> Place {
    let byte = input.byte();
    let table = match byte >> 3 {
        0 => 2,
        odd if odd % 2 == 1 => 0,
        _ => 1,
    };
    (table, KEYS[usize::from(byte % 8)])
}

/// The naive meaning of a transaction.
fn apply(states: &mut Vec<State>, written: &mut [Option<usize>; 2], tx: &Tx<'_>) -> Told {
    // All commands name all tables that they use; the third has the name of the first.
    let used: Vec<usize> = places(tx).map(|(table, _)| table).collect();
    let (first, third) = (used.contains(&0), used.contains(&2));
    let registered = written[0];
    let is_other = |table: usize| registered.is_some_and(|known| known != table);
    let mixed = first && third;
    let differs = first && is_other(0) || third && is_other(2);
    if mixed || differs {
        return Told::Mismatch;
    }
    let now = states.last().expect("the empty state is always there");
    for (index, (place, wanted)) in tx.conditions.iter().enumerate() {
        let found = now.get(place).map(|cell| cell.version);
        let holds = match wanted {
            Wanted::Absent => found.is_none(),
            Wanted::Present => found.is_some(),
            Wanted::Version(version) => found == Some(*version),
        };
        if !holds {
            return Told::Refused(index, found);
        }
    }
    let txid = states.len() as u64;
    let last: BTreeMap<Place, Option<&[u8]>> = tx.operations.iter().copied().collect();
    let mut next = now.clone();
    let mut changed = false;
    for (place, value) in last {
        let before = next.remove(&place);
        changed |= value.is_some() || before.is_some();
        if let Some(value) = value {
            let (created, writes) = before.map_or((txid, 0), |cell| (cell.created, cell.writes));
            let value = value.to_vec();
            next.insert(place, Cell { version: txid, created, writes: writes + 1, value });
            if place.0 != 1 {
                written[0] = Some(place.0);
            }
        }
    }
    if !changed {
        return Told::Committed(None);
    }
    states.push(next);
    Told::Committed(Some(txid))
}

fn places<'t>(tx: &'t Tx<'_>) -> impl Iterator<Item = Place> + 't {
    let conditions = tx.conditions.iter().map(|(place, _)| *place);
    conditions.chain(tx.operations.iter().map(|(place, _)| *place))
}

/// One session is enough: none of what it has under way is answered.
fn request(sequence: u64) -> RequestId {
    RequestId { session: SessionId(1), sequence }
}

fn encode(tx: &Tx<'_>, sequence: u64) -> Vec<u8> {
    // Only the tables that are used, in order of their places: naming one is using it.
    let mut used: Vec<usize> = places(tx).map(|(table, _)| table).collect();
    used.sort_unstable();
    used.dedup();
    let key = |place: &Place| Key {
        table: used.iter().position(|table| *table == place.0).unwrap_or_default() as u32,
        bytes: place.1,
    };
    let condition = |(place, wanted): &(Place, Wanted)| match wanted {
        Wanted::Absent => Condition::Absent(key(place)),
        Wanted::Present => Condition::Present(key(place)),
        Wanted::Version(version) => Condition::Version(key(place), txid(*version)),
    };
    let command = Command {
        tables: used.iter().map(|table| TABLES[*table]).collect(),
        conditions: tx.conditions.iter().map(condition).collect(),
        operations: tx
            .operations
            .iter()
            .map(|(place, value)| match value {
                Some(value) => Operation::Put(key(place), value),
                None => Operation::Delete(key(place)),
            })
            .collect(),
        ..Command::of(Ticket { request: request(sequence), settled_below: 0 })
    };
    command.encode()
}

fn entry(commands: &[Vec<u8>]) -> Entry {
    let mut builder = EntryBuilder::new(Time(1), 0);
    commands.iter().for_each(|command| builder.push(command));
    builder.finish()
}

fn told(verdict: &Verdict) -> Told {
    match verdict {
        Verdict::Committed { txid, .. } => Told::Committed(txid.map(TxId::get)),
        Verdict::Refused(conflict) => {
            Told::Refused(conflict.condition, conflict.found.map(TxId::get))
        }
        Verdict::TableMismatch(_) => Told::Mismatch,
        Verdict::Burned => Told::Burned,
        Verdict::Resolved(resolved) => match resolved.outcome {
            Some(Outcome::Committed { at, took_id }) => {
                Told::Committed(took_id.then_some(at.get()))
            }
            Some(Outcome::Refused { condition, found }) => {
                Told::Refused(condition as usize, found.map(TxId::get))
            }
            Some(Outcome::TableMismatch { .. }) => Told::Mismatch,
            Some(Outcome::Burned) => Told::Burned,
            None => panic!("nothing is forgotten here"),
        },
        Verdict::Forgotten => panic!("nothing is forgotten here"),
    }
}

fn txid(number: u64) -> TxId {
    TxId::from_number(number).expect("there are fewer transactions than ids")
}

/// Compares the states at every id.
fn compare(store: &Store, states: &[State], slots: &[Slot], limit: usize) {
    assert_eq!(store.applied().txid.get() as usize, states.len() - 1);
    for (number, state) in states.iter().enumerate() {
        let at = txid(number as u64);
        let slot = number.checked_sub(1).map(|index| slots[index]);
        assert_eq!(store.find(at), slot);
        for (table, used) in TABLES.iter().enumerate() {
            let wanted: Vec<(Vec<u8>, Cell)> = state
                .iter()
                .filter(|((place, _), _)| *place == table)
                .map(|((_, key), cell)| (key.to_vec(), cell.clone()))
                .collect();
            let Some(mut listed) = list(store, table, at, false, limit) else {
                assert!(wanted.is_empty(), "a table that was written has its types");
                continue;
            };
            assert_eq!(listed, wanted);
            listed.reverse();
            assert_eq!(list(store, table, at, true, limit).as_ref(), Some(&listed));
            for key in KEYS {
                let found = store.get(used, key, at).expect("the types are right");
                let wanted = state.get(&(table, key)).map(|cell| cell.version);
                assert_eq!(found.map(|found| found.version.get()), wanted);
            }
        }
    }
}

/// A whole table, page by page; `None` where it has other types.
fn list(
    store: &Store,
    table: usize,
    at: TxId,
    reverse: bool,
    limit: usize,
) -> Option<Vec<(Vec<u8>, Cell)>> {
    let mut bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>) = (Bound::Unbounded, Bound::Unbounded);
    let mut listed = Vec::new();
    loop {
        let borrowed = (bounds.0.as_ref().map(Vec::as_slice), bounds.1.as_ref().map(Vec::as_slice));
        let request = PageRequest { bounds: borrowed, reverse, limit };
        let page = store.page(&TABLES[table], request, at).ok()?;
        assert!(page.items.len() <= limit);
        listed.extend(page.items.into_iter().map(|(key, found)| {
            let (version, created) = (found.version.get(), found.created.get());
            (key, Cell { version, created, writes: found.writes, value: found.value.to_vec() })
        }));
        match page.resume {
            None => return Some(listed),
            Some(key) if reverse => bounds.1 = Bound::Excluded(key),
            Some(key) => bounds.0 = Bound::Excluded(key),
        }
    }
}
