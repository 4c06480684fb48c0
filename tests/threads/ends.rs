//! The end of a replica, whoever brings it about: every call is answered, all threads end, and the
//! directory is free. That all threads end needs no assertion: a thread that sleeps for ever is a
//! deadlock to the scheduler.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use indelible::ErrorKind;
use indelible::runtime::handle::Handle;
use indelible::sync::{Condvar, Mutex};
use shuttle::rand::Rng;
use shuttle::thread;

use crate::explore::{Time, explore};
use crate::replica::{self, CLOSE_TIMEOUT, Failing, HEARTBEAT, Writes, put};

/// How long the end of a replica waits for its threads; see `runtime/threads.rs`.
const JOIN_PATIENCE: Duration = Duration::from_secs(5);

/// Somebody waits for two answers, whatever they are.
fn call(handle: &Handle) -> thread::JoinHandle<()> {
    let handle = handle.clone();
    thread::spawn(move || {
        let (first, second) = (put(&handle), handle.read(None));
        drop(first.wait());
        drop(second.wait());
    })
}

#[test]
fn clones_close_while_callers_wait() {
    explore(2, |time| {
        let disk = Failing::new();
        let handle = replica::start(&disk, Writes::Anybody);
        let callers = [call(&handle), call(&handle)];
        let closers = [0, 1].map(|_| {
            let handle = handle.clone();
            thread::spawn(move || {
                let closed = handle.close();
                assert!(time == Time::Any || closed.is_ok(), "{closed:?}");
            })
        });
        callers.into_iter().chain(closers).for_each(|thread| thread.join().unwrap());
        time.assert_below(CLOSE_TIMEOUT.min(HEARTBEAT));
        disk.assert_given_up(time);
        let late = put(&handle).wait().unwrap_err();
        assert!(time == Time::Any || late.kind() == ErrorKind::Closed, "{late}");
    });
}

/// A caller that helps is the hardest to wait for: it counts as a thread while it writes.
#[test]
fn the_last_handle_goes_while_callers_wait() {
    explore(8, |time| {
        let disk = Failing::new();
        let handle = replica::start(&disk, Writes::Anybody);
        let (first, second) = (put(&handle), put(&handle));
        let waits = thread::spawn(move || drop(first.wait()));
        let awaits = thread::spawn(move || drop(shuttle::future::block_on(second)));
        drop(handle);
        waits.join().unwrap();
        awaits.join().unwrap();
        time.assert_below(HEARTBEAT);
        disk.assert_given_up(time);
    });
}

#[test]
fn the_disk_fails_while_callers_wait() {
    explore(4, |time| {
        let disk = Failing::new();
        let writes = match shuttle::rand::thread_rng().gen_bool(0.5) {
            true => Writes::Anybody,
            false => Writes::Writers,
        };
        let handle = replica::start(&disk, writes);
        let callers = [call(&handle), call(&handle)];
        disk.fail_after(shuttle::rand::thread_rng().gen_range(0..4));
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        time.assert_below(HEARTBEAT);
        let closed = handle.close();
        let poisoned = closed.as_ref().is_err_and(|err| err.kind() == ErrorKind::Poisoned);
        assert!(time == Time::Any || closed.is_ok() || poisoned && disk.has_failed(), "{closed:?}");
        time.assert_below(HEARTBEAT);
        disk.assert_given_up(time);
    });
}

/// A waker that holds a handle, which goes with it.
struct Owner {
    handle: Mutex<Option<Handle>>,
    calls: bool,
    gone: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Owner {
    fn wake(self: Arc<Self>) {
        let handle = self.handle.lock().take();
        if let Some(handle) = &handle
            && self.calls
        {
            drop(put(handle));
        }
        drop(handle);
        *self.gone.lock() = true;
        self.changed.notify_all();
    }
}

impl Owner {
    fn wait_gone(&self) {
        let mut gone = self.gone.lock();
        while !*gone {
            self.changed.wait(&mut gone);
        }
    }
}

/// Polls once, and leaves the rest to the waker.
fn wake_with(handle: Handle, calls: bool) -> Arc<Owner> {
    let mut pending = put(&handle);
    let handle = Mutex::new(Some(handle));
    let owner = Owner { handle, calls, gone: Mutex::new(false), changed: Condvar::new() };
    let owner = Arc::new(owner);
    let waker = Waker::from(Arc::clone(&owner));
    let polled = Pin::new(&mut pending).poll(&mut Context::from_waker(&waker));
    if polled.is_ready() {
        waker.wake();
    }
    owner
}

#[test]
fn a_waker_calls_the_replica() {
    explore(2, |time| {
        let disk = Failing::new();
        let handle = replica::start(&disk, Writes::Anybody);
        let owner = wake_with(handle.clone(), true);
        call(&handle).join().unwrap();
        owner.wait_gone();
        check_close(time, &handle, &disk);
    });
}

fn check_close(time: Time, handle: &Handle, disk: &Failing) {
    let closed = handle.close();
    assert!(time == Time::Any || closed.is_ok(), "{closed:?}");
    time.assert_below(HEARTBEAT);
    disk.assert_given_up(time);
}

/// The thread that wakes may be one of the replica's own, which waits for all others and for
/// itself: in vain, but not for ever.
#[test]
fn a_waker_drops_the_last_handle() {
    explore(2, |time| {
        let disk = Failing::new();
        wake_with(replica::start(&disk, Writes::Anybody), false).wait_gone();
        time.assert_below(JOIN_PATIENCE + HEARTBEAT);
    });
}
