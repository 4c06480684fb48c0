//! A lone replica as it ships, which others reach: who is a stranger to it, and who is refused.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use indelible::ReplicaId;
use indelible::journal;
use indelible::runtime::handle::Handle;
use indelible::runtime::opening::{Opening, Reach};
use indelible::runtime::{batcher, turn};
use indelible::transport::Refusal;
use indelible::transport::wire::{self, Decoder, Frame};
use indelible::types::edition::Edition;
use indelible::types::hello::Hello;
use indelible::types::ids::{Boot, ClusterId, Incarnation};
use indelible::types::limits::{SESSION_WINDOW, SESSIONS_MAX};
use indelible::types::membership::Member;

use crate::samples;
use crate::support::{self, until};

fn options() -> turn::Options {
    turn::Options {
        id: ReplicaId(1),
        voters: Vec::new(),
        join: None,
        checkpoint_bytes: u64::MAX,
        history_bytes_min: u64::MAX,
        checkpoint_bytes_per_second: 1 << 30,
        quorums: None,
        sessions_max: SESSIONS_MAX,
        request_timeout: Duration::from_secs(10),
        session_window: SESSION_WINDOW,
        queued_bytes_max: 1 << 20,
        queued_transactions_max: 1 << 12,
        waiting_reads_max: 1 << 12,
        journal_backlog_bytes_max: 1 << 20,
        heartbeat_interval: Duration::from_millis(50),
        election_timeout: Duration::from_millis(500),
        retransmit_interval: Duration::from_millis(100),
        priority: 0,
        knows: Edition::KNOWN,
        read_lease: None,
        inflight_slots_max: 16,
        inflight_bytes_max: 1 << 20,
        message_bytes_max: 1 << 20,
        seal_after: Duration::from_secs(60),
        batcher: batcher::Options {
            commands_max: 8,
            bytes_max: 1 << 16,
            eager_bytes: 1 << 12,
            inflight_max: 2,
            gather: Duration::from_micros(100),
        },
    }
}

/// A lone replica that listens, and where; and the id of its cluster.
fn open(path: &Path) -> (Handle, SocketAddr, ClusterId) {
    let address = support::listen().1;
    let opening = Opening {
        journal: journal::Options { segment_bytes: 1 << 16, ..journal::Options::default() },
        driver: options(),
        reach: Reach::Tcp { listen: Some(address.to_string()), peer_queue_bytes_max: 1 << 20 },
        close_timeout: Duration::from_secs(1),
    };
    let handle = opening.open(path).unwrap();
    let identity = std::fs::read(path.join("identity")).unwrap();
    let cluster = u128::from_le_bytes(identity[16..32].try_into().unwrap());
    (handle, address, ClusterId(cluster))
}

fn call(at: SocketAddr, hello: &Hello) -> (TcpStream, Frame) {
    let mut socket = TcpStream::connect(at).unwrap();
    socket.write_all(&wire::encode_hello(hello)).unwrap();
    let mut decoder = Decoder::new();
    loop {
        let count = socket.read(decoder.room()).unwrap();
        assert!(count > 0, "no answer");
        decoder.fill(count);
        if let Some(frame) = decoder.next_frame().unwrap() {
            return (socket, frame);
        }
    }
}

#[test]
fn who_knows_the_cluster_is_a_stranger_and_is_dialed_back() {
    let directory = tempfile::tempdir().unwrap();
    let (handle, at, cluster) = open(directory.path());
    let (listener, address) = support::listen();
    let hello = Hello {
        cluster,
        receiver: ReplicaId(1),
        address: address.to_string(),
        ..samples::hello(7)
    };
    let foreign = Hello { cluster: ClusterId(cluster.0 ^ 1), ..hello.clone() };
    assert_eq!(call(at, &foreign).1, Frame::Refused(Refusal::WrongCluster));
    let blank = Hello { cluster: ClusterId::UNFORMED, ..hello.clone() };
    assert_eq!(call(at, &blank).1, Frame::Refused(Refusal::UnknownReplica));
    assert_eq!(handle.strangers(), []);

    let (to_one, answer) = call(at, &hello);
    let Frame::Hello(answer) = answer else { panic!("refused: {answer:?}") };
    assert_eq!((answer.cluster, answer.replica), (cluster, ReplicaId(1)));
    // It is dialed, and what dials says who it is.
    let (mut from_one, _) = listener.accept().unwrap();
    let mut decoder = Decoder::new();
    let said = loop {
        let count = from_one.read(decoder.room()).unwrap();
        decoder.fill(count);
        if let Some(Frame::Hello(said)) = decoder.next_frame().unwrap() {
            break said;
        }
    };
    assert_eq!((said.replica, said.receiver, said.boot), (ReplicaId(1), ReplicaId(7), answer.boot));
    from_one.write_all(&wire::encode_hello(&hello)).unwrap();
    let incarnation = Incarnation(7);
    let member = Member { id: ReplicaId(7), incarnation, address: address.to_string() };
    until("it is told", || handle.strangers() == [member.clone()]);

    let (report, counters) = handle.report();
    assert!(report.peers.is_empty(), "{report:?}");
    assert!(counters.iter().any(|row| row.peer == ReplicaId(7) && row.stranger), "{counters:?}");
    // A copy of its directory, opened as often, is found out.
    let copy = Hello { boot: Boot { nonce: 8, ..hello.boot }, ..hello.clone() };
    assert_eq!(call(at, &copy).1, Frame::Refused(Refusal::Regressed));
    until("none of the two is told", || handle.strangers().is_empty());
    drop(to_one);
    handle.close().unwrap();
}
