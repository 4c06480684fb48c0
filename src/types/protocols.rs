//! Which protocols two builds can speak with each other.

use serde::{Deserialize, Serialize};

/// The protocols that a build speaks: all from the first one to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Protocols {
    /// The first one.
    pub first: u16,
    /// The last one.
    pub last: u16,
}

impl Protocols {
    /// Those that this build speaks.
    pub const SPOKEN: Self = Self { first: 1, last: 1 };

    /// The last one that both speak, if there is one.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u16> {
        let last = self.last.min(other.last);
        (self.first.max(other.first) <= last).then_some(last)
    }
}
