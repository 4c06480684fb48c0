//! Every seeded bug is noticed: a run of the swarm in which it is, and which is right without it.
//!
//! A bug that no checker notices would mean that the swarm proves nothing about that kind of
//! mistake. `indelible sim hunt` finds the seeds; how long that takes is in its output. Bugs for
//! which chance needs too long are shown by scripts (`tests/paxos.rs`, `tests/journal.rs`).

use std::collections::BTreeSet;

use indelible::sim::swarm::{self, Limits};
use indelible::types::bugs::{self, Bug};

/// A seed that notices each bug.
const NOTICED: &[(Bug, u64)] = &[
    (Bug::AckBeforeSync, 0),
    (Bug::AckDuplicateEarly, 0),
    (Bug::AckCurrentPromise, 2),
    (Bug::PromiseBeforeSync, 0),
    (Bug::PrepareBeforeSync, 0),
    (Bug::ReuseBallot, 55),
    (Bug::PromiseNotRecovered, 1),
    (Bug::VotesNotRecovered, 1),
    (Bug::VoteBelowPromise, 0),
    (Bug::PromiseWithoutChosen, 0),
    (Bug::CountTwice, 0),
    (Bug::SmallPhase1, 1),
    (Bug::SmallPhase2, 0),
    (Bug::AdoptLongestLog, 23),
    (Bug::FillHoleEarly, 0),
    (Bug::CommitWithoutMatch, 1),
    (Bug::ProgressGoesBack, 0),
    (Bug::ChosenNotJournaled, 2),
    (Bug::ReadBeforeReady, 2),
    (Bug::ReadJoinsRound, 21),
    (Bug::ReadBeforeApply, 0),
    (Bug::CompareAtLeast, 0),
    (Bug::TombstonePresent, 0),
    (Bug::ApplyFirstOnly, 0),
    (Bug::IdForNothing, 0),
    (Bug::ApplyByBoot, 0),
    (Bug::VerdictOfOther, 0),
    (Bug::UnknownToldAsFailed, 0),
    (Bug::QueueChosenAgain, 0),
    (Bug::BounceTaken, 0),
    (Bug::TakeForwardTwice, 1),
    (Bug::SkipDirectorySync, 0),
    (Bug::RetrySync, 6),
    (Bug::TailNotRewritten, 1),
    (Bug::EvidenceEarly, 45),
    (Bug::PayloadUnchecked, 16),
    (Bug::HeaderUnchecked, 95),
    (Bug::CutAtBadGroup, 1),
];

/// Bugs that scripts notice, and the swarm seldom.
const SCRIPTED: &[Bug] = &[
    Bug::VoteOfOtherBallot,
    Bug::AdoptBelowAbstainer,
    Bug::AnswerNone,
    Bug::CountFaulty,
    Bug::AmnesiaVotes,
    Bug::LeadOverruled,
    Bug::ReadUnconfirmed,
    Bug::SmallConfirm,
    Bug::NonceReused,
    Bug::SyncAlone,
    Bug::CountBeforeSync,
    Bug::ServeOldFrame,
    Bug::ZerosEndJournal,
    Bug::BestPromiseLeft,
    Bug::DoubtsForgotten,
];

/// Bugs that nothing has noticed yet: they are still to be hunted.
const UNNOTICED: &[Bug] = &[
    Bug::PromiseOfOtherBallot,
    Bug::AdoptFirstVote,
    Bug::ReadyAtFirstEntry,
    Bug::ConfirmDeposed,
    Bug::AnswerToEarlierLife,
];

/// Makes a mistake until it goes out of scope.
struct Made;

impl Made {
    fn of(bug: Bug) -> Self {
        bugs::switch(Some(bug));
        Self
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        bugs::switch(None);
    }
}

/// Every fourth bug, so that the tests run beside each other.
fn notice(part: usize) {
    let limits = Limits::default();
    let share = NOTICED.iter().skip(part).step_by(PARTS);
    for (bug, seed) in share.clone() {
        let made = Made::of(*bug);
        let violation = swarm::run(*seed, &limits).violation;
        drop(made);
        assert!(violation.is_some(), "seed {seed} does not notice {}", bug.name());
    }
    for seed in share.map(|(_, seed)| *seed).collect::<BTreeSet<_>>() {
        let violation = swarm::run(seed, &limits).violation;
        assert!(violation.is_none(), "seed {seed} is wrong without a bug: {violation:?}");
    }
}

const PARTS: usize = 4;

#[test]
fn bugs_are_noticed_1() {
    notice(0);
}

#[test]
fn bugs_are_noticed_2() {
    notice(1);
}

#[test]
fn bugs_are_noticed_3() {
    notice(2);
}

#[test]
fn bugs_are_noticed_4() {
    notice(3);
}

#[test]
fn no_bug_is_left_out() {
    let seeds = NOTICED.iter().map(|(bug, _)| *bug);
    let shown = seeds.chain(SCRIPTED.iter().copied()).chain(UNNOTICED.iter().copied());
    let shown: BTreeSet<Bug> = shown.collect();
    let left = Bug::ALL.iter().filter(|bug| !shown.contains(bug)).map(|bug| bug.name());
    assert_eq!(left.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn names_are_unique_and_found() {
    for bug in Bug::ALL {
        assert_eq!(Bug::named(bug.name()), Some(*bug));
    }
}
