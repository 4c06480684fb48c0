//! Every seeded bug is noticed: a seed of an arena in which it is, and which is right without it.
//!
//! A bug that no checker notices would mean that the simulator proves nothing about that kind of
//! mistake. `indelible sim hunt --bug all` finds the seeds, anew where what is simulated changes;
//! how many it takes is in its output. Scripts tell the story of some (`tests/paxos.rs`,
//! `tests/journal.rs`).

use std::collections::BTreeSet;

use indelible::sim::arena::{Arena, Try};
use indelible::types::bugs::{self, Bug};

/// A seed that notices each bug, and where.
const NOTICED: &[(Bug, Arena, u64)] = &[
    (Bug::AckBeforeSync, Arena::Swarm, 0),
    (Bug::AckDuplicateEarly, Arena::Swarm, 0),
    (Bug::AckCurrentPromise, Arena::Swarm, 1),
    (Bug::PromiseBeforeSync, Arena::Swarm, 0),
    (Bug::PrepareBeforeSync, Arena::Swarm, 0),
    (Bug::ReuseBallot, Arena::Schedule, 760),
    (Bug::PromiseNotRecovered, Arena::Lives, 1),
    (Bug::VotesNotRecovered, Arena::Swarm, 0),
    (Bug::VoteBelowPromise, Arena::Schedule, 5),
    (Bug::PromiseWithoutChosen, Arena::Schedule, 4),
    (Bug::PromiseOfOtherBallot, Arena::Schedule, 144),
    (Bug::VoteOfOtherBallot, Arena::Schedule, 3726),
    (Bug::CountTwice, Arena::Schedule, 47),
    (Bug::SmallPhase1, Arena::Swarm, 0),
    (Bug::SmallPhase2, Arena::Swarm, 0),
    (Bug::AdoptLongestLog, Arena::Schedule, 27),
    (Bug::AdoptFirstVote, Arena::Schedule, 144),
    (Bug::FillHoleEarly, Arena::Schedule, 5),
    (Bug::AdoptBelowAbstainer, Arena::Schedule, 27),
    (Bug::AnswerNone, Arena::Schedule, 12),
    (Bug::CountFaulty, Arena::Schedule, 345),
    (Bug::AmnesiaVotes, Arena::Schedule, 82),
    (Bug::CommitWithoutMatch, Arena::Schedule, 82),
    (Bug::ProgressGoesBack, Arena::Swarm, 0),
    (Bug::ChosenNotJournaled, Arena::Swarm, 0),
    (Bug::LeadOverruled, Arena::Schedule, 1862),
    (Bug::ReadBeforeReady, Arena::Schedule, 37),
    (Bug::ReadyAtFirstEntry, Arena::Schedule, 42),
    (Bug::ReadUnconfirmed, Arena::Schedule, 30),
    (Bug::SmallConfirm, Arena::Schedule, 30),
    (Bug::ConfirmDeposed, Arena::Schedule, 81),
    (Bug::NonceReused, Arena::Schedule, 81),
    (Bug::ReadJoinsRound, Arena::Schedule, 21),
    (Bug::ReadBeforeApply, Arena::Swarm, 0),
    (Bug::WaitCutShort, Arena::Swarm, 0),
    (Bug::AnswerToEarlierLife, Arena::Schedule, 832),
    (Bug::SettleProposed, Arena::Schedule, 11),
    (Bug::HandOverForEver, Arena::Schedule, 100),
    (Bug::PreferLower, Arena::Swarm, 3),
    (Bug::PreferEqual, Arena::Swarm, 4),
    (Bug::CompareAtLeast, Arena::Swarm, 0),
    (Bug::TombstonePresent, Arena::Swarm, 0),
    (Bug::ApplyFirstOnly, Arena::Swarm, 0),
    (Bug::IdForNothing, Arena::Swarm, 0),
    (Bug::ApplyByBoot, Arena::Swarm, 0),
    (Bug::VerdictOfOther, Arena::Swarm, 0),
    (Bug::UnknownToldAsFailed, Arena::Swarm, 1),
    (Bug::RetryToldAsFailed, Arena::Swarm, 1),
    (Bug::ResolveWithoutLog, Arena::Swarm, 0),
    (Bug::DedupeSkipped, Arena::Swarm, 0),
    (Bug::FloorIgnored, Arena::Swarm, 4),
    (Bug::EvictByClock, Arena::Swarm, 0),
    (Bug::BounceTaken, Arena::Swarm, 0),
    (Bug::SkipDirectorySync, Arena::Swarm, 0),
    (Bug::RetrySync, Arena::Lives, 2),
    (Bug::SyncAlone, Arena::Lives, 270),
    (Bug::TailNotRewritten, Arena::Lives, 2),
    (Bug::CountBeforeSync, Arena::Lives, 231),
    (Bug::EvidenceEarly, Arena::Lives, 9),
    (Bug::WatermarkEarly, Arena::Swarm, 0),
    (Bug::ServeOldFrame, Arena::Lives, 2),
    (Bug::PayloadUnchecked, Arena::Lives, 0),
    (Bug::HeaderUnchecked, Arena::Lives, 6),
    (Bug::CutAtBadGroup, Arena::Swarm, 0),
    (Bug::ZerosEndJournal, Arena::Lives, 111),
    (Bug::LookAtBlocksOnly, Arena::Lives, 776),
    (Bug::BestPromiseLeft, Arena::Lives, 205),
    (Bug::LossToldOnce, Arena::Lives, 474),
    (Bug::CheckpointNotSynced, Arena::Swarm, 0),
    (Bug::CheckpointWithoutTombstones, Arena::Swarm, 0),
    (Bug::CheckpointOfLaterSessions, Arena::Swarm, 0),
    (Bug::CheckpointBeforeJournal, Arena::Lives, 2),
    (Bug::TrimBeforeIdentity, Arena::Swarm, 39),
    (Bug::TrimBeyondCheckpoint, Arena::Swarm, 0),
    (Bug::StateForgetsVotes, Arena::Schedule, 5),
    (Bug::StateGoesBack, Arena::Schedule, 38),
    (Bug::StateKeepsMembers, Arena::Swarm, 22),
    (Bug::StateKeptByReaders, Arena::Swarm, 3),
    (Bug::DoubtsForgotten, Arena::Lives, 0),
    (Bug::ProposeBehindChange, Arena::Schedule, 431),
    (Bug::ChangeUnprepared, Arena::Schedule, 1994),
    (Bug::FoundChangeTrusted, Arena::Schedule, 3299),
    (Bug::OvertakenFollows, Arena::Schedule, 668),
    (Bug::CandidateKeepsQuorum, Arena::Schedule, 68),
    (Bug::LeaseFromReceipt, Arena::Schedule, 147),
    (Bug::DriftIgnored, Arena::Schedule, 528),
    (Bug::LeaseByTimers, Arena::Swarm, 13),
    (Bug::LeaseForgotten, Arena::Schedule, 56),
    (Bug::LeaseNotWritten, Arena::Swarm, 1),
    (Bug::PromiseDespiteGrant, Arena::Schedule, 96),
    (Bug::CampaignDespiteGrant, Arena::Schedule, 96),
    (Bug::GrantDeposed, Arena::Schedule, 96),
    (Bug::SmallLease, Arena::Schedule, 87),
    (Bug::LeaseBeforeReady, Arena::Schedule, 559),
    (Bug::LeaseKeptAtHandOver, Arena::Schedule, 393),
    (Bug::LateRelease, Arena::Schedule, 8638),
    (Bug::AlarmKept, Arena::Swarm, 50),
    (Bug::RetireEarly, Arena::Swarm, 10),
    (Bug::DismissEarly, Arena::Swarm, 18),
    (Bug::EditionUnasked, Arena::Swarm, 10),
    (Bug::EditionEarly, Arena::Swarm, 10),
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
    let share = NOTICED.iter().skip(part).step_by(PARTS);
    for (bug, arena, seed) in share.clone() {
        let made = Made::of(*bug);
        let violation = Try { arena: *arena, seed: *seed }.run();
        drop(made);
        let (arena, bug) = (arena.name(), bug.name());
        assert!(violation.is_some(), "seed {seed} of the {arena} does not notice {bug}");
    }
    let tries = share.map(|(_, arena, seed)| Try { arena: *arena, seed: *seed });
    for one in tries.collect::<BTreeSet<_>>() {
        let violation = one.run();
        assert!(violation.is_none(), "{one:?} is wrong without a bug: {violation:?}");
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
    let noticed = NOTICED.iter().map(|(bug, ..)| *bug).collect::<BTreeSet<Bug>>();
    let left = Bug::ALL.iter().filter(|bug| !noticed.contains(bug)).map(|bug| bug.name());
    assert_eq!(left.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn names_are_unique_and_found() {
    for bug in Bug::ALL {
        assert_eq!(Bug::named(bug.name()), Some(*bug));
    }
}

#[test]
fn a_round_has_each_seed_once() {
    let length = Arena::ROUND.iter().map(|(_, seeds)| seeds).sum::<u64>();
    let tries = (0..2 * length).map(Try::numbered).collect::<BTreeSet<_>>();
    for (arena, seeds) in Arena::ROUND {
        let seeds = 0..2 * seeds;
        assert!(seeds.clone().all(|seed| tries.contains(&Try { arena, seed })), "{arena:?}");
    }
    assert_eq!(tries.len() as u64, 2 * length);
}
