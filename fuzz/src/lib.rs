//! What the fuzz targets do with the bytes that they are given, as plain functions.
//!
//! Each module is one target: `run` takes any bytes, and panics where something does not hold.
//! `targets/` makes programs of them for libFuzzer; `tests/corpus.rs` runs them over the corpus
//! with any toolchain; `examples/seeds.rs` writes the seeds that the corpus began with.
//!
//! Bytes that were made at random stop at the first checksum. So most targets look at their input
//! twice: as it is, and once more with the checksums made right, so that the code behind them is
//! reached. The checksum is computed here, not by the crate that is tested.
//!
//! Invariants:
//! * The same bytes do the same, whatever ran before.
//! * No decoder allocates more than a multiple of its input and a constant ([`allocations`]).

pub mod allocations;
pub mod checksum;
pub mod input;

pub mod command;
pub mod frame;
pub mod identity;
pub mod key;
pub mod message;
pub mod state_image;

pub mod damage;
pub mod image;
pub mod recovery;

pub mod cluster;
pub mod store_model;

/// A target: its name, and what it does with its input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 9] = [
    ("frame", frame::run),
    ("message", message::run),
    ("identity", identity::run),
    ("image", state_image::run),
    ("recovery", recovery::run),
    ("command", command::run),
    ("key", key::run),
    ("store_model", store_model::run),
    ("cluster", cluster::run),
];
