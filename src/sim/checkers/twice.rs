//! **D3, recovery**: what an opening finds does not depend on how often, and how far, openings came
//! before it.
//!
//! A copy of a disk, as a cut of power leaves it, is opened twice, and a third time after an
//! opening that lost power half-way. The second must find what the first found. After the broken
//! one the end of the journal may look torn further than it was, so more may be UNCERTAIN; nothing
//! may be less. A directory that is refused stays as it was.

use crate::journal::{self, Journal};
use crate::sim::disk::{Image, SimDisk};
use crate::types::ids::ReplicaId;
use crate::types::record::Recovered;

use super::{Violation, ensure};

/// Opens copies of `image`; `cut` is how far the broken opening comes.
///
/// # Errors
///
/// Where one finds something else than the first one.
pub fn check(
    id: ReplicaId,
    image: &Image,
    options: journal::Options,
    cut: u64,
) -> Result<(), Violation> {
    let disk = SimDisk::seeded(cut);
    disk.restore(image);
    let Some(first) = open(&disk, options, id) else {
        let same = disk.image() == *image;
        return ensure(same, "D3", || format!("{id} refuses its directory, and changes it"));
    };
    let second = open(&disk, options, id);
    ensure(second.as_ref() == Some(&first), "D3", || {
        format!("{id} finds {}, opened again {}", told(Some(&first)), told(second.as_ref()))
    })?;
    disk.restore(image);
    disk.stop_at(disk.boundaries() + cut % BOUNDARIES);
    drop(Journal::open(disk.mount(), options, id));
    let mut kept = cut;
    disk.power_cut(&mut |_| {
        kept = kept.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        kept >> 63 == 1
    });
    let third = open(&disk, options, id);
    ensure(third.as_ref().is_some_and(|third| is_as_good(&first, third)), "D3", || {
        let third = told(third.as_ref());
        format!("{id} finds {}, after an opening that lost power {third}", told(Some(&first)))
    })
}

fn open(disk: &SimDisk, options: journal::Options, id: ReplicaId) -> Option<Recovered> {
    let recovered = Journal::open(disk.mount(), options, id).ok()?.recovered();
    disk.process_crash();
    Some(recovered)
}

/// Whether `third` is what `first` was, but for slots that are UNCERTAIN besides.
fn is_as_good(first: &Recovered, third: &Recovered) -> bool {
    let mut third = third.clone();
    let uncertain = std::mem::take(&mut third.doubts.uncertain);
    let mut lacking = first.doubts.uncertain.clone();
    uncertain.ranges().iter().for_each(|range| lacking.remove(*range));
    let mut first = first.clone();
    first.doubts.uncertain = Default::default();
    lacking.is_empty() && first == third
}

fn told(recovered: Option<&Recovered>) -> String {
    let Some(Recovered { promised, slot_chosen, votes, missing, doubts, .. }) = recovered else {
        return "nothing: it is refused".to_owned();
    };
    let last = votes.last().map(|(slot, ballot, _)| (slot, ballot));
    let votes = votes.len();
    format!("{promised} {slot_chosen} {votes} votes to {last:?} {missing:?} {doubts:?}")
}

/// More than an opening of a short journal has.
const BOUNDARIES: u64 = 24;

#[cfg(test)]
mod tests {
    use crate::types::entry::Entry;
    use crate::types::ids::{Ballot, Slot, SlotRange};

    use super::*;

    #[test]
    fn less_is_not_as_good() {
        let ballot = Ballot { round: 1, leader: ReplicaId(1) };
        let votes = vec![(Slot(3), ballot, Entry::no_op())];
        let first = Recovered { slot_chosen: Slot(3), votes, ..Recovered::default() };
        assert!(is_as_good(&first, &first));
        let mut more = first.clone();
        more.doubts.uncertain.insert(SlotRange { first: Slot(4), end: Slot(9) });
        assert!(is_as_good(&first, &more) && !is_as_good(&more, &first));
        assert!(!is_as_good(&first, &Recovered { votes: Vec::new(), ..first.clone() }));
        assert!(!is_as_good(&first, &Recovered { promised: ballot, ..first.clone() }));
    }
}
