//! Real processes, killed by SIGKILL at any moment: what they acknowledged is there afterwards.
//!
//! The processes are this test program again, in the role of a writer or of a replica; see
//! `support/child.rs`. What survives here is the death of a process. What survives a cut of power
//! is tested with a disk that forgets, in `journal_crashes`.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "support/child.rs"]
mod child;
#[path = "support/cluster.rs"]
mod cluster;

#[path = "crash/alone.rs"]
mod alone;
#[path = "crash/together.rs"]
mod together;

/// What the processes do that the tests start.
#[test]
fn child() {
    match child::role().as_deref() {
        None => {}
        Some([role, path, life]) if role == "writer" => alone::write(path, life.parse().unwrap()),
        Some([role, id, directory, peers @ ..]) if role == "replica" => {
            together::serve(id.parse().unwrap(), directory, peers);
        }
        Some(role) => panic!("{role:?} is no role"),
    }
}

/// Numbers that look random and are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % end
    }
}
