//! Bytes that are no messages, and connections that never say who they are.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use indelible::ReplicaId;
use indelible::transport::tcp::{Tcp, TcpOptions};
use indelible::transport::wire;
use indelible::types::hello::Hello;
use indelible::types::ids::ClusterId;

use crate::samples;
use crate::support::{self, Node, anyone, until};

/// Replicas 1 and 2, connected; 1 also knows a replica 3, for which the test speaks.
fn victims() -> (Node<Tcp>, Node<Tcp>, SocketAddr) {
    let ((first, at), (second, second_at)) = (support::listen(), support::listen());
    let nobody = support::listen().1;
    let peers = [(2, second_at), (3, nobody)];
    let one = Node::start(support::tcp(samples::hello(1), first, &peers), anyone());
    let two = Node::start(support::tcp(samples::hello(2), second, &[(1, at)]), anyone());
    until("connected", || one.is_connected(2) && two.is_connected(1));
    (one, two, at)
}

fn hello_of_three() -> Hello {
    let mut hello = samples::hello(3);
    hello.receiver = ReplicaId(1);
    hello
}

/// A frame of a message with its header changed, and sealed again.
fn forged(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut frame = Vec::new();
    wire::encode_message(&samples::numbered(1), samples::CLUSTER, &mut frame).unwrap();
    change(&mut frame);
    let crc = crc32fast::hash(&frame[..32]);
    frame[32..36].copy_from_slice(&crc.to_le_bytes());
    frame
}

#[test]
fn garbage_after_the_hello_ends_that_connection_and_no_other() {
    let (one, two, at) = victims();
    let bodies: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n".to_vec(),
        vec![0; 100_000],
        vec![0xff; 100_000],
        forged(|frame| frame[8..12].copy_from_slice(&u32::MAX.to_le_bytes())),
        forged(|frame| frame[4] = 9),
        forged(|frame| frame[6] = 9),
        forged(|frame| frame[16] ^= 1),
        forged(|frame| frame[36] ^= 1),
        wire::encode_hello(&hello_of_three()),
    ];
    for (index, body) in bodies.into_iter().enumerate() {
        let mut socket = TcpStream::connect(at).unwrap();
        let mut bytes = wire::encode_hello(&hello_of_three());
        bytes.extend(body);
        // Where the victim closes early, the rest cannot be written.
        let _ = socket.write_all(&bytes);
        assert!(support::is_closed_by_peer(&mut socket), "case {index}");
        until("counted", || one.counters(3).garbage == index as u64 + 1);
        until("down", || one.downs(3) == index + 1);
    }
    assert!(one.messages(3).is_empty());
    two.send(1, samples::numbered(5));
    until("arrived", || one.messages(2).len() == 1);
    assert_eq!(one.downs(2), 0);
    assert_eq!(one.counters(2).garbage, 0);
    one.close();
    two.close();
}

#[test]
fn garbage_instead_of_a_hello_is_counted_and_delivered_to_nobody() {
    let (one, two, at) = victims();
    let mut oversized = wire::encode_hello(&hello_of_three());
    oversized[8..12].copy_from_slice(&5000_u32.to_le_bytes());
    let crc = crc32fast::hash(&oversized[..32]);
    oversized[32..36].copy_from_slice(&crc.to_le_bytes());
    let mut version = wire::encode_hello(&hello_of_three());
    version[4] = 2;
    let message_first = forged(|_| ());
    let cases = [b"\x16\x03\x01".to_vec(), oversized, version, message_first];
    for (index, bytes) in cases.into_iter().enumerate() {
        let mut socket = TcpStream::connect(at).unwrap();
        socket.write_all(&bytes).unwrap();
        assert!(support::is_closed_by_peer(&mut socket), "case {index}");
        until("counted", || one.counters(0).garbage == index as u64 + 1);
    }
    assert!(one.arrivals.lock().is_empty());
    assert!(one.is_connected(2));
    one.close();
    two.close();
}

#[test]
fn a_frame_that_breaks_off_is_not_delivered() {
    let (one, two, at) = victims();
    let mut socket = TcpStream::connect(at).unwrap();
    let mut bytes = wire::encode_hello(&hello_of_three());
    wire::encode_message(&samples::numbered(1), samples::CLUSTER, &mut bytes).unwrap();
    wire::encode_message(&samples::numbered(2), samples::CLUSTER, &mut bytes).unwrap();
    socket.write_all(&bytes[..bytes.len() - 1]).unwrap();
    until("the whole one arrived", || one.messages(3) == [samples::numbered(1)]);
    drop(socket);
    until("down", || one.downs(3) == 1);
    assert_eq!(one.messages(3), [samples::numbered(1)]);
    // It broke off; it was not wrong.
    assert_eq!(one.counters(3).garbage, 0);
    one.close();
    two.close();
}

#[test]
fn a_message_of_another_cluster_than_the_hello_is_not_delivered() {
    let (one, two, at) = victims();
    let mut socket = TcpStream::connect(at).unwrap();
    let mut bytes = wire::encode_hello(&hello_of_three());
    wire::encode_message(&samples::numbered(1), ClusterId(6), &mut bytes).unwrap();
    socket.write_all(&bytes).unwrap();
    assert!(support::is_closed_by_peer(&mut socket));
    until("counted", || one.counters(3).garbage == 1);
    assert!(one.messages(3).is_empty());
    one.close();
    two.close();
}

#[test]
fn half_open_connections_keep_no_peer_out_and_cost_no_threads() {
    let ((first, at), (second, second_at)) = (support::listen(), support::listen());
    let one = support::tcp(samples::hello(1), first, &[(2, second_at)]);
    let one = Node::start(one, anyone());
    let mut silent: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(at).unwrap()).collect();
    let threads = one.threads();
    assert!(threads <= 2, "{threads} threads");
    let two = Node::start(support::tcp(samples::hello(2), second, &[(1, at)]), anyone());
    until("connected", || one.is_connected(2) && two.is_connected(1));
    two.send(1, samples::numbered(1));
    until("arrived", || one.messages(2).len() == 1);
    // The first ones were dropped to make room.
    assert!(silent.drain(..100).all(|mut socket| support::is_closed_by_peer(&mut socket)));
    one.close();
    two.close();
}

#[test]
fn a_hello_that_comes_too_slowly_is_cut() {
    let (listener, at) = support::listen();
    let nobody = support::listen().1;
    let handshake_timeout = Duration::from_millis(300);
    let options = TcpOptions { handshake_timeout, ..TcpOptions::default() };
    let one = support::tcp_with(samples::hello(1), listener, &[(3, nobody)], options);
    let one = Node::start(one, anyone());
    let mut socket = TcpStream::connect(at).unwrap();
    let hello = wire::encode_hello(&hello_of_three());
    let start = Instant::now();
    let mut cut = false;
    for byte in hello.iter().cycle().take(hello.len() - 1) {
        cut = socket.write_all(&[*byte]).is_err();
        if cut {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(cut || support::is_closed_by_peer(&mut socket));
    assert!(handshake_timeout <= start.elapsed() && start.elapsed() < support::LIMIT);
    assert!(one.arrivals.lock().is_empty());
    one.close();
}

#[test]
fn a_peer_that_answers_garbage_is_counted_by_who_dialed() {
    let (fake, fake_at) = support::listen();
    let (listener, _) = support::listen();
    let one = support::tcp(samples::hello(1), listener, &[(2, fake_at)]);
    let one = Node::start(one, anyone());
    let (mut socket, _) = fake.accept().unwrap();
    socket.write_all(b"SSH-2.0-OpenSSH\r\n").unwrap();
    until("counted", || one.counters(2).garbage == 1);
    assert!(!one.is_connected(2));
    one.close();
}
