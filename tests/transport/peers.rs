//! Peers that come and go, and strangers, over loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use indelible::ReplicaId;
use indelible::transport::tcp::{Tcp, TcpOptions};
use indelible::transport::wire::{self, Decoder, Frame};
use indelible::transport::{Arrival, Link, Refusal, Task, Transport};
use indelible::types::hello::Hello;
use indelible::types::limits::STRANGERS_MAX;
use indelible::types::message::Envelope;
use indelible::types::protocols::Protocols;
use parking_lot::Mutex;

use crate::samples;
use crate::support::{self, Admit, Node, anyone, until};

/// A replica that says where it is to be reached, and knows `peers`.
fn start(id: u64, peers: &[(u64, SocketAddr)], admit: Admit) -> (Node<Tcp>, SocketAddr) {
    start_with(id, peers, admit, TcpOptions::default())
}

fn start_with(
    id: u64,
    peers: &[(u64, SocketAddr)],
    admit: Admit,
    options: TcpOptions,
) -> (Node<Tcp>, SocketAddr) {
    let (listener, address) = support::listen();
    let hello = Hello { address: address.to_string(), ..samples::hello(id) };
    (Node::start(support::tcp_with(hello, listener, peers, options), admit), address)
}

fn short_linger() -> TcpOptions {
    TcpOptions { stranger_linger: Duration::from_millis(50), ..TcpOptions::default() }
}

fn set_peers(node: &Node<Tcp>, peers: &[(u64, SocketAddr)]) {
    let peers = peers.iter().map(|(id, address)| (ReplicaId(*id), address.to_string()));
    node.transport.set_peers(peers.collect());
}

/// Whom a replica admits; that may change.
#[derive(Clone, Default)]
struct Members(Arc<Mutex<BTreeSet<u64>>>);

impl Members {
    fn set(&self, ids: &[u64]) {
        *self.0.lock() = ids.iter().copied().collect();
    }

    fn admit(&self) -> Admit {
        let ids = Arc::clone(&self.0);
        Arc::new(move |hello: &Hello| match ids.lock().contains(&hello.replica.0) {
            true => Ok(()),
            false => Err(Refusal::UnknownReplica),
        })
    }
}

/// Whether messages pass both ways.
fn talk(a: &Node<Tcp>, a_id: u64, b: &Node<Tcp>, b_id: u64, number: u64) {
    until("both are connected", || a.is_connected(b_id) && b.is_connected(a_id));
    a.send(b_id, samples::numbered(number));
    b.send(a_id, samples::numbered(number));
    let arrived =
        |node: &Node<Tcp>, from| node.messages(from).last() == Some(&samples::numbered(number));
    until("both arrived", || arrived(a, b_id) && arrived(b, a_id));
}

/// Says the hello of `id`, which listens nowhere. The socket, and the answer.
fn call(at: SocketAddr, id: u64) -> (TcpStream, Frame) {
    let mut socket = TcpStream::connect(at).unwrap();
    let hello = Hello { receiver: ReplicaId(1), ..samples::hello(id) };
    socket.write_all(&wire::encode_hello(&hello)).unwrap();
    let mut decoder = Decoder::new();
    loop {
        let count = std::io::Read::read(&mut socket, decoder.room()).unwrap();
        assert!(count > 0, "replica {id} got no answer");
        decoder.fill(count);
        if let Some(frame) = decoder.next_frame().unwrap() {
            return (socket, frame);
        }
    }
}

fn is_let_in(answer: &Frame) -> bool {
    match answer {
        Frame::Hello(_) => true,
        Frame::Refused(refusal) => {
            assert_eq!(*refusal, Refusal::TooManyStrangers);
            false
        }
        Frame::Message(_) => panic!("a message answers a hello"),
    }
}

#[test]
fn peers_come_and_go_and_their_threads_with_them() {
    let (ones, twos) = (Members::default(), Members::default());
    let (one, one_at) = start(1, &[], ones.admit());
    let (two, two_at) = start(2, &[], twos.admit());
    for round in 1..=3 {
        ones.set(&[2]);
        twos.set(&[1]);
        set_peers(&one, &[(1, one_at), (2, two_at)]);
        set_peers(&two, &[(1, one_at), (2, two_at)]);
        talk(&one, 1, &two, 2, round as u64);
        assert!(!one.counters(2).stranger);
        ones.set(&[]);
        set_peers(&one, &[(1, one_at)]);
        until("both were told", || one.downs(2) == round && two.downs(1) == round);
        until("its threads returned", || one.threads() == 1);
        let dropped = one.counters(0).dropped;
        one.send(2, samples::numbered(9));
        assert_eq!(one.counters(0).dropped, dropped + 1, "there is nobody to send it to");
        until("it does not come back", || one.refused(0) == Some(Refusal::UnknownReplica));
        set_peers(&two, &[]);
        until("it has given up", || two.threads() == 1);
    }
    one.close();
    two.close();
}

#[test]
fn who_stays_is_not_disturbed() {
    let (one, one_at) = start(1, &[], anyone());
    let (two, two_at) = start(2, &[(1, one_at)], anyone());
    let nobody = support::listen().1;
    let (three, three_at) = start(3, &[(1, one_at)], anyone());
    set_peers(&one, &[(2, two_at), (3, three_at), (4, nobody)]);
    talk(&one, 1, &two, 2, 1);
    let threads = one.threads();
    for number in 2..50 {
        let fourth = if number % 2 == 0 { (5, nobody) } else { (4, nobody) };
        set_peers(&one, &[(2, two_at), (3, three_at), fourth, (2, two_at)]);
        talk(&one, 1, &two, 2, number);
        talk(&one, 1, &three, 3, number);
    }
    assert_eq!([one.downs(2), one.downs(3), two.downs(1), three.downs(1)], [0; 4]);
    until("who left has no thread", || one.threads() <= threads + 1);
    for node in [one, two, three] {
        node.close();
    }
}

#[test]
fn who_listens_elsewhere_is_dialed_there() {
    let (one, _) = start(1, &[], anyone());
    let (before, before_at) = start(2, &[], anyone());
    let (after, after_at) = start(2, &[], anyone());
    set_peers(&one, &[(2, before_at)]);
    until("it arrives", || {
        one.send(2, samples::numbered(1));
        !before.messages(1).is_empty()
    });
    set_peers(&one, &[(2, after_at)]);
    until("that connection has ended", || before.downs(1) == 1);
    until("it arrives there", || {
        one.send(2, samples::numbered(2));
        !after.messages(1).is_empty()
    });
    assert!(!before.messages(1).contains(&samples::numbered(2)));
    for node in [one, before, after] {
        node.close();
    }
}

#[test]
fn an_attempt_at_an_old_address_is_given_up() {
    // It takes connections, and says nothing.
    let (deaf, deaf_at) = support::listen();
    let options = TcpOptions {
        connect_timeout: Duration::from_secs(3600),
        handshake_timeout: Duration::from_secs(3600),
        ..TcpOptions::default()
    };
    let (one, one_at) = start_with(1, &[(2, deaf_at)], anyone(), options);
    let (_waiting, _) = deaf.accept().unwrap();
    let (two, two_at) = start(2, &[(1, one_at)], anyone());
    set_peers(&one, &[(2, two_at)]);
    talk(&one, 1, &two, 2, 1);
    one.close();
    two.close();
}

#[test]
fn a_stranger_is_dialed_back_and_becomes_a_peer_undisturbed() {
    let (one, one_at) = start_with(1, &[], anyone(), short_linger());
    let (two, two_at) = start(2, &[(1, one_at)], anyone());
    talk(&one, 1, &two, 2, 1);
    assert!(one.counters(2).stranger && !two.counters(1).stranger);
    set_peers(&one, &[(2, two_at)]);
    assert!(!one.counters(2).stranger);
    talk(&one, 1, &two, 2, 2);
    assert_eq!((one.counters(2).received, two.counters(1).received), (2, 2));
    assert_eq!((one.downs(2), two.downs(1)), (0, 0));
    // Unlike a stranger, it is dialed for as long as it takes.
    two.close();
    until("it is gone", || one.downs(2) == 1);
    std::thread::sleep(4 * short_linger().stranger_linger);
    let mut listener = None;
    until("the port is free", || {
        listener = std::net::TcpListener::bind(two_at).ok();
        listener.is_some()
    });
    let two = Node::start(support::tcp(samples::hello(2), listener.unwrap(), &[]), anyone());
    until("it arrives", || {
        one.send(2, samples::numbered(3));
        !two.messages(1).is_empty()
    });
    one.close();
    two.close();
}

#[test]
fn peers_may_change_while_a_hello_is_judged() {
    let transport: Arc<OnceLock<Weak<Tcp>>> = Arc::default();
    let judging = Arc::clone(&transport);
    // As where the turn that admitting leads to changes the membership.
    let admit: Admit = Arc::new(move |hello: &Hello| {
        if let Some(one) = judging.get().and_then(Weak::upgrade) {
            one.set_peers(vec![(hello.replica, hello.address.clone())]);
        }
        Ok(())
    });
    let (one, one_at) = start(1, &[], admit);
    transport.set(Arc::downgrade(&one.transport)).unwrap();
    let (two, _) = start(2, &[(1, one_at)], anyone());
    talk(&one, 1, &two, 2, 1);
    assert!(!one.counters(2).stranger);
    one.close();
    two.close();
}

#[test]
fn a_stranger_that_is_gone_is_let_go() {
    let (one, one_at) = start_with(1, &[], anyone(), short_linger());
    let (two, _) = start(2, &[(1, one_at)], anyone());
    talk(&one, 1, &two, 2, 1);
    assert_eq!(one.threads(), 3, "accepting, from it, and to it");
    two.close();
    until("it is gone", || one.downs(2) == 1);
    until("its threads returned", || one.threads() == 1);
    assert!(one.transport.counters().iter().all(|row| row.peer != ReplicaId(2)));
    let (two, _) = start(2, &[(1, one_at)], anyone());
    talk(&one, 1, &two, 2, 2);
    one.close();
    two.close();
}

/// Of the connections, first one, then the other one finds no thread.
#[test]
fn who_finds_no_thread_comes_again() {
    for (refused, is_gone) in [("from-2", true), ("to-2", true), ("none", false)] {
        let (listener, one_at) = support::listen();
        let one = support::tcp(samples::hello(1), listener, &[]);
        let (arrivals, times) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(2)));
        let (arrived, left) = (Arc::clone(&arrivals), Arc::clone(&times));
        let link = support::link(move |new| arrived.lock().extend(new));
        let run = Arc::clone(&link.spawn);
        let spawn = Arc::new(move |task: Task| {
            assert_eq!(task.is_vital, task.name == "accept", "{task:?}");
            let is_refused = task.name == refused
                && left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
            !is_refused && run(task)
        });
        one.start(Link { spawn, ..link }).unwrap();
        let (two, _) = start(2, &[(1, one_at)], anyone());
        until("it arrives", || {
            one.send(Envelope { to: ReplicaId(2), message: samples::numbered(1) });
            one.flush();
            two.send(1, samples::numbered(1));
            let arrived = arrivals.lock().iter().any(|it| matches!(it, Arrival::Message { .. }));
            arrived && !two.messages(1).is_empty()
        });
        let is_down = arrivals.lock().contains(&Arrival::Down { peer: ReplicaId(2) });
        assert_eq!((is_down, times.load(SeqCst) == 0), (is_gone, is_gone), "{refused}");
        one.close();
        two.close();
    }
}

#[test]
fn a_stranger_that_moved_is_dialed_where_it_is() {
    let (one, one_at) = start(1, &[], anyone());
    for number in 1..4 {
        let (two, _) = start(2, &[(1, one_at)], anyone());
        talk(&one, 1, &two, 2, number);
        two.close();
        until("it is gone", || one.downs(2) == number as usize);
    }
    one.close();
}

#[test]
fn who_is_removed_may_come_back_as_a_stranger() {
    let (one, one_at) = start(1, &[], anyone());
    let (two, two_at) = start(2, &[(1, one_at)], anyone());
    set_peers(&one, &[(2, two_at)]);
    talk(&one, 1, &two, 2, 1);
    set_peers(&one, &[]);
    until("both were told", || one.downs(2) == 1 && two.downs(1) == 1);
    talk(&one, 1, &two, 2, 2);
    assert!(one.counters(2).stranger);
    one.close();
    two.close();
}

#[test]
fn who_is_not_admitted_is_no_stranger() {
    let admit: Admit = Arc::new(|hello: &Hello| match hello.replica.0 {
        2 => Err(Refusal::WrongCluster),
        _ => Err(Refusal::UnknownReplica),
    });
    let (one, one_at) = start(1, &[], admit);
    for (id, why) in [(2, Refusal::WrongCluster), (3, Refusal::UnknownReplica)] {
        let (mut socket, answer) = call(one_at, id);
        assert_eq!(answer, Frame::Refused(why.clone()));
        assert!(support::is_closed_by_peer(&mut socket));
        until("it is counted", || one.refused(0) == Some(why.clone()));
    }
    assert_eq!((one.transport.counters().len(), one.threads()), (1, 1));
    one.close();
}

#[test]
fn another_one_under_the_id_of_a_peer_that_is_here_is_not_told_as_that_peer() {
    let is_met = Arc::new(AtomicBool::new(false));
    let met = Arc::clone(&is_met);
    let admit: Admit = Arc::new(move |_: &Hello| match met.load(Ordering::SeqCst) {
        true => Err(Refusal::WrongIncarnation),
        false => Ok(()),
    });
    let (one, one_at) = start(1, &[], admit);
    let (two, two_at) = start(2, &[(1, one_at)], anyone());
    set_peers(&one, &[(2, two_at)]);
    talk(&one, 1, &two, 2, 1);
    is_met.store(true, Ordering::SeqCst);
    assert_eq!(call(one_at, 2).1, Frame::Refused(Refusal::WrongIncarnation));
    until("it is counted", || one.refused(0) == Some(Refusal::WrongIncarnation));
    assert_eq!(one.counters(2).refused, None);
    // Where the peer is gone, it may be the one.
    two.close();
    until("it is gone", || one.downs(2) == 1);
    assert_eq!(call(one_at, 2).1, Frame::Refused(Refusal::WrongIncarnation));
    until("it is counted", || one.refused(2) == Some(Refusal::WrongIncarnation));
    one.close();
}

#[test]
fn only_so_many_strangers_are_let_in_and_who_is_gone_makes_room() {
    let (one, one_at) = start(1, &[], anyone());
    let ids = 101..101 + STRANGERS_MAX as u64;
    let mut strangers: BTreeMap<_, _> = ids.map(|id| (id, call(one_at, id))).collect();
    assert!(strangers.values().all(|(_, answer)| is_let_in(answer)));
    assert!(!is_let_in(&call(one_at, 200).1));
    until("it is counted", || one.refused(0) == Some(Refusal::TooManyStrangers));
    // Who is let in already may come again; a peer always may.
    let again = call(one_at, 105);
    assert!(is_let_in(&again.1));
    let (two, two_at) = start(2, &[(1, one_at)], anyone());
    set_peers(&one, &[(2, two_at)]);
    talk(&one, 1, &two, 2, 1);
    for gone in [110, 103] {
        strangers.remove(&gone);
        until("it is gone", || one.downs(gone) == 1);
    }
    let mut newcomer = None;
    until("there is room", || {
        let (socket, answer) = call(one_at, 200);
        newcomer = Some(socket);
        is_let_in(&answer)
    });
    let rows: Vec<_> = one.transport.counters().iter().map(|row| row.peer.0).collect();
    assert!(!rows.contains(&110) && rows.contains(&103), "who went first: {rows:?}");
    one.close();
    two.close();
}

/// Rows for strangers, the peer 2, and all others; threads for accepting, and two for each.
fn assert_bounded(one: &Node<Tcp>) {
    let rows = one.transport.counters().len();
    assert!(rows <= STRANGERS_MAX + 2, "{rows} rows");
    let threads = one.threads();
    assert!(threads <= 1 + 2 * (STRANGERS_MAX + 1), "{threads} threads");
}

#[test]
fn a_thousand_strangers_that_stay_cost_no_more_than_so_many() {
    let (one, one_at) = start(1, &[], anyone());
    let (two, two_at) = start(2, &[(1, one_at)], anyone());
    set_peers(&one, &[(2, two_at)]);
    talk(&one, 1, &two, 2, 1);
    let strangers: Vec<_> = (1001..=2000).map(|id| call(one_at, id)).collect();
    let let_in = strangers.iter().filter(|(_, answer)| is_let_in(answer)).count();
    assert_eq!(let_in, STRANGERS_MAX);
    assert_bounded(&one);
    talk(&one, 1, &two, 2, 2);
    assert_eq!((one.downs(2), two.downs(1)), (0, 0));
    let took = one.close();
    assert!(took < Duration::from_secs(5), "{took:?}");
    two.close();
}

#[test]
fn a_thousand_strangers_that_come_and_go_cost_no_more_than_so_many() {
    let (one, one_at) = start(1, &[], anyone());
    let (two, two_at) = start(2, &[(1, one_at)], anyone());
    set_peers(&one, &[(2, two_at)]);
    talk(&one, 1, &two, 2, 1);
    let mut let_in = 0;
    for id in 1001..=2000 {
        let_in += usize::from(is_let_in(&call(one_at, id).1));
        let rows = one.transport.counters().len();
        assert!(rows <= STRANGERS_MAX + 2, "{rows} rows");
    }
    assert!(let_in > STRANGERS_MAX, "{let_in} were let in");
    until("the threads of who had to go returned", || one.threads() <= 1 + 2 * (STRANGERS_MAX + 1));
    assert_bounded(&one);
    talk(&one, 1, &two, 2, 2);
    assert_eq!((one.downs(2), two.downs(1)), (0, 0));
    one.close();
    two.close();
}

#[test]
fn builds_that_speak_other_protocols_talk_in_a_common_one_or_not_at_all() {
    let speaks = |id: u64, first, last, peers: &[(u64, SocketAddr)]| {
        let (listener, address) = support::listen();
        let protocols = Protocols { first, last };
        let hello = Hello { address: address.to_string(), protocols, ..samples::hello(id) };
        let transport = support::tcp_with(hello, listener, peers, TcpOptions::default());
        (Node::start(transport, anyone()), address)
    };
    let (one, at_one) = speaks(1, 1, 3, &[]);
    let (two, at_two) = speaks(2, 2, 5, &[(1, at_one)]);
    set_peers(&one, &[(2, at_two)]);
    talk(&one, 1, &two, 2, 7);
    // The release before the last one is too old for a later one.
    let (three, at_three) = speaks(3, 6, 6, &[(1, at_one)]);
    set_peers(&one, &[(2, at_two), (3, at_three)]);
    until("one refused", || one.refused(3) == Some(Refusal::NoCommonProtocol));
    until("three was refused", || three.refused(1) == Some(Refusal::NoCommonProtocol));
    assert!(!one.is_connected(3) && !three.is_connected(1));
    talk(&one, 1, &two, 2, 8);
}
