//! What may stand in the log: raised, through the log itself, once every member knows it.
//!
//! A release that puts something new into the log, a kind of entry, an operation or a field of a
//! membership, is of a higher *edition*, and knows all those before. Whoever applies the log must
//! know all of it, for nothing may be skipped. So what is new is proposed only where the
//! membership says that the ledger is of that edition, and the membership says so when every
//! member's build knows it.
//!
//! ```text
//!   knows 1  1  1        2  1  1        2  2  2        2  2  2
//!   ledger of 1    ─►    of 1    ─►     of 1    ─►     of 2
//!                  one replica restarted      upgrade()
//!                  with the next release
//! ```
//!
//! Until the last step every replica can go back to the release before. So files, images and
//! memberships, too, are written as the ledger's edition has them, and not as the build could.
//!
//! Invariants:
//! * The edition of a ledger never sinks.
//! * No entry is of a higher edition than the ledger below it.
//! * A replica whose build does not know the ledger's edition applies nothing of it, and stops.
//!
//! Not here: who is asked (`runtime/editions.rs`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// What may stand in the log of a ledger.
///
/// ```
/// use indelible::Edition;
/// assert!(Edition::FIRST <= Edition::KNOWN);
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Edition(pub u8);

impl Edition {
    /// That of the first release, with which every ledger begins.
    pub const FIRST: Self = Self(1);

    /// The highest that this build knows; it knows all below.
    pub const KNOWN: Self = Self(1);
}

impl fmt::Display for Edition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
