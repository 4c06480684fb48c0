//! Input bytes as a list of choices.
//!
//! Where the bytes end, every further choice is zero: so an input that is cut does the beginning of
//! what the whole one did.

/// The bytes that are left.
#[derive(Clone, Debug)]
pub struct Input<'a>(&'a [u8]);

/// Numbers at which arithmetic ends.
const EDGES: [u64; 16] = [
    0,
    1,
    u32::MAX as u64 - 1,
    u32::MAX as u64,
    1 << 32,
    1 << 20,
    (1 << 20) + 1,
    1 << 35,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 4096,
    u64::MAX - 16,
    u64::MAX - 3,
    u64::MAX - 2,
    u64::MAX - 1,
    u64::MAX,
];

impl<'a> Input<'a> {
    /// All of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// The next two bytes.
    pub fn word(&mut self) -> u16 {
        u16::from(self.byte()) | u16::from(self.byte()) << 8
    }

    /// A number below `end`, from one byte where that is enough; 0 where `end` is.
    pub fn below(&mut self, end: usize) -> usize {
        let number = if end <= 256 { usize::from(self.byte()) } else { usize::from(self.word()) };
        number % end.max(1)
    }

    /// Any number: small, at an edge, or from 8 bytes.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..0x80 => u64::from(byte),
            byte @ 0x80..0xc0 => EDGES[usize::from(byte) % EDGES.len()],
            // A little below zero, for where it is added.
            byte @ 0xc0..0xe0 => 0_u64.wrapping_sub(u64::from(byte & 0x1f)),
            _ => {
                let mut bytes = [0; 8];
                let taken = self.take(8);
                bytes[..taken.len()].copy_from_slice(taken);
                u64::from_le_bytes(bytes)
            }
        }
    }

    /// Whether, with a chance of `chance` in 256.
    pub fn chance(&mut self, chance: u8) -> bool {
        self.byte() < chance
    }

    /// The next `count` bytes, or as many as are left.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }
}
