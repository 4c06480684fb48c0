//! Limits, peer lists and settings.

use std::time::Duration;

use indelible::{Config, ErrorKind, Network, RawTable, Replica, Table};
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::cluster::{NOTES, PATIENCE, addresses, config, ledger};

const BLOBS: RawTable<Vec<u8>> = RawTable::new("blobs");
const TEXTS: Table<u64, String> = Table::new("texts");
const KEY_MAX: usize = 4 * 1024;
const VALUE_MAX: usize = 1024 * 1024;

fn too_large<T>(result: indelible::Result<T>, sizes: [usize; 2]) {
    let Err(err) = result else { panic!("was taken") };
    assert_eq!(err.kind(), ErrorKind::TooLarge, "{err}");
    let told = err.to_string();
    assert!(sizes.iter().all(|size| told.contains(&size.to_string())), "{told}");
}

#[test]
fn keys_and_values_pass_up_to_their_limits_exactly() {
    let replica = Replica::in_memory().unwrap();
    let (key, value) = (vec![7; KEY_MAX + 1], vec![9; VALUE_MAX + 1]);
    let (fits, longest) = (&key[1..], &value[1..]);
    let txid = replica.put(BLOBS, fits, longest).wait().unwrap().txid.unwrap();
    assert_eq!(&*replica.get(BLOBS, fits).wait().unwrap().unwrap().value, longest);
    replica.put(BLOBS, &[], &[]).wait().unwrap();
    let before = replica.status();
    let key_sizes = [KEY_MAX + 1, KEY_MAX];
    let value_sizes = [VALUE_MAX + 1, VALUE_MAX];
    too_large(replica.put(BLOBS, &key, b"").wait(), key_sizes);
    too_large(replica.put(BLOBS, b"x", &value).wait(), value_sizes);
    too_large(replica.delete(BLOBS, &key).wait(), key_sizes);
    too_large(replica.get(BLOBS, &key).wait(), key_sizes);
    let mut transaction = replica.transaction();
    transaction.put(NOTES, 1, b"never").absent(BLOBS, &key);
    too_large(transaction.commit().wait(), key_sizes);
    let mut transaction = replica.transaction();
    transaction.put(NOTES, 1, b"never").version(BLOBS, &key, txid);
    too_large(transaction.commit().wait(), key_sizes);
    // Text is encoded with its length in front.
    let text = "t".repeat(VALUE_MAX - 8 + 1);
    too_large(replica.put(TEXTS, 1, &text).wait(), value_sizes);
    replica.put(TEXTS, 1, &text[1..].to_owned()).wait().unwrap();
    let after = replica.status();
    assert_eq!(after.slot_chosen, before.slot_chosen + 1, "what is too large is not proposed");
    assert_eq!(ledger(&replica).len(), 3);
    replica.close().unwrap();
}

/// A value that some programs cannot write down.
#[derive(Deserialize)]
struct Secret(u64);

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            0 => Err(S::Error::custom("zero is not told to anybody")),
            // Some of it is written before the rest is refused.
            1 => (1_u64, Self(0)).serialize(serializer),
            number => number.serialize(serializer),
        }
    }
}

const SECRETS: Table<u64, Secret> = Table::new("secrets");

#[test]
fn a_value_that_refuses_to_be_encoded_is_not_written() {
    let replica = Replica::in_memory().unwrap();
    replica.put(NOTES, 1, b"before").wait().unwrap();
    let before = replica.status();
    for secret in [0, 1] {
        let mut transaction = replica.transaction();
        transaction.put(NOTES, 1, b"beside").put(SECRETS, 1, &Secret(secret));
        let err = transaction.put(SECRETS, 2, &Secret(2)).commit().wait().unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Encoding, "{err}");
        let told = err.to_string();
        let words = ["table \"secrets\"", "cannot encode", "zero is not told to anybody"];
        assert!(words.iter().all(|word| told.contains(word)), "{told}");
    }
    assert_eq!(replica.status().txid, before.txid, "nothing was committed");
    replica.put(SECRETS, 2, &Secret(2)).wait().unwrap();
    assert_eq!(replica.get(SECRETS, 2).wait().unwrap().unwrap().value.0, 2);
}

#[test]
fn a_transaction_passes_up_to_its_limit_exactly() {
    const LIMIT: usize = 4 * 1024 * 1024;
    let replica = Replica::in_memory().unwrap();
    let commit = |last: usize| {
        let mut transaction = replica.transaction();
        for key in 0..3 {
            transaction.put(NOTES, key, &vec![1; VALUE_MAX]);
        }
        transaction.put(NOTES, 3, &vec![1; last]);
        transaction.commit().wait()
    };
    // The error tells how long a transaction was, and so how long this one may be.
    let err = commit(VALUE_MAX).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::TooLarge);
    let told = err.to_string();
    let bytes: usize = told.split(' ').filter_map(|word| word.parse().ok()).next().unwrap();
    let longest = VALUE_MAX - (bytes - LIMIT);
    too_large(commit(longest + 1), [LIMIT + 1, LIMIT]);
    assert_eq!(replica.status().txid.counter(), 0);
    commit(longest).unwrap();
    assert_eq!(ledger(&replica)[0].changes().iter().count(), 4);
    replica.close().unwrap();
}

#[test]
fn a_value_larger_than_a_segment_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Replica::builder(directory.path()).config(config()).open().unwrap();
    let replica = open();
    for key in 0..3 {
        replica.put(NOTES, key, &vec![8; VALUE_MAX]).wait().unwrap();
    }
    replica.close().unwrap();
    let replica = open();
    let snapshot = replica.snapshot().wait().unwrap();
    let lengths = snapshot.range(NOTES, ..).map(|entry| entry.unwrap().1.value.len());
    assert_eq!(lengths.collect::<Vec<_>>(), [VALUE_MAX; 3]);
    replica.close().unwrap();
}

/// Opening with these arguments is refused by a message with all these words, and leaves no trace.
fn refused(id: u64, peers: &[(u64, &str)], words: &[&str]) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    let builder = Replica::builder(&path).id(id).peers(peers.iter().copied());
    let err = builder.network(&Network::new()).open().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err}");
    let told = err.to_string();
    assert!(words.iter().all(|word| told.contains(word)), "{told}: lacks one of {words:?}");
    assert!(!path.exists(), "the directory was made");
}

#[test]
fn a_wrong_peer_list_is_refused_by_name() {
    refused(3, &[(1, "a:1"), (2, "b:1")], &["peers", "replica 3"]);
    refused(1, &[], &["peers", "replica 1"]);
    refused(1, &[(1, "a:1"), (2, "b:1"), (2, "c:1")], &["peers", "2", "twice"]);
    refused(1, &[(1, "a:1"), (1, "b:1"), (2, "c:1")], &["peers", "1", "twice"]);
    refused(1, &[(1, "a:1"), (2, "b:1"), (3, "b:1")], &["peers", "b:1", "twice"]);
    refused(1, &[(1, "a:1"), (0, "b:1"), (3, "c:1")], &["peers", "id 0"]);
    refused(1, &[(1, "a:1"), (2, ""), (3, "c:1")], &["peers", "address", "replica 2"]);
    let long = format!("{}:1", "h".repeat(300));
    refused(1, &[(1, "a:1"), (2, &long), (3, "c:1")], &["peers", "address", "replica 2"]);
    refused(0, &[(1, "a:1")], &["id", "0"]);
    let many = (1..=64).map(|id| (id, format!("h{id}:1"))).collect::<Vec<_>>();
    let many = many.iter().map(|(id, address)| (*id, address.as_str())).collect::<Vec<_>>();
    refused(1, &many, &["peers", "64", "63"]);
}

#[test]
fn an_address_that_is_nobodys_is_refused() {
    for nobodys in ["0.0.0.0:7400", "[::]:7400"] {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let err = Replica::builder(&path).peers([(1, nobodys), (2, "b:1")]).open().unwrap_err();
        assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err}");
        assert!(err.to_string().contains(nobodys) && err.to_string().contains("listen"), "{err}");
        assert!(!path.exists(), "the directory was made");
    }
}

#[test]
fn a_setting_that_cannot_work_is_refused_by_name() {
    let zero = Duration::ZERO;
    let bad: Vec<(&str, Config)> = vec![
        ("request_timeout", Config { request_timeout: zero, ..config() }),
        ("heartbeat_interval", Config { heartbeat_interval: zero, ..config() }),
        ("retransmit_interval", Config { retransmit_interval: zero, ..config() }),
        ("election_timeout", Config { election_timeout: zero, ..config() }),
        ("election_timeout", Config { heartbeat_interval: Duration::from_secs(1), ..config() }),
        ("heartbeat_interval", Config { heartbeat_interval: Duration::MAX, ..config() }),
        ("election_timeout", Config { election_timeout: Duration::MAX, ..config() }),
        ("batch_bytes_max", Config { batch_bytes_max: 0, ..config() }),
        ("batch_transactions_max", Config { batch_transactions_max: 0, ..config() }),
        ("batch_transactions_max", Config { batch_transactions_max: 4097, ..config() }),
        ("inflight_slots_max", Config { inflight_slots_max: 0, ..config() }),
        ("inflight_slots_max", Config { inflight_slots_max: 4097, ..config() }),
        ("inflight_bytes_max", Config { inflight_bytes_max: 0, ..config() }),
        ("queued_bytes_max", Config { queued_bytes_max: 0, ..config() }),
        ("queued_transactions_max", Config { queued_transactions_max: 0, ..config() }),
        ("waiting_reads_max", Config { waiting_reads_max: 0, ..config() }),
        ("journal_backlog_bytes_max", Config { journal_backlog_bytes_max: 0, ..config() }),
        ("peer_queue_bytes_max", Config { peer_queue_bytes_max: 0, ..config() }),
    ];
    for (field, config) in bad {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let err = Replica::builder(&path).config(config).open().unwrap_err();
        assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err}");
        assert!(err.to_string().contains(field), "{err}: does not name {field}");
        assert!(!path.exists(), "the directory was made");
    }
}

#[test]
fn an_address_that_cannot_be_listened_at_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut peers = addresses(3);
    peers[0].1.clone_from(&address);
    let open = || Replica::builder(directory.path()).peers(peers.clone()).config(config()).open();
    for _ in 0..2 {
        let err = open().unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Io, "{err}");
        assert!(err.to_string().contains(&address), "{err}");
    }
    drop(taken);
    open().unwrap().close().unwrap();
}

#[test]
fn to_join_needs_a_member_and_the_directorys_own_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("alone");
    let replica = Replica::builder(&path).config(config()).open().unwrap();
    replica.wait_ready(PATIENCE).unwrap();
    let (own, other) = (replica.cluster().unwrap(), "0123456789abcdef0123456789abcdef");
    replica.close().unwrap();
    let err = Replica::builder(&path).join(other.parse().unwrap()).open().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::WrongCluster, "{err}");
    let text = err.to_string();
    assert!(text.contains(other) && text.contains(&own.to_string()), "{err}");

    let blank = directory.path().join("blank");
    let only = addresses(1);
    for peers in [Vec::new(), only] {
        let builder = Replica::builder(&blank).join(own).config(config());
        let builder = if peers.is_empty() { builder } else { builder.peers(peers) };
        let err = builder.open().unwrap_err();
        assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err}");
        assert!(err.to_string().contains("one or more of its members"), "{err}");
    }
}
