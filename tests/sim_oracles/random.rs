//! Histories of the shipped store under random overlaps pass; with one wrong answer they do not.

use indelible::sim::checkers::history::{History, Outcome};
use indelible::sim::checkers::{Conclusion, occ, replay, search};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::made::Made;

/// Makes one answer wrong, whatever else it could be; which one is left to `pick`.
fn spoil(history: &mut History, last: u64, pick: usize) -> &'static str {
    let count = history.operations.len();
    for index in (0..count).map(|index| (pick + index) % count) {
        let operation = &mut history.operations[index];
        match &mut operation.outcome {
            Outcome::Read { values, .. } => match &mut values[0] {
                Some(read) if pick.is_multiple_of(3) => {
                    read.value.push(b'!');
                    return "value";
                }
                Some(read) if pick % 3 == 1 => {
                    read.version = if read.version == 1 { 2 } else { read.version - 1 };
                    return "version";
                }
                Some(_) => {
                    values[0] = None;
                    return "value gone";
                }
                None => {}
            },
            Outcome::Conflict(conflict) => {
                conflict.found = Some(last + 1);
                return "found";
            }
            Outcome::Committed { at, txid: txid @ Some(_) } => {
                (*at, *txid) = match pick % 2 {
                    0 => (*at, None),
                    _ => (last + 1, Some(last + 1)),
                };
                return if pick.is_multiple_of(2) { "no id" } else { "id" };
            }
            _ => {}
        }
    }
    "nothing"
}

/// Of the histories made here, one in thousands takes the search more than a million steps; of
/// 40,000 none took more than these.
const STEPS_MAX: u64 = 20_000_000;

#[test]
fn correct_histories_pass_and_spoiled_ones_do_not() {
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let caught = std::cell::RefCell::new(std::collections::BTreeMap::new());
    let strategy = (any::<u64>(), 20_u64..120, 1_u64..8, any::<usize>());
    let judged = runner.run(&strategy, |(seed, calls, overlap, pick)| {
        let Made { mut history, ledger, .. } = Made::of(seed, calls, overlap);
        let passed = |told: Conclusion| assert_eq!(told, Conclusion::Passed);
        let by_replay = replay::check(&history, Some(&ledger)).map(passed);
        prop_assert_eq!(by_replay, Ok(()));
        let by_search = search::check(&history, STEPS_MAX).map(|it| passed(it.conclusion()));
        prop_assert_eq!(by_search, Ok(()));
        prop_assert_eq!(occ::check(&history), Ok(()));

        let how = spoil(&mut history, ledger.len() as u64, pick);
        let by_replay = replay::check(&history, Some(&ledger)).is_err();
        let by_search = search::check(&history, 1_000_000).is_err();
        let by_rules = occ::check(&history).is_err();
        let mut caught = caught.borrow_mut();
        let told: &mut [u32; 4] = caught.entry(how).or_default();
        for (count, is) in told.iter_mut().zip([true, by_replay, by_search, by_rules]) {
            *count += u32::from(is);
        }
        prop_assert!(by_replay || how == "nothing", "{} is not seen", how);
        Ok(())
    });
    let caught = caught.into_inner();
    println!("spoiled: times, caught by the replay, the search, the rules: {caught:?}");
    judged.unwrap();
    let by_search: u32 = caught.values().map(|told| told[2]).sum();
    let spoiled: u32 = caught.values().map(|told| told[0]).sum();
    assert!(by_search * 2 > spoiled, "the search catches {by_search} of {spoiled}");
}
