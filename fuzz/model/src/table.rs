//! Values known by small numbers, read without a lock.
//!
//! Equal values, as their keys say, get the same number. Numbers depend on who came first, so they
//! mean something only within one run.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, OnceLock};

use indelible::types::ids::ContentHash;

/// A hasher for numbers that are small and dense: it mixes, and no more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

const CHUNK: usize = 1 << 12;
const CHUNKS: usize = 1 << 16;

/// The table.
#[derive(Debug)]
pub struct Table<T> {
    chunks: Vec<OnceLock<Chunk<T>>>,
    numbers: Mutex<HashMap<ContentHash, u32>>,
}

type Chunk<T> = Vec<OnceLock<T>>;

/// What tells a value from others: a hash of 128 bits over all that is fed to it.
#[derive(Debug, Default)]
pub struct Key(Vec<u8>);

impl Key {
    /// The key of a value that hashes all of itself.
    #[must_use]
    pub fn of(value: &impl Hash) -> ContentHash {
        let mut key = Self::default();
        value.hash(&mut key);
        key.end()
    }

    /// The key of all that was fed.
    #[must_use]
    pub fn end(&self) -> ContentHash {
        ContentHash::of(&self.0)
    }
}

impl Hasher for Key {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        self.end().0 as u64
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        let chunks = std::iter::repeat_with(OnceLock::new).take(CHUNKS).collect();
        Self { chunks, numbers: Mutex::default() }
    }
}

impl<T> Table<T> {
    /// The number of the value with this key; `value` is called where it is new.
    pub fn number(&self, key: ContentHash, value: impl FnOnce() -> T) -> u32 {
        let mut numbers = self.numbers.lock().expect("nobody panics while holding the lock");
        let next = numbers.len();
        *numbers.entry(key).or_insert_with(|| {
            let chunk = self.chunks[next / CHUNK]
                .get_or_init(|| std::iter::repeat_with(OnceLock::new).take(CHUNK).collect());
            assert!(chunk[next % CHUNK].set(value()).is_ok(), "number {next} is given twice");
            u32::try_from(next).expect("a table has far fewer values")
        })
    }

    /// The value with this number.
    ///
    /// # Panics
    ///
    /// Where [`number`](Self::number) never gave it.
    #[must_use]
    pub fn get(&self, number: u32) -> &T {
        let number = number as usize;
        let value = self.chunks[number / CHUNK].get().and_then(|chunk| chunk[number % CHUNK].get());
        value.expect("a number was given by this table")
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.numbers.lock().expect("nobody panics while holding the lock").len()
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
