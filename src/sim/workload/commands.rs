//! How calls of clients read as commands in the log, and back.

use crate::types::command::{self, Command, KeyKind, TableUse, Ticket, ValueCodec};
use crate::types::ids::TxId;

use super::{Change, Condition, Expectation, Key, Transaction};

/// What the key begins with that names a call.
const TAG: &[u8] = b"call ";

/// The one table of all clients.
pub(super) const TABLE: TableUse<'static> =
    TableUse { name: "simulated", key_kind: KeyKind("bytes"), codec: ValueCodec::Raw };

/// The command of a call. So that the ledger tells whose call it is, the last condition names it:
/// that a key is absent which never was there. (A request does not do for that: it gets another
/// number when it is handed on again.)
pub(super) fn encode(
    transaction: &Transaction,
    ticket: Ticket,
    (name, number): (u64, u64),
) -> Vec<u8> {
    fn key(key: &Key) -> command::Key<'_> {
        command::Key { table: key.table, bytes: &key.bytes }
    }
    let conditions = transaction.conditions.iter().map(|condition| match condition.wanted {
        Expectation::Absent => command::Condition::Absent(key(&condition.key)),
        Expectation::Present => command::Condition::Present(key(&condition.key)),
        Expectation::Version(version) => {
            let version = TxId::new(0, version).expect("a version that was told");
            command::Condition::Version(key(&condition.key), version)
        }
    });
    let operations = transaction.changes.iter().map(|change| match &change.value {
        Some(value) => command::Operation::Put(key(&change.key), value),
        None => command::Operation::Delete(key(&change.key)),
    });
    let tag = [TAG, &name.to_be_bytes(), &number.to_be_bytes()].concat();
    let tag = command::Condition::Absent(command::Key { table: 0, bytes: &tag });
    let conditions = conditions.chain([tag]).collect();
    let operations = operations.collect();
    Command { tables: vec![TABLE], conditions, operations, ..Command::of(ticket) }.encode()
}

/// The transaction that a command in the ledger is, with the client and the number of its call;
/// `None` where no client of a workload made it.
pub(in crate::sim) fn decode(bytes: &[u8]) -> Option<((u64, u64), Transaction)> {
    let mut command = Command::decode(bytes).ok()?;
    let tag = command.conditions.pop()?;
    let (name, number) = tag.key().bytes.strip_prefix(TAG)?.split_at_checked(8)?;
    let number_of = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).ok();
    let call = (number_of(name)?, number_of(number)?);
    let key = |key: command::Key<'_>| Key::new(key.table, key.bytes);
    let conditions = command.conditions.iter().map(|condition| Condition {
        key: key(condition.key()),
        wanted: match condition {
            command::Condition::Absent(_) => Expectation::Absent,
            command::Condition::Present(_) => Expectation::Present,
            command::Condition::Version(_, version) => Expectation::Version(version.counter()),
        },
    });
    let changes = command.operations.iter().map(|operation| Change {
        key: key(operation.key()),
        value: match operation {
            command::Operation::Put(_, value) => Some(value.to_vec()),
            command::Operation::Delete(_) => None,
        },
    });
    let (conditions, changes) = (conditions.collect(), changes.collect());
    Some((call, Transaction { conditions, changes }))
}
