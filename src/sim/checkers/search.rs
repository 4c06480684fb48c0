//! The search oracle: whether *some* order explains every answer and agrees with real time.
//!
//! It is the search of Wing and Gong with the memory of Lowe, as in Horn and Kroening's and in
//! Porcupine: take any call that may come next, and go back where none may. It knows no final
//! ledger, and trusts no id to tell an order, so it finds errors in how ids are given.
//!
//! * **Ids are names.** A version that was read, required or found must be the name of the write
//!   that the key holds at that place of the order; equal names are equal writes. Who bears a name
//!   is told by the answer to the write, and for a call of unknown outcome by the value that was
//!   read under the name. Where several such calls wrote that value, any of them may bear it:
//!   histories are judged best where every value is written once. The ids of states are ignored.
//!   The order of names is but a guess at which call to try first: where it is wrong, the search
//!   takes longer, and ends the same.
//! * **Partitions.** Keys that no call names together are judged apart.
//! * **Windows.** Only calls that overlap may change places. Where nothing is under way, what is
//!   behind depends on what is in front by nothing but the state (and the calls of unknown outcome
//!   that are left), and it is searched once for each. What changes nothing is placed as soon as it
//!   may be, without a choice: whoever comes later loses nothing by it.
//! * **Unknown outcomes** may be placed anywhere behind their call, or nowhere. One whose effect
//!   nobody can have seen is left out.
//!
//! Not here: stale reads, which may be behind, and what no order could explain: calls that did not
//! happen.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use self::frontier::Frontier;
use self::names::Names;
use self::state::{State, Step, steps_of};
use super::history::{History, Outcome};
use super::{Conclusion, Violation, ensure};

mod frontier;
mod names;
mod state;

/// How much was searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Searched {
    /// The sets of keys that were judged apart.
    pub partitions: usize,
    /// The calls that were tried, over all partitions.
    pub steps: u64,
    /// The partitions in which the steps did not suffice.
    pub inconclusive: usize,
}

impl Searched {
    /// Whether every partition was judged.
    pub fn conclusion(self) -> Conclusion {
        match self.inconclusive {
            0 => Conclusion::Passed,
            _ => Conclusion::Inconclusive("the search took too many steps"),
        }
    }
}

/// Searches for an order, with at most `steps_max` steps in each partition.
///
/// # Errors
///
/// Names the first call that no order explains, of the order that explains most.
pub fn check(history: &History, steps_max: u64) -> Result<Searched, Violation> {
    history.check_form()?;
    for operation in &history.operations {
        if let (Outcome::Conflict(conflict), Some(it)) =
            (&operation.outcome, operation.transaction())
        {
            ensure(conflict.is_of(it), "L2", || format!("{operation} is refused for nothing"))?;
        }
    }
    let names = Names::of(history)?;
    let (keys, partitions) = steps_of(history, &names);
    let mut searched = Searched { partitions: partitions.len(), ..Searched::default() };
    for steps in &partitions {
        let mut search = Search::new(steps, State::new(keys, &names), steps_max);
        let found = search.run();
        searched.steps += search.tried;
        match found {
            Some(true) => {}
            None => searched.inconclusive += 1,
            Some(false) => return Err(search.violation(history)),
        }
    }
    Ok(searched)
}

struct Search<'a> {
    steps: &'a [Step<'a>],
    frontier: Frontier<'a>,
    state: State<'a>,
    /// The configurations that were tried: what is placed, and the state.
    seen: BTreeSet<u128>,
    /// The choices that led here.
    choices: Vec<Choice>,
    tried: u64,
    steps_max: u64,
    /// The most calls that an order could explain, and the first that it could not.
    deepest: (usize, Option<usize>),
}

/// One place in the order at which there was more than one way to go on.
struct Choice {
    /// How much was placed before it.
    placed: usize,
    /// How much was written before it.
    written: usize,
    /// The candidates that were not tried yet, the first to try last.
    left: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(steps: &'a [Step<'a>], state: State<'a>, steps_max: u64) -> Self {
        Self {
            steps,
            frontier: Frontier::new(steps),
            state,
            seen: BTreeSet::new(),
            choices: Vec::new(),
            tried: 0,
            steps_max,
            deepest: (0, steps.iter().position(|step| !step.is_optional())),
        }
    }

    /// Whether there is an order, or `None` where the steps do not suffice to tell.
    fn run(&mut self) -> Option<bool> {
        loop {
            self.place_observers();
            self.deepest =
                self.deepest.max((self.frontier.known_placed(), self.frontier.first_known()));
            if self.frontier.first_known().is_none() {
                return Some(true);
            }
            let (placed, written) = (self.frontier.placed(), self.state.written());
            let mut left = self.frontier.candidates();
            left.sort_by_key(|index| Reverse(self.steps[*index].guess));
            self.choices.push(Choice { placed, written, left });
            loop {
                if self.tried >= self.steps_max {
                    return None;
                }
                let Some(choice) = self.choices.last_mut() else { return Some(false) };
                self.frontier.go_back(choice.placed);
                self.state.go_back(choice.written);
                match choice.left.pop() {
                    Some(index) if self.take(index) => break,
                    Some(_) => {}
                    None => _ = self.choices.pop(),
                }
            }
        }
    }

    /// Places everything that may come next and only looks.
    fn place_observers(&mut self) {
        loop {
            let mut candidates = self.frontier.candidates().into_iter();
            let found = candidates.find(|index| {
                let step = &self.steps[*index];
                self.tried += u64::from(!step.writes());
                !step.writes() && self.state.explains(step)
            });
            match found {
                Some(index) => self.frontier.place(index),
                None => return,
            }
        }
    }

    /// Places a candidate, if it can have ended so here, and leads where nobody was yet.
    fn take(&mut self, index: usize) -> bool {
        let step = &self.steps[index];
        self.tried += 1;
        if !step.writes() || !self.state.explains(step) {
            return false;
        }
        self.state.write(step);
        self.frontier.place(index);
        self.seen.insert(self.frontier.fingerprint() ^ self.state.fingerprint())
    }

    fn violation(&self, history: &History) -> Violation {
        let (placed, stuck) = self.deepest;
        let stuck = stuck.map(|index| &history.operations[self.steps[index].operation]);
        let stuck = stuck.map(ToString::to_string).unwrap_or_default();
        let event = format!("no order explains more than {placed} calls, and then {stuck}");
        Violation { invariant: "L2", event }
    }
}
