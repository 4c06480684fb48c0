//! What must fail: a mistake each, and the smallest configuration that shows it.
//!
//! Steps are those of this model, in which a message leaves with the step that sends it, and
//! arrives with a step of its own. Where another model of the same mistake has other lengths, it is
//! for that.

use indelible::types::bugs as core;
use indelible::types::message::Doubt;

use crate::bugs::Bug;
use crate::past;
use crate::runs::Unsound;
use crate::settings::{Heartbeats, REPLICAS, Settings};

/// What must fail.
#[must_use]
pub fn all() -> Vec<Unsound> {
    [
        storage_must_not(),
        protocol_must_not(),
        reads_must_not(),
        core_must_not(),
        openings_must_not(),
        states_must_not(),
        changes_must_not(),
        behind_changes_must_not(),
    ]
    .concat()
}

/// Mistakes around a core: what is durable when.
fn storage_must_not() -> Vec<Unsound> {
    vec![
        bug(14, Bug::AckBeforeDurable, crashing("vote acknowledged before durable", [0, 0, 1])),
        bug(13, Bug::PromiseBeforeDurable, crashing("promise answered before durable", [0, 0, 1])),
        bug(
            14,
            Bug::BallotReused,
            Settings {
                campaigns: [2, 0, 0],
                ..crashing("ballot reused after a restart", [1, 0, 0])
            },
        ),
        bug(
            16,
            Bug::CurrentPromiseStamped,
            Settings {
                campaigns: [2, 0, 0],
                syncs: [true, false, true],
                ..crashing("acknowledgement stamped with the current promise", [1, 0, 0])
            },
        ),
        bug(
            24,
            Bug::CurrentPromiseStamped,
            Settings {
                campaigns: [2, 1, 0],
                campaigns_max: 3,
                syncs: [true, false, true],
                outcomes_only: true,
                ..crashing("acknowledgement stamped so: two outcomes", [1, 0, 0])
            },
        ),
        bug(
            15,
            Bug::DuplicateAckedBeforeSync,
            Settings {
                retransmits: true,
                ..crashing("duplicate acknowledged before its sync", [0, 0, 1])
            },
        ),
        bug(
            15,
            Bug::ReopenWithoutSync,
            Settings {
                crashes: [0, 0, 2],
                crashes_max: 2,
                ..crashing("reopened without a sync of what was read", [0, 0, 2])
            },
        ),
        bug(11, Bug::PromiseForgotten, at_once(crashing("promise forgotten", [0, 0, 1]))),
        bug(
            11,
            Bug::ForgetfulSkipsPhase1,
            at_once(crashing("who forgot a promise skips only phase 1", [0, 0, 1])),
        ),
        bug(
            19,
            Bug::OlderCopy,
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
        bug(11, Bug::ChosenAnsweredNone, lossy("a chosen slot answered none", 1)),
        bug(
            13,
            Bug::LongestLog,
            Settings { campaigns: [2, 1, 0], campaigns_max: 3, ..lossy("longest log", 2) },
        ),
        bug(6, Bug::SmallPhase1, lossy("phase1 + phase2 = voters", 1)),
        bug(
            13,
            Bug::OtherBallotsCounted,
            Settings {
                campaigns: [2, 0, 0],
                ..crashing("votes of other ballots counted", [1, 0, 0])
            },
        ),
        bug(
            11,
            Bug::WatermarkBelieved,
            Settings { heartbeats: Heartbeats::OfLeaders, ..lossy("watermark believed", 1) },
        ),
        bug(14, Bug::BeyondAlpha, Settings { alpha: 1, ..lossy("proposed beyond alpha", 2) }),
        bug(14, Bug::NonceReused, Settings { reads: [2, 0, 0], ..lossy("nonce reused", 1) }),
        bug(
            10,
            Bug::SmallConfirmation,
            Settings { reads: [1, 0, 0], ..lossy("confirmed by too few", 1) },
        ),
        bug(
            11,
            Bug::FaultyAnsweredNone,
            damaged(at_once(crashing("FAULTY answered none", [0, 0, 1]))),
        ),
        bug(
            15,
            Bug::LateSettled,
            Settings {
                crashes_max: 2,
                damages_max: 1,
                damages: &[Doubt::Faulty],
                tears: true,
                heartbeats: Heartbeats::OfLeaders,
                ..at_once(crashing("an answer to an earlier opening settles doubts", [0, 0, 2]))
            },
        ),
    ]
}

/// Mistakes within a core: reads.
fn reads_must_not() -> Vec<Unsound> {
    vec![
        inner(12, core::Bug::ReadBeforeReady, reading("reads with no gate")),
        inner(
            17,
            core::Bug::ReadyAtFirstEntry,
            Settings { slots: 2, alpha: 2, ..reading("gate: some entry at the own ballot") },
        ),
        inner(10, core::Bug::ReadUnconfirmed, reading("reads without confirmation")),
        inner(10, core::Bug::SmallConfirm, reading("core: confirmed by too few")),
        inner(12, core::Bug::ConfirmDeposed, reading("a deposed leader is confirmed")),
        inner(
            10,
            core::Bug::ReadJoinsRound,
            Settings { reads: [2, 0, 0], ..reading("a read joins a round") },
        ),
        inner(
            14,
            core::Bug::NonceReused,
            Settings { reads: [2, 0, 0], ..reading("core: nonce reused") },
        ),
    ]
}

/// Mistakes within a core: both phases.
fn core_must_not() -> Vec<Unsound> {
    vec![
        inner(13, core::Bug::AdoptFirstVote, three(lossy("the first vote told is adopted", 1))),
        inner(
            11,
            core::Bug::PromiseOfOtherBallot,
            three(lossy("promises of other ballots counted", 1)),
        ),
        inner(
            13,
            core::Bug::VoteOfOtherBallot,
            Settings {
                campaigns: [2, 0, 0],
                ..crashing("core: votes of other ballots counted", [1, 0, 0])
            },
        ),
        inner(10, core::Bug::FillHoleEarly, lossy("a hole filled early", 1)),
        inner(
            11,
            core::Bug::CommitWithoutMatch,
            Settings { heartbeats: Heartbeats::OfLeaders, ..lossy("core: watermark believed", 1) },
        ),
        inner(4, core::Bug::SmallPhase2, lossy("chosen one vote too early", 1)),
        inner(
            8,
            core::Bug::CountTwice,
            Settings { syncs: [true, false, false], ..lossy("a vote counted twice", 1) },
        ),
        inner(10, core::Bug::VoteBelowPromise, lossy("a vote below the promise", 1)),
        inner(11, core::Bug::VotesNotRecovered, at_once(crashing("votes forgotten", [0, 0, 1]))),
        inner(11, core::Bug::PromiseWithoutChosen, lossy("core: a chosen slot answered none", 1)),
        inner(11, core::Bug::AdoptLongestLog, three(lossy("core: longest log", 2))),
        inner(6, core::Bug::SmallPhase1, lossy("core: phase1 + phase2 = voters", 1)),
        inner(
            11,
            core::Bug::AnswerNone,
            damaged(at_once(crashing("core: FAULTY answered none", [0, 0, 1]))),
        ),
        inner(
            11,
            core::Bug::AdoptBelowAbstainer,
            damaged(at_once(crashing("what is left counts as a vote", [0, 0, 1]))),
        ),
        inner(
            14,
            core::Bug::CountFaulty,
            Settings {
                damages_max: 2,
                crashes_max: 2,
                ..damaged(at_once(crashing("FAULTY counts as UNCERTAIN", [1, 0, 1])))
            },
        ),
    ]
}

/// Mistakes within a core: what is durable when, and what another opening finds.
fn openings_must_not() -> Vec<Unsound> {
    let proposer = |name| Settings { campaigns: [2, 0, 0], ..crashing(name, [1, 0, 0]) };
    vec![
        inner(
            15,
            core::Bug::AckDuplicateEarly,
            Settings {
                retransmits: true,
                ..crashing("core: duplicate acknowledged before its sync", [0, 0, 1])
            },
        ),
        inner(
            13,
            core::Bug::PromiseBeforeSync,
            crashing("core: promise answered before durable", [0, 0, 1]),
        ),
        inner(
            14,
            core::Bug::PrepareBeforeSync,
            proposer("core: asked before its promise is durable"),
        ),
        inner(12, core::Bug::ReuseBallot, proposer("core: ballot reused")),
        inner(
            11,
            core::Bug::AmnesiaVotes,
            Settings {
                damages_max: 1,
                loses_promise: true,
                ..at_once(crashing("who lost its promise takes part", [0, 0, 1]))
            },
        ),
        inner(
            13,
            core::Bug::AnswerToEarlierLife,
            Settings {
                reads: [0, 0, 2],
                heartbeats: Heartbeats::OfLeaders,
                ..at_once(crashing("a read takes an answer to an earlier opening", [0, 0, 1]))
            },
        ),
    ]
}

/// Mistakes with a change of the membership: when nothing of the one before is needed any more.
fn changes_must_not() -> Vec<Unsound> {
    let without_c = |name| Settings {
        successors: &[&[1, 2]],
        alpha: 2,
        campaigns: [1, 0, 0],
        ..lossy(name, 2)
    };
    let late = |settings| Settings { syncs: [false, true, false], ..settings };
    vec![
        inner(
            8,
            core::Bug::RetireEarly,
            without_c("who left is wiped before the others have the change"),
        ),
        bug(13, Bug::KnownTold, without_c("who left is wiped when the others know of the change")),
        bug(11, Bug::VoteShowsAll, without_c("who left is wiped when the others voted behind")),
        bug(
            12,
            Bug::AckBeforeDurable,
            late(without_c("who left is wiped before the others have it durably")),
        ),
    ]
}

/// Mistakes behind a change of the membership, or half way through one, where another leader knows
/// less of it. Steps are counted from where the past ends.
fn behind_changes_must_not() -> Vec<Unsound> {
    let behind = |past, successors, name| Settings {
        successors,
        alpha: 1,
        changes_max: 2,
        past,
        ..lossy(name, 2)
    };
    let outcomes = |settings| Settings { outcomes_only: true, ..settings };
    let three_slots = |settings| Settings { slots: 3, alpha: 2, ..settings };
    let heard = |settings| Settings { heartbeats: Heartbeats::OfLeaders, ..settings };
    vec![
        inner(
            7,
            core::Bug::ProposeBehindChange,
            three_slots(behind(past::asked(), ABD, "proposed behind a change")),
        ),
        inner(
            10,
            core::Bug::ProposeBehindChange,
            outcomes(three_slots(behind(past::proposed(), ABD, "proposed so: two outcomes"))),
        ),
        inner(
            7,
            core::Bug::ChangeUnprepared,
            outcomes(heard(behind(past::unprepared(), ABD, "a change not prepared"))),
        ),
        inner(
            11,
            core::Bug::FoundChangeTrusted,
            outcomes(behind(past::chosen(), ABD, "a change found and trusted")),
        ),
        inner(
            8,
            core::Bug::CandidateKeepsQuorum,
            behind(past::chosen_by_who_stays(), ABCD, "a candidate keeps the quorum"),
        ),
        inner(
            8,
            core::Bug::OvertakenFollows,
            three(three_slots(behind(past::overtaken(), A_OR_ABD, "what was overtaken follows"))),
        ),
    ]
}

const ABD: &[&[u64]] = &[&[1, 2, 4]];
const ABCD: &[&[u64]] = &[&[1, 2, 3, 4]];
const A_OR_ABD: &[&[u64]] = &[&[1], &[1, 2, 4]];

/// Mistakes with the state of a peer: what it stands for, and what it does not.
fn states_must_not() -> Vec<Unsound> {
    let installs = |settings| Settings { installs: [1; REPLICAS], installs_max: 1, ..settings };
    vec![
        bug(
            13,
            Bug::StateNotDurable,
            installs(at_once(crashing("a state that is not durable", [0, 0, 1]))),
        ),
        inner(
            14,
            core::Bug::StateForgetsVotes,
            installs(lossy("a state takes the votes behind it along", 2)),
        ),
        inner(
            15,
            core::Bug::StateKeepsMembers,
            installs(Settings {
                successors: &[&[1, 2]],
                alpha: 1,
                ..lossy("a state leaves the members as they were", 2)
            }),
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

/// Without late syncs: every record is durable at once.
fn at_once(settings: Settings) -> Settings {
    Settings { syncs: [false; 3], ..settings }
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

fn bug(expected: usize, bug: Bug, settings: Settings) -> Unsound {
    let settings = Settings { bug: Some(bug), forgets_stale: !bug.revives_ballots(), ..settings };
    Unsound { settings, expected }
}

fn inner(expected: usize, inner: core::Bug, settings: Settings) -> Unsound {
    bug(expected, Bug::Core(inner), settings)
}
