//! Random lives of a journal: appends, writes under way together, failed syncs, crashes at any
//! moment, damage; what a frontier covered is found again or named as lost, and the promise never
//! goes back.
//!
//! What a life is: `src/sim/lives.rs`, and `src/sim/lives/member.rs` where others choose, too.
//! `SEEDS=100000 BASE=1 cargo test --release --test journal_crashes` runs more of them. A seed that
//! fails is printed with what happened; make it a script.

use indelible::sim::checkers::Violation;
use indelible::sim::lives;

#[test]
fn nothing_acknowledged_is_lost_or_passed_over() {
    live(lives::run);
}

#[test]
fn nothing_a_member_must_not_forget_is_forgotten() {
    live(lives::run_member);
}

#[test]
fn nothing_is_forgotten_where_openings_do_not_end_on_damaged_media() {
    live(lives::run_harsh_member);
}

/// Runs the lives of the seeds, and says what happened in the first one that breaks something.
#[track_caller]
fn live(run: impl Fn(u64, bool) -> (Option<Violation>, Vec<String>)) {
    let base = number("BASE", 0);
    for seed in base..base + number("SEEDS", 500) {
        if let (Some(violation), _) = run(seed, false) {
            run(seed, true).1.iter().for_each(|line| eprintln!("{line}"));
            panic!("seed {seed}: {violation}");
        }
    }
}

/// Lives that once found something. Each has a script by now, or changed what a life does.
const FOUND: [u64; 11] = [
    9_260, 9_001_007, 9_002_017, 9_007_632, 9_015_261, 9_025_745, 9_070_519, 9_078_165, 9_088_165,
    13_008_914, 14_031_768,
];

/// The same of lives of a member; 105,157 and 105,520 have no script yet.
const FOUND_OF_MEMBERS: [u64; 10] = [
    105_157, 105_520, 40_017_873, 50_023_775, 60_008_000, 60_016_838, 60_038_265, 62_045_870,
    63_072_769, 63_807_101,
];

#[test]
fn what_lives_once_found_is_right() {
    for seed in FOUND {
        assert_eq!(lives::run(seed, false).0, None, "seed {seed}");
    }
    for seed in FOUND_OF_MEMBERS {
        assert_eq!(lives::run_member(seed, false).0, None, "seed {seed}");
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
