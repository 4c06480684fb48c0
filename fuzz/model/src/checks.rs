//! What must hold in every state, as someone sees it who sees all journals at once.
//!
//! What is chosen is computed from durable votes alone, whatever the cores believe: an entry that a
//! phase-2 quorum ever voted for, durably, at one ballot. Whose votes count is settled by what is
//! chosen in the slots before. While that is open in a slot in which somebody voted for a
//! membership, nothing behind it counts as chosen. Nor do votes count there below the ballot at
//! which the membership was chosen: whoever asked for them did not know it. (That nobody acts on
//! them is what [`learned_is_chosen`] asks.)

use indelible::types::entry::{Entry, EntryKind};
use indelible::types::ids::{Ballot, Slot};
use indelible::types::membership::Membership;

use crate::journal::Voted;
use crate::replica::{Breach, Replica, membership};
use crate::settings::{REPLICAS, Settings};

type Replicas<'a> = [&'a Replica; REPLICAS];

/// The pairs of three voters: each is a phase-2 quorum, and every larger one contains one.
const PAIRS: [[usize; 2]; 3] = [[0, 1], [0, 2], [1, 2]];

/// Every entry that is chosen, with the ballot; one may be there more than once.
fn chosen<'a>(settings: &Settings, replicas: &Replicas<'a>) -> Vec<&'a Voted> {
    if !settings.changes() {
        return PAIRS.iter().flat_map(|pair| chosen_by(replicas, pair)).collect();
    }
    let mut all: Vec<&Voted> = Vec::new();
    // Who governs, and since which ballot.
    let (mut present, mut since) = (membership(settings), Ballot::ZERO);
    for slot in (1..=settings.slots).map(Slot) {
        let of_slot = all.len();
        all.extend(chosen_in(replicas, &present, slot).filter(|vote| since <= vote.1));
        let after = |vote: &&Voted| Some((vote.1, vote.2.membership_after(&present)?));
        let next = all[of_slot..].iter().filter_map(after).min_by_key(|(ballot, _)| *ballot);
        let mut votes = replicas.iter().flat_map(|replica| &replica.journal.votes);
        let is_change = |vote: &Voted| vote.2.kind() == EntryKind::Membership;
        if all.len() == of_slot && votes.any(|vote| vote.0 == slot && is_change(vote)) {
            break;
        }
        if let Some((ballot, next)) = next {
            (since, present) = (ballot, next);
        }
    }
    all
}

/// What all of these voted for.
fn chosen_by<'a>(replicas: &Replicas<'a>, quorum: &[usize]) -> Vec<&'a Voted> {
    let (first, others) = quorum.split_first().expect("no quorum is empty");
    let votes = replicas[*first].journal.votes.iter();
    let all = |vote: &&Voted| others.iter().all(|one| replicas[*one].journal.votes.contains(vote));
    votes.filter(all).collect()
}

/// What a majority of the voters of `present` voted for in `slot`.
fn chosen_in<'a>(
    replicas: &Replicas<'a>,
    present: &Membership,
    slot: Slot,
) -> impl Iterator<Item = &'a Voted> {
    let places = present.voters().iter().map(|voter| voter.id.0 as usize - 1);
    let voters: Vec<&Replica> = places.map(|place| replicas[place]).collect();
    let all = voters.clone().into_iter().flat_map(|voter| &voter.journal.votes);
    all.filter(move |vote| {
        let voted = voters.iter().filter(|voter| voter.journal.votes.contains(vote)).count();
        vote.0 == slot && voted > voters.len() / 2
    })
}

/// In each slot at most one entry is ever chosen, and nobody believes in another one.
#[must_use]
pub fn agreement(settings: &Settings, replicas: &Replicas<'_>) -> bool {
    let chosen = chosen(settings, replicas);
    let differs = |slot: Slot, entry: &Entry| {
        let learned = |replica: &&Replica| replica.learned.get(slot.0 as usize) != Some(entry);
        let knows = |replica: &&Replica| slot < replica.slot_chosen();
        replicas.iter().copied().filter(knows).any(|replica| learned(&replica))
            || chosen.iter().any(|(of, _, other)| *of == slot && other != entry)
    };
    let learned = replicas.iter().flat_map(|replica| (0..).map(Slot).zip(&replica.learned).skip(1));
    let outcomes = chosen.iter().map(|(slot, _, entry)| (*slot, entry)).chain(learned);
    !outcomes.into_iter().any(|(slot, entry)| differs(slot, entry))
}

/// What a replica knows to be chosen is chosen.
#[must_use]
pub fn learned_is_chosen(settings: &Settings, replicas: &Replicas<'_>) -> bool {
    let chosen = chosen(settings, replicas);
    let is_chosen =
        |slot, entry: &Entry| chosen.iter().any(|(of, _, chosen)| *of == slot && chosen == entry);
    replicas.iter().all(|replica| {
        let learned = (0..).map(Slot).zip(&replica.learned).skip(1);
        learned.into_iter().all(|(slot, entry)| is_chosen(slot, entry))
    })
}

/// The memberships of which a leader says that nothing of the one before is needed any more, each
/// with the first slot that it governs.
#[must_use]
pub fn established<'a>(
    settings: &Settings,
    replicas: &Replicas<'a>,
) -> Vec<(Slot, &'a Membership)> {
    replicas.iter().filter_map(|replica| replica.established(settings)).collect()
}

/// Enough voters of each of these have it durably: each quorum of phase 1 has one who does, whoever
/// else is wiped.
#[must_use]
pub fn who_left_is_not_needed(
    established: &[(Slot, &Membership)],
    replicas: &Replicas<'_>,
) -> bool {
    established.iter().all(|(first, membership)| {
        let places = membership.voters().iter().map(|voter| voter.id.0 as usize - 1);
        let knows = places.filter(|place| *first <= replicas[*place].journal.known());
        knows.count() > membership.voters().len() / 2
    })
}

/// In one slot and ballot nobody votes for two entries.
#[must_use]
pub fn one_entry(replicas: &Replicas<'_>) -> bool {
    let votes = || replicas.iter().flat_map(|replica| &replica.journal.votes);
    votes().all(|(slot, ballot, entry)| {
        let same = |of: &Slot, at: &Ballot| (of, at) == (slot, ballot);
        votes().all(|(of, at, other)| !same(of, at) || other == entry)
    })
}

/// Behind the ballot at which an entry was chosen, nobody votes for another one.
#[must_use]
pub fn later_votes_agree(settings: &Settings, replicas: &Replicas<'_>) -> bool {
    let chosen = chosen(settings, replicas);
    let mut votes = replicas.iter().flat_map(|replica| &replica.journal.votes);
    votes.all(|(of, at, voted)| {
        chosen.iter().all(|(slot, ballot, entry)| of != slot || at <= ballot || voted == entry)
    })
}

/// Who reads sees what was learned before.
#[must_use]
pub fn no_stale_read(replicas: &Replicas<'_>) -> bool {
    replicas.iter().all(|replica| replica.breach != Some(Breach::StaleRead))
}

/// Nobody did what a replica must never do.
#[must_use]
pub fn no_breach(replicas: &Replicas<'_>) -> bool {
    replicas.iter().all(|replica| replica.breach.is_none())
}
