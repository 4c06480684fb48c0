//! The source of all choices in a simulation: xoshiro256**, seeded by SplitMix64.
//!
//! It is written out here so that a seed means the same after every update of a dependency.
//! (Blackman and Vigna, *Scrambled Linear Pseudorandom Number Generators*, 2021.)

use std::ops::RangeInclusive;
use std::time::Duration;

/// Random numbers that follow from a seed.
#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

impl Default for Rng {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Rng {
    /// The numbers of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        Self(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        }))
    }

    /// Another source, whose numbers are independent of how many are drawn here later.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::new(self.next_u64())
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A number below `bound`.
    ///
    /// # Panics
    ///
    /// Where `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below zero");
        // The bias of a multiplication is far below anything that a test could see.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number of the range.
    ///
    /// # Panics
    ///
    /// Where it is empty, or all numbers.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (first, last) = range.into_inner();
        assert!(first <= last, "Rng: there is nothing between {first} and {last}");
        first + self.below(last - first + 1)
    }

    /// Whether something happens that does so in `count` of a thousand cases.
    pub fn per_mille(&mut self, count: u64) -> bool {
        self.below(1000) < count
    }

    /// A time between the two, both included, in whole microseconds. Panics where the first is the
    /// longer one.
    pub fn time(&mut self, range: RangeInclusive<Duration>) -> Duration {
        let (least, most) = range.into_inner();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.within(micros(least)..=micros(most)))
    }

    /// One of the items.
    ///
    /// # Panics
    ///
    /// Where there is none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        assert!(!items.is_empty(), "Rng::pick: there is nothing to pick from");
        &items[self.below(items.len() as u64) as usize]
    }
}
