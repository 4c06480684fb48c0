//! The configurations: what is explored, how many states there are, and what must fail.
//!
//! The number of states is exact: it does not depend on the order in which they are found, nor on
//! how many threads look. A change to the core that moves it is a change to what the core can do.

use std::time::Instant;

use indelible::types::bugs as core;
use indelible::types::message::Doubt;
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

/// Looks for the shortest way to a violation.
///
/// The search goes through the states in order of their distance, and stops some states after the
/// first violation, of which it tells the last. So it is asked for ever shorter ones, until there
/// is none.
#[must_use]
pub fn refute(unsound: &Unsound) -> Report {
    let began = Instant::now();
    let (mut violations, mut unique, mut total) = (Vec::new(), 0, 0);
    let mut limit = usize::MAX;
    loop {
        let checker = Cluster::new(unsound.settings.clone()).checker().target_max_depth(limit);
        let checker = checker.finish_when(HasDiscoveries::Any).spawn_bfs().join();
        let found = self::violations(&checker);
        let Some(shortest) = found.iter().map(|(_, steps)| steps.len()).min() else { break };
        (unique, total) = (checker.unique_state_count(), checker.state_count());
        violations = found;
        // A state behind n steps has depth n + 1; those of depth `limit` are not looked at.
        limit = shortest + 1;
    }
    let steps = violations.iter().map(|(_, steps)| steps.len()).min();
    let line = json!({
        "name": unsound.settings.name,
        "unique_states": unique,
        "total_states": total,
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
    let four = |settings| Settings { campaigns: [2, 2, 0], campaigns_max: 4, ..settings };
    let heard = |settings| Settings { heartbeats: Heartbeats::OfLeaders, ..settings };
    let all_heard = |settings| Settings { heartbeats: Heartbeats::All, ..settings };
    let retransmits = |settings| Settings { retransmits: true, ..settings };
    let syncs = |settings| Settings { syncs: [true; 3], ..settings };
    let damaged = |damages, settings| Settings { damages_max: 1, damages, ..settings };
    let faulty = |settings| damaged(&[Doubt::Faulty], settings);
    let uncertain = |settings| Settings { tears: true, ..damaged(&[Doubt::Uncertain], settings) };
    let twice = |settings| Settings { crashes_max: 2, ..settings };
    let at_once = |settings| Settings { syncs: [false; 3], ..settings };
    let lossy = Settings::new;
    let reads = |reads, settings| Settings { reads, ..settings };
    vec![
        sound(0, lossy("a: 1 slot, 2 ballots", 1)),
        sound(0, three(lossy("a: 1 slot, 3 ballots", 1))),
        sound(0, four(lossy("a: 1 slot, 4 ballots", 1))),
        sound(0, syncs(lossy("a: 1 slot, 2 ballots, late syncs", 1))),
        sound(0, heard(lossy("a: 1 slot, 2 ballots, heartbeats of leaders", 1))),
        sound(0, all_heard(lossy("a: 1 slot, 2 ballots, all heartbeats", 1))),
        sound(0, retransmits(heard(lossy("a: 1 slot, 2 ballots, heartbeats, retransmission", 1)))),
        sound(0, lossy("a: 2 slots, 2 ballots", 2)),
        sound(0, Settings { alpha: 1, ..lossy("a: 2 slots, 2 ballots, alpha 1", 2) }),
        sound(0, retransmits(lossy("a: 2 slots, 2 ballots, retransmission", 2))),
        sound(0, heard(lossy("a: 2 slots, 2 ballots, heartbeats of leaders", 2))),
        sound(0, three(lossy("a: 2 slots, 3 ballots", 2))),
        sound(0, reads([1, 0, 0], lossy("a: reads at the first proposer", 1))),
        sound(0, reads([2, 0, 0], lossy("a: two reads at the first proposer", 1))),
        sound(0, reads([0, 0, 1], lossy("a: reads at a follower", 1))),
        sound(0, crash([0, 0, 1], lossy("b: a voter crashes", 1))),
        sound(0, crash([1, 0, 0], lossy("b: the first proposer crashes", 1))),
        sound(0, syncs(crash([1, 1, 1], lossy("b: anyone crashes", 1)))),
        sound(0, twice(syncs(crash([2, 2, 2], lossy("b: two crashes", 1))))),
        sound(0, three(at_once(crash([1, 1, 1], lossy("b: 3 ballots, no late syncs", 1))))),
        sound(0, three(syncs(crash([1, 1, 1], lossy("b: 3 ballots", 1))))),
        sound(0, heard(syncs(crash([1, 1, 1], lossy("b: heartbeats of leaders", 1))))),
        sound(0, crash([0, 0, 1], lossy("b: a voter crashes, 2 slots", 2))),
        sound(0, faulty(crash([0, 0, 1], lossy("c: a voter's slot is FAULTY", 1)))),
        sound(0, faulty(syncs(crash([1, 1, 1], lossy("c: anyone's slot is FAULTY", 1))))),
        sound(0, uncertain(syncs(crash([1, 1, 1], lossy("c: anyone's slot is UNCERTAIN", 1))))),
        sound(0, three(at_once(faulty(crash([1, 1, 1], lossy("c: FAULTY, 3 ballots", 1)))))),
        sound(0, heard(faulty(syncs(crash([1, 1, 1], lossy("c: FAULTY, heartbeats", 1)))))),
        sound(
            0,
            Settings {
                damages_max: 2,
                ..twice(at_once(faulty(crash([2, 2, 2], lossy("c: two slots FAULTY", 1)))))
            },
        ),
        sound(0, faulty(at_once(crash([1, 1, 1], lossy("c: FAULTY, 2 slots, no late syncs", 2))))),
        sound(0, faulty(crash([0, 0, 1], lossy("c: a voter's slot is FAULTY, 2 slots", 2)))),
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
    [storage_must_not(), protocol_must_not(), reads_must_not(), core_must_not()].concat()
}

/// Mistakes around a core: what is durable when.
fn storage_must_not() -> Vec<Unsound> {
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
                campaigns: [2, 0, 0],
                syncs: [true, false, true],
                ..crashing("acknowledgement stamped with the current promise", [1, 0, 0])
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
                crashes_max: 2,
                syncs: [true, false, false],
                ..crashing("an older copy of a vote vouched for", [1, 0, 1])
            },
        ),
    ]
}

/// Mistakes around a core: what is said and counted.
fn protocol_must_not() -> Vec<Unsound> {
    vec![
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
                campaigns: [2, 0, 0],
                ..crashing("votes of other ballots counted", [1, 0, 0])
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
            Bug::FaultyAnsweredNone,
            0,
            Settings {
                damages_max: 1,
                damages: &[Doubt::Faulty],
                ..crashing("FAULTY answered none", [0, 0, 1])
            },
        ),
        bug(
            Bug::LateSettled,
            0,
            Settings {
                crashes_max: 2,
                damages_max: 1,
                damages: &[Doubt::Faulty],
                tears: true,
                heartbeats: Heartbeats::OfLeaders,
                ..crashing("an answer to an earlier opening settles doubts", [0, 0, 2])
            },
        ),
    ]
}

/// Mistakes within a core: reads.
fn reads_must_not() -> Vec<Unsound> {
    vec![
        inner(core::Bug::ReadBeforeReady, reading("reads with no gate")),
        inner(
            core::Bug::ReadyAtFirstEntry,
            Settings { slots: 2, alpha: 2, ..reading("gate: some entry at the own ballot") },
        ),
        inner(core::Bug::ReadUnconfirmed, reading("reads without confirmation")),
        inner(core::Bug::SmallConfirm, reading("core: confirmed by too few")),
        inner(core::Bug::ConfirmDeposed, reading("a deposed leader is confirmed")),
        inner(
            core::Bug::ReadJoinsRound,
            Settings { reads: [2, 0, 0], ..reading("a read joins a round") },
        ),
        inner(
            core::Bug::NonceReused,
            Settings { reads: [2, 0, 0], ..reading("core: nonce reused") },
        ),
    ]
}

/// Mistakes within a core: both phases.
fn core_must_not() -> Vec<Unsound> {
    vec![
        inner(core::Bug::AdoptFirstVote, three(lossy("the first vote told is adopted", 1))),
        inner(core::Bug::FillHoleEarly, lossy("a hole filled early", 1)),
        inner(
            core::Bug::CommitWithoutMatch,
            Settings { heartbeats: Heartbeats::OfLeaders, ..lossy("core: watermark believed", 1) },
        ),
        inner(core::Bug::SmallPhase2, lossy("chosen one vote too early", 1)),
        inner(
            core::Bug::CountTwice,
            Settings { syncs: [true, false, false], ..lossy("a vote counted twice", 1) },
        ),
        inner(core::Bug::VoteBelowPromise, lossy("a vote below the promise", 1)),
        inner(core::Bug::VotesNotRecovered, crashing("votes forgotten", [0, 0, 1])),
        inner(core::Bug::PromiseWithoutChosen, lossy("core: a chosen slot answered none", 1)),
        inner(core::Bug::AdoptLongestLog, three(lossy("core: longest log", 2))),
        inner(core::Bug::SmallPhase1, lossy("core: phase1 + phase2 = voters", 1)),
        inner(core::Bug::AnswerNone, damaged(crashing("core: FAULTY answered none", [0, 0, 1]))),
        inner(
            core::Bug::AdoptBelowAbstainer,
            damaged(three(crashing("what is left counts as a vote", [0, 0, 1]))),
        ),
        inner(
            core::Bug::CountFaulty,
            Settings {
                damages_max: 2,
                crashes_max: 2,
                syncs: [false; 3],
                ..damaged(crashing("FAULTY counts as UNCERTAIN", [1, 0, 1]))
            },
        ),
    ]
}

fn lossy(name: &'static str, slots: u64) -> Settings {
    Settings { heartbeats: Heartbeats::None, ..Settings::new(name, slots) }
}

fn crashing(name: &'static str, crashes: [u8; 3]) -> Settings {
    Settings {
        crashes,
        crashes_max: 1,
        syncs: crashes.map(|crashes| crashes > 0),
        ..Settings::new(name, 1)
    }
}

fn three(settings: Settings) -> Settings {
    Settings { campaigns: [2, 1, 0], campaigns_max: 3, ..settings }
}

fn damaged(settings: Settings) -> Settings {
    Settings { damages_max: 1, damages: &[Doubt::Faulty], ..settings }
}

fn reading(name: &'static str) -> Settings {
    Settings { reads: [1, 0, 0], ..lossy(name, 1) }
}

fn bug(bug: Bug, expected: usize, settings: Settings) -> Unsound {
    let settings = Settings { bug: Some(bug), forgets_stale: !bug.revives_ballots(), ..settings };
    Unsound { settings, expected }
}

fn inner(inner: core::Bug, settings: Settings) -> Unsound {
    bug(Bug::Core(inner), 0, settings)
}
