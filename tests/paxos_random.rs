//! Random schedules over the protocol cores: everything that a network, a disk and a clock may do,
//! in any order, with every invariant checked on every step; then the faults end, and the cluster
//! must agree, commit something new, and serve reads in bounded time.
//!
//! What a schedule is: `src/sim/schedule.rs`. `SEEDS=100000 BASE=1 cargo test --release --test
//! paxos_random` runs more of them. A seed that fails is run again with its trace, whose tail is
//! printed (`LINES=200`).

use indelible::sim::schedule;

#[test]
fn random_schedules_keep_every_invariant() {
    let (base, seeds) = (number("BASE", 0), number("SEEDS", 2000));
    let (mut learned, mut blocked) = (0, 0);
    for seed in base..base + seeds {
        let ended = schedule::run(seed, 0);
        if ended.violation.is_some() {
            let again = schedule::run(seed, number("LINES", 80) as usize);
            again.trace.iter().for_each(|line| eprintln!("{line}"));
        }
        assert_eq!(ended.violation, None, "seed {seed}");
        learned += ended.learned;
        blocked += u64::from(!ended.healed);
    }
    eprintln!("{learned} slots chosen, {blocked} of {seeds} clusters blocked by damage");
    assert!(blocked * 10 <= seeds, "{blocked} of {seeds} clusters are blocked by damage");
    assert!(learned > seeds, "{learned} slots chosen in {seeds} schedules prove nothing");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..20 {
        let trace = || schedule::run(seed, usize::MAX).trace;
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
