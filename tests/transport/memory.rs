//! Replicas in one process: the same rules without sockets.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use indelible::ReplicaId;
use indelible::transport::memory::{MemoryNetwork, MemoryTransport};
use indelible::transport::{Refusal, Transport};
use indelible::types::hello::Hello;
use indelible::types::ids::ClusterId;
use indelible::types::limits::STRANGERS_MAX;

use crate::samples;
use crate::support::{self, Admit, Node, anyone, until};

fn start(network: &MemoryNetwork, id: u64, admit: Admit) -> Node<MemoryTransport> {
    Node::start(network.transport(samples::hello(id)), admit)
}

fn cluster(network: &MemoryNetwork) -> Vec<Node<MemoryTransport>> {
    let nodes: Vec<_> = (1..=3).map(|id| start(network, id, anyone())).collect();
    until("connected", || {
        nodes.iter().all(|node| (1..=3).filter(|peer| node.is_connected(*peer)).count() == 2)
    });
    nodes
}

#[test]
fn every_kind_of_message_arrives_in_order() {
    let nodes = cluster(&MemoryNetwork::new());
    for message in samples::one_of_each() {
        nodes[0].send(2, message.clone());
        nodes[0].send(3, message);
    }
    let expected = samples::one_of_each();
    for node in &nodes[1..] {
        until("all arrived", || node.messages(1).len() == expected.len());
        assert_eq!(node.messages(1), expected);
        assert_eq!(node.counters(1).received, expected.len() as u64);
    }
    assert_eq!(nodes[0].counters(2).sent, expected.len() as u64);
    support::close(nodes);
}

#[test]
fn a_cut_stops_one_direction_and_is_told_once() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network);
    network.cut(ReplicaId(1), ReplicaId(2));
    network.cut(ReplicaId(1), ReplicaId(2));
    until("down", || nodes[1].downs(1) == 1);
    nodes[0].send(2, samples::numbered(1));
    nodes[1].send(1, samples::numbered(2));
    nodes[0].send(3, samples::numbered(3));
    until("the others arrived", || {
        nodes[0].messages(2).len() == 1 && nodes[2].messages(1).len() == 1
    });
    assert_eq!(nodes[0].counters(2).dropped, 1);
    assert!(!nodes[0].is_connected(2));
    network.heal(ReplicaId(1), ReplicaId(2));
    nodes[0].send(2, samples::numbered(4));
    until("arrived", || nodes[1].messages(1) == [samples::numbered(4)]);
    assert_eq!((nodes[1].downs(1), nodes[0].downs(2)), (1, 0));
    support::close(nodes);
}

#[test]
fn a_replica_that_goes_is_told_down_and_may_come_back() {
    let network = MemoryNetwork::new();
    let mut nodes = cluster(&network);
    let two = nodes.remove(1);
    assert!(
        network.transport(samples::hello(2)).start(two.link(Arc::new(|_| ()), anyone())).is_err()
    );
    two.close();
    for node in &nodes {
        until("down", || node.downs(2) == 1);
        node.send(2, samples::numbered(1));
        assert_eq!(node.counters(2).dropped, 1);
    }
    let two = start(&network, 2, anyone());
    until("connected", || nodes.iter().all(|node| node.is_connected(2)));
    nodes[0].send(2, samples::numbered(2));
    until("arrived", || two.messages(1) == [samples::numbered(2)]);
    drop(two);
    until("down", || nodes.iter().all(|node| node.downs(2) == 2));
    support::close(nodes);
}

#[test]
fn who_was_set_back_is_told() {
    let admit: Admit = Arc::new(|hello: &Hello| match hello.replica {
        ReplicaId(2) => Err(Refusal::Regressed),
        _ => Ok(()),
    });
    let network = MemoryNetwork::new();
    let one = start(&network, 1, Arc::clone(&admit));
    let two = start(&network, 2, admit);
    until("two was told", || two.is_fenced(1));
    assert!(!one.is_fenced(2) && !one.is_connected(2));
    support::close(vec![one, two]);
}

#[test]
fn hellos_are_judged_at_the_start_and_when_they_change() {
    let admit: Admit = Arc::new(|hello: &Hello| match hello.cluster {
        ClusterId(5) => Err(Refusal::WrongCluster),
        _ => Ok(()),
    });
    let network = MemoryNetwork::new();
    let one = start(&network, 1, Arc::clone(&admit));
    let mut foreign = samples::hello(2);
    foreign.cluster = ClusterId(5);
    let two = Node::start(network.transport(foreign.clone()), admit);
    until("refused", || one.refused(2) == Some(Refusal::WrongCluster));
    until("told", || two.refused(1) == Some(Refusal::WrongCluster));
    assert!(!one.is_connected(2));
    two.transport.set_hello(samples::hello(2));
    until("connected", || one.is_connected(2) && two.is_connected(1));
    assert_eq!(one.downs(2), 0);
    two.transport.set_hello(foreign);
    until("down", || one.downs(2) == 1 && two.downs(1) == 1);
    one.close();
    two.close();
}

#[test]
fn a_receiver_that_does_not_take_costs_bounded_memory() {
    const MESSAGE_BYTES: usize = 1024 * 1024;
    let network = MemoryNetwork::new();
    let one = start(&network, 1, anyone());
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = parking_lot::Mutex::new(blocked);
    let two = network.transport(samples::hello(2));
    let deliver = Arc::new(move |_| assert!(blocked.lock().recv().is_err()));
    two.start(one.link(deliver, anyone())).unwrap();
    until("connected", || one.is_connected(2));
    for number in 0..100 {
        one.send(2, samples::bulky(number, MESSAGE_BYTES));
    }
    let counters = one.counters(2);
    assert!(counters.queued_bytes <= 32 * 1024 * 1024, "{counters:?}");
    assert!(counters.dropped > 0 && counters.sent > 0, "{counters:?}");
    drop(release);
    two.close();
    one.close();
}

fn set_peers(node: &Node<MemoryTransport>, peers: &[u64]) {
    let peers = peers.iter().map(|id| (ReplicaId(*id), String::new()));
    node.transport.set_peers(peers.collect());
}

#[test]
fn who_is_removed_may_come_back_as_a_stranger_and_become_a_peer_undisturbed() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network);
    set_peers(&nodes[0], &[1, 2, 3]);
    set_peers(&nodes[0], &[1, 2]);
    until("both were told", || nodes[0].downs(3) == 1 && nodes[2].downs(1) == 1);
    until("it came back", || nodes[0].is_connected(3) && nodes[2].is_connected(1));
    assert!(nodes[0].counters(3).stranger && !nodes[0].counters(2).stranger);
    nodes[0].send(3, samples::numbered(1));
    nodes[2].send(1, samples::numbered(1));
    set_peers(&nodes[0], &[1, 2, 3]);
    assert!(!nodes[0].counters(3).stranger);
    nodes[0].send(3, samples::numbered(2));
    nodes[2].send(1, samples::numbered(2));
    let expected = [samples::numbered(1), samples::numbered(2)];
    for (node, from) in [(&nodes[0], 3), (&nodes[2], 1)] {
        until("all arrived", || node.messages(from) == expected);
        assert_eq!(node.downs(from), 1);
    }
    assert_eq!((nodes[0].downs(2), nodes[1].downs(1)), (0, 0));
    support::close(nodes);
}

#[test]
fn peers_may_change_while_a_hello_is_judged() {
    let network = MemoryNetwork::new();
    let transport: Arc<OnceLock<Weak<MemoryTransport>>> = Arc::default();
    let (judging, calls) = (Arc::clone(&transport), AtomicUsize::new(0));
    // As where the turn that admitting leads to changes the membership.
    let admit: Admit = Arc::new(move |_: &Hello| {
        if let Some(one) = judging.get().and_then(Weak::upgrade)
            && calls.fetch_add(1, Ordering::SeqCst) < 10
        {
            one.set_peers(vec![(ReplicaId(2), String::new())]);
            one.set_hello(samples::hello(1));
        }
        Ok(())
    });
    let one = start(&network, 1, admit);
    transport.set(Arc::downgrade(&one.transport)).unwrap();
    let (two, three) = (start(&network, 2, anyone()), start(&network, 3, anyone()));
    until("connected", || one.is_connected(2) && one.is_connected(3));
    assert!(one.counters(3).stranger && !one.counters(2).stranger);
    support::close(vec![one, two, three]);
}

#[test]
fn only_so_many_strangers_are_admitted_and_who_is_gone_makes_room() {
    let network = MemoryNetwork::new();
    let one = start(&network, 1, anyone());
    set_peers(&one, &[2]);
    let mut strangers: Vec<_> =
        (0..STRANGERS_MAX as u64).map(|id| start(&network, 101 + id, anyone())).collect();
    until("connected", || strangers.iter().all(|stranger| stranger.is_connected(1)));
    let one_more = start(&network, 200, anyone());
    until("refused", || one_more.refused(1) == Some(Refusal::TooManyStrangers));
    until("counted", || one.refused(0) == Some(Refusal::TooManyStrangers));
    let two = start(&network, 2, anyone());
    until("a peer is connected", || one.is_connected(2) && two.is_connected(1));
    assert!(!one_more.is_connected(1));
    strangers.pop().unwrap().close();
    until("gone", || one.downs(100 + STRANGERS_MAX as u64) == 1);
    until("there is room", || one_more.is_connected(1) && one.is_connected(200));
    support::close(strangers);
    support::close(vec![one, two, one_more]);
}

#[test]
fn strangers_that_come_and_go_leave_nothing_behind() {
    let network = MemoryNetwork::new();
    let one = start(&network, 1, anyone());
    set_peers(&one, &[]);
    for id in 101..401 {
        let stranger = start(&network, id, anyone());
        until("connected", || stranger.is_connected(1) && one.is_connected(id));
        stranger.close();
        until("gone", || one.downs(id) == 1);
    }
    let last = start(&network, 500, anyone());
    until("connected", || last.is_connected(1) && one.is_connected(500));
    until("forgotten", || one.transport.counters().len() <= 2);
    last.close();
    one.close();
}
