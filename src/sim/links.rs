//! The network between cores: a queue for each directed link.
//!
//! Nothing arrives by itself. Messages wait in the order in which they were sent until the caller
//! delivers, drops or copies them; a link that is cut loses what is sent into it from then on, and
//! a link that is held keeps what it has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::types::ids::ReplicaId;
use crate::types::message::Message;

/// A directed link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The sender.
    pub from: ReplicaId,
    /// The receiver.
    pub to: ReplicaId,
}

/// Which messages are meant. What is `None` matches everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The sender.
    pub from: Option<ReplicaId>,
    /// The receiver.
    pub to: Option<ReplicaId>,
    /// The name of the message.
    pub kind: Option<String>,
}

/// What is on its way.
#[derive(Debug, Default)]
pub struct Links {
    queues: BTreeMap<Link, VecDeque<Message>>,
    cut: BTreeSet<Link>,
    held: BTreeSet<Link>,
}

impl Filter {
    /// Whether a message on `link` is meant.
    #[must_use]
    pub fn matches(&self, link: Link, message: &Message) -> bool {
        self.from.is_none_or(|from| from == link.from)
            && self.to.is_none_or(|to| to == link.to)
            && self.kind.as_ref().is_none_or(|kind| kind == message.name())
    }
}

impl Links {
    /// Sends, unless the link is cut. Returns whether the message is on its way.
    pub fn send(&mut self, link: Link, message: Message) -> bool {
        if self.cut.contains(&link) {
            return false;
        }
        self.queues.entry(link).or_default().push_back(message);
        true
    }

    /// From now on, what is sent from one to the other is lost.
    pub fn cut(&mut self, link: Link) {
        self.cut.insert(link);
    }

    /// Takes back every cut and hold.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.held.clear();
    }

    /// Takes back the cut and the hold of one link.
    pub fn mend(&mut self, link: Link) {
        self.cut.remove(&link);
        self.held.remove(&link);
    }

    /// What waits on the link stays until it is mended, or delivered by [`Links::take`].
    pub fn hold(&mut self, link: Link) {
        self.held.insert(link);
    }

    /// Whether the link is cut.
    #[must_use]
    pub fn is_cut(&self, link: Link) -> bool {
        self.cut.contains(&link)
    }

    /// Whether the link is held.
    #[must_use]
    pub fn is_held(&self, link: Link) -> bool {
        self.held.contains(&link)
    }

    /// How many messages wait on links that are not held.
    #[must_use]
    pub fn moving(&self) -> usize {
        let free = self.queues.iter().filter(|(link, _)| !self.held.contains(link));
        free.map(|(_, queue)| queue.len()).sum()
    }

    /// The links on which something waits, in order, and how much.
    pub fn waiting(&self) -> impl Iterator<Item = (Link, usize)> {
        let busy = self.queues.iter().filter(|(_, queue)| !queue.is_empty());
        busy.map(|(link, queue)| (*link, queue.len()))
    }

    /// Takes the oldest message from the next link after `last` that is not held.
    pub fn take_next(&mut self, last: Option<Link>) -> Option<(Link, Message)> {
        let held = &self.held;
        let busy = |(link, queue): (&Link, &VecDeque<Message>)| {
            (!queue.is_empty() && !held.contains(link)).then_some(*link)
        };
        let after = self.queues.iter().filter_map(busy).find(|link| Some(*link) > last);
        let link = after.or_else(|| self.queues.iter().find_map(busy))?;
        Some((link, self.queues.get_mut(&link)?.pop_front()?))
    }

    /// Takes the message at `index` of a link, held or not.
    pub fn take_at(&mut self, link: Link, index: usize) -> Option<Message> {
        self.queues.get_mut(&link)?.remove(index)
    }

    /// The message at `index` of a link.
    #[must_use]
    pub fn peek_at(&self, link: Link, index: usize) -> Option<&Message> {
        self.queues.get(&link)?.get(index)
    }

    /// Copies the message at `index` of a link to its end.
    pub fn copy_at(&mut self, link: Link, index: usize) {
        let Some(queue) = self.queues.get_mut(&link) else { return };
        if let Some(message) = queue.get(index).cloned() {
            queue.push_back(message);
        }
    }

    /// Takes every message that is meant, in order of links; with `keep`, copies them.
    pub fn take(&mut self, filter: &Filter, keep: bool) -> Vec<(Link, Message)> {
        let mut taken = Vec::new();
        for (link, queue) in &mut self.queues {
            let mut rest = VecDeque::new();
            for message in queue.drain(..) {
                let meant = filter.matches(*link, &message);
                if meant {
                    taken.push((*link, message.clone()));
                }
                if keep || !meant {
                    rest.push_back(message);
                }
            }
            *queue = rest;
        }
        taken
    }

    /// Turns the order of what waits on a link around.
    pub fn reverse(&mut self, link: Link) {
        if let Some(queue) = self.queues.get_mut(&link) {
            queue.make_contiguous().reverse();
        }
    }

    /// Loses everything that is on its way.
    pub fn clear(&mut self) {
        self.queues.clear();
    }
}
