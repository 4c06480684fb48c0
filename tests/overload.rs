//! More is asked of a replica than it can do: too much is refused by its name, memory stays within
//! bounds, and nobody loses the lead for it. In simulation, and with real processes whose memory is
//! measured.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "support/child.rs"]
mod child;
#[path = "support/cluster.rs"]
mod cluster;

#[path = "overload/full_inbox.rs"]
mod full_inbox;
#[cfg(target_os = "linux")]
#[path = "overload/processes.rs"]
mod processes;
#[path = "overload/replica.rs"]
mod replica;
#[path = "overload/simulated.rs"]
mod simulated;

/// What the processes do that the tests start.
#[cfg(target_os = "linux")]
#[test]
fn child() {
    match child::role().as_deref() {
        None => {}
        Some([role, id, directory, peers @ ..]) if role == "replica" => {
            processes::serve(id.parse().unwrap(), directory, peers);
        }
        Some(role) => panic!("{role:?} is no role"),
    }
}
