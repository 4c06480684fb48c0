//! What do three replicas give me? They agree, and go on while one of them is away.
//!
//! Here all three live in this process, each with a directory and a port of its own. In production
//! each is in a process on a machine of its own, and nothing but the opening differs.

use std::error::Error;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use indelible::{Replica, ReplicaId, Table};

const NAMES: Table<u64, String> = Table::new("names");
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let peers = addresses()?;
    let open = |id: u64| open(scratch.path(), id, &peers);
    let mut replicas = vec![open(1)?, open(2)?, open(3)?];

    // Opening does not wait for the others; the first call that needs a leader does, or this one.
    for replica in &replicas {
        replica.wait_ready(PATIENCE)?;
        println!("{}", replica.status());
    }

    // A transaction may be submitted on any replica. It is acknowledged once two have synced it.
    for (id, replica) in (1..).zip(&replicas) {
        let written = replica.put(NAMES, id, &format!("written on replica {id}")).wait()?;
        println!("transaction {} on replica {id}", written.at);
    }

    // The leader goes away. The other two elect a new one and go on.
    let ReplicaId(leader) = replicas[0].status().leader.ok_or("no leader is known")?;
    let away = replicas.iter().position(|replica| replica.status().id == ReplicaId(leader));
    replicas.remove(away.ok_or("the leader is one of ours")?).close()?;
    println!("replica {leader} is away");
    while let Err(err) = replicas[0].put(NAMES, 4, &"written by two".into()).wait() {
        // The old leader may have been asked, so the outcome may be unknown. To put the same value
        // once more does no harm.
        println!("trying again: {err}");
    }

    // It comes back, and catches up before it reads.
    let returned = open(leader)?;
    returned.wait_ready(PATIENCE)?;
    let snapshot = returned.snapshot().wait()?;
    for entry in snapshot.range(NAMES, ..) {
        let (id, name) = entry?;
        println!("replica {leader} reads {id}: {}", name.value);
    }
    replicas.push(returned);
    replicas.iter().try_for_each(Replica::close)?;
    Ok(())
}

fn open(directory: &Path, id: u64, peers: &[(u64, String)]) -> indelible::Result<Replica> {
    Replica::builder(directory.join(id.to_string())).id(id).peers(peers.to_vec()).open()
}

/// Three addresses of this machine that nobody listens on.
fn addresses() -> std::io::Result<Vec<(u64, String)>> {
    let listeners: Vec<_> =
        (0..3).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let mut addresses = Vec::new();
    for (id, listener) in (1..).zip(&listeners) {
        addresses.push((id, listener.local_addr()?.to_string()));
    }
    Ok(addresses)
}
