//! What a client is told, as its call is recorded.

use std::task::Poll;

use crate::runtime::handle::Handle;
use crate::store::verdict::{Committed, Resolution};
use crate::types::conflict;
use crate::types::error::{Error, ErrorKind};
use crate::types::ids::{RequestId, TxId};

use super::super::checkers::history::{
    Condition, Conflict, Expectation, Key, Operation, Outcome, Versioned,
};
use super::Open;
use super::commands::TABLE;

/// The newest state here, as `snapshot.rs` reads it.
pub(super) fn read(handle: &Handle, keys: &[Key]) -> Outcome {
    let store = handle.store().get();
    let at = store.applied().txid;
    let values = keys.iter().map(|key| {
        let found = store.get(&TABLE, &key.bytes, at).expect("the table has one type only");
        found.map(|found| Versioned {
            version: found.version.counter(),
            value: found.value.to_vec(),
        })
    });
    Outcome::Read { at: at.counter(), values: values.collect() }
}

pub(super) fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// The request of which it is not known what became of it, and may be known yet.
pub(super) fn unknown(result: &Result<Committed, Error>) -> Option<RequestId> {
    let err = result.as_ref().err()?;
    err.request().filter(|_| err.kind() == ErrorKind::OutcomeUnknown)
}

/// What a resolution says of a call; and the call, where it says nothing and may yet.
pub(super) fn resolved(
    result: Result<Resolution, Error>,
    operation: &Operation,
    open: &Open,
) -> (Outcome, Option<Open>) {
    let resolution = match result {
        Ok(resolution) => resolution,
        Err(err) => {
            let open =
                (!err.is_session_expired() && open.submitted.is_some()).then(|| open.clone());
            return (Outcome::Unknown, open);
        }
    };
    let outcome = match resolution {
        Resolution::Committed(committed) => written(Ok(committed)),
        Resolution::Refused { condition, found } => {
            let transaction = operation.transaction().expect("only transactions are resolved");
            let Condition { key, wanted } = transaction.conditions[condition].clone();
            Outcome::Conflict(Conflict { condition, key, wanted, found: found.map(TxId::counter) })
        }
        Resolution::TableMismatch | Resolution::Burned => Outcome::NotHappened,
    };
    (outcome, None)
}

pub(super) fn written(result: Result<Committed, Error>) -> Outcome {
    let err = match result {
        Ok(committed) => {
            let txid = committed.txid.map(TxId::counter);
            return Outcome::Committed { at: committed.at.counter(), txid };
        }
        Err(err) => err,
    };
    match (err.kind(), err.conflict()) {
        (ErrorKind::Refused, Some(conflict)) => Outcome::Conflict(Conflict {
            condition: conflict.condition,
            key: Key::new(0, conflict.key.clone()),
            wanted: match conflict.wanted {
                conflict::Expectation::Absent => Expectation::Absent,
                conflict::Expectation::Present => Expectation::Present,
                conflict::Expectation::Version(version) => Expectation::Version(version.counter()),
            },
            found: conflict.found.map(TxId::counter),
        }),
        _ if err.is_outcome_unknown() => Outcome::Unknown,
        _ => Outcome::NotHappened,
    }
}
