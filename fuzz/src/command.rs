//! Entries and commands from any bytes, and what applying them does.
//!
//! The input is taken as an entry, and as a run of commands that a right entry is made of.
//! Asserted: what decodes encodes to the same bytes, unless only later builds can read it; an entry
//! that decodes is applied as a whole, or, where one of its commands does not decode, not at all;
//! ids are dense; the state does not depend on how commands are put together into entries; of
//! several operations on one key the last stands; no command happens twice; what is remembered of
//! sessions is made anew from its image.

use std::collections::{BTreeMap, BTreeSet};

use indelible::store::sessions::Sessions;
use indelible::store::{Applied, ApplyError, Ended, Store};
use indelible::types::command::Command;
use indelible::types::edition::Edition;
use indelible::types::entry::{Entry, EntryBuilder, EntryKind};
use indelible::types::ids::Slot;
use indelible::types::time::Time;

use crate::allocations::bounded;
use crate::input::Input;

/// Takes `data` as an entry, as a command, and as several.
pub fn run(data: &[u8]) {
    entry(data);
    command(data);
    let mut input = Input::new(data);
    let mut commands = Vec::new();
    while !input.is_empty() && commands.len() < 64 {
        let length = usize::from(input.word());
        commands.push(input.take(length));
    }
    if commands.len() > 1 {
        together(&commands);
    }
}

fn entry(bytes: &[u8]) {
    let decode = || Entry::decode(bytes.to_vec());
    let Ok(entry) = bounded(bytes.len(), decode) else { return };
    assert_eq!(entry.bytes(), bytes);
    assert_eq!(entry.commands().count(), entry.command_count());
    match entry.kind() {
        EntryKind::NoOp => assert_eq!(entry, Entry::no_op(), "there is one no-op"),
        EntryKind::Commands => {
            let builder = EntryBuilder::new(entry.time(), bytes.len());
            let mut builder = builder.of_edition(entry.edition());
            entry.commands().for_each(|command| builder.push(command));
            assert_eq!(builder.finish().bytes(), bytes, "another encoding of {entry:?}");
        }
        EntryKind::Membership => {
            let membership = entry.as_membership().expect("it says that it is one");
            assert_eq!(Entry::membership(&membership).bytes()[16..], bytes[16..]);
        }
        EntryKind::Later => assert!(Edition::KNOWN < entry.edition(), "it cannot be read"),
    }
    let readable = entry.kind() != EntryKind::Later;
    let all = readable && entry.commands().all(|bytes| Command::decode(bytes).is_ok());
    let store = Store::new();
    assert_eq!(apply(&store, &entry).is_ok(), all);
}

fn command(bytes: &[u8]) {
    let Ok(command) = bounded(bytes.len(), || Command::decode(bytes)) else { return };
    assert_eq!(command.encode(), bytes, "another encoding of {command:?}");
    let mut last = BTreeMap::new();
    for (index, operation) in command.operations.iter().enumerate() {
        let key = operation.key();
        last.insert((command.tables[key.table as usize].name, key.bytes), index);
    }
    let mut wanted: Vec<usize> = last.into_values().collect();
    wanted.sort_unstable();
    let wanted: Vec<_> = wanted.into_iter().map(|index| &command.operations[index]).collect();
    assert_eq!(command.standing_operations(), wanted);
    together(&[bytes, bytes]);
}

/// Applies commands in one entry, and each in its own.
fn together(commands: &[&[u8]]) {
    let valid: Vec<&[u8]> =
        commands.iter().copied().filter(|bytes| Command::decode(bytes).is_ok()).collect();
    let (one, each) = (Store::new(), Store::new());
    if valid.len() < commands.len() {
        assert!(apply(&one, &pack(commands)).is_err(), "a command that does not decode");
    }
    if valid.is_empty() {
        return;
    }
    let applied = apply(&one, &pack(&valid)).expect("every command decodes");
    let mut happened = BTreeSet::new();
    let mut alone = |command: &[u8]| {
        let mut applied = apply(&each, &pack(&[command])).expect("the command decodes");
        let ended = applied.verdicts.pop().expect("there is one for each command");
        assert!(!ended.took_id || happened.insert(ended.request), "a command happens twice");
        ended
    };
    for (command, ended) in valid.iter().zip(&applied.verdicts) {
        assert_eq!(&alone(command), ended);
    }
    // All of them once more: what happened does not happen a second time. (What did not may: a
    // session that says that it was opened further on, as none does, is none before that.)
    for command in &valid {
        alone(command);
    }
    apply(&one, &pack(&valid)).expect("every command decodes");
    let image = each.sessions();
    let sessions = Sessions::try_from(image.clone()).expect("it is an image");
    assert_eq!(sessions.to_image(), image);
    assert_eq!(one.applied().digest, each.applied().digest);
    assert_eq!(one.applied().txid, each.applied().txid);
}

fn pack(commands: &[&[u8]]) -> Entry {
    let mut builder = EntryBuilder::new(Time(1), 0);
    commands.iter().for_each(|command| builder.push(command));
    builder.finish()
}

/// Applies an entry in the next slot, and compares what was told with what is there.
fn apply(store: &Store, entry: &Entry) -> Result<Applied, ApplyError> {
    let before = store.applied();
    let slot: Slot = before.slot;
    let applied = match store.apply(slot, entry) {
        Ok(applied) => applied,
        Err(err) => {
            assert_eq!(store.applied(), before, "an entry that is refused changes nothing");
            return Err(err);
        }
    };
    assert_eq!((applied.after, applied.verdicts.len()), (before.txid, entry.command_count()));
    let mut last = before.txid;
    for Ended { verdict, took_id, .. } in &applied.verdicts {
        if let Some(txid) = verdict.txid().filter(|_| *took_id) {
            assert_eq!(last.next(), Some(txid), "ids are dense");
            assert_eq!(store.find(txid), Some(slot));
            last = txid;
        }
    }
    assert_eq!(applied.last, last);
    let took: Vec<bool> = applied.verdicts.iter().map(|ended| ended.took_id).collect();
    assert_eq!(store.outcome(slot).expect("the slot is applied").took_id, took);
    Ok(applied)
}
