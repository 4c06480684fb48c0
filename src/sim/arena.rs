//! The arenas in which mistakes are hunted, each a pure function of a seed.
//!
//! | arena | what runs | what a seed takes |
//! |---|---|---|
//! | [`swarm`] | whole replicas, clients, all faults, all checkers | 0.1 s |
//! | [`schedule`] | protocol cores, step by step, with damage | 1 ms |
//! | [`lives`] | one journal: crashes, failed syncs, damage | 2 ms |
//!
//! Whole replicas show that all of it together is right, and spend their time on what is usual. The
//! smaller arenas meet rare interleavings of messages, and of writes, that much sooner. A hunt goes
//! through [tries](Try): every round of them has one seed of the swarm and, in about the same time,
//! many of the others.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::checkers::Violation;
use super::swarm::Limits;
use super::{lives, schedule, swarm};

/// Where a seed is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arena {
    /// Whole replicas.
    Swarm,
    /// Protocol cores.
    Schedule,
    /// A journal.
    Lives,
}

/// A seed in an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Try {
    /// Where.
    pub arena: Arena,
    /// Which seed.
    pub seed: u64,
}

impl Arena {
    /// All there are, with how many seeds of each a round has.
    pub const ROUND: [(Self, u64); 3] = [(Self::Swarm, 1), (Self::Lives, 19), (Self::Schedule, 80)];

    /// The name, as a command line spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Swarm => "swarm",
            Self::Schedule => "schedule",
            Self::Lives => "lives",
        }
    }

    /// The arena of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ROUND.iter().map(|(arena, _)| *arena).find(|arena| arena.name() == name)
    }
}

impl Try {
    /// The try with this number.
    #[must_use]
    pub fn numbered(number: u64) -> Self {
        let length = Arena::ROUND.iter().map(|(_, seeds)| seeds).sum::<u64>();
        let (round, mut place) = (number / length, number % length);
        for (arena, seeds) in Arena::ROUND {
            if place < seeds {
                return Self { arena, seed: round * seeds + place };
            }
            place -= seeds;
        }
        unreachable!("a place in a round belongs to an arena")
    }

    /// Runs the seed. Returns the first thing that must not happen and did.
    #[must_use]
    pub fn run(self) -> Option<Violation> {
        match self.arena {
            Arena::Swarm => swarm::run(self.seed, &Limits::default()).violation,
            Arena::Schedule => schedule::run(self.seed, 0).violation,
            Arena::Lives => lives::run(self.seed, false).0,
        }
    }
}

/// Runs something in which a broken invariant is a panic.
pub(super) fn caught(run: impl FnOnce()) -> Option<Violation> {
    let result = catch_unwind(AssertUnwindSafe(run));
    result.err().map(|panic| violation_of(panic.as_ref()))
}

/// The violation that a panic tells of. Its text begins with the name of the invariant; an
/// assertion of the code itself has none.
pub(super) fn violation_of(panic: &(dyn Any + Send)) -> Violation {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    let named = text.split_once(": ").and_then(|(name, event)| {
        let known = INVARIANTS.iter().find(|known| **known == name)?;
        Some(Violation::new(known, event))
    });
    named.unwrap_or_else(|| Violation::new("panic", text))
}

/// Those that panics are named after.
const INVARIANTS: [&str; 16] = [
    "I1", "I3", "I4", "I5", "I6", "I7", "I8", "I10", "I11", "R", "V2", "D1", "D4", "D5", "D8",
    "D10",
];
