//! Floors: what a campaign must have seen before its silence proves anything.
//!
//! A run without a violation says little where nothing happened in it. So every run has floors of
//! its own ([`Limits`](super::swarm::Limits)), and a campaign has these: each mark was reached,
//! each kind of fault acted in one of two hundred runs, in one of ten the membership changed, and
//! in most runs the leader changed and enough was committed.

use crate::types::marks::Mark;

use super::campaign::Totals;
use super::disk::DiskFault;
use super::faults::Kind;

/// Fewer runs than these may miss a rare place by chance.
pub const SEEDS_MIN: u64 = 1000;

/// Of a thousand runs, in so many each kind of fault must act.
const PER_MILLE_MIN: u64 = 5;

/// What a cut of power does, besides what the plan of a swarm names.
const OF_POWER_CUTS: [DiskFault; 6] = [
    DiskFault::ProcessCrash,
    DiskFault::TornWrite,
    DiskFault::UnsyncedWriteLost,
    DiskFault::ReorderedWrites,
    DiskFault::SizeBeforeData,
    DiskFault::NameLost,
];

/// Marks that chance reaches too seldom to be asked of a campaign: these take two faults that meet,
/// or hours, or thousands of slots. Tests reach them (`tests/paxos/`, `tests/journal/`,
/// `tests/repair.rs`, `tests/overload.rs`, `tests/scenarios/alone.rs`, `leaving.rs`).
const SCRIPTED: [Mark; 10] = [
    Mark::LeaderOverruled,
    Mark::AcceptWithheld,
    Mark::RepairedBesideServing,
    Mark::HeldDropped,
    Mark::TrimGivenUp,
    Mark::DoubtsOfOneAlone,
    Mark::RotHealedBeforeAlone,
    Mark::VotedBehindTold,
    Mark::PromisedWhenWhole,
    Mark::KeptWhoLeaves,
];

/// Marks that are reached in a few of ten thousand runs.
const RARE: [Mark; 9] = [
    Mark::AnswerBegunAnew,
    Mark::VoteRepeated,
    Mark::SuperheaderLost,
    Mark::AmnesiacSilent,
    Mark::ServedWhileRepairing,
    Mark::CheckpointsLost,
    Mark::StateInstalledOpening,
    Mark::RetriedBehindState,
    Mark::PartPaced,
];

/// From so many runs on those are asked for, too.
const SEEDS_FOR_RARE: u64 = 50_000;

/// The kinds of faults that a swarm has.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    let planned = Kind::ALL.iter().map(|kind| kind.name());
    planned.chain(OF_POWER_CUTS.into_iter().map(DiskFault::name))
}

/// What these runs should have seen and did not, each in a sentence; of fewer than [`SEEDS_MIN`]
/// runs, nothing is asked.
#[must_use]
pub fn lacking(totals: &Totals) -> Vec<String> {
    let seeds = totals.seeds;
    if seeds < SEEDS_MIN {
        return Vec::new();
    }
    let mut lacking = Vec::new();
    let due = |mark: &&Mark| {
        !SCRIPTED.contains(mark) && (seeds >= SEEDS_FOR_RARE || !RARE.contains(mark))
    };
    for name in Mark::ALL.iter().filter(due).map(|mark| mark.name()) {
        if !totals.marks.contains_key(name) {
            lacking.push(format!("the mark {name} was never reached"));
        }
    }
    for name in kinds() {
        let (_, runs) = totals.faults.get(name).copied().unwrap_or_default();
        if runs * 1000 < seeds * PER_MILLE_MIN {
            lacking.push(format!("the fault {name} acted in {runs} of {seeds} seeds only"));
        }
    }
    if totals.led_anew * 2 <= seeds {
        lacking.push(format!("the leader changed in {} of {seeds} seeds only", totals.led_anew));
    }
    let (_, changed) = totals.memberships;
    if changed * 10 <= seeds {
        lacking.push(format!("the membership changed in {changed} of {seeds} seeds only"));
    }
    if totals.vacuous * 2 >= seeds {
        lacking.push(format!("{} of {seeds} seeds proved nothing", totals.vacuous));
    }
    lacking
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A campaign of which nothing is to be said.
    fn whole() -> Totals {
        let seen = (1000, 1000);
        Totals {
            seeds: 1000,
            led_anew: 900,
            vacuous: 10,
            memberships: (500, 200),
            marks: Mark::ALL.iter().map(|mark| (mark.name(), seen)).collect(),
            faults: kinds().map(|kind| (kind, seen)).collect(),
            ..Totals::default()
        }
    }

    #[test]
    fn a_campaign_that_saw_everything_lacks_nothing() {
        assert_eq!(lacking(&whole()), Vec::<String>::new());
        assert!(kinds().count() >= 30);
    }

    #[test]
    fn what_is_lacking_is_named() {
        let mut totals = whole();
        totals.marks.remove("hole-filled");
        totals.marks.remove(Mark::LeaderOverruled.name());
        totals.marks.remove(Mark::VoteRepeated.name());
        totals.faults.insert("short-read", (900, 4));
        totals.led_anew = 500;
        totals.vacuous = 500;
        totals.memberships = (100, 100);
        let told = lacking(&totals);
        assert_eq!(told.len(), 5, "{told:?}");
        assert!(told[0].contains("hole-filled") && told[1].contains("short-read"), "{told:?}");
    }

    #[test]
    fn of_a_few_runs_nothing_is_asked() {
        let totals = Totals { seeds: SEEDS_MIN - 1, ..Totals::default() };
        assert_eq!(lacking(&totals), Vec::<String>::new());
    }
}
