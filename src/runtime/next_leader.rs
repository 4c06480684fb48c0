//! Who waits to hear of another leader than the one that it knows.
//!
//! A caller says whom it knows, and is answered once this replica knows better. So nothing has to
//! be queued for a slow caller, and none misses the newest: changes that came and went meanwhile
//! are left out.
//!
//! Invariants:
//! * A caller is answered in the turn in which the leader first differs from the one that it knows.
//! * No caller is told of a leader that is older than one that any was told of before.
//! * Who waits no longer takes no memory beyond the next one who begins to.

use crate::journal::disk::Disk;
use crate::types::error::Error;
use crate::types::ids::Ballot;

use super::driver::Driver;
use super::pending::Completer;
use super::requests::Answer;

/// Callers, each with whom it knows, and the newest leader that any was told.
#[derive(Debug, Default)]
pub(super) struct NextLeader {
    waiting: Vec<(Option<Ballot>, Completer<Option<Ballot>>)>,
    newest: Ballot,
}

impl NextLeader {
    /// Answers everyone with `err`.
    pub(super) fn fail_all(&mut self, err: &Error, answers: &mut Vec<Answer>) {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        answers.extend(waiting.map(|(_, completer)| Answer::Leader(completer, Err(err.clone()))));
    }
}

impl<D: Disk> Driver<D> {
    /// A caller who knows of `known` waits for another leader, or for none.
    pub(super) fn on_next_leader(
        &mut self,
        known: Option<Ballot>,
        completer: Completer<Option<Ballot>>,
    ) {
        let waiting = &mut self.next_leader.waiting;
        waiting.retain(|(_, completer)| completer.is_waited_for());
        let count = waiting.len();
        match self.refuse_watcher(count) {
            Some(err) => self.effects.answers.push(Answer::Leader(completer, Err(err))),
            None => self.next_leader.waiting.push((known, completer)),
        }
    }

    /// Answers those who know of another leader than this replica does.
    pub(super) fn tell_leader(&mut self) {
        if self.next_leader.waiting.is_empty() {
            return;
        }
        // One that is deposed may go on for a while without knowing it, and be heard again.
        let newest = self.next_leader.newest;
        let leader = self.view().and_then(|view| view.leader).filter(|leader| newest <= *leader);
        self.next_leader.newest = leader.unwrap_or(newest);
        // Nor is who knows of a later one told of an earlier one.
        let told = |known: &Option<Ballot>| leader.filter(|leader| *known <= Some(*leader));
        let waiting = &mut self.next_leader.waiting;
        let knowing = waiting.extract_if(.., |(known, _)| told(known) != *known);
        let answers = knowing.map(|(known, it)| Answer::Leader(it, Ok(told(&known))));
        self.effects.answers.extend(answers);
    }
}
