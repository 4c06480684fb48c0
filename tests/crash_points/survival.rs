//! What survives a cut of power: pieces of 512 bytes, lengths and names, chosen in many ways.

use indelible::sim::disk::{Piece, PieceKind, SimDisk};

/// Which of what was not synced survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    Nothing,
    Everything,
    OddPieces,
    EvenPieces,
    /// Lengths and names, and no bytes.
    LengthsOnly,
    FirstHalf,
    LastHalf,
    /// Of several writes, the one that was made first.
    OldestWrite,
    /// Of several writes, the one that was made last.
    NewestWrite,
    /// Every piece by the flip of a coin.
    Coins(u64),
    /// The same, and names in any order.
    CoinsAndNames(u64),
}

/// All ways that are tried.
pub const SURVIVALS: [Survival; 14] = [
    Survival::Nothing,
    Survival::Everything,
    Survival::OddPieces,
    Survival::EvenPieces,
    Survival::LengthsOnly,
    Survival::FirstHalf,
    Survival::LastHalf,
    Survival::OldestWrite,
    Survival::NewestWrite,
    Survival::Coins(1),
    Survival::Coins(2),
    Survival::Coins(3),
    Survival::CoinsAndNames(4),
    Survival::CoinsAndNames(5),
];

/// The power goes.
pub fn cut(disk: &SimDisk, survival: Survival) {
    let waiting = disk.unsynced();
    let numbers = || waiting.iter().map(|write| write.number);
    let (oldest, newest) = (numbers().min(), numbers().max());
    let pieces: usize = waiting.iter().map(|write| write.range.len() / PIECE_BYTES + 1).sum();
    let half = (pieces + disk.unsynced_names()) / 2;
    let mut coins = Coins(match survival {
        Survival::Coins(seed) | Survival::CoinsAndNames(seed) => seed + disk.boundaries() * 16,
        _ => 0,
    });
    let mut index = 0;
    disk.let_names_survive_in_any_order(matches!(survival, Survival::CoinsAndNames(_)));
    disk.power_cut(&mut |piece: &Piece<'_>| {
        index += 1;
        match survival {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::OddPieces => index % 2 == 1,
            Survival::EvenPieces => index % 2 == 0,
            Survival::LengthsOnly => !matches!(piece.kind, PieceKind::Bytes(_)),
            Survival::FirstHalf => index <= half,
            Survival::LastHalf => index > half,
            Survival::OldestWrite => oldest.is_none_or(|oldest| piece.number <= oldest),
            Survival::NewestWrite => newest.is_none_or(|newest| piece.number >= newest),
            Survival::Coins(_) | Survival::CoinsAndNames(_) => coins.next().is_multiple_of(2),
        }
    });
    disk.let_names_survive_in_any_order(false);
}

/// SplitMix64.
struct Coins(u64);

impl Coins {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

const PIECE_BYTES: usize = 512;
