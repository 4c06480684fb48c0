//! What the names in a directory tell before any file is read.

use super::checkpoint::{TEMPORARY_NAME, checkpoint_slot};
use super::disk::Disk;
use super::error::JournalError;
use super::segment::{SEGMENT_NUMBER_MAX, segment_name, segment_number};

/// The numbers of the segments that there are, in order.
pub(super) fn segment_numbers<D: Disk>(disk: &D) -> Result<Vec<u64>, JournalError> {
    segments_among(&names(disk)?)
}

/// The names of all files.
pub(super) fn names<D: Disk>(disk: &D) -> Result<Vec<String>, JournalError> {
    disk.list().map_err(JournalError::io("list", "."))
}

/// The numbers of the segments among such names, in order.
pub(super) fn segments_among(names: &[String]) -> Result<Vec<u64>, JournalError> {
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    match numbers.last() {
        Some(last) if *last > SEGMENT_NUMBER_MAX => Err(no_segment(*last)),
        _ => Ok(numbers),
    }
}

/// The error for a file that nothing here can have made: the next ones would have its number and
/// more.
pub(super) fn no_segment(number: u64) -> JournalError {
    let reason = "a number that no segment has";
    JournalError::Corrupt { file: segment_name(number), offset: 0, slot: None, reason }
}

/// A file that nothing makes but a replica that has an identity, or a restore that is to give it
/// one: a directory that holds it is not blank.
pub(super) fn sign_of_use(names: &[String]) -> Option<&String> {
    let is_checkpoint = |name: &String| name == TEMPORARY_NAME || checkpoint_slot(name).is_some();
    names.iter().find(|name| segment_number(name).is_some() || is_checkpoint(name))
}
