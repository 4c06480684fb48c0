//! **D2, no overwrites**: durable bytes are not written over in place, and cut off only by an
//! opening, of a segment, behind what it kept or wrote anew.

use crate::sim::disk::Overwrite;
use crate::types::ids::ReplicaId;

use super::{Violation, ensure};

/// Judges what a disk saw, during an opening or while the replica ran.
///
/// # Errors
///
/// Where durable bytes were written over, or cut off while the replica ran.
pub fn check(id: ReplicaId, seen: &[Overwrite], in_opening: bool) -> Result<(), Violation> {
    for Overwrite { name, range, is_cut, .. } in seen {
        ensure(*is_cut, "D2", || format!("{id} writes over {range:?} of {name}, durable"))?;
        let may_cut = in_opening && name.starts_with("segment-");
        ensure(may_cut, "D2", || format!("{id} cuts {range:?} off {name}, durable"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, is_cut: bool) -> [Overwrite; 1] {
        [Overwrite { number: 1, name: name.to_owned(), range: 0..512, is_cut }]
    }

    #[test]
    fn only_an_opening_cuts_and_nobody_overwrites() {
        let name = "segment-0000000000000001";
        check(ReplicaId(1), &seen(name, true), true).unwrap();
        for (seen, in_opening) in
            [(seen(name, false), true), (seen(name, true), false), (seen("identity", true), true)]
        {
            let violation = check(ReplicaId(1), &seen, in_opening).unwrap_err();
            assert_eq!(violation.invariant, "D2", "{seen:?}");
        }
    }
}
