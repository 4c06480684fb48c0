//! The next segment, made ahead: a commit waits neither for it nor for space.
//!
//! A full disk is no failure of anything that was written. The segment in use is made of real zeros
//! and goes on; what does not fit into it waits in memory until the owner asks to try again.

use std::mem;
use std::sync::Arc;

use super::group::Group;

/// The next segment.
pub(super) struct Spare<F> {
    state: State<F>,
    /// The last try found no space.
    full: bool,
}

enum State<F> {
    None,
    Preparing,
    Ready(Ready<F>),
    /// There was no space; nothing is tried before the owner says so.
    Full(Former),
    Again(Former),
}

/// A segment that is made.
pub(super) struct Ready<F> {
    pub(super) number: u64,
    pub(super) length: u64,
    /// The file, opened once for each lane.
    pub(super) lanes: Vec<Arc<F>>,
}

/// What stands in the way of a new segment under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Former {
    /// Nothing, or what a try left.
    Unnamed,
    /// One that is too short. The identity says that it must be there.
    Named,
}

impl<F> Spare<F> {
    pub(super) fn new() -> Self {
        Self { state: State::None, full: false }
    }

    /// Whether it can take `group`, with which it begins.
    pub(super) fn fits(&self, group: &Group) -> bool {
        matches!(&self.state, State::Ready(ready)
            if ready.number == group.segment && ready.length >= group.segment_bytes)
    }

    /// Takes it into use.
    pub(super) fn take(&mut self) -> Option<Ready<F>> {
        match mem::replace(&mut self.state, State::None) {
            State::Ready(ready) => Some(ready),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Whether one of `length` bytes is to be made now; what stands in the way, and how many bytes
    /// that gives back.
    pub(super) fn prepare(&mut self, length: u64) -> Option<(Former, u64)> {
        let job = match &self.state {
            State::None => (Former::Unnamed, 0),
            State::Ready(ready) if ready.length < length => (Former::Named, ready.length),
            State::Again(former) => (*former, 0),
            State::Preparing | State::Ready(_) | State::Full(_) => return None,
        };
        self.state = State::Preparing;
        Some(job)
    }

    /// The last segment that is made, where `current` is in use and none is being made.
    pub(super) fn settled(&self, current: u64) -> Option<u64> {
        match &self.state {
            State::None | State::Full(Former::Unnamed) | State::Again(Former::Unnamed) => {
                Some(current)
            }
            State::Ready(ready) => Some(ready.number),
            // What the identity says is being changed, or it names one that is too short.
            State::Preparing | State::Full(Former::Named) | State::Again(Former::Named) => None,
        }
    }

    /// It is made.
    pub(super) fn set_ready(&mut self, ready: Ready<F>) {
        *self = Self { state: State::Ready(ready), full: false };
    }

    /// There was no space for it.
    pub(super) fn set_full(&mut self, former: Former) {
        *self = Self { state: State::Full(former), full: true };
    }

    /// There may be space again.
    pub(super) fn retry(&mut self) {
        if let State::Full(former) = self.state {
            self.state = State::Again(former);
        }
    }

    /// Whether one is being made, or is to be made once more.
    pub(super) fn is_being_made(&self) -> bool {
        matches!(self.state, State::Preparing | State::Again(_))
    }

    /// Whether there was no space, and none was found since.
    pub(super) fn lacks_space(&self) -> bool {
        self.full
    }
}
