//! Explores a configuration to its end, or looks for the shortest way to a violation.
//!
//! The number of states is exact: it does not depend on the order in which they are found, nor on
//! how many threads look. A change to the core that moves it is a change to what the core can do.

use std::time::Instant;

use serde_json::{Value, json};
use stateright::{Checker, HasDiscoveries, Model};

use crate::cluster::Cluster;
use crate::settings::Settings;

/// How many states are met, again and again, before a search ends that is too large: some minutes,
/// and some GiB.
const DEEP_STATES_MAX: usize = 40_000_000;

/// A configuration that must hold.
#[derive(Clone, Debug)]
pub struct Sound {
    /// What is explored.
    pub settings: Settings,
    /// How many states there are; `None` where it is too large to be explored to its end.
    pub expected: Option<usize>,
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
    /// How many states were met.
    pub unique_states: usize,
    /// Whether it is as expected.
    pub passed: bool,
    /// The steps to each violation.
    pub violations: Vec<(String, Vec<String>)>,
}

/// Explores everything, or as much as is affordable, with so many threads.
#[must_use]
pub fn explore(sound: &Sound, threads: usize) -> Report {
    let began = Instant::now();
    let mut checker = Cluster::new(sound.settings.clone()).checker().threads(threads);
    if sound.expected.is_none() {
        checker = checker.target_state_count(DEEP_STATES_MAX);
    }
    let checker = checker.finish_when(HasDiscoveries::Any).spawn_bfs().join();
    let violations = violations(&checker);
    let unique = checker.unique_state_count();
    let established = checker.model().said_established();
    let passed = violations.is_empty()
        && sound.expected.is_none_or(|expected| unique == expected)
        && (sound.expected.is_none() || established == sound.settings.establishes());
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
        "established": established,
        "holds": violations.is_empty(),
    });
    Report { line, unique_states: unique, passed, violations }
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
    let passed = steps == Some(unsound.expected);
    Report { line, unique_states: unique, passed, violations }
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
