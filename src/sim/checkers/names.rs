//! **D7, names**: after any crash a directory holds nothing but what belongs there, and after an
//! opening nothing that was left half done.

use crate::journal::checkpoint::{TEMPORARY_NAME as CHECKPOINT_NEW, checkpoint_slot};
use crate::journal::identity::IDENTITY_NAME;
use crate::journal::lease::lease_millis;
use crate::journal::segment::segment_number;
use crate::journal::sharing::{alone_slot, shared_slot};
use crate::types::ids::ReplicaId;

use super::{Violation, ensure};

/// The identity that is being written, until it takes the other one's place.
const IDENTITY_NEW: &str = "identity.new";

/// How many checkpoints an opening leaves at most: two that are whole, and one that is damaged.
const CHECKPOINTS_MAX: usize = 3;

/// Judges the names that a crash left.
///
/// # Errors
///
/// Where one is none that a journal makes.
pub fn check_left<'a>(
    id: ReplicaId,
    names: impl IntoIterator<Item = &'a String>,
) -> Result<(), Violation> {
    let legal = |name: &String| {
        let files = [IDENTITY_NAME, IDENTITY_NEW, CHECKPOINT_NEW];
        files.contains(&name.as_str())
            || segment_number(name).is_some()
            || checkpoint_slot(name).is_some()
            || shared_slot(name).is_some()
            || alone_slot(name).is_some()
            || lease_millis(name).is_some()
    };
    let wrong = names.into_iter().find(|name| !legal(name));
    ensure(wrong.is_none(), "D7", || format!("{id} has a file {wrong:?}"))
}

/// Judges the names after a replica was opened.
///
/// # Errors
///
/// Where the identity is missing, or something is left of what was not finished.
pub fn check_opened<'a>(
    id: ReplicaId,
    names: impl IntoIterator<Item = &'a String> + Clone,
) -> Result<(), Violation> {
    check_left(id, names.clone())?;
    let has = |wanted: &str| names.clone().into_iter().any(|name| name == wanted);
    ensure(has(IDENTITY_NAME), "D7", || format!("{id} is open without an identity"))?;
    for unfinished in [IDENTITY_NEW, CHECKPOINT_NEW] {
        ensure(!has(unfinished), "D7", || format!("{id} is open beside {unfinished}"))?;
    }
    let checkpoints = names.into_iter().filter(|name| checkpoint_slot(name).is_some()).count();
    ensure(checkpoints <= CHECKPOINTS_MAX, "D7", || format!("{id} keeps {checkpoints} checkpoints"))
}

/// Judges a lease that a replica grants, by the names that are durable: after any crash it must
/// know that it may have granted one as long as that.
///
/// # Errors
///
/// Where none of them tells so.
pub fn check_granted<'a>(
    id: ReplicaId,
    millis: u32,
    durable: impl IntoIterator<Item = &'a String>,
) -> Result<(), Violation> {
    let longest = durable.into_iter().filter_map(|name| lease_millis(name)).max();
    let known = longest.is_some_and(|longest| u64::from(millis) <= longest);
    ensure(known, "D7", || format!("{id} grants {millis} ms, and may forget that: {longest:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_belongs_to_a_directory_is_known() {
        let segment = "segment-0000000000000001";
        let checkpoint = "checkpoint-0000000000000a00";
        let left = names(&["identity", "identity.new", "checkpoint.new", segment, checkpoint]);
        check_left(ReplicaId(1), &left).unwrap();
        check_left(ReplicaId(1), &[]).unwrap();
        check_opened(ReplicaId(1), &names(&["identity", segment, checkpoint])).unwrap();
        check_opened(ReplicaId(1), &names(&["identity", "checkpoint.new", segment])).unwrap_err();
        check_opened(ReplicaId(1), &left).unwrap_err();
        check_opened(ReplicaId(1), &names(&[segment])).unwrap_err();
        check_left(ReplicaId(1), &names(&["identity", "lease-00001500"])).unwrap();
        check_granted(ReplicaId(1), 1500, &names(&["lease-00000100", "lease-00001500"])).unwrap();
        check_granted(ReplicaId(1), 1501, &names(&["lease-00001500"])).unwrap_err();
        check_granted(ReplicaId(1), 1, &names(&["identity"])).unwrap_err();
        for wrong in ["segment-1", "segment-0000000000000001.tmp", "core"] {
            let violation = check_left(ReplicaId(1), &names(&["identity", wrong])).unwrap_err();
            assert_eq!(violation.invariant, "D7", "{wrong}");
        }
    }
}
