//! Durable commits through the facade: one replica, and three over loopback TCP.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use indelible::{RawTable, Replica, Result};

const TABLE: RawTable<[u8; 16]> = RawTable::new("bench");
const VALUE: [u8; 256] = [7; 256];
const OUTSTANDING: [usize; 5] = [1, 16, 64, 256, 1024];
const PATIENCE: Duration = Duration::from_secs(60);

fn one(directory: &Path) -> Result<Vec<Replica>> {
    let replica = Replica::open(directory.join("one"))?;
    replica.wait_ready(PATIENCE)?;
    Ok(vec![replica])
}

/// Three replicas, the leader first.
fn three(directory: &Path) -> Result<Vec<Replica>> {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let addresses = listeners
        .each_ref()
        .map(|listener| listener.local_addr().expect("a bound socket has an address").to_string());
    drop(listeners);
    let peers = (1..).zip(addresses).collect::<Vec<(u64, String)>>();
    let mut replicas = Vec::new();
    for (id, _) in &peers {
        let builder = Replica::builder(directory.join(format!("three {id}")));
        replicas.push(builder.id(*id).peers(peers.clone()).open()?);
    }
    for replica in &replicas {
        replica.wait_ready(PATIENCE)?;
    }
    replicas.sort_by_key(|replica| replica.status().leader != Some(replica.status().id));
    Ok(replicas)
}

/// `count` commits, so many of them outstanding.
fn commit(replica: &Replica, key: &mut u64, count: u64, outstanding: usize) -> Result<Duration> {
    let mut waiting = VecDeque::with_capacity(outstanding);
    let began = Instant::now();
    for _ in 0..count {
        *key += 1;
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&key.to_be_bytes());
        waiting.push_back(replica.put(TABLE, &bytes, &VALUE));
        if waiting.len() == outstanding
            && let Some(pending) = waiting.pop_front()
        {
            pending.wait()?;
        }
    }
    for pending in waiting {
        pending.wait()?;
    }
    Ok(began.elapsed())
}

fn commits(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    type Open = fn(&Path) -> Result<Vec<Replica>>;
    let clusters: [(&str, Open); 2] = [("one", one), ("three", three)];
    for (name, open) in clusters {
        let replicas = open(directory.path()).expect("the replicas open");
        let mut group = criterion.benchmark_group(format!("commit/{name}"));
        group.sample_size(10).throughput(Throughput::Elements(1));
        let mut key = 0;
        for outstanding in OUTSTANDING {
            let id = BenchmarkId::from_parameter(outstanding);
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|count| {
                    let done = commit(&replicas[0], &mut key, count, outstanding);
                    done.expect("every commit ends well")
                });
            });
        }
        group.finish();
        replicas.iter().for_each(|replica| replica.close().expect("the replica closes"));
    }
}

criterion_group!(benches, commits);
criterion_main!(benches);
