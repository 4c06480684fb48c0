//! Commands and entries that no build of ours writes: a reader refuses each.
//!
//! The files that hold them, forged in the same way, are for `forged`.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use indelible::types::codec;
use indelible::types::command::{
    Command, Condition, Key, KeyKind, Operation, TableUse, ValueCodec,
};
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{RequestId, TxId};
use indelible::types::limits::ENTRY_BYTES_MAX;
use indelible::types::time::Time;

#[test]
fn an_entry_has_one_encoding() {
    for at in [2, 3, 8] {
        let mut bytes = Entry::no_op().bytes().to_vec();
        bytes[at] = 1;
        assert!(Entry::decode(bytes).is_err(), "byte {at}");
    }
}

#[test]
fn a_transaction_id_is_in_range() {
    let bytes = codec::encode(&u64::MAX).unwrap();
    assert!(codec::decode::<TxId>("id", &bytes).is_err());
    let condition = Condition::Version(Key { table: 0, bytes: b"a" }, TxId::MAX);
    let command = Command {
        tables: vec![TableUse { name: "t", key_kind: KeyKind("str"), codec: ValueCodec::Raw }],
        conditions: vec![condition],
        ..Command::of(RequestId::default())
    };
    let mut bytes = command.encode();
    assert_eq!(Command::decode(&bytes).unwrap(), command);
    let number = TxId::MAX.get().to_le_bytes();
    let at = bytes.windows(8).position(|window| window == number).unwrap();
    bytes[at + 7] = 0x80;
    assert!(Command::decode(&bytes).is_err());
}

/// No command reaches a table that it does not name: an index would be out of bounds.
#[test]
fn a_command_names_the_tables_of_its_keys() {
    let key = Key { table: 1, bytes: b"a" };
    let table = TableUse { name: "t", key_kind: KeyKind("str"), codec: ValueCodec::Raw };
    let conditions = [vec![Condition::Absent(key)], vec![]];
    let operations = [vec![], vec![Operation::Delete(key)]];
    for (conditions, operations) in conditions.into_iter().zip(operations) {
        let empty = Command::of(RequestId::default());
        let command = Command { tables: vec![table], conditions, operations, ..empty };
        let told = Command::decode(&command.encode()).unwrap_err().to_string();
        assert_eq!(told, "cannot decode command: table 1 of 1 is named");
    }
}

#[test]
fn an_entry_holds_just_what_its_header_says() {
    let mut builder = EntryBuilder::new(Time(1), 8);
    builder.push(b"abc");
    builder.push(b"d");
    let bytes = builder.finish().bytes().to_vec();
    let refused = |bytes: Vec<u8>, reason: &str| {
        let told = Entry::decode(bytes).unwrap_err().to_string();
        assert_eq!(told, format!("cannot decode entry: {reason}"));
    };
    refused(bytes[..15].to_vec(), &format!("15 bytes, wanted 16 to {ENTRY_BYTES_MAX}"));
    let long = [&bytes[..], &vec![0; ENTRY_BYTES_MAX]].concat();
    let length = long.len();
    refused(long, &format!("{length} bytes, wanted 16 to {ENTRY_BYTES_MAX}"));
    // Within the length of a command, and within a command.
    refused(bytes[..bytes.len() - 3].to_vec(), "command 1 ends too early");
    refused(bytes[..bytes.len() - 1].to_vec(), "command 1 ends too early");
    refused([&bytes[..], &[0]].concat(), "bytes left over");
    for (at, value, reason) in [
        (0, 0, "edition 0 for Commands"),
        (1, 9, "unknown kind 9"),
        (1, 0, "header and content differ"),
        (4, 0, "header and content differ"),
    ] {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        refused(bytes, reason);
    }
    assert_eq!(Entry::decode([&[9], &bytes[1..]].concat()).unwrap().edition().0, 9);
    assert_eq!(Entry::decode(bytes).unwrap().command_count(), 2);
}
