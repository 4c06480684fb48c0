//! Replicas over loopback: what is carried, what is refused, and what happens at an end.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indelible::ReplicaId;
use indelible::transport::tcp::{Tcp, TcpOptions};
use indelible::transport::wire::{self, HEADER_BYTES};
use indelible::transport::{Arrival, Link, Refusal, Task, Transport};
use indelible::types::hello::Hello;
use indelible::types::ids::{Boot, ClusterId};
use indelible::types::limits::MESSAGE_BYTES_MAX;
use indelible::types::message::Envelope;
use indelible::types::time::Moment;

use crate::samples;
use crate::support::{self, Admit, Node, anyone, until};

/// What an outbox may hold beyond its bound: small messages, what is being sent, large messages.
const OUTBOX_CONSTANT: u64 = 2 * 1024 * 1024;

#[test]
fn every_kind_of_message_arrives_as_it_was_sent_and_in_order() {
    let nodes = support::cluster(3);
    for message in samples::one_of_each() {
        for to in [2, 3] {
            nodes[0].transport.send(Envelope { to: ReplicaId(to), message: message.clone() });
        }
    }
    nodes[0].transport.flush();
    let expected = samples::one_of_each();
    for node in &nodes[1..] {
        until("all arrived", || node.messages(1).len() == expected.len());
        assert_eq!(node.messages(1), expected);
        assert_eq!(node.counters(1).received, expected.len() as u64);
    }
    assert_eq!(nodes[0].counters(2).sent, expected.len() as u64);
    assert_eq!(nodes[0].counters(2).queued_bytes, 0);
    support::close(nodes);
}

#[test]
fn order_is_kept_over_many_flushes_both_ways() {
    const COUNT: u64 = 20_000;
    let nodes = support::cluster(2);
    for number in 0..COUNT {
        for (node, to) in [(&nodes[0], 2), (&nodes[1], 1)] {
            let envelope = Envelope { to: ReplicaId(to), message: samples::numbered(number) };
            node.transport.send(envelope);
            if number % 7 == 0 {
                node.transport.flush();
            }
        }
    }
    nodes.iter().for_each(|node| node.transport.flush());
    let expected: Vec<_> = (0..COUNT).map(samples::numbered).collect();
    for (node, from) in [(&nodes[0], 2), (&nodes[1], 1)] {
        until("all arrived", || node.messages(from).len() == expected.len());
        assert!(node.messages(from) == expected);
    }
    support::close(nodes);
}

#[test]
fn the_largest_message_arrives_and_a_larger_one_is_dropped() {
    let nodes = support::cluster(2);
    nodes[0].send(2, samples::sized(MESSAGE_BYTES_MAX + 1));
    assert_eq!(nodes[0].counters(2).dropped, 1);
    for _ in 0..3 {
        nodes[0].send(2, samples::sized(MESSAGE_BYTES_MAX));
    }
    until("all arrived", || nodes[1].messages(1).len() == 3);
    assert!(nodes[1].messages(1)[2] == samples::sized(MESSAGE_BYTES_MAX));
    assert_eq!(nodes[1].downs(1), 0);
    support::close(nodes);
}

#[test]
fn many_messages_of_one_flush_come_in_few_deliveries() {
    let nodes = support::cluster(2);
    for number in 0..1000 {
        let envelope = Envelope { to: ReplicaId(2), message: samples::numbered(number) };
        nodes[0].transport.send(envelope);
    }
    nodes[0].transport.flush();
    until("all arrived", || nodes[1].messages(1).len() == 1000);
    let deliveries = nodes[1].deliveries.load(Ordering::SeqCst);
    assert!(deliveries <= 20, "{deliveries} deliveries");
    support::close(nodes);
}

#[test]
fn a_peer_that_restarts_is_told_down_and_connected_again() {
    let mut nodes = support::cluster(3);
    let two = nodes.remove(1);
    let address = two.transport.local_addr().unwrap();
    let peers: Vec<_> = [(1, &nodes[0]), (3, &nodes[1])]
        .map(|(id, node)| (id, node.transport.local_addr().unwrap()))
        .to_vec();
    two.close();
    for node in &nodes {
        until("down", || node.downs(2) == 1);
        until("disconnected", || !node.is_connected(2));
        // What is sent meanwhile is dropped, and not kept for the next connection.
        let dropped = node.counters(2).dropped;
        node.send(2, samples::numbered(1));
        assert_eq!(node.counters(2).dropped, dropped + 1);
    }
    let mut listener = None;
    until("the port is free", || {
        listener = TcpListener::bind(address).ok();
        listener.is_some()
    });
    let mut hello = samples::hello(2);
    hello.boot = Boot { sequence: 2, nonce: 4 };
    let two = Node::start(support::tcp(hello, listener.unwrap(), &peers), anyone());
    for (node, id) in nodes.iter().zip([1, 3]) {
        until("connected", || node.is_connected(2) && two.is_connected(id));
        node.send(2, samples::numbered(2));
        until("arrived", || two.messages(id) == [samples::numbered(2)]);
        assert_eq!(node.downs(2), 1);
    }
    two.close();
    support::close(nodes);
}

#[test]
fn a_newer_connection_replaces_the_older_one() {
    let (listener, address) = support::listen();
    let nobody = support::listen().1;
    let one = support::tcp(samples::hello(1), listener, &[(2, nobody)]);
    let one = Node::start(one, anyone());
    let connect = |boot: u64, number: u64| {
        let mut socket = std::net::TcpStream::connect(address).unwrap();
        let mut hello = samples::hello(2);
        hello.receiver = ReplicaId(1);
        hello.boot.nonce = boot;
        let mut bytes = wire::encode_hello(&hello);
        wire::encode_message(&samples::numbered(number), hello.cluster, &mut bytes).unwrap();
        std::io::Write::write_all(&mut socket, &bytes).unwrap();
        socket
    };
    let mut first = connect(1, 1);
    until("first", || one.messages(2).len() == 1);
    // The same opening: the connection was lost, the peer was not.
    let mut second = connect(1, 2);
    until("second", || one.messages(2).len() == 2);
    assert!(support::is_closed_by_peer(&mut first));
    assert_eq!(one.downs(2), 0);
    // Another opening: what the first said is over.
    let third = connect(2, 3);
    until("third", || one.messages(2).len() == 3);
    assert!(support::is_closed_by_peer(&mut second));
    assert_eq!(one.downs(2), 1);
    assert_eq!(one.arrivals.lock()[2], Arrival::Down { peer: ReplicaId(2) });
    drop(third);
    until("down", || one.downs(2) == 2);
    one.close();
}

/// Two replicas of which the second has another hello than the first expects.
fn pair(hello: Hello, known: u64, admit: &Admit) -> (Node<Tcp>, Node<Tcp>) {
    let ((first, first_at), (second, second_at)) = (support::listen(), support::listen());
    let one = support::tcp(samples::hello(1), first, &[(known, second_at)]);
    let two = support::tcp(hello, second, &[(1, first_at)]);
    (Node::start(one, Arc::clone(admit)), Node::start(two, Arc::clone(admit)))
}

#[test]
fn a_replica_of_another_cluster_is_refused_and_both_count_it() {
    let admit: Admit = Arc::new(|hello: &Hello| match hello.cluster {
        // Both ends refuse, so that the test shows the counters of both.
        ClusterId(5) => Err(Refusal::WrongCluster),
        _ => Ok(()),
    });
    let mut hello = samples::hello(2);
    hello.cluster = ClusterId(5);
    let (one, two) = pair(hello, 2, &admit);
    until("one refused", || one.refused(2) == Some(Refusal::WrongCluster));
    until("two was refused", || two.refused(1) == Some(Refusal::WrongCluster));
    assert!(!one.is_connected(2) && !two.is_connected(1));
    assert_eq!((one.counters(2).garbage, two.counters(1).garbage), (0, 0));
    assert!(one.messages(2).is_empty());
    one.close();
    two.close();
}

/// Refuses the directory of replica 2, as one that was set back.
fn remembering() -> Admit {
    Arc::new(|hello: &Hello| match hello.replica {
        ReplicaId(2) => Err(Refusal::Regressed),
        _ => Ok(()),
    })
}

#[test]
fn who_was_set_back_is_told() {
    let (one, two) = pair(samples::hello(2), 2, &remembering());
    until("two was told", || two.is_fenced(1));
    until("one refused", || one.refused(2) == Some(Refusal::Regressed));
    assert!(!one.is_fenced(2));
    until("two knows why", || two.counters(1).refused.is_some());
    let said = "its directory is a copy, or was set back to an earlier state";
    assert_eq!(one.counters(2).refused.unwrap().to_string(), said);
    let told = two.counters(1).refused.unwrap().to_string();
    assert_eq!(told, format!("it says of this replica: {said}"));
    one.close();
    two.close();
}

#[test]
fn an_unknown_replica_is_refused_and_both_count_it() {
    let admit: Admit = Arc::new(|hello: &Hello| match hello.replica {
        ReplicaId(9) => Err(Refusal::UnknownReplica),
        _ => Ok(()),
    });
    let (one, two) = pair(samples::hello(9), 2, &admit);
    until("one refused", || one.refused(0) == Some(Refusal::UnknownReplica));
    until("nine was refused", || two.counters(1).refused.is_some());
    // It refuses in turn: one looks for replica 2 at its address.
    until("two refused one", || two.refused(1) == Some(Refusal::WrongReceiver));
    until("one was refused", || one.refused(2) == Some(Refusal::WrongReceiver));
    one.close();
    two.close();
}

#[test]
fn an_address_that_leads_back_is_refused() {
    let (listener, address) = support::listen();
    let one = Node::start(support::tcp(samples::hello(1), listener, &[(2, address)]), anyone());
    until("was refused", || one.refused(2) == Some(Refusal::SelfConnection));
    until("refused", || one.refused(0) == Some(Refusal::SelfConnection));
    assert!(!one.is_connected(2));
    // The right address ends it.
    let (other, other_at) = support::listen();
    let two = Node::start(support::tcp(samples::hello(2), other, &[(1, address)]), anyone());
    one.transport.set_peers(vec![(ReplicaId(2), other_at.to_string())]);
    until("connected", || one.is_connected(2) && two.is_connected(1));
    one.transport.set_peers(Vec::new());
    until("disconnected", || two.downs(1) == 1 && !two.is_connected(1));
    one.close();
    two.close();
}

#[test]
fn later_connections_say_the_new_hello() {
    let mut nodes = support::cluster(2);
    let two = nodes.pop().unwrap();
    let one = nodes.pop().unwrap();
    let mut hello = samples::hello(1);
    hello.cluster = ClusterId(8);
    one.transport.set_hello(hello);
    // The connection that stands goes on with the hello that it began with.
    one.send(2, samples::numbered(1));
    until("arrived", || two.messages(1).len() == 1);
    let address = two.transport.local_addr().unwrap();
    one.transport.set_peers(Vec::new());
    until("down", || two.downs(1) == 1);
    one.transport.set_peers(vec![(ReplicaId(2), address.to_string())]);
    until("connected", || one.is_connected(2) && two.is_connected(1));
    one.send(2, samples::numbered(2));
    until("arrived", || two.messages(1).len() == 2);
    assert_eq!((one.counters(2).garbage, two.counters(1).garbage), (0, 0));
    one.close();
    two.close();
}

/// A peer that says hello properly and then never reads.
fn deaf_peer(listener: TcpListener) -> std::thread::JoinHandle<std::net::TcpStream> {
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut hello = vec![0; wire::encode_hello(&samples::hello(2)).len()];
        socket.read_exact(&mut hello).unwrap();
        let mut answer = samples::hello(2);
        answer.receiver = ReplicaId(1);
        std::io::Write::write_all(&mut socket, &wire::encode_hello(&answer)).unwrap();
        socket
    })
}

fn read_frame(socket: &mut std::net::TcpStream) -> Vec<u8> {
    let mut frame = vec![0; HEADER_BYTES];
    socket.read_exact(&mut frame).unwrap();
    let length = u32::from_le_bytes(frame[8..12].try_into().unwrap());
    frame.resize(HEADER_BYTES + length as usize, 0);
    socket.read_exact(&mut frame[HEADER_BYTES..]).unwrap();
    frame
}

#[test]
fn a_peer_that_never_reads_blocks_nobody_and_costs_bounded_memory() {
    const MESSAGE_BYTES: usize = 512 * 1024;
    const QUEUE_BYTES: usize = 4 * 1024 * 1024;
    let (deaf, deaf_at) = support::listen();
    let deaf = deaf_peer(deaf);
    let options = TcpOptions { peer_queue_bytes_max: QUEUE_BYTES, ..TcpOptions::default() };
    let ((first, first_at), (third, third_at)) = (support::listen(), support::listen());
    let peers = [(2, deaf_at), (3, third_at)];
    let one = support::tcp_with(samples::hello(1), first, &peers, options);
    let one = Node::start(one, anyone());
    let three = Node::start(support::tcp(samples::hello(3), third, &[(1, first_at)]), anyone());
    let mut socket = deaf.join().unwrap();
    until("connected", || one.is_connected(3));
    until("deaf is connected", || {
        one.send(2, samples::numbered(0));
        one.counters(2).sent > 0
    });

    let mut number = 0;
    let start = Instant::now();
    until("dropping", || {
        number += 1;
        one.send(2, samples::bulky(number, MESSAGE_BYTES));
        let held = one.counters(2).queued_bytes;
        assert!(held <= QUEUE_BYTES as u64 + OUTBOX_CONSTANT, "{held} bytes held");
        one.counters(2).dropped > 100
    });
    assert!(start.elapsed() < Duration::from_secs(15), "took {:?}", start.elapsed());
    // Others are served, and small messages still find a place.
    one.send(3, samples::numbered(5));
    until("arrived", || three.messages(1).len() == 1);
    let dropped = one.counters(2).dropped;
    one.send(2, samples::numbered(u64::MAX));
    assert_eq!(one.counters(2).dropped, dropped);

    // When it reads at last, the small message comes before some that were sent before it.
    let mut last = Vec::new();
    wire::encode_message(&samples::numbered(u64::MAX), samples::CLUSTER, &mut last).unwrap();
    socket.set_read_timeout(Some(support::LIMIT)).unwrap();
    while read_frame(&mut socket) != last {}
    assert_ne!(read_frame(&mut socket), last);
    one.close();
    three.close();
}

#[test]
fn closing_ends_every_task_soon() {
    let nobody = support::listen().1;
    // 192.0.2.0/24 is reserved for documentation: nobody answers there, not even a refusal.
    let swallowed = "192.0.2.1:9".parse().unwrap();
    let mut nodes = support::cluster(2);
    let (listener, _) = support::listen();
    let peers = [(5, nobody), (6, swallowed)];
    nodes.push(Node::start(support::tcp(samples::hello(4), listener, &peers), anyone()));
    for node in nodes {
        let took = node.close();
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}

#[test]
fn dropping_a_transport_closes_it() {
    let ((first, first_at), (second, second_at)) = (support::listen(), support::listen());
    let one = Node::start(support::tcp(samples::hello(1), first, &[(2, second_at)]), anyone());
    let two = Node::start(support::tcp(samples::hello(2), second, &[(1, first_at)]), anyone());
    until("connected", || one.is_connected(2) && two.is_connected(1));
    drop(two);
    until("down", || one.downs(2) == 1);
    one.close();
}

#[test]
fn a_transport_starts_once() {
    let hello = samples::hello(1);
    let tcp = Tcp::new(hello, "127.0.0.1:0", Vec::new(), TcpOptions::default()).unwrap();
    assert_eq!(tcp.local_addr(), None);
    let node = Node::start(tcp, anyone());
    assert!(node.transport.local_addr().is_some());
    let deliver = Arc::new(|_: Vec<Arrival>| ());
    assert!(node.transport.start(node.link(deliver, anyone())).is_err());
    node.close();
}

#[test]
fn time_is_what_the_link_says_and_closing_waits_for_none() {
    let ((listener, address), (deaf, deaf_at)) = (support::listen(), support::listen());
    let timeout = Duration::from_millis(20);
    let options = TcpOptions { handshake_timeout: timeout, ..TcpOptions::default() };
    let peers = [(2, deaf_at)];
    let tcp = Arc::new(support::tcp_with(samples::hello(1), listener, &peers, options));
    let now = Arc::new(AtomicU64::new(0));
    let (reading, (ended, ends)) = (Arc::clone(&now), std::sync::mpsc::channel());
    let link = Link {
        clock: Arc::new(move || Moment(reading.load(Ordering::SeqCst))),
        spawn: Arc::new(move |task: Task| {
            let ended = ended.clone();
            std::thread::spawn(move || {
                (task.run)();
                ended.send(task.name).unwrap();
            });
            true
        }),
        ..support::link(|_| ())
    };
    tcp.start(link).unwrap();
    let mut strangers = [TcpStream::connect(address).unwrap(), deaf.accept().unwrap().0];
    let mut hello = vec![0; wire::encode_hello(&samples::hello(1)).len()];
    strangers[1].read_exact(&mut hello).unwrap();
    for stranger in &mut strangers {
        stranger.set_read_timeout(Some(5 * timeout)).unwrap();
        assert!(stranger.read(&mut [0]).is_err(), "dropped before its time");
    }
    until("dropped", || {
        now.fetch_add(timeout.as_nanos() as u64, Ordering::SeqCst);
        strangers.iter_mut().all(|stranger| stranger.read(&mut [0]).is_ok_and(|count| count == 0))
    });
    // The clock stands still again: without being closed, no pause would ever end.
    tcp.close();
    for _ in ["accept", "to-2"] {
        ends.recv_timeout(support::LIMIT).unwrap();
    }
}
