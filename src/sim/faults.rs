//! The faults of a swarm: which kinds there are, and when each happens.
//!
//! The plan of a seed is made before anything runs, and every fault in it draws from a seed of its
//! own. So a plan can be cut down, fault by fault, to those that a failure needs.
//!
//! Swarm testing (Groce et al., ISSTA 2012): each seed switches about half of the kinds off, so
//! that some runs see one kind again and again, and rare combinations come up.
//!
//! Not here: what each fault does (`strike`).

use std::time::Duration;

use super::rng::Rng;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What can happen to a cluster, besides lost, late and doubled messages.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            /// All kinds, in order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name in reports; it does not change.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

kinds! {
    /// One link carries nothing.
    CutLink = "cut-link",
    /// A replica neither hears nor is heard.
    Isolate = "isolate",
    /// A replica is heard and does not hear.
    Deafen = "deafen",
    /// A replica hears and is not heard.
    Mute = "mute",
    /// The replicas fall into two parts.
    Partition = "partition",
    /// A link is slow by seconds.
    Clog = "clog",
    /// A link comes and goes ten times a second.
    Flap = "flap",
    /// Messages of one kind are held back, and arrive in another order.
    Reorder = "reorder",
    /// Messages come again that are old, perhaps older than an opening.
    Replay = "replay",
    /// A frame is damaged on its way; the connection ends.
    CorruptFrame = "corrupt-frame",
    /// A process dies.
    Crash = "crash",
    /// A machine loses power.
    PowerCut = "power-cut",
    /// All machines lose power at once.
    Blackout = "blackout",
    /// A machine loses power while its replica is being opened.
    CrashInOpening = "crash-in-opening",
    /// A replica is closed and opened again.
    CloseAndOpen = "close-and-open",
    /// A machine stands still.
    Pause = "pause",
    /// No write of a machine ends.
    DiskStall = "disk-stall",
    /// A disk is slow.
    SlowDisk = "slow-disk",
    /// A clock runs up to a tenth too fast or too slow.
    ClockDrift = "clock-drift",
    /// A clock stands still.
    ClockStall = "clock-stall",
    /// A clock jumps ahead.
    ClockJump = "clock-jump",
    /// A clock jumps back.
    ClockBack = "clock-back",
    /// A calendar is years off.
    Calendar = "calendar",
    /// A write fails.
    WriteFails = "write-fails",
    /// A write fails half-way.
    WriteFailsPartly = "write-fails-partly",
    /// A sync fails; what was lost reads back well.
    SyncFailsKeep = "sync-fails-keep",
    /// A sync fails; what was lost is gone at once.
    SyncFailsRevert = "sync-fails-revert",
    /// A file cannot be renamed.
    RenameFails = "rename-fails",
    /// The names cannot be made durable.
    DirectorySyncFails = "directory-sync-fails",
    /// A file cannot be made.
    CreateFails = "create-fails",
    /// A file cannot be opened.
    OpenFails = "open-fails",
    /// The names cannot be listed.
    ListFails = "list-fails",
    /// A file cannot be removed.
    RemoveFails = "remove-fails",
    /// A read is short, which is no failure.
    ShortRead = "short-read",
    /// There is no room on a disk.
    NoSpace = "no-space",
    /// Bits on a medium change, where that is told by later frames.
    BitRot = "bit-rot",
    /// Sectors become zeros, where that is told by later frames.
    Zeroed = "zeroed-range",
    /// Sectors cannot be read, where that is told by later frames.
    Unreadable = "unreadable-sector",
    /// Blocks change places, where that is told by later frames.
    Swapped = "swapped-ranges",
    /// The newest group is damaged, and nothing tells that it was durable.
    TailRot = "tail-rot",
    /// A disk is set back to an earlier image of it.
    SetBack = "set-back-image",
    /// The leader is asked to hand over, whatever else goes on.
    HandOver = "hand-over",
    /// A checkpoint is damaged, of two that there are.
    CheckpointRot = "checkpoint-rot",
    /// A replica is asked for a checkpoint.
    Checkpoint = "checkpoint",
}

/// One fault of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When it begins.
    pub at: Duration,
    /// What happens.
    pub kind: Kind,
    /// From where it draws whom it hits, and for how long.
    pub seed: u64,
}

/// The faults of a seed, in order of time, until `end`.
#[must_use]
pub fn plan(rng: &mut Rng, end: Duration) -> Vec<Planned> {
    let kinds = Kind::ALL.iter().copied().filter(|_| rng.per_mille(500)).collect::<Vec<_>>();
    if kinds.is_empty() {
        return Vec::new();
    }
    let pause = rng.time(Duration::from_millis(1500)..=Duration::from_secs(12));
    let mut plan = Vec::new();
    let mut at = rng.time(Duration::ZERO..=2 * pause);
    while at < end {
        plan.push(Planned { at, kind: *rng.pick(&kinds), seed: rng.next_u64() });
        at += rng.time(Duration::ZERO..=2 * pause);
    }
    plan
}
