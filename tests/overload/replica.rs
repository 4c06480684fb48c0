//! A replica with low bounds, and what is proposed to it.

use std::time::Duration;

use indelible::runtime::handle::Handle;
use indelible::runtime::{batcher, turn};
use indelible::types::command::{
    Command, Condition, Key, KeyKind, Operation, TableUse, ValueCodec,
};
use indelible::types::edition::Edition;
use indelible::types::limits::SESSION_WINDOW;
use indelible::{Committed, Pending, ReplicaId};

/// What a replica may hold for its callers, for the others, and for its disk.
pub const QUEUED_BYTES_MAX: usize = 4 << 20;
const TABLE: TableUse<'static> =
    TableUse { name: "t", key_kind: KeyKind("bytes"), codec: ValueCodec::Raw };

/// One of these voters.
pub fn options(id: u64, voters: Vec<(ReplicaId, String)>) -> turn::Options {
    turn::Options {
        id: ReplicaId(id),
        voters,
        join: None,
        checkpoint_bytes: u64::MAX,
        history_bytes_min: u64::MAX,
        checkpoint_bytes_per_second: 1 << 30,
        quorums: None,
        // What sessions keep is part of the state: it is to be there after a first flood.
        sessions_max: 32,
        session_window: SESSION_WINDOW,
        request_timeout: Duration::from_secs(10),
        queued_bytes_max: QUEUED_BYTES_MAX,
        queued_transactions_max: 8192,
        waiting_reads_max: 8192,
        journal_backlog_bytes_max: 4 << 20,
        heartbeat_interval: Duration::from_millis(50),
        // On a busy machine nobody is to be unseated for want of a processor.
        election_timeout: Duration::from_secs(2),
        retransmit_interval: Duration::from_millis(100),
        priority: 0,
        knows: Edition::KNOWN,
        read_lease: None,
        inflight_slots_max: 2048,
        inflight_bytes_max: 4 << 20,
        message_bytes_max: 1 << 20,
        seal_after: Duration::from_millis(100),
        batcher: batcher::Options {
            commands_max: 4096,
            bytes_max: 256 << 10,
            eager_bytes: 64 << 10,
            inflight_max: 4,
            gather: Duration::from_micros(300),
        },
    }
}

/// Submits a put under a condition that never holds.
pub fn propose(handle: &Handle, value: &[u8]) -> Pending<Committed> {
    let key = Key { table: 0, bytes: b"never written" };
    handle.propose(&|ticket| {
        let command = Command {
            tables: vec![TABLE],
            conditions: vec![Condition::Present(key)],
            operations: vec![Operation::Put(key, value)],
            ..Command::of(ticket)
        };
        Ok(command.encode())
    })
}
