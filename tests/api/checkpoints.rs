//! Checkpoints and trimming on real replicas: openings go on from them, and history has an end.

use std::time::Instant;

use indelible::{Config, ErrorKind, Replica, TxId};

use crate::cluster::{NOTES, PATIENCE, config, ledger, until};

fn open(path: &std::path::Path, config: Config) -> Replica {
    let replica = Replica::builder(path).config(config).open().unwrap();
    replica.wait_ready(PATIENCE).unwrap();
    replica
}

#[test]
fn an_opening_goes_on_from_a_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let replica = open(directory.path(), config());
    for key in 0..200 {
        replica.put(NOTES, key, &[key as u8; 100]).wait().unwrap();
    }
    replica.delete(NOTES, 7).wait().unwrap();
    replica.checkpoint().wait().unwrap();
    let slot = replica.status().slot_checkpointed;
    assert!(slot > 1, "{}", replica.status());
    // Nothing was applied since: it is answered at once, and none is taken.
    replica.checkpoint().wait().unwrap();
    assert_eq!(replica.status().slot_checkpointed, slot);
    let later = replica.put(NOTES, 7, b"again").wait().unwrap();
    let (digest, history) = (replica.status().digest, ledger(&replica));
    replica.close().unwrap();

    let replica = open(directory.path(), config());
    let status = replica.status();
    assert_eq!((status.slot_checkpointed, status.digest), (slot, digest));
    let found = replica.get(NOTES, 7).wait().unwrap().unwrap();
    assert_eq!((Some(found.version), &*found.value), (later.txid, &b"again"[..]));
    assert_eq!(replica.snapshot().wait().unwrap().range(NOTES, ..).count(), 200);
    assert_eq!(ledger(&replica).len(), history.len());
    assert_eq!(status.slot_trimmed, 0);
    replica.close().unwrap();
}

#[test]
fn history_ends_where_it_is_not_to_be_kept() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config {
        segment_bytes: 64 * 1024,
        checkpoint_bytes: 100_000,
        history_bytes_min: 200_000,
        ..config()
    };
    let replica = open(directory.path(), config.clone());
    let mut last = TxId::ZERO;
    let begun = Instant::now();
    let mut writes = 0;
    while replica.status().slot_trimmed == 0 {
        last = replica.put(NOTES, writes % 50, &[1; 1000]).wait().unwrap().txid.unwrap();
        writes += 1;
        assert!(begun.elapsed() < 4 * PATIENCE, "{}", replica.status());
    }
    until("what is older is removed", || replica.status().journal_bytes < 200_000 + 6 * 64 * 1024);
    let err = replica.transactions(TxId::ZERO).next().unwrap().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Trimmed, "{err}");
    assert_eq!(replica.transactions(last).count(), 0);
    let before = TxId::from_number(last.get() - 1).unwrap();
    let newest = replica.transactions(before).collect::<indelible::Result<Vec<_>>>().unwrap();
    assert_eq!(newest[0].txid(), last);
    let (status, digest) = (replica.status(), replica.status().digest);
    // More may be trimmed between the two calls.
    until("what is left can be read", || {
        let after = replica.status().txid_trimmed;
        let first = replica.transactions(after).next().unwrap();
        first.is_ok_and(|first| first.txid().get() == after.get() + 1)
    });
    assert!(status.slot_trimmed <= status.slot_checkpointed, "{status}");
    replica.close().unwrap();

    let replica = open(directory.path(), config);
    assert_eq!(replica.status().digest, digest);
    assert!(replica.status().slot_trimmed > 0);
    assert_eq!(replica.snapshot().wait().unwrap().range(NOTES, ..).count() as u64, writes.min(50));
    let err = replica.transactions(TxId::ZERO).next().unwrap().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Trimmed, "{err}");
    replica.close().unwrap();
}
