//! Threads, the clocks, and the end of both. The only file that spawns and that reads a clock.
//!
//! Invariants:
//! * An event that was pushed is taken in a turn soon, by whoever drives: a thread that fails to
//!   take the driver knows that its holder looks at the inbox again after letting go. A call
//!   that is left is taken later (`gathering`).
//! * No lock is held while waiting for a disk, but where docs/architecture.md (Threads) says so.
//! * A panic in a turn poisons this replica, and only it: every call is answered with an error.
//! * When the last handle is gone, all threads end within a bounded time.
//!
//! What a handle asks of them, and how they end, is in `threads/engine_calls.rs`.

mod engine_calls;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, SystemTime};

use crate::journal::disk::Disk;
use crate::journal::{Job, Reader};
use crate::store::current::Current;
use crate::sync::uptime::uptime;
use crate::sync::{Instant, Mutex, MutexGuard, thread};
use crate::transport::{Arrival, Link, Refusal, Task, Transport};
use crate::types::command::Ticket;
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::hello::Hello;
use crate::types::ids::ReplicaId;
use crate::types::time::{Clocks, Moment, Time};

use super::admission::inbox_full;
use super::driver::Driver;
use super::ending::{panicked, refusal};
use super::events;
use super::gate::Gate;
use super::gathering::{Gathering, Kind};
use super::handle::{Calls, Handle};
use super::inbox::Inbox;
pub use super::opening::Start;
use super::pending::{Completer, Helper, Pending, hold_back};
use super::report::Report;
use super::requests::Answer;
use super::signals::{Clock, Jobs, Life, Work};
use super::tail::Tail;
use super::tickets::Tickets;
use super::turn::{Effects, Event};

/// Journal writes in flight, one more for a segment that is being prepared, and one for a
/// checkpoint.
const WRITERS: usize = 4;

/// How long the end of a replica waits for its threads: a disk that hangs must not hang the host.
const JOIN_PATIENCE: Duration = Duration::from_secs(5);

/// How long who receives waits for the driver, before it looks whether the replica ended.
const INBOX_PATIENCE: Duration = Duration::from_millis(100);

/// How many turns are taken one after the other before anybody is woken, while events come.
const TURNS_BEFORE_WAKING: usize = 8;

/// One replica and its threads.
struct Engine<D: Disk> {
    id: ReplicaId,
    request_timeout: Duration,
    close_timeout: Duration,
    started: Instant,
    tickets: Tickets,
    store: Arc<Current>,
    reader: Reader<D>,
    tail: Tail,

    inbox: Inbox<D>,
    gathering: Gathering,
    driver: Mutex<Driver<D>>,
    jobs: Jobs<Job<D>>,
    clock: Clock,
    transport: Option<Arc<dyn Transport>>,
    gate: Gate,
    life: Life,
}

/// Starts the threads of a replica.
///
/// # Errors
///
/// Where a thread or the listening address is refused.
pub fn start<D: Disk>(start: Start<D>) -> Result<Handle> {
    let Start { driver, transport, close_timeout } = start;
    let standing = driver.standing();
    let engine = Arc::new(Engine {
        id: standing.hello.replica,
        request_timeout: driver.request_timeout(),
        close_timeout,
        started: Instant::now(),
        tickets: driver.tickets(),
        store: Arc::clone(driver.current()),
        reader: driver.reader(),
        tail: driver.tail(),
        inbox: Inbox::new(driver.queued_bytes_max()),
        gathering: Gathering::default(),
        gate: Gate::new(&standing),
        driver: Mutex::new(driver),
        jobs: Jobs::new(),
        clock: Clock::default(),
        transport,
        life: Life::default(),
    });
    // From here on, an early return drops the handle, which ends what was started.
    let handle = Handle::new(Arc::clone(&engine) as Arc<dyn Calls>);
    for number in 1..=WRITERS {
        engine.spawn(&format!("writer {number}"), Work::Jobs, |engine| engine.write_journal())?;
    }
    engine.spawn("clock", Work::Else, |engine| engine.keep_time())?;
    if let Some(transport) = &engine.transport {
        transport.set_peers(standing.peers());
        let listens = transport.start(engine.link());
        listens.map_err(|err| Error::caused(ErrorKind::Io, "cannot listen for peers", err))?;
    }
    engine.drive_with(engine.driver.lock(), true, wake_all);
    Ok(handle)
}

impl<D: Disk> Engine<D> {
    /// Brings an event, and drives if nobody does.
    fn push(&self, event: Event<D>) {
        self.inbox.push(event);
        self.drive();
    }

    /// Brings a call. One that a turn would not bring on is left to somebody else. Where there is
    /// no room, the caller takes a turn if nobody does; if somebody does, the call is refused at
    /// once.
    fn call(&self, event: Event<D>) {
        let kind = Kind::of(&event);
        let brought = self.inbox.push_call(event).or_else(|event| {
            self.drive();
            self.inbox.push_call(*event)
        });
        match brought {
            Ok(waiting) if self.gathering.leaves(kind, waiting) => {}
            Ok(_) => self.drive(),
            Err(event) => self.refuse(*event),
        }
    }

    /// Brings a call, for who waits for its answer.
    fn ask<T: Send + 'static>(&self, event: impl FnOnce(Completer<T>) -> Event<D>) -> Pending<T> {
        let (pending, completer) = Pending::new();
        self.call(event(completer));
        pending
    }

    /// Answers a call that not even the inbox has room for.
    fn refuse(&self, event: Event<D>) {
        if let Event::Propose { command, again: false, .. } | Event::Resolve { command, .. } =
            &event
        {
            self.tickets.settle([command.request]);
        }
        if let Some(waker) = refusal(event, inbox_full()).and_then(Answer::give) {
            waker.wake();
        }
    }

    /// Brings what arrived from peers. Whoever receives waits here while the inbox is full, so that
    /// what a peer sends on stays there, and not in memory.
    fn push_arrivals(&self, arrivals: Vec<Arrival>) {
        self.inbox.push_arrivals(arrivals);
        self.drive();
        while self.inbox.is_full() && !self.life.is_stopped() {
            if let Some(driver) = self.driver.try_lock_for(INBOX_PATIENCE) {
                self.drive_with(driver, false, wake_all);
            }
        }
    }

    /// Takes turns until no event is left, unless somebody else does.
    fn drive(&self) {
        if !self.inbox.is_empty()
            && let Some(driver) = self.driver.try_lock()
        {
            self.drive_with(driver, false, wake_all);
        }
    }

    /// Takes turns until no event is left, the first of them perhaps without one, since time has
    /// passed. Whose answer is awaited is woken behind that, since anybody's code runs then: it may
    /// wait for one whose event came meanwhile, who found the driver taken. Where events go on
    /// coming, the clock is asked to look after them, and some are woken before. `wake` wakes them:
    /// the clock does not do that itself, since who is woken may wait for what only the clock ends.
    fn drive_with(
        &self,
        driver: MutexGuard<'_, Driver<D>>,
        even_without_events: bool,
        wake: impl Fn(Vec<Waker>),
    ) {
        let mut wakers = self.take_turn(driver, even_without_events);
        let mut turns = 1;
        while !self.inbox.is_empty() {
            if turns % TURNS_BEFORE_WAKING == 0 && !wakers.is_empty() {
                self.clock.set(Some(self.now()));
                wake(std::mem::take(&mut wakers));
            }
            // Who holds the driver looks at the inbox again after letting go.
            let Some(driver) = self.driver.try_lock() else { break };
            wakers.extend(self.take_turn(driver, false));
            turns += 1;
        }
        if !wakers.is_empty() {
            wake(wakers);
        }
    }

    /// Takes all events there are, and does what they bring about. Callers are answered without the
    /// driver; returns who is to be woken for that: they may call this replica at once.
    #[must_use = "somebody sleeps until woken"]
    fn take_turn(
        &self,
        mut driver: MutexGuard<'_, Driver<D>>,
        even_without_events: bool,
    ) -> Vec<Waker> {
        let events = self.inbox.take();
        if events.is_empty() && !even_without_events {
            return Vec::new();
        }
        let (effects, mut wakers) = hold_back(|| self.turn(&mut driver, events));
        drop(driver);
        wakers.extend(effects.answers.into_iter().filter_map(Answer::give));
        wakers
    }

    /// What is left of the effects is for when the driver is free.
    fn turn(&self, driver: &mut Driver<D>, events: Vec<Event<D>>) -> Effects<D> {
        // Behind the events: what they bring did not happen later than this.
        let clocks = self.clocks();
        let turn = |driver: &mut Driver<D>, events| {
            catch_unwind(AssertUnwindSafe(|| driver.turn(clocks, events)))
        };
        let effects = turn(driver, events).or_else(|panic| {
            // The driver may be half-way through a turn; it is only asked to answer its callers.
            turn(driver, vec![Event::Failed(panicked(&*panic))])
        });
        match effects {
            Ok(mut effects) => {
                // Before the inbox is looked at again: who adds to it after that sees this.
                self.gathering.note(driver);
                self.perform(&mut effects);
                effects
            }
            // Not even that worked.
            Err(panic) => {
                driver.abandon(panicked(&*panic));
                self.gathering.end();
                self.stop();
                Effects::none()
            }
        }
    }

    /// Carries out what a turn decided, but for the answers. Under the driver's lock, so that
    /// messages keep the order of the turns; nothing here blocks.
    fn perform(&self, effects: &mut Effects<D>) {
        if let Some(standing) = &effects.standing {
            let news = self.gate.update(standing);
            // Before whatever has arrived from there: it counts from now on, but not before that.
            self.inbox.push_first(news.into_iter().map(Event::Met));
        }
        if let Some(transport) = &self.transport {
            if !effects.sends.is_empty() {
                effects.sends.drain(..).for_each(|envelope| transport.send(envelope));
                transport.flush();
            }
            if let Some(standing) = effects.standing.take() {
                // Behind the last messages to who leaves.
                transport.set_peers(standing.peers());
                transport.set_hello(standing.hello);
            }
        }
        self.jobs.add(std::mem::take(&mut effects.jobs));
        self.clock.set(effects.wake_at);
        if effects.stopped {
            self.stop();
        }
    }

    /// The replica serves no more: its peers learn it at once.
    fn stop(&self) {
        if let Some(transport) = &self.transport {
            transport.close();
        }
        self.life.set_stopped();
    }

    /// What a writer thread does.
    fn write_journal(&self) {
        while let Some(job) = self.jobs.wait(&self.life) {
            self.run(job);
        }
    }

    fn run(&self, job: Job<D>) {
        let (waited_for, bytes, began) = (!job.is_background(), job.bytes(), self.now());
        let done = match catch_unwind(AssertUnwindSafe(|| job.run())) {
            Ok(done) => done,
            Err(panic) => return self.push(Event::Failed(panicked(&*panic))),
        };
        if waited_for {
            events::synced(self.id, bytes, self.now().since(began));
        }
        self.push(Event::Written(done));
    }

    /// What the clock thread does.
    fn keep_time(&self) {
        while self.clock.wait(&self.life, || self.now()) {
            self.drive_with(self.driver.lock(), true, wake_elsewhere);
        }
    }

    /// Whether to talk to a peer that says this. What the gate learns stands in the inbox before
    /// anything that arrives from there, also over a second connection: the gate is held meanwhile.
    fn admit(&self, hello: &Hello) -> std::result::Result<(), Refusal> {
        let met = |sighting| self.inbox.push(Event::Met(sighting));
        let verdict = self.gate.admit(hello, met);
        self.drive();
        verdict
    }

    fn report_now(&self) -> Report {
        let report = self.driver.lock().report();
        // Somebody may have found the driver taken, and left an event to who has it.
        self.drive();
        report
    }

    /// What the next command of this replica is known by.
    fn draw(&self) -> Ticket {
        self.tickets.draw(|| self.store.get().applied().commands)
    }

    fn now(&self) -> Moment {
        Moment::ZERO + self.started.elapsed()
    }

    fn clocks(&self) -> Clocks {
        let now = self.now();
        // Where there is no such clock there are no leases, but perhaps some to be waited for.
        let uptime = uptime().map_or(now, |uptime| Moment::ZERO + uptime);
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let millis = since_1970.unwrap_or_default().as_millis();
        let wall = Time(i64::try_from(millis).unwrap_or(i64::MAX));
        Clocks { now, uptime, wall }
    }

    fn link(self: &Arc<Self>) -> Link {
        // The transport must not keep the replica alive, nor outlive it.
        let (receiver, gate, spawner) =
            (Arc::downgrade(self), Arc::downgrade(self), Arc::downgrade(self));
        // The same clock as `now`; it needs no replica to run on.
        let started = self.started;
        Link {
            deliver: Arc::new(move |arrivals| {
                if let Some(engine) = receiver.upgrade() {
                    arrivals.iter().for_each(|arrival| engine.gate.note(arrival));
                    engine.push_arrivals(arrivals);
                }
            }),
            admit: Arc::new(move |hello| match gate.upgrade() {
                Some(engine) => engine.admit(hello),
                None => Err(Refusal::WrongReceiver),
            }),
            spawn: Arc::new(move |task: Task| {
                spawner.upgrade().is_some_and(|engine| engine.run_task(task))
            }),
            clock: Arc::new(move || Moment::ZERO + started.elapsed()),
        }
    }

    /// Whether there is a thread for it.
    fn run_task(self: &Arc<Self>, task: Task) -> bool {
        let Task { name, is_vital, run } = task;
        match self.spawn(&name, Work::Else, |_| run()) {
            Ok(()) => return true,
            Err(err) if is_vital => self.push(Event::Failed(err)),
            Err(err) => events::starved(self.id, &err),
        }
        false
    }

    fn spawn(
        self: &Arc<Self>,
        name: &str,
        work: Work,
        run: impl FnOnce(&Self) + Send + 'static,
    ) -> Result<()> {
        let engine = Arc::clone(self);
        self.life.thread_began(work);
        let thread = thread::Builder::new().name(format!("indelible {name}"));
        let spawned = thread.spawn(move || {
            engine.life.thread_runs(work);
            let ended = catch_unwind(AssertUnwindSafe(|| run(&engine)));
            if let Err(panic) = ended {
                engine.push(Event::Failed(panicked(&*panic)));
            }
            engine.life.thread_ended(work);
        });
        if let Err(err) = spawned {
            self.life.thread_failed(work);
            return Err(Error::caused(ErrorKind::Io, format!("cannot start thread {name}"), err));
        }
        Ok(())
    }
}

impl<D: Disk> Helper for Engine<D> {
    /// Alone, a caller that waits writes the journal itself: there is nothing else that it could
    /// wait for, and a hand-off to a writer thread would cost it more than a tenth of a sync.
    fn help(&self) -> bool {
        if self.transport.is_some() {
            return false;
        }
        // Counted like a thread: who closes the replica waits for this write as for all others.
        self.life.thread_began(Work::Jobs);
        self.life.thread_runs(Work::Jobs);
        // Preparing a segment takes long, and so does a checkpoint: those are left to the threads.
        let write = || self.jobs.take_first(|job| !job.is_background());
        let job = if self.life.is_ending() { None } else { write() };
        let helps = job.is_some();
        if let Some(job) = job {
            self.run(job);
        }
        self.life.thread_ended(Work::Jobs);
        helps
    }
}

/// Wakes all of them: also where one panics, since that is anybody's code.
fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
    }
}

/// Wakes all of them on a thread of its own, if there is one to be had.
fn wake_elsewhere(wakers: Vec<Waker>) {
    let wakers = Arc::new(Mutex::new(wakers));
    let theirs = Arc::clone(&wakers);
    let take = |wakers: &Mutex<Vec<Waker>>| std::mem::take(&mut *wakers.lock());
    let thread = thread::Builder::new().name("indelible wake".into());
    if thread.spawn(move || wake_all(take(&theirs))).is_err() {
        wake_all(take(&wakers));
    }
}
