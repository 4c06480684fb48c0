//! The incoming side: accepts connections, hears their hellos, and hands them to their readers.
//!
//! One task accepts and greets, with one `poll` over everything; a connection gets a task of its
//! own only once its hello was accepted. So who is not let in costs no threads, at most
//! [`GREETINGS_MAX`] sockets, and for each at most one hello's worth of memory, until the handshake
//! deadline. Where one more connects, the oldest that has not said hello is dropped: a peer says
//! hello at once, so it is greeted however many others only hold their connections open.
//!
//! The same task retires strangers that are gone.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::Shared;
use super::peer::{Peer, Place};
use super::socket::{self, Received};
use crate::transport::wire::{self, Decoder, Frame, Terms};
use crate::transport::{Arrival, Clock, Link, Refusal, Task};
use crate::types::hello::Hello;
use crate::types::time::Moment;

/// Connections that have not said hello, at most.
const GREETINGS_MAX: usize = 64;
/// How long to accept nothing where accepting fails, as it does without file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection of which it is not known who it is.
struct Greeting {
    socket: TcpStream,
    decoder: Decoder,
    deadline: Moment,
}

/// Accepts connections until the transport closes.
pub fn run(shared: &Arc<Shared>, link: &Link, listener: &TcpListener) {
    let clock = &*link.clock;
    let mut greetings: VecDeque<Greeting> = VecDeque::new();
    while !shared.is_closing() {
        let mut fds = Vec::with_capacity(2 + greetings.len());
        fds.push(shared.accept_waker.poll_fd());
        fds.push(PollFd::new(listener, PollFlags::IN));
        let sockets = greetings.iter().map(|greeting| &greeting.socket);
        fds.extend(sockets.map(|socket| PollFd::new(socket, PollFlags::IN)));
        // All have the same time, so the oldest is the first whose time is over.
        let oldest = greetings.front().map(|greeting| greeting.deadline);
        let due = oldest.into_iter().chain(shared.retire_gone(clock())).min();
        socket::poll(&mut fds, due.map(|due| due.since(clock())));
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] {
            shared.accept_waker.drain();
        }
        let now = clock();
        let mut waiting = VecDeque::with_capacity(GREETINGS_MAX);
        for (greeting, ready) in greetings.drain(..).zip(&ready[2..]) {
            let undecided = if *ready { hear(shared, link, greeting) } else { Some(greeting) };
            waiting.extend(undecided.filter(|greeting| now < greeting.deadline));
        }
        greetings = waiting;
        if ready[1] && !accept(shared, clock, listener, &mut greetings) {
            socket::pause(&shared.accept_waker, ACCEPT_PAUSE);
        }
    }
}

/// Accepts what waits to be accepted; false where that fails.
fn accept(
    shared: &Shared,
    clock: &Clock,
    listener: &TcpListener,
    greetings: &mut VecDeque<Greeting>,
) -> bool {
    for _ in 0..GREETINGS_MAX {
        let socket = match listener.accept() {
            Ok((socket, _)) => socket,
            Err(err) if socket::is_transient(&err) => return true,
            // The peer gave up while it waited to be accepted.
            Err(err) if err.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(_) => return false,
        };
        if socket.set_nonblocking(true).is_err() {
            continue;
        }
        if greetings.len() == GREETINGS_MAX {
            greetings.pop_front();
        }
        let deadline = clock() + shared.options.handshake_timeout;
        greetings.push_back(Greeting { socket, decoder: Decoder::new(), deadline });
    }
    true
}

/// Reads of a hello what is there. Gives the connection back where that is not all of it.
fn hear(shared: &Arc<Shared>, link: &Link, mut greeting: Greeting) -> Option<Greeting> {
    match socket::receive(&greeting.socket, greeting.decoder.room()) {
        Received::Bytes(count) => greeting.decoder.fill(count),
        Received::Nothing => return Some(greeting),
        Received::End => return None,
    }
    match greeting.decoder.next_frame() {
        Ok(None) => return Some(greeting),
        Ok(Some(Frame::Hello(hello))) => greet(shared, link, greeting, &hello),
        Ok(Some(Frame::Refused(_) | Frame::Message(_))) | Err(_) => {
            shared.unknown.count_garbage();
        }
    }
    None
}

/// Answers a hello, and has what follows received where it is accepted.
fn greet(shared: &Arc<Shared>, link: &Link, greeting: Greeting, hello: &Hello) {
    let Greeting { socket, mut decoder, .. } = greeting;
    let peer = match shared.let_in(hello, (link.clock)()) {
        Ok(peer) => peer,
        Err(refusal) => {
            let _ = socket::send_first(&socket, &wire::encode_refusal(&refusal, shared.cluster()));
            let is_other = matches!(refusal, Refusal::WrongIncarnation | Refusal::WrongCluster);
            let is_here = |peer: &Arc<Peer>| peer.gone_since((link.clock)()).is_none();
            // Somebody else may bear the id of a peer that is connected.
            match shared.peer(hello.replica).filter(|peer| !(is_other && is_here(peer))) {
                Some(peer) => peer.note_refusal(refusal, false),
                None => shared.unknown.note_refusal(refusal),
            }
            return;
        }
    };
    let mut answer = shared.hello();
    answer.receiver = hello.replica;
    // It was judged by what this replica said then, and may say otherwise now.
    let Ok(terms) = Terms::of(hello, &answer) else { return };
    let usable = socket::configure(&socket, shared.options.unacknowledged_timeout)
        .and_then(|()| socket.set_nonblocking(false))
        .and_then(|()| socket::send_first(&socket, &wire::encode_hello(&answer)));
    let socket = Arc::new(socket);
    let place = usable.ok().and_then(|()| peer.admit(&socket, hello.boot));
    let down = || (link.deliver)(vec![Arrival::Down { peer: peer.id }]);
    let Some(place) = place else {
        // It was admitted, and nobody else would tell that it is gone.
        if peer.is_stranger() && peer.gone_since((link.clock)()).is_some() {
            down();
        }
        return;
    };
    decoder.expect_messages(terms);
    peer.nudge();
    let name = format!("from-{}", peer.id);
    let run = {
        let (shared, peer, socket) = (Arc::clone(shared), Arc::clone(&peer), Arc::clone(&socket));
        let (deliver, clock) = (Arc::clone(&link.deliver), Arc::clone(&link.clock));
        move || {
            receive(&peer, place, &socket, decoder, &*deliver, &*clock);
            if peer.is_stranger() {
                // The time that it lingers begins.
                shared.accept_waker.wake();
            }
        }
    };
    if !(link.spawn)(Task { name, is_vital: false, run: Box::new(run) }) {
        let _ = socket.shutdown(Shutdown::Both);
        peer.end(place, (link.clock)(), down);
    }
}

/// Delivers what a connection brings until it ends: all that one read brought, at once.
fn receive(
    peer: &Peer,
    place: Place,
    mut socket: &TcpStream,
    mut decoder: Decoder,
    deliver: &(dyn Fn(Vec<Arrival>) + Send + Sync),
    clock: &Clock,
) {
    let down = || deliver(vec![Arrival::Down { peer: peer.id }]);
    let mut going = !place.replaced_boot || peer.deliver(place, down);
    while going {
        let mut arrivals = Vec::new();
        let intact = loop {
            match decoder.next_frame() {
                Ok(Some(Frame::Message(message))) => {
                    let (from, boot) = (peer.id, place.boot);
                    arrivals.push(Arrival::Message { from, boot, message });
                }
                Ok(None) => break true,
                Ok(Some(Frame::Hello(_) | Frame::Refused(_))) | Err(_) => break false,
            }
        };
        if !arrivals.is_empty() {
            peer.count_received(arrivals.len());
            going = peer.deliver(place, || deliver(arrivals));
        }
        if !intact {
            peer.count_garbage();
            break;
        }
        match socket.read(decoder.room()) {
            Ok(0) => break,
            Ok(count) => decoder.fill(count),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let _ = socket.shutdown(Shutdown::Both);
    peer.end(place, clock(), down);
}
