//! The protocol core by itself: three cores in memory, one thread.

#[path = "support/pump.rs"]
mod pump;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pump::Pump;

/// How many entries one measurement does.
const ENTRIES: u64 = 16 * 1024;

fn entries(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core");
    group.throughput(Throughput::Elements(ENTRIES));
    for outstanding in [1, 32, 1024] {
        let mut pump = Pump::new();
        group.bench_function(format!("pump{outstanding}"), |bencher| {
            bencher.iter(|| pump.run(ENTRIES, outstanding));
        });
    }
    group.finish();
}

criterion_group!(benches, entries);
criterion_main!(benches);
