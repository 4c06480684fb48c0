//! The protocol at the edge: stale votes, old messages, promises, tails in conflict.

use std::time::Duration;

use indelible::sim::disk::When;
use indelible::sim::network::Fate;
use indelible::types::ids::Slot;
use indelible::types::message::Message;

use super::support::{BOUND, Cluster, TIMEOUT, for_seeds, is, nothing_survives};

/// Lets `holder` vote durably for an entry of `leader` that nobody else ever votes for; then the
/// leader forgets it in a power cut. Returns its slot.
fn leave_a_stale_vote(
    cluster: &Cluster,
    leader: indelible::ReplicaId,
    holder: indelible::ReplicaId,
) -> Slot {
    let slot = cluster.slot_chosen(leader);
    cluster.ids().into_iter().filter(|id| *id != leader && *id != holder).for_each(|id| {
        cluster.cut(leader, id);
    });
    cluster.pause_disk(leader);
    let pending = cluster.begin(leader, 64);
    let vote = cluster.record(move |parcel| is(parcel, holder, leader, "Accepted"));
    cluster.expect("the vote is cast", |_| !vote.lock().unwrap().is_empty());
    cluster.isolate(holder);
    cluster.cut_power(leader, &mut nothing_survives);
    assert!(cluster.end(pending).is_err(), "nobody can have acknowledged it");
    cluster.reopen(leader);
    cluster.ids().into_iter().filter(|id| *id != leader && *id != holder).for_each(|id| {
        cluster.mend(leader, id);
    });
    slot
}

#[test]
fn commit_evidence() {
    // atomix/copycat #265; WRaft #118.2; PySyncObj #169; Raft, figure 8; openraft cecb5de8: a
    // follower takes its stale entry for committed because a heartbeat says how far the log is.
    for_seeds(3, |cluster| {
        let (a, c) = (cluster.leader, cluster.others[1]);
        let acks = cluster.record(move |parcel| is(parcel, c, a, "Accepted"));
        let stale = leave_a_stale_vote(cluster, a, c);
        cluster.expect("the others go on", |sim| sim.leader().is_some_and(|id| id != c));
        cluster.write_some(cluster.others[0], 3);

        // Heartbeats reach it before anything else does.
        let entries = cluster.rule(Fate::Hold, move |parcel| {
            let carries = matches!(parcel.message, Message::Accept(_) | Message::Chosen(_));
            parcel.link.to == c && carries
        });
        for id in cluster.ids() {
            cluster.mend(id, c);
            cluster.mend(c, id);
        }
        let late = acks.lock().unwrap().clone();
        for mut parcel in late {
            for to in cluster.ids().into_iter().filter(|id| *id != c) {
                parcel.link.to = to;
                cluster.inject(parcel.clone());
            }
        }
        cluster.run_timeouts(1);
        assert!(cluster.slot_chosen(c) <= stale, "it was told of slots, and of no entries");
        cluster.release(entries);
        cluster.settle();
    });
}

#[test]
fn compacted_prefix_is_not_conflict() {
    // openraft #511, 71a290cd, 9540c904: an old message about a prefix that is settled made a
    // follower delete committed entries.
    for_seeds(3, |cluster| {
        let c = cluster.others[1];
        let old = cluster.record(move |parcel| {
            let kinds = ["Accept", "Chosen", "Prepare", "Promise", "Fetch"];
            parcel.link.to == c && kinds.contains(&parcel.message.name())
        });
        cluster.write_some(cluster.leader, 10);
        if cluster.below(2) == 0 {
            cluster.power_cycle(cluster.leader);
            cluster.expect("somebody leads", |sim| sim.leader().is_some());
        }
        cluster.write_some(cluster.others[0], 10);
        if cluster.below(2) == 0 {
            cluster.power_cycle(c);
        }
        cluster.expect("it is level", Cluster::is_level);
        let before = cluster.slot_chosen(c);
        let mut again = old.lock().unwrap().clone();
        assert!(again.len() >= 10, "{} old messages", again.len());
        let turn = cluster.below(again.len() as u64) as usize;
        again.rotate_left(turn);
        for mut parcel in again {
            cluster.inject(parcel.clone());
            // The same, with nothing in it.
            if let Message::Accept(accept) = &mut parcel.message {
                accept.entries.clear();
                cluster.inject(parcel);
            }
        }
        cluster.run_timeouts(2);
        assert!(before <= cluster.slot_chosen(c));
        cluster.settle();
        cluster.power_cycle(c);
        cluster.settle();
    });
}

#[test]
fn leader_read_error() {
    // openraft #1795: a leader that could not read its log began a follower again from nothing.
    for_seeds(3, |cluster| {
        let (a, c) = (cluster.leader, cluster.others[1]);
        cluster.crash(c);
        for _ in 0..60 {
            cluster.end(cluster.begin(a, 2000)).unwrap();
        }
        let (at, disk) = (cluster.below(12), cluster.disk(a));
        match cluster.below(2) {
            0 => disk.fail_read(When::after(at)),
            _ => disk.corrupt_read(When::after(at), cluster.below(4000) as usize, 1),
        }
        cluster.reopen(c);
        let before = cluster.slot_chosen(c);
        cluster.expect("it catches up", |sim| sim.slot_chosen(c) >= sim.slot_chosen(a));
        assert!(before <= cluster.slot_chosen(c));
        cluster.settle();
    });
}

#[test]
fn conflicting_tail_livelock() {
    // YugabyteDB #32876: a follower with a tail of its own was sent the same large batch for ever.
    for_seeds(3, |cluster| {
        let (c, a) = (cluster.leader, cluster.others[0]);
        // What the old leader proposes stays with it.
        let tail = cluster.rule(Fate::Drop, move |parcel| {
            parcel.link.from == c && matches!(parcel.message, Message::Accept(_))
        });
        let pending = (0..3).map(|_| cluster.begin(c, 9000)).collect::<Vec<_>>();
        cluster.run_for(Duration::from_millis(30));
        cluster.isolate(c);
        cluster.expect("another one leads", |sim| sim.leader().is_some_and(|id| id != c));
        for _ in 0..12 {
            let bytes = 10_000 + cluster.below(50_000) as usize;
            cluster.end(cluster.begin(a, bytes)).unwrap();
        }
        cluster.drop_held(tail);
        for id in cluster.ids() {
            cluster.mend(id, c);
            cluster.mend(c, id);
        }
        cluster.expect("it converges", Cluster::is_level);
        for write in pending {
            drop(cluster.end(write));
        }
        cluster.settle();
    });
}

#[test]
fn promise_is_durable_before_it_is_told() {
    // OmniPaxos O1, robustmq #2039, spur #635: a promise that is not synced is forgotten, and the
    // old leader finds a quorum again.
    for_seeds(3, |cluster| {
        let (a, b, c) = (cluster.leader, cluster.others[0], cluster.others[1]);
        // What the leader proposes now is late, for everyone.
        let late = cluster.rule(Fate::Hold, move |parcel| {
            parcel.link.from == a && matches!(parcel.message, Message::Accept(_))
        });
        let pending = cluster.begin(a, 64);
        cluster.run_for(Duration::from_millis(20));
        cluster.rule(Fate::Drop, move |parcel| {
            parcel.link.from == a && !matches!(parcel.message, Message::Accept(_))
        });
        cluster.expect("another one leads", |sim| sim.leader().is_some_and(|id| id != a));
        // The quorum of the new leader forgets what it may; then the old proposals arrive.
        assert!(!cluster.held().is_empty(), "there is an old proposal");
        cluster.cut_power(b, &mut nothing_survives);
        cluster.cut_power(c, &mut nothing_survives);
        cluster.reopen(b);
        cluster.reopen(c);
        cluster.release(late);
        cluster.run_timeouts(1);
        drop(cluster.end(pending));
        cluster.settle();
    });
}

#[test]
fn vote_in_flight_does_not_outlive_a_promise() {
    // neon a69fdb0e8e, Summerset S1, tsoracle #260: a vote that waited for its sync while a higher
    // ballot was promised. The disk takes long; the vote and the promise end together.
    for_seeds(3, |cluster| {
        let (a, b, c) = (cluster.leader, cluster.others[0], cluster.others[1]);
        cluster.cut(a, c);
        cluster.pause_disk(b);
        let first = cluster.begin(a, 64);
        cluster.run_for(Duration::from_millis(30));
        cluster.isolate(a);
        cluster.run_timeouts(3);
        cluster.resume_disk(b);
        cluster.expect("another one leads", |sim| sim.leader().is_some_and(|id| id != a));
        if cluster.below(2) == 0 {
            cluster.power_cycle(b);
        }
        let second = cluster.begin(c, 64);
        cluster.run_for(TIMEOUT / 2);
        cluster.heal();
        drop(cluster.end(first));
        drop(cluster.end(second));
        cluster.settle();
    });
}

#[test]
fn higher_ballot_seen_is_not_granted() {
    // openraft #1220, 94c820c3, databend #16175: a leader that hears of a higher ballot in a
    // refusal takes it for a vote that it gave.
    for_seeds(3, |cluster| {
        let (a, b, c) = (cluster.leader, cluster.others[0], cluster.others[1]);
        // One candidate never hears a promise; the refusals that it causes reach everybody.
        cluster.rule(Fate::Drop, move |parcel| {
            parcel.link.to == c && matches!(parcel.message, Message::Promise(_))
        });
        cluster.cut(a, c);
        for _ in 0..4 {
            cluster.run_timeouts(2);
            drop(cluster.write(b));
        }
        cluster.settle();
    });
}

#[test]
fn restarted_leader_takes_a_new_ballot() {
    // omnipaxos #117; openraft a9f696a9: a leader that restarts under its old ballot proposes
    // twice in one slot. I3 is checked on every proposal.
    for_seeds(3, |cluster| {
        for _ in 0..4 {
            let (before, a) = (cluster.ballot(), cluster.sim.leader().unwrap());
            let pending = (0..3).map(|_| cluster.begin(a, 64)).collect::<Vec<_>>();
            cluster.run_for(Duration::from_micros(cluster.below(5000)));
            cluster.power_cycle(a);
            pending.into_iter().for_each(|write| drop(cluster.end(write)));
            cluster.expect("somebody leads anew", |sim| sim.leader().is_some());
            assert!(before < cluster.ballot(), "{before:?}");
        }
        cluster.settle();
    });
}

#[test]
fn duplicate_answers_cause_no_storm() {
    // OmniPaxos O7, O8, O9; openraft fbbf37b1: answers that come twice, or late, begin everything
    // again. Everything comes twice here.
    for_seeds(3, |cluster| {
        cluster.rule(Fate::Duplicate, |_| true);
        cluster.write_some(cluster.others[0], 5);
        cluster.power_cycle(cluster.leader);
        cluster.expect("somebody leads", |sim| sim.leader().is_some());
        cluster.write_some(cluster.others[1], 5);
        cluster.expect("it is level", Cluster::is_level);
        // At rest there are heartbeats and nothing else: one for each link and interval, and twice
        // that, since they are doubled.
        cluster.run_timeouts(2);
        let before = cluster.counts().delivered;
        cluster.run_timeouts(4);
        let heartbeats = 6 * 2 * (4 * TIMEOUT.as_millis() as u64 / 50 + 1);
        let delivered = cluster.counts().delivered - before;
        assert!(delivered <= heartbeats + heartbeats / 4, "{delivered} of {heartbeats}");
        cluster.settle();
    });
}

#[test]
fn last_message_lost_heals_by_itself() {
    // OmniPaxos O2, #68, #101: the last message of a kind is lost, and nothing follows.
    for kind in ["Accept", "Accepted", "Promise", "Forward", "Heartbeat"] {
        for_seeds(3, |cluster| {
            let b = cluster.others[0];
            let rule = cluster.rule(Fate::Drop, move |parcel| parcel.message.name() == kind);
            let pending = cluster.begin(b, 64);
            cluster.run_for(Duration::from_millis(60));
            cluster.drop_held(rule);
            let answer = cluster.end(pending);
            // Only commands that are handed on are sent once.
            assert!(answer.is_ok() || kind == "Forward", "{kind}: {answer:?}");
            let level = cluster.run_until(BOUND, Cluster::is_level);
            assert!(level, "{kind}: not level in silence");
            cluster.settle();
        });
    }
}
