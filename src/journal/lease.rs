//! The longest lease that this replica may have granted: a file whose name says it, `lease-%08d`,
//! in milliseconds.
//!
//! What was granted, and to whom, is forgotten in a restart. That something may have been must not
//! be, nor for how long: the next opening lets so much time pass before it takes part in an
//! election. The file has no content, so there is nothing of it that could be torn; of several the
//! longest counts.
//!
//! Invariants:
//! * Before a lease of some length is granted, the name of a file of that length or of a longer one
//!   is durable. A name that was found may be one that an earlier opening did not sync.
//! * A file is removed only where the time that it tells of has passed.

use std::time::Duration;

use crate::types::bugs::{self, Bug};
use crate::types::marks::reached;

use super::Journal;
use super::disk::{Disk, File};
use super::error::JournalError;
use super::listing;

impl<D: Disk> Journal<D> {
    /// The longest lease that an opening may have granted; zero where none did.
    ///
    /// # Errors
    ///
    /// Where the directory cannot be read.
    pub fn longest_lease(&self) -> Result<Duration, JournalError> {
        let longest = self.leases()?.into_iter().max().unwrap_or_default();
        Ok(Duration::from_millis(longest))
    }

    /// From here on leases up to this length may be granted: that is written down, durably.
    ///
    /// # Errors
    ///
    /// Where the file cannot be made, or its name not made durable.
    pub fn note_lease(&mut self, length: Duration) -> Result<(), JournalError> {
        if bugs::is_on(Bug::LeaseNotWritten) {
            return Ok(());
        }
        let millis = millis_of(length);
        let name = lease_name(millis);
        if !self.leases()?.contains(&millis) {
            let file = self.disk.create(&name).map_err(JournalError::io("create", &name))?;
            file.sync().map_err(JournalError::io("sync", &name))?;
        }
        self.disk.sync_directory().map_err(JournalError::io("sync", "."))
    }

    /// The time of all longer leases has passed. Where one of them cannot be forgotten, the next
    /// opening waits for it once more. Once this journal let go of the directory, the files are
    /// another opening's, and stay; and after a failure nothing is changed any more: what is still
    /// under way may have failed.
    pub fn forget_longer_leases(&mut self, length: Duration) {
        let failed = self.writer.as_ref().is_some_and(|writer| writer.check_poison().is_err());
        if self.lock.is_none() || failed || self.under_way > 0 {
            return;
        }
        let longest = millis_of(length);
        for millis in self.leases().unwrap_or_default() {
            if longest < millis {
                reached!(LongerLeaseForgotten);
                // One that stays only makes the next opening wait longer.
                let _ = self.disk.remove(&lease_name(millis));
            }
        }
    }

    fn leases(&self) -> Result<Vec<u64>, JournalError> {
        let names = listing::names(&*self.disk)?;
        Ok(names.iter().filter_map(|name| lease_millis(name)).collect())
    }
}

fn lease_name(millis: u64) -> String {
    format!("{PREFIX}{millis:08}")
}

/// How long a lease may be, in milliseconds, as the name of such a file says.
#[must_use]
pub fn lease_millis(name: &str) -> Option<u64> {
    let millis = name.strip_prefix(PREFIX)?.parse().ok()?;
    (lease_name(millis) == name).then_some(millis)
}

/// Rounded up.
fn millis_of(length: Duration) -> u64 {
    u64::try_from(length.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

const PREFIX: &str = "lease-";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{MemoryDisk, Options};
    use crate::types::ids::{Ballot, ReplicaId, Slot};
    use crate::types::membership::{Member, Membership};
    use crate::types::record::Record;

    #[test]
    fn the_longest_lease_is_found_again_until_it_is_forgotten() {
        let disk = MemoryDisk::new();
        let open = || Journal::open(disk.clone(), Options::default(), ReplicaId(1));
        let second = Duration::from_secs(1);
        let mut journal = open().expect("a blank disk opens");
        assert_eq!(journal.longest_lease().expect("it is read"), Duration::ZERO);
        for length in [2 * second, second, 2 * second, Duration::from_nanos(1)] {
            journal.note_lease(length).expect("there is room");
        }
        drop(journal);
        let mut journal = open().expect("it opens again");
        assert_eq!(journal.longest_lease().expect("it is read"), 2 * second);
        journal.forget_longer_leases(second);
        assert_eq!(journal.longest_lease().expect("it is read"), second);
        // Who let go of the directory removes nothing that the next opening wrote down.
        journal.release();
        let mut next = open().expect("it is free");
        next.note_lease(3 * second).expect("there is room");
        journal.forget_longer_leases(Duration::ZERO);
        assert_eq!(next.longest_lease().expect("it is read"), 3 * second);
        let mut journal = next;
        journal.forget_longer_leases(Duration::ZERO);
        assert_eq!(journal.longest_lease().expect("it is read"), Duration::ZERO);
    }

    #[test]
    fn nothing_is_forgotten_while_a_job_may_have_failed() {
        let (disk, second) = (MemoryDisk::new(), Duration::from_secs(1));
        let mut journal = Journal::open(disk, Options::default(), ReplicaId(1)).expect("it opens");
        let incarnation = journal.identity().incarnation;
        let own = Member { id: ReplicaId(1), incarnation, address: String::new() };
        let membership = Membership::majority(vec![own]).expect("one voter is a membership");
        journal.agree(&membership, true).expect("there is room");
        journal.note_lease(second).expect("there is room");
        let ballot = Ballot { round: 1, leader: ReplicaId(1) };
        journal.append(&[Record::Promise { ballot }], Slot::ZERO).expect("it is not poisoned");
        let job = journal.next_job().expect("it is not poisoned").expect("there is a group");
        let done = job.run();
        journal.forget_longer_leases(Duration::ZERO);
        assert_eq!(journal.longest_lease().expect("it is read"), second);
        journal.complete(done).expect("nothing failed");
        journal.forget_longer_leases(Duration::ZERO);
        assert_eq!(journal.longest_lease().expect("it is read"), Duration::ZERO);
    }

    #[test]
    fn other_names_are_no_leases() {
        assert_eq!(lease_millis("lease-00001500"), Some(1500));
        assert_eq!(lease_millis("lease-123456789"), Some(123_456_789));
        for name in ["lease-1500", "lease-+0001500", "lease-", "segment-00001500", "lease-0000150x"]
        {
            assert_eq!(lease_millis(name), None, "{name}");
        }
    }
}
