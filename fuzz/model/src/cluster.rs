//! The cluster as a model to explore: up to five replicas, and a network that loses nothing for
//! good.
//!
//! The network is the set of all letters that ever left. A letter may arrive at any time, and
//! again; one that never arrives is lost. So loss, delay, duplication and reordering, also across
//! crashes of both ends, are all there is to it.
//!
//! A state names its replicas and letters by number ([`Table`]). As a step concerns one replica
//! alone, it is computed once for each replica that it can happen to, and remembered: cores run
//! some hundred thousand times, where states are counted in millions.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use stateright::{Model, Property};

use indelible::types::entry::Entry;
use indelible::types::ids::{ReplicaId, Slot};
use indelible::types::message::Doubt;

use crate::bugs::Bug;
use crate::checks;
use crate::past::Past;
use crate::replica::{Letter, Replica, Step, membership};
use crate::settings::{REPLICAS, Settings};
use crate::stale::{Standing, is_stale, only_tells};
use crate::table::{Key, Mix, Table};

/// The model.
#[derive(Debug)]
pub struct Cluster {
    settings: Settings,
    replicas: Table<Replica>,
    letters: Table<Letter>,
    /// Beginnings of the log, each with what it adds up to.
    logs: Table<Vec<Entry>>,
    outcomes: Vec<Mutex<Outcomes>>,
    /// Whether a leader said that a change is established.
    said: AtomicBool,
}

/// Replicas and letters, by number.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct State {
    replicas: [u32; REPLICAS],
    /// In increasing order.
    network: Vec<u32>,
    /// The first slot that nobody has ever learned; told apart only where reads need it.
    learned: u64,
    /// How many durable votes or promises were damaged.
    damages: u8,
}

/// Something that happens to the replica at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    place: usize,
    happening: Happening,
}

/// As [`Step`], by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Happening {
    Campaign,
    Propose,
    Change(usize),
    Sync,
    Crash,
    Kill,
    Damage(Slot, Doubt),
    Tear,
    LosePromise,
    Retransmit,
    Read(Slot),
    Install(u32),
    Receive(u32),
}

/// The replica behind a step, and what left.
#[derive(Clone, Debug)]
struct Outcome {
    replica: u32,
    sent: Arc<[u32]>,
}

type Outcomes = HashMap<(u32, Happening), Outcome, BuildHasherDefault<Mix>>;

/// So many locks for the outcomes.
const SHARDS: usize = 64;

impl Cluster {
    /// The cluster with these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let outcomes = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        let (replicas, letters, logs) = Default::default();
        Self { settings, replicas, letters, logs, outcomes, said: AtomicBool::new(false) }
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many different replicas and letters were met.
    #[must_use]
    pub fn met(&self) -> (usize, usize) {
        (self.replicas.len(), self.letters.len())
    }

    /// Whether a leader said that a change is established, in a state that was looked at.
    #[must_use]
    pub fn said_established(&self) -> bool {
        self.said.load(Ordering::Relaxed)
    }

    /// The replicas of a state.
    #[must_use]
    pub fn replicas(&self, state: &State) -> [&Replica; REPLICAS] {
        state.replicas.map(|number| self.replicas.get(number))
    }

    fn outcome(&self, replica: u32, happening: Happening) -> Option<Outcome> {
        let key = (replica, happening);
        let shard = &self.outcomes[replica as usize % SHARDS];
        let known = shard.lock().expect("nobody panics while holding the lock").get(&key).cloned();
        let outcome = known.unwrap_or_else(|| {
            let outcome = self.compute(replica, happening);
            let mut shard = shard.lock().expect("nobody panics while holding the lock");
            shard.insert(key, outcome.clone());
            outcome
        });
        (outcome.replica != replica || !outcome.sent.is_empty()).then_some(outcome)
    }

    fn compute(&self, number: u32, happening: Happening) -> Outcome {
        let step = match happening {
            Happening::Campaign => Step::Campaign,
            Happening::Propose => Step::Propose,
            Happening::Change(place) => Step::Change(place),
            Happening::Sync => Step::Sync,
            Happening::Crash => Step::Crash,
            Happening::Kill => Step::Kill,
            Happening::Damage(slot, doubt) => Step::Damage(slot, doubt),
            Happening::Tear => Step::Tear,
            Happening::LosePromise => Step::LosePromise,
            Happening::Retransmit => Step::Retransmit,
            Happening::Read(floor) => Step::Read { floor },
            Happening::Install(log) => Step::Install(self.logs.get(log).clone()),
            Happening::Receive(letter) => {
                let Letter { from, message, .. } = self.letters.get(letter).clone();
                Step::Receive { from, message }
            }
        };
        let Some((replica, sent)) = self.replicas.get(number).step(&self.settings, &step) else {
            return Outcome { replica: number, sent: Arc::new([]) };
        };
        let letters = sent.into_iter().map(|letter| self.letters.number(letter.key(), || letter));
        let sent = letters.collect();
        Outcome { replica: self.replicas.number(replica.key(&self.settings), || replica), sent }
    }

    /// Which crashes can happen next, after so many.
    fn crashes(&self, state: &State, happenings: &mut Vec<Happening>) {
        happenings.push(Happening::Crash);
        if self.settings.bug == Some(Bug::ReopenWithoutSync) {
            happenings.push(Happening::Kill);
        }
        if self.settings.tears {
            happenings.push(Happening::Tear);
        }
        if state.damages < self.settings.damages_max {
            for slot in (1..=self.settings.slots).map(Slot) {
                let damages = self.settings.damages.iter();
                happenings.extend(damages.map(|doubt| Happening::Damage(slot, *doubt)));
            }
            happenings.extend(self.settings.loses_promise.then_some(Happening::LosePromise));
        }
    }

    /// What can happen to a replica besides letters.
    fn happenings(&self, state: &State) -> Vec<Happening> {
        let Settings { campaigns_max, crashes_max, .. } = self.settings;
        let count =
            |counter: fn(&Replica) -> u8| -> u8 { self.replicas(state).map(counter).iter().sum() };
        let mut happenings = vec![Happening::Propose];
        if self.settings.changes() && count(|replica| replica.changes) < self.settings.changes_max {
            let successors = 0..self.settings.successors.len();
            happenings.extend(successors.map(Happening::Change));
        }
        if self.settings.syncs.contains(&true) {
            happenings.push(Happening::Sync);
        }
        if count(|replica| replica.campaigns) < campaigns_max {
            happenings.push(Happening::Campaign);
        }
        if crashes_max > 0 && count(|replica| replica.crashes) < crashes_max {
            self.crashes(state, &mut happenings);
        }
        if self.settings.retransmits {
            happenings.push(Happening::Retransmit);
        }
        if self.settings.has_reads() {
            happenings.push(Happening::Read(Slot(state.learned)));
        }
        happenings
    }

    /// The states of peers that each replica may take in: of what is known, and of what was known
    /// some time ago.
    fn installs(&self, state: &State, actions: &mut Vec<Action>) {
        let replicas = self.replicas(state);
        let count: u8 = replicas.iter().map(|replica| replica.installs).sum();
        if self.settings.installs_max <= count {
            return;
        }
        let longest = replicas.iter().map(|replica| &replica.learned).max_by_key(|log| log.len());
        let longest = longest.expect("there are replicas");
        for (place, replica) in replicas.iter().enumerate().take(self.settings.replicas()) {
            for end in replica.learned.len() + 1..=longest.len() {
                let log = &longest[..end];
                let number = self.logs.number(Key::of(&log), || log.to_vec());
                actions.push(Action { place, happening: Happening::Install(number) });
            }
        }
    }

    /// Letters arrive of which nothing counts but what they tell of a voter's journal.
    fn tell_leaders(&self, state: &mut State, standings: &mut [Standing; REPLICAS]) {
        for number in &state.network {
            let letter = self.letters.get(*number);
            let place = letter.to.0 as usize - 1;
            if !only_tells(letter, &standings[place]) {
                continue;
            }
            let happening = Happening::Receive(*number);
            if let Some(Outcome { replica, sent }) = self.outcome(state.replicas[place], happening)
            {
                assert!(sent.is_empty(), "who is told answers nothing");
                state.replicas[place] = replica;
                standings[place] = Standing::of(self.replicas.get(replica), &self.settings);
            }
        }
    }

    fn forget_stale(&self, state: &mut State) {
        let standing = |replica| Standing::of(replica, &self.settings);
        let mut standings = self.replicas(state).map(standing);
        if self.settings.retires() {
            self.tell_leaders(state, &mut standings);
        }
        if self.settings.bug.is_some_and(Bug::revives_openings) {
            standings = standings.map(Standing::of_any_opening);
        }
        state.network.retain(|letter| {
            let letter = self.letters.get(*letter);
            let [sender, receiver] =
                [letter.from, letter.to].map(|id| &standings[id.0 as usize - 1]);
            !is_stale(letter, sender, receiver)
        });
    }

    /// The state behind what happened in this one.
    ///
    /// # Panics
    ///
    /// Where it cannot happen.
    fn behind(&self, state: State, past: Past) -> State {
        let (id, happening) = match past {
            Past::Campaign(id) => (id, Happening::Campaign),
            Past::Propose(id) => (id, Happening::Propose),
            Past::Change(id, place) => (id, Happening::Change(place)),
            Past::Mail(from, to) => return self.mail(state, from, to),
            Past::Lose(id) => return self.lose(state, id),
        };
        let action = Action { place: id as usize - 1, happening };
        self.next_state(&state, action).unwrap_or_else(|| panic!("{past:?} cannot happen"))
    }

    /// The state in which all letters from one to another arrived.
    fn mail(&self, state: State, from: u64, to: u64) -> State {
        let is_meant = |letter: &&u32| {
            let Letter { from: sender, to: receiver, .. } = self.letters.get(**letter);
            (sender.0, receiver.0) == (from, to)
        };
        let letters: Vec<u32> = state.network.iter().filter(is_meant).copied().collect();
        assert!(!letters.is_empty(), "{from} wrote nothing to {to}");
        letters.into_iter().fold(state, |state, letter| {
            let action = Action { place: to as usize - 1, happening: Happening::Receive(letter) };
            self.next_state(&state, action).unwrap_or(state)
        })
    }

    /// The state in which no letter of `from` is on the way.
    fn lose(&self, mut state: State, from: u64) -> State {
        state.network.retain(|letter| self.letters.get(*letter).from.0 != from);
        state
    }

    /// One line that says what an action is.
    #[must_use]
    pub fn describe(&self, action: &Action) -> String {
        let id = action.place + 1;
        match action.happening {
            Happening::Receive(letter) => {
                let Letter { from, to, message } = self.letters.get(letter);
                format!("{from} -> {to} {}", indelible::sim::lines::message(message))
            }
            Happening::Install(log) => {
                format!("{id} installs chosen<{}", self.logs.get(log).len())
            }
            other => format!("{id} {other:?}"),
        }
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let replicas = std::array::from_fn(|place| {
            let replica = Replica::new(ReplicaId(place as u64 + 1), &self.settings);
            self.replicas.number(replica.key(&self.settings), || replica)
        });
        let blank = State { replicas, network: Vec::new(), learned: 1, damages: 0 };
        vec![self.settings.past.iter().fold(blank, |state, past| self.behind(state, *past))]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let happenings = self.happenings(state);
        for place in 0..self.settings.replicas() {
            actions
                .extend(happenings.iter().map(|happening| Action { place, happening: *happening }));
        }
        self.installs(state, actions);
        for letter in &state.network {
            let place = self.letters.get(*letter).to.0 as usize - 1;
            actions.push(Action { place, happening: Happening::Receive(*letter) });
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let Action { place, happening } = action;
        let Outcome { replica, sent } = self.outcome(state.replicas[place], happening)?;
        let mut next = State { network: Vec::new(), ..*state };
        next.replicas[place] = replica;
        next.network.reserve_exact(state.network.len() + sent.len());
        next.network.extend_from_slice(&state.network);
        for letter in sent.iter() {
            if let Err(at) = next.network.binary_search(letter) {
                next.network.insert(at, *letter);
            }
        }
        if self.settings.forgets_stale {
            self.forget_stale(&mut next);
        }
        if (next.replicas, &next.network) == (state.replicas, &state.network) {
            return None;
        }
        if self.settings.has_reads() {
            next.learned = next.learned.max(self.replicas.get(replica).slot_chosen().0);
        }
        next.damages +=
            u8::from(matches!(happening, Happening::Damage(..) | Happening::LosePromise));
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("agreement", |cluster: &Self, state| {
                checks::agreement(&cluster.settings, &cluster.replicas(state))
            }),
            Property::always("no stale read", |cluster: &Self, state| {
                checks::no_stale_read(&cluster.replicas(state))
            }),
        ];
        // A mistake may well break what should make the others hold: it must be seen from outside.
        if !self.settings.outcomes_only && self.settings.bug.is_none_or(|bug| !bug.forgets()) {
            properties.push(Property::always("learned is chosen", |cluster: &Self, state| {
                checks::learned_is_chosen(&cluster.settings, &cluster.replicas(state))
            }));
        }
        if self.settings.retires() {
            properties.push(Property::always("who left is not needed", |cluster: &Self, state| {
                let replicas = cluster.replicas(state);
                let established = checks::established(&cluster.settings, &replicas);
                let first = || membership(&cluster.settings);
                if !cluster.said_established()
                    && established.iter().any(|(_, present)| **present != first())
                {
                    cluster.said.store(true, Ordering::Relaxed);
                }
                checks::who_left_is_not_needed(&established, &replicas)
            }));
        }
        if self.settings.bug.is_none() {
            properties.push(Property::always("one entry in a ballot", |cluster: &Self, state| {
                checks::one_entry(&cluster.replicas(state))
            }));
            properties.push(Property::always("later votes agree", |cluster: &Self, state| {
                checks::later_votes_agree(&cluster.settings, &cluster.replicas(state))
            }));
            properties.push(Property::always("no breach", |cluster: &Self, state| {
                checks::no_breach(&cluster.replicas(state))
            }));
        }
        properties
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} letters", self.replicas, self.network.len())
    }
}
