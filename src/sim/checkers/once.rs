//! **A3, once**: a request takes an id where it stands in the log for the first time, if at all;
//! and not where somebody resolved it before.
//!
//! It knows nothing of sessions, and forgets nothing: what replicas must not know any more, they
//! must refuse.

use std::collections::BTreeSet;

use crate::types::command::Command;
use crate::types::entry::Entry;
use crate::types::ids::{RequestId, Slot};

use super::{Violation, ensure};

/// What stood in the log so far.
#[derive(Clone, Debug, Default)]
pub struct Once {
    arrived: BTreeSet<RequestId>,
    resolved: BTreeSet<RequestId>,
}

impl Once {
    /// The next entry of the ledger, and which of its commands took an id.
    ///
    /// # Errors
    ///
    /// Where one did that must not.
    pub fn on_entry(
        &mut self,
        slot: Slot,
        entry: &Entry,
        took_id: &[bool],
    ) -> Result<(), Violation> {
        for (bytes, took_id) in entry.commands().zip(took_id) {
            let Ok(command) = Command::decode(bytes) else { continue };
            let request = command.request;
            if let Some(resolved) = command.resolves {
                ensure(!took_id, "A3", || format!("{request} resolves one in {slot}, by an id"))?;
                self.resolved.insert(resolved);
                continue;
            }
            let is_first = self.arrived.insert(request);
            ensure(is_first || !took_id, "A3", || {
                format!("{request} takes an id in slot {slot}, where it is not for the first time")
            })?;
            ensure(!took_id || !self.resolved.contains(&request), "A3", || {
                format!("{request} takes an id in slot {slot}, though it was resolved before")
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::types::entry::EntryBuilder;
    use crate::types::time::Time;

    use super::*;

    fn request(sequence: u64) -> RequestId {
        RequestId { sequence, ..RequestId::default() }
    }

    fn entry(commands: &[Command<'_>]) -> Entry {
        let mut builder = EntryBuilder::new(Time(1), 0);
        commands.iter().for_each(|command| builder.push(&command.encode()));
        builder.finish()
    }

    #[test]
    fn an_effect_is_the_first() {
        let copies = entry(&[Command::of(request(1)), Command::of(request(1))]);
        for (took_id, passes) in [
            ([true, false], true),
            ([false, false], true),
            ([false, true], false),
            ([true; 2], false),
        ] {
            let told = Once::default().on_entry(Slot(1), &copies, &took_id);
            assert_eq!(told.is_ok(), passes, "{took_id:?}: {told:?}");
        }
    }

    #[test]
    fn what_was_resolved_has_no_effect() {
        let mut once = Once::default();
        let resolving = Command::resolving(request(2), request(9));
        once.on_entry(Slot(1), &entry(&[Command::of(request(1))]), &[true]).unwrap();
        once.on_entry(Slot(2), &entry(std::slice::from_ref(&resolving)), &[false]).unwrap();
        once.on_entry(Slot(3), &entry(&[Command::of(request(2))]), &[false]).unwrap();
        let mut other = once.clone();
        let told = other.on_entry(Slot(4), &entry(&[Command::of(request(2))]), &[true]);
        assert_eq!(told.unwrap_err().invariant, "A3");
        assert!(once.on_entry(Slot(4), &entry(&[resolving]), &[true]).is_err());
    }
}
