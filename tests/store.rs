//! The store by text scripts: entries in, verdicts, ids and reads out.
//!
//! | command | what it does |
//! |---|---|
//! | `store NAME` | goes on with the store of that name, empty at first |
//! | `tx OPERATION ; OPERATION ..` | adds a transaction to the next entry |
//! | `again NAME` | adds the transaction that was added `as=NAME` once more |
//! | `resolve OPENED.RANDOM/SEQUENCE` | adds a command that resolves a request |
//! | `remember N [replica=1]` | applies a membership of one, with N sessions |
//! | `restore` | makes the state the beginning of another ledger |
//! | `members` | who belongs |
//! | `sessions` | what is remembered of sessions |
//! | `mixed KEY` | adds a transaction that puts a key twice, with text and with number keys |
//! | `apply [time=MS]` | applies the entry to the next slot, and tells how each transaction ended |
//! | `apply-bytes BYTES` | applies an entry with one command of these bytes |
//! | `no-op` | applies a no-op |
//! | `get KEY [at=ID]` | the value of a key, with its facts |
//! | `range [TABLE/]FROM..TO [at=ID] [limit=N] [reverse=true]` | one page of a range; `..=` too |
//! | `prefix [TABLE/]BEGIN ..` | the same for the keys that begin so |
//! | `applied` | the boundary |
//! | `find ID` | in which slot a transaction is |
//! | `outcomes` | for each slot, the id before it and which commands took one |
//! | `image NAME` | makes a store of that name of an image of this one, and goes on with it |
//! | `compare NAME NAME` | whether the digests of two stores are equal |
//!
//! Operations: `put KEY VALUE`, `delete KEY`, and as conditions `absent KEY`, `present KEY` and
//! `version KEY ID`. `session=OPENED.RANDOM`, `sequence=N` and `settled=N` say by what a
//! transaction is known; without them it is the next one of session 0.7, with nothing settled. A
//! key is `TABLE/KEY`, or `KEY` in table `t`. `kind=` and `codec=` say with which types a line uses
//! its tables; without them it is text keys and raw values.

mod support;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use indelible::store::image::{Image, ImageReader};
use indelible::store::sessions::{SessionImage, Sessions, SessionsImage};
use indelible::store::verdict::Verdict;
use indelible::store::versions::{Found, PageRequest};
use indelible::store::{Ended, Store};
use indelible::types::command::{
    Command, Condition, Key, KeyKind, Operation, TableUse, Ticket, ValueCodec,
};
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{Incarnation, ReplicaId, RequestId, SessionId, Slot, SlotRange};
use indelible::types::membership::{Member, Membership};
use indelible::{Resolution, Time, TxId};
use support::script;

#[test]
fn scripts() {
    for path in script::scripts("tests/store") {
        let mut stores = Stores::default();
        script::run(&path, &mut |command| stores.interpret(command));
    }
}

#[derive(Default)]
struct Stores {
    stores: BTreeMap<String, Arc<Store>>,
    current: String,
    /// The encoded commands of the next entry.
    entry: Vec<Vec<u8>>,
    requests: u64,
    /// The transactions that were added under a name.
    named: BTreeMap<String, Vec<u8>>,
}

impl Stores {
    fn interpret(&mut self, command: &script::Command) -> String {
        match command.name.as_str() {
            "store" => self.current = command.arg(0),
            "tx" => self.add_transaction(command),
            "again" => {
                let named = self.named.get(&command.arg::<String>(0)).cloned();
                self.entry.push(named.unwrap_or_else(|| command.reject("nothing is named so")));
            }
            "resolve" => {
                let text = command.arg::<String>(0);
                let (session, sequence) = text.split_once('/').expect("a session and a sequence");
                let sequence = sequence.parse().expect("a sequence is a number");
                let resolved = RequestId { session: session_id(session), sequence };
                self.entry.push(Command::resolving(resolved, RequestId::default()).encode());
            }
            "remember" => {
                let id = command.option_or("replica", 1);
                let (incarnation, address) = (Incarnation(id.into()), id.to_string());
                let voter = Member { id: ReplicaId(id), incarnation, address };
                let membership = Membership::majority(vec![voter]).expect("one is enough");
                let membership = membership.with_sessions_max(command.arg(0)).expect("a few");
                return self.apply(&Entry::membership(&membership));
            }
            "members" => {
                let membership = self.store().membership();
                return membership.map_or("nobody is named".into(), |known| known.to_string());
            }
            "sessions" => return self.sessions(),
            "mixed" => self.add_mixed(command),
            "apply" => return self.apply_entry(Time(command.option_or("time", 0))),
            "apply-bytes" => {
                self.entry = vec![command.arg::<String>(0).into_bytes()];
                return self.apply_entry(Time(0));
            }
            "restore" => self.restore(),
            "no-op" => return self.apply(&Entry::no_op()),
            "get" => return self.get(command),
            "range" | "prefix" => return self.range(command),
            "applied" => {
                let boundary = self.store().applied();
                return format!("slot {} id {} {}", boundary.slot, boundary.txid, boundary.time);
            }
            "find" => {
                let slot = self.store().find(id(command.arg(0)));
                return slot.map_or("in no slot".into(), |slot| format!("in slot {slot}"));
            }
            "outcomes" => return self.outcomes(),
            "image" => return self.image(command),
            "compare" => {
                let mut digest = |name| self.stores.entry(command.arg(name)).or_default().digest();
                return if digest(0) == digest(1) { "equal" } else { "different" }.into();
            }
            _ => command.reject("unknown command"),
        }
        String::new()
    }

    fn restore(&mut self) {
        let voter = Member {
            id: ReplicaId(1),
            incarnation: Incarnation(9),
            address: "restored".to_owned(),
        };
        let membership = Membership::majority(vec![voter]).expect("one is enough");
        let store = self.stores.remove(&self.current).unwrap_or_default();
        let store = Arc::try_unwrap(store).expect("nobody else has it");
        let store = store.begin_epoch(membership, TxId::ZERO).expect("there is one more epoch");
        self.stores.insert(self.current.clone(), Arc::new(store));
    }

    fn store(&mut self) -> &Store {
        self.stores.entry(self.current.clone()).or_default()
    }

    fn image(&mut self, command: &script::Command) -> String {
        self.store();
        let from = Slot(command.option_or("ledger", 0));
        let image = Image::of(&self.stores[&self.current], from);
        let mut reader = ImageReader::new();
        let mut count = 0;
        for piece in image {
            if let Err(err) = reader.take(&piece) {
                return format!("error: {err}");
            }
            count += 1;
        }
        let store = match reader.finish() {
            Ok(store) => store,
            Err(err) => return format!("error: {err}"),
        };
        self.current = command.arg(0);
        self.stores.insert(self.current.clone(), Arc::new(store));
        format!("{count} pieces, transactions after {}", self.store().floor())
    }

    fn add_transaction(&mut self, command: &script::Command) {
        self.requests += u64::from(!command.options.contains_key("sequence"));
        let session = command.option::<String>("session");
        let session = session_id(session.as_deref().unwrap_or("0.7"));
        let sequence = command.option_or("sequence", self.requests);
        let request = RequestId { session, sequence };
        let settled_below = command.option_or("settled", 1);
        let mut built = Command::of(Ticket { request, settled_below });
        for words in command.args.split(|word| word == ";") {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let (name, bytes) = table_and_key(words[1]);
            let used = table_use(command, name);
            let known = built.tables.iter().position(|table| *table == used);
            let table = known.unwrap_or(built.tables.len()) as u32;
            if known.is_none() {
                built.tables.push(used);
            }
            let key = Key { table, bytes };
            match words[..] {
                ["put", _, value] => built.operations.push(Operation::Put(key, value.as_bytes())),
                ["delete", _] => built.operations.push(Operation::Delete(key)),
                ["absent", _] => built.conditions.push(Condition::Absent(key)),
                ["present", _] => built.conditions.push(Condition::Present(key)),
                ["version", _, version] => {
                    let version = id(version.parse().expect("an id is a number"));
                    built.conditions.push(Condition::Version(key, version));
                }
                _ => command.reject(format!("unknown operation {words:?}")),
            }
        }
        if let Some(name) = command.option("as") {
            self.named.insert(name, built.encode());
        }
        self.entry.push(built.encode());
    }

    fn add_mixed(&mut self, command: &script::Command) {
        let key = command.arg::<String>(0);
        let (name, bytes) = table_and_key(&key);
        let types = |kind| TableUse { name, key_kind: KeyKind(kind), codec: ValueCodec::Raw };
        let put = |table| Operation::Put(Key { table, bytes }, b"1");
        let built = Command {
            tables: vec![types("str"), types("u64")],
            operations: vec![put(0), put(1)],
            ..Command::of(RequestId::default())
        };
        self.entry.push(built.encode());
    }

    fn apply_entry(&mut self, time: Time) -> String {
        let mut builder = EntryBuilder::new(time, 0);
        self.entry.drain(..).for_each(|command| builder.push(&command));
        self.apply(&builder.finish())
    }

    fn apply(&mut self, entry: &Entry) -> String {
        let store = self.store();
        let slot = store.applied().slot;
        let applied = match store.apply(slot, entry) {
            Ok(applied) => applied,
            Err(err) => return format!("error: {err}"),
        };
        assert_eq!(applied.last, store.applied().txid);
        let mut lines = format!("slot {slot} after {}, {}\n", applied.after, applied.time);
        for Ended { request, verdict, took_id } in applied.verdicts {
            assert!(!took_id || verdict.txid().is_some(), "{request} took an id: {verdict:?}");
            if matches!(verdict, Verdict::Resolved(_)) {
                let told = match verdict.into_resolution() {
                    Ok(Resolution::Committed(done)) => {
                        format!("committed {:?} at {}", done.txid.map(TxId::get), done.at)
                    }
                    Ok(told) => format!("{told:?}"),
                    Err(err) => format!("{err:?}"),
                };
                lines += &format!("  {told}\n");
                continue;
            }
            let told = match verdict.into_result(request) {
                Ok(done) if !took_id && done.txid.is_some() => {
                    format!("was committed {}", done.at)
                }
                Ok(done) => match done.txid {
                    Some(txid) => format!("committed {txid}"),
                    None => format!("committed without a change at {}", done.at),
                },
                Err(err) => format!("{err:?}"),
            };
            lines += &format!("  {told}\n");
        }
        lines
    }

    fn get(&mut self, command: &script::Command) -> String {
        let (at, key) = (self.at(command), command.arg::<String>(0));
        let (table, bytes) = table_and_key(&key);
        match self.store().get(&table_use(command, table), bytes, at) {
            Ok(Some(found)) => show(bytes, &found),
            Ok(None) => format!("{key} has no value"),
            Err(err) => format!("error: {err}"),
        }
    }

    fn range(&mut self, command: &script::Command) -> String {
        let (at, text) = (self.at(command), command.arg::<String>(0));
        let (table, range) = table_and_key(&text);
        let range = std::str::from_utf8(range).expect("scripts are text, cut at a slash");
        let mut behind = range.to_owned();
        let bounds = match range.split_once("..") {
            _ if command.name == "prefix" => {
                behind.push(char::MAX);
                (Bound::Included(range.as_bytes()), Bound::Excluded(behind.as_bytes()))
            }
            Some((from, to)) => {
                let from = if from.is_empty() { Bound::Unbounded } else { Bound::Included(from) };
                let to = match to.strip_prefix('=') {
                    Some(to) => Bound::Included(to),
                    None if to.is_empty() => Bound::Unbounded,
                    None => Bound::Excluded(to),
                };
                (from.map(str::as_bytes), to.map(str::as_bytes))
            }
            None => command.reject("a range has two dots"),
        };
        let reverse = command.option_or("reverse", false);
        let request = PageRequest { bounds, reverse, limit: command.option_or("limit", 100) };
        let page = match self.store().page(&table_use(command, table), request, at) {
            Ok(page) => page,
            Err(err) => return format!("error: {err}"),
        };
        let mut lines: Vec<_> = page.items.iter().map(|(key, found)| show(key, found)).collect();
        if let Some(key) = &page.resume {
            lines.push(format!("more behind {}", String::from_utf8_lossy(key)));
        }
        if lines.is_empty() { "nothing".into() } else { lines.join("\n") }
    }

    fn outcomes(&mut self) -> String {
        let store = self.store();
        let end = store.applied().slot;
        assert_eq!(store.outcome(end), None);
        let mut lines = String::new();
        let first = (0..=end.0).map(Slot).find(|slot| store.outcome(*slot).is_some());
        let first = first.unwrap_or(end);
        for slot in (first.0..end.0).map(Slot) {
            let outcome = store.outcome(slot).expect("every applied slot has an outcome");
            let bits = outcome.took_id.iter().map(|took_id| if *took_id { " id" } else { " -" });
            lines += &format!("{slot} after {}:{}\n", outcome.after, bits.collect::<String>());
        }
        let all = store.verdicts(SlotRange { first, end });
        lines + &format!("all after {}: {:08b}", all.after, FromHigh(&all.took_id))
    }

    fn sessions(&mut self) -> String {
        let image = self.store().sessions();
        let SessionsImage { commands, floor, sessions_max, .. } = image;
        let mut lines = format!("{commands} commands, floor {floor}, at most {sessions_max}\n");
        for SessionImage { id, used, settled_below, outcomes } in &image.sessions {
            let sequences = outcomes.iter().map(|(sequence, _)| sequence).collect::<Vec<_>>();
            let random = id.0 as u64;
            let (opened, from) = (id.opened(), format!("from {settled_below}: {sequences:?}"));
            lines += &format!("  {opened}.{random} used {used}, {from}\n");
        }
        // What is made of the image is the same, digest and all.
        let made = Sessions::try_from(image.clone()).expect("it is an image");
        assert_eq!(made.to_image(), image);
        lines
    }

    fn at(&mut self, command: &script::Command) -> TxId {
        command.option("at").map_or_else(|| self.store().applied().txid, id)
    }
}

/// Bytes as binary numbers, with the first bit of the first byte at the right end.
struct FromHigh<'a>(&'a [u8]);

impl std::fmt::Binary for FromHigh<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().rev().try_for_each(|byte| std::fmt::Binary::fmt(byte, f))
    }
}

fn table_and_key(text: &str) -> (&str, &[u8]) {
    let (table, key) = text.split_once('/').unwrap_or(("t", text));
    (table, key.as_bytes())
}

fn table_use<'a>(command: &'a script::Command, name: &'a str) -> TableUse<'a> {
    TableUse {
        name,
        key_kind: KeyKind(command.options.get("kind").map_or("str", String::as_str)),
        codec: match command.options.get("codec").map(String::as_str) {
            None | Some("raw") => ValueCodec::Raw,
            Some("bincode") => ValueCodec::Bincode,
            Some(other) => command.reject(format!("unknown codec {other}")),
        },
    }
}

fn show(key: &[u8], found: &Found) -> String {
    let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(&found.value));
    let Found { version, created, writes, .. } = found;
    format!("{key} = {value} (version {version}, created {created}, writes {writes})")
}

fn session_id(text: &str) -> SessionId {
    let (opened, random) = text.split_once('.').expect("opened.random");
    let number = |text: &str| text.parse().expect("both are numbers");
    SessionId::new(number(opened), number(random))
}

fn id(number: u64) -> TxId {
    TxId::from_number(number).expect("scripts use ids that exist")
}
