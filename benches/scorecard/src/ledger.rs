//! The ledger as it is measured: keys of 16 bytes, values of 256.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use indelible::{Committed, Config, Pending, RawTable, Replica};

use crate::floor::repeat;
use crate::report::{Latencies, Result};

/// The table that everything goes to.
pub const TABLE: RawTable<[u8; 16]> = RawTable::new("scorecard");
/// How many bytes a value has.
pub const VALUE_BYTES: usize = 256;
/// How long a cluster may take to be ready.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The key with this number: spread over the whole range of keys, never the same one twice.
pub fn key(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Callers of one replica.
pub struct Caller {
    replica: Replica,
    written: u64,
    read: u64,
    value: [u8; VALUE_BYTES],
}

impl Caller {
    /// Calls this replica.
    pub fn new(replica: Replica) -> Self {
        Self { replica, written: 0, read: 0, value: [0xa5; VALUE_BYTES] }
    }

    /// Submits a put of the next key.
    pub fn put(&mut self) -> Pending<Committed> {
        self.written += 1;
        self.replica.put(TABLE, &key(self.written), &self.value)
    }

    /// One caller, who waits for each commit, for a while.
    pub fn run(&mut self, slice: Duration, latencies: &mut Latencies) -> Result<()> {
        repeat(slice, latencies, || {
            self.put().wait()?;
            Ok(())
        })
    }

    /// So many commits outstanding, for a while. Returns commits a second.
    pub fn throughput(
        &mut self,
        slice: Duration,
        outstanding: usize,
        latencies: &mut Latencies,
    ) -> Result<f64> {
        keep_outstanding(slice, outstanding, latencies, || self.put(), |_| Ok(()))
    }

    /// So many linearizable reads outstanding, for a while, of keys that were written. Returns
    /// reads a second.
    pub fn reads(
        &mut self,
        slice: Duration,
        outstanding: usize,
        latencies: &mut Latencies,
    ) -> Result<f64> {
        let get = || {
            self.read += 1;
            let number = 1 + self.read.wrapping_mul(7919) % self.written.max(1);
            self.replica.get(TABLE, &key(number))
        };
        keep_outstanding(slice, outstanding, latencies, get, |found| match found {
            Some(_) => Ok(()),
            None => Err("a key that was written is not there".into()),
        })
    }
}

/// So many calls outstanding, for a while, the oldest waited for first. Returns calls a second.
fn keep_outstanding<T>(
    slice: Duration,
    outstanding: usize,
    latencies: &mut Latencies,
    mut call: impl FnMut() -> Pending<T>,
    check: impl Fn(T) -> Result<()>,
) -> Result<f64> {
    let mut waiting = VecDeque::with_capacity(outstanding);
    let (began, mut count) = (Instant::now(), 0_u64);
    while began.elapsed() < slice {
        while waiting.len() < outstanding {
            waiting.push_back((Instant::now(), call()));
        }
        if let Some((submitted, pending)) = waiting.pop_front() {
            check(pending.wait()?)?;
            latencies.push(submitted.elapsed());
            count += 1;
        }
    }
    for (_, pending) in waiting {
        check(pending.wait()?)?;
        count += 1;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// Three replicas in this process, over loopback TCP. The leader comes first.
pub fn three(directory: &Path) -> Result<Vec<Replica>> {
    three_with(directory, Config::default())
}

/// As [`three`], with these settings.
pub fn three_with(directory: &Path, config: Config) -> Result<Vec<Replica>> {
    let peers = addresses()?;
    let mut replicas = Vec::new();
    for (id, _) in &peers {
        let builder = Replica::builder(directory.join(id.to_string()));
        let builder = builder.id(*id).peers(peers.clone()).config(config.clone());
        replicas.push(builder.open()?);
    }
    for replica in &replicas {
        replica.wait_ready(PATIENCE)?;
    }
    let leads = |replica: &Replica| replica.status().leader == Some(replica.status().id);
    let leader = replicas.iter().position(leads).ok_or("no replica leads")?;
    replicas.swap(0, leader);
    Ok(replicas)
}

/// Three addresses of this machine that nobody listens on.
pub fn addresses() -> Result<Vec<(u64, String)>> {
    let listeners: Vec<_> =
        (0..3).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let mut addresses = Vec::new();
    for (id, listener) in (1..).zip(&listeners) {
        addresses.push((id, listener.local_addr()?.to_string()));
    }
    Ok(addresses)
}
