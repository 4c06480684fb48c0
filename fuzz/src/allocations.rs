//! How much memory a piece of code holds at most, by counting what it allocates.
//!
//! The allocator of every program that links this crate is the system's, with two counters. Beyond
//! that it refuses any single allocation above [`ALLOCATION_BYTES_MAX`], which ends the program: so
//! a forged length is a crash wherever it is believed, also outside of a measured piece.
//!
//! The counters are of each thread, so that what others do meanwhile does not count.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// No single allocation may be larger.
pub const ALLOCATION_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a decoder may hold beside a multiple of its input: a sequence that announces many elements
/// gets room for 1 MiB of them before the first is read, and there may be two, one in the other.
pub const CONSTANT_BYTES: usize = 2 * 1024 * 1024 + 64 * 1024;

/// How many times its input a decoder may hold: a value is larger in memory than encoded, and a
/// vector that grows is there twice.
pub const TIMES_INPUT: usize = 8;

thread_local! {
    /// Below zero in a thread that frees what another one allocated.
    static CURRENT: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

struct Counting;

// SAFETY: all work is the system allocator's, which is given what the caller gave; a null pointer
// is what an allocator returns that has no room.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract, and it is passed on as it is.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract, and it is passed on as it is.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        give_back(layout.size());
        // SAFETY: the caller keeps the contract, and it is passed on as it is.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // Both may be there at once, so the new one is counted before the old one is not.
        if !take(bytes) {
            return std::ptr::null_mut();
        }
        give_back(layout.size());
        // SAFETY: the caller keeps the contract, and it is passed on as it is.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

/// Counts an allocation; false where it is too large.
fn take(bytes: usize) -> bool {
    if bytes > ALLOCATION_BYTES_MAX {
        return false;
    }
    let current = CURRENT.get() + bytes as isize;
    CURRENT.set(current);
    PEAK.set(PEAK.get().max(current));
    true
}

fn give_back(bytes: usize) {
    CURRENT.set(CURRENT.get() - bytes as isize);
}

/// Runs `work`, and returns how many bytes more than before it held at its peak.
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = CURRENT.get();
    PEAK.set(before);
    let result = work();
    (result, (PEAK.get() - before).unsigned_abs())
}

/// Runs a decoder over `input` bytes.
///
/// # Panics
///
/// Where it holds more than [`TIMES_INPUT`] times its input and [`CONSTANT_BYTES`].
pub fn bounded<T>(input: usize, work: impl FnOnce() -> T) -> T {
    let (result, bytes) = peak(work);
    let most = input * TIMES_INPUT + CONSTANT_BYTES;
    assert!(bytes <= most, "{bytes} bytes allocated to decode {input}, wanted at most {most}");
    result
}
