//! Who is the only voter, and was not, or was and is not any more: a torn end of its journal is
//! judged by who else may have what stood there.

use std::time::Duration;

use indelible::journal::frame::{FRAME_HEADER_BYTES, Header};
use indelible::journal::segment::BLOCK_BYTES;
use indelible::journal::sharing::{alone_slot, shared_slot};
use indelible::sim::network::Fate;
use indelible::sim::{Plan, Simulation};
use indelible::types::ids::Slot;
use indelible::types::marks::{self, Mark};
use indelible::{ErrorKind, Membership, MembershipError, ReplicaId, TxId};

use super::damage::{entries, frames, spoil};
use super::leaving::is_alone;
use super::membership::{change, join, join_within};
use super::support::{BOUND, Cluster, for_seeds, for_seeds_of, nothing_survives};

#[test]
fn who_is_left_alone_goes_on_whatever_is_torn() {
    // One of two is removed, and the power of the other one fails at any time around the moment
    // from which on it decides alone: its journal may show that already, while the directory does
    // not say it yet, and more was being written. Nobody else can tell what was in that.
    drop(marks::take());
    let plan = Plan { replicas: 2, ..Plan::default() };
    for round in 0..ROUNDS {
        for_seeds_of(&plan, |cluster| {
            let (left, removed) = (cluster.leader, cluster.others[0]);
            let _change = cluster.replica(left).remove(removed);
            let mut begun = Vec::new();
            let mut wait = 50 * round + cluster.below(50);
            while wait > 0 {
                begun.push(cluster.begin(left, 64));
                cluster.run_for(Duration::from_micros(50));
                wait -= if is_alone(&cluster.sim, left) { wait.min(50) } else { 0 };
            }
            cluster.cut_power(removed, &mut nothing_survives);
            cluster.cut_power(left, &mut |piece| piece.number % 2 == 0);
            drop(begun);
            cluster.reopen(left);
            cluster.run_timeouts(1);
            if !is_alone(&cluster.sim, left) {
                cluster.reopen(removed);
            }
            cluster.expect("somebody leads", |sim| sim.leader().is_some());
            cluster.write_some(left, 3);
        });
    }
    assert!(marks::take()[Mark::DoubtsOfOneAlone as usize] > 0, "no power cut came in between");
}

/// How many times the power fails after what time, for each seed.
const ROUNDS: u64 = 40;

#[test]
fn who_was_alone_once_leaves_it_to_those_who_joined_since() {
    // One that was alone has others vote, and then loses all of its journal behind what shows it
    // alone, as if that had been torn off. The directory says that others voted later.
    let mut plan = Plan { replicas: 1, outsiders: 1, ..Plan::default() };
    plan.journal.segment_bytes = 1 << 20;
    for_seeds_of(&plan, |cluster| {
        let (one, other) = (cluster.leader, 2);
        join(cluster, other);
        cluster.write_some(one, 3);
        cluster.run_timeouts(1);
        let alone = cluster.save_disk(one);
        change(cluster, |leader| leader.promote(other));
        cluster.write_some(cluster.sim.leader().unwrap(), 5);
        cluster.expect("it is level", Cluster::is_level);
        cluster.cut_power(other, &mut nothing_survives);
        cluster.cut_power(one, &mut nothing_survives);
        let shared = cluster.disk(one).names().into_iter().find(|name| shared_slot(name).is_some());
        cluster.restore_disk(one, &alone);
        cluster.disk(one).plant(&shared.expect("others vote"), &[]);
        spoil_end(cluster, one);
        cluster.reopen(one);
        cluster.run_timeouts(10);
        let report = cluster.report(one).unwrap();
        assert!(report.membership.is_some_and(|members| members.is_only(one)));
        assert!(report.doubts.faulty.is_empty() && !report.doubts.uncertain.is_empty());
        assert!(report.view.is_none_or(|view| !view.ready), "it would decide alone");
    });
}

/// Something stands behind the last frame that is none.
fn spoil_end(cluster: &Cluster, id: ReplicaId) {
    let last = frames(cluster, id).into_iter().max_by_key(|(.., header)| header.lsn);
    let (name, at, header) = last.expect("it has frames");
    let end = at + FRAME_HEADER_BYTES + header.payload_bytes as usize;
    let end = end.next_multiple_of(BLOCK_BYTES);
    let spoiled = cluster.disk(id).rot(&name, end..end + 64, |bytes| bytes.fill(0x55));
    assert!(spoiled, "{name} at {end}");
}

#[test]
fn what_others_healed_keeps_nobody_out_who_is_left_alone() {
    // What rotted was fetched from the other one, and still stands in the journal: a whole sector
    // or one bit, found by an opening, or beside the work of a replica whose ledger somebody reads.
    // Then the other one is removed.
    let plan = Plan { replicas: 2, outsiders: 1, ..Plan::default() };
    for (beside_work, rot) in [
        (false, spoil as Rot),
        (true, spoil as Rot),
        (false, spoil_sector as Rot),
        (true, spoil_sector as Rot),
    ] {
        for_seeds_of(&plan, |cluster| {
            let (left, removed) = (cluster.leader, cluster.others[0]);
            let slots = ..cluster.slot_chosen(left).plus(12);
            cluster.write_some(left, 12);
            cluster.expect("it is level", Cluster::is_level);
            cluster.run_timeouts(2);
            let rots = |slot: Slot| slots.contains(&slot) && slot.0 % 4 == 1;
            let ledger = || cluster.replica(left).transactions(TxId::ZERO);
            if beside_work {
                assert!(rot(cluster, left, &rots) > 0);
                assert!(ledger().any(|it| it.is_err()), "the rot is not seen");
            } else {
                cluster.cut_power(left, &mut nothing_survives);
                assert!(rot(cluster, left, &rots) > 0);
                cluster.reopen(left);
            }
            cluster.expect("it is healed", |sim| {
                Cluster::is_level(sim) && ledger().all(|it| it.is_ok())
            });
            change(cluster, |leader| leader.remove(removed));
            cluster.write_some(left, 3);
            cluster.run_timeouts(2);
            assert!(cluster.disk(left).names().iter().any(|name| alone_slot(name).is_some()));
            // Once after a cut of power, and once after an opening that found it so.
            for _ in 0..2 {
                drop(marks::take());
                cluster.power_cycle(left);
                assert!(marks::take()[Mark::RotHealedBeforeAlone as usize] > 0);
                cluster.expect("it serves", |sim| sim.leader() == Some(left));
                cluster.write_some(left, 1);
            }
            cluster.check_state();
            // It grows again, and shrinks, whether or not all of its history can be read still.
            join_within(BOUND * 8, cluster, 3);
            change(cluster, |leader| leader.remove(3));
            cluster.crash(3);
            // What rots from here on nobody else has.
            let last = cluster.slot_chosen(left).plus(2);
            cluster.write_some(left, 6);
            cluster.run_timeouts(2);
            cluster.cut_power(left, &mut nothing_survives);
            assert!(rot(cluster, left, &|slot| slot == last) > 0);
            assert!(!cluster.open(left), "seed {}: slot {last} is lost", cluster.seed());
            let refusal = cluster.refusal(left).unwrap();
            assert!(refusal.contains("segment-"), "{refusal}");
        });
    }
}

#[test]
fn who_joins_one_that_lost_some_of_its_history_goes_on_behind_a_checkpoint() {
    // What rots while it runs is in its state, and nobody else has it; no checkpoint holds it yet,
    // or one does. Two join, one behind the other, and the second one asks whomever it hears.
    let plan = Plan { replicas: 1, outsiders: 2, ..Plan::default() };
    for has_checkpoint in [false, true] {
        for_seeds_of(&plan, |cluster| {
            let one = cluster.leader;
            let lost = cluster.slot_chosen(one).plus(cluster.below(8));
            cluster.write_some(one, 12);
            cluster.run_timeouts(2);
            if has_checkpoint {
                cluster.replica(one).checkpoint().wait().unwrap();
            }
            assert!(spoil(cluster, one, &|slot| slot == lost) > 0);
            for id in [2, 3] {
                join_within(BOUND * 8, cluster, id);
                change(cluster, |leader| leader.promote(id));
                cluster.write_some(one, 2);
            }
            cluster.check_state();
            cluster.crash(one);
            cluster.expect("somebody leads", |sim| sim.leader().is_some());
            cluster.write_some(ReplicaId(3), 2);
            cluster.settle();
        });
    }
}

#[test]
fn what_nobody_has_keeps_nobody_for_ever_from_being_left_alone() {
    // An entry rotted at both of two. The one that shall go on alone waits for it, and no longer
    // than it makes sense to; then a checkpoint makes up for it.
    for_seeds(2, |cluster| {
        let (left, removed) = (cluster.leader, cluster.others[0]);
        rot_at_both(cluster, left);
        let forced = cluster.replica(left).force_membership(move |it| it.without(removed));
        for refused in [cluster.replica(left).remove(removed), forced] {
            let err = refused.wait().unwrap_err();
            assert!(err.is_retryable() && err.to_string().contains("fetching entries"), "{err}");
        }
        cluster.run_timeouts(61);
        change(cluster, |leader| leader.remove(removed));
        cluster.write_some(left, 3);
        cluster.run_timeouts(2);
        expect_to_open_alone(cluster, left);
    });
}

/// An entry rots at the leader and at the other one, and one of them, `reader`, finds that.
fn rot_at_both(cluster: &Cluster, reader: ReplicaId) {
    let (leader, other) = (cluster.leader, cluster.others[0]);
    let lost = cluster.slot_chosen(leader).plus(cluster.below(8));
    cluster.write_some(leader, 8);
    cluster.expect("it is level", Cluster::is_level);
    cluster.run_timeouts(2);
    for id in [leader, other] {
        assert!(spoil(cluster, id, &|slot| slot == lost) > 0);
    }
    let mut ledger = cluster.replica(reader).transactions(TxId::ZERO);
    assert!(ledger.any(|it| it.is_err()), "the rot is not seen");
    cluster.run_timeouts(2);
}

/// The only voter that is left goes on behind a cut of power.
fn expect_to_open_alone(cluster: &Cluster, left: ReplicaId) {
    cluster.power_cycle(left);
    cluster.expect("it serves", |sim| sim.leader() == Some(left));
    cluster.write_some(left, 1);
    cluster.check_state();
}

#[test]
fn nobody_leaves_another_one_alone_before_that_is_whole() {
    // An entry rotted at both of two, and the one that leads removes itself: the other one does not
    // promise, forced or not, before it can be opened again by itself.
    drop(marks::take());
    for_seeds(2, |cluster| {
        let (leader, left) = (cluster.leader, cluster.others[0]);
        rot_at_both(cluster, left);
        let err = cluster.replica(leader).remove(leader).wait().unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Unreachable, "{err}");
        assert_eq!(err.membership_error(), Some(&MembershipError::NotAnswered));
        let forced = cluster.replica(leader).force_membership(move |it| it.without(leader));
        cluster.write_some(leader, 2);
        let err = forced.wait().unwrap_err();
        assert_eq!(err.kind(), ErrorKind::TimedOut, "{err}");
        assert_eq!(cluster.sim.leader(), Some(leader), "seed {}", cluster.seed());
        cluster.run_timeouts(61);
        change(cluster, |replica| replica.remove(leader));
        cluster.crash(leader);
        cluster.expect("who is left leads", |sim| sim.leader() == Some(left));
        cluster.write_some(left, 3);
        expect_to_open_alone(cluster, left);
    });
    assert!(marks::take()[Mark::PromisedWhenWhole as usize] > 0);
}

type Rot = fn(&Cluster, ReplicaId, &dyn Fn(Slot) -> bool) -> usize;

/// Every sector is zeros in which the header of a matching entry stands.
fn spoil_sector(cluster: &Cluster, id: ReplicaId, matches: &dyn Fn(Slot) -> bool) -> usize {
    let entries = entries(cluster, id).into_iter();
    let zero = |(name, at, _): (String, usize, Header)| {
        let sector = at / SECTOR_BYTES * SECTOR_BYTES;
        assert!(cluster.disk(id).zero(&name, sector..sector + SECTOR_BYTES));
    };
    entries.filter(|(.., header)| matches(header.slot)).map(zero).count()
}

const SECTOR_BYTES: usize = 512;

#[test]
fn nobody_leaves_another_one_alone_that_forgot_its_votes() {
    // One led, voted for what nobody else heard of, and lost that to rot. Another leader settles
    // what is in doubt there, if it is asked; but it forces the membership down to that one, and
    // the question is late. Who is alone with such a doubt would never lead again.
    drop(marks::take());
    for_seeds(3, |cluster| {
        let (left, others) = (cluster.leader, cluster.others.clone());
        let unheard = cluster.sim.rule(Fate::Drop, move |parcel| parcel.link.from == left);
        let chosen = cluster.slot_chosen(left);
        let begun = [(); 6].map(|()| {
            let begun = cluster.begin(left, 64);
            cluster.run_for(Duration::from_millis(20));
            begun
        });
        let another = |sim: &Simulation| sim.leader().filter(|leader| *leader != left);
        cluster.expect("another one leads", |sim| another(sim).is_some());
        let leader = another(&cluster.sim).unwrap();
        cluster.run_timeouts(2);
        cluster.cut_power(left, &mut nothing_survives);
        drop(begun);
        assert!(spoil(cluster, left, &|slot| slot >= chosen) > 1);
        cluster.sim.drop_held(unheard);
        let unasked = cluster.sim.rule(Fate::Drop, |parcel| parcel.message.name() == "Unsure");
        cluster.reopen(left);
        cluster.run_timeouts(1);
        let edit = move |present: &Membership| {
            let mut edited = present.clone();
            for id in &others {
                edited = edited.without(*id)?;
            }
            Ok(edited)
        };
        let forced = cluster.replica(leader).force_membership(edit);
        cluster.run_timeouts(2);
        assert!(!cluster.report(left).unwrap().doubts.faulty.is_empty());
        assert_eq!(cluster.sim.leader(), Some(leader), "seed {}", cluster.seed());
        cluster.sim.drop_held(unasked);
        forced.wait().unwrap();
        cluster.expect("who is left leads", |sim| sim.leader() == Some(left));
        cluster.write_some(left, 3);
    });
    assert!(marks::take()[Mark::PromisedWhenWhole as usize] > 0);
}
