//! One step of one replica, from what happens to what leaves.

use std::cell::Cell;
use std::hash::Hash as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use indelible::paxos::step::{Input, Installed, Output, RoleName};
use indelible::types::bugs;
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{ContentHash, Lsn, ReplicaId, Slot};
use indelible::types::message::{Accept, Accepted, Chosen, Message};
use indelible::types::record::{DurableFrontier, Held};
use indelible::types::time::{Moment, Time};

use crate::bugs::Bug;
use crate::journal::chain_over;
use crate::replica::{Breach, Letter, Replica, Step, successor};
use crate::settings::{Heartbeats, Settings};
use crate::table::Key;

/// What holds for the replica at `place`: of who observes at first, nothing.
fn of<T: Copy + Default>(settings: &[T], place: usize) -> T {
    settings.get(place).copied().unwrap_or_default()
}

/// A replica in the middle of a step.
#[derive(Debug)]
struct Turn<'a> {
    settings: &'a Settings,
    replica: Replica,
    sent: Vec<Letter>,
}

thread_local! {
    static IN_CORE: Cell<bool> = const { Cell::new(false) };
}

/// Makes the panics of cores silent: they are told as breaches.
pub fn silence_cores() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !IN_CORE.get() {
            usual(info);
        }
    }));
}

impl Replica {
    /// The replica behind `step`, and what left; `None` where the step cannot happen.
    #[must_use]
    pub fn step(&self, settings: &Settings, step: &Step) -> Option<(Self, Vec<Letter>)> {
        self.core.as_ref()?;
        let mut turn = Turn { settings, replica: self.clone(), sent: Vec::new() };
        turn.begin(step)?;
        if !of(&settings.syncs, self.place()) {
            while turn.replica.core.is_some() && turn.replica.journal.volatile() > 0 {
                turn.sync();
            }
        }
        (turn.replica.nonce <= settings.rounds_max).then_some((turn.replica, turn.sent))
    }
}

impl Turn<'_> {
    fn begin(&mut self, step: &Step) -> Option<()> {
        let settings = self.settings;
        let index = self.replica.place();
        match step {
            Step::Campaign => {
                self.count(|replica| &mut replica.campaigns, of(&settings.campaigns, index))?;
                self.input(Input::Campaign);
            }
            Step::Propose => self.propose()?,
            Step::Change(place) => self.change(*place)?,
            Step::Sync => {
                if self.replica.journal.volatile() == 0 {
                    return None;
                }
                self.sync();
            }
            Step::Crash => {
                self.count(|replica| &mut replica.crashes, of(&settings.crashes, index))?;
                self.replica.journal.crash();
                self.open();
            }
            Step::Kill => {
                self.count(|replica| &mut replica.crashes, of(&settings.crashes, index))?;
                let seen = self.replica.journal.kill();
                self.replica.open(settings, &seen);
            }
            Step::Damage(slot, doubt) => {
                self.count(|replica| &mut replica.crashes, of(&settings.crashes, index))?;
                self.replica.journal.crash();
                if !self.replica.journal.damage(*slot, *doubt) {
                    return None;
                }
                self.open();
            }
            Step::Tear => {
                self.count(|replica| &mut replica.crashes, of(&settings.crashes, index))?;
                self.replica.journal.crash();
                self.replica.journal.tear();
                self.open();
            }
            Step::LosePromise => {
                self.count(|replica| &mut replica.crashes, of(&settings.crashes, index))?;
                self.replica.journal.crash();
                if !self.replica.journal.lose_promise() {
                    return None;
                }
                self.open();
            }
            Step::Retransmit => self.input(Input::Tick),
            Step::Read { floor } => {
                self.count(|replica| &mut replica.reads, of(&settings.reads, index))?;
                // As in the driver, numbers begin anew with each opening.
                self.replica.reads_opened += 1;
                let read = self.replica.reads_opened;
                self.replica.waiting.push((read, *floor));
                self.input(Input::Read(read));
            }
            Step::Install(state) => self.install(state)?,
            Step::Receive { from, message } => self.arrive(*from, message.clone()),
        }
        Some(())
    }

    fn propose(&mut self) -> Option<()> {
        let core = self.replica.core.as_ref()?;
        // A membership that waits for promises gets a slot that is looked at, too.
        let last = self.settings.slots - u64::from(core.changing_to().is_some());
        // With a mistake there may be room where there should be none.
        bugs::switch(self.settings.bug.and_then(|bug| bug.within_core()));
        let has_room = core.has_room();
        bugs::switch(None);
        if !has_room || core.next_slot() > Slot(last) {
            return None;
        }
        let (id, slot) = (self.replica.id, core.next_slot());
        let command = format!("{id}.{}.{slot}", self.replica.campaigns);
        self.input(Input::Propose(entry(&command)));
        Some(())
    }

    fn change(&mut self, place: usize) -> Option<()> {
        let core = self.replica.core.as_ref()?;
        let next = successor(core.membership(), self.settings.successors[place])?;
        let may = core.can_change() && *core.membership() != next;
        // As with commands, it gets a slot that is looked at.
        if !may || core.next_slot() > Slot(self.settings.slots) {
            return None;
        }
        self.replica.changes += 1;
        self.input(Input::Change(next));
        Some(())
    }

    fn install(&mut self, state: &[Entry]) -> Option<()> {
        let settings = self.settings;
        let most = of(&settings.installs, self.replica.place());
        self.count(|replica| &mut replica.installs, most)?;
        let (slot, chain) = (Slot(state.len() as u64), chain_over(state));
        if slot <= self.replica.slot_chosen() {
            return None;
        }
        let membership = self.replica.governing(settings, state);
        self.replica.journal.install(state.to_vec());
        self.replica.learned = state.to_vec();
        self.input(Input::Install(Installed { slot, chain, membership }));
        Some(())
    }

    /// Counts up; `None` beyond `most`.
    fn count(&mut self, counter: impl Fn(&mut Replica) -> &mut u8, most: u8) -> Option<()> {
        let counter = counter(&mut self.replica);
        *counter += 1;
        (*counter <= most).then_some(())
    }

    fn open(&mut self) {
        if self.settings.bug == Some(Bug::StateNotDurable) {
            self.replica.journal.lose_state();
        }
        let seen = self.replica.journal.clone();
        self.replica.open(self.settings, &seen);
    }

    fn arrive(&mut self, from: ReplicaId, mut message: Message) {
        if let Some(bug) = self.settings.bug {
            bug.on_arrive(&self.replica, &mut message);
        }
        self.input(Input::Message { from, message });
    }

    /// The core takes a step.
    fn input(&mut self, input: Input) {
        let Some(core) = &mut self.replica.core else { return };
        let keeps = self.settings.bug == Some(Bug::Core(bugs::Bug::CandidateKeepsQuorum));
        let before = keeps.then(|| (core.membership().clone(), core.view().role));
        bugs::switch(self.settings.bug.and_then(|bug| bug.within_core()));
        IN_CORE.set(true);
        let output = catch_unwind(AssertUnwindSafe(|| {
            core.step(Moment::ZERO, input);
            core.take_output()
        }));
        IN_CORE.set(false);
        bugs::switch(None);
        if let Some((membership, role)) = before
            && membership != *core.membership()
        {
            let kept = self.replica.kept.take().unwrap_or(membership);
            self.replica.kept = (role == RoleName::Candidate).then_some(kept);
        }
        match output {
            Ok(output) => self.take_in(output),
            Err(_) => {
                self.replica.core = None;
                self.breach(Breach::Assertion);
            }
        }
    }

    fn take_in(&mut self, output: Output) {
        let Output { records, send_now, send_when_durable, chosen, reads, serve, divergence } =
            output;
        if divergence.is_some() {
            self.breach(Breach::Divergence);
        }
        for (slot, entry) in chosen {
            assert!(slot == self.replica.slot_chosen(), "slots are learned in order");
            self.replica.learned.push(entry);
        }
        let news = !records.is_empty();
        let mark = self.replica.slot_chosen();
        self.replica.journal.append(records, mark);
        for read in reads {
            let late = |(number, floor): &(u64, Slot)| *number <= read.read && *floor > read.slot;
            if self.replica.waiting.iter().any(late) {
                self.breach(Breach::StaleRead);
            }
            self.replica.waiting.retain(|(number, _)| *number > read.read);
        }
        for envelope in send_now {
            self.leave(envelope.to, envelope.message);
        }
        for serve in serve {
            self.serve(serve.to, serve.from);
        }
        for held in send_when_durable {
            let held = self.shortened(held);
            self.hold(held, news);
        }
        self.release();
    }

    /// The same message, where votes tell of their voter's journal only what may count ever.
    fn shortened(&self, mut held: Held) -> Held {
        let peek = held.clone().release(DurableFrontier::mint(Lsn::ZERO));
        let Message::Accepted(Accepted { slot_durable: told, .. }) = peek.message else {
            return held;
        };
        let (settings, replica) = (self.settings, &self.replica);
        if !settings.retires() {
            held.tell_durable(Slot::ZERO);
        } else if told <= replica.slot_chosen() {
            held.tell_durable(replica.last_governed(settings, |slot| slot <= told));
        }
        held
    }

    fn hold(&mut self, held: Held, news: bool) {
        let bug = self.settings.bug;
        let peek = held.clone().release(DurableFrontier::mint(Lsn::ZERO));
        if bug.is_some_and(|bug| bug.releases(&peek.message, news)) {
            self.leave(peek.to, peek.message);
            return;
        }
        // The network is a set: a copy of what waits already would leave without a trace. It would
        // make the queue grow for ever, though, with every copy of a question.
        if self.replica.held.iter().any(|(_, waiting)| *waiting == held) {
            return;
        }
        let journal = &self.replica.journal;
        self.replica.held.push_back((journal.volatile() - journal.read_unsynced(), held));
    }

    fn sync(&mut self) {
        let found = self.replica.journal.read_unsynced() > 0;
        if !self.replica.journal.sync() {
            self.breach(Breach::Regression);
        }
        // What an opening read counts as durable to whom it does not sync.
        if !found {
            for (count, _) in &mut self.replica.held {
                *count = count.saturating_sub(1);
            }
        }
        self.release();
    }

    /// Lets the held messages go that wait for nothing.
    fn release(&mut self) {
        while self.replica.core.is_some()
            && self.replica.held.front().is_some_and(|(count, _)| *count == 0)
            && let Some((_, held)) = self.replica.held.pop_front()
        {
            let envelope = held.release(DurableFrontier::mint(Lsn::ZERO));
            self.leave(envelope.to, envelope.message);
        }
    }

    /// A message leaves.
    fn leave(&mut self, to: ReplicaId, message: Message) {
        let from = self.replica.id;
        self.check_evidence(&message);
        if let Message::Confirm { nonce, .. } = &message {
            self.replica.nonce = *nonce;
        }
        let message = match self.settings.bug {
            Some(bug) => match bug.on_leave(&mut self.replica, message) {
                Some(message) => message,
                None => return,
            },
            None => message,
        };
        if let Some((other, forged)) = self.settings.bug.and_then(|bug| bug.forges(from, &message))
        {
            self.arrive(other, forged);
        }
        if to == from {
            self.arrive(from, message);
        } else if let Some(message) = self.on_the_wire(message) {
            self.sent.push(Letter { from, to, message });
        }
    }

    /// What travels of a message. Heartbeats lose what only timers look at: how many were sent, and
    /// which were heard. So every one counts as the newest, and no leader knows that it is heard:
    /// whether it campaigns again at once is for the model to say.
    fn on_the_wire(&self, message: Message) -> Option<Message> {
        let Message::Heartbeat(mut heartbeat) = message else { return Some(message) };
        let travels = match self.settings.heartbeats {
            Heartbeats::None => false,
            Heartbeats::OfLeaders => heartbeat.leads,
            Heartbeats::All => true,
        };
        heartbeat.sent = 0;
        heartbeat.echo = None;
        heartbeat.hears_leader = false;
        travels.then_some(Message::Heartbeat(heartbeat))
    }

    fn serve(&mut self, to: ReplicaId, first: Slot) {
        let Some(view) = self.replica.core.as_ref().map(|core| core.view()) else { return };
        if first < self.replica.journal.trimmed() {
            // The owner says so. What the peer takes in then is a step of its own.
            return;
        }
        let entries = self.replica.learned.get(first.0 as usize..).unwrap_or_default().to_vec();
        let (slot_chosen, chain) = (view.slot_chosen, view.chain);
        self.leave(to, Message::Chosen(Chosen { first_slot: first, entries, slot_chosen, chain }));
    }

    /// Whatever a message claims about its sender is durable.
    fn check_evidence(&mut self, message: &Message) {
        let journal = &self.replica.journal;
        let durable = match message {
            Message::Prepare { ballot, .. } => *ballot <= journal.promised,
            Message::Promise(promise) => promise.ballot <= journal.promised,
            Message::Accepted(accepted) => {
                let mut slots = (accepted.slots.first.0..accepted.slots.end.0).map(Slot);
                accepted.slot_durable <= journal.known()
                    && slots.all(|slot| journal.has_vote(slot, accepted.ballot))
            }
            Message::Accept(accept) => {
                self.check_proposals(&accept.clone());
                true
            }
            _ => true,
        };
        if !durable {
            self.breach(Breach::Evidence);
        }
    }

    /// In one slot and ballot one entry is proposed, for all time.
    fn check_proposals(&mut self, accept: &Accept) {
        for (slot, entry) in (accept.first_slot.0..).map(Slot).zip(&accept.entries) {
            let proposal = (slot, accept.ballot, entry.hash());
            let proposed = &mut self.replica.proposed;
            match proposed.iter().find(|(of, at, _)| (*of, *at) == (slot, accept.ballot)) {
                Some(known) if *known == proposal => {}
                Some(_) => self.breach(Breach::TwoProposals),
                None => {
                    proposed.push(proposal);
                    proposed.sort_by_key(|(slot, ballot, _)| (*slot, *ballot));
                }
            }
        }
    }

    /// The first breach stands.
    fn breach(&mut self, breach: Breach) {
        self.replica.breach.get_or_insert(breach);
    }
}

impl Letter {
    /// What tells this letter from others.
    #[must_use]
    pub fn key(&self) -> ContentHash {
        let mut key = Key::default();
        self.hash(&mut key);
        key.end()
    }
}

fn entry(command: &str) -> Entry {
    let mut builder = EntryBuilder::new(Time(0), command.len());
    builder.push(command.as_bytes());
    builder.finish()
}
