//! Replicas that join, vote, move, and leave.

use std::sync::atomic::{AtomicBool, Ordering};

use indelible::{Config, ErrorKind, Member, MembershipError, Network, Replica, ReplicaId, TxId};
use tempfile::TempDir;

use crate::cluster::{NOTES, PATIENCE, addresses, config, until};

/// A ledger that began with one replica, and those that joined it.
pub struct Grown {
    directory: TempDir,
    addresses: Vec<(u64, String)>,
    network: Option<Network>,
    config: Config,
    pub open: Vec<Replica>,
}

impl Grown {
    /// Replica 1, alone, where it can be reached.
    pub fn begin(network: Option<Network>) -> Self {
        Self::begin_with(network, config())
    }

    pub fn begin_with(network: Option<Network>, config: Config) -> Self {
        let mut grown = Self::closed(network, config);
        let address = grown.addresses[..1].to_vec();
        let builder = grown.builder(1).peers(address);
        grown.open.push(builder.open().unwrap());
        grown.open[0].wait_ready(PATIENCE).unwrap();
        grown
    }

    fn closed(network: Option<Network>, config: Config) -> Self {
        let (directory, open) = (tempfile::tempdir().unwrap(), Vec::new());
        Self { directory, addresses: addresses(6), network, config, open }
    }

    pub fn builder(&self, id: u64) -> indelible::Builder {
        let path = self.directory.path().join(id.to_string());
        let builder = Replica::builder(path).id(id).config(self.config.clone());
        match &self.network {
            Some(network) => builder.network(network),
            None => builder,
        }
    }

    pub fn joining(&self, id: u64, known: u64) -> indelible::Builder {
        let cluster = self.first().cluster().unwrap();
        let known = [known, id].map(|id| self.addresses[id as usize - 1].clone());
        self.builder(id).peers(known).join(cluster)
    }

    /// Replica `id` joins, and becomes an observer that has caught up.
    pub fn join(&mut self, id: u64) {
        self.open.push(self.joining(id, 1).open().unwrap());
        let leader = self.leader();
        until("the leader knows who wants to join", || match leader.add_observer(id).wait() {
            Ok(membership) => membership.member(ReplicaId(id)).is_some(),
            Err(err) => {
                let expected = Some(&MembershipError::NotHeard(ReplicaId(id)));
                assert_eq!(err.membership_error(), expected, "{err}");
                assert!(err.is_retryable(), "{err}");
                false
            }
        });
        self.replica(id).wait_ready(PATIENCE).unwrap();
    }

    /// The address of replica `id`, or where one may move to.
    pub fn address(&self, id: u64) -> String {
        self.addresses[id as usize - 1].1.clone()
    }

    pub fn close(&mut self, id: u64) {
        let is_it = |it: &Replica| it.status().id == ReplicaId(id);
        let at = self.open.iter().position(is_it).unwrap();
        // One that stopped by itself says so.
        drop(self.open.remove(at).close());
    }

    pub fn first(&self) -> &Replica {
        &self.open[0]
    }

    pub fn replica(&self, id: u64) -> &Replica {
        self.open.iter().find(|replica| replica.status().id == ReplicaId(id)).unwrap()
    }

    /// Who leads, once somebody does.
    pub fn leader(&self) -> &Replica {
        let leads = |replica: &&Replica| replica.status().ready;
        until("somebody leads", || self.open.iter().any(|replica| leads(&replica)));
        self.open.iter().find(leads).unwrap_or_else(|| self.leader())
    }

    /// Asks the leader to promote, until the observer has caught up.
    pub fn promote(&self, id: u64) {
        until("the observer has caught up", || match self.leader().promote(id).wait() {
            Ok(_) => true,
            Err(err) => {
                let may_be = [ErrorKind::NotCaughtUp, ErrorKind::NotLeader, ErrorKind::Unreachable];
                assert!(may_be.contains(&err.kind()), "{err}");
                false
            }
        });
    }
}

fn voters(replica: &Replica) -> Vec<u64> {
    replica.membership().unwrap().voters().iter().map(|voter| voter.id.0).collect()
}

/// One replica becomes three and goes on with any two of them.
fn grow(network: Option<Network>) {
    let mut grown = Grown::begin(network);
    grown.first().put(NOTES, 1, b"alone").wait().unwrap();
    for id in [2, 3] {
        grown.join(id);
        grown.promote(id);
    }
    until("all know that there are three", || {
        grown.open.iter().all(|replica| voters(replica) == [1, 2, 3])
    });
    grown.replica(3).put(NOTES, 2, b"together").wait().unwrap();
    assert_eq!(grown.replica(2).get(NOTES, 1).wait().unwrap().unwrap().value[..], *b"alone");

    // Without the first one.
    let first = grown.open.remove(0);
    first.close().unwrap();
    drop(first);
    grown.replica(2).put(NOTES, 3, b"without").wait().unwrap();
    assert_eq!(grown.replica(3).get(NOTES, 3).wait().unwrap().unwrap().value[..], *b"without");

    // It comes back as one of three, told nothing.
    grown.open.insert(0, grown.builder(1).open().unwrap());
    grown.first().wait_ready(PATIENCE).unwrap();
    assert_eq!(voters(grown.first()), [1, 2, 3]);
    assert_eq!(grown.first().get(NOTES, 3).wait().unwrap().unwrap().value[..], *b"without");
}

#[test]
fn one_replica_grows_to_three_over_tcp() {
    grow(None);
}

#[test]
fn one_replica_grows_to_three_in_a_process() {
    grow(Some(Network::new()));
}

#[test]
fn a_replica_that_began_without_an_address_grows() {
    let mut grown = Grown::closed(None, config());
    let alone = grown.builder(1).open().unwrap();
    alone.put(NOTES, 1, b"alone").wait().unwrap();
    alone.close().unwrap();
    let address = grown.addresses[..1].to_vec();
    grown.open.push(grown.builder(1).peers(address).open().unwrap());
    grown.first().wait_ready(PATIENCE).unwrap();
    grown.join(2);
    grown.promote(2);
    assert_eq!(grown.replica(2).get(NOTES, 1).wait().unwrap().unwrap().value[..], *b"alone");
    // Both are reopened, told nothing.
    for replica in std::mem::take(&mut grown.open) {
        replica.close().unwrap();
    }
    grown.open = [1, 2].map(|id| grown.builder(id).open().unwrap()).into();
    grown.replica(2).wait_ready(PATIENCE).unwrap();
    grown.replica(2).put(NOTES, 2, b"together").wait().unwrap();
}

/// Writes until all that are open have trimmed something; returns how many keys there are.
fn write_until_trimmed(grown: &Grown) -> u64 {
    let mut keys = 0;
    let trimmed = |replica: &Replica| 0 < replica.status().slot_trimmed;
    until("all have trimmed", || {
        for _ in 0..50 {
            grown.first().put(NOTES, keys, &[7; 1000]).wait().unwrap();
            keys += 1;
        }
        for replica in &grown.open {
            replica.checkpoint().wait().unwrap();
        }
        grown.open.iter().all(trimmed)
    });
    keys
}

#[test]
fn who_joins_behind_what_was_trimmed_takes_in_a_checkpoint_and_counts() {
    let config = Config { segment_bytes: 64 * 1024, history_bytes_min: 1, ..config() };
    let mut grown = Grown::begin_with(None, config);
    grown.join(2);
    grown.promote(2);
    let keys = write_until_trimmed(&grown);
    let least = grown.open.iter().map(|replica| replica.status().slot_trimmed).min().unwrap();

    grown.join(3);
    let status = grown.replica(3).status();
    assert!(least <= status.slot_trimmed, "it has what nobody could give it: {status}");
    let err = grown.replica(3).transactions(TxId::ZERO).next().unwrap().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Trimmed, "{err}");
    grown.promote(3);
    until("all know that there are three", || {
        grown.open.iter().all(|replica| voters(replica) == [1, 2, 3])
    });

    // It is one of two now, without which nothing is committed.
    grown.open.remove(0).close().unwrap();
    grown.replica(2).put(NOTES, keys, b"without").wait().unwrap();
    let third = grown.replica(3);
    assert_eq!(third.get(NOTES, keys).wait().unwrap().unwrap().value[..], *b"without");
    assert_eq!(third.snapshot().wait().unwrap().range(NOTES, ..).count() as u64, keys + 1);
    until("both have the same state", || {
        let told =
            |id| (grown.replica(id).status().slot_applied, grown.replica(id).status().digest);
        told(2) == told(3)
    });
}

#[test]
fn members_come_and_go_and_no_write_fails() {
    let mut grown = Grown::begin(None);
    for id in [2, 3] {
        grown.join(id);
        grown.promote(id);
    }
    let stop = AtomicBool::new(false);
    let first = grown.first().clone();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0_u64;
            while !stop.load(Ordering::SeqCst) {
                first.put(NOTES, written, b"text").wait().unwrap();
                written += 1;
            }
            written
        });
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for id in [4, 5] {
                grown.join(id);
                grown.promote(id);
            }
            assert_eq!(grown.leader().membership().unwrap().phase2(), 3);
            let leader = grown.leader();
            // Whoever leads stays; two others go.
            let own = leader.status().id.0;
            let gone = [2, 3, 4, 5].into_iter().filter(|id| *id != own).take(2);
            for id in gone {
                leader.remove(id).wait().unwrap();
                let removed = grown.replica(id);
                until("who was removed stops", || {
                    removed.put(NOTES, 1 << 40, b"").wait().is_err_and(|err| {
                        err.kind() == ErrorKind::Removed
                            || err.is_outcome_unknown()
                            || err.is_retryable()
                    }) && removed.status().trouble.is_some_and(|it| it.contains("removed"))
                });
            }
        }));
        stop.store(true, Ordering::SeqCst);
        assert!(writer.join().unwrap() > 0);
        if let Err(panic) = changed {
            std::panic::resume_unwind(panic);
        }
    });
    assert_eq!(grown.leader().membership().unwrap().voters().len(), 3);
}

#[test]
fn a_lost_replica_is_replaced() {
    let mut grown = Grown::begin(None);
    for id in [2, 3] {
        grown.join(id);
        grown.promote(id);
    }
    let position = grown.open.iter().position(|it| it.status().id == ReplicaId(3)).unwrap();
    // Its disk is gone.
    grown.open.remove(position).close().unwrap();
    std::fs::remove_dir_all(grown.directory.path().join("3")).unwrap();
    grown.join(4);
    until("the new one has caught up", || match grown.leader().replace(3, 4).wait() {
        Ok(membership) => membership.removed() == [ReplicaId(3)],
        Err(err) => {
            assert!([ErrorKind::NotCaughtUp, ErrorKind::NotLeader].contains(&err.kind()), "{err}");
            false
        }
    });
    assert_eq!(voters(grown.leader()), [1, 2, 4]);

    // Its id is gone for good.
    let blank = grown.joining(3, 1).open().unwrap();
    until("who bears it stops", || {
        blank.status().trouble.is_some_and(|trouble| trouble.contains("removed"))
    });
    let err = grown.leader().add_observer(3).wait().unwrap_err();
    assert_eq!(err.membership_error(), Some(&MembershipError::RemovedId(ReplicaId(3))));
}

#[test]
fn a_change_of_a_lone_replica_waits_for_nothing() {
    let replica = Replica::in_memory().unwrap();
    replica.wait_ready(PATIENCE).unwrap();
    // It has nothing to do by then, and nobody gives it a turn.
    std::thread::sleep(std::time::Duration::from_millis(400));
    let began = std::time::Instant::now();
    for _ in 0..3 {
        replica.change_membership(|present| present.with_quorums(1, 1)).wait().unwrap();
        replica.change_membership(|present| present.with_address(1, "a:1")).wait().unwrap();
    }
    // Its deadlines are at five seconds.
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "{:?}", began.elapsed());
    replica.close().unwrap();
}

#[test]
fn an_edit_that_panics_stops_nobody() {
    let replica = Replica::in_memory().unwrap();
    replica.wait_ready(PATIENCE).unwrap();
    let err = replica.change_membership(|_| panic!("the caller's mistake")).wait().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidArgument);
    replica.put(NOTES, 1, b"it goes on").wait().unwrap();
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let grown = Grown::begin(None);
    let first = grown.first();
    let refused = |err: indelible::Error| err.membership_error().unwrap().clone();
    let change = |edit: fn(&_) -> _| refused(first.change_membership(edit).wait().unwrap_err());

    let err = first.add_observer(7).wait().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Unreachable);
    assert_eq!(refused(err), MembershipError::NotHeard(ReplicaId(7)));
    assert_eq!(
        refused(first.promote(7).wait().unwrap_err()),
        MembershipError::NoObserver(ReplicaId(7))
    );
    assert_eq!(
        refused(first.remove(7).wait().unwrap_err()),
        MembershipError::NoMember(ReplicaId(7))
    );
    assert_eq!(refused(first.remove(1).wait().unwrap_err()), MembershipError::VoterCount(0));
    let quorums = change(|present| present.with_quorums(1, 0));
    assert!(matches!(quorums, MembershipError::Quorums { phase1: 1, phase2: 0, voters: 1 }));

    let nowhere = change(|present| present.with_address(1, "nowhere"));
    assert_eq!(nowhere, MembershipError::AddressPort(ReplicaId(1), "nowhere".into()));

    // A member that nobody was heard of can be named, and cannot be made to vote.
    let silent = Member {
        id: ReplicaId(6),
        incarnation: indelible::Incarnation(6),
        address: grown.addresses[5].1.clone(),
    };
    first.change_membership(move |present| present.with_observer(silent)).wait().unwrap();
    let err = first.promote(6).wait().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::NotCaughtUp);
    assert_eq!(refused(err), MembershipError::NotCaughtUp { id: ReplicaId(6), lag: None });
    first.remove(6).wait().unwrap();
    first.put(NOTES, 1, b"all the same").wait().unwrap();

    // Another cluster has another id.
    let other = "0123456789abcdef0123456789abcdef".parse().unwrap();
    let address = [1, 2].map(|id| grown.addresses[id as usize - 1].clone());
    let stranger = grown.builder(2).peers(address).join(other).open().unwrap();
    until("it is refused, and says so", || {
        let refused = stranger.status().peers.into_iter().find_map(|peer| peer.refused);
        refused.is_some_and(|why| why.contains("another cluster"))
    });
    expect_stranger_refused(first, "another cluster");
}

/// The member itself says what a stranger was refused for, in its field and on the line.
fn expect_stranger_refused(member: &Replica, why: &str) {
    until("the member says so", || {
        member.status().strangers_refused.is_some_and(|it| it.contains(why))
    });
    let line = member.status().to_string();
    let (_, told) = line.split_once(" stranger refused: ").unwrap_or_else(|| panic!("{line}"));
    assert!(told.contains(why), "{line}");
}

#[test]
fn another_directory_under_the_id_of_a_peer_is_a_stranger() {
    let mut grown = Grown::begin(None);
    grown.join(2);
    let first = grown.first();
    let connected = || first.status().peers[0].connected;
    until("the peer is connected", connected);
    // Somebody takes its id for a directory of their own, and listens elsewhere.
    let path = grown.directory.path().join("other");
    let known = [1, 2].map(|id| grown.addresses[id as usize - 1].clone());
    let other = Replica::builder(path).id(2).peers(known).join(first.cluster().unwrap());
    let other = other.listen(grown.address(3)).config(config()).open().unwrap();
    expect_stranger_refused(first, "its directory is not the one that the membership names");
    let status = first.status();
    let peer = &status.peers[0];
    assert!(peer.connected && peer.refused.is_none(), "the peer itself was refused: {status}");
    grown.replica(2).put(NOTES, 1, b"all the same").wait().unwrap();
    other.close().unwrap();
}
