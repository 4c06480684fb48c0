//! Quorums other than majorities.

use std::collections::BTreeMap;

use indelible::{ErrorKind, Network, Replica};

use crate::cluster::{NOTES, PATIENCE, config, until};

/// Opens replica `id` of four, of which `quorums` decide.
fn open(root: &std::path::Path, network: &Network, id: u64, quorums: (u32, u32)) -> Replica {
    let peers = (1..=4).map(|id| (id, format!("host-{id}:1")));
    let builder = Replica::builder(root.join(id.to_string())).id(id).peers(peers);
    builder.quorums(quorums.0, quorums.1).network(network).config(config()).open().unwrap()
}

fn leader(open: &BTreeMap<u64, Replica>) -> Option<u64> {
    open.iter().find(|(_, replica)| replica.status().ready).map(|(id, _)| *id)
}

#[test]
fn two_of_four_write_and_three_elect() {
    let (root, network) = (tempfile::tempdir().unwrap(), Network::new());
    let one = |id| (id, open(root.path(), &network, id, (3, 2)));
    let mut open_ones = (1..=4).map(one).collect::<BTreeMap<_, _>>();
    open_ones.values().for_each(|replica| replica.wait_ready(PATIENCE).unwrap());
    until("somebody leads", || leader(&open_ones).is_some());
    let first = leader(&open_ones).unwrap();

    // Half of them are gone, and writes go on: a majority of four would be three.
    let others = open_ones.keys().copied().filter(|id| *id != first).collect::<Vec<_>>();
    for id in &others[..2] {
        open_ones.remove(id).unwrap().close().unwrap();
    }
    let put = |replica: &Replica, value: &[u8]| replica.put(NOTES, 1, value).wait().unwrap();
    let written = put(&open_ones[&first], b"by two").txid.unwrap();

    // Without the leader it takes three: the other one, and both that were gone.
    open_ones.remove(&first).unwrap().close().unwrap();
    for id in &others[..2] {
        open_ones.insert(*id, open(root.path(), &network, *id, (3, 2)));
    }
    until("one of the three leads", || leader(&open_ones).is_some());
    let second = leader(&open_ones).unwrap();
    let found = open_ones[&second].get(NOTES, 1).wait().unwrap().unwrap();
    assert_eq!((found.version, &*found.value), (written, &b"by two"[..]));
    put(&open_ones[&second], b"by others");

    // The ledger remembers its quorums.
    let closed = open_ones.remove(&second).unwrap();
    closed.close().unwrap();
    let path = root.path().join(second.to_string());
    let builder = || Replica::builder(&path).id(second).network(&network).config(config());
    let err = builder().quorums(3, 3).open().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::MembershipMismatch, "{err}");
    assert!(err.to_string().contains("3 and 2") && err.to_string().contains("3 and 3"), "{err}");
    builder().open().unwrap().close().unwrap();
}

#[test]
fn quorums_that_need_not_intersect_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data");
    let peers = || (1..=3).map(|id| (id, format!("host-{id}:1")));
    for (leaders, writes) in [(2, 1), (1, 2), (0, 3), (3, 0), (4, 1), (u32::MAX, u32::MAX)] {
        let builder = Replica::builder(&path).peers(peers()).network(&Network::new());
        let err = builder.quorums(leaders, writes).open().unwrap_err();
        assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err}");
        let told = err.to_string();
        assert!(told.contains("quorums") && told.contains("3 voters"), "{told}");
    }
    let err = Replica::builder(&path).quorums(2, 2).open().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err}");
    Replica::builder(&path).quorums(1, 1).open().unwrap().close().unwrap();
}
