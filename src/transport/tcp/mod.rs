//! Messages over TCP: one connection each way between every two replicas.
//!
//! ```text
//! send, flush                                    accept task: accepts, hears hellos
//!    |                                              |  one reader task for each connection
//!    v                                              v        |
//! outbox of the peer --------> socket . . . . . > socket ----+--> deliver
//!    ^                           |
//!    +------ dial task ----------+   connects, says hello, drains what did not fit
//! ```
//!
//! Every replica dials every peer, sends on the connection that it dialed, and receives on the one
//! that it accepted. So nobody has to agree whose connection counts, and a link that works in one
//! direction only carries that direction. A stranger is dialed, too, at the address of its hello.
//!
//! The thread that flushes writes to the socket itself. A hand-over to another thread would cost a
//! wake-up, tens of microseconds, on the path of every commit; it happens only when the socket is
//! full. On the other side the reader's thread calls `deliver` with everything that one read
//! brought, so many messages cost one turn.
//!
//! Invariants:
//! * Everything that is held for a peer, for a stranger, or for who is neither, has a bound: see
//!   [`TcpOptions`], `outbox`, `peers` and `acceptor`.
//! * A peer that ends, lies in its bytes, or does not read costs its own connection and no other.
//! * After [`Tcp::close`] every task returns as soon as what it called returns.
//!
//! Not here: encryption and proof of identity. A hello is believed, and its address is dialed, so
//! the network between the replicas must be one that only replicas can reach.

mod acceptor;
mod dialer;
mod outbox;
mod peer;
mod peers;
mod socket;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use self::peer::Peer;
use self::peers::spawn_dialer;
use self::socket::Waker;
use super::{Arrival, Link, PeerCounters, Refusal, Refused, Task, Transport};
use crate::types::hello::Hello;
use crate::types::ids::{ClusterId, ReplicaId};
use crate::types::message::Envelope;

/// The transport over TCP.
pub struct Tcp {
    shared: Arc<Shared>,
    /// Where to listen, until that has begun.
    listen: Mutex<Listen>,
    local_address: OnceLock<SocketAddr>,
}

/// Limits and times of [`Tcp`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// Bytes that wait for one peer, at most: half of them for entries on their way, half for
    /// catching it up; beyond that messages are dropped, and protocol messages are sent again when
    /// it is time. On top come 1 MiB for small messages, 256 KiB that are being sent, and one
    /// message each of any size, so that a low bound stops none.
    pub peer_queue_bytes_max: usize,
    /// How long to wait for a connection. A name is resolved before, which takes as long as the
    /// system wants it to take.
    pub connect_timeout: Duration,
    /// How long to wait for a hello; then the connection is dropped.
    pub handshake_timeout: Duration,
    /// The pause before connecting again, at first; it doubles with each attempt that fails.
    pub backoff_min: Duration,
    /// The longest pause before connecting again. It ends early when the peer connects to us.
    pub backoff_max: Duration,
    /// How long sent bytes may stay without acknowledgement before the connection is given up.
    /// Only where the system can do that (Linux).
    pub unacknowledged_timeout: Duration,
    /// How long a stranger whose connection ended is still dialed, and keeps its place.
    pub stranger_linger: Duration,
}

/// Longer than any pause before connecting again: who only lost its connection is back by then.
const STRANGER_LINGER: Duration = Duration::from_secs(10);

enum Listen {
    At(String),
    On(TcpListener),
    Begun,
}

/// What the tasks work with.
struct Shared {
    replica: ReplicaId,
    options: TcpOptions,
    hello: Mutex<Hello>,
    /// Peers and strangers.
    peers: RwLock<BTreeMap<ReplicaId, Arc<Peer>>>,
    unknown: Unknown,
    /// From the start to the end; dropped then, because what it calls may own this transport.
    link: Mutex<Option<Link>>,
    accept_waker: Waker,
    closing: AtomicBool,
}

/// Counts for connections of who is not let in, or not known.
#[derive(Default)]
struct Unknown {
    dropped: AtomicU64,
    garbage: AtomicU64,
    refused: Mutex<Option<Refusal>>,
}

impl Tcp {
    /// A transport that will listen at `listen` and connect to `peers`; the own id among them is
    /// passed over. Nothing happens before [`Transport::start`].
    ///
    /// # Errors
    ///
    /// Where there are no file descriptors left.
    pub fn new(
        hello: Hello,
        listen: impl Into<String>,
        peers: Vec<(ReplicaId, String)>,
        options: TcpOptions,
    ) -> io::Result<Self> {
        Self::build(hello, Listen::At(listen.into()), peers, options)
    }

    /// Like [`Tcp::new`], on a port that is open already: for addresses that are known only then,
    /// as those with port 0 are.
    ///
    /// # Errors
    ///
    /// Where there are no file descriptors left.
    pub fn with_listener(
        hello: Hello,
        listener: TcpListener,
        peers: Vec<(ReplicaId, String)>,
        options: TcpOptions,
    ) -> io::Result<Self> {
        Self::build(hello, Listen::On(listener), peers, options)
    }

    /// The address that is listened at, once [`Transport::start`] has returned.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_address.get().copied()
    }

    fn build(
        hello: Hello,
        listen: Listen,
        peers: Vec<(ReplicaId, String)>,
        options: TcpOptions,
    ) -> io::Result<Self> {
        let shared = Shared {
            replica: hello.replica,
            options,
            hello: Mutex::new(hello),
            peers: RwLock::default(),
            unknown: Unknown::default(),
            link: Mutex::new(None),
            accept_waker: Waker::new()?,
            closing: AtomicBool::new(false),
        };
        let (listen, local_address) = (Mutex::new(listen), OnceLock::new());
        let tcp = Self { shared: Arc::new(shared), listen, local_address };
        tcp.set_peers(peers);
        Ok(tcp)
    }
}

impl Transport for Tcp {
    fn start(&self, link: Link) -> io::Result<()> {
        let mut listen = self.listen.lock();
        if self.shared.is_closing() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let listener = match &*listen {
            Listen::At(address) => TcpListener::bind(address.as_str())
                .map_err(|err| io::Error::new(err.kind(), format!("{address}: {err}")))?,
            Listen::On(listener) => listener.try_clone()?,
            Listen::Begun => return Err(io::ErrorKind::AlreadyExists.into()),
        };
        listener.set_nonblocking(true)?;
        let _ = self.local_address.set(listener.local_addr()?);
        *listen = Listen::Begun;
        // Under the lock of the peers, so that none is dialed twice or never. Where no thread can
        // be had, the spawner closes this at once, and takes the same locks.
        let peers = self.shared.peers.write();
        *self.shared.link.lock() = Some(link.clone());
        let known = peers.values().cloned().collect::<Vec<_>>();
        drop((peers, listen));
        for peer in known {
            let _ = spawn_dialer(&self.shared, &link, &peer, true);
        }
        let shared = Arc::clone(&self.shared);
        let deliver = link.clone();
        let run = Box::new(move || acceptor::run(&shared, &deliver, &listener));
        let _ = (link.spawn)(Task { name: "accept".into(), is_vital: true, run });
        Ok(())
    }

    fn send(&self, envelope: Envelope) {
        match self.shared.peers.read().get(&envelope.to) {
            Some(peer) => peer.push(&envelope.message),
            None => {
                self.shared.unknown.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn flush(&self) {
        self.shared.peers.read().values().for_each(|peer| peer.flush());
    }

    fn set_hello(&self, hello: Hello) {
        assert!(
            hello.replica == self.shared.replica,
            "replica {} says the hello of {}",
            self.shared.replica,
            hello.replica
        );
        *self.shared.hello.lock() = hello;
    }

    fn set_peers(&self, peers: Vec<(ReplicaId, String)>) {
        self.shared.set_peers(peers);
    }

    fn close(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // A port that was never listened at is given back too.
        *self.listen.lock() = Listen::Begun;
        let peers = self.shared.peers.write();
        let link = self.shared.link.lock().take();
        peers.values().for_each(|peer| peer.retire());
        drop(peers);
        self.shared.accept_waker.wake();
        // What it calls may own other things that end with it; no lock is held then.
        drop(link);
    }

    fn counters(&self) -> Vec<PeerCounters> {
        let unknown = self.shared.unknown.counters();
        let known: Vec<_> = self.shared.peers.read().values().cloned().collect();
        unknown.into_iter().chain(known.iter().map(|peer| peer.counters())).collect()
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    fn hello(&self) -> Hello {
        self.hello.lock().clone()
    }

    fn cluster(&self) -> ClusterId {
        self.hello.lock().cluster
    }

    /// Whether to talk to who says this hello.
    fn judge(&self, hello: &Hello) -> Result<(), Refusal> {
        self.check_ends(hello)?;
        // Without a link everything is ending, and nothing is received or sent any more.
        let link = self.link.lock().clone();
        link.map_or(Ok(()), |link| (link.admit)(hello))
    }

    /// Whether a hello is somebody else's, and meant for this replica.
    fn check_ends(&self, hello: &Hello) -> Result<(), Refusal> {
        if hello.replica == self.replica {
            return Err(Refusal::SelfConnection);
        }
        if hello.receiver != self.replica {
            return Err(Refusal::WrongReceiver);
        }
        match self.hello().protocols.common(hello.protocols) {
            Some(_) => Ok(()),
            None => Err(Refusal::NoCommonProtocol),
        }
    }

    /// A peer remembers a later state of this replica's directory.
    fn tell_fenced(&self, by: ReplicaId) {
        let link = self.link.lock().clone();
        if let Some(link) = link {
            (link.deliver)(vec![Arrival::Fenced { by }]);
        }
    }
}

impl Unknown {
    fn count_garbage(&self) {
        self.garbage.fetch_add(1, Ordering::Relaxed);
    }

    fn note_refusal(&self, refusal: Refusal) {
        *self.refused.lock() = Some(refusal);
    }

    /// One row, with 0 as its peer, where there is something to tell.
    fn counters(&self) -> Option<PeerCounters> {
        let counters = PeerCounters {
            dropped: self.dropped.load(Ordering::Relaxed),
            garbage: self.garbage.load(Ordering::Relaxed),
            refused: self.refused.lock().clone().map(|why| Refused { why, by_peer: false }),
            ..PeerCounters::default()
        };
        (counters != PeerCounters::default()).then_some(counters)
    }
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            peer_queue_bytes_max: 32 * 1024 * 1024,
            connect_timeout: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(2),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(1),
            unacknowledged_timeout: Duration::from_secs(10),
            stranger_linger: STRANGER_LINGER,
        }
    }
}

impl fmt::Debug for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tcp").field("replica", &self.shared.replica).finish_non_exhaustive()
    }
}
