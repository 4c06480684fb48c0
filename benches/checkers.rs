//! What the checkers of histories cost: each on one history of a thousand calls that overlap.

#[path = "../tests/sim_oracles/made.rs"]
mod made;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use indelible::sim::checkers::{Conclusion, occ, replay, search};
use made::Made;

/// More tries than the search for an order takes.
const STEPS_MAX: u64 = 1_000_000;

fn checkers(criterion: &mut Criterion) {
    let Made { history, ledger, .. } = Made::of(7, 1_000, 5);
    let mut group = criterion.benchmark_group("checkers");
    group.throughput(Throughput::Elements(history.operations.len() as u64)).sample_size(20);
    group.bench_function("replay", |bencher| {
        bencher.iter(|| replay::check(&history, Some(&ledger)).expect("a correct history"));
    });
    group.bench_function("search", |bencher| {
        bencher.iter(|| {
            let search = search::check(&history, STEPS_MAX).expect("a correct history");
            assert_eq!(search.conclusion(), Conclusion::Passed, "the search came to its end");
        });
    });
    group.bench_function("rules", |bencher| {
        bencher.iter(|| occ::check(&history).expect("a correct history"));
    });
    group.finish();
}

criterion_group!(benches, checkers);
criterion_main!(benches);
