//! Journals that are damaged at rest, or set back: nothing is invented, what can be is repaired.

use std::time::Duration;

use indelible::journal::frame::{FRAME_HEADER_BYTES, Header, Kind};
use indelible::sim::Simulation;
use indelible::sim::network::Fate;
use indelible::types::ids::Slot;
use indelible::{ErrorKind, ReplicaId, TxId};

use super::support::{BOUND, Cluster, TIMEOUT, for_seeds, nothing_survives};

/// Every frame that holds an entry, with its file and where it begins.
pub fn entries(cluster: &Cluster, id: ReplicaId) -> Vec<(String, usize, Header)> {
    let frames = frames(cluster, id).into_iter();
    frames.filter(|(.., header)| matches!(header.kind, Kind::Vote | Kind::Chosen)).collect()
}

/// Every frame in the journal of a replica.
pub fn frames(cluster: &Cluster, id: ReplicaId) -> Vec<(String, usize, Header)> {
    let disk = cluster.disk(id);
    let mut frames = Vec::new();
    for name in disk.names().into_iter().filter(|name| name.starts_with("segment-")) {
        let bytes = disk.durable(&name).unwrap();
        for at in (0..bytes.len() - FRAME_HEADER_BYTES).step_by(8) {
            if let Ok((header, _)) = Header::decode(&bytes[at..]) {
                frames.push((name.clone(), at, header));
            }
        }
    }
    frames
}

/// Damages each entry of the slots that match in the journal of a replica that is down; where it
/// was damaged so before, that is undone.
pub fn spoil(cluster: &Cluster, id: ReplicaId, matches: &dyn Fn(Slot) -> bool) -> usize {
    let entries = entries(cluster, id).into_iter();
    let flip = |(name, at, _): (String, usize, Header)| {
        assert!(cluster.disk(id).flip(&name, at + FRAME_HEADER_BYTES, 0x55));
    };
    entries.filter(|(.., header)| matches(header.slot)).map(flip).count()
}

fn power_off(cluster: &Cluster) {
    cluster.ids().into_iter().for_each(|id| cluster.cut_power(id, &mut nothing_survives));
}

/// Every replica loses the slots that match; returns whether they heal each other in time.
fn heals(cluster: &Cluster, loses: impl Fn(ReplicaId, Slot) -> bool) -> bool {
    cluster.write_some(cluster.leader, 12);
    cluster.expect("it is level", Cluster::is_level);
    // Seals are written once a journal rests.
    cluster.run_timeouts(2);
    power_off(cluster);
    for id in cluster.ids() {
        let count = spoil(cluster, id, &|slot| loses(id, slot));
        assert!(count >= 2, "replica {id}: {count} entries");
    }
    cluster.ids().into_iter().for_each(|id| cluster.reopen(id));
    cluster.run_until(BOUND * 3, Cluster::is_level)
}

#[test]
fn helical_damage() {
    // Jepsen on TigerBeetle, 2025: every replica lost another part of its records, and the cluster
    // was down for good. Slots next to a damaged one count as lost too.
    for_seeds(3, |cluster| {
        let healed = heals(cluster, |id, slot| [id.0 * 4 - 1, id.0 * 4].contains(&slot.0));
        let doubts = cluster.ids().into_iter().map(|id| Some(cluster.report(id)?.doubts));
        assert!(healed, "{:?}", doubts.collect::<Vec<_>>());
        cluster.check_state();
        cluster.settle();
        cluster.ids().into_iter().for_each(|id| cluster.power_cycle(id));
        cluster.settle();
    });
}

#[test]
fn damage_to_one_replica_heals() {
    // One replica lost entries here and there; the two others have them all.
    for_seeds(3, |cluster| {
        let victim = cluster.ids()[cluster.below(3) as usize];
        cluster.write_some(cluster.leader, 12);
        cluster.expect("it is level", Cluster::is_level);
        cluster.run_timeouts(2);
        cluster.cut_power(victim, &mut nothing_survives);
        assert!(spoil(cluster, victim, &|slot| slot.0 % 4 == 2) > 0);
        cluster.reopen(victim);
        cluster.settle();
        cluster.power_cycle(victim);
        let other = cluster.ids().into_iter().find(|id| *id != victim).unwrap();
        cluster.crash(other);
        cluster.expect("somebody leads", |sim| sim.leader().is_some());
        cluster.check_state();
        cluster.settle();
    });
}

#[test]
fn damage_to_two_replicas_heals() {
    // As above, with one replica whole: every entry is there, and one voter that doubts nothing.
    for_seeds(3, |cluster| {
        cluster.write_some(cluster.leader, 12);
        cluster.expect("it is level", Cluster::is_level);
        cluster.run_timeouts(2);
        power_off(cluster);
        for (id, lost) in [(1, 4), (2, 8)] {
            assert!(spoil(cluster, ReplicaId(id), &|slot| slot.0 == lost) > 0);
        }
        cluster.ids().into_iter().for_each(|id| cluster.reopen(id));
        let healed = cluster.run_until(BOUND * 3, Cluster::is_level);
        let doubts = cluster.ids().into_iter().map(|id| Some(cluster.report(id)?.doubts));
        assert!(healed, "{:?}", doubts.collect::<Vec<_>>());
        cluster.settle();
    });
}

#[test]
fn rot_that_a_reader_of_the_ledger_finds_heals() {
    // The state in memory is whole, and nobody asks for old entries but who reads the ledger.
    for_seeds(3, |cluster| {
        let victim = cluster.ids()[cluster.below(3) as usize];
        cluster.write_some(cluster.leader, 12);
        cluster.expect("it is level", Cluster::is_level);
        cluster.run_timeouts(1);
        let lost = Slot(2 + cluster.below(8));
        assert!(spoil(cluster, victim, &|slot| slot == lost) > 0);
        let ledger = || cluster.sim.replica(victim).transactions(TxId::ZERO);
        let err = ledger().find_map(Result::err).expect("the damage is not seen");
        assert!(
            err.kind() == ErrorKind::Corrupt && err.to_string().contains(&format!("slot {lost}")),
            "{err}"
        );
        cluster.write_some(victim, 3);
        cluster.run_timeouts(2);
        assert_eq!(ledger().filter(Result::is_err).count(), 0, "it is not repaired");
        assert_eq!(cluster.report(victim).unwrap().in_the_way(), None);
        cluster.power_cycle(victim);
        cluster.settle();
        assert_eq!(ledger().filter(Result::is_err).count(), 0, "it is not repaired for good");
    });
}

#[test]
fn helical_damage_of_every_third_slot() {
    // As above, and the parts are interleaved, so that the slots next to those that one replica
    // lost are lost at the others.
    for_seeds(3, |cluster| {
        let end = cluster.slot_chosen(cluster.leader).0 + 12;
        assert!(heals(cluster, |id, slot| slot.0 < end && slot.0 % 3 == id.0 - 1));
        cluster.settle();
    });
}

#[test]
fn helical_damage_with_an_overlap_halts() {
    // As above, but one slot is damaged everywhere: the cluster halts there, and says where; with
    // one copy back it goes on.
    for_seeds(3, |cluster| {
        cluster.write_some(cluster.leader, 8);
        cluster.expect("it is level", Cluster::is_level);
        cluster.run_timeouts(2);
        let lost = Slot(2 + cluster.below(5));
        power_off(cluster);
        let images = cluster.ids().into_iter().map(|id| cluster.disk(id).image());
        let images = images.collect::<Vec<_>>();
        for id in cluster.ids() {
            assert!(spoil(cluster, id, &|slot| slot == lost) > 0);
        }
        cluster.ids().into_iter().for_each(|id| cluster.reopen(id));
        cluster.run_for(BOUND);
        assert_eq!(cluster.sim.leader(), None, "slot {lost} is nowhere");
        for id in cluster.ids() {
            let told = cluster.report(id).unwrap().in_the_way().unwrap_or_default();
            // The slots before it, which had not been known to be chosen, count as lost too.
            let near = (1..=lost.0).any(|slot| told.contains(&format!("slot {slot} next")));
            assert!(near, "replica {id}, slot {lost}: {told}");
            assert!(cluster.write(id).is_err(), "replica {id} serves");
        }
        // The disks are found as they were; nothing is on its way any more from those openings.
        power_off(cluster);
        cluster.run_timeouts(1);
        for (id, image) in cluster.ids().into_iter().zip(&images) {
            cluster.disk(id).restore(image);
            cluster.reopen(id);
        }
        cluster.settle();
    });
}

#[test]
fn fault_laundering() {
    // TigerBeetle, note A in journal.zig, and #2653: a neighbour is written, the power goes, and
    // what was faulty was never seen. The witness checks that no promise conceals a vote.
    for_seeds(3, |cluster| {
        let b = cluster.others[0];
        cluster.write_some(cluster.leader, 6);
        cluster.expect("it is level", Cluster::is_level);
        cluster.run_timeouts(2);
        let end = cluster.slot_chosen(b).0;
        cluster.cut_power(b, &mut nothing_survives);
        let lost = Slot(end - 1 - cluster.below(3));
        assert!(spoil(cluster, b, &|slot| slot == lost) > 0);
        for _ in 0..5 {
            cluster.reopen(b);
            cluster.run_for(Duration::from_micros(cluster.below(3000)));
            // The others change their leader now and then, and ask it.
            if cluster.below(3) == 0 {
                cluster.power_cycle(cluster.others[1]);
            }
            cluster.cut_power(b, &mut |_| cluster.below(2) == 0);
        }
        cluster.reopen(b);
        cluster.settle();
        let doubts = cluster.report(b).unwrap().doubts;
        assert!(doubts.faulty.is_empty() && !doubts.promise_lost, "{doubts:?}");
        // It is repaired for good: with one of the others gone, it is needed, and has everything.
        cluster.cut_power(b, &mut nothing_survives);
        cluster.crash(cluster.leader);
        cluster.reopen(b);
        cluster.expect("somebody leads", |sim| sim.leader().is_some());
        cluster.check_state();
        cluster.settle();
    });
}

/// A machine is set back to an old image, in which every checksum is right, after so many openings
/// since, and the others are switched off and on, or not. Returns who leads and who does not.
fn set_back(cluster: &Cluster, openings: u64, others_restart: bool) -> (ReplicaId, ReplicaId) {
    let (a, b) = (cluster.leader, cluster.others[0]);
    cluster.expect("it is level", Cluster::is_level);
    let image = cluster.disk(b).image();
    for _ in 0..openings {
        cluster.power_cycle(b);
        cluster.expect("it is level", Cluster::is_level);
    }
    assert_eq!(cluster.sim.leader(), Some(a));
    cluster.write_some(a, 10);
    cluster.expect("it is level", Cluster::is_level);
    cluster.run_timeouts(1);
    cluster.cut_power(b, &mut nothing_survives);
    if others_restart {
        cluster.power_cycle(a);
        cluster.power_cycle(cluster.others[1]);
        cluster.expect("somebody leads", |sim| sim.leader().is_some());
    }
    cluster.set_back(b, &image);
    cluster.reopen(b);
    let refused = cluster.counts().refused;
    cluster.run_for(TIMEOUT);
    assert!(cluster.counts().refused > refused, "nobody noticed");
    let report = cluster.report(b).unwrap();
    assert!(report.fenced_by.is_some() && report.doubts.promise_lost, "{report:?}");
    let leader = cluster.sim.leader().unwrap();
    let other = [a, cluster.others[1]].into_iter().find(|id| *id != leader).unwrap();
    cluster.write_some(leader, 3);
    (leader, other)
}

/// Replica `b` makes no quorum with one of the others, whatever it is opened as; both go on.
fn stays_out(cluster: &Cluster, b: ReplicaId, (leader, other): (ReplicaId, ReplicaId)) {
    for openings in 0..3 {
        if openings > 0 {
            cluster.power_cycle(b);
        }
        cluster.crash(leader);
        cluster.run_for(BOUND);
        assert!(cluster.write(other).is_err(), "replica {b} was counted");
        assert_eq!(cluster.sim.leader(), None);
        cluster.reopen(leader);
        cluster.expect("the two go on", |sim| {
            sim.leader().is_some() && sim.slot_chosen(leader) == sim.slot_chosen(other)
        });
    }
    cluster.write_some(leader, 1);
    cluster.write_some(other, 1);
    cluster.crash(b);
    cluster.check_state();
}

#[test]
fn vm_rollback_minority() {
    // Jepsen on TigerBeetle: what it forgot to have voted for must not be asked of it.
    for_seeds(3, |cluster| {
        let openings = cluster.below(3);
        let rest = set_back(cluster, openings, false);
        stays_out(cluster, cluster.others[0], rest);
    });
}

#[test]
fn vm_rollback_of_a_leader_is_noticed() {
    // It sends nobody its own votes. What it wrote with one of the others, the third one would not
    // miss; but it heard how far the leader's journal was durable.
    for_seeds(3, |cluster| {
        let (a, [b, c]) = (cluster.leader, [cluster.others[0], cluster.others[1]]);
        cluster.expect("it is level", Cluster::is_level);
        let image = cluster.disk(a).image();
        let lost = cluster.rule(Fate::Drop, move |parcel| {
            parcel.link.to == c && matches!(parcel.message.name(), "Accept" | "Chosen")
        });
        cluster.write_some(a, 10);
        cluster.run_timeouts(1);
        cluster.cut_power(a, &mut nothing_survives);
        cluster.crash(b);
        cluster.set_back(a, &image);
        cluster.reopen(a);
        cluster.run_for(BOUND);
        let report = cluster.report(a).unwrap();
        assert_eq!(report.fenced_by, Some(c), "{report:?}");
        assert_eq!(cluster.sim.leader(), None, "nobody else knows what was acknowledged");
        cluster.sim.drop_held(lost);
        cluster.reopen(b);
        cluster.expect("the two go on", |sim| {
            sim.leader().is_some() && sim.slot_chosen(b) == sim.slot_chosen(c)
        });
        cluster.write_some(b, 1);
        cluster.crash(a);
        cluster.check_state();
    });
}

#[test]
fn who_lost_only_a_seal_is_no_earlier_self() {
    // Everybody heard how far its journal was durable. Behind that there was one more block, which
    // said nothing that anybody could miss, and reads as zeros now.
    for_seeds(3, |cluster| {
        let id = cluster.others[0];
        cluster.write_some(cluster.leader, 3);
        cluster.expect("it is level", Cluster::is_level);
        cluster.run_timeouts(4);
        cluster.crash(id);
        let frames = frames(cluster, id);
        let seal = frames.iter().rposition(|(.., header)| header.kind == Kind::Seal).unwrap();
        assert_eq!(seal, frames.len() - 1, "something came behind the seal");
        let (name, end) = (&frames[seal].0, frames[seal].1 + FRAME_HEADER_BYTES);
        let group = frames[..seal].iter().rfind(|(.., header)| header.kind == Kind::Group);
        let (.., begin, _) = group.unwrap();
        assert!(cluster.disk(id).zero(name, *begin..end));
        cluster.reopen(id);
        cluster.run_for(BOUND);
        let report = cluster.report(id).unwrap();
        assert!(report.fenced_by.is_none() && !report.doubts.promise_lost, "{report:?}");
        cluster.settle();
    });
}

#[test]
fn vm_rollback_is_remembered() {
    // As above, and whoever could know of it was switched off and on since.
    for_seeds(3, |cluster| {
        let openings = cluster.below(3);
        let rest = set_back(cluster, openings, true);
        stays_out(cluster, cluster.others[0], rest);
    });
}

#[test]
fn two_copies_fence_each_other() {
    // A directory is copied, and both copies are opened as often. None of them is known to be the
    // one that voted: the one that was let in is counted no more, and learns it where it connects.
    for_seeds(3, |cluster| {
        let (a, b) = (cluster.leader, cluster.others[0]);
        cluster.expect("it is level", Cluster::is_level);
        cluster.cut_power(b, &mut nothing_survives);
        let image = cluster.disk(b).image();
        cluster.reopen(b);
        cluster.write_some(a, 3);
        cluster.expect("it is level", Cluster::is_level);
        cluster.cut_power(b, &mut nothing_survives);
        let first = cluster.disk(b).image();
        cluster.set_back(b, &image);
        cluster.reopen(b);
        cluster.run_for(TIMEOUT);
        assert!(cluster.report(b).unwrap().doubts.promise_lost);
        cluster.cut_power(b, &mut nothing_survives);
        // The other copy comes back, with a count that nobody saw: it is known all the same.
        cluster.set_back(b, &first);
        cluster.power_cycle(cluster.others[1]);
        cluster.reopen(b);
        cluster.run_for(TIMEOUT);
        assert!(cluster.report(b).unwrap().doubts.promise_lost);
        cluster.expect("somebody leads", |sim| sim.leader().is_some());
        let leader = cluster.sim.leader().unwrap();
        let other = [a, cluster.others[1]].into_iter().find(|id| *id != leader).unwrap();
        stays_out(cluster, b, (leader, other));
    });
}

#[test]
fn who_lacks_what_rotted_waits_for_nobody_who_is_away() {
    // One was away, the only one that is up lost an entry which it lacks, and the third one, which
    // has it, is gone. Both are needed to go on.
    for_seeds(3, |cluster| {
        let (one, away, gone) = (cluster.leader, cluster.others[0], cluster.others[1]);
        cluster.crash(away);
        let lost = cluster.slot_chosen(one).plus(cluster.below(8));
        cluster.write_some(one, 12);
        cluster.run_timeouts(2);
        assert!(spoil(cluster, one, &|slot| slot == lost) > 0);
        cluster.crash(gone);
        cluster.reopen(away);
        cluster.run_timeouts(50);
        assert!(cluster.slot_chosen(away) <= lost, "whoever is away may come back");
        cluster.run_timeouts(11);
        cluster.expect("it goes on", |sim| sim.slot_chosen(away) == sim.slot_chosen(one));
        cluster.write_some(away, 2);
        cluster.settle();
        let is_whole =
            |sim: &Simulation| sim.replica(one).transactions(TxId::ZERO).all(|it| it.is_ok());
        cluster.expect("it is healed by who was gone", is_whole);
    });
}

#[test]
fn who_opens_without_what_nobody_has_takes_in_a_checkpoint() {
    // Two lost the same entries, which the checkpoint of one of them makes up for; the third one is
    // gone. The other one asks for the entries in turn, and for none of them for ever.
    for_seeds(3, |cluster| {
        let (one, opens, gone) = (cluster.leader, cluster.others[0], cluster.others[1]);
        let first = cluster.slot_chosen(one);
        cluster.write_some(one, 12);
        cluster.expect("it is level", Cluster::is_level);
        cluster.run_timeouts(2);
        cluster.replica(one).checkpoint().wait().unwrap();
        cluster.crash(gone);
        for id in [one, opens] {
            cluster.cut_power(id, &mut nothing_survives);
            let lost = |slot: Slot| [first.plus(1), first.plus(2), first.plus(7)].contains(&slot);
            assert!(spoil(cluster, id, &lost) > 0);
        }
        [one, opens].into_iter().for_each(|id| cluster.reopen(id));
        // Who reads what is not needed to begin keeps nobody from it.
        let _seen = cluster.replica(one).transactions(TxId::ZERO).count();
        cluster.run_timeouts(61);
        cluster.expect("it opens", |sim| {
            sim.leader().is_some() && sim.slot_chosen(opens) == sim.slot_chosen(one)
        });
        cluster.write_some(opens, 2);
        cluster.settle();
    });
}
