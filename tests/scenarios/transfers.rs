//! Checkpoints on their way: to the disk beside commits, and to who lags. Nobody waits for either.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use indelible::ReplicaId;
use indelible::sim::network::{Fate, Weather};
use indelible::sim::{DiskSpeed, Plan};
use indelible::types::ids::Slot;
use indelible::types::marks::{self, Mark};
use indelible::types::message::Message;

use super::checkpoints::{for_forgetful, leave_behind, slot_trimmed};
use super::support::{Cluster, TIMEOUT, for_few_seeds_of, for_seeds_of};

/// How long a checkpoint of the leader takes while `meanwhile` is done again and again.
fn taken_in(cluster: &Cluster, meanwhile: impl Fn()) -> Duration {
    let newest = || cluster.report(cluster.leader).unwrap().slot_checkpointed;
    cluster.write_some(cluster.leader, 1);
    let (began, before) = (cluster.now(), newest());
    let taken = cluster.replica(cluster.leader).checkpoint();
    while newest() == before {
        meanwhile();
    }
    taken.wait().unwrap();
    cluster.now().since(began)
}

#[test]
fn a_checkpoint_is_spread_beside_commits_only() {
    for_forgetful(|cluster| {
        cluster.ids().into_iter().for_each(|id| cluster.set_disk_speed(id, DiskSpeed::default()));
        for _ in 0..100 {
            cluster.end(cluster.begin(cluster.leader, 8192)).unwrap();
        }
        cluster.run_timeouts(1);
        let alone = taken_in(cluster, || cluster.run_for(Duration::from_millis(10)));
        let beside = taken_in(cluster, || {
            cluster.end(cluster.begin(cluster.leader, 400)).unwrap();
        });
        // So many bytes are written in a second, and the state has about 800,000.
        let least = Duration::from_secs(2);
        assert!(alone * 3 < least && least < beside, "{alone:?} alone, {beside:?} beside commits");
    });
}

/// How long writes take at the leader, one after the other: the 99th of a hundred.
fn p99(cluster: &Cluster) -> Duration {
    let times = (0..100).map(|_| {
        let began = cluster.now();
        cluster.end(cluster.begin(cluster.leader, 400)).unwrap();
        cluster.now().since(began)
    });
    let mut times = times.collect::<Vec<_>>();
    times.sort();
    times[98]
}

#[test]
fn a_receiver_that_crawls_costs_commits_nothing() {
    // Who sends a state could wait for who takes it in, or begin anew with each newer one. What it
    // costs here is room: the sender keeps what it sends, and all that is written from there on.
    let plan = Plan { history_bytes_min: 0, checkpoint_bytes: 64 * 1024, ..Plan::default() };
    for_seeds_of(&plan, |cluster| {
        cluster.set_weather(Weather::default());
        cluster.ids().into_iter().for_each(|id| cluster.set_disk_speed(id, DiskSpeed::default()));
        let (id, known) = (cluster.others[1], cluster.slot_chosen(cluster.others[1]));
        cluster.crash(id);
        leave_behind(cluster, id, known);
        let before = (0..5).map(|_| p99(cluster)).max().unwrap();
        // Each part takes longer than it is waited for at first before it is asked for once more.
        // Who asked again and again would be sent each eight times: on a slow link it would get
        // nothing else.
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        cluster.rule(Fate::Delay(Duration::from_millis(800)), move |parcel| {
            match &parcel.message {
                Message::CheckpointPart(part) if parcel.link.to == id => {
                    counted.fetch_add(1, Ordering::SeqCst);
                    part.offset > 0
                }
                _ => false,
            }
        });
        cluster.reopen(id);
        let receiving = || cluster.report(id).unwrap().receiving;
        cluster.expect("it comes", |_| receiving().is_some_and(|it| it.slot.is_some()));
        let (began, first) = (cluster.now(), receiving().unwrap());
        let (from, slot) = (first.from, first.slot.unwrap());
        let mut offsets = BTreeSet::new();
        while let Some(it) = receiving() {
            offsets.insert(it.bytes);
            assert_eq!((it.from, it.slot), (from, Some(slot)), "it was begun anew");
            let during = p99(cluster);
            assert!(during <= before * 2, "{during:?}, and {before:?} without; {it}");
            let is_kept = receiving().is_none() || slot_trimmed(cluster, from) <= slot;
            assert!(is_kept, "it will be asked for what comes behind");
            cluster.run_for(TIMEOUT);
        }
        assert!(TIMEOUT * 20 < cluster.now().since(began), "it was no crawl");
        let (sent, parts) = (sent.load(Ordering::SeqCst), offsets.len());
        assert!(sent < parts * 2 + 4, "{sent} were sent of {parts} parts");
        let other = if from == cluster.leader { cluster.others[0] } else { cluster.leader };
        assert!(slot < slot_trimmed(cluster, other), "who sends nothing trims");
        cluster.heal();
        cluster.expect("it catches up", Cluster::is_level);
        cluster.replica(from).checkpoint().wait().unwrap();
        cluster.expect("the sender trims, too", |_| slot < slot_trimmed(cluster, from));
        cluster.settle();
    });
}

#[test]
fn who_goes_on_asking_lets_its_sender_trim() {
    // One that is opened to join gets a state. Nobody adds it, and it asks for what comes behind,
    // again and again.
    let plan =
        Plan { history_bytes_min: 0, checkpoint_bytes: u64::MAX, outsiders: 1, ..Plan::default() };
    for_seeds_of(&plan, |cluster| {
        let (members, joiner) = (cluster.members(), ReplicaId(4));
        let write_and_trim = || {
            for _ in 0..20 {
                cluster.end(cluster.begin(cluster.leader, 8192)).unwrap();
            }
            cluster.run_timeouts(1);
            members.iter().for_each(|id| cluster.replica(*id).checkpoint().wait().unwrap());
        };
        (0..3).for_each(|_| write_and_trim());
        assert!(cluster.sim.join(joiner, &members));
        let leaders = || cluster.slot_chosen(cluster.leader);
        cluster.expect("it has the state", |sim| sim.slot_chosen(joiner) == leaders());
        let known = cluster.slot_chosen(joiner);
        assert!(Slot::ZERO < slot_trimmed(cluster, joiner), "it took in no state");
        (0..10).for_each(|_| write_and_trim());
        cluster.expect("it goes on", |sim| sim.slot_chosen(joiner) == leaders());
        let behind = members.iter().filter(|id| slot_trimmed(cluster, **id) <= known);
        assert_eq!(behind.count(), 0, "seed {}", cluster.seed());
    });
}

#[test]
fn a_state_whose_first_part_is_late_is_not_begun_anew() {
    // It is asked for once more meanwhile, without a slot; by then there is a newer one.
    for millis in [800, 2000, 4000] {
        a_late_first_part(Duration::from_millis(millis));
    }
}

fn a_late_first_part(late: Duration) {
    let plan = Plan { history_bytes_min: 0, checkpoint_bytes: 64 * 1024, ..Plan::default() };
    for_few_seeds_of(3, &plan, |cluster| {
        cluster.set_weather(Weather::default());
        let (id, known) = (cluster.others[1], cluster.slot_chosen(cluster.others[1]));
        cluster.crash(id);
        leave_behind(cluster, id, known);
        cluster.rule(Fate::Delay(late), move |parcel| {
            parcel.link.to == id && parcel.message.name() == "CheckpointPart"
        });
        let target = cluster.slot_chosen(cluster.leader);
        cluster.reopen(id);
        drop(marks::take());
        while cluster.slot_chosen(id) < target {
            p99(cluster);
            assert_eq!(marks::take()[Mark::TransferAnew as usize], 0, "it was begun anew");
        }
        cluster.settle();
    });
}

#[test]
fn who_crawls_fills_no_disk_of_its_sender() {
    // A state is sent, and takes long. What its receiver will want behind it is kept, until there
    // is no space for more. (Too late where the segment in use is nearly full by then.)
    let plan = Plan { history_bytes_min: 0, checkpoint_bytes: u64::MAX, ..Plan::default() };
    for_few_seeds_of(2, &plan, |cluster| {
        let id = cluster.others[1];
        cluster.crash(id);
        let write = || {
            cluster.expect("somebody leads", |sim| sim.leader().is_some());
            // It may be that one whose disk is full.
            let _ = cluster.end(cluster.begin(cluster.sim.leader().unwrap(), 1024));
        };
        let write_and_check = || {
            (0..100).for_each(|_| write());
            cluster.run_timeouts(1);
            let up = cluster.ids().into_iter().filter(|up| cluster.sim.is_up(*up));
            up.filter(|up| *up != id).for_each(|up| {
                cluster.replica(up).checkpoint().wait().unwrap();
            });
        };
        (0..6).for_each(|_| write_and_check());
        let crawl = cluster.rule(Fate::Delay(Duration::from_millis(800)), move |parcel| {
            parcel.link.to == id && parcel.message.name() == "CheckpointPart"
        });
        cluster.reopen(id);
        let receiving = || cluster.report(id).unwrap().receiving;
        cluster.expect("it comes", |_| receiving().is_some_and(|it| it.slot.is_some()));
        let first = receiving().unwrap();
        let (from, slot) = (first.from, first.slot.unwrap());
        (0..2).for_each(|_| write_and_check());
        assert!(slot_trimmed(cluster, from) <= slot, "it will be asked for what comes behind");
        cluster.disk(from).set_room(Some(160 * 1024));
        (0..400).take_while(|_| slot_trimmed(cluster, from) <= slot).for_each(|_| write());
        assert!(cluster.slot_chosen(id) < slot, "seed {}: it was no crawl", cluster.seed());
        assert!(slot < slot_trimmed(cluster, from), "seed {}", cluster.seed());
        cluster.sim.drop_held(crawl);
        cluster.disk(from).set_room(None);
        cluster.settle();
    });
}
