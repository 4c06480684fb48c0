//! Checkpoints, and the journals that end where they begin. A state that came from a peer may rot
//! where it was put down: nothing wrong is served, nothing that was voted for is lost, and the
//! state comes from a peer once more.

use std::collections::BTreeSet;
use std::time::Duration;

use indelible::sim::Plan;
use indelible::types::ids::Slot;
use indelible::types::marks::{self, Mark};
use indelible::{ErrorKind, ReplicaId, TxId};

use super::damage::spoil;
use super::support::{Cluster, NOTES, for_seeds_of, nothing_survives};

/// Clusters that keep no history.
pub fn for_forgetful(scenario: impl Fn(&Cluster)) {
    let plan = Plan { history_bytes_min: 0, checkpoint_bytes: u64::MAX, ..Plan::default() };
    for_seeds_of(&plan, scenario);
}

pub fn slot_trimmed(cluster: &Cluster, id: ReplicaId) -> Slot {
    cluster.report(id).unwrap().slot_trimmed
}

/// Replica `id` is away while the others trim what they commit; it comes back and takes in a state.
fn take_in_a_state(cluster: &Cluster, id: ReplicaId) {
    let known = cluster.slot_chosen(id);
    cluster.crash(id);
    leave_behind(cluster, id, known);
    cluster.reopen(id);
    cluster.expect("it catches up", Cluster::is_level);
    assert!(known < slot_trimmed(cluster, id), "it took in no state");
}

/// The others, without replica `id`, commit and trim until nobody has what comes next behind
/// `known`.
pub fn leave_behind(cluster: &Cluster, id: ReplicaId, known: Slot) {
    let others = || cluster.ids().into_iter().filter(|other| *other != id);
    let writer = if id == cluster.leader { cluster.others[0] } else { cluster.leader };
    // As much as two segments hold; the older one of two checkpoints is behind that, too.
    for _ in 0..3 {
        for _ in 0..20 {
            let write = cluster.begin(writer, 8192);
            cluster.end(write).unwrap();
        }
        cluster.expect("they are level", |sim| {
            others().all(|other| sim.slot_chosen(other) == sim.slot_chosen(writer))
        });
        others().for_each(|other| cluster.replica(other).checkpoint().wait().unwrap());
    }
    cluster
        .expect("the others trim", |_| others().all(|other| known < slot_trimmed(cluster, other)));
}

/// The checkpoints of a replica that is down.
pub fn checkpoint_names(cluster: &Cluster, id: ReplicaId) -> Vec<String> {
    let names = cluster.disk(id).durable_names().into_iter();
    names.filter(|name| name.starts_with("checkpoint-")).collect()
}

/// All checkpoints of a replica that is down rot, each somewhere.
pub fn rot_checkpoints(cluster: &Cluster, id: ReplicaId) {
    let names = checkpoint_names(cluster, id);
    assert!(!names.is_empty());
    rot_somewhere(cluster, id, names);
}

/// So do these files of it.
pub fn rot_somewhere(cluster: &Cluster, id: ReplicaId, names: Vec<String>) {
    let disk = cluster.disk(id);
    for name in names {
        let length = disk.durable_length(&name).unwrap();
        let at = cluster.below(length as u64) as usize;
        let rotten = match cluster.below(4) {
            0 => disk.truncate(&name, at),
            1 => disk.make_unreadable(&name, at..at + 1),
            // Between two blocks is nothing that anybody reads, so all of it rots.
            2 => disk.zero(&name, 0..length),
            _ => disk.rot(&name, 0..length, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 1)),
        };
        assert!(rotten, "{name} is as it was");
    }
}

/// The victim took in a state, and voted behind it for what only the leader has besides; then it
/// lost its power, and its checkpoints rot. Returns the victim, and who is away.
fn lose_the_state(cluster: &Cluster) -> (ReplicaId, ReplicaId) {
    let [victim, away] = [cluster.others[0], cluster.others[1]];
    take_in_a_state(cluster, victim);
    cluster.crash(away);
    cluster.write_some(cluster.leader, 3);
    cluster.cut_power(victim, &mut nothing_survives);
    rot_checkpoints(cluster, victim);
    drop(marks::take());
    cluster.reopen(victim);
    (victim, away)
}

/// Replica `id` comes to know all that `other` knows, and has nothing to repair.
fn expect_whole(cluster: &Cluster, id: ReplicaId, other: ReplicaId) {
    cluster.expect("it is whole again", |sim| {
        let whole = sim.report(id).is_some_and(|report| report.in_the_way().is_none());
        whole && sim.slot_chosen(id) > Slot::ZERO && sim.slot_chosen(id) == sim.slot_chosen(other)
    });
}

/// Whoever took in the state again and the one that was away have all that was acknowledged.
fn go_on_without_the_leader(cluster: &Cluster, away: ReplicaId) {
    cluster.crash(cluster.leader);
    cluster.reopen(away);
    cluster.expect("the two go on", |sim| sim.leader().is_some());
    cluster.check_state();
    cluster.settle();
}

#[test]
fn a_state_that_was_taken_in_and_rots_is_taken_in_again() {
    for_forgetful(|cluster| {
        let (victim, away) = lose_the_state(cluster);
        // It has nothing to answer from, and waits for the state.
        let read = cluster.replica(victim).get(NOTES, 0);
        expect_whole(cluster, victim, cluster.leader);
        let reached = marks::take();
        for mark in [Mark::CheckpointsLost, Mark::StateInstalledOpening] {
            assert!(0 < reached[mark as usize], "{}", mark.name());
        }
        match read.wait() {
            Ok(found) => assert_eq!(found.unwrap().value[..8], [0; 8]),
            Err(err) => assert_eq!(err.kind(), ErrorKind::TimedOut, "{err}"),
        }
        // What it voted for is nowhere else now.
        go_on_without_the_leader(cluster, away);
    });
}

#[test]
fn a_state_that_is_taken_in_again_outlives_cuts_of_power() {
    // As above, and the power goes while it comes.
    for_forgetful(|cluster| {
        let (victim, away) = lose_the_state(cluster);
        for _ in 0..4 {
            cluster.run_for(Duration::from_micros(cluster.below(20_000)));
            cluster.cut_power(victim, &mut |_| cluster.below(2) == 0);
            cluster.reopen(victim);
        }
        expect_whole(cluster, victim, cluster.leader);
        cluster.power_cycle(victim);
        expect_whole(cluster, victim, cluster.leader);
        go_on_without_the_leader(cluster, away);
    });
}

#[test]
fn what_is_missing_is_wanted_until_the_state_is_taken_in() {
    // The disk is full as soon as the file has its name; and all peers say that they trimmed what
    // is missing.
    for_forgetful(|cluster| {
        let (victim, away) = lose_the_state(cluster);
        cluster.crash(victim);
        cluster.reopen(away);
        cluster.write_some(cluster.leader, 3);
        // One that reaches farther than where its journal begins.
        cluster.replica(cluster.leader).checkpoint().wait().unwrap();
        cluster.reopen(victim);
        let disk = cluster.disk(victim);
        cluster.expect("the file has its name", |sim| {
            sim.report(victim).is_some_and(|report| Slot::ZERO < report.slot_checkpointed)
        });
        disk.set_room(Some(0));
        cluster.run_timeouts(10);
        let report = cluster.report(victim).unwrap();
        assert!(report.stopped.is_none(), "{:?}", report.stopped);
        disk.set_room(None);
        expect_whole(cluster, victim, cluster.leader);
        cluster.settle();
    });
}

#[test]
fn who_had_no_space_for_a_checkpoint_comes_to_rest() {
    // The time to try again comes, and nobody wants a checkpoint any more. Heartbeats, and what
    // they bring about, are some hundred turns.
    for_forgetful(|cluster| {
        let (id, turns) = (cluster.leader, || cluster.counts().turns);
        cluster.disk(id).set_room(Some(0));
        let err = cluster.replica(id).checkpoint().wait().expect_err("there is no room");
        assert!(err.is_storage_full(), "{err}");
        cluster.disk(id).set_room(None);
        cluster.run_for(Duration::from_secs(10));
        let before = turns();
        cluster.run_for(Duration::from_secs(5));
        assert!(turns() - before < 2_000, "{} turns", turns() - before);
        cluster.settle();
    });
}

#[test]
fn who_has_no_space_to_trim_tries_again_later() {
    // What is removed is written down first, into a new file.
    for_forgetful(|cluster| {
        let (id, disk) = (cluster.leader, cluster.disk(cluster.leader));
        let take_checkpoint = || {
            for _ in 0..12 {
                cluster.end(cluster.begin(id, 8192)).unwrap();
            }
            let (taken, newest) = (cluster.replica(id).checkpoint(), cluster.slot_chosen(id));
            cluster.expect("a checkpoint", |sim| {
                sim.report(id).is_some_and(|report| newest <= report.slot_checkpointed)
            });
            taken
        };
        take_checkpoint().wait().unwrap();
        let second = take_checkpoint();
        disk.set_room(Some(0));
        second.wait().unwrap();
        drop(marks::take());
        cluster.run_for(Duration::from_secs(5));
        let given_up = marks::take()[Mark::TrimGivenUp as usize];
        assert!((1..=6).contains(&given_up), "{given_up} times in five seconds");
        disk.set_room(None);
        cluster.expect("segments go", |_| Slot::ZERO < slot_trimmed(cluster, id));
        cluster.settle();
    });
}

#[test]
fn a_newest_checkpoint_that_rots_is_not_sent_for_ever() {
    // Who lags needs a state, and nothing is committed without it that another checkpoint could be
    // taken of. The only other one that is up has two.
    for_forgetful(|cluster| {
        let (one, lags, gone) = (cluster.leader, cluster.others[0], cluster.others[1]);
        let known = cluster.slot_chosen(lags);
        cluster.crash(lags);
        leave_behind(cluster, lags, known);
        cluster.crash(gone);
        let disk = cluster.disk(one);
        let mut names = disk.durable_names();
        names.retain(|name| name.starts_with("checkpoint-"));
        assert!(names.len() >= 2, "{names:?}");
        let (newest, at) = (names.iter().max().unwrap(), cluster.below(4096) as usize);
        assert!(disk.rot(newest, at..at + 1, |bytes| bytes[0] ^= 1));
        cluster.reopen(lags);
        cluster.run_timeouts(60);
        cluster.expect("it has the other one", |sim| sim.slot_chosen(lags) == sim.slot_chosen(one));
        cluster.write_some(one, 2);
        cluster.settle();
    });
}

#[test]
fn newest_checkpoints_that_rot_at_two_senders_are_not_sent_for_ever() {
    // As above, of both who have one. Where the rot shows in the first part, who lags turns to the
    // other one at once, and back again.
    for_forgetful(|cluster| {
        let (senders, lags) = ([cluster.leader, cluster.others[1]], cluster.others[0]);
        let known = cluster.slot_chosen(lags);
        cluster.crash(lags);
        leave_behind(cluster, lags, known);
        for sender in senders {
            let disk = cluster.disk(sender);
            let names = disk.durable_names().into_iter();
            let newest = names.filter(|name| name.starts_with("checkpoint-")).max().unwrap();
            let at = cluster.below(128) as usize;
            assert!(disk.rot(&newest, at..at + 1, |bytes| bytes[0] ^= 1));
        }
        cluster.reopen(lags);
        cluster.run_timeouts(90);
        let leader = cluster.leader;
        cluster
            .expect("it has an older one", |sim| sim.slot_chosen(lags) == sim.slot_chosen(leader));
        cluster.settle();
    });
}

#[test]
fn what_rotted_everywhere_is_told_until_it_is_trimmed() {
    // Nobody can give it, and nobody needs it: the state is whole.
    for_forgetful(|cluster| {
        let id = cluster.leader;
        let lost = cluster.slot_chosen(id).plus(2);
        cluster.write_some(id, 8);
        cluster.expect("it is level", Cluster::is_level);
        cluster.run_timeouts(2);
        for id in cluster.ids() {
            assert!(spoil(cluster, id, &|slot| slot == lost) > 0);
        }
        assert!(cluster.replica(id).transactions(TxId::ZERO).any(|it| it.is_err()));
        cluster.run_timeouts(2);
        let in_the_way = || cluster.report(id).unwrap().in_the_way();
        let told = in_the_way().expect("a loss is told");
        assert!(told.contains(&format!("slot {lost}")), "{told}");
        cluster.run_timeouts(61);
        assert!(in_the_way().is_some(), "it is still lost");
        while slot_trimmed(cluster, id) <= lost {
            for _ in 0..20 {
                cluster.end(cluster.begin(id, 8192)).unwrap();
            }
            cluster.replica(id).checkpoint().wait().unwrap();
        }
        cluster.run_timeouts(1);
        assert_eq!(in_the_way(), None);
        cluster.settle();
    });
}

#[test]
fn a_state_that_rots_is_missed_while_no_peer_is_there() {
    // It neither serves nor votes with anybody who lacks what it voted for.
    for_forgetful(|cluster| {
        let (victim, _) = lose_the_state(cluster);
        cluster.crash(cluster.leader);
        cluster.power_cycle(victim);
        let read = cluster.replica(victim).get(NOTES, 0);
        cluster.run_timeouts(4);
        assert!(cluster.report(victim).unwrap().in_the_way().is_some(), "it has no state");
        assert_eq!(cluster.sim.leader(), None);
        assert!(read.wait().is_err(), "it has nothing to read");
        cluster.settle();
    });
}

#[test]
fn journals_are_trimmed_though_one_checkpoint_follows_another() {
    // By the time that one is taken, enough is applied for the next.
    let plan = Plan { history_bytes_min: 0, checkpoint_bytes: 4096, ..Plan::default() };
    for_seeds_of(&plan, |cluster| {
        let mut taken = BTreeSet::new();
        let trimmed = |id| Slot::ZERO < slot_trimmed(cluster, id);
        while !trimmed(cluster.leader) {
            let write = cluster.begin(cluster.leader, 8192);
            cluster.end(write).unwrap();
            taken.insert(cluster.report(cluster.leader).unwrap().slot_checkpointed);
            assert!(taken.len() < 7, "of {taken:?}, none lets anything go");
        }
        cluster.settle();
    });
}
