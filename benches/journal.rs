//! What the journal costs by itself: encoding, one synced group, and reading everything back.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use indelible::journal::{Disk, Journal, MemoryDisk, Options, RealDisk};
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{Ballot, ReplicaId, Slot};
use indelible::types::membership::{Member, Membership};
use indelible::types::record::Record;
use indelible::types::time::Time;

const WHO: ReplicaId = ReplicaId(1);
const BALLOT: Ballot = Ballot { round: 1, leader: WHO };

fn entry() -> Entry {
    let mut builder = EntryBuilder::new(Time(1), 300);
    builder.push(&[7; 280]);
    builder.finish()
}

fn open<D: Disk>(disk: D) -> Journal<D> {
    let mut journal = Journal::open(disk, Options::default(), WHO).expect("it opens");
    if !journal.identity().formed {
        let incarnation = journal.identity().incarnation;
        let voter = Member { id: WHO, incarnation, address: String::new() };
        let membership = Membership::majority(vec![voter]).expect("one voter is enough");
        journal.agree(&membership, true).expect("the identity is written");
        journal.append(&[Record::Promise { ballot: BALLOT }], Slot::ZERO).expect("not poisoned");
        settle(&mut journal);
    }
    journal
}

fn settle<D: Disk>(journal: &mut Journal<D>) {
    while let Some(job) = journal.next_job().expect("not poisoned") {
        journal.complete(job.run()).expect("the disk works");
    }
}

fn votes(first: u64, count: u64, entry: &Entry) -> Vec<Record> {
    (first..first + count)
        .map(|slot| Record::Vote { slot: Slot(slot), ballot: BALLOT, entry: entry.clone() })
        .collect()
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal");
    let entry = entry();
    group.throughput(Throughput::Elements(1000));
    group.bench_function("append and encode 1000 entries of 300 B", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut journal = open(MemoryDisk::new());
            let mut measured = Duration::ZERO;
            for round in 0..rounds {
                if round % 200 == 199 {
                    journal = open(MemoryDisk::new());
                }
                let records = votes(round % 200 * 1000, 1000, &entry);
                let begin = Instant::now();
                journal.append(&records, Slot::ZERO).expect("not poisoned");
                let job = journal.next_job().expect("not poisoned");
                measured += begin.elapsed();
                // Writing and preparing are not measured.
                journal.complete(job.expect("a group").run()).expect("the disk works");
                settle(&mut journal);
            }
            measured
        });
    });
    group.finish();
}

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal");
    let entry = entry();
    let directory = tempfile::tempdir_in(".").expect("a directory");
    let mut journal = open(RealDisk::new(directory.path()).expect("a directory"));
    let mut slot = 0;
    for count in [1, 64] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("commit {count} entries of 300 B, synced"), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut measured = Duration::ZERO;
                for _ in 0..rounds {
                    let records = votes(slot, count, &entry);
                    slot += count;
                    let begin = Instant::now();
                    journal.append(&records, Slot::ZERO).expect("not poisoned");
                    let mut job = journal.next_job().expect("not poisoned").expect("a job");
                    if job.is_background() {
                        journal.complete(job.run()).expect("the disk works");
                        job = journal.next_job().expect("not poisoned").expect("a group");
                    }
                    journal.complete(job.run()).expect("the disk works");
                    measured += begin.elapsed();
                    settle(&mut journal);
                }
                measured
            });
        });
    }
    group.finish();
}

fn replay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal");
    let (entry, count) = (entry(), 100_000);
    let directory = tempfile::tempdir_in(".").expect("a directory");
    let disk = || RealDisk::new(directory.path()).expect("a directory");
    let mut journal = open(disk());
    for first in (0..count).step_by(1000) {
        journal.append(&votes(first, 1000, &entry), Slot(first)).expect("not poisoned");
        settle(&mut journal);
    }
    group.throughput(Throughput::Elements(count));
    group.sample_size(20);
    group.bench_function("replay 100,000 entries of 300 B", |bencher| {
        let reader = journal.reader();
        bencher.iter(|| reader.entries(Slot::ZERO, Slot(count)).filter(Result::is_ok).count());
    });
    drop(journal);
    group.bench_function("open with 100,000 entries of 300 B", |bencher| {
        bencher.iter(|| black_box(open(disk())));
    });
    group.finish();
}

criterion_group!(benches, encode, commit, replay);
criterion_main!(benches);
