//! How fast the pieces of a checkpoint are written: at once, in slices so that nobody who syncs
//! beside them waits for long, or not yet.
//!
//! Not here: which of these it is (`runtime/checkpoints.rs`).

use super::Journal;
use super::disk::Disk;

/// How the pieces of a checkpoint are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// Each as soon as the one before is.
    #[default]
    Fast,
    /// In slices, each of them synced: whoever syncs something else meanwhile waits for one of
    /// those, and not for a piece.
    Gentle,
    /// None is begun.
    Waiting,
}

impl Pace {
    /// The slices of a piece that are synced one by one, and what is written behind them.
    pub(super) fn slices(self, piece: &[u8]) -> (impl Iterator<Item = &[u8]>, &[u8]) {
        let at = match self {
            Self::Fast | Self::Waiting => 0,
            Self::Gentle => piece.len().saturating_sub(1) / SLICE_BYTES * SLICE_BYTES,
        };
        let (slices, last) = piece.split_at(at);
        (slices.chunks(SLICE_BYTES), last)
    }
}

impl<D: Disk> Journal<D> {
    /// How the pieces of the checkpoint that is being taken are written, from the next one on and
    /// as long as nothing else is said.
    pub fn pace_checkpoint(&mut self, pace: Pace) {
        self.checkpoints.pace = pace;
    }
}

/// A sync of so many bytes takes hardly longer than that of a block, and one that is beside it
/// neither: with 64 KiB the p99 of commits beside a checkpoint was 1.8 times that without, with
/// these 1.3 times.
const SLICE_BYTES: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_all_of_a_piece() {
        for length in [0, 1, SLICE_BYTES, SLICE_BYTES + 1, 3 * SLICE_BYTES, 3 * SLICE_BYTES + 7] {
            let piece = (0..length).map(|at| at as u8).collect::<Vec<_>>();
            let (slices, last) = Pace::Gentle.slices(&piece);
            let slices = slices.collect::<Vec<_>>();
            assert!(slices.iter().all(|slice| slice.len() == SLICE_BYTES));
            assert!(last.len() <= SLICE_BYTES && last.is_empty() == piece.is_empty());
            assert_eq!([slices.concat(), last.to_vec()].concat(), piece);
            assert_eq!(Pace::Fast.slices(&piece).1, piece);
        }
    }
}
