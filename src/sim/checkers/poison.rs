//! **D8, poison**: whoever was told that a write or a sync failed changes nothing on the disk any
//! more.
//!
//! A replica that runs is told when the job ends; jobs that were handed out before may run behind
//! it. So it is judged from when it stopped on; and an opening from the failure on, since it does
//! one thing after the other.

use crate::sim::disk::AfterFailure;
use crate::types::ids::ReplicaId;

use super::{Violation, ensure};

/// Judges what was tried after a replica stopped, or in an opening that failed.
///
/// # Errors
///
/// Where anything was.
pub fn check(id: ReplicaId, tried: &[AfterFailure]) -> Result<(), Violation> {
    let first = tried.first();
    ensure(first.is_none(), "D8", || format!("{id} goes on after a failure: {first:?}"))
}

#[cfg(test)]
mod tests {
    use crate::journal::{Disk, File};
    use crate::sim::disk::{SimDisk, SyncFailure, When};

    use super::*;

    #[test]
    fn a_second_sync_is_seen() {
        let disk = SimDisk::new();
        let file = disk.mount().create("a").unwrap();
        file.write_at(0, b"a").unwrap();
        disk.fail_sync(When::NEXT, SyncFailure::Keep);
        file.sync().unwrap_err();
        check(ReplicaId(1), &disk.take_after_failure()).unwrap();
        file.sync().unwrap();
        let violation = check(ReplicaId(1), &disk.take_after_failure()).unwrap_err();
        assert_eq!(violation.invariant, "D8");
    }
}
