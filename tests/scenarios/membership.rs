//! Members that come and go: whoever belongs goes on, whatever happens in the middle of a change,
//! and who left neither disturbs nor serves.

use std::cell::Cell;
use std::time::Duration;

use indelible::sim::network::Fate;
use indelible::sim::{Plan, Simulation};
use indelible::types::entry::EntryKind;
use indelible::types::message::Message;
use indelible::{ErrorKind, Membership, MembershipError, Pending, ReplicaId, Result};

use super::support::{BOUND, Cluster, NOTES, TIMEOUT, for_seeds_of};

pub fn with_outsiders(replicas: u64, outsiders: u64, scenario: impl Fn(&Cluster)) {
    for_seeds_of(&Plan { replicas, outsiders, ..Plan::default() }, scenario);
}

pub fn ids(ids: &[u64]) -> Vec<ReplicaId> {
    ids.iter().copied().map(ReplicaId).collect()
}

fn voters(sim: &Simulation) -> Vec<ReplicaId> {
    sim.membership().unwrap().voters().iter().map(|voter| voter.id).collect()
}

/// Asks whoever leads until the change is made.
#[track_caller]
pub fn change(
    cluster: &Cluster,
    ask: impl Fn(&indelible::Replica) -> Pending<Membership>,
) -> Membership {
    let end = cluster.now() + BOUND * 2;
    loop {
        cluster.expect("somebody leads", |sim| sim.leader().is_some());
        let leader = cluster.sim.leader().unwrap();
        match ask(&cluster.replica(leader)).wait() {
            Ok(membership) => return membership,
            Err(err) if cluster.now() < end => {
                let heard = matches!(err.membership_error(), Some(MembershipError::NotHeard(_)));
                assert!(heard || err.is_retryable() || is_transient(err.kind()), "{err}");
                cluster.run_for(Duration::from_millis(50));
            }
            Err(err) => {
                let trace = cluster.take_trace().join("\n");
                panic!("seed {}: {err}\n{trace}", cluster.seed());
            }
        }
    }
}

fn is_transient(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotLeader
            | ErrorKind::NotCaughtUp
            | ErrorKind::Unreachable
            | ErrorKind::TimedOut
            | ErrorKind::Removed
    )
}

/// Outsider `id` joins, and becomes an observer.
#[track_caller]
pub fn join(cluster: &Cluster, id: u64) {
    join_within(BOUND, cluster, id);
}

/// It knows the log within this time.
#[track_caller]
pub fn join_within(time: Duration, cluster: &Cluster, id: u64) {
    assert!(cluster.sim.join(id, &cluster.members()), "{:?}", cluster.refusal(id));
    change(cluster, |leader| leader.add_observer(id));
    let follows = |sim: &Simulation| sim.leader().map(|leader| sim.slot_chosen(leader));
    cluster.expect_within(time, "it follows", |sim| follows(sim) == Some(sim.slot_chosen(id)));
}

/// It votes, too.
#[track_caller]
pub fn join_and_vote(cluster: &Cluster, id: u64) {
    join(cluster, id);
    change(cluster, |leader| leader.promote(id));
}

/// Several come and go in one change.
pub fn replaced(
    present: &Membership,
    gone: &[ReplicaId],
    come: &[ReplicaId],
) -> std::result::Result<Membership, MembershipError> {
    let next = come.iter().try_fold(present.clone(), |next, id| next.with_voter(*id))?;
    gone.iter().try_fold(next, |next, id| next.without(*id))
}

/// Who was removed stops, once it is not missed.
#[track_caller]
pub fn expect_removed(cluster: &Cluster, id: ReplicaId) {
    cluster.expect("who was removed stops", |sim| {
        let stopped = sim.report(id).and_then(|report| report.stopped);
        stopped.is_some_and(|err| err.kind() == ErrorKind::Removed)
    });
}

/// The cluster comes together, and everyone who belongs knows who belongs.
#[track_caller]
pub fn settle(cluster: &Cluster) {
    cluster.settle();
    let chosen = cluster.sim.membership();
    for id in cluster.members() {
        assert_eq!(cluster.replica(id).membership(), chosen, "replica {id}");
    }
}

#[test]
fn a_replica_joins_under_load_and_votes() {
    with_outsiders(3, 1, |cluster| {
        let mut writes = Vec::new();
        let begin = |writes: &mut Vec<_>| {
            let members = cluster.members();
            writes.extend(members.iter().filter(|id| cluster.is_up(**id)).map(|id| {
                let id = *id;
                cluster.begin(id, 400)
            }));
        };
        for _ in 0..8 {
            begin(&mut writes);
            cluster.run_for(Duration::from_millis(cluster.below(30)));
        }
        assert!(cluster.sim.join(4, &cluster.members()));
        begin(&mut writes);
        change(cluster, |leader| leader.add_observer(4));
        begin(&mut writes);
        change(cluster, |leader| leader.promote(4));
        begin(&mut writes);
        for write in writes {
            cluster.end(write).unwrap();
        }
        assert_eq!(voters(cluster), ids(&[1, 2, 3, 4]));
        // Three of four decide: it is needed.
        cluster.crash(cluster.others[0]);
        cluster.expect("somebody leads", |sim| sim.leader().is_some());
        cluster.write_some(ReplicaId(4), 2);
        settle(cluster);
    });
}

#[test]
fn one_replica_grows_to_three() {
    with_outsiders(1, 2, |cluster| {
        join_and_vote(cluster, 2);
        join_and_vote(cluster, 3);
        cluster.crash(1);
        cluster.expect("somebody leads", |sim| sim.leader().is_some());
        cluster.write_some(ReplicaId(3), 2);
        settle(cluster);
    });
}

#[test]
fn those_who_joined_lead_each_other_after_a_restart() {
    // They know each other from the log only: the first membership names neither.
    with_outsiders(1, 3, |cluster| {
        (2..=4).for_each(|id| join_and_vote(cluster, id));
        change(cluster, |leader| match leader.membership().unwrap().removed().is_empty() {
            true => leader.remove(1),
            false => leader.change_membership(|present| Ok(present.clone())),
        });
        expect_removed(cluster, ReplicaId(1));
        (2..=4).for_each(|id| cluster.crash(id));
        cluster.reopen(ReplicaId(2));
        cluster.reopen(ReplicaId(3));
        cluster.expect("one of them leads", |sim| sim.leader().is_some());
        cluster.write_some(ReplicaId(3), 2);
        settle(cluster);
    });
}

#[test]
fn a_leader_that_is_removed_hands_over() {
    with_outsiders(3, 1, |cluster| {
        join_and_vote(cluster, 4);
        cluster.expect("somebody leads", |sim| sim.leader().is_some());
        let leader = cluster.sim.leader().unwrap();
        let write = cluster.begin(leader, 64);
        // It leads no longer when it counts; those who vote now tell it that they know.
        let left = cluster.replica(leader).remove(leader).wait().unwrap();
        assert!(left.removed().contains(&leader), "{left}");
        cluster.end(write).unwrap();
        let next = cluster.run_until(TIMEOUT, |sim| sim.leader().is_some_and(|id| id != leader));
        assert!(next, "seed {}: nobody took over", cluster.seed());
        expect_removed(cluster, leader);
        cluster.write_some(cluster.members()[0], 3);
        settle(cluster);
    });
}

#[test]
fn two_are_replaced_at_once() {
    with_outsiders(3, 2, |cluster| {
        join(cluster, 4);
        join(cluster, 5);
        let gone = cluster.others.clone();
        change(cluster, |leader| {
            let (gone, come) = (gone.clone(), ids(&[4, 5]));
            leader.change_membership(move |present| match present.removed() == gone {
                true => Ok(present.clone()),
                false => replaced(present, &gone, &come),
            })
        });
        gone.iter().for_each(|id| expect_removed(cluster, *id));
        cluster.crash(cluster.leader);
        cluster.expect("one of the new ones leads", |sim| sim.leader().is_some());
        cluster.write_some(ReplicaId(5), 2);
        settle(cluster);
    });
}

#[test]
fn a_voter_that_slept_through_two_changes_comes_back() {
    with_outsiders(3, 2, |cluster| {
        let (a, b, sleeper) = (cluster.leader, cluster.others[0], cluster.others[1]);
        cluster.crash(sleeper);
        join(cluster, 4);
        change(cluster, |leader| leader.replace(b, 4));
        expect_removed(cluster, b);
        join(cluster, 5);
        // Without the sleeper, two of three were left to agree to this.
        change(cluster, |leader| match leader.status().leader {
            _ if leader.membership().is_some_and(|it| it.removed().contains(&a)) => {
                leader.change_membership(|present| Ok(present.clone()))
            }
            _ => leader.replace(a, 5),
        });
        expect_removed(cluster, a);
        cluster.write_some(ReplicaId(5), 2);
        // It knows nobody who is left.
        cluster.reopen(sleeper);
        cluster.expect("it is told", Cluster::is_level);
        cluster.write_some(sleeper, 2);
        cluster.crash(4);
        cluster.expect("it votes", |sim| sim.leader().is_some());
        cluster.write_some(sleeper, 2);
        settle(cluster);
    });
}

#[test]
fn a_removed_replica_that_comes_back_learns_it_and_disturbs_nobody() {
    with_outsiders(3, 0, |cluster| {
        let gone = cluster.others[1];
        cluster.crash(gone);
        change(cluster, |leader| leader.remove(gone));
        cluster.write_some(cluster.leader, 3);
        let (ballot, leaders) = (cluster.ballot(), cluster.counts().leaders);
        for _ in 0..2 {
            cluster.reopen(gone);
            expect_removed(cluster, gone);
        }
        cluster.run_timeouts(4);
        assert_eq!((cluster.ballot(), cluster.counts().leaders), (ballot, leaders));
        settle(cluster);
    });
}

#[test]
fn a_leader_dies_before_anyone_learns_of_its_change() {
    with_outsiders(3, 1, |cluster| {
        let leader = cluster.leader;
        join(cluster, 4);
        // In half of the seeds nobody else hears of it.
        let is_heard = cluster.below(2) == 0;
        let lost = if is_heard { "Accepted" } else { "Accept" };
        cluster.rule(Fate::Drop, move |parcel| {
            parcel.message.name() == lost
                && (parcel.link.to == leader || parcel.link.from == leader)
        });
        let proposed = cluster.record(move |parcel| match &parcel.message {
            Message::Accept(accept) => {
                accept.entries.iter().any(|entry| entry.kind() == EntryKind::Membership)
            }
            _ => false,
        });
        cluster.run_timeouts(1);
        // The rule that records is the newest, and lets the other one decide.
        let promoted = cluster.replica(leader).promote(4);
        cluster.expect("it is proposed", |_| !proposed.lock().unwrap().is_empty());
        cluster.run_for(Duration::from_millis(20 + cluster.below(150)));
        cluster.crash(leader);
        drop(promoted);
        cluster.heal();
        cluster.expect("somebody leads", |sim| sim.leader().is_some());
        cluster.write_some(cluster.others[0], 2);
        if is_heard {
            assert_eq!(voters(cluster), ids(&[1, 2, 3, 4]), "seed {}", cluster.seed());
        }
        cluster.reopen(leader);
        settle(cluster);
        join_again(cluster);
    });
}

/// Whatever became of a change, another one goes through.
fn join_again(cluster: &Cluster) {
    change(cluster, |leader| leader.promote(4));
    assert_eq!(voters(cluster), ids(&[1, 2, 3, 4]));
}

/// Nothing passes between these.
fn part(cluster: &Cluster, some: &[ReplicaId], others: &[ReplicaId]) {
    for (one, other) in some.iter().flat_map(|one| others.iter().map(move |other| (*one, *other))) {
        cluster.cut(one, other);
        cluster.cut(other, one);
    }
}

#[test]
fn old_voters_without_the_new_ones_go_on() {
    with_outsiders(3, 2, |cluster| {
        join(cluster, 4);
        join(cluster, 5);
        let (gone, come) = (cluster.others.clone(), ids(&[4, 5]));
        let leader = cluster.replica(cluster.leader);
        let before = cluster.below(2) == 0;
        if before {
            part(cluster, &ids(&[1, 2, 3]), &come);
        }
        let changed = leader.change_membership(move |present| replaced(present, &gone, &come));
        if !before {
            // In the middle of it, somewhere.
            cluster.run_for(Duration::from_micros(cluster.below(8000)));
            part(cluster, &ids(&[1, 2, 3]), &ids(&[4, 5]));
        }
        let answer = changed.wait();
        if before {
            let err = answer.unwrap_err();
            assert!(is_transient(err.kind()), "{err}");
            assert_eq!(voters(cluster), ids(&[1, 2, 3]), "nothing was changed");
            cluster.write_some(cluster.others[0], 2);
        }
        cluster.run_timeouts(3);
        settle(cluster);
    });
}

#[test]
fn new_voters_without_the_old_ones_decide_nothing_before_they_count() {
    with_outsiders(3, 2, |cluster| {
        join(cluster, 4);
        join(cluster, 5);
        let (gone, come) = (cluster.others.clone(), ids(&[4, 5]));
        let leader = cluster.leader;
        let before = cluster.below(2) == 0;
        let with_new = [vec![leader], come.clone()].concat();
        if before {
            part(cluster, &with_new, &gone);
        }
        let (out, inn) = (gone.clone(), come);
        let changed = cluster.replica(leader).change_membership(move |it| replaced(it, &out, &inn));
        if !before {
            cluster.run_for(Duration::from_micros(cluster.below(8000)));
            part(cluster, &with_new, &gone);
        }
        let answer = changed.wait();
        if before {
            assert!(answer.is_err(), "seed {}: two of three old voters were away", cluster.seed());
            assert_eq!(voters(cluster), ids(&[1, 2, 3]));
            cluster.expect("they go on", |sim| sim.leader().is_some_and(|id| id != leader));
        }
        cluster.run_timeouts(3);
        settle(cluster);
    });
}

#[test]
fn a_wiped_replica_is_refused_and_replaced() {
    with_outsiders(3, 1, |cluster| {
        let wiped = cluster.others[1];
        cluster.wipe_disk(wiped);
        let refused = cluster.counts().refused;
        cluster.reopen(wiped);
        cluster.run_timeouts(4);
        assert!(cluster.counts().refused > refused);
        assert!(cluster.report(wiped).unwrap().view.is_none(), "it serves");
        cluster.write_some(cluster.leader, 2);
        join(cluster, 4);
        change(cluster, |leader| leader.replace(wiped, 4));
        cluster.crash(wiped);
        cluster.crash(cluster.others[0]);
        cluster.expect("the new one votes", |sim| sim.leader().is_some());
        cluster.write_some(ReplicaId(4), 2);
        settle(cluster);
        // Its id is gone for good.
        assert!(cluster.sim.join(wiped, &cluster.members()));
        expect_removed(cluster, wiped);
        let err = cluster.replica(cluster.sim.leader().unwrap()).add_observer(wiped).wait();
        let err = err.unwrap_err();
        assert_eq!(err.membership_error(), Some(&MembershipError::RemovedId(wiped)));
    });
}

#[test]
fn quorums_change_with_who_decides() {
    with_outsiders(4, 1, |cluster| {
        let quorums = |phase1, phase2| {
            change(cluster, move |leader| {
                leader.change_membership(move |present| present.with_quorums(phase1, phase2))
            })
        };
        quorums(3, 2);
        cluster.crash(cluster.others[2]);
        cluster.expect("somebody leads", |sim| sim.leader().is_some());
        cluster.write_some(cluster.leader, 2);
        cluster.reopen(cluster.others[2]);
        join(cluster, 5);
        let promoted = change(cluster, |leader| leader.promote(5));
        assert_eq!((promoted.phase1(), promoted.phase2()), (4, 2));
        quorums(3, 3);
        cluster.crash(cluster.others[0]);
        cluster.crash(cluster.leader);
        cluster.expect("three of five lead", |sim| sim.leader().is_some());
        cluster.write_some(ReplicaId(5), 2);
        settle(cluster);
    });
}

/// Everyone who is up and belongs reads what was written last.
#[track_caller]
fn write_and_read(cluster: &Cluster, value: u64) -> Result<()> {
    const KEY: u64 = 1 << 40;
    let members = cluster.members();
    let up = members.into_iter().filter(|id| cluster.is_up(*id)).collect::<Vec<_>>();
    let writer = up[cluster.below(up.len() as u64) as usize];
    cluster.replica(writer).put(NOTES, KEY, &value.to_be_bytes()).wait()?;
    let reads = up.iter().map(|id| (*id, cluster.replica(*id).get(NOTES, KEY)));
    for (id, read) in reads.collect::<Vec<_>>() {
        match read.wait() {
            Ok(read) => {
                let read = read.expect("it was written").value;
                assert_eq!(read[..], value.to_be_bytes(), "replica {id}, seed {}", cluster.seed());
            }
            Err(err) => assert!(!cluster.members().contains(&id), "replica {id}: {err}"),
        }
    }
    Ok(())
}

#[test]
fn reads_are_fresh_while_the_membership_changes() {
    let (tried, fresh) = (Cell::new(0), Cell::new(0));
    with_outsiders(3, 2, |cluster| {
        let mut value = 0;
        let mut while_changing = |ask: &dyn Fn(&indelible::Replica) -> Pending<Membership>| {
            cluster.expect("somebody leads", |sim| sim.leader().is_some());
            let leader = cluster.sim.leader().unwrap();
            let changed = ask(&cluster.replica(leader));
            for _ in 0..3 {
                value += 1;
                let is_fresh = write_and_read(cluster, value).is_ok();
                tried.set(tried.get() + 1);
                fresh.set(fresh.get() + u64::from(is_fresh));
            }
            drop(changed.wait());
        };
        for id in [4, 5] {
            assert!(cluster.sim.join(id, &cluster.members()));
            cluster.run_timeouts(2);
            while_changing(&|leader| leader.add_observer(id));
            // Before it is heard, and knows the log, it is let vote by nobody.
            cluster.run_timeouts(1);
            while_changing(&|leader| leader.promote(id));
        }
        let (first, second) = (cluster.leader, cluster.others[0]);
        while_changing(&|leader| leader.remove(first));
        while_changing(&|leader| leader.remove(second));
        while_changing(&|leader| leader.change_membership(|present| present.with_quorums(3, 1)));
        let present = cluster.sim.membership().unwrap();
        let made = (present.voters().len(), present.phase1(), present.phase2());
        assert_eq!(made, (3, 3, 1), "seed {}: {present}", cluster.seed());
        settle(cluster);
    });
    let (tried, fresh) = (tried.get(), fresh.get());
    assert!(fresh * 10 >= tried * 9, "{fresh} of {tried} writes were acknowledged");
}
