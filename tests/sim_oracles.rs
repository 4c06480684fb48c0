//! Every checker catches what breaks its invariants, and nothing else.
//!
//! Each case is a small history in two versions: one that can be, and its twin in which one thing
//! is wrong. For the twin it is said what each oracle answers: the replay, the search, the rules.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "sim_oracles/made.rs"]
mod made;
#[path = "sim_oracles/random.rs"]
mod random;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use indelible::ReplicaId;
use indelible::sim::checkers::calm::{self, Quiet};
use indelible::sim::checkers::history::{
    Call, Change, Condition, Conflict, Expectation, History, Key, Operation, Outcome, Record,
    Transaction, Versioned,
};
use indelible::sim::checkers::{Conclusion, Violation, occ, replay, search};

const STEPS_MAX: u64 = 100_000;

/// A run as it is written down.
#[derive(Default)]
struct Run {
    history: History,
    ledger: Vec<Record>,
}

impl Run {
    fn call(&mut self, client: u64, span: Range<u64>, call: Call, outcome: Outcome) {
        self.history.operations.push(Operation {
            client,
            number: self.history.operations.len() as u64,
            invoked: span.start,
            returned: Some(span.end),
            call,
            outcome,
            told_to: client,
        });
    }

    /// A transaction that is told to have taken the next id, or one that comes up.
    fn commit(&mut self, span: Range<u64>, transaction: Transaction) {
        let txid = self.ledger.len() as u64 + 1;
        self.call_transaction(
            span,
            &transaction,
            Outcome::Committed { at: txid, txid: Some(txid) },
        );
        self.record(transaction);
    }

    fn unknown(&mut self, span: Range<u64>, transaction: Transaction) {
        self.call_transaction(span, &transaction, Outcome::Unknown);
        self.record(transaction);
    }

    fn call_transaction(&mut self, span: Range<u64>, transaction: &Transaction, outcome: Outcome) {
        self.call(1, span, Call::Transaction(transaction.clone()), outcome);
    }

    /// The last call has happened.
    fn record(&mut self, transaction: Transaction) {
        let txid = self.ledger.len() as u64 + 1;
        let Operation { client, number, .. } = *self.history.operations.last().unwrap();
        self.ledger.push(Record { txid, client, number, transaction });
    }

    fn conflict(&mut self, span: Range<u64>, transaction: &Transaction, found: Option<u64>) {
        let Condition { key, wanted } = transaction.conditions[0].clone();
        let conflict = Conflict { condition: 0, key, wanted, found };
        self.call_transaction(span, transaction, Outcome::Conflict(conflict));
    }

    fn read(&mut self, span: Range<u64>, at: u64, held: &[(&str, Option<(u64, &str)>)]) {
        let (keys, outcome) = answer(at, held);
        self.call(1, span, Call::Read(keys), outcome);
    }

    fn stale(&mut self, client: u64, span: Range<u64>, at: u64, held: Option<(u64, &str)>) {
        let (keys, outcome) = answer(at, &[("a", held)]);
        self.call(client, span, Call::StaleRead(keys), outcome);
    }

    fn last_outcome(&mut self) -> &mut Outcome {
        &mut self.history.operations.last_mut().unwrap().outcome
    }

    /// What the replay, the search and the rules find.
    fn told(&self) -> [Option<&'static str>; 3] {
        let replay = replay::check(&self.history, Some(&self.ledger)).map(|_| ());
        let search = search::check(&self.history, STEPS_MAX);
        let search = search.map(|it| assert_eq!(it.conclusion(), Conclusion::Passed));
        let name = |told: Result<(), Violation>| told.err().map(|it| it.invariant);
        [name(replay), name(search), name(occ::check(&self.history))]
    }
}

fn answer(at: u64, held: &[(&str, Option<(u64, &str)>)]) -> (Vec<Key>, Outcome) {
    let keys = held.iter().map(|(key, _)| Key::new(0, *key)).collect();
    let versioned = |(version, value): (u64, &str)| Versioned { version, value: value.into() };
    let values = held.iter().map(|(_, held)| held.map(versioned)).collect();
    (keys, Outcome::Read { at, values })
}

/// Puts of `key=value`, deletions of `key`.
fn tx(changes: &[&str]) -> Transaction {
    let change = |text: &&str| match text.split_once('=') {
        Some((key, value)) => Change { key: Key::new(0, key), value: Some(value.into()) },
        None => Change { key: Key::new(0, *text), value: None },
    };
    Transaction { conditions: Vec::new(), changes: changes.iter().map(change).collect() }
}

/// The same, if `key` is as `wanted`.
fn when(key: &str, wanted: Expectation, changes: &[&str]) -> Transaction {
    let conditions = vec![Condition { key: Key::new(0, key), wanted }];
    Transaction { conditions, ..tx(changes) }
}

/// The good twin passes everywhere; of the bad one it is told what is expected.
#[track_caller]
fn twins(expected: [&str; 3], build: impl Fn(&mut Run, bool)) {
    let mut run = Run::default();
    build(&mut run, false);
    assert_eq!(run.told(), [None; 3], "the good twin");
    let mut run = Run::default();
    build(&mut run, true);
    assert_eq!(run.told().map(Option::unwrap_or_default), expected, "the bad twin");
}

use Expectation::{Absent, Present, Version};

#[test]
fn l1_l2_an_answer_is_what_was_written() {
    twins(["L1", "L2", "O2"], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        run.read(20..30, 1, &[("a", Some((1, if bad { "2" } else { "1" })))]);
    });
    twins(["L1", "L2", "O2"], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        run.read(20..30, 1, &[("a", Some((if bad { 2 } else { 1 }, "1")))]);
    });
    twins(["L1", "L2", "O3"], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        run.read(20..30, 1, &[("a", (!bad).then_some((1, "1")))]);
    });
    twins(["L1", "", ""], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        run.read(20..30, if bad { 9 } else { 1 }, &[("a", Some((1, "1")))]);
    });
}

#[test]
fn l1_l2_a_read_is_fresh() {
    twins(["L1", "L2", "O2"], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        run.commit(20..30, tx(&["a=2"]));
        let overlapping = 25..50;
        let behind = 40..50;
        let (at, value) = (1, (1, "1"));
        run.read(if bad { behind } else { overlapping }, at, &[("a", Some(value))]);
    });
    // Two reads, one behind the other, of a write that both overlap.
    twins(["L1", "L2", "O2"], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        run.commit(20..90, tx(&["a=2"]));
        run.read(30..40, 2, &[("a", Some((2, "2")))]);
        let (at, value) = if bad { (1, (1, "1")) } else { (2, (2, "2")) };
        run.read(50..60, at, &[("a", Some(value))]);
    });
}

#[test]
fn l1_ids_agree_with_real_time() {
    // Nothing but the replay relates keys that no call names together.
    twins(["L1", "", ""], |run, bad| {
        run.commit(if bad { 50..60 } else { 0..10 }, tx(&["a=1"]));
        run.commit(20..30, tx(&["b=1"]));
    });
    twins(["L1", "", "O2"], |run, bad| {
        run.commit(if bad { 50..60 } else { 0..10 }, tx(&["a=1"]));
        run.commit(20..30, tx(&["a=2"]));
    });
    // The read sees what is asked for when it is over.
    twins(["L1", "L2", "O2"], |run, bad| {
        run.commit(if bad { 20..30 } else { 0..30 }, tx(&["a=1"]));
        run.read(5..10, 1, &[("a", Some((1, "1")))]);
    });
}

type Edit = fn(&mut Run);

#[test]
fn l1_the_ledger_holds_what_was_told() {
    let edits: [(_, Edit); 8] = [
        ("L1", |run| _ = run.ledger.pop()),
        ("L1", |run| run.ledger[1].number = 9),
        ("L1", |run| run.ledger[1].transaction = tx(&["b=3"])),
        ("L1", |run| run.history.operations[1].outcome = Outcome::NotHappened),
        ("L1", |run| {
            run.history.operations[1].outcome = Outcome::Committed { at: 1, txid: Some(2) }
        }),
        ("A1", |run| run.ledger[1].txid = 3),
        ("A3", |run| {
            run.ledger.push(Record { txid: 3, ..run.ledger[1].clone() });
        }),
        ("A1", |run| {
            run.call_transaction(40..50, &tx(&["c"]), Outcome::Unknown);
            run.record(tx(&["c"]));
        }),
    ];
    for (invariant, edit) in edits {
        let run = |bad: bool| {
            let mut run = Run::default();
            run.commit(0..10, tx(&["a=1"]));
            run.commit(20..30, tx(&["b=2"]));
            if bad {
                edit(&mut run);
            }
            run.told()[0]
        };
        assert_eq!((run(false), run(true)), (None, Some(invariant)));
    }
}

#[test]
fn without_a_final_ledger_nothing_is_proved() {
    let mut run = Run::default();
    run.commit(0..10, tx(&["a=1"]));
    let concluded = replay::check(&run.history, None).unwrap();
    assert!(matches!(concluded, Conclusion::Inconclusive(_)));
    let searched = search::check(&run.history, 0).unwrap();
    assert_eq!((searched.partitions, searched.inconclusive), (1, 1));
    assert!(matches!(searched.conclusion(), Conclusion::Inconclusive(_)));
}

#[test]
fn l1_l2_an_unknown_call_happens_once_and_not_before() {
    twins(["L1", "L2", "O2"], |run, bad| {
        run.unknown(if bad { 30..40 } else { 5..40 }, tx(&["a=1"]));
        run.read(10..20, 1, &[("a", Some((1, "1")))]);
    });
    // Its effect may come long after it was given up.
    twins(["L1", "L2", "O2"], |run, bad| {
        run.unknown(0..5, tx(&["a=1"]));
        run.read(10..20, 0, &[("a", None)]);
        run.read(30..40, 1, &[("a", Some((1, "1")))]);
        run.commit(50..60, tx(&["a=2"]));
        let (at, value) = if bad { (1, (1, "1")) } else { (2, (2, "2")) };
        run.read(70..80, at, &[("a", Some(value))]);
    });
    twins(["A3", "L2", "O2"], |run, bad| {
        run.unknown(0..5, tx(&["a=1"]));
        run.commit(10..20, tx(&["a=2"]));
        if bad {
            run.ledger.push(Record { txid: 3, ..run.ledger[0].clone() });
            run.read(30..40, 1, &[("a", Some((1, "1")))]);
            run.read(50..60, 3, &[("a", Some((3, "1")))]);
        }
    });
    // It never happened; and another one only looks as if.
    twins(["L1", "L2", "O2"], |run, bad| {
        run.call_transaction(0..5, &tx(&["a=1"]), Outcome::Unknown);
        run.read(10..20, 0, &[("a", bad.then_some((1, "2")))]);
    });
    // Nobody saw it but one that required it, and was refused for something else.
    twins(["O4", "L2", ""], |run, bad| {
        run.unknown(if bad { 30..40 } else { 0..5 }, tx(&["a=1"]));
        let mut both = when("a", Version(1), &["b=2"]);
        both.conditions.push(Condition { key: Key::new(0, "b"), wanted: Present });
        let Condition { key, wanted } = both.conditions[1].clone();
        let conflict = Conflict { condition: 1, key, wanted, found: None };
        run.call_transaction(10..20, &both, Outcome::Conflict(conflict));
    });
    // A deletion that nobody saw but by its end.
    twins(["L1", "L2", "O3"], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        let deletion = tx(&[if bad { "b" } else { "a" }]);
        run.call_transaction(20..30, &deletion, Outcome::Unknown);
        if !bad {
            run.record(deletion);
        }
        run.read(40..50, if bad { 1 } else { 2 }, &[("a", None)]);
    });
}

#[test]
fn o1_of_those_who_replace_a_version_one_wins() {
    twins(["O1", "L2", "O1"], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        run.commit(20..40, when("a", Version(1), &["a=2"]));
        let other = when("a", Version(1), &["a=3"]);
        if bad { run.commit(25..45, other) } else { run.conflict(25..45, &other, Some(2)) }
    });
    // Refused, though nobody was faster.
    twins(["O4", "L2", "O1"], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        let swap = when("a", Version(1), &["a=2"]);
        if bad { run.conflict(20..30, &swap, None) } else { run.commit(20..30, swap) }
    });
    twins(["L1", "L2", "O1"], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        let swap = when("a", Version(1), &["a=2"]);
        if bad { run.conflict(20..30, &swap, Some(1)) } else { run.commit(20..30, swap) }
    });
}

#[test]
fn o1_a_check_holds_where_it_is_made() {
    let unchanged = |at| Outcome::Committed { at, txid: None };
    twins(["O1", "L2", ""], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        let wanted = if bad { Absent } else { Present };
        run.call_transaction(20..30, &when("a", wanted, &[]), unchanged(1));
    });
    twins(["L1", "L2", ""], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        run.call_transaction(20..30, &tx(&[if bad { "a" } else { "b" }]), unchanged(1));
    });
    twins(["L1", "", ""], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        run.call_transaction(20..30, &tx(&["b"]), unchanged(if bad { 0 } else { 1 }));
    });
}

#[test]
fn o2_versions_rise_and_are_ids() {
    twins(["L1", "L2", "O2"], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        run.commit(20..30, tx(&["b=1"]));
        run.read(40..50, 2, &[("a", Some((if bad { 2 } else { 1 }, "1")))]);
    });
    twins(["L1", "L2", "O2"], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        run.commit(20..30, tx(&["b=1"]));
        if bad {
            *run.last_outcome() = Outcome::Committed { at: 1, txid: Some(1) };
        }
    });
}

#[test]
fn o3_a_transaction_is_seen_as_a_whole() {
    twins(["L1", "L2", "O3"], |run, bad| {
        run.commit(0..10, tx(&["a=1", "b=1"]));
        run.commit(20..60, tx(&["a=2", "b=2"]));
        let b = if bad { (1, "1") } else { (2, "2") };
        run.read(30..40, 2, &[("a", Some((2, "2"))), ("b", Some(b))]);
    });
    twins(["L1", "L2", "O3"], |run, bad| {
        run.commit(20..60, tx(&["a=2", "b=2"]));
        run.read(30..40, 1, &[("a", Some((1, "2"))), ("b", (!bad).then_some((1, "2")))]);
    });
}

#[test]
fn o4_a_refusal_names_what_was_there() {
    let create = when("a", Absent, &["a=9"]);
    // Replaced before the call began.
    twins(["O4", "L2", "O4"], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        run.commit(20..30, tx(&["a=2"]));
        run.conflict(if bad { 40..50 } else { 25..50 }, &create, Some(1));
    });
    // Asked for after the call was over.
    twins(["O4", "L2", "O4"], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        run.commit(if bad { 50..60 } else { 35..60 }, tx(&["a=2"]));
        run.conflict(30..40, &create, Some(2));
    });
    // Each may be by itself, but not one behind the other.
    twins(["O4", "L2", "O4"], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        run.commit(20..100, tx(&["a=2"]));
        run.conflict(30..40, &create, Some(2));
        run.conflict(50..60, &create, Some(if bad { 1 } else { 2 }));
    });
    twins(["O4", "L2", "O4"], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        run.conflict(30..40, &create, Some(if bad { 7 } else { 1 }));
    });
    // The first condition that fails is told, about the key that it names.
    twins(["L1", "L2", "O1"], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        run.conflict(30..40, &create, Some(1));
        if let (true, Outcome::Conflict(conflict)) = (bad, run.last_outcome()) {
            conflict.key = Key::new(1, "a");
        }
    });
}

#[test]
fn o5_what_was_deleted_stays_so() {
    twins(["L1", "L2", "O5"], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        run.commit(20..30, tx(&["a"]));
        run.read(40..50, 2, &[("a", bad.then_some((1, "1")))]);
    });
    // Not even where it is written anew.
    twins(["O1", "L2", ""], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        run.commit(20..30, tx(&["a"]));
        run.commit(40..50, tx(&["a=1"]));
        run.commit(60..70, when("a", Version(if bad { 1 } else { 3 }), &["a=2"]));
    });
}

#[test]
fn r1_r2_stale_reads_are_states_that_do_not_go_back() {
    let writes = |run: &mut Run| {
        run.commit(0..10, tx(&["a=1"]));
        run.commit(20..30, tx(&["a=2"]));
    };
    twins(["R1", "", "O3"], |run, bad| {
        writes(run);
        run.stale(2, 40..50, if bad { 2 } else { 1 }, Some((1, "1")));
    });
    twins(["R1", "", ""], |run, bad| {
        writes(run);
        run.stale(2, 40..50, 2, Some((2, "2")));
        run.stale(if bad { 2 } else { 3 }, 60..70, 1, Some((1, "1")));
    });
    // Client 1 is the one who wrote.
    twins(["R2", "", ""], |run, bad| {
        writes(run);
        run.stale(if bad { 1 } else { 2 }, 40..50, 1, Some((1, "1")));
    });
    // Another one settled what became of the write, and knows it; the replica of its caller need
    // not.
    twins(["R2", "", ""], |run, bad| {
        writes(run);
        run.history.operations[1].told_to = 3;
        run.stale(if bad { 3 } else { 1 }, 40..50, 1, Some((1, "1")));
    });
    // What a stale read saw has happened.
    twins(["L1", "", "O2"], |run, bad| {
        run.commit(0..10, tx(&["a=1"]));
        run.commit(20..90, tx(&["a=2"]));
        run.stale(2, 30..40, 2, Some((2, "2")));
        let (at, value) = if bad { (1, (1, "1")) } else { (2, (2, "2")) };
        run.read(50..60, at, &[("a", Some(value))]);
    });
}

#[test]
fn v6_a_quiet_cluster_renews_its_lease_in_time_and_no_more() {
    // Two other voters, five seconds, a question each quarter of a second.
    let time = Duration::from_secs(5);
    let leases = BTreeMap::from([1, 2].map(|id| (ReplicaId(id), Duration::from_secs(1))));
    let told = |id, name, count, leases: &BTreeMap<_, _>| {
        let sent = BTreeMap::from([((ReplicaId(id), name), count)]);
        let (leases, members) = (leases.clone(), 3);
        let quiet = Quiet { sent, time, members, leases, ..Quiet::default() };
        calm::check(&quiet).err().map(|violation| violation.invariant)
    };
    assert_eq!(
        [42, 44, 45].map(|count| told(1, "Renew", count, &leases).is_some()),
        [false, false, true]
    );
    assert_eq!(
        [21, 22, 23].map(|count| told(2, "Granted", count, &leases)),
        [None, None, Some("V6")]
    );
    // Who has no lease neither asks for one nor grants one, whatever the others do.
    for (id, leases) in [(3, &leases), (1, &BTreeMap::new())] {
        assert_eq!(told(id, "Renew", 1, leases), Some("V6"));
        assert_eq!(told(id, "Granted", 1, leases), Some("V6"));
    }
    // A lease that nobody else has is granted to nobody.
    let alone = BTreeMap::from([(ReplicaId(1), Duration::from_secs(1))]);
    assert_eq!(told(1, "Granted", 1, &alone), Some("V6"));
    assert_eq!(told(1, "Heartbeat", 1000, &alone), None);
}
