//! **I2, validity**: what is proposed was asked for by a caller of this run, or is a no-op, or is
//! the membership in slot 0, or one behind it after somebody asked for a change.
//!
//! A command keeps its content on its way, and changes its number where its session was forgotten;
//! so what was asked for is known by its content alone. Every entry is judged when it is
//! first proposed, and every one of the ledger at the end of a run.

use std::collections::BTreeSet;

use crate::types::command::Command;
use crate::types::entry::{Entry, EntryKind};
use crate::types::ids::{ContentHash, ReplicaId, Slot};

use super::{Violation, ensure};

/// What callers asked for.
#[derive(Clone, Debug, Default)]
pub struct Validity {
    asked: BTreeSet<u128>,
    /// Somebody asked for another membership.
    asked_to_change: bool,
    /// Entries of which it was seen that they are made of that.
    valid: BTreeSet<u128>,
}

impl Validity {
    /// A caller asks for a transaction.
    pub fn on_call(&mut self, command: &[u8]) {
        self.asked.insert(content(command));
    }

    /// A caller asks for another membership. Which one, it is not known before a leader edits its
    /// own; whether it may follow, others judge.
    pub fn on_change(&mut self) {
        self.asked_to_change = true;
    }

    /// An entry is proposed, or is in the ledger.
    ///
    /// # Errors
    ///
    /// Where nobody asked for it.
    pub fn on_entry(&mut self, who: ReplicaId, slot: Slot, entry: &Entry) -> Result<(), Violation> {
        if self.valid.contains(&entry.hash().0) && slot > Slot::ZERO {
            return Ok(());
        }
        let asked = |bytes| self.asked.contains(&content(bytes));
        let valid = match entry.kind() {
            EntryKind::NoOp => true,
            EntryKind::Later => false,
            EntryKind::Membership => slot == Slot::ZERO || self.asked_to_change,
            EntryKind::Commands => slot > Slot::ZERO && entry.commands().all(asked),
        };
        ensure(valid, "I2", || format!("{who} has in slot {slot} what nobody asked for"))?;
        self.valid.insert(entry.hash().0);
        Ok(())
    }
}

/// What a command asks for, whatever its number is.
fn content(command: &[u8]) -> u128 {
    // By what it is known comes first, and all else behind it has one encoding.
    let asked = if Command::decode(command).is_ok() { &command[REQUEST_BYTES..] } else { command };
    ContentHash::of(asked).0
}

/// How many bytes of a command tell by what it is known: a session, a sequence, and below which
/// sequence all is settled.
const REQUEST_BYTES: usize = 16 + 8 + 8;

#[cfg(test)]
mod tests {
    use crate::types::entry::EntryBuilder;
    use crate::types::ids::{RequestId, SessionId};
    use crate::types::time::Time;

    use super::*;

    fn command(table: &'static str, sequence: u64) -> Vec<u8> {
        use crate::types::command::{KeyKind, TableUse, ValueCodec};
        let request = RequestId { session: SessionId(1), sequence };
        let table = TableUse { name: table, key_kind: KeyKind("u64"), codec: ValueCodec::Raw };
        Command { tables: vec![table], ..Command::of(request) }.encode()
    }

    fn entry(commands: &[Vec<u8>]) -> Entry {
        let mut builder = EntryBuilder::new(Time(1), 1000);
        commands.iter().for_each(|command| builder.push(command));
        builder.finish()
    }

    #[test]
    fn what_was_asked_for_may_be_proposed_under_another_number() {
        let mut validity = Validity::default();
        validity.on_call(&command("a", 1));
        let of = |sequence| entry(&[command("a", sequence)]);
        validity.on_entry(ReplicaId(1), Slot(1), &of(1)).unwrap();
        validity.on_entry(ReplicaId(2), Slot(2), &of(7)).unwrap();
        validity.on_entry(ReplicaId(2), Slot(3), &Entry::no_op()).unwrap();
    }

    #[test]
    fn what_nobody_asked_for_is_seen() {
        let mut validity = Validity::default();
        validity.on_call(&command("a", 1));
        let forged = entry(&[command("a", 1), command("b", 2)]);
        let violation = validity.on_entry(ReplicaId(1), Slot(1), &forged).unwrap_err();
        assert_eq!(violation.invariant, "I2");
        // Nor are commands proposed where the membership is.
        let asked = entry(&[command("a", 1)]);
        validity.on_entry(ReplicaId(1), Slot(1), &asked).unwrap();
        assert!(validity.on_entry(ReplicaId(1), Slot::ZERO, &asked).is_err());
    }
}
