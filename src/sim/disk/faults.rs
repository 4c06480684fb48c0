//! The kinds of faults of a simulated disk, by name, and how often each acted.
//!
//! A fault is counted when it acted: when an operation failed, returned something else than it
//! should, or when bytes or names that had been written are not on the medium. One that was armed
//! and never reached, or that changed nothing, does not count.
//!
//! Not here: what each does (`inject`, `damage`, `crash`).

use std::collections::BTreeMap;
use std::fmt;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskFault {
    /// A write failed, and nothing of it was written.
    WriteFails,
    /// A write failed, and a part of it was written.
    WriteFailsPartly,
    /// There was no room for a file to grow.
    NoSpace,
    /// A sync failed; what was lost is still read back, and counts as clean.
    SyncFailsKeep,
    /// A sync failed; what is read back is what is on the medium.
    SyncFailsRevert,
    /// A sync failed, and only the next one was told.
    SyncFailsLate,
    /// The length of a file could not be changed.
    ResizeFails,
    /// A file could not be renamed.
    RenameFails,
    /// The names could not be made durable.
    DirectorySyncFails,
    /// A file could not be made.
    CreateFails,
    /// A file could not be opened.
    OpenFails,
    /// The names could not be listed.
    ListFails,
    /// A file could not be removed.
    RemoveFails,
    /// A read failed.
    ReadFails,
    /// A read returned less than there was and was asked for.
    ShortRead,
    /// A read returned other bytes than there are, once.
    CorruptRead,
    /// A write was synced, and is not on the medium.
    LostWrite,
    /// A write was synced, and is on the medium in another place.
    MisdirectedWrite,
    /// Bits on the medium changed, and were read.
    BitRot,
    /// Bytes on the medium became zeros, and were read.
    ZeroedRange,
    /// A read hit a sector that cannot be read.
    UnreadableSector,
    /// Bytes on the medium became what they had been before, and were read.
    StaleRange,
    /// A name stands for the file that it stood for before.
    StaleName,
    /// Two ranges on the medium changed places, and were read.
    SwappedRanges,
    /// A file lost its end.
    TruncatedFile,
    /// A file is gone.
    DeletedFile,
    /// The disk is as it was at some time before.
    SetBack,
    /// The disk is blank.
    Wiped,
    /// The power went.
    PowerCut,
    /// The process died.
    ProcessCrash,
    /// The power went, and of a write a part survived.
    TornWrite,
    /// The power went, and nothing of a write survived.
    UnsyncedWriteLost,
    /// The power went, and of two writes only the later one survived whole.
    ReorderedWrites,
    /// The power went, and a file is longer without the bytes that made it so.
    SizeBeforeData,
    /// The power went, and a change to the names did not survive.
    NameLost,
    /// The power went, and of two changes to the names only the later one survived.
    ReorderedNames,
}

impl DiskFault {
    /// All kinds, in order.
    pub const ALL: [Self; 36] = [
        Self::WriteFails,
        Self::WriteFailsPartly,
        Self::NoSpace,
        Self::SyncFailsKeep,
        Self::SyncFailsRevert,
        Self::SyncFailsLate,
        Self::ResizeFails,
        Self::RenameFails,
        Self::DirectorySyncFails,
        Self::CreateFails,
        Self::OpenFails,
        Self::ListFails,
        Self::RemoveFails,
        Self::ReadFails,
        Self::ShortRead,
        Self::CorruptRead,
        Self::LostWrite,
        Self::MisdirectedWrite,
        Self::BitRot,
        Self::ZeroedRange,
        Self::UnreadableSector,
        Self::StaleRange,
        Self::StaleName,
        Self::SwappedRanges,
        Self::TruncatedFile,
        Self::DeletedFile,
        Self::SetBack,
        Self::Wiped,
        Self::PowerCut,
        Self::ProcessCrash,
        Self::TornWrite,
        Self::UnsyncedWriteLost,
        Self::ReorderedWrites,
        Self::SizeBeforeData,
        Self::NameLost,
        Self::ReorderedNames,
    ];

    /// The name in reports; it does not change.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::WriteFails => "write-fails",
            Self::WriteFailsPartly => "write-fails-partly",
            Self::NoSpace => "no-space",
            Self::SyncFailsKeep => "sync-fails-keep",
            Self::SyncFailsRevert => "sync-fails-revert",
            Self::SyncFailsLate => "sync-fails-late",
            Self::ResizeFails => "resize-fails",
            Self::RenameFails => "rename-fails",
            Self::DirectorySyncFails => "directory-sync-fails",
            Self::CreateFails => "create-fails",
            Self::OpenFails => "open-fails",
            Self::ListFails => "list-fails",
            Self::RemoveFails => "remove-fails",
            Self::ReadFails => "read-fails",
            Self::ShortRead => "short-read",
            Self::CorruptRead => "corrupt-read",
            Self::LostWrite => "lost-write",
            Self::MisdirectedWrite => "misdirected-write",
            Self::BitRot => "bit-rot",
            Self::ZeroedRange => "zeroed-range",
            Self::UnreadableSector => "unreadable-sector",
            Self::StaleRange => "stale-range",
            Self::StaleName => "stale-name",
            Self::SwappedRanges => "swapped-ranges",
            Self::TruncatedFile => "truncated-file",
            Self::DeletedFile => "deleted-file",
            Self::SetBack => "set-back",
            Self::Wiped => "wiped",
            Self::PowerCut => "power-cut",
            Self::ProcessCrash => "process-crash",
            Self::TornWrite => "torn-write",
            Self::UnsyncedWriteLost => "unsynced-write-lost",
            Self::ReorderedWrites => "reordered-writes",
            Self::SizeBeforeData => "size-before-data",
            Self::NameLost => "name-lost",
            Self::ReorderedNames => "reordered-names",
        }
    }
}

impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How often each kind acted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fired(BTreeMap<DiskFault, u64>);

impl Fired {
    /// How often `fault` acted.
    #[must_use]
    pub fn of(&self, fault: DiskFault) -> u64 {
        self.0.get(&fault).copied().unwrap_or(0)
    }

    /// How often any acted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The kinds that acted, with how often.
    pub fn iter(&self) -> impl Iterator<Item = (DiskFault, u64)> + '_ {
        self.0.iter().map(|(fault, count)| (*fault, *count))
    }

    /// Adds what another disk counted.
    pub fn add(&mut self, other: &Self) {
        for (fault, count) in other.iter() {
            *self.0.entry(fault).or_default() += count;
        }
    }

    pub(super) fn count(&mut self, fault: DiskFault) {
        *self.0.entry(fault).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn kinds_have_names_of_their_own_and_are_all_listed() {
        let names: BTreeSet<&str> = DiskFault::ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.len(), DiskFault::ALL.len());
        assert_eq!(DiskFault::ALL.len(), DiskFault::ReorderedNames as usize + 1);
        assert!(DiskFault::ALL.iter().enumerate().all(|(index, fault)| *fault as usize == index));
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
    }
}
