//! The store by itself: what one transaction, one look-up and one short range cost; and for how
//! long an image that is begun keeps commits waiting.

use std::hint::black_box;
use std::ops::Bound;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use indelible::store::Store;
use indelible::store::image::Image;
use indelible::store::versions::PageRequest;
use indelible::types::command::{
    Command, Condition, Key, KeyKind, Operation, TableUse, Ticket, ValueCodec,
};
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{Incarnation, ReplicaId, RequestId, SessionId, Slot};
use indelible::types::limits::{SESSION_WINDOW, SESSIONS_MAX, SESSIONS_MAX_MAX};
use indelible::types::membership::{Member, Membership};
use indelible::{Time, TxId};

const TABLE: TableUse<'static> =
    TableUse { name: "bench", key_kind: KeyKind("bytes"), codec: ValueCodec::Raw };
const KEYS: u64 = 100_000;
/// How many entries are applied in one measurement of an apply.
const BATCH: u64 = 10_000;
/// How many commands of the session are not answered.
const UNDER_WAY: u64 = 64;
const VALUE: [u8; 256] = [7; 256];

/// 16 bytes; neighbouring numbers lie far apart.
fn key(number: u64) -> [u8; 16] {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (u128::from(mixed) << 64 | u128::from(number)).to_be_bytes()
}

fn put(number: u64, version: Option<TxId>, sequence: u64) -> Entry {
    let key = key(number);
    let key = Key { table: 0, bytes: &key };
    // Of one session, with as many under way as a busy replica has.
    let request = RequestId { session: SessionId(1), sequence };
    let ticket = Ticket { request, settled_below: sequence.saturating_sub(UNDER_WAY) };
    let command = Command {
        tables: vec![TABLE],
        conditions: version.map(|version| Condition::Version(key, version)).into_iter().collect(),
        operations: vec![Operation::Put(key, &VALUE)],
        ..Command::of(ticket)
    };
    let mut builder = EntryBuilder::new(Time(0), 512);
    builder.push(&command.encode());
    builder.finish()
}

fn apply(store: &Store, entry: &Entry) -> TxId {
    store.apply(store.applied().slot, entry).expect("an entry of known commands").last
}

fn filled() -> Store {
    let store = Store::new();
    for number in 0..KEYS {
        apply(&store, &put(number, None, number));
    }
    store
}

fn applies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store/apply");
    group.throughput(Throughput::Elements(BATCH)).sample_size(20);
    group.bench_function("put of a new key", |bencher| {
        let setup =
            || (filled(), (KEYS..KEYS + BATCH).map(|number| put(number, None, number)).collect());
        let routine = |(store, entries): (Store, Vec<Entry>)| {
            entries.iter().for_each(|entry| {
                black_box(apply(&store, entry));
            });
            (store, entries)
        };
        bencher.iter_batched(setup, routine, BatchSize::PerIteration);
    });
    group.bench_function("put of a key at its version", |bencher| {
        let entry = |number| put(number, TxId::from_number(number + 1), KEYS + number);
        let setup = || (filled(), (0..BATCH).map(entry).collect());
        let routine = |(store, entries): (Store, Vec<Entry>)| {
            let mut last = TxId::ZERO;
            entries.iter().for_each(|entry| last = apply(&store, entry));
            assert_eq!(last.get(), KEYS + BATCH, "every condition held");
            (store, entries)
        };
        bencher.iter_batched(setup, routine, BatchSize::PerIteration);
    });
}

fn reads(criterion: &mut Criterion) {
    let store = filled();
    let at = store.applied().txid;
    let mut group = criterion.benchmark_group("store/read");
    let mut number = 0;
    group.bench_function("get", |bencher| {
        bencher.iter(|| {
            number = (number + 7919) % KEYS;
            store.get(&TABLE, &key(number), at).expect("the table's own types").expect("it is put")
        });
    });
    group.bench_function("range of 100", |bencher| {
        bencher.iter(|| {
            number = (number + 7919) % KEYS;
            let key = key(number);
            let bounds = (Bound::Included(&key[..]), Bound::Unbounded);
            let request = PageRequest { bounds, reverse: false, limit: 100 };
            store.page(&TABLE, request, at).expect("the table's own types")
        });
    });
}

/// A state that remembers so many sessions, each with as many outcomes.
fn remembering(sessions: u32, outcomes: u64) -> Arc<Store> {
    let store = Store::new();
    let (id, incarnation, address) = (ReplicaId(1), Incarnation(1), String::new());
    let membership = Membership::majority(vec![Member { id, incarnation, address }]);
    let membership = membership.and_then(|it| it.with_sessions_max(sessions));
    apply(&store, &Entry::membership(&membership.expect("one is enough")));
    for session in 1..=sessions {
        let mut builder = EntryBuilder::new(Time(0), 1 << 20);
        (1..=outcomes).for_each(|sequence| builder.push(&nothing(session, sequence)));
        apply(&store, &builder.finish());
    }
    Arc::new(store)
}

/// A command that changes nothing, and is remembered.
fn nothing(session: u32, sequence: u64) -> Vec<u8> {
    let request = RequestId { session: SessionId(session.into()), sequence };
    Command::of(Ticket { request, settled_below: 1 }).encode()
}

fn images(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store/image");
    group.sample_size(20);
    for (sessions, outcomes) in
        [(SESSIONS_MAX, 64), (SESSIONS_MAX / 4, SESSION_WINDOW - 1), (SESSIONS_MAX_MAX, 1)]
    {
        let store = remembering(sessions, outcomes);
        let name = format!("begin, {sessions} sessions of {outcomes}");
        group.bench_function(name, |bencher| {
            bencher.iter_with_large_drop(|| Image::of(&store, Slot::ZERO));
        });
        let mut builder = EntryBuilder::new(Time(0), 512);
        builder.push(&nothing(1, 1));
        let again = builder.finish();
        group.bench_function(
            format!("first command of a session beside it, of {outcomes}"),
            |bencher| {
                let setup = || Image::of(&store, Slot::ZERO);
                let routine = |image| {
                    apply(&store, &again);
                    image
                };
                bencher.iter_batched(setup, routine, BatchSize::PerIteration);
            },
        );
    }
}

criterion_group!(benches, applies, reads, images);
criterion_main!(benches);
