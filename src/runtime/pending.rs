//! An answer that is on its way: to be waited for, or awaited.
//!
//! ```text
//!   caller                       replica
//!     Pending<T> <--- Oneshot ---> Completer
//! ```
//!
//! Invariants:
//! * A call is submitted before its [`Pending`] is returned; dropping that does not cancel it.
//! * Polling never blocks and does no I/O. Waiting may: it helps the replica along (see
//!   `threads.rs`), so that a lone caller pays for no hand-off between threads.
//! * A [`Completer`] that is dropped unanswered answers that the replica stopped, so nobody waits
//!   for ever.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::sync::{Condvar, Mutex, thread_local};
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::RequestId;
use crate::types::time::Moment;

/// The answer to a call, once there is one.
///
/// The call was submitted when this was returned. Dropping it does not cancel the call. It is
/// answered within its deadline (`request_timeout` in [`Config`](crate::Config), where it does not
/// say that it has another one, or none), whatever happens to the leader, the peers or this
/// replica.
///
/// Use [`Pending::wait`] in a thread, or `.await` on any executor. A waker runs on a thread of the
/// replica, or of a caller that waits: it may call any replica; but a waker that blocks until
/// another call is answered can hold up what comes from a peer until that call's deadline.
///
/// ```
/// use indelible::{RawTable, Replica};
///
/// const NOTES: RawTable<u64> = RawTable::new("notes");
///
/// # fn main() -> indelible::Result<()> {
/// let replica = Replica::in_memory()?;
/// // Both are under way at once.
/// let first = replica.put(NOTES, 1, b"one");
/// let second = replica.put(NOTES, 2, b"two");
/// first.wait()?;
/// second.wait()?;
/// # replica.close()
/// # }
/// ```
#[must_use = "the outcome is known only after `.wait()` or `.await`"]
pub struct Pending<T> {
    answer: Arc<dyn Answer<T>>,
    helper: Option<Arc<dyn Helper>>,
}

/// Somebody who can make answers come sooner by working on the waiting thread.
pub trait Helper: Send + Sync {
    /// Does something that is due, and returns whether there was anything.
    fn help(&self) -> bool;

    /// The time, where it passes only while somebody helps: in a simulation.
    fn simulated_now(&self) -> Option<Moment> {
        None
    }
}

/// The one answer is taken by the one [`Pending`].
trait Answer<T>: Send + Sync {
    fn take(&self) -> Option<Result<T>>;
    /// Parks until answered, or for so long.
    fn park(&self, timeout: Option<Duration>);
    fn set_waker(&self, waker: &Waker);
}

/// Answers a [`Pending`].
pub struct Completer<T> {
    oneshot: Option<Arc<Oneshot<T>>>,
    /// What would not be known, were there no answer.
    request: Option<RequestId>,
}

struct Oneshot<T> {
    state: Mutex<State<T>>,
    answered: Condvar,
}

struct State<T> {
    value: Option<Result<T>>,
    taken: bool,
    waker: Option<Waker>,
}

/// An answer, and what the caller wants made of it.
struct Then<T, F> {
    answer: Arc<dyn Answer<T>>,
    finish: Mutex<Option<F>>,
}

impl<T: 'static> Pending<T> {
    /// This answer, and then what `finish` makes of it on the thread that takes it.
    #[doc(hidden)]
    pub fn then<U, F>(self, finish: F) -> Pending<U>
    where
        F: FnOnce(T) -> Result<U> + Send + 'static,
    {
        self.ended(|result: Result<T>| result.and_then(finish))
    }

    /// This answer; where it is an error, the one that `tell` makes of it.
    #[doc(hidden)]
    pub fn or_else<F>(self, tell: F) -> Self
    where
        F: FnOnce(Error) -> Error + Send + 'static,
    {
        self.ended(|result: Result<T>| result.map_err(tell))
    }

    fn ended<U, F>(self, finish: F) -> Pending<U>
    where
        F: FnOnce(Result<T>) -> Result<U> + Send + 'static,
    {
        let then = Then { answer: self.answer, finish: Mutex::new(Some(finish)) };
        Pending { answer: Arc::new(then), helper: self.helper }
    }
}

impl<T: Send + 'static> Pending<T> {
    /// An answer that is to come, and who gives it.
    #[doc(hidden)]
    pub fn new() -> (Self, Completer<T>) {
        let state = State { value: None, taken: false, waker: None };
        let oneshot = Arc::new(Oneshot { state: Mutex::new(state), answered: Condvar::new() });
        let completer = Completer { oneshot: Some(Arc::clone(&oneshot)), request: None };
        (Self { answer: oneshot, helper: None }, completer)
    }

    /// A call that failed before it was submitted.
    #[doc(hidden)]
    pub fn failed(err: Error) -> Self {
        let (pending, completer) = Self::new();
        completer.complete(Err(err));
        pending
    }
}

impl<T> Pending<T> {
    /// Who waits, helps.
    #[doc(hidden)]
    pub fn helped_by(mut self, helper: Arc<dyn Helper>) -> Self {
        self.helper = Some(helper);
        self
    }

    /// Blocks until the answer is there, which it is within the call's deadline, if it has one.
    ///
    /// On a lone replica, this thread may do the replica's work meanwhile: the write to the journal
    /// and its sync among it. Where a disk hangs, so does this call; [`Pending::wait_timeout`]
    /// does no I/O.
    ///
    /// # Errors
    ///
    /// What the call itself ends with.
    ///
    /// ```
    /// # use indelible::{RawTable, Replica};
    /// # const NOTES: RawTable<u64> = RawTable::new("notes");
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = Replica::in_memory()?;
    /// let written = replica.put(NOTES, 1, b"one").wait()?;
    /// assert!(written.txid.is_some());
    /// # replica.close()
    /// # }
    /// ```
    pub fn wait(self) -> Result<T> {
        loop {
            if let Some(result) = self.answer.take() {
                return result;
            }
            if !self.helper.as_ref().is_some_and(|helper| helper.help()) {
                self.answer.park(None);
            }
        }
    }

    /// Blocks until the answer is there, or until `timeout` has passed; then it is `None`, and
    /// this can be waited for again.
    ///
    /// ```
    /// # use indelible::{RawTable, Replica};
    /// # use std::time::Duration;
    /// # const NOTES: RawTable<u64> = RawTable::new("notes");
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = Replica::in_memory()?;
    /// let mut put = replica.put(NOTES, 1, b"one");
    /// let result = loop {
    ///     match put.wait_timeout(Duration::from_millis(10)) {
    ///         Some(result) => break result,
    ///         None => println!("still waiting"),
    ///     }
    /// };
    /// assert!(result?.txid.is_some());
    /// # replica.close()
    /// # }
    /// ```
    #[must_use = "the outcome is in the returned value"]
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<T>> {
        let Some((helper, now)) = self.simulation() else {
            return self.answer.take().or_else(|| {
                self.answer.park(Some(timeout));
                self.answer.take()
            });
        };
        let deadline = now + timeout;
        loop {
            let answer = self.answer.take();
            if answer.is_some() || helper.simulated_now().is_none_or(|now| deadline <= now) {
                return answer;
            }
            helper.help();
        }
    }

    /// Who makes time pass, and the time, where it does not by itself.
    fn simulation(&self) -> Option<(&dyn Helper, Moment)> {
        let helper = self.helper.as_deref()?;
        Some((helper, helper.simulated_now()?))
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(result) = self.answer.take() {
            return Poll::Ready(result);
        }
        self.answer.set_waker(context.waker());
        // The answer may have come before the waker was there to be woken.
        self.answer.take().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

impl<T: Send> Answer<T> for Oneshot<T> {
    fn take(&self) -> Option<Result<T>> {
        let mut state = self.state.lock();
        if state.taken {
            let message = "the answer of this call was taken before";
            return Some(Err(Error::new(ErrorKind::InvalidArgument, message)));
        }
        let value = state.value.take()?;
        state.taken = true;
        Some(value)
    }

    fn park(&self, timeout: Option<Duration>) {
        let mut state = self.state.lock();
        if state.value.is_some() || state.taken {
            return;
        }
        match timeout {
            None => self.answered.wait(&mut state),
            Some(timeout) => {
                let is_unanswered = |state: &mut State<T>| state.value.is_none();
                self.answered.wait_while_for(&mut state, is_unanswered, timeout);
            }
        }
    }

    fn set_waker(&self, waker: &Waker) {
        // What a waker does where it is copied or dropped is not known here: not under the lock.
        let waker = waker.clone();
        let former = self.state.lock().waker.replace(waker);
        drop(former);
    }
}

impl<T, U, F> Answer<U> for Then<T, F>
where
    F: FnOnce(Result<T>) -> Result<U> + Send,
{
    fn take(&self) -> Option<Result<U>> {
        let result = self.answer.take()?;
        let finish = self.finish.lock().take();
        // Where it was taken before, the answer below is an error that says so.
        match finish {
            Some(finish) => Some(finish(result)),
            None => result.err().map(Err),
        }
    }

    fn park(&self, timeout: Option<Duration>) {
        self.answer.park(timeout);
    }

    fn set_waker(&self, waker: &Waker) {
        self.answer.set_waker(waker);
    }
}

impl<T> Completer<T> {
    /// The call is about this transaction: should there be no answer, its outcome is not known.
    #[must_use]
    pub fn about(mut self, request: RequestId) -> Self {
        self.request = Some(request);
        self
    }

    /// Gives the answer, and wakes a thread that waits for it. Returns who is to be woken besides:
    /// that is somebody else's code, which may take long, or wait for another answer.
    #[must_use = "a task may wait for it"]
    pub fn give(mut self, value: Result<T>) -> Option<Waker> {
        self.answer(value)
    }

    /// Gives the answer, and wakes who waits for it.
    pub fn complete(self, value: Result<T>) {
        if let Some(waker) = self.give(value) {
            waker.wake();
        }
    }

    /// Whether somebody can still take the answer.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        self.oneshot.as_ref().is_some_and(|oneshot| Arc::strong_count(oneshot) > 1)
    }

    fn answer(&mut self, value: Result<T>) -> Option<Waker> {
        let oneshot = self.oneshot.take()?;
        let mut state = oneshot.state.lock();
        state.value = Some(value);
        oneshot.answered.notify_all();
        state.waker.take()
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        // Only where the replica is torn down with calls still in it: none may be left without an
        // answer.
        let message = "the replica stopped without an answer";
        let err = match self.request {
            Some(request) => Error::outcome_unknown(request, message),
            None => Error::new(ErrorKind::Poisoned, message),
        };
        if let Some(waker) = self.answer(Err(err)) {
            wake_or_hold_back(waker);
        }
    }
}

thread_local! {
    /// Who is to be woken once this thread may run somebody else's code again; `None` where it may.
    static HELD_BACK: RefCell<Option<Vec<Waker>>> = const { RefCell::new(None) };
}

/// Runs what must not run anybody else's code. Returns who is to be woken then, since calls of
/// theirs were dropped without an answer.
#[doc(hidden)]
pub fn hold_back<R>(run: impl FnOnce() -> R) -> (R, Vec<Waker>) {
    // A thread that ends has no place for them any more.
    let before = HELD_BACK.try_with(|held_back| held_back.replace(Some(Vec::new())));
    let result = run();
    // Within a turn another replica may be asked something, and take one.
    let wakers =
        before.and_then(|before| HELD_BACK.try_with(|held_back| held_back.replace(before)));
    (result, wakers.ok().flatten().unwrap_or_default())
}

fn wake_or_hold_back(waker: Waker) {
    let mut waker = Some(waker);
    // A thread that ends holds nobody back.
    let _ = HELD_BACK.try_with(|held_back| {
        if let Some(wakers) = &mut *held_back.borrow_mut() {
            wakers.extend(waker.take());
        }
    });
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl<T> fmt::Debug for Completer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::types::ids::SessionId;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn an_answer_wakes_who_awaits_it() {
        let (pending, completer) = Pending::<u32>::new();
        let mut pending = pending.then(|value| Ok(value + 1));
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        assert!(Pin::new(&mut pending).poll(&mut context).is_pending());
        completer.complete(Ok(1));
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        match Pin::new(&mut pending).poll(&mut context) {
            Poll::Ready(result) => assert_eq!(result.unwrap(), 2),
            Poll::Pending => panic!("it was answered"),
        }
        assert!(pending.wait_timeout(Duration::ZERO).unwrap().is_err(), "it was taken before");
    }

    #[test]
    fn a_dropped_completer_answers() {
        let (pending, completer) = Pending::<()>::new();
        drop(completer);
        assert_eq!(pending.wait().unwrap_err().kind(), ErrorKind::Poisoned);

        let request = RequestId { session: SessionId(3), sequence: 7 };
        let (pending, completer) = Pending::<()>::new();
        drop(completer.about(request));
        let err = pending.wait().unwrap_err();
        assert!(err.is_outcome_unknown());
        assert_eq!(err.request(), Some(request), "who asks again needs to know it");
    }

    #[test]
    fn waiting_ends_with_the_timeout() {
        let (mut pending, completer) = Pending::<()>::new();
        assert!(pending.wait_timeout(Duration::from_millis(1)).is_none());
        completer.complete(Ok(()));
        assert!(pending.wait_timeout(Duration::from_secs(60)).unwrap().is_ok());
    }

    #[test]
    fn an_answer_crosses_threads() {
        for _ in 0..1000 {
            let (pending, completer) = Pending::<u8>::new();
            std::thread::scope(|scope| {
                scope.spawn(move || completer.complete(Ok(7)));
                assert_eq!(pending.wait().unwrap(), 7);
            });
        }
    }
}
