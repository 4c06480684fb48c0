//! Wrong identities and bytes that nobody wrote: refused by name, while the others go on.

use indelible::ReplicaId;
use indelible::sim::Settings;

use super::support::{BOUND, Cluster, for_seeds, nothing_survives};

/// A replica is opened with other settings, or another disk, and refuses to; then with its own.
fn refuse(cluster: &Cluster, id: ReplicaId, why: &[&str], change: impl Fn(&mut Settings)) {
    cluster.cut_power(id, &mut nothing_survives);
    let (own, kept) = (cluster.disk(id).image(), std::cell::RefCell::new(None));
    cluster.change_settings(id, |settings| {
        *kept.borrow_mut() = Some(settings.clone());
        change(settings);
    });
    assert!(!cluster.open(id), "it opened");
    let refusal = cluster.refusal(id).unwrap();
    assert!(why.iter().any(|why| refusal.contains(why)), "{refusal}");
    assert!(cluster.disk(id).image() == own, "nothing was written");
    let peer = cluster.ids().into_iter().find(|peer| *peer != id).unwrap();
    cluster.expect("the others go on", |sim| sim.leader().is_some());
    drop(cluster.write(peer));
    cluster.change_settings(id, |settings| *settings = kept.take().unwrap());
    cluster.reopen(id);
}

#[test]
fn identity_mixups() {
    // openraft FAQ 05, etcd's ErrClusterIDMismatch, TigerBeetle's cluster field: a directory is
    // opened as another replica, or with other voters.
    for_seeds(3, |cluster| {
        let b = cluster.ids()[cluster.below(3) as usize];
        let other = ReplicaId(b.0 % 3 + 1);
        refuse(cluster, b, &["belongs to replica"], |settings| settings.driver.id = other);
        refuse(cluster, b, &["voters"], |settings| {
            settings.driver.voters.push((ReplicaId(4), "replica-4:1".into()));
        });
        refuse(cluster, b, &["voters"], |settings| {
            settings.driver.voters.retain(|(id, _)| *id != other);
        });
        cluster.settle();
    });
}

#[test]
fn directory_of_another_replica_is_refused() {
    // The data directory of one replica is mounted on the machine of another one.
    for_seeds(3, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[0]);
        cluster.cut_power(b, &mut nothing_survives);
        let own = cluster.disk(b).image();
        cluster.disk(b).restore(&cluster.disk(a).image());
        assert!(!cluster.open(b), "it opened");
        let refusal = cluster.refusal(b).unwrap();
        assert!(refusal.contains("belongs to replica"), "{refusal}");
        cluster.write_some(a, 3);
        cluster.disk(b).restore(&own);
        cluster.reopen(b);
        cluster.settle();
    });
}

#[test]
fn blank_disk_does_not_vote() {
    // Jepsen on etcd and on TigerBeetle, etcd's zombie members of 2025: a replica comes back under
    // its old name with nothing, and votes as if it never had.
    for_seeds(3, |cluster| {
        let (a, b, c) = (cluster.leader, cluster.others[0], cluster.others[1]);
        cluster.write_some(a, 5);
        cluster.cut_power(b, &mut nothing_survives);
        let own = cluster.disk(b).image();
        cluster.disk(b).wipe();
        cluster.reopen(b);
        cluster.write_some(a, 3);
        cluster.crash(a);
        cluster.run_for(BOUND);
        assert!(cluster.write(c).is_err(), "the blank replica was counted");
        assert_eq!(cluster.sim.leader(), None);
        cluster.reopen(a);
        // Its disk is found again.
        cluster.crash(b);
        cluster.disk(b).restore(&own);
        cluster.reopen(b);
        cluster.settle();
    });
}

#[test]
fn hostile_bytes() {
    // CVE-2020-15106, CVE-2020-15112, etcd #14098, redpanda #9722: bytes on the disk that nobody
    // wrote take the process down. Here a replica opens, or tells why not; the others go on.
    for_seeds(3, |cluster| {
        let b = cluster.others[0];
        cluster.write_some(cluster.leader, 8);
        cluster.expect("it is level", Cluster::is_level);
        for _ in 0..6 {
            cluster.cut_power(b, &mut nothing_survives);
            let (disk, own) = (cluster.disk(b), cluster.disk(b).image());
            // Some say all by their names.
            let mut names = disk.names();
            names.retain(|name| disk.durable_length(name).is_some_and(|length| length > 0));
            let name = &names[cluster.below(names.len() as u64) as usize];
            let length = disk.durable_length(name).unwrap();
            let start = (cluster.below(length as u64) as usize / 8 * 8).min(24_000);
            let bytes = [8, 64, 4096, length][cluster.below(4) as usize];
            match cluster.below(4) {
                0 => drop(disk.truncate(name, start)),
                1 => drop(disk.zero(name, start..start + bytes)),
                // Lengths, counts and slots as large as can be.
                2 => drop(disk.rot(name, start..start + bytes, |bytes| bytes.fill(0xff))),
                _ => drop(disk.rot(name, start..start + bytes, |bytes| {
                    bytes.iter_mut().for_each(|byte| *byte = cluster.below(256) as u8);
                })),
            }
            let refused = cluster.counts().refused;
            // What it lost may look like a journal that was set back.
            cluster.excuse_set_back(b);
            if !cluster.open(b) {
                assert!(!cluster.refusal(b).unwrap().is_empty());
                disk.restore(&own);
                cluster.reopen(b);
            }
            cluster.write_some(cluster.others[1], 1);
            let level = cluster.run_until(BOUND, Cluster::is_level);
            if !level && cluster.counts().refused > refused {
                // It is kept out.
                cluster.crash(b);
                cluster.check_state();
                return;
            }
            let told = cluster.report(b).unwrap().in_the_way();
            assert!(level, "{name} {start}+{bytes}: {told:?}");
        }
        cluster.settle();
    });
}
