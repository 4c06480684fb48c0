//! What became of a transaction, asked by its name.

use std::time::Duration;

use indelible::{
    Config, ErrorKind, Network, Replica, RequestId, Resolution, SessionId, Table, TxId,
};

use crate::cluster::{Cluster, NOTES, PATIENCE, config};

#[test]
fn what_was_committed_is_told_as_it_was() {
    let replica = Replica::in_memory().unwrap();
    // The newest of a session are remembered: nothing after them said that they were answered.
    let put = replica.put(NOTES, 1, b"one").wait().unwrap();
    let told = replica.resolve(put.request).wait().unwrap();
    assert_eq!(told, Resolution::Committed(put));
    assert_eq!(told.committed(), Some(put));

    let unchanged = replica.delete(NOTES, 2).wait().unwrap();
    let told = replica.resolve(unchanged.request).wait().unwrap();
    assert_eq!(told.committed(), Some(unchanged));
    assert_eq!((unchanged.at, unchanged.txid), (put.at, None));

    let mut refused = replica.transaction();
    refused.present(NOTES, 1).absent(NOTES, 1).put(NOTES, 1, b"two");
    let err = refused.commit().wait().unwrap_err();
    let told = replica.resolve(err.request().unwrap()).wait().unwrap();
    assert_eq!(told, Resolution::Refused { condition: 1, found: put.txid });

    // Resolving takes no id, and is no transaction of the ledger.
    let records = replica.transactions(TxId::ZERO).map(|record| record.unwrap().txid());
    assert_eq!(records.collect::<Vec<_>>(), [put.txid.unwrap()]);
    replica.close().unwrap();
}

#[test]
fn a_table_mismatch_is_told() {
    let replica = Replica::in_memory().unwrap();
    replica.put(NOTES, 1, b"one").wait().unwrap();
    let typed: Table<u64, String> = Table::new("notes");
    let err = replica.put(typed, 1, &"one".into()).wait().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::TableMismatch);
    let told = replica.resolve(err.request().unwrap()).wait().unwrap();
    assert_eq!(told, Resolution::TableMismatch);
    replica.close().unwrap();
}

#[test]
fn what_never_arrived_is_burned_and_what_is_forgotten_is_told_so() {
    let replica = Replica::in_memory().unwrap();
    let first = replica.put(NOTES, 1, b"one").wait().unwrap().request;
    let next = RequestId { sequence: first.sequence + 100, ..first };
    assert_eq!(replica.resolve(next).wait().unwrap(), Resolution::Burned);
    assert_eq!(replica.resolve(next).wait().unwrap(), Resolution::Burned);

    // Its caller has the answer, and the next command said so.
    replica.put(NOTES, 1, b"two").wait().unwrap();
    let err = replica.resolve(first).wait().unwrap_err();
    assert_eq!((err.kind(), err.request()), (ErrorKind::SessionExpired, Some(first)));
    assert!(err.is_session_expired() && err.is_outcome_unknown() && !err.is_retryable());
    // There is no such session yet.
    let session = SessionId::new(1 << 40, 7);
    let err = replica.resolve(RequestId { session, sequence: 1 }).wait().unwrap_err();
    assert!(err.is_session_expired());
    replica.close().unwrap();
    // As unknown as it was: whoever passes that on says so.
    let err = replica.resolve(first).wait().unwrap_err();
    assert_eq!((err.kind(), err.request()), (ErrorKind::OutcomeUnknown, Some(first)), "{err}");
    assert!(err.to_string().contains("closed"), "{err}");
}

/// A question is asked under a name of its own; to settle that name settles no question.
#[test]
fn a_question_is_not_a_transaction() {
    let replica = Replica::in_memory().unwrap();
    let first = replica.put(NOTES, 1, b"one").wait().unwrap().request;
    let ahead = |by: u64| RequestId { sequence: first.sequence + by, ..first };
    // Each settles the name under which the next one is asked.
    let asked = (2..22).map(|by| replica.resolve(ahead(by))).collect::<Vec<_>>();
    let told = asked.into_iter().map(|asked| asked.wait().unwrap()).collect::<Vec<_>>();
    assert!(told.iter().all(|told| *told == Resolution::Burned), "{told:?}");
    // Names that were settled are not used.
    let next = loop {
        match replica.put(NOTES, 1, b"two").wait() {
            Ok(committed) => break committed,
            Err(err) => assert_eq!(err.kind(), ErrorKind::Burned, "{err}"),
        }
    };
    assert!(next.txid.is_some());
    replica.close().unwrap();
}

#[test]
fn a_request_outlives_its_process() {
    let directory = tempfile::tempdir().unwrap();
    let kept = {
        let replica = Replica::open(directory.path()).unwrap();
        let request = replica.put(NOTES, 1, b"one").wait().unwrap().request;
        replica.close().unwrap();
        request.to_string()
    };
    let replica = Replica::open(directory.path()).unwrap();
    let request: RequestId = kept.parse().unwrap();
    // Another session is used meanwhile.
    let other = replica.put(NOTES, 2, b"two").wait().unwrap().request;
    assert_ne!(other.session, request.session);
    let told = replica.resolve(request).wait().unwrap().committed().unwrap();
    assert_eq!(replica.get(NOTES, 1).wait().unwrap().unwrap().version, told.txid.unwrap());
    replica.close().unwrap();
}

#[test]
fn nobody_resolves_without_a_majority() {
    let network = Network::new();
    let directory = tempfile::tempdir().unwrap();
    let timeout = Duration::from_millis(300);
    let open = |id: u64| {
        Replica::builder(directory.path().join(id.to_string()))
            .id(id)
            .peers([(1, "a"), (2, "b"), (3, "c")])
            .network(&network)
            .config(Config { request_timeout: timeout, ..Config::default() })
            .open()
            .unwrap()
    };
    let replicas = [1, 2, 3].map(open);
    replicas.iter().for_each(|replica| replica.wait_ready(PATIENCE).unwrap());
    let [first, rest @ ..] = &replicas;
    rest.iter().for_each(|replica| replica.close().unwrap());
    let request = RequestId { session: SessionId::new(0, 7), sequence: 1 };
    let err = first.resolve(request).wait().unwrap_err();
    assert!(err.is_outcome_unknown() && !err.is_retryable(), "{err}");
    assert_eq!(err.request(), Some(request), "{err}");
    // Nor is it known of a write what became of it; the error names it.
    if let Err(err) = first.put(NOTES, 1, b"one").wait()
        && err.is_outcome_unknown()
    {
        assert!(err.request().is_some());
    }
    first.close().unwrap();
}

/// From now on the ledger remembers so many sessions.
fn remember(cluster: &Cluster, sessions: u32) {
    let leader = cluster.replica(cluster.leader());
    let changed = leader.change_membership(move |it| it.with_sessions_max(sessions));
    assert_eq!(changed.wait().unwrap().sessions_max(), sessions);
    cluster.settle();
}

#[test]
fn a_ledger_that_is_to_remember_fewer_sessions_forgets_the_rest() {
    let mut cluster = Cluster::in_process(config());
    let put = |cluster: &Cluster, id: u64| {
        let put = cluster.replica(id).put(NOTES, id, b"text").wait().unwrap();
        // The next one has it behind itself wherever it is written.
        cluster.settle();
        put
    };
    let resolve = |cluster: &Cluster, by: u64, request| cluster.replica(by).resolve(request).wait();
    let expired = |cluster: &Cluster, by: u64, request: RequestId| {
        let err = resolve(cluster, by, request).unwrap_err();
        assert_eq!((err.kind(), err.request()), (ErrorKind::SessionExpired, Some(request)));
    };
    let [first, second, third] = [1, 2, 3].map(|id| put(&cluster, id));
    for known in [first, second, third] {
        assert_eq!(resolve(&cluster, 3, known.request).unwrap(), Resolution::Committed(known));
    }

    // The one that was used last is left, and whoever used another goes on under a new one.
    remember(&cluster, 1);
    expired(&cluster, 3, first.request);
    expired(&cluster, 3, second.request);
    let again = put(&cluster, 1);
    assert_ne!(again.request.session, first.request.session);
    expired(&cluster, 1, third.request);

    // What is forgotten stays so; as many as were asked for are remembered from now on.
    remember(&cluster, 2);
    let [second, third] = [2, 3].map(|id| put(&cluster, id));
    assert_eq!(resolve(&cluster, 3, second.request).unwrap(), Resolution::Committed(second));
    assert_eq!(resolve(&cluster, 3, third.request).unwrap(), Resolution::Committed(third));
    expired(&cluster, 3, again.request);
    expired(&cluster, 3, first.request);
    // Who was away, and applies the same again, comes to the same.
    let follower = cluster.follower();
    cluster.close(follower);
    cluster.open(follower);
    cluster.replica(follower).wait_ready(PATIENCE).unwrap();
    cluster.settle();
    assert_eq!(cluster.replica(follower).membership().unwrap().sessions_max(), 2);
}
