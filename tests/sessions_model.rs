//! Sessions against a naive model that forgets nothing.
//!
//! The model remembers every command that was ever in the log, so it knows what happened. It finds
//! out who is remembered from the whole history, anew for each command.

use std::collections::{BTreeMap, BTreeSet};

use indelible::TxId;
use indelible::store::sessions::{Arrival, Outcome, Sessions};
use indelible::types::command::{Command, KeyKind, TableUse, Ticket, ValueCodec};
use indelible::types::ids::{RequestId, SessionId};
use indelible::types::limits::SESSION_WINDOW;
use proptest::collection::vec;
use proptest::prelude::*;

/// Something that stands in the log.
#[derive(Clone, Debug)]
enum Act {
    /// A new command of a session, so many sequences on from its newest, all but so many settled.
    New { session: usize, skip: u64, open: u64 },
    /// A copy of the command that stands so far back, from the beginning.
    Copy(usize),
    /// Somebody resolves a request of a session: that far from its newest sequence.
    Resolve { session: usize, ahead: i64 },
    /// A session is opened, by a replica that lags by so many commands.
    Open { lag: u64 },
    /// Another number of sessions is remembered.
    Remember(u32),
}

/// A session as its replica knows it.
#[derive(Debug)]
struct Opened {
    id: SessionId,
    newest: u64,
    settled_below: u64,
}

/// What stood in the log: by what session it was used, and from where on that session forgets.
#[derive(Debug)]
struct Past {
    session: SessionId,
    settled_below: u64,
}

#[derive(Debug, Default)]
struct Model {
    log: Vec<Past>,
    /// What became of each request, when that was decided.
    decided: BTreeMap<RequestId, Outcome>,
    /// Sessions that were evicted, for ever.
    evicted: BTreeSet<SessionId>,
    floor: u64,
    max: usize,
}

impl Model {
    /// The sessions that are remembered, by their last use.
    fn remembered(&self) -> Vec<(u64, SessionId)> {
        let mut last = BTreeMap::new();
        for (place, past) in (1..).zip(&self.log) {
            last.insert(past.session, place);
        }
        let mut last: Vec<(u64, SessionId)> = last.into_iter().map(|(id, at)| (at, id)).collect();
        last.retain(|(_, id)| !self.evicted.contains(id));
        last.sort_unstable();
        last
    }

    fn evict(&mut self) {
        let remembered = self.remembered();
        for (used, id) in &remembered[..remembered.len().saturating_sub(self.max)] {
            self.evicted.insert(*id);
            self.floor = self.floor.max(*used);
        }
    }

    /// Whether the session is used now; the place counts either way.
    fn uses(&mut self, session: SessionId, settled_below: u64) -> bool {
        let known = self.remembered().iter().any(|(_, id)| *id == session);
        let uses = known || self.floor <= session.opened();
        // Who is not used is some other session, of which nothing else is ever heard.
        let nobody = SessionId(u128::MAX - self.log.len() as u128);
        let session = if uses { session } else { nobody };
        self.log.push(Past { session, settled_below });
        if !uses {
            self.evicted.insert(nobody);
        }
        self.evict();
        uses
    }

    fn settled_below(&self, session: SessionId) -> u64 {
        let past = self.log.iter().filter(|past| past.session == session);
        past.map(|past| past.settled_below).max().unwrap_or_default()
    }

    fn arrive(&mut self, request: RequestId, settled_below: u64) -> Arrival {
        if !self.uses(request.session, settled_below) {
            return Arrival::Forgotten;
        }
        if request.sequence < self.settled_below(request.session) {
            return Arrival::Forgotten;
        }
        self.decided.get(&request).map_or(Arrival::New, |outcome| Arrival::Known(*outcome))
    }

    fn resolve(&mut self, request: RequestId) -> Option<Outcome> {
        let settled_below = request.sequence.saturating_sub(SESSION_WINDOW - 1);
        let uses = self.uses(request.session, settled_below);
        let settled = request.sequence < self.settled_below(request.session);
        (uses && !settled).then(|| *self.decided.entry(request).or_insert(Outcome::Burned))
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let open = prop_oneof![0..4_u64, Just(SESSION_WINDOW - 1)];
    let skip = prop_oneof![4 => 1..3_u64, 1 => Just(SESSION_WINDOW)];
    let ahead = prop_oneof![-4..4_i64, Just(SESSION_WINDOW as i64 + 2)];
    let act = prop_oneof![
        8 => (0..8_usize, skip, open)
            .prop_map(|(session, skip, open)| Act::New { session, skip, open }),
        6 => (0..64_usize).prop_map(Act::Copy),
        3 => (0..8_usize, ahead).prop_map(|(session, ahead)| Act::Resolve { session, ahead }),
        3 => prop_oneof![Just(0), 0..6_u64].prop_map(|lag| Act::Open { lag }),
        1 => (1..5_u32).prop_map(Act::Remember),
    ];
    vec(act, 1..80)
}

/// An outcome that tells at which place it was decided.
fn outcome(place: u64) -> Outcome {
    let at = TxId::new(0, place + 1).expect("few commands");
    match place % 3 {
        0 => Outcome::Committed { at, took_id: true },
        1 => Outcome::Refused { condition: place as u32, found: Some(at) },
        _ => Outcome::TableMismatch { table: place as u32, named: None },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn sessions_and_model_agree(acts in acts()) {
        let (mut sessions, mut model) = (Sessions::default(), Model { max: 2, ..Model::default() });
        sessions.set_max(2);
        let mut opened = vec![Opened { id: SessionId::new(0, 0), newest: 0, settled_below: 0 }];
        let mut commands: Vec<(RequestId, u64)> = Vec::new();
        let mut effects = BTreeSet::new();
        for act in acts {
            let place = sessions.commands();
            let command = match act {
                Act::New { session, skip, open } => {
                    let count = opened.len();
                    let session = &mut opened[session % count];
                    session.newest += skip;
                    let settled_below = session.newest.saturating_sub(open);
                    session.settled_below = session.settled_below.max(settled_below);
                    let request = RequestId { session: session.id, sequence: session.newest };
                    commands.push((request, session.settled_below));
                    commands.last().copied()
                }
                Act::Copy(index) if commands.is_empty() => {
                    prop_assert!(index < 64);
                    None
                }
                Act::Copy(index) => Some(commands[index % commands.len()]),
                Act::Resolve { session, ahead } => {
                    let session = &opened[session % opened.len()];
                    let sequence = session.newest.saturating_add_signed(ahead);
                    let request = RequestId { session: session.id, sequence };
                    prop_assert_eq!(sessions.resolve(request), model.resolve(request));
                    None
                }
                Act::Open { lag } => {
                    let id = SessionId::new(place.saturating_sub(lag), opened.len() as u64);
                    opened.push(Opened { id, newest: 0, settled_below: 0 });
                    None
                }
                Act::Remember(max) => {
                    sessions.set_max(max);
                    model.max = max as usize;
                    model.evict();
                    None
                }
            };
            if let Some((request, settled_below)) = command {
                let arrival = sessions.arrive(request, settled_below);
                prop_assert_eq!(arrival, model.arrive(request, settled_below));
                if arrival == Arrival::New {
                    prop_assert!(effects.insert(request), "{} happens twice", request);
                    sessions.record(request, outcome(place));
                    prop_assert!(model.decided.insert(request, outcome(place)).is_none());
                }
            }
            // What is made of an image goes on as what it was made of.
            let image = sessions.to_image();
            let made = Sessions::try_from(image.clone()).unwrap();
            prop_assert_eq!(made.to_image(), image.clone());
            prop_assert_eq!(made.digest(), sessions.digest());
            prop_assert_eq!(image.floor, model.floor);
            prop_assert_eq!(image.sessions.len(), model.remembered().len());
            for session in &image.sessions {
                prop_assert!(session.outcomes.len() as u64 <= SESSION_WINDOW);
            }
            if place % 2 == 0 {
                sessions = made;
            }
        }
    }
}

/// An image is the world's, once it comes from a peer.
#[test]
fn what_is_no_image_is_refused() {
    let mut sessions = Sessions::default();
    for (place, random) in [7, 8].into_iter().enumerate() {
        let request = RequestId { session: SessionId::new(place as u64, random), sequence: 5 };
        assert_eq!(sessions.arrive(request, 3), Arrival::New);
        sessions.record(request, outcome(place as u64));
    }
    let image = sessions.to_image();
    assert_eq!(Sessions::try_from(image.clone()).unwrap().to_image(), image);
    let refused = |edit: &dyn Fn(&mut indelible::store::sessions::SessionsImage)| {
        let mut image = image.clone();
        edit(&mut image);
        Sessions::try_from(image).unwrap_err().to_string()
    };
    let told = |why: &str| format!("cannot decode sessions: {why}");
    let out_of_range = told("a number is out of range");
    assert_eq!(refused(&|it| it.sessions_max = 0), out_of_range);
    assert_eq!(refused(&|it| it.sessions_max = u32::MAX), out_of_range);
    assert_eq!(refused(&|it| it.floor = 3), out_of_range);
    assert_eq!(refused(&|it| it.sessions_max = 1), told("there are more than are remembered"));
    assert_eq!(refused(&|it| it.sessions.swap(0, 1)), told("two are one"));
    assert_eq!(refused(&|it| it.sessions[1] = it.sessions[0].clone()), told("two are one"));
    assert_eq!(refused(&|it| it.sessions[1].used = 1), told("two are one"));
    let misplaced = told("one was used where it cannot have been");
    assert_eq!(refused(&|it| it.sessions[1].used = 3), misplaced);
    assert_eq!(refused(&|it| it.sessions[0].used = 0), misplaced);
    let outside = told("one has outcomes outside of its window");
    assert_eq!(refused(&|it| it.sessions[0].settled_below = 6), outside);
    assert_eq!(refused(&|it| it.sessions[0].outcomes[0].0 = 3 + SESSION_WINDOW), outside);
    let twice = |it: &mut indelible::store::sessions::SessionsImage| {
        let outcome = it.sessions[0].outcomes[0];
        it.sessions[0].outcomes.push(outcome);
    };
    assert_eq!(refused(&twice), outside);
}

/// Nothing is remembered of a session outside of its window.
#[test]
fn a_command_is_within_its_window() {
    let told = |sequence, settled_below| {
        let request = RequestId { sequence, ..RequestId::default() };
        let bytes = Command::of(Ticket { request, settled_below }).encode();
        Command::decode(&bytes).err().map(|err| err.to_string())
    };
    assert_eq!(told(7, 7), None);
    assert_eq!(told(u64::MAX, u64::MAX - SESSION_WINDOW + 1), None);
    let refused = |sequence: u64, settled_below: u64| {
        let why = format!("sequence {sequence} above {settled_below}, which is settled");
        let wanted = format!("cannot decode command: {why}");
        assert_eq!(told(sequence, settled_below), Some(wanted));
    };
    refused(7, 8);
    refused(SESSION_WINDOW, 0);
    refused(u64::MAX, 0);
}

#[test]
fn a_command_resolves_or_writes() {
    let resolving = Command::resolving(RequestId::default(), RequestId::default());
    assert_eq!(Command::decode(&resolving.encode()).unwrap(), resolving);
    let tables = vec![TableUse { name: "t", key_kind: KeyKind("str"), codec: ValueCodec::Raw }];
    let both = Command { tables, ..resolving };
    let told = Command::decode(&both.encode()).unwrap_err().to_string();
    assert_eq!(told, "cannot decode command: it resolves a request, and does more");
}
