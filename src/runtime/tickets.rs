//! Under which sessions commands of this replica are known, and by which numbers.
//!
//! A ticket is drawn before a command is encoded, by whoever submits it. It also says below which
//! sequence everything was answered, so that the state need not remember it. What ended as unknown
//! was not answered: somebody may resolve it yet. It holds the window open; when the window is
//! full, the next ticket opens another session, which costs nothing.
//!
//! ```text
//!   sequence   1  2  3  4  5  6  7        x answered   o under way, or unknown
//!              x  x  o  x  o  o
//!                    |        '- the newest; the next is 7, while 7 - 3 < window
//!                    '- settled_below
//! ```
//!
//! Invariants:
//! * No sequence below `settled_below` of any ticket is submitted later, or answered later.
//! * A session says that it was opened where no more commands were applied than here.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::sync::Mutex;
use crate::types::command::Ticket;
use crate::types::ids::{Boot, ContentHash, Incarnation, RequestId, SessionId};
use crate::types::limits::SESSION_WINDOW;

/// Where tickets are drawn. Clones share it.
#[derive(Clone, Debug)]
pub struct Tickets(Arc<Mutex<Desk>>);

#[derive(Debug)]
struct Desk {
    incarnation: Incarnation,
    boot: Boot,
    /// At most [`SESSION_WINDOW`].
    window: u64,
    /// How many sessions were opened.
    opened: u64,
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    /// Everything below was answered.
    settled_below: u64,
    /// Whether each sequence from there on is open still.
    open: VecDeque<bool>,
}

impl Tickets {
    /// For an opening of a directory, with as many sequences without an answer in each session.
    #[must_use]
    pub fn new(incarnation: Incarnation, boot: Boot, window: u64) -> Self {
        assert!(0 < window && window <= SESSION_WINDOW, "{window} sequences in a window");
        let desk = Desk { incarnation, boot, window, opened: 0, session: None };
        Self(Arc::new(Mutex::new(desk)))
    }

    /// The next ticket, where `commands` commands are applied.
    pub fn draw(&self, commands: impl FnOnce() -> u64) -> Ticket {
        self.0.lock().draw(commands)
    }

    /// The requests were answered for good, or never submitted.
    pub fn settle(&self, requests: impl IntoIterator<Item = RequestId>) {
        let mut desk = self.0.lock();
        requests.into_iter().for_each(|request| desk.settle(request));
    }

    /// The state does not remember the session: the next ticket opens another one.
    pub fn expire(&self, session: SessionId) {
        self.0.lock().session.take_if(|it| it.id == session);
    }
}

impl Desk {
    fn draw(&mut self, commands: impl FnOnce() -> u64) -> Ticket {
        let is_full = |session: &Session| session.open.len() as u64 == self.window;
        if self.session.as_ref().is_none_or(is_full) {
            self.session = Some(self.open(commands()));
        }
        let session = self.session.as_mut().expect("it was opened");
        let sequence = session.settled_below + session.open.len() as u64;
        session.open.push_back(true);
        let request = RequestId { session: session.id, sequence };
        Ticket { request, settled_below: session.settled_below }
    }

    fn settle(&mut self, request: RequestId) {
        let session = self.session.as_mut().filter(|session| session.id == request.session);
        let Some(session) = session else { return };
        let place = request.sequence.checked_sub(session.settled_below);
        let place = place.and_then(|place| usize::try_from(place).ok());
        if let Some(open) = place.and_then(|place| session.open.get_mut(place)) {
            *open = false;
        }
        while session.open.front() == Some(&false) {
            session.open.pop_front();
            session.settled_below += 1;
        }
    }

    fn open(&mut self, commands: u64) -> Session {
        self.opened += 1;
        // The nonce is random, and no other opening has it.
        let mut bytes = [0; 40];
        bytes[..16].copy_from_slice(&self.incarnation.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.boot.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.boot.nonce.to_le_bytes());
        bytes[32..].copy_from_slice(&self.opened.to_le_bytes());
        let random = ContentHash::of(&bytes).0 as u64;
        let id = SessionId::new(commands, random);
        Session { id, settled_below: 1, open: VecDeque::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(window: u64) -> Tickets {
        Tickets::new(Incarnation(1), Boot { sequence: 1, nonce: 2 }, window)
    }

    #[test]
    fn what_is_not_answered_holds_the_window() {
        let tickets = tickets(4);
        let drawn: Vec<_> = (0..4).map(|_| tickets.draw(|| 7)).collect();
        assert!(drawn.iter().zip(1..).all(|(it, sequence)| it.request.sequence == sequence));
        assert!(drawn.iter().all(|it| it.settled_below == 1));
        tickets.settle([drawn[1].request]);
        tickets.settle([drawn[0].request]);
        let next = tickets.draw(|| 8);
        assert_eq!((next.request.sequence, next.settled_below), (5, 3));
        assert_eq!(next.request.session, drawn[0].request.session);
        // What was answered twice, or of another session, changes nothing.
        tickets.settle([drawn[1].request]);
        tickets.settle([RequestId { session: SessionId(9), sequence: 3 }]);
        assert_eq!(tickets.draw(|| 8).settled_below, 3);
    }

    #[test]
    fn a_full_window_opens_another_session() {
        let tickets = tickets(2);
        let (first, second) = (tickets.draw(|| 7), tickets.draw(|| 7));
        let third = tickets.draw(|| 9);
        assert_ne!(third.request.session, first.request.session);
        assert_eq!((third.request.sequence, third.request.session.opened()), (1, 9));
        // The old one has no more tickets, and nothing to settle.
        tickets.settle([second.request]);
        assert_eq!(tickets.draw(|| 9).settled_below, 1);
    }

    #[test]
    fn sessions_are_told_apart() {
        let tickets = tickets(8);
        let one = tickets.draw(|| 7).request.session;
        tickets.expire(SessionId(1));
        assert_eq!(tickets.draw(|| 7).request.session, one);
        tickets.expire(one);
        let other = tickets.draw(|| 7).request.session;
        assert_ne!(other, one, "opened at the same place");
        let again = Tickets::new(Incarnation(1), Boot { sequence: 2, nonce: 3 }, 8);
        assert_ne!(again.draw(|| 7).request.session, one);
    }
}
