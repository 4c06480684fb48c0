//! Wrong arguments, wrong directories and hostile peers: each is refused as what it is, and nothing
//! is written, proposed or lost because of it.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "support/child.rs"]
mod child;
#[path = "support/cluster.rs"]
mod cluster;

#[path = "bad_input/arguments.rs"]
mod arguments;
#[path = "bad_input/directories.rs"]
mod directories;
#[path = "bad_input/memberships.rs"]
mod memberships;
#[path = "bad_input/peers.rs"]
mod peers;

/// Opens the directory that it is told, says so, and waits to be killed.
#[test]
fn child() {
    let Some(role) = child::role() else { return };
    match indelible::Replica::open(&role[0]) {
        Ok(_open) => {
            child::say("open");
            let _ = std::io::stdin().read_line(&mut String::new());
        }
        Err(err) => child::say(&format!("{err:?}")),
    }
}
