//! The configurations: what is explored, how many states there are, and what must fail.
//!
//! The number of states is exact: it does not depend on the order in which they are found, nor on
//! how many threads look. A change to the core that moves it is a change to what the core can do.

use std::time::Instant;

use indelible::types::bugs as core;
use serde_json::{Value, json};
use stateright::{Checker, HasDiscoveries, Model};

use crate::bugs::Bug;
use crate::cluster::Cluster;
use crate::settings::{Heartbeats, Settings};

/// So many states are explored with every change.
const SMALL_STATES_MAX: usize = 1_000_000;

/// A configuration that must hold.
#[derive(Clone, Debug)]
pub struct Sound {
    /// What is explored.
    pub settings: Settings,
    /// How many states there are.
    pub expected: usize,
}

/// A mistake, and a configuration in which it shows.
#[derive(Clone, Debug)]
pub struct Unsound {
    /// What is explored.
    pub settings: Settings,
    /// How many steps the shortest way to a violation takes.
    pub expected: usize,
}

/// How an exploration ended.
#[derive(Clone, Debug)]
pub struct Report {
    /// One line of JSON.
    pub line: Value,
    /// Whether it is as expected.
    pub passed: bool,
    /// The steps to each violation.
    pub violations: Vec<(String, Vec<String>)>,
}

/// Explores everything, with so many threads.
#[must_use]
pub fn explore(sound: &Sound, threads: usize) -> Report {
    let began = Instant::now();
    let checker = Cluster::new(sound.settings.clone()).checker().threads(threads);
    let checker = checker.finish_when(HasDiscoveries::Any).spawn_bfs().join();
    let violations = violations(&checker);
    let unique = checker.unique_state_count();
    let passed = violations.is_empty() && unique == sound.expected;
    let (replicas, letters) = checker.model().met();
    let line = json!({
        "name": sound.settings.name,
        "unique_states": unique,
        "total_states": checker.state_count(),
        "depth": checker.max_depth(),
        "seconds": began.elapsed().as_secs_f64(),
        "expected": sound.expected,
        "replica_states": replicas,
        "letters": letters,
        "holds": violations.is_empty(),
    });
    Report { line, passed, violations }
}

/// Looks for the shortest way to a violation. One thread: only then is the first one found the
/// shortest.
#[must_use]
pub fn refute(unsound: &Unsound) -> Report {
    let began = Instant::now();
    let checker = Cluster::new(unsound.settings.clone()).checker();
    let checker = checker.finish_when(HasDiscoveries::Any).spawn_bfs().join();
    let violations = violations(&checker);
    let steps = violations.iter().map(|(_, steps)| steps.len()).min();
    let line = json!({
        "name": unsound.settings.name,
        "unique_states": checker.unique_state_count(),
        "total_states": checker.state_count(),
        "seconds": began.elapsed().as_secs_f64(),
        "violated": violations.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        "steps": steps,
        "expected": unsound.expected,
        "holds": violations.is_empty(),
    });
    Report { line, passed: steps == Some(unsound.expected), violations }
}

fn violations(checker: &impl Checker<Cluster>) -> Vec<(String, Vec<String>)> {
    let discoveries = checker.discoveries();
    let mut violations: Vec<_> = discoveries
        .into_iter()
        .map(|(name, path)| {
            let actions = path.into_actions();
            let steps = actions.iter().map(|action| checker.model().describe(action)).collect();
            (name.to_owned(), steps)
        })
        .collect();
    violations.sort();
    violations
}

/// What must hold, all of it.
#[must_use]
pub fn full() -> Vec<Sound> {
    let sound = |expected, settings| Sound { settings, expected };
    let three = |settings| Settings { campaigns: [2, 1, 0], campaigns_max: 3, ..settings };
    let crash = |crashes: [u8; 3], settings| Settings {
        crashes,
        crashes_max: 1,
        syncs: crashes.map(|crashes| crashes > 0),
        ..settings
    };
    let lossy = Settings::new;
    let heard = |name| Settings { heartbeats: Heartbeats::OfLeaders, ..Settings::new(name, 1) };
    let reads = |reads, settings| Settings { reads, ..settings };
    vec![
        sound(0, lossy("a: 1 slot, 2 ballots", 1)),
        sound(0, three(lossy("a: 1 slot, 3 ballots", 1))),
        sound(0, heard("a: 1 slot, 2 ballots, heartbeats of leaders")),
        sound(0, lossy("a: 2 slots, 2 ballots", 2)),
        sound(0, Settings { alpha: 1, ..lossy("a: 2 slots, 2 ballots, alpha 1", 2) }),
        sound(0, Settings { campaigns_max: 1, ..lossy("a: 2 slots, 1 ballot", 2) }),
        sound(0, reads([1, 0, 0], lossy("a: 1 slot, 2 ballots, 1 read", 1))),
        sound(0, crash([0, 0, 1], lossy("b: a voter crashes", 1))),
        sound(0, crash([1, 0, 0], lossy("b: the first proposer crashes", 1))),
        sound(0, crash([0, 1, 0], lossy("b: the second proposer crashes", 1))),
        sound(0, crash([1, 1, 1], lossy("b: anyone crashes", 1))),
        sound(0, Settings { syncs: [false; 3], ..crash([1, 1, 1], lossy("b: anyone crashes, syncs at once", 1)) }),
        sound(0, crash([1, 0, 0], Settings { campaigns: [2, 0, 0], ..lossy("b: a proposer crashes and comes back", 1) })),
    ]
}

/// What must hold, small enough for every change: some seconds.
#[must_use]
pub fn small() -> Vec<Sound> {
    full().into_iter().filter(|sound| sound.expected <= SMALL_STATES_MAX).collect()
}

/// What must fail.
#[must_use]
pub fn must_fail() -> Vec<Unsound> {
    let lossy = |name, slots| Settings { heartbeats: Heartbeats::None, ..Settings::new(name, slots) };
    let crashing = |name: &'static str, crashes: [u8; 3]| Settings {
        crashes,
        crashes_max: 1,
        syncs: crashes.map(|crashes| crashes > 0),
        ..Settings::new(name, 1)
    };
    let bug = |bug: Bug, expected: usize, settings: Settings| Unsound {
        settings: Settings { bug: Some(bug), forgets_stale: false, ..settings },
        expected,
    };
    vec![
        bug(Bug::AckBeforeDurable, 0, crashing("vote acknowledged before durable", [0, 0, 1])),
        bug(Bug::PromiseBeforeDurable, 0, crashing("promise answered before durable", [0, 0, 1])),
        bug(
            Bug::BallotReused,
            0,
            Settings {
                campaigns: [2, 0, 0],
                ..crashing("ballot reused after a restart", [1, 0, 0])
            },
        ),
        bug(
            Bug::CurrentPromiseStamped,
            0,
            Settings {
                campaigns: [2, 1, 0],
                campaigns_max: 3,
                syncs: [false, false, true],
                ..lossy("acknowledgement stamped with the current promise", 1)
            },
        ),
        bug(
            Bug::DuplicateAckedBeforeSync,
            0,
            Settings {
                retransmits: true,
                ..crashing("duplicate acknowledged before its sync", [0, 0, 1])
            },
        ),
        bug(
            Bug::ReopenWithoutSync,
            0,
            Settings {
                crashes: [0, 0, 2],
                crashes_max: 2,
                ..crashing("reopened without a sync of what was read", [0, 0, 2])
            },
        ),
        bug(Bug::PromiseForgotten, 0, crashing("promise forgotten", [0, 0, 1])),
        bug(
            Bug::ForgetfulSkipsPhase1,
            0,
            crashing("who forgot a promise skips only phase 1", [0, 0, 1]),
        ),
        bug(
            Bug::OlderCopy,
            0,
            Settings {
                campaigns: [2, 1, 0],
                campaigns_max: 3,
                ..crashing("an older copy of a vote vouched for", [0, 0, 1])
            },
        ),
        bug(Bug::ChosenAnsweredNone, 0, lossy("a chosen slot answered none", 1)),
        bug(
            Bug::LongestLog,
            0,
            Settings { campaigns: [2, 1, 0], campaigns_max: 3, ..lossy("longest log", 2) },
        ),
        bug(Bug::SmallPhase1, 0, lossy("phase1 + phase2 = voters", 1)),
        bug(
            Bug::OtherBallotsCounted,
            0,
            Settings {
                campaigns: [2, 1, 0],
                campaigns_max: 3,
                ..lossy("votes of other ballots counted", 1)
            },
        ),
        bug(
            Bug::WatermarkBelieved,
            0,
            Settings { heartbeats: Heartbeats::OfLeaders, ..lossy("watermark believed", 1) },
        ),
        bug(Bug::BeyondAlpha, 0, Settings { alpha: 1, ..lossy("proposed beyond alpha", 2) }),
        bug(Bug::NonceReused, 0, Settings { reads: [2, 0, 0], ..lossy("nonce reused", 1) }),
        bug(
            Bug::SmallConfirmation,
            0,
            Settings { reads: [1, 0, 0], ..lossy("confirmed by too few", 1) },
        ),
        bug(
            Bug::Core(core::Bug::AckBeforeSync),
            0,
            crashing("core", [0, 0, 1]),
        ),
    ]
}
