//! The public face, on one replica and on three.

use std::time::Duration;

use indelible::{RawTable, Replica, TxId};

const NOTES: RawTable<u64> = RawTable::new("notes");

#[test]
fn smoke() {
    let replica = Replica::in_memory().unwrap();
    replica.wait_ready(Duration::from_secs(10)).unwrap();
    println!("{}", replica.status());
    for i in 0..1000u64 {
        replica.put(NOTES, i, b"text").wait().unwrap();
    }
    assert_eq!(replica.transactions(TxId::ZERO).count(), 1000);
    println!("{}", replica.status());
    replica.close().unwrap();
}
