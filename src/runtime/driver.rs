//! One replica, one turn at a time: events in, effects out. Deterministic.
//!
//! ```text
//!   events                                                      effects
//!   calls ----------> requests -> batcher -+                 +-> answers
//!   messages -----------------------------> paxos -> store --+-> messages
//!   journal writes done -> held messages ---+  |             |
//!                                              +-> journal --+-> journal writes
//! ```
//!
//! A [`Driver`] holds everything of a replica but its threads, sockets and clocks. It is given what
//! happened and the time, and returns what there is to do; the journal's writes are among it, as
//! jobs that any thread may run. Its parts have files of their own, each an `impl Driver`, or a
//! value that it owns: see "One replica" in docs/architecture.md.
//!
//! Invariants:
//! * Records are appended before anything that depends on them can leave: a held message waits for
//!   the position of the last record before it, and only a `DurableFrontier` releases it.
//! * Every slot is applied once, in order, before anyone hears that it is chosen.
//! * After the journal failed, or the log diverged, nothing is sent, written or acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::journal::disk::Disk;
use crate::journal::{Journal, Reader};
use crate::paxos::Paxos;
use crate::paxos::formation::Formation;
use crate::paxos::step::{Input, Output, RoleName};
use crate::store::Store;
use crate::store::current::Current;
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::{Lsn, ReplicaId, Slot};
use crate::types::message::{Envelope, Message};
use crate::types::time::{Clocks, Moment, Time};

use super::admission::Drain;
use super::batcher::Batcher;
use super::changes::Changes;
use super::checkpoints::Checkpoints;
use super::ending::{diverged, refusal};
use super::events::{self, Told};
use super::fence::Fence;
use super::forming;
use super::forwards::{Forwards, Proposal};
use super::handover::HandOvers;
use super::held::HeldMessages;
use super::leaving::Leaving;
use super::next_leader::NextLeader;
use super::priorities::Priorities;
use super::receiving::{Pauses, Receiving};
use super::repair::Repair;
use super::requests::Requests;
use super::sending::Sending;
use super::space::Space;
use super::stalled::Stalled;
use super::tail::Tail;
use super::tickets::Tickets;
use super::trimming::Trimming;
use super::turn::{Effects, Event, Options};
use super::writes::Asker;

/// One replica without threads, sockets and clocks.
#[derive(Debug)]
pub struct Driver<D: Disk> {
    pub(super) options: Options,
    pub(super) now: Moment,
    /// What the clocks showed last; what leases are measured by never goes back.
    pub(super) clocks: Clocks,

    pub(super) journal: Journal<D>,
    pub(super) reader: Reader<D>,
    /// Messages that wait for a journal position, in its order.
    pub(super) held: HeldMessages,
    /// Below this slot, verdicts are in the journal.
    pub(super) verdicts_journaled: Slot,
    /// When the journal was last appended to.
    pub(super) appended_at: Moment,
    /// The journal ended here when it was last sealed.
    pub(super) sealed: Lsn,
    /// What could not be read back, until it is repaired or not needed; of a checkpoint, it may be
    /// told longer.
    pub(super) damage: Option<Error>,
    pub(super) repair: Repair,
    pub(super) space: Space,
    pub(super) checkpoints: Checkpoints,
    pub(super) trimming: Trimming,
    pub(super) sending: Sending<D>,
    pub(super) receiving: Option<Receiving>,
    /// When a transfer may begin again, and with whom not.
    pub(super) pauses: Pauses,
    pub(super) fence: Fence,

    pub(super) formation: Formation,
    pub(super) announce_at: Moment,
    /// Once the cluster is formed.
    pub(super) paxos: Option<Paxos>,
    pub(super) store: Arc<Store>,
    /// The same, for readers.
    pub(super) current: Arc<Current>,
    pub(super) tail: Tail,
    /// The newest time given to an entry, here or elsewhere.
    pub(super) time: Time,

    pub(super) tickets: Tickets,
    pub(super) requests: Requests,
    pub(super) batcher: Batcher,
    pub(super) drain: Drain,
    /// What this replica proposed, and has not seen applied.
    pub(super) proposals: BTreeMap<Slot, Proposal>,
    pub(super) forwards: Forwards,
    pub(super) hand_overs: HandOvers,
    pub(super) changes: Changes,
    pub(super) leaving: Leaving,
    /// Behind which frame the directory is to say who else has what the journal holds, where it
    /// does not say so yet and that frame is appended.
    pub(super) sharing: Option<Lsn>,
    pub(super) next_leader: NextLeader,
    pub(super) stalled: Stalled,
    pub(super) priorities: Priorities,
    /// Who bounced commands last, and until when it is not asked again.
    pub(super) bounced: Option<(ReplicaId, Moment)>,

    pub(super) stage: Stage,
    pub(super) effects: Effects<D>,
    /// For events only: nothing is decided by it.
    pub(super) told: Told,
}

/// Whether the replica serves.
#[derive(Debug)]
pub(super) enum Stage {
    Serving,
    /// What was proposed may still end until then.
    Closing(Moment),
    /// What every call is answered with.
    Stopped(Error),
}

impl<D: Disk> Driver<D> {
    /// Compares the voters of the options with those that the directory knows. Opening the journal
    /// writes to it, so this comes before; what else is wrong with it, opening tells.
    ///
    /// # Errors
    ///
    /// Where the ledger names other voters than the options.
    pub fn check(disk: &D, options: &Options) -> Result<()> {
        match Journal::peek(disk) {
            Ok(Some(identity)) if identity.replica == options.id => {
                // Where a membership was agreed to, that says who has it.
                let is_shared =
                    identity.membership.is_none() && Journal::peek_shared(disk).unwrap_or_default();
                forming::begin(&identity, is_shared, &mut options.clone()).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// A replica that goes on from its journal.
    ///
    /// # Errors
    ///
    /// Where the ledger names other voters than the options, or the journal cannot be read.
    pub fn open(mut journal: Journal<D>, mut options: Options, now: Moment) -> Result<Self> {
        let is_shared = !journal.is_alone();
        let formation = forming::begin(journal.identity(), is_shared, &mut options)?;
        if let Some(cluster) = options.join {
            journal.join(cluster)?;
        } else if journal.identity().membership.is_none() && forming::is_one_of_several(&options) {
            // Whatever a later opening says, it is to form none by itself.
            journal.set_shared(Slot::ZERO)?;
        }
        let identity = journal.identity().clone();
        let tickets = Tickets::new(identity.incarnation, identity.boot, options.session_window);
        let store = Arc::new(Store::new());
        let mut driver = Self {
            now,
            clocks: Clocks::default(),
            reader: journal.reader(),
            held: HeldMessages::new(options.id),
            verdicts_journaled: Slot::ZERO,
            appended_at: now,
            sealed: Lsn::ZERO,
            damage: None,
            repair: Repair::new(now),
            space: Space::default(),
            checkpoints: Checkpoints::default(),
            trimming: Trimming::default(),
            sending: Sending::default(),
            receiving: None,
            pauses: Pauses::default(),
            fence: Fence::default(),
            formation,
            announce_at: now,
            paxos: None,
            current: Arc::new(Current::new(Arc::clone(&store))),
            store,
            tail: Tail::default(),
            time: Time::default(),
            tickets,
            requests: Requests::default(),
            batcher: Batcher::new(options.batcher),
            drain: Drain::new(now),
            proposals: BTreeMap::new(),
            bounced: None,
            forwards: Forwards::default(),
            hand_overs: HandOvers::default(),
            changes: Changes::default(),
            leaving: Leaving::default(),
            sharing: None,
            next_leader: NextLeader::default(),
            stalled: Stalled::new(now),
            priorities: Priorities::new(options.election_timeout, now),
            stage: Stage::Serving,
            effects: Effects::none(),
            told: events::opened(&identity),
            options,
            journal,
        };
        if identity.formed {
            driver.begin_serving()?;
        } else if let Some(agreement) = driver.formation.next_agreement() {
            driver.agree(agreement)?;
        }
        Ok(driver)
    }

    /// The state.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The state as readers share it: asked for when it is read.
    #[must_use]
    pub fn current(&self) -> &Arc<Current> {
        &self.current
    }

    /// Reads the ledger beside the driver.
    #[must_use]
    pub fn reader(&self) -> Reader<D> {
        self.reader.clone()
    }

    /// How many more commands are worth a turn; see [`Batcher::missing`].
    #[must_use]
    pub fn missing_commands(&self) -> usize {
        let serves = matches!(self.stage, Stage::Serving) && self.leads();
        if serves { self.batcher.missing() } else { 0 }
    }

    /// Whether a read that comes now waits for the end of a round of confirmation.
    #[must_use]
    pub fn is_confirming(&self) -> bool {
        matches!(self.stage, Stage::Serving)
            && self.paxos.as_ref().is_some_and(Paxos::is_confirming)
    }

    /// The applied entries that the journal cannot be read for yet.
    #[must_use]
    pub fn tail(&self) -> Tail {
        self.tail.clone()
    }

    /// Takes in what happened, and returns what there is to do. The clocks were read after it.
    pub fn turn(
        &mut self,
        clocks: Clocks,
        events: impl IntoIterator<Item = Event<D>>,
    ) -> Effects<D> {
        self.read_clocks(clocks);
        for event in events {
            if let Err(err) = self.on_event(event) {
                // The callers among the rest must be answered all the same.
                self.stop(err);
            }
        }
        if let Err(err) = self.go_on() {
            self.stop(err);
        }
        self.tell_changes();
        self.settle_tickets();
        self.effects.wake_at = self.wake_at();
        std::mem::replace(&mut self.effects, Effects::none())
    }

    fn go_on(&mut self) -> Result<()> {
        if matches!(self.stage, Stage::Stopped(_)) {
            return Ok(());
        }
        self.go_on_repairing()?;
        self.go_on_receiving()?;
        self.go_on_sending();
        self.look_for_space();
        self.record_sightings()?;
        self.tick()?;
        self.hand_over_if_stalled();
        self.hand_over_at_close();
        self.hand_over_to_preferred();
        self.ask_to_leave();
        self.say_who_shares()?;
        self.go_on_with_changes();
        self.work()?;
        if self.use_membership() || self.fill_for_second_state() {
            self.work()?;
        }
        self.look_at_queue();
        // Before the next checkpoint is begun: nothing is trimmed while one is being taken, and
        // where they follow one another there is no other moment.
        self.trim_if_due()?;
        self.go_on_with_checkpoints();
        self.settle_hand_overs();
        self.settle_changes();
        self.leave_if_removed();
        self.note_for_who_leaves()?;
        self.tell_leader();
        self.seal_when_idle()?;
        self.pace_checkpoint();
        while let Some(job) = self.journal.next_job()? {
            self.effects.jobs.push(job);
        }
        if let Stage::Closing(deadline) = self.stage
            && (self.is_drained() || deadline <= self.now)
        {
            self.stop(Error::new(ErrorKind::Closed, "the replica is closed"));
        }
        Ok(())
    }

    fn on_event(&mut self, event: Event<D>) -> Result<()> {
        if let Stage::Stopped(err) = &self.stage {
            self.effects.answers.extend(refusal(event, err.clone()));
            return Ok(());
        }
        match event {
            Event::Propose { command, completer, again } => {
                self.on_submit(command, Asker::Commit(completer), again);
            }
            Event::Resolve { command, completer } => {
                self.on_submit(command, Asker::Resolve(completer), false);
            }
            Event::Read { completer, timeout } => self.on_read(completer, timeout),
            Event::WaitFor { txid, completer, timeout } => {
                self.on_wait_for(txid, completer, timeout);
            }
            Event::HandOver { to, completer } => self.on_hand_over(to, completer),
            Event::Change { edit, completer } => self.on_change(edit, completer),
            Event::NextLeader { known, completer } => self.on_next_leader(known, completer),
            Event::Checkpoint { completer } => self.on_checkpoint(completer),
            Event::Backup { completer } => self.on_backup(completer),
            Event::Arrived(arrival) => self.on_arrival(arrival)?,
            Event::Met(sighting) => self.fence.meet(sighting),
            Event::Written(done) => {
                let frontier = self.journal.complete(done)?;
                self.tail.release(frontier);
            }
            Event::Close(patience) => self.on_close(patience),
            Event::Failed(err) => return Err(err),
        }
        Ok(())
    }

    pub(super) fn on_message(&mut self, from: ReplicaId, message: Message) -> Result<()> {
        self.note_who_needs_whom(&message);
        self.note_informant(from, &message);
        match message {
            Message::Trimmed { first } => self.on_trimmed(from, first),
            Message::Lost { slot } => self.receive_if_cut_off(from, slot.next()),
            Message::FetchCheckpoint { slot, offset } => {
                self.on_fetch_checkpoint(from, slot, offset);
            }
            Message::CheckpointPart(part) => self.on_checkpoint_part(from, &part),
            Message::Forward(forward) => self.on_forward(from, forward),
            Message::Bounced { boot, attempts } => self.on_bounced(from, boot, attempts),
            Message::Introduce(_) | Message::Agreed { .. } => {
                self.on_formation_message(from, message)?;
            }
            // What it took on now, its end would have to wait for.
            Message::Accept(_) | Message::Chosen(_) if self.closes_dispensable() => {}
            Message::TakeOver(take_over) if !matches!(self.stage, Stage::Serving) => {
                let ballot = take_over.ballot;
                let message = Message::Reject { ballot, promised: ballot };
                self.effects.sends.push(Envelope { to: from, message });
            }
            // The journal lags: what it would have to hold besides is sent again later.
            Message::Accept(_) | Message::Chosen(_) | Message::Fill { .. }
                if self.is_backlogged() => {}
            Message::Chosen(_) | Message::Settled { .. } | Message::Fill { .. }
                if self.space.is_short() => {}
            Message::Fetch { from: first } if self.repair.is_opening() => {
                self.serve_while_repairing(from, first);
            }
            Message::Chosen(chosen) => {
                self.take_missing(from, &chosen)?;
                self.step(Input::Message { from, message: Message::Chosen(chosen) });
            }
            message => self.step(Input::Message { from, message }),
        }
        Ok(())
    }

    /// Everything that time alone brings about.
    fn tick(&mut self) -> Result<()> {
        self.step(Input::Tick);
        self.announce_when_forming();
        self.knock_when_outside();
        let late = self.requests.next_deadline().is_some_and(|deadline| deadline <= self.now);
        let why = if late { self.report().why_late() } else { String::new() };
        let answers = &mut self.effects.answers;
        let before = answers.len();
        self.requests.expire(self.now, &why, answers);
        if answers.len() > before {
            self.drop_unwaited();
        }
        Ok(())
    }

    /// Lets the core, the journal and the store work until nothing moves.
    pub(super) fn work(&mut self) -> Result<()> {
        loop {
            self.propose_or_forward();
            let Some(paxos) = &mut self.paxos else { return Ok(()) };
            let output = paxos.take_output();
            let idle = output.is_idle();
            self.perform(output)?;
            let released = self.release_held();
            if idle && !released {
                return Ok(());
            }
        }
    }

    /// Gives waiting commands a slot, or sends them to who can.
    fn propose_or_forward(&mut self) {
        let inflight = self.paxos.as_ref().map_or(0, Paxos::inflight_slots);
        self.batcher.settle(self.now, inflight);
        self.forward_again();
        if self.batcher.is_empty() {
            return;
        }
        if !self.leads() {
            self.forward_queue();
            return;
        }
        let (edition, time) = (self.edition(), self.time.max(self.clocks.wall));
        while self.may_propose()
            && let Some(paxos) = &mut self.paxos
            && let Some((entry, commands)) = self.batcher.next_entry(self.now, time, edition)
        {
            for (request, _) in commands.iter().filter(|(_, origin)| origin.is_none()) {
                self.requests.writes.note_proposed(*request);
            }
            self.time = time;
            let proposal = Proposal { entry: entry.clone(), commands };
            let earlier = self.proposals.insert(paxos.next_slot(), proposal);
            paxos.step(self.now, Input::Propose(entry));
            if let Some(earlier) = earlier {
                self.forget_commands(&earlier.commands);
            }
        }
    }

    fn perform(&mut self, output: Output) -> Result<()> {
        if let Some(divergence) = output.divergence {
            return Err(diverged(divergence));
        }
        if !output.records.is_empty() {
            self.append(&output.records)?;
        }
        let lsn = self.journal.last_lsn();
        for held in output.send_when_durable {
            self.held.push(lsn, held);
        }
        self.effects.send(output.send_now, self.fence.binding(self.journal.frontier().lsn()));
        for (slot, entry) in output.chosen {
            self.apply(slot, &entry)?;
        }
        for barrier in output.reads {
            self.requests.add_barrier(barrier.slot, barrier.read);
        }
        let applied = || self.store.applied().slot;
        self.requests.answer_reads(applied, &mut self.effects.answers);
        self.requests.answer_waits(&self.store, &mut self.effects.answers);
        for serve in output.serve {
            self.serve(serve);
        }
        Ok(())
    }

    pub(super) fn step(&mut self, input: Input) {
        if let Some(paxos) = &mut self.paxos {
            paxos.step(self.now, input);
        }
    }

    pub(super) fn leads(&self) -> bool {
        self.view().is_some_and(|view| view.role == RoleName::Leader)
    }
}
