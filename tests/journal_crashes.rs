//! Random lives of a journal: appends, writes under way together, failed syncs, crashes at any
//! moment, damage; what a frontier covered is found again or named as lost, and the promise never
//! goes back.
//!
//! What a life is: `src/sim/lives.rs`. `SEEDS=100000 BASE=1 cargo test --release --test
//! journal_crashes` runs more of them. A seed that fails is printed with what happened; make it a
//! script.

use indelible::sim::lives;

#[test]
fn nothing_acknowledged_is_lost_or_passed_over() {
    let base = number("BASE", 0);
    for seed in base..base + number("SEEDS", 500) {
        if let (Some(violation), _) = lives::run(seed, false) {
            lives::run(seed, true).1.iter().for_each(|line| eprintln!("{line}"));
            panic!("seed {seed}: {violation}");
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
