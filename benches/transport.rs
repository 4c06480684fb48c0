//! What TCP carries between two ends on one machine: round trips, and bytes one way.

#![allow(clippy::unwrap_used, reason = "a bench panics on what it does not expect, as a test does")]

#[path = "../tests/transport/samples.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod samples;
#[path = "../tests/transport/support.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod support;

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use indelible::ReplicaId;
use indelible::transport::tcp::Tcp;
use indelible::transport::{Arrival, Transport};
use indelible::types::message::{Envelope, Message};
use parking_lot::{Condvar, Mutex};

/// A sender stops for a moment where so many bytes wait.
const QUEUED_BYTES_MAX: u64 = 4_000_000;

/// Something that is counted, and waited for.
#[derive(Default)]
struct Count(Mutex<usize>, Condvar);

impl Count {
    fn add(&self, more: usize) {
        *self.0.lock() += more;
        self.1.notify_one();
    }

    fn wait_for(&self, wanted: usize) {
        let mut count = self.0.lock();
        while *count < wanted {
            self.1.wait(&mut count);
        }
    }
}

/// Two connected ends. The second sends everything back but bulky messages, whose bytes it counts.
struct Ends {
    one: Arc<Tcp>,
    two: Arc<Tcp>,
    returned: Arc<Count>,
    bytes: Arc<Count>,
}

impl Ends {
    fn connect() -> Self {
        let ((first, first_at), (second, second_at)) = (support::listen(), support::listen());
        let one = Arc::new(support::tcp(samples::hello(1), first, &[(2, second_at)]));
        let two = Arc::new(support::tcp(samples::hello(2), second, &[(1, first_at)]));
        let (returned, bytes) = (Arc::<Count>::default(), Arc::<Count>::default());
        let back = Arc::clone(&returned);
        one.start(support::link(move |arrivals| back.add(arrivals.len()))).unwrap();
        let (echo, counted) = (Arc::clone(&two), Arc::clone(&bytes));
        let arrived = move |arrivals| {
            for arrival in arrivals {
                match arrival {
                    Arrival::Message { message: Message::Chosen(chosen), .. } => {
                        counted.add(chosen.entries[0].bytes().len());
                    }
                    Arrival::Message { from, message, .. } => {
                        echo.send(Envelope { to: from, message })
                    }
                    Arrival::Down { .. } | Arrival::Fenced { .. } => {}
                }
            }
            echo.flush();
        };
        two.start(support::link(arrived)).unwrap();
        support::until("connected", || {
            [&one, &two].iter().all(|tcp| tcp.counters().iter().any(|it| it.connected))
        });
        Self { one, two, returned, bytes }
    }

    fn close(self) {
        self.one.close();
        self.two.close();
    }
}

fn round_trips(criterion: &mut Criterion) {
    let ends = Ends::connect();
    let mut count = 0;
    criterion.bench_function("transport/round trip", |bencher| {
        bencher.iter(|| {
            let message = samples::numbered(count as u64);
            ends.one.send(Envelope { to: ReplicaId(2), message });
            ends.one.flush();
            count += 1;
            ends.returned.wait_for(count);
        });
    });
    ends.close();
}

fn one_way(criterion: &mut Criterion) {
    let ends = Ends::connect();
    let mut group = criterion.benchmark_group("transport/one way");
    group.sample_size(10);
    let mut sent = 0;
    for size in [256, 4 * 1024, 64 * 1024, 1024 * 1024] {
        let message = samples::bulky(0, size);
        let Message::Chosen(chosen) = &message else { panic!("a bulky message holds an entry") };
        let (bytes, at_once) = (chosen.entries[0].bytes().len(), (65_536 / size).max(1));
        let count = 8 * 1024 * 1024 / size;
        group.throughput(Throughput::Bytes((count * bytes) as u64));
        group.bench_function(format!("messages of {size} bytes"), |bencher| {
            bencher.iter(|| {
                let mut left = count;
                while left > 0 {
                    if ends.one.counters()[0].queued_bytes > QUEUED_BYTES_MAX {
                        std::thread::yield_now();
                        continue;
                    }
                    for _ in 0..at_once.min(left) {
                        let message = message.clone();
                        ends.one.send(Envelope { to: ReplicaId(2), message });
                        sent += bytes;
                        left -= 1;
                    }
                    ends.one.flush();
                }
                ends.bytes.wait_for(sent);
            });
        });
    }
    group.finish();
    ends.close();
}

criterion_group!(benches, round_trips, one_way);
criterion_main!(benches);
