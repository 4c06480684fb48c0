//! Replicas that only keep what arrives.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indelible::ReplicaId;
use indelible::transport::tcp::{Tcp, TcpOptions};
use indelible::transport::{Arrival, Clock, Link, PeerCounters, Refusal, Task, Transport};
use indelible::types::hello::Hello;
use indelible::types::message::{Envelope, Message};
use indelible::types::time::Moment;
use parking_lot::Mutex;

use crate::samples;

/// Longer than anything here may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Whom a replica admits.
pub type Admit = Arc<indelible::transport::Admit>;

/// A transport, what it delivered, and the threads that it was given.
pub struct Node<T: Transport> {
    pub transport: Arc<T>,
    pub arrivals: Arc<Mutex<Vec<Arrival>>>,
    /// How often something was delivered.
    pub deliveries: Arc<AtomicUsize>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl<T: Transport> Node<T> {
    pub fn start(transport: T, admit: Admit) -> Self {
        let node = Self {
            transport: Arc::new(transport),
            arrivals: Arc::default(),
            deliveries: Arc::default(),
            threads: Arc::default(),
        };
        let (arrivals, deliveries) = (Arc::clone(&node.arrivals), Arc::clone(&node.deliveries));
        let deliver = Arc::new(move |new: Vec<Arrival>| {
            deliveries.fetch_add(1, Ordering::SeqCst);
            arrivals.lock().extend(new);
        });
        node.transport.start(node.link(deliver, admit)).unwrap();
        node
    }

    /// A link whose tasks end with this node.
    pub fn link(&self, deliver: Arc<dyn Fn(Vec<Arrival>) + Send + Sync>, admit: Admit) -> Link {
        let threads = Arc::clone(&self.threads);
        let spawn = Arc::new(move |task: Task| {
            let builder = std::thread::Builder::new().name(task.name);
            threads.lock().push(builder.spawn(task.run).unwrap());
            true
        });
        Link { deliver, admit, spawn, clock: clock() }
    }

    pub fn send(&self, to: u64, message: Message) {
        self.transport.send(Envelope { to: ReplicaId(to), message });
        self.transport.flush();
    }

    /// What arrived from `from`, without what came of connections.
    pub fn messages(&self, from: u64) -> Vec<Message> {
        let arrivals = self.arrivals.lock();
        let messages = arrivals.iter().filter_map(|arrival| match arrival {
            Arrival::Message { from: sender, message, .. } if *sender == ReplicaId(from) => {
                Some(message.clone())
            }
            Arrival::Message { .. } | Arrival::Down { .. } | Arrival::Fenced { .. } => None,
        });
        messages.collect()
    }

    pub fn downs(&self, peer: u64) -> usize {
        let down = Arrival::Down { peer: ReplicaId(peer) };
        self.arrivals.lock().iter().filter(|arrival| **arrival == down).count()
    }

    /// Whether `by` told it that its directory was set back.
    pub fn is_fenced(&self, by: u64) -> bool {
        self.arrivals.lock().contains(&Arrival::Fenced { by: ReplicaId(by) })
    }

    /// Why a hello from or to `peer` was last refused.
    pub fn refused(&self, peer: u64) -> Option<Refusal> {
        Some(self.counters(peer).refused?.why)
    }

    pub fn counters(&self, peer: u64) -> PeerCounters {
        let rows = self.transport.counters();
        rows.into_iter().find(|row| row.peer == ReplicaId(peer)).unwrap_or_default()
    }

    pub fn is_connected(&self, peer: u64) -> bool {
        self.counters(peer).connected
    }

    /// Closes, and returns how long it took until every task had returned.
    pub fn close(self) -> Duration {
        let start = Instant::now();
        self.transport.close();
        loop {
            let thread = self.threads.lock().pop();
            match thread {
                Some(thread) => thread.join().unwrap(),
                None => return start.elapsed(),
            }
        }
    }

    pub fn threads(&self) -> usize {
        self.threads.lock().iter().filter(|thread| !thread.is_finished()).count()
    }
}

/// Closes them all.
pub fn close<T: Transport>(nodes: Vec<Node<T>>) {
    for node in nodes {
        node.close();
    }
}

/// Admits everyone.
pub fn anyone() -> Admit {
    Arc::new(|_| Ok(()))
}

/// A link whose tasks nobody waits for.
pub fn link(deliver: impl Fn(Vec<Arrival>) + Send + Sync + 'static) -> Link {
    let spawn = Arc::new(|task: Task| {
        std::thread::spawn(task.run);
        true
    });
    Link { deliver: Arc::new(deliver), admit: anyone(), spawn, clock: clock() }
}

/// A clock that starts now.
pub fn clock() -> Arc<Clock> {
    let start = Instant::now();
    Arc::new(move || Moment::ZERO + start.elapsed())
}

/// Waits until `what` holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A transport for `hello` that knows `peers`.
pub fn tcp(hello: Hello, listener: TcpListener, peers: &[(u64, SocketAddr)]) -> Tcp {
    tcp_with(hello, listener, peers, TcpOptions::default())
}

pub fn tcp_with(
    hello: Hello,
    listener: TcpListener,
    peers: &[(u64, SocketAddr)],
    options: TcpOptions,
) -> Tcp {
    let peers = peers.iter().map(|(id, address)| (ReplicaId(*id), address.to_string()));
    Tcp::with_listener(hello, listener, peers.collect(), options).unwrap()
}

/// Replicas 1 to `count`, connected.
pub fn cluster(count: u64) -> Vec<Node<Tcp>> {
    cluster_with(count, &TcpOptions::default())
}

pub fn cluster_with(count: u64, options: &TcpOptions) -> Vec<Node<Tcp>> {
    let listeners: Vec<_> = (1..=count).map(|id| (id, listen())).collect();
    let peers: Vec<_> = listeners.iter().map(|(id, (_, address))| (*id, *address)).collect();
    let start = |(id, (listener, _))| {
        let hello = samples::hello(id);
        Node::start(tcp_with(hello, listener, &peers, options.clone()), anyone())
    };
    let nodes: Vec<Node<Tcp>> = listeners.into_iter().map(start).collect();
    until("connected", || {
        let ids = 1..=count;
        let pairs = ids.flat_map(|a| (1..=count).filter(move |b| a != *b).map(move |b| (a, b)));
        pairs.into_iter().all(|(a, b)| nodes[a as usize - 1].is_connected(b))
    });
    nodes
}

/// Reads until the other end closes, in bounded time; true where it did.
pub fn is_closed_by_peer(socket: &mut std::net::TcpStream) -> bool {
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut bytes = [0; 1024];
    loop {
        match io::Read::read(socket, &mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(err) => return err.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}
