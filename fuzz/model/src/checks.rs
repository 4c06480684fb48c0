//! What must hold in every state, as someone sees it who sees all journals at once.
//!
//! What is chosen is computed from durable votes alone, whatever the cores believe: an entry that
//! two of the three replicas ever voted for, durably, at one ballot.

use indelible::types::entry::Entry;
use indelible::types::ids::{Ballot, Slot};

use crate::journal::Voted;
use crate::replica::{Breach, Replica};
use crate::settings::REPLICAS;

type Replicas<'a> = [&'a Replica; REPLICAS];

/// The pairs of replicas: each is a phase-2 quorum, and every larger one contains one.
const PAIRS: [(usize, usize); 3] = [(0, 1), (0, 2), (1, 2)];

/// Every entry that is chosen, with the ballot; one may be there more than once.
fn chosen<'a>(replicas: &'a Replicas<'_>) -> impl Iterator<Item = &'a Voted> {
    PAIRS.iter().flat_map(|(one, other)| {
        let votes = &replicas[*other].journal.votes;
        replicas[*one].journal.votes.iter().filter(move |vote| votes.contains(vote))
    })
}

fn is_chosen(replicas: &Replicas<'_>, slot: Slot, entry: &Entry) -> bool {
    chosen(replicas).any(|(of, _, chosen)| *of == slot && chosen == entry)
}

/// In each slot at most one entry is ever chosen, and nobody believes in another one.
#[must_use]
pub fn agreement(replicas: &Replicas<'_>) -> bool {
    let differs = |slot: Slot, entry: &Entry| {
        let learned = |replica: &&Replica| replica.learned.get(slot.0 as usize) != Some(entry);
        let knows = |replica: &&Replica| slot < replica.slot_chosen();
        replicas.iter().copied().filter(knows).any(|replica| learned(&replica))
            || chosen(replicas).any(|(of, _, other)| *of == slot && other != entry)
    };
    let learned = replicas.iter().flat_map(|replica| (0..).map(Slot).zip(&replica.learned).skip(1));
    let outcomes = chosen(replicas).map(|(slot, _, entry)| (*slot, entry)).chain(learned);
    !outcomes.into_iter().any(|(slot, entry)| differs(slot, entry))
}

/// What a replica knows to be chosen is chosen.
#[must_use]
pub fn learned_is_chosen(replicas: &Replicas<'_>) -> bool {
    replicas.iter().all(|replica| {
        let learned = (0..).map(Slot).zip(&replica.learned).skip(1);
        learned.into_iter().all(|(slot, entry)| is_chosen(replicas, slot, entry))
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
pub fn later_votes_agree(replicas: &Replicas<'_>) -> bool {
    let mut votes = replicas.iter().flat_map(|replica| &replica.journal.votes);
    votes.all(|(of, at, voted)| {
        chosen(replicas).all(|(slot, ballot, entry)| of != slot || at <= ballot || voted == entry)
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
