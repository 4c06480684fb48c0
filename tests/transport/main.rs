//! Transports: what they carry, what they refuse, and what hostile bytes cannot do to them.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

mod hostile;
mod memory;
mod opened;
mod peers;
mod samples;
mod support;
mod tcp;
mod wire;
