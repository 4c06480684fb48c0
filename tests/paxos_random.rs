//! Random schedules over the protocol cores: everything that a network, a disk and a clock may do,
//! in any order, with every invariant checked on every step; then the faults end, and the cluster
//! must agree, commit something new, and serve reads in bounded time.
//!
//! `SEEDS=100000 BASE=1 cargo test --release --test paxos_random` runs more of them. A seed that
//! fails is run again with its trace, whose tail is printed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use indelible::ReplicaId;
use indelible::sim::cluster::Cluster;
use indelible::sim::cores::Cores;
use indelible::sim::journal::Damage;
use indelible::sim::links::Link;
use indelible::types::ids::Slot;
use indelible::types::message::Message;
use indelible::types::record::Doubts;

/// How many old messages are kept, to be delivered again long after, also to later openings.
const OLD_MAX: usize = 64;

/// How long a healed cluster may take: 10 election timeouts.
const HEALED_MAX: Duration = Duration::from_millis(10 * 500);

/// SplitMix64: enough to choose, and ours for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn of_100(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }
}

/// How often what happens, drawn for each seed, so that seeds differ in kind.
struct Weights {
    deliver: u64,
    reorder: u64,
    lose: u64,
    duplicate: u64,
    sync: u64,
    propose: u64,
    read: u64,
    time: u64,
    crash: u64,
    restart: u64,
    cut: u64,
    mend: u64,
    campaign: u64,
    replay: u64,
    peer_down: u64,
    power: u64,
    damage: u64,
    forget: u64,
    /// Whether what catches up is delivered late.
    lags: bool,
}

impl Weights {
    fn draw(random: &mut Random) -> Self {
        let rare = |random: &mut Random, most: u64| match random.of_100(50) {
            true => random.below(most + 1),
            false => 0,
        };
        Self {
            deliver: 300,
            reorder: rare(random, 200),
            lose: rare(random, 60),
            duplicate: rare(random, 60),
            sync: 60 + rare(random, 100),
            propose: 20 + rare(random, 40),
            read: 3 + rare(random, 10),
            time: 20 + rare(random, 60),
            crash: rare(random, 8),
            restart: 8,
            cut: rare(random, 8),
            mend: 6,
            campaign: rare(random, 4),
            replay: rare(random, 20),
            peer_down: rare(random, 4),
            power: rare(random, 4),
            damage: rare(random, 10),
            forget: rare(random, 1),
            lags: random.of_100(25),
        }
    }

    fn all(&self) -> [u64; 18] {
        [
            self.deliver,
            self.reorder,
            self.lose,
            self.duplicate,
            self.sync,
            self.propose,
            self.read,
            self.time,
            self.crash,
            self.restart,
            self.cut,
            self.mend,
            self.campaign,
            self.replay,
            self.peer_down,
            self.power,
            self.damage,
            self.forget,
        ]
    }

    fn choose(&self, random: &mut Random) -> usize {
        let mut left = random.below(self.all().iter().sum());
        for (index, weight) in self.all().into_iter().enumerate() {
            if left < weight {
                return index;
            }
            left -= weight;
        }
        unreachable!("a number below the sum falls into one weight")
    }
}

fn cluster(seed: u64, random: &mut Random) -> Cluster {
    let shapes = [
        (3, 2, 2),
        (3, 2, 2),
        (5, 3, 3),
        (5, 3, 3),
        (4, 3, 2),
        (4, 3, 3),
        (3, 3, 1),
        (5, 4, 2),
        (5, 4, 4),
    ];
    let (count, phase1, phase2) = random.pick(&shapes);
    let mut cluster = Cluster::flexible(count, phase1, phase2, random.pick(&[2, 4, 64]));
    cluster.seed = seed;
    cluster.inflight_slots_max = cluster.membership.alpha().min(random.pick(&[2, 16]));
    cluster.message_bytes_max = random.pick(&[20, 64, 4096]);
    cluster.remembers_chosen = random.of_100(50);
    cluster
}

/// A message at random, the next of its link or any. What catches up stays on its way, where the
/// weights say so, until others have been elected.
fn message(
    cores: &mut Cores,
    random: &mut Random,
    weights: &Weights,
    in_order: bool,
) -> Option<(Link, usize)> {
    let waiting = cores.links().waiting().collect::<Vec<_>>();
    if waiting.is_empty() {
        return None;
    }
    let (link, count) = random.pick(&waiting);
    let lags = weights.lags && !random.of_100(2);
    let mut index = if in_order { 0 } else { random.below(count as u64) as usize };
    while lags
        && let Some(Message::Fetch { .. } | Message::Chosen(_) | Message::Settled { .. }) =
            cores.links().peek_at(link, index)
    {
        index += 1;
    }
    (index < count).then_some((link, index))
}

fn act(
    cores: &mut Cores,
    random: &mut Random,
    weights: &Weights,
    proposed: &mut u64,
    old: &mut Vec<(Link, Message)>,
) {
    let ids = cores.ids();
    let id = random.pick(&ids);
    let other = random.pick(&ids);
    match weights.choose(random) {
        0 => {
            if let Some((link, index)) = message(cores, random, weights, true) {
                cores.deliver_at(link, index);
            }
        }
        1 => {
            if let Some((link, index)) = message(cores, random, weights, false) {
                cores.deliver_at(link, index);
            }
        }
        2 => {
            if let Some((link, index)) = message(cores, random, weights, false) {
                drop(cores.links().take_at(link, index));
            }
        }
        3 => duplicate(cores, random, weights, old),
        13 if !old.is_empty() => {
            let (link, message) = old[random.below(old.len() as u64) as usize].clone();
            cores.inject(link, message);
        }
        4 => match random.of_100(70) {
            true => cores.sync(id),
            false => cores.sync_some(id, 1 + random.below(3) as usize),
        },
        5 => {
            let leaders = ids.iter().filter(|id| cores.has_room(**id)).copied().collect::<Vec<_>>();
            if !leaders.is_empty() {
                *proposed += 1;
                cores.propose(random.pick(&leaders), &format!("v{proposed}"));
            }
        }
        6 => assert!(cores.read(id) > 0),
        7 => cores.advance(Duration::from_millis(random.below(60))),
        8 => cores.crash(id),
        9 => cores.restart(id),
        10 => match random.of_100(30) {
            // All that goes to or comes from one replica, or only one direction of one link.
            true => ids.iter().for_each(|other| {
                cores.links().cut(Link { from: id, to: *other });
                cores.links().cut(Link { from: *other, to: id });
            }),
            false => cores.links().cut(Link { from: id, to: other }),
        },
        11 => match random.of_100(30) {
            true => cores.links().heal(),
            false => cores.links().mend(Link { from: id, to: other }),
        },
        12 => cores.campaign(id),
        13 => {}
        14 => cores.peer_down(id, other),
        // All at once, or one.
        15 => match random.of_100(50) {
            true => ids.iter().for_each(|id| cores.cut_power(*id)),
            false => cores.cut_power(id),
        },
        16 => damage(cores, random, id),
        _ => forget_promise(cores, random, id),
    }
}

/// Loses what is durable, but never more than the rules promise to outlive: of each slot, at most
/// `phase2 - 1` votes at a time.
fn damage(cores: &mut Cores, random: &mut Random, id: ReplicaId) {
    let slot = Slot(1 + random.below(cores.checks().learned().0 + 4));
    let damage = random.pick(&[Damage::Slot(slot), Damage::Somewhere(slot), Damage::End]);
    let spare = cores.cluster().membership.phase2() as usize - 1;
    if cores.view(id).is_none()
        && cores
            .endangered(id, damage)
            .iter()
            .all(|slot| cores.checks().lost_elsewhere(id, *slot) < spare)
    {
        cores.damage(id, damage);
    }
}

/// Loses a promise, but of no more replicas than both quorums can do without.
fn forget_promise(cores: &mut Cores, random: &mut Random, id: ReplicaId) {
    let membership = &cores.cluster().membership;
    let spare = membership.voters().len() as u32 - membership.phase1().max(membership.phase2());
    // Only the last replicas ever forget, so that it need not be counted which did.
    let last = cores.ids().len() as u64 - u64::from(spare) < id.0;
    if last && random.of_100(30) && cores.view(id).is_none() {
        cores.damage(id, Damage::Promise);
    }
}

/// Whether the damage, though nothing chosen can be lost by it, is more than a cluster can go on
/// with before an operator replaces a replica: too few speak about some slot, and they are not all
/// merely uncertain.
fn is_blocked(cores: &Cores) -> bool {
    let ids = cores.ids();
    let Some(doubts) = ids.iter().map(|id| cores.doubts(*id)).collect::<Option<Vec<_>>>() else {
        // It lost what nobody else knows to be chosen.
        return true;
    };
    let membership = &cores.cluster().membership;
    let (phase1, phase2) = (membership.phase1() as usize, membership.phase2() as usize);
    let keeping = doubts.iter().filter(|doubts| !doubts.promise_lost).count();
    let ranges = doubts.iter().flat_map(|doubts| {
        doubts.faulty.ranges().iter().chain(doubts.uncertain.ranges()).map(|range| range.first)
    });
    let stuck = |slot: Slot| {
        let abstains = |doubts: &&&Doubts| doubts.promise_lost || doubts.contains(slot);
        let speaking = ids.len() - doubts.iter().filter(abstains).count();
        let faulty = doubts.iter().any(|doubts| doubts.faulty.contains(slot));
        let everyone = keeping == ids.len() && !faulty && phase2 > 1;
        speaking < phase1 && !everyone
    };
    keeping < phase1.max(phase2) || ranges.collect::<Vec<_>>().into_iter().any(stuck)
}

/// Sends a message twice, and keeps it for much later.
fn duplicate(
    cores: &mut Cores,
    random: &mut Random,
    weights: &Weights,
    old: &mut Vec<(Link, Message)>,
) {
    if let Some((link, index)) = message(cores, random, weights, false) {
        cores.links().copy_at(link, index);
        let copy = cores.links().peek_at(link, index).cloned();
        old.extend(copy.map(|message| (link, message)));
        if old.len() > OLD_MAX {
            old.swap_remove(random.below(old.len() as u64) as usize);
        }
    }
}

/// The faults are over: what must happen now, within [`HEALED_MAX`]. Returns whether it did; with
/// too much damage it need not.
fn heal(cores: &mut Cores) -> bool {
    cores.links().heal();
    let ids = cores.ids();
    let end = cores.now() + HEALED_MAX;
    let mut committed = None;
    loop {
        if end <= cores.now() {
            assert!(is_blocked(cores), "liveness: healed, and at odds after {HEALED_MAX:?}");
            return false;
        }
        // Who lacks entries waits until the others know them.
        ids.iter().for_each(|id| cores.restart(*id));
        cores.run(Duration::from_millis(50));
        let leader = ids
            .iter()
            .copied()
            .find(|id| cores.has_room(*id) && cores.view(*id).is_some_and(|view| view.ready));
        if committed.is_none() {
            let Some(leader) = leader else { continue };
            let learned = cores.checks().learned();
            if cores.propose(leader, "fresh") {
                ids.iter().for_each(|id| assert!(cores.read(*id) > 0));
                committed = Some(learned);
            }
            continue;
        }
        let count = cores.chosen(ids[0]).len();
        let equal = ids.iter().all(|id| cores.chosen(*id).len() == count);
        let reads = ids.iter().map(|id| cores.checks().reads_waiting(*id)).sum::<usize>();
        let fresh = cores
            .chosen(ids[0])
            .iter()
            .any(|entry| entry.commands().any(|command| command == b"fresh"));
        if equal && reads == 0 && fresh {
            return true;
        }
        if leader.is_some() && !fresh && committed.is_some_and(|slot| slot.0 + 64 < count as u64) {
            committed = None;
        }
    }
}

/// The cluster at the end, and whether it healed.
fn run(seed: u64, traces: bool) -> (Cores, bool) {
    let mut random = Random(seed);
    let mut cluster = cluster(seed, &mut random);
    cluster.traces = traces;
    cluster.traces_heartbeats = traces;
    let weights = Weights::draw(&mut random);
    let steps = 200 + random.below(1800);
    let mut cores = Cores::new(cluster);
    let (mut proposed, mut old) = (0, Vec::new());
    // The trace is kept outside, so that it survives the panic.
    let result = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..steps {
            act(&mut cores, &mut random, &weights, &mut proposed, &mut old);
        }
        heal(&mut cores)
    }));
    let healed = result.unwrap_or_else(|panic| {
        if traces {
            let trace = cores.take_trace();
            let lines = std::env::var("LINES").ok().and_then(|lines| lines.parse().ok());
            let skip = trace.len().saturating_sub(lines.unwrap_or(80));
            trace[skip..].iter().for_each(|line| eprintln!("{line}"));
            for id in cores.ids() {
                eprintln!("{id}: {:?}", cores.view(id));
            }
            eprintln!("seed {seed}");
        }
        std::panic::resume_unwind(panic);
    });
    (cores, healed)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn random_schedules_keep_every_invariant() {
    let base = number("BASE", 0);
    let (mut learned, mut blocked) = (0, 0);
    let seeds = number("SEEDS", 2000);
    for seed in base..base + seeds {
        match catch_unwind(|| run(seed, false)) {
            Ok((cores, healed)) => {
                learned += cores.checks().learned().0;
                blocked += u64::from(!healed);
            }
            // Again, with the trace.
            Err(_) => {
                run(seed, true);
                panic!("seed {seed} fails only without a trace");
            }
        }
    }
    eprintln!("{learned} slots chosen, {blocked} of {seeds} clusters blocked by damage");
    assert!(blocked * 10 <= seeds, "{blocked} of {seeds} clusters are blocked by damage");
    assert!(learned > 0, "nothing was ever chosen");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..20 {
        let trace = || run(seed, true).0.take_trace();
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}
