//! Transports: what they carry, what they refuse, and what hostile bytes cannot do to them.

mod hostile;
mod memory;
mod samples;
mod support;
mod tcp;
mod wire;
