//! Which calls may come next: those that no call that is not placed yet was over before.

use crate::types::ids::ContentHash;

use super::state::Step;

/// What is placed, of the steps of one partition.
#[derive(Debug)]
pub struct Frontier<'a> {
    steps: &'a [Step<'a>],
    /// The steps that must be placed, and those that may be, by when they were called.
    known: Vec<usize>,
    unknown: Vec<usize>,
    is_placed: Vec<bool>,
    /// The steps that are placed, in order, each with the first position before it.
    placed: Vec<(usize, usize)>,
    /// Every known step before this position is placed.
    first: usize,
    known_placed: usize,
    /// When the first of the known steps that are not placed was over.
    over: u64,
    fingerprint: u128,
}

impl<'a> Frontier<'a> {
    /// Nothing is placed.
    pub fn new(steps: &'a [Step<'a>]) -> Self {
        let mut by_call: Vec<_> = (0..steps.len()).collect();
        by_call.sort_by_key(|index| steps[*index].invoked);
        let (unknown, known) = by_call.into_iter().partition(|index| steps[*index].is_optional());
        let mut frontier = Self {
            steps,
            known,
            unknown,
            is_placed: vec![false; steps.len()],
            placed: Vec::new(),
            first: 0,
            known_placed: 0,
            over: 0,
            fingerprint: 0,
        };
        frontier.settle();
        frontier
    }

    /// The steps that may come next.
    pub fn candidates(&self) -> Vec<usize> {
        let free = |steps: &[usize]| -> Vec<usize> {
            let called = steps.iter().take_while(|index| self.steps[**index].invoked <= self.over);
            called.filter(|index| !self.is_placed[**index]).copied().collect()
        };
        let mut candidates = free(&self.known[self.first..]);
        candidates.extend(free(&self.unknown));
        candidates
    }

    /// Places a candidate.
    pub fn place(&mut self, index: usize) {
        self.placed.push((index, self.first));
        self.mark(index, true);
        self.settle();
    }

    /// Takes back what was placed behind the first `count`.
    pub fn go_back(&mut self, count: usize) {
        while self.placed.len() > count {
            let Some((index, first)) = self.placed.pop() else { break };
            self.mark(index, false);
            self.first = first;
        }
        self.settle();
    }

    /// How many steps are placed.
    pub fn placed(&self) -> usize {
        self.placed.len()
    }

    /// How many of them must be.
    pub fn known_placed(&self) -> usize {
        self.known_placed
    }

    /// The first step that must be placed, and is not.
    pub fn first_known(&self) -> Option<usize> {
        self.known.get(self.first).copied()
    }

    /// Names the set of what is placed.
    pub fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    fn mark(&mut self, index: usize, placed: bool) {
        self.is_placed[index] = placed;
        self.fingerprint ^= ContentHash::of(&(index as u64).to_le_bytes()).0;
        if !self.steps[index].is_optional() {
            self.known_placed = if placed { self.known_placed + 1 } else { self.known_placed - 1 };
        }
    }

    /// Finds again where the frontier stands.
    fn settle(&mut self) {
        while self.first_known().is_some_and(|index| self.is_placed[index]) {
            self.first += 1;
        }
        self.over = u64::MAX;
        for index in &self.known[self.first..] {
            let step = &self.steps[*index];
            if step.invoked > self.over {
                break; // Whoever is called later is over later still.
            }
            if !self.is_placed[*index] {
                self.over = self.over.min(step.over);
            }
        }
    }
}
