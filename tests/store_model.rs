//! The store against a naive model: a list of whole states, one for each id.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use indelible::Time;
use indelible::TxId;
use indelible::store::Store;
use indelible::store::digest::{Digest, TableHash};
use indelible::store::image::{Image, ImageReader};
use indelible::store::sessions::Sessions;
use indelible::store::verdict::Verdict;
use indelible::store::versions::{PageRequest, Version};
use indelible::types::command::{
    Command, Condition, Key, KeyKind, Operation, TableUse, ValueCodec,
};
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{RequestId, SessionId, Slot, SlotRange};
use proptest::collection::vec;
use proptest::prelude::*;

/// A transaction on few keys of two tables.
#[derive(Clone, Debug)]
struct Tx {
    conditions: Vec<(Place, Wanted)>,
    operations: Vec<(Place, Option<Vec<u8>>)>,
}

type Place = (usize, Vec<u8>);

#[derive(Clone, Copy, Debug)]
enum Wanted {
    Absent,
    Present,
    /// The version that the key has, or this many ids less.
    Version(u64),
}

#[derive(Clone, Debug, PartialEq)]
struct Cell {
    version: u64,
    created: u64,
    writes: u32,
    value: Vec<u8>,
}

/// What the model says of a transaction: its id, or the condition that failed and the version
/// found.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Committed(Option<u64>),
    Refused(usize, Option<u64>),
}

#[derive(Clone, Debug, Default)]
struct Model {
    /// The state behind each id, from the empty one on.
    states: Vec<BTreeMap<Place, Cell>>,
}

const TABLES: [TableUse<'static>; 2] = [
    TableUse { name: "left", key_kind: KeyKind("bytes"), codec: ValueCodec::Raw },
    TableUse { name: "right", key_kind: KeyKind("bytes"), codec: ValueCodec::Bincode },
];

impl Model {
    fn new() -> Self {
        Self { states: vec![BTreeMap::new()] }
    }

    fn now(&self) -> &BTreeMap<Place, Cell> {
        self.states.last().expect("the empty state is always there")
    }

    fn apply(&mut self, tx: &Tx) -> Told {
        for (index, (place, wanted)) in tx.conditions.iter().enumerate() {
            let found = self.now().get(place).map(|cell| cell.version);
            let holds = match wanted {
                Wanted::Absent => found.is_none(),
                Wanted::Present => found.is_some(),
                Wanted::Version(_) => found == Some(self.version_wanted(place, *wanted)),
            };
            if !holds {
                return Told::Refused(index, found);
            }
        }
        let txid = self.states.len() as u64;
        let last: BTreeMap<_, _> = tx.operations.iter().cloned().collect();
        let mut next = self.now().clone();
        let mut changed = false;
        for (place, value) in last {
            let before = next.remove(&place);
            changed |= value.is_some() || before.is_some();
            if let Some(value) = value {
                let (created, writes) =
                    before.map_or((txid, 0), |cell| (cell.created, cell.writes));
                next.insert(place, Cell { version: txid, created, writes: writes + 1, value });
            }
        }
        if !changed {
            return Told::Committed(None);
        }
        self.states.push(next);
        Told::Committed(Some(txid))
    }

    /// The digest, computed anew from the newest version of each key.
    fn digest(&self) -> u128 {
        let hashes = TABLES.map(|table| TableHash::of(&table));
        let mut digest = Digest::default();
        let mut newest = BTreeMap::new();
        let mut created = [None; 2];
        for (id, states) in (1..).zip(self.states.windows(2)) {
            for place in states[0].keys().chain(states[1].keys()) {
                created[place.0].get_or_insert(txid(id));
                if states[0].get(place) != states[1].get(place) {
                    newest.insert(place, (id, states[1].get(place)));
                }
            }
        }
        for (hash, created) in hashes.into_iter().zip(created) {
            created.into_iter().for_each(|created| digest.add_table(hash, created));
        }
        for (place, (id, cell)) in newest {
            let version = Version {
                txid: txid(id),
                created: txid(cell.map_or(0, |cell| cell.created)),
                writes: cell.map_or(0, |cell| cell.writes),
                value: cell.map(|cell| cell.value.as_slice().into()),
            };
            digest.add(hashes[place.0], &place.1, &version);
        }
        digest.value()
    }

    fn version_wanted(&self, place: &Place, wanted: Wanted) -> u64 {
        let less = if let Wanted::Version(less) = wanted { less } else { 0 };
        self.now().get(place).map_or(1, |cell| cell.version).saturating_sub(less)
    }

    /// The transaction as a command that is proposed now.
    fn encode<'t>(&self, tx: &'t Tx, sequence: u64) -> Vec<u8> {
        fn key(place: &Place) -> Key<'_> {
            Key { table: place.0 as u32, bytes: &place.1 }
        }
        let condition = |(place, wanted): &'t (Place, Wanted)| match wanted {
            Wanted::Absent => Condition::Absent(key(place)),
            Wanted::Present => Condition::Present(key(place)),
            Wanted::Version(_) => {
                let version = txid(self.version_wanted(place, *wanted));
                Condition::Version(key(place), version)
            }
        };
        let operation = |(place, value): &'t (Place, Option<Vec<u8>>)| match value {
            Some(value) => Operation::Put(key(place), value),
            None => Operation::Delete(key(place)),
        };
        Command {
            tables: TABLES.to_vec(),
            conditions: tx.conditions.iter().map(condition).collect(),
            operations: tx.operations.iter().map(operation).collect(),
            ..Command::of(RequestId { session: SessionId(1), sequence })
        }
        .encode()
    }
}

fn place() -> impl Strategy<Value = Place> {
    // Long keys too: they are kept in another way.
    let key = prop_oneof![
        4 => vec(prop_oneof![Just(0), Just(0x61), Just(0xff)], 0..3),
        1 => vec(Just(0x61), 21..25),
    ];
    (0..2_usize, key)
}

fn tx() -> impl Strategy<Value = Tx> {
    let wanted = prop_oneof![
        Just(Wanted::Absent),
        Just(Wanted::Present),
        (0..2_u64).prop_map(Wanted::Version),
    ];
    let value = prop::option::weighted(0.6, vec(any::<u8>(), 0..3));
    (vec((place(), wanted), 0..3), vec((place(), value), 0..5))
        .prop_map(|(conditions, operations)| Tx { conditions, operations })
}

/// Entries of transactions; an empty one is a no-op.
fn entries() -> impl Strategy<Value = Vec<Vec<Tx>>> {
    vec(vec(tx(), 0..6), 1..12)
}

fn entry(commands: &[Vec<u8>]) -> Entry {
    if commands.is_empty() {
        return Entry::no_op();
    }
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
        other => panic!("{other:?}"),
    }
}

fn txid(number: u64) -> TxId {
    TxId::from_number(number).expect("there are fewer transactions than ids")
}

type Listed = Vec<(Vec<u8>, Cell)>;

/// A whole range, page by page.
fn list(store: &Store, table: usize, from: &[u8], at: TxId, reverse: bool, limit: usize) -> Listed {
    let mut bounds = (Bound::Included(from.to_vec()), Bound::Unbounded);
    let mut listed = Vec::new();
    loop {
        let (lower, upper) = &bounds;
        let borrowed = (lower.as_ref().map(Vec::as_slice), upper.as_ref().map(Vec::as_slice));
        let request = PageRequest { bounds: borrowed, reverse, limit };
        let page = store.page(&TABLES[table], request, at).expect("the boundary exists");
        assert!(page.items.len() <= limit);
        listed.extend(page.items.into_iter().map(|(key, found)| {
            let (version, created) = (found.version.get(), found.created.get());
            (key, Cell { version, created, writes: found.writes, value: found.value.to_vec() })
        }));
        match page.resume {
            None => return listed,
            Some(key) if reverse => bounds.1 = Bound::Excluded(key),
            Some(key) => bounds.0 = Bound::Excluded(key),
        }
    }
}

proptest! {
    #[test]
    fn store_and_model_agree(entries in entries(), from in place(), limit in 1..4_usize) {
        let (store, mut model) = (Store::new(), Model::new());
        let (mut slots, mut took_id, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for (slot, transactions) in entries.iter().enumerate() {
            let after = model.states.len() as u64 - 1;
            let (mut commands, mut wanted) = (Vec::new(), Vec::new());
            for tx in transactions {
                let sequence = (all.len() + commands.len()) as u64;
                commands.push(model.encode(tx, sequence));
                wanted.push(model.apply(tx));
            }
            let applied = store.apply(Slot(slot as u64), &entry(&commands)).unwrap();
            let found: Vec<_> = applied.verdicts.iter().map(|it| told(&it.verdict)).collect();
            prop_assert_eq!(&found, &wanted);
            prop_assert_eq!(applied.after.get(), after);
            prop_assert_eq!(applied.last.get() as usize, model.states.len() - 1);
            for told in wanted {
                took_id.push(matches!(told, Told::Committed(Some(_))));
                slots.extend(took_id.last().unwrap().then_some(slot as u64));
            }
            all.extend(commands);
        }

        for (number, state) in model.states.iter().enumerate() {
            let at = txid(number as u64);
            let slot = number.checked_sub(1).map(|index| Slot(slots[index]));
            prop_assert_eq!(store.find(at), slot);
            for (table, used) in TABLES.iter().enumerate() {
                let wanted: Listed = state.iter()
                    .filter(|((place, key), _)| *place == table && *key >= from.1)
                    .map(|((_, key), cell)| (key.clone(), cell.clone()))
                    .collect();
                let mut backwards = list(&store, table, &from.1, at, true, limit);
                backwards.reverse();
                prop_assert_eq!(&list(&store, table, &from.1, at, false, limit), &wanted);
                prop_assert_eq!(&backwards, &wanted);
                let found = store.get(used, &from.1, at).unwrap().map(|found| found.version.get());
                let wanted = state.get(&(table, from.1.clone())).map(|cell| cell.version);
                prop_assert_eq!(found, wanted);
            }
        }

        let end = store.applied().slot;
        let outcomes = (0..end.0).flat_map(|slot| store.outcome(Slot(slot)).unwrap().took_id);
        prop_assert_eq!(outcomes.collect::<Vec<_>>(), &took_id[..]);
        let bits = store.verdicts(SlotRange { first: Slot(0), end }).took_id;
        let bit = |index: usize| bits[index / 8] >> (index % 8) & 1 == 1;
        prop_assert_eq!(bits.len(), took_id.len().div_ceil(8));
        prop_assert_eq!((0..took_id.len()).map(bit).collect::<Vec<_>>(), took_id);

        let sessions = Sessions::try_from(store.sessions()).unwrap();
        let digest = model.digest().wrapping_add(sessions.digest());
        prop_assert_eq!(digest, store.applied().digest);

        // One transaction an entry, or all in one: the state is the same.
        let digest = store.applied().digest;
        let one_by_one = Store::new();
        for (slot, command) in all.iter().enumerate() {
            one_by_one.apply(Slot(slot as u64), &entry(std::slice::from_ref(command))).unwrap();
        }
        prop_assert_eq!(one_by_one.applied().digest, digest);
        let at_once = Store::new();
        at_once.apply(Slot(0), &entry(&all)).unwrap();
        prop_assert_eq!(at_once.applied().digest, digest);
    }

    /// An image of any state makes a store that cannot be told from it; what is applied between two
    /// pieces is not in it.
    #[test]
    fn an_image_is_the_store(
        entries in entries(),
        cut in any::<prop::sample::Index>(),
        ledger in 0..12_u64,
        limit in 1..4_usize,
    ) {
        let mut model = Model::new();
        let mut requests = 0;
        let commands = entries.iter().map(|transactions| {
            let encode = |tx: &Tx| {
                requests += 1;
                let command = model.encode(tx, requests);
                model.apply(tx);
                command
            };
            entry(&transactions.iter().map(encode).collect::<Vec<_>>())
        });
        let commands = commands.collect::<Vec<_>>();
        let (before, later) = commands.split_at(cut.index(commands.len() + 1));
        let store = Arc::new(Store::new());
        for (slot, entry) in before.iter().enumerate() {
            store.apply(Slot(slot as u64), entry).unwrap();
        }
        let image = Image::of(&store, Slot(ledger));
        let mut reader = ImageReader::new();
        let mut wanted = Vec::new();
        let mut later = later.iter();
        let at_image = store.applied();
        for piece in image {
            reader.take(&piece).unwrap();
            if let Some(entry) = later.next() {
                wanted.push((store.apply(store.applied().slot, entry).unwrap(), entry));
            }
        }
        for entry in later {
            wanted.push((store.apply(store.applied().slot, entry).unwrap(), entry));
        }
        let restored = reader.finish().unwrap();
        prop_assert_eq!(restored.applied(), at_image);
        for (applied, entry) in wanted {
            let slot = restored.applied().slot;
            prop_assert_eq!(restored.apply(slot, entry).unwrap(), applied);
        }
        prop_assert_eq!(restored.applied(), store.applied());
        for number in at_image.txid.get()..model.states.len() as u64 {
            for table in 0..TABLES.len() {
                let wanted = list(&store, table, b"", txid(number), false, limit);
                prop_assert_eq!(list(&restored, table, b"", txid(number), false, limit), wanted);
            }
        }
        let known = Slot(ledger).min(at_image.slot);
        for slot in (0..store.applied().slot.0).map(Slot) {
            let wanted = store.outcome(slot).filter(|_| known <= slot);
            prop_assert_eq!(restored.outcome(slot), wanted);
        }
        for number in 0..model.states.len() as u64 {
            let wanted = store.find(txid(number)).filter(|slot| known <= *slot);
            prop_assert_eq!(restored.find(txid(number)), wanted);
            if restored.floor() <= txid(number) {
                let slots = restored.slots_after(txid(number));
                prop_assert_eq!(slots, store.slots_after(txid(number)));
            }
        }
    }

    /// Whatever is changed in an image, what is read of it is the state, or nothing.
    #[test]
    fn a_changed_image_is_refused(
        entries in entries(),
        piece in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        bit in 0..8_u32,
        how in 0..4_u8,
    ) {
        let mut requests = 0;
        let (store, mut model) = (Arc::new(Store::new()), Model::new());
        for (slot, transactions) in entries.iter().enumerate() {
            let encode = |tx: &Tx| {
                requests += 1;
                let command = model.encode(tx, requests);
                model.apply(tx);
                command
            };
            let entry = entry(&transactions.iter().map(encode).collect::<Vec<_>>());
            store.apply(Slot(slot as u64), &entry).unwrap();
        }
        let mut pieces = Image::of(&store, Slot::ZERO).collect::<Vec<_>>();
        let at = piece.index(pieces.len());
        match how {
            0 => drop(pieces.remove(at)),
            1 => pieces.insert(at, pieces[at].clone()),
            2 => {
                let length = place.index(pieces[at].len());
                pieces[at].truncate(length);
            }
            _ => {
                let place = place.index(pieces[at].len());
                pieces[at][place] ^= 1 << bit;
            }
        }
        let mut reader = ImageReader::new();
        let taken = pieces.iter().try_for_each(|piece| reader.take(piece));
        prop_assert!(taken.and_then(|()| reader.finish()).is_err());
    }
}
