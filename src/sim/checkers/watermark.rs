//! **D9, watermark**: a group that says how far the log is chosen stands behind the entries up to
//! there: of each slot, the newest frame that is durable with it holds what is chosen.
//!
//! Else a crash behind that group leaves an older vote in a slot that counts as chosen, and the
//! next opening takes it for the entry.

use std::collections::BTreeMap;

use crate::sim::durable::{Group, Seen};
use crate::types::ids::{ContentHash, ReplicaId, Slot};

use super::{Violation, ensure};

/// What the journal of one replica holds from its watermark on.
#[derive(Clone, Debug, Default)]
pub struct Watermark {
    /// What the journal durably says; `None` where nobody knows what else it holds.
    mark: Option<Slot>,
    /// The newest frame of each slot from there on.
    newest: BTreeMap<Slot, ContentHash>,
}

impl Watermark {
    /// The replica was opened. `groups` is what it wrote, `votes` what it found besides; `whole`:
    /// what was seen of its journal before still holds.
    pub fn on_opened(
        &mut self,
        groups: &[Group],
        votes: impl Iterator<Item = (Slot, ContentHash)>,
        whole: bool,
    ) {
        if !whole {
            *self = Self::default();
            return;
        }
        for (slot, content) in votes {
            self.newest.entry(slot).or_insert(content);
        }
        groups.iter().for_each(|group| self.take(group));
        let mark = groups.iter().map(|group| group.slot_chosen).max().unwrap_or_default();
        self.mark = Some(mark);
        self.newest = self.newest.split_off(&mark);
    }

    /// Whether the journal durably says that all below `slot` is chosen. Where nobody knows what it
    /// holds, it may.
    #[must_use]
    pub fn is_behind(&self, slot: Slot) -> bool {
        self.mark.is_none_or(|mark| slot <= mark)
    }

    /// A checkpoint is durable that makes up for the slots below `slot`.
    pub fn on_checkpoint(&mut self, slot: Slot) {
        if let Some(mark) = &mut self.mark
            && *mark < slot
        {
            *mark = slot;
            self.newest = self.newest.split_off(&slot);
        }
    }

    /// A group is durable, and every one before it.
    ///
    /// # Errors
    ///
    /// Where it counts a slot as chosen whose newest frame holds something else, or that has none.
    pub fn on_durable(
        &mut self,
        id: ReplicaId,
        group: &Group,
        chosen: impl Fn(Slot) -> Option<ContentHash>,
    ) -> Result<(), Violation> {
        let Some(mark) = self.mark else { return Ok(()) };
        self.take(group);
        for slot in (mark.0..group.slot_chosen.0).map(Slot) {
            let held = self.newest.remove(&slot);
            ensure(held.is_some() && held == chosen(slot), "D9", || {
                let end = group.slot_chosen;
                format!("{id} says durably that all below {end} is chosen; slot {slot}: {held:?}")
            })?;
        }
        self.mark = Some(mark.max(group.slot_chosen));
        Ok(())
    }

    fn take(&mut self, group: &Group) {
        let mark = self.mark.unwrap_or_default();
        for seen in &group.frames {
            match *seen {
                Seen::Vote { slot, content, .. } | Seen::Chosen { slot, content }
                    if mark <= slot =>
                {
                    self.newest.insert(slot, content);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::types::ids::{Ballot, Lsn};

    use super::*;

    const ID: ReplicaId = ReplicaId(1);
    const SLOT: Slot = Slot(4);

    fn content(text: &str) -> ContentHash {
        ContentHash::of(text.as_bytes())
    }

    fn group(slot_chosen: u64, text: Option<&str>) -> Group {
        let ballot = Ballot { round: 1, leader: ID };
        let vote = |text| Seen::Vote { slot: SLOT, ballot, content: content(text) };
        let frames = text.into_iter().map(vote).collect();
        Group { first: Lsn(0), end: Lsn(1), slot_chosen: Slot(slot_chosen), frames }
    }

    fn judge(watermark: &mut Watermark, group: &Group) -> bool {
        watermark.on_durable(ID, group, |slot| (slot == SLOT).then(|| content("new"))).is_ok()
    }

    fn opened(found: Option<&str>) -> Watermark {
        let mut watermark = Watermark::default();
        let votes = found.map(|text| (SLOT, content(text)));
        watermark.on_opened(&[group(4, None)], votes.into_iter(), true);
        watermark
    }

    #[test]
    fn what_counts_as_chosen_is_there() {
        assert!(judge(&mut opened(Some("new")), &group(5, None)), "it was found");
        assert!(judge(&mut opened(Some("old")), &group(5, Some("new"))), "it is in the group");
        assert!(judge(&mut opened(Some("old")), &group(4, None)), "it is not told");
    }

    #[test]
    fn an_older_vote_does_not_pass_for_what_is_chosen() {
        assert!(!judge(&mut opened(Some("old")), &group(5, None)));
        assert!(!judge(&mut opened(None), &group(5, None)), "there is nothing at all");
        let mut later = opened(None);
        assert!(judge(&mut later, &group(4, Some("new"))));
        assert!(judge(&mut later, &group(5, None)));
        assert!(!judge(&mut later, &group(6, None)), "the next one is not there");
    }

    #[test]
    fn a_checkpoint_makes_up_for_what_is_not_there() {
        let mut behind = opened(None);
        behind.on_checkpoint(Slot(5));
        assert!(judge(&mut behind, &group(5, None)));
        assert!(!judge(&mut behind, &group(6, None)), "it reaches no further");
    }

    #[test]
    fn nothing_is_known_of_a_disk_that_was_set_back() {
        let mut watermark = opened(Some("old"));
        watermark.on_opened(&[group(4, None)], std::iter::empty(), false);
        assert!(judge(&mut watermark, &group(5, None)));
    }
}
