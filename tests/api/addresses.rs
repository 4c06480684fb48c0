//! Where replicas are to be reached, and what a directory remembers of it.

use std::net::TcpListener;

use indelible::{ErrorKind, Replica, ReplicaId};

use crate::cluster::{NOTES, PATIENCE, addresses, until};
use crate::membership::Grown;

/// One replica grew to three, over TCP.
fn three() -> Grown {
    let mut grown = Grown::begin(None);
    for id in [2, 3] {
        grown.join(id);
        grown.promote(id);
    }
    grown
}

/// The first opening fails where the address is taken, and has begun a ledger all the same.
#[test]
fn a_lone_replica_may_be_opened_at_another_address_until_others_join() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let wrong = taken.local_addr().unwrap().to_string();
    let open = |at: &str| Replica::builder(first.path()).peers([(1, at)]).open();
    assert_eq!(open(&wrong).unwrap_err().kind(), ErrorKind::Io);
    drop(taken);
    let [(_, right), (_, others), (_, third)] = addresses(3).try_into().unwrap();
    let replica = open(&right).unwrap();
    replica.wait_ready(PATIENCE).unwrap();
    replica.put(NOTES, 1, b"one").wait().unwrap();

    let joining = Replica::builder(second.path()).id(2).join(replica.cluster().unwrap());
    let joins = joining.peers([(1, right.as_str()), (2, others.as_str())]).open().unwrap();
    until("it is let in", || replica.add_observer(2).wait().is_ok());
    joins.wait_ready(PATIENCE).unwrap();
    let own = replica.membership().unwrap().voters()[0].address.clone();
    assert_eq!(own, right, "others are told where it is");
    joins.close().unwrap();
    replica.close().unwrap();

    let err = open(&third).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::MembershipMismatch);
    let told = err.to_string();
    assert!(told.contains(&right) && told.contains(&third), "{told}");
    open(&right).unwrap().close().unwrap();
    Replica::builder(first.path()).open().unwrap().close().unwrap();
}

/// Another replica leads than `id`.
fn leads_another(grown: &Grown, id: u64) {
    until("another one leads", || {
        let leader = grown.leader();
        let leads = leader.status().id == ReplicaId(id);
        if leads {
            // It may be refused, and is asked again.
            drop(leader.transfer_leadership(2).wait());
        }
        !leads
    });
}

#[test]
fn a_replica_moves_whether_it_founded_or_joined() {
    let mut grown = three();
    for (id, new) in [(1, 4), (3, 5)] {
        let address = grown.address(new);
        // Who moves leads no longer.
        leads_another(&grown, id);
        until("the address is changed", || {
            let to = address.clone();
            let change = move |present: &indelible::Membership| present.with_address(id, &to);
            grown.leader().change_membership(change).wait().is_ok()
        });
        grown.close(id);
        // It is told nothing, and listens where the ledger says.
        let replica = grown.builder(id).open().unwrap();
        replica.wait_ready(PATIENCE).unwrap();
        grown.open.push(replica);
        until("it is reached there", || {
            let status = grown.leader().status();
            status.peers.iter().all(|peer| peer.connected) && status.failures_tolerated == Some(1)
        });
    }
    grown.replica(1).put(NOTES, 1, b"all moved").wait().unwrap();
    let found = grown.replica(3).get(NOTES, 1).wait().unwrap().unwrap();
    assert_eq!(found.value[..], *b"all moved");
    // Who moved and is removed is answered where it is, and stops.
    leads_another(&grown, 1);
    until("it is removed", || grown.leader().remove(1).wait().is_ok());
    until("it stops", || {
        grown.replica(1).status().trouble.is_some_and(|trouble| trouble.contains("was removed"))
    });
}

#[test]
fn a_leader_that_moves_leads_no_longer() {
    let mut grown = three();
    let (id, to) = (grown.leader().status().id, grown.address(4));
    let address = to.clone();
    let change = move |present: &indelible::Membership| present.with_address(id, &address);
    let err = grown.replica(id.0).change_membership(change).wait().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::TimedOut, "{err}");
    // It counts all the same: the others cannot reach it, and one of them leads.
    until("another one leads", || {
        let leader = grown.leader().status().id;
        leader != id && grown.replica(id.0).status().leader != Some(id)
    });
    for replica in grown.open.iter().filter(|replica| replica.status().id != id) {
        let membership = replica.membership().unwrap();
        assert_eq!(membership.member(id).unwrap().address, to, "{}", replica.status());
    }
    grown.leader().put(NOTES, 1, b"without it").wait().unwrap();
    grown.close(id.0);
    let replica = grown.builder(id.0).open().unwrap();
    replica.wait_ready(PATIENCE).unwrap();
    grown.open.push(replica);
    until("all are connected", || {
        let mut peers = grown.open.iter().flat_map(|replica| replica.status().peers);
        peers.all(|peer| peer.connected && peer.heard)
    });
    let found = grown.replica(id.0).get(NOTES, 1).wait().unwrap().unwrap();
    assert_eq!(found.value[..], *b"without it");
}

#[test]
fn who_cannot_be_reached_is_not_counted_on() {
    let grown = three();
    leads_another(&grown, 3);
    let address = grown.address(6);
    until("the address is changed", || {
        let to = address.clone();
        let change = move |present: &indelible::Membership| present.with_address(3, &to);
        grown.leader().change_membership(change).wait().is_ok()
    });
    // Nobody listens there; replica 3 still reaches the others.
    until("the leader knows", || {
        let status = grown.leader().status();
        let third = status.peers.iter().find(|peer| peer.id == ReplicaId(3)).cloned();
        third.is_some_and(|third| third.heard) && status.failures_tolerated == Some(0)
    });
}

#[test]
fn who_was_opened_to_join_forms_no_cluster_of_its_own() {
    let mut grown = Grown::begin(None);
    // Nobody answers at that address.
    let joins = grown.joining(2, 6).open().unwrap();
    let trouble = joins.status().trouble.unwrap();
    assert!(trouble.contains("waiting to hear of cluster"), "{trouble}");
    joins.close().unwrap();

    let err = grown.builder(2).open().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidArgument);
    assert!(err.to_string().contains("to join cluster"), "{err}");
    // Nor with the others as founders: it waits for those that it was to join.
    let peers = [1, 2].map(|id| (id, grown.address(id)));
    let again = grown.builder(2).peers(peers).open().unwrap();
    let leader = grown.leader();
    until("it is let in", || leader.add_observer(2).wait().is_ok());
    again.wait_ready(PATIENCE).unwrap();
    assert_eq!(again.cluster(), leader.cluster());
    grown.open.push(again);
    grown.promote(2);
    grown.replica(2).put(NOTES, 1, b"together").wait().unwrap();
}

#[test]
fn who_is_no_member_says_what_it_waits_for() {
    let grown = Grown::begin(None);
    grown.first().put(NOTES, 1, b"alone").wait().unwrap();
    let applicant = grown.joining(2, 1).open().unwrap();
    until("it has the ledger, and says what it lacks", || {
        let status = applicant.status();
        status.txid == grown.first().status().txid
            && status.trouble.is_some_and(|trouble| trouble.contains("add_observer(2)"))
    });
    until("a member tells of it", || !grown.first().status().applicants.is_empty());
    let status = grown.first().status();
    let told = status.applicants.iter().map(|it| (it.id, it.address.clone()));
    assert_eq!(told.collect::<Vec<_>>(), [(ReplicaId(2), grown.address(2))]);
    let line = status.to_string();
    assert!(line.contains(&format!(" applicant 2={}", grown.address(2))), "{line}");
    applicant.close().unwrap();
    until("it is gone", || grown.first().status().applicants.is_empty());
    // Nobody knows where it would be.
    let err = grown.builder(2).open().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidArgument);
    assert!(err.to_string().contains("none of them is replica 2 itself"), "{err}");
    let again = grown.joining(2, 1).open().unwrap();
    until("it is let in", || grown.first().add_observer(2).wait().is_ok());
    again.wait_ready(PATIENCE).unwrap();
    until("nothing is in the way", || again.status().trouble.is_none());
}

#[test]
fn who_was_removed_says_so_whenever_it_is_opened() {
    let mut grown = three();
    leads_another(&grown, 3);
    until("it is removed", || grown.leader().remove(3).wait().is_ok());
    until("it stops", || {
        grown.replica(3).status().trouble.is_some_and(|trouble| trouble.contains("was removed"))
    });
    grown.close(3);
    for _ in 0..2 {
        let removed = grown.builder(3).open().unwrap();
        until("it says so", || {
            removed.get(NOTES, 1).wait().is_err_and(|err| err.kind() == ErrorKind::Removed)
        });
        assert_eq!(removed.close().unwrap_err().kind(), ErrorKind::Removed);
    }
}
