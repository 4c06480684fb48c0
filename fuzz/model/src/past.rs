//! What happened before an exploration begins.
//!
//! Where four replicas or more vote before or behind a change of the membership, there is too much
//! to explore from the very beginning. A past leads to a state that can be reached, and all that
//! can follow is explored, with whatever is still on the way. So what is found wrong is wrong, and
//! what holds, holds behind that past.
//!
//! A leads at first, by the promise of C; B does not know. The change is the first one of the
//! settings, unless another is named.

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// A replica campaigned.
    Campaign(u64),
    /// A replica proposed a command.
    Propose(u64),
    /// A replica was asked for the membership with this place among the settings.
    Change(u64, usize),
    /// All letters that were on the way from one to another arrived.
    Mail(u64, u64),
    /// All letters of one that were on the way are lost.
    Lose(u64),
}

/// A leads.
fn led() -> Vec<Past> {
    vec![Past::Campaign(1), Past::Mail(1, 3), Past::Mail(3, 1)]
}

/// A is asked for a change, and has not heard from those who join.
#[must_use]
pub fn asked() -> Vec<Past> {
    then(led(), &[Past::Change(1, 0)])
}

/// A change by which C goes and D comes: D promised, and nobody heard of the proposal yet.
#[must_use]
pub fn proposed() -> Vec<Past> {
    then(asked(), &[Past::Mail(1, 4), Past::Mail(4, 1)])
}

/// The same change is chosen, by A and C, and A knows.
#[must_use]
pub fn chosen() -> Vec<Past> {
    then(proposed(), &[Past::Mail(1, 3), Past::Mail(3, 1)])
}

/// The same, and what A wrote to others than C is lost. B has it of C, leads above A, and asks for
/// promises of those who are to vote.
#[must_use]
pub fn found() -> Vec<Past> {
    then(unheard(chosen()), &[Past::Campaign(2), Past::Mail(2, 3), Past::Mail(3, 2)])
}

/// A change by which D comes and nobody goes is chosen, by A and C, and A knows. C promised, too.
#[must_use]
pub fn chosen_by_who_stays() -> Vec<Past> {
    let promised = then(asked(), &[Past::Mail(1, 3), Past::Mail(3, 1)]);
    then(promised, &[Past::Mail(1, 4), Past::Mail(4, 1), Past::Mail(1, 3), Past::Mail(3, 1)])
}

/// What A wrote until then, and did not arrive, never does.
#[must_use]
pub fn unheard(past: Vec<Past>) -> Vec<Past> {
    then(past, &[Past::Lose(1)])
}

/// B leads by the promise of A, and proposes a change by which C goes and D comes; nobody hears. A
/// leads above B, by the promise of C, and both choose the same change, of which A tells D. For
/// that A must do without a promise of D.
#[must_use]
pub fn unprepared() -> Vec<Past> {
    let asked = [Past::Campaign(2), Past::Mail(2, 1), Past::Mail(1, 2), Past::Change(2, 0)];
    let proposed = then(asked.to_vec(), &[Past::Mail(2, 1), Past::Mail(1, 2)]);
    let voted = then(then(proposed, &led()), &[Past::Change(1, 0), Past::Mail(1, 3)]);
    let chosen = then(unheard(voted), &[Past::Mail(3, 1)]);
    then(chosen, &[Past::Mail(1, 4), Past::Mail(4, 1), Past::Mail(1, 4)])
}

/// In slot 2 A proposes a membership that only A votes in, and nobody hears. B leads above A, by
/// the promise of C, makes the second change count from slot 2 on, and knows. A promised, too.
#[must_use]
pub fn overtaken() -> Vec<Past> {
    let proposed = then(led(), &[Past::Propose(1), Past::Change(1, 0)]);
    let leads = [Past::Campaign(2), Past::Mail(2, 3), Past::Mail(3, 2)];
    let asked = then(then(unheard(proposed), &leads), &[Past::Change(2, 1)]);
    then(asked, &[Past::Mail(2, 1), Past::Mail(1, 2), Past::Mail(2, 3), Past::Mail(3, 2)])
}

fn then(past: Vec<Past>, next: &[Past]) -> Vec<Past> {
    [past.as_slice(), next].concat()
}
