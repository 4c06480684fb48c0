//! What will happen, and when: in the order of time, and at one time in the order of planning.
//!
//! Every replica asks at the end of each turn to be woken at some time, and only the last such
//! wish counts. So these are kept apart, one for each replica, rather than among all else: most of
//! what would stand there would never happen.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::types::ids::ReplicaId;
use crate::types::time::Moment;

use super::network::Parcel;

/// Everything that will happen.
#[derive(Debug)]
pub(super) struct Agenda {
    entries: BinaryHeap<Reverse<Entry>>,
    /// For replica 1, 2 and so on: when it is woken, and which number that has.
    alarms: Vec<Option<(Moment, u64)>>,
    /// How much was ever planned.
    numbers: u64,
}

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Happening {
    Arrive(Box<Parcel>),
    Wake { id: ReplicaId },
    Written { id: ReplicaId, life: u64, flight: u64 },
    Down { id: ReplicaId, peer: ReplicaId },
}

#[derive(Debug)]
struct Entry {
    at: Moment,
    number: u64,
    what: Happening,
}

impl Agenda {
    /// Nothing will happen to so many replicas.
    pub(super) fn new(replicas: usize) -> Self {
        Self { entries: BinaryHeap::new(), alarms: vec![None; replicas], numbers: 0 }
    }

    /// It will happen at that time.
    pub(super) fn plan(&mut self, at: Moment, what: Happening) {
        self.numbers += 1;
        self.entries.push(Reverse(Entry { at, number: self.numbers, what }));
    }

    /// The replica is woken at that time, and not at the one that it was to be woken at before.
    pub(super) fn set_alarm(&mut self, id: ReplicaId, at: Option<Moment>) {
        self.numbers += u64::from(at.is_some());
        self.alarms[id.0 as usize - 1] = at.map(|at| (at, self.numbers));
    }

    /// When the next thing happens.
    pub(super) fn next_at(&self) -> Option<Moment> {
        let entry = self.entries.peek().map(|Reverse(entry)| entry.at);
        let alarms = self.alarms.iter().flatten().map(|(at, _)| *at);
        alarms.chain(entry).min()
    }

    /// The next thing, and when it happens.
    pub(super) fn pop(&mut self) -> Option<(Moment, Happening)> {
        let entry = self.entries.peek().map(|Reverse(entry)| (entry.at, entry.number));
        let alarms = (1..).map(ReplicaId).zip(&self.alarms);
        let first = alarms.filter_map(|(id, alarm)| Some(((*alarm)?, id))).min();
        if let Some((alarm, id)) = first
            && entry.is_none_or(|entry| alarm < entry)
        {
            self.alarms[id.0 as usize - 1] = None;
            return Some((alarm.0, Happening::Wake { id }));
        }
        self.entries.pop().map(|Reverse(entry)| (entry.at, entry.what))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_planned_first_comes_first_and_only_the_last_alarm_counts() {
        let (one, two) = (ReplicaId(1), ReplicaId(2));
        let down = |id| Happening::Down { id, peer: id };
        let mut agenda = Agenda::new(2);
        agenda.set_alarm(one, Some(Moment(5)));
        agenda.plan(Moment(7), down(one));
        agenda.set_alarm(two, Some(Moment(7)));
        agenda.plan(Moment(7), down(two));
        agenda.plan(Moment(6), down(two));
        agenda.set_alarm(one, Some(Moment(7)));
        let order = std::iter::from_fn(|| {
            let next = agenda.next_at();
            let (at, what) = agenda.pop()?;
            assert_eq!(next, Some(at));
            Some(match what {
                Happening::Wake { id } => (at.0, "wake", id.0),
                Happening::Down { id, .. } => (at.0, "down", id.0),
                other => unreachable!("{other:?} was not planned"),
            })
        });
        let order = order.collect::<Vec<_>>();
        let expected =
            [(6, "down", 2), (7, "down", 1), (7, "wake", 2), (7, "down", 2), (7, "wake", 1)];
        assert_eq!(order, expected);
        agenda.set_alarm(two, Some(Moment(8)));
        agenda.set_alarm(two, None);
        assert!(agenda.next_at().is_none() && agenda.pop().is_none());
    }
}
