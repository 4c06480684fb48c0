//! What became of each request, so that one that arrives again happens once.
//!
//! A command is known by its session and its sequence. What becomes of it is kept here, and one
//! that arrives again, by whatever way, has no effect and is told the same. Memory is bounded twice
//! over:
//!
//! * Within a session by the *window*: a command says below which sequence all are answered, and
//!   what became of those is dropped. A copy of one of them that arrives still has no effect; what
//!   it was is not known any more, and nobody waits to hear it.
//! * Of all sessions as many are remembered as the membership says (`sessions_max`); of more, the
//!   one that was used least recently is *evicted*.
//!
//! Nobody asks for a session; its first command makes it. So one that was evicted must be told from
//! one that is new, and nothing is left of it. Its id tells: it says at which *place* the session
//! was opened. The place of a command is how many commands the log has before it, applied or
//! refused, new or not.
//!
//! ```text
//!   place   0 ..... 5 ....... 9 ........ 14 ...............
//!                   |         |           '- a command of session b: 5 < floor, refused
//!                   |         '- session b is used last (floor = 10, once it is evicted)
//!                   '- session b is opened here, or later in the log than its id says
//! ```
//!
//! Every command of a session stands at or behind the place where the session was opened: whoever
//! opened it had applied all before that place, and a slot that is applied takes no new commands.
//! So a session that was used was used *behind* where it was opened. The *floor* is the highest
//! place behind which an evicted session was last used; so every evicted session was opened below
//! the floor, strictly. A session that is not remembered and was opened at the floor or above was
//! therefore never used. One that was opened below may be new all the same, on a replica that lags;
//! it is refused, too, and its replica opens another one.
//!
//! Invariants:
//! * No two sessions were last used at one place, so who is evicted is never a matter of choice.
//! * The floor never sinks; every evicted session was opened below it.
//! * What became of a request, once it is told, never changes until it is forgotten; then it stays
//!   forgotten.
//! * `settled_below <= sequence < settled_below + SESSION_WINDOW` of all that is remembered.
//! * Nothing here depends on a clock, or on a setting that is not in the log.
//!
//! There are no versions of it, and a checkpoint needs all of it as it stood at one boundary. So
//! each session is shared with whoever pinned it ([`Pinned`]), and copied where it changes
//! meanwhile: one at a time, and each once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::types::bugs::{self, Bug};
use crate::types::codec::DecodeError;
use crate::types::ids::{ContentHash, RequestId, SessionId, TxId};
use crate::types::limits::{SESSION_WINDOW, SESSIONS_MAX, SESSIONS_MAX_MAX};
use crate::types::marks::reached;

/// The sessions that are remembered.
#[derive(Clone, Debug)]
pub struct Sessions {
    sessions: BTreeMap<SessionId, Arc<Session>>,
    /// The same, by the place behind their last use.
    by_use: BTreeMap<u64, SessionId>,
    /// How many commands the log has had: the place of the next one.
    commands: u64,
    floor: u64,
    sessions_max: u32,
    /// The sum of the hashes of all sessions and outcomes, modulo 2^128, as in `digest.rs`.
    sum: u128,
}

#[derive(Clone, Debug)]
struct Session {
    /// The place behind its last command.
    used: u64,
    settled_below: u64,
    outcomes: BTreeMap<u64, Outcome>,
    /// What stands for it in the sum.
    hash: u128,
}

/// What became of a request. The rest of a verdict follows from the request's own bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Everything that it required held.
    Committed {
        /// The state that it left: its own id, or where it took none the newest before it.
        at: TxId,
        /// Whether `at` is its own id.
        took_id: bool,
    },
    /// A condition did not hold.
    Refused {
        /// The place of the condition in the command.
        condition: u32,
        /// The version that was found at its key.
        found: Option<TxId>,
    },
    /// A table was used with other types than before.
    TableMismatch {
        /// The place of the table in the command.
        table: u32,
        /// The place at which the command itself had named it with other types; `None` where the
        /// ledger had it with other types.
        named: Option<u32>,
    },
    /// It had not arrived when somebody wanted to know what became of it. It has no effect.
    Burned,
}

/// What a command is that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It was never here: it is to be applied, and its outcome recorded.
    New,
    /// It was here, or was burned.
    Known(Outcome),
    /// Whether it was here is not known any more. It must have no effect.
    Forgotten,
}

/// All that is remembered, as it stood: what is recorded later is not in it.
#[derive(Clone, Debug)]
pub struct Pinned {
    commands: u64,
    floor: u64,
    sessions_max: u32,
    /// Those that were not taken yet, the last one first.
    sessions: Vec<(SessionId, Arc<Session>)>,
}

/// All that is remembered, as plain data: to be encoded, and made anew from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsImage {
    /// How many commands the log has had.
    pub commands: u64,
    /// Sessions that are not remembered and were opened below this place may have been used.
    pub floor: u64,
    /// How many sessions are remembered at most.
    pub sessions_max: u32,
    /// The sessions, in order of their ids.
    pub sessions: Vec<SessionImage>,
}

/// One session as plain data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionImage {
    /// The session.
    pub id: SessionId,
    /// The place behind its last command.
    pub used: u64,
    /// What became of lower sequences is forgotten.
    pub settled_below: u64,
    /// What became of the others that were here, in order of their sequences.
    pub outcomes: Vec<(u64, Outcome)>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            sessions: BTreeMap::new(),
            by_use: BTreeMap::new(),
            commands: 0,
            floor: 0,
            sessions_max: SESSIONS_MAX,
            sum: 0,
        }
    }
}

impl Sessions {
    /// A command of this request is next in the log; all lower sequences than `settled_below` are
    /// answered. Where it is new, [`record`](Self::record) follows.
    pub fn arrive(&mut self, request: RequestId, settled_below: u64) -> Arrival {
        let place = self.next_place();
        let Some((session, sum)) = self.touch(request.session, place) else {
            reached!(CommandForgotten);
            return Arrival::Forgotten;
        };
        session.settle(request.session, settled_below, sum);
        if request.sequence < session.settled_below {
            reached!(CommandForgotten);
            return Arrival::Forgotten;
        }
        let Some(outcome) = session.outcomes.get(&request.sequence) else { return Arrival::New };
        match outcome {
            Outcome::Burned => reached!(BurnedArrives),
            _ => reached!(CommandKnown),
        }
        match bugs::is_on(Bug::DedupeSkipped) {
            true => Arrival::New,
            false => Arrival::Known(*outcome),
        }
    }

    /// What became of a request that was new.
    ///
    /// # Panics
    ///
    /// Where its session did not just arrive.
    pub fn record(&mut self, request: RequestId, outcome: Outcome) {
        let session = self.sessions.get_mut(&request.session);
        let session = Arc::make_mut(session.expect("the session of a new command is remembered"));
        assert!(session.used == self.commands, "{request} is recorded at its own place");
        session.record(request, outcome, &mut self.sum);
    }

    /// Settles what becomes of a request, at the next place of the log: what it was, or, where it
    /// was not here yet, nothing from now on. `None` where that is not known any more.
    pub fn resolve(&mut self, request: RequestId) -> Option<Outcome> {
        let place = self.next_place();
        let (session, sum) = self.touch(request.session, place)?;
        // No replica has a sequence under way that is a window above one without an answer. So if
        // this one was, all of those were answered.
        let settled_below = request.sequence.saturating_sub(SESSION_WINDOW - 1);
        session.settle(request.session, settled_below, sum);
        if request.sequence < session.settled_below {
            return None;
        }
        if let Some(outcome) = session.outcomes.get(&request.sequence) {
            reached!(RequestResolved);
            return Some(*outcome);
        }
        reached!(RequestBurned);
        session.record(request, Outcome::Burned, sum);
        Some(Outcome::Burned)
    }

    /// How many commands the log has had.
    #[must_use]
    pub fn commands(&self) -> u64 {
        self.commands
    }

    /// Goes on behind all that the log may have had elsewhere, in a ledger of which this one holds
    /// only the beginning; `None` where there is no place so far. So a session that was opened
    /// there is one that may be new here: what was asked for in it can be settled.
    #[must_use]
    pub fn go_on_elsewhere(&mut self) -> Option<()> {
        self.commands = self.commands.checked_add(ELSEWHERE_MAX)?;
        Some(())
    }

    /// From now on so many sessions are remembered.
    pub fn set_max(&mut self, sessions_max: u32) {
        self.sessions_max = sessions_max.max(1);
        self.evict();
    }

    /// What stands for all of this in the digest of the state.
    #[must_use]
    pub fn digest(&self) -> u128 {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.commands.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.floor.to_le_bytes());
        bytes[16..].copy_from_slice(&self.sessions_max.to_le_bytes());
        // A state that no command was applied to has no sessions to speak of.
        if self.commands == 0 { 0 } else { self.sum.wrapping_add(ContentHash::of(&bytes).0) }
    }

    /// All that is remembered, as it stands: that costs a pointer for each session.
    #[must_use]
    pub fn pin(&self) -> Pinned {
        let sessions = self.sessions.iter().rev();
        Pinned {
            commands: self.commands,
            floor: self.floor,
            sessions_max: self.sessions_max,
            sessions: sessions.map(|(id, session)| (*id, Arc::clone(session))).collect(),
        }
    }

    /// All that is remembered.
    #[must_use]
    pub fn to_image(&self) -> SessionsImage {
        self.pin().take(usize::MAX)
    }

    /// Whether it is known what became of a request.
    #[cfg(feature = "sim")]
    pub(super) fn is_known(&self, request: RequestId) -> bool {
        let session = self.sessions.get(&request.session);
        session.is_some_and(|session| session.outcomes.contains_key(&request.sequence))
    }

    /// Forgets the session that was used least recently, whatever the log says.
    #[cfg(feature = "sim")]
    pub(super) fn forget_one(&mut self) {
        self.evict_first();
    }

    fn next_place(&mut self) -> u64 {
        let place = self.commands;
        self.commands += 1;
        place
    }

    /// The session, used at `place`; `None` where it is not remembered, and may have been used.
    /// What is settled in it follows, and with that its hash.
    fn touch(&mut self, id: SessionId, place: u64) -> Option<(&mut Session, &mut u128)> {
        if let Some(session) = self.sessions.get_mut(&id).map(Arc::make_mut) {
            let before = self.by_use.remove(&session.used);
            assert!(before == Some(id), "each session is known by its last use");
            session.used = place + 1;
        } else {
            // An id that was opened behind this place is none that a replica draws; were it taken,
            // the session could be used below where it was opened. It is new once the log has come
            // so far; what came of it before had no effect.
            let floor = if bugs::is_on(Bug::FloorIgnored) { 0 } else { self.floor };
            if id.opened() < floor || place < id.opened() {
                return None;
            }
            let outcomes = BTreeMap::new();
            let session = Session { used: place + 1, settled_below: 0, outcomes, hash: 0 };
            self.sessions.insert(id, Arc::new(session));
        }
        self.by_use.insert(place + 1, id);
        self.evict();
        let session = self.sessions.get_mut(&id).expect("what was used last is not evicted");
        Some((Arc::make_mut(session), &mut self.sum))
    }

    fn evict(&mut self) {
        while self.sessions.len() > self.sessions_max as usize {
            reached!(SessionEvicted);
            self.evict_first();
        }
    }

    fn evict_first(&mut self) {
        let Some((used, id)) = self.by_use.pop_first() else { return };
        let session = self.sessions.remove(&id).expect("both maps have the same sessions");
        assert!(id.opened() < used, "a session is used behind where it was opened");
        for (sequence, outcome) in &session.outcomes {
            self.sum = self.sum.wrapping_sub(outcome.hash(id, *sequence));
        }
        self.sum = self.sum.wrapping_sub(session.hash);
        self.floor = self.floor.max(used);
    }
}

impl TryFrom<SessionsImage> for Sessions {
    type Error = DecodeError;

    fn try_from(image: SessionsImage) -> Result<Self, DecodeError> {
        let fail = |reason: &str| Err(DecodeError::new("sessions", reason));
        let SessionsImage { commands, floor, sessions_max, sessions } = image;
        if sessions_max == 0 || sessions_max > SESSIONS_MAX_MAX || floor > commands {
            return fail("a number is out of range");
        }
        if sessions.len() > sessions_max as usize {
            return fail("there are more than are remembered");
        }
        let mut made = Self { commands, floor, sessions_max, ..Self::default() };
        for SessionImage { id, used, settled_below, outcomes } in sessions {
            let last = made.sessions.last_key_value().map(|(id, _)| *id);
            if last.is_some_and(|last| id <= last) || made.by_use.insert(used, id).is_some() {
                return fail("two are one");
            }
            if used <= id.opened() || commands < used {
                return fail("one was used where it cannot have been");
            }
            let in_order = outcomes.windows(2).all(|pair| pair[0].0 < pair[1].0);
            let fits = |(sequence, _): &(u64, Outcome)| {
                sequence.checked_sub(settled_below).is_some_and(|ahead| ahead < SESSION_WINDOW)
            };
            if !in_order || !outcomes.iter().all(fits) {
                return fail("one has outcomes outside of its window");
            }
            let outcomes = outcomes.into_iter().collect::<BTreeMap<_, _>>();
            for (sequence, outcome) in &outcomes {
                made.sum = made.sum.wrapping_add(outcome.hash(id, *sequence));
            }
            let mut session = Session { used, settled_below, outcomes, hash: 0 };
            session.rehash(id, &mut made.sum);
            made.sessions.insert(id, Arc::new(session));
        }
        Ok(made)
    }
}

impl Pinned {
    /// The next sessions, in order of their ids: as many as have about `bytes_max` bytes together,
    /// and at least one where there is one.
    pub fn take(&mut self, bytes_max: usize) -> SessionsImage {
        let (mut sessions, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max
            && let Some((id, session)) = self.sessions.pop()
        {
            bytes += SESSION_BYTES + session.outcomes.len() * OUTCOME_BYTES;
            sessions.push(session.to_image(id));
        }
        let Self { commands, floor, sessions_max, .. } = *self;
        SessionsImage { commands, floor, sessions_max, sessions }
    }

    /// Whether all were taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

impl Session {
    fn to_image(&self, id: SessionId) -> SessionImage {
        SessionImage {
            id,
            used: self.used,
            settled_below: self.settled_below,
            outcomes: self.outcomes.iter().map(|(at, outcome)| (*at, *outcome)).collect(),
        }
    }

    /// Everything below is answered. The session was just used, too.
    fn settle(&mut self, id: SessionId, settled_below: u64, sum: &mut u128) {
        self.settled_below = self.settled_below.max(settled_below);
        while let Some(first) = self.outcomes.first_entry()
            && *first.key() < self.settled_below
        {
            let (sequence, outcome) = first.remove_entry();
            *sum = sum.wrapping_sub(outcome.hash(id, sequence));
        }
        self.rehash(id, sum);
    }

    fn record(&mut self, request: RequestId, outcome: Outcome, sum: &mut u128) {
        let RequestId { session, sequence } = request;
        *sum = sum.wrapping_add(outcome.hash(session, sequence));
        if let Some(before) = self.outcomes.insert(sequence, outcome) {
            *sum = sum.wrapping_sub(before.hash(session, sequence));
        }
    }

    /// The session is another one than the sum says.
    fn rehash(&mut self, id: SessionId, sum: &mut u128) {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&id.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.used.to_le_bytes());
        bytes[24..].copy_from_slice(&self.settled_below.to_le_bytes());
        let hash = ContentHash::of(&bytes).0;
        *sum = sum.wrapping_sub(self.hash).wrapping_add(hash);
        self.hash = hash;
    }
}

impl Outcome {
    /// What stands in the sum for this outcome of a request.
    fn hash(self, session: SessionId, sequence: u64) -> u128 {
        let (kind, one, two) = match self {
            Self::Committed { at, took_id } => (u8::from(took_id), at.get(), 0),
            Self::Refused { condition, found } => {
                // There is no transaction zero.
                (2, u64::from(condition), found.unwrap_or(TxId::ZERO).get())
            }
            Self::TableMismatch { table, named } => {
                (3, u64::from(table), named.map_or(u64::MAX, u64::from))
            }
            Self::Burned => (4, 0, 0),
        };
        let mut bytes = [0; 41];
        bytes[..16].copy_from_slice(&session.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&one.to_le_bytes());
        bytes[32..40].copy_from_slice(&two.to_le_bytes());
        bytes[40] = kind;
        ContentHash::of(&bytes).0
    }
}

/// About how long a session is as plain data, and an outcome.
const SESSION_BYTES: usize = 48;
const OUTCOME_BYTES: usize = 32;

/// How many commands a ledger has at most behind the state that another one begins with: so many
/// that none has them, and few enough that ledgers can follow each other 65,536 times.
const ELSEWHERE_MAX: u64 = 1 << 48;
