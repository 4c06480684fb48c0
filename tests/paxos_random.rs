//! Random schedules over the protocol cores: everything that a network, a disk and a clock may do,
//! in any order, with every invariant checked on every step; then the faults end, and the cluster
//! must agree, commit something new, and serve reads in bounded time.
//!
//! `SEEDS=100000 BASE=1 cargo test --release --test paxos_random` runs more of them. A seed that
//! fails is run again with its trace, whose tail is printed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use indelible::sim::cluster::Cluster;
use indelible::sim::cores::Cores;
use indelible::sim::links::Link;
use indelible::types::message::Message;

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
}

impl Weights {
    fn draw(random: &mut Random) -> Self {
        let mut rare = |most: u64| if random.of_100(50) { random.below(most + 1) } else { 0 };
        Self {
            deliver: 300,
            reorder: rare(200),
            lose: rare(60),
            duplicate: rare(60),
            sync: 60 + rare(100),
            propose: 20 + rare(40),
            read: 3 + rare(10),
            time: 20 + rare(60),
            crash: rare(8),
            restart: 8,
            cut: rare(8),
            mend: 6,
            campaign: rare(4),
            replay: rare(20),
            peer_down: rare(4),
        }
    }

    fn all(&self) -> [u64; 15] {
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
    let shapes = [(3, 2, 2), (3, 2, 2), (5, 3, 3), (5, 3, 3), (4, 3, 2), (3, 3, 1), (5, 4, 2)];
    let (count, phase1, phase2) = random.pick(&shapes);
    let mut cluster = Cluster::flexible(count, phase1, phase2, random.pick(&[2, 4, 64]));
    cluster.seed = seed;
    cluster.inflight_slots_max = cluster.membership.alpha().min(random.pick(&[2, 16]));
    cluster.message_bytes_max = random.pick(&[20, 64, 4096]);
    cluster.remembers_chosen = random.of_100(50);
    cluster
}

/// A message at random, near the front of its link more often than not.
fn message(cores: &mut Cores, random: &mut Random, in_order: bool) -> Option<(Link, usize)> {
    let waiting = cores.links().waiting().collect::<Vec<_>>();
    if waiting.is_empty() {
        return None;
    }
    let (link, count) = random.pick(&waiting);
    Some((link, if in_order { 0 } else { random.below(count as u64) as usize }))
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
            if let Some((link, index)) = message(cores, random, true) {
                cores.deliver_at(link, index);
            }
        }
        1 => {
            if let Some((link, index)) = message(cores, random, false) {
                cores.deliver_at(link, index);
            }
        }
        2 => {
            if let Some((link, index)) = message(cores, random, false) {
                drop(cores.links().take_at(link, index));
            }
        }
        3 => duplicate(cores, random, old),
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
        _ => cores.peer_down(id, other),
    }
}

/// Sends a message twice, and keeps it for much later.
fn duplicate(cores: &mut Cores, random: &mut Random, old: &mut Vec<(Link, Message)>) {
    if let Some((link, index)) = message(cores, random, false) {
        cores.links().copy_at(link, index);
        let copy = cores.links().peek_at(link, index).cloned();
        old.extend(copy.map(|message| (link, message)));
        if old.len() > OLD_MAX {
            old.swap_remove(random.below(old.len() as u64) as usize);
        }
    }
}

/// The faults are over: what must happen now, within [`HEALED_MAX`].
fn heal(cores: &mut Cores) {
    cores.links().heal();
    let ids = cores.ids();
    for id in &ids {
        cores.restart(*id);
    }
    let end = cores.now() + HEALED_MAX;
    let mut committed = None;
    loop {
        assert!(cores.now() < end, "liveness: healed, and not in agreement after {HEALED_MAX:?}");
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
            return;
        }
        if leader.is_some() && !fresh && committed.is_some_and(|slot| slot.0 + 64 < count as u64) {
            committed = None;
        }
    }
}

fn run(seed: u64, traces: bool) -> Cores {
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
        heal(&mut cores);
    }));
    if let Err(panic) = result {
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
    }
    cores
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn random_schedules_keep_every_invariant() {
    let base = number("BASE", 0);
    let mut learned = 0;
    for seed in base..base + number("SEEDS", 2000) {
        match catch_unwind(|| run(seed, false)) {
            Ok(cores) => learned += cores.checks().learned().0,
            // Again, with the trace.
            Err(_) => {
                run(seed, true);
                panic!("seed {seed} fails only without a trace");
            }
        }
    }
    eprintln!("{learned} slots chosen");
    assert!(learned > 0, "nothing was ever chosen");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..20 {
        assert_eq!(run(seed, true).take_trace(), run(seed, true).take_trace(), "seed {seed}");
    }
}
