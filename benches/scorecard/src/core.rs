//! The protocol alone: three cores in one thread, without disks, sockets and other threads.

use crate::report::{Result, Row};

/// Entries a second that all three learn, with 1,024 outstanding.
pub fn pump() -> Result<Row> {
    Err("core.pump1024 is not measured yet".into())
}
