//! Transports: what they carry, what they refuse, and what hostile bytes cannot do to them.

// The allowance in clippy.toml covers functions marked as tests, not their helpers.
#![allow(clippy::unwrap_used)]

mod hostile;
mod memory;
mod samples;
mod support;
mod tcp;
mod wire;
