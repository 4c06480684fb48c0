//! How messages travel between replicas.
//!
//! A transport may lose, delay, duplicate and reorder messages. It never corrupts one, and never
//! says that a message came from another replica than the one that the connection's hello named.
//! It spawns nothing, reads no clock, and calls nothing in the layers above but the functions in
//! [`Link`]: its loops are [`Task`]s, and `runtime/threads.rs` runs them and tells them the time.
//!
//! It connects to its *peers*, the other members of the cluster, who may change while it runs. A
//! *stranger* is who is no peer, dials this replica, and is admitted all the same: a replica that
//! wants to join, one that slept through changes of the membership, or one that was removed and
//! does not know. It is talked to as a peer is, but only as long as it is there. At most
//! [`STRANGERS_MAX`] are let in at a time. One that is gone makes room for another, the one that is
//! gone for longest first; but where all are there the newcomer is refused: otherwise a few too
//! many of them would push one another out without end, a thread or two each time, and none of them
//! would ever get what it came for.
//!
//! [`STRANGERS_MAX`]: crate::types::limits::STRANGERS_MAX

pub mod memory;
pub mod tcp;
pub mod wire;

use std::fmt;
use std::sync::Arc;

use crate::types::hello::Hello;
use crate::types::ids::{Boot, ReplicaId};
use crate::types::message::{Envelope, Message};
use crate::types::time::Moment;

/// Sends messages to peers, and delivers what they send.
pub trait Transport: Send + Sync + 'static {
    /// Begins to listen and to connect. What must run meanwhile is handed to [`Link::spawn`].
    /// Peers are those that [`Transport::set_peers`] named, or the transport was made with.
    ///
    /// # Errors
    ///
    /// Where the listening address cannot be used.
    fn start(&self, link: Link) -> std::io::Result<()>;

    /// Takes a message on its way, or drops it: where the peer is not connected, or where its
    /// queue is full. Never blocks. It may stay in a buffer until [`Transport::flush`].
    fn send(&self, envelope: Envelope);

    /// Everything taken so far leaves now, as far as it can without blocking.
    fn flush(&self);

    /// What later connections say of this replica.
    fn set_hello(&self, hello: Hello);

    /// From now on these are the peers, with where they listen; the own id among them is passed
    /// over. New ones are connected to; the connections of those that are missing end; who listens
    /// elsewhere now is connected to there. All others are not disturbed, and a stranger that
    /// becomes a peer neither. Never blocks.
    fn set_peers(&self, peers: Vec<(ReplicaId, String)>);

    /// Ends all connections and makes every task return soon.
    fn close(&self);

    /// What was counted for each peer so far.
    fn counters(&self) -> Vec<PeerCounters>;
}

/// What a transport is given to work with.
#[derive(Clone)]
pub struct Link {
    /// Takes what arrived, in order for one connection. May run a turn of the replica.
    pub deliver: Arc<dyn Fn(Vec<Arrival>) + Send + Sync>,
    /// Whether to talk to a replica that says this hello. One that is admitted and is no peer is a
    /// stranger: it is connected to at the address of its hello, as long as it is there.
    pub admit: Arc<Admit>,
    /// Runs a task on a thread of its own; `false` where none can be had. Of a vital one, that ends
    /// the replica.
    pub spawn: Arc<Spawn>,
    /// Tells the time, also after [`Transport::close`], until every task has returned.
    pub clock: Arc<Clock>,
}

/// Judges a hello.
pub type Admit = dyn Fn(&Hello) -> Result<(), Refusal> + Send + Sync;

/// Runs a task; see [`Link::spawn`].
pub type Spawn = dyn Fn(Task) -> bool + Send + Sync;

/// Tells the time: deadlines and pauses are measured by it.
pub type Clock = dyn Fn() -> Moment + Send + Sync;

/// A loop of a transport.
pub struct Task {
    /// What the thread is called.
    pub name: String,
    /// Whether the replica is of no use without it. Without another one, a connection ends, which
    /// its other end brings about anew.
    pub is_vital: bool,
    /// Returns soon after [`Transport::close`].
    pub run: Box<dyn FnOnce() + Send>,
}

/// Something that a peer did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It sent a message.
    Message {
        /// The sender, as its hello said.
        from: ReplicaId,
        /// The opening of its directory, as the same hello said.
        boot: Boot,
        /// What it said.
        message: Message,
    },
    /// Its last connection ended: nothing more will come of what was said before.
    Down {
        /// The peer.
        peer: ReplicaId,
    },
    /// It refused this replica as [`Refusal::Regressed`].
    Fenced {
        /// The peer.
        by: ReplicaId,
    },
}

/// Why a connection was refused at hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The peer belongs to another cluster.
    WrongCluster,
    /// The peer is no member of this cluster, and does not know which cluster it is.
    UnknownReplica,
    /// The peer meant to reach another replica.
    WrongReceiver,
    /// The address leads back to this replica.
    SelfConnection,
    /// The peer's directory is not the one that the membership names.
    WrongIncarnation,
    /// The peer's directory was seen with a higher boot counter or a later frontier: it is a copy
    /// or an old state.
    Regressed,
    /// The peer is no member of this cluster, and as many strangers as there may be are there.
    TooManyStrangers,
    /// There is no protocol that both speak: one of the two is too old.
    NoCommonProtocol,
    /// A reason that this build does not know, by its number.
    Unknown(u8),
}

/// A hello that was refused, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why: it is said of the one whose hello it was.
    pub why: Refusal,
    /// Whether the peer refused this replica. Else this replica refused the peer.
    pub by_peer: bool,
}

/// What a transport counted for one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCounters {
    /// The peer. A row for 0 stands for everyone who was not let in, or never said who it is.
    pub peer: ReplicaId,
    /// Whether it is no peer, but was let in.
    pub stranger: bool,
    /// Whether connections stand, both ways.
    pub connected: bool,
    /// Bytes waiting to be sent.
    pub queued_bytes: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// Messages dropped because there was no connection, or no room in the queue.
    pub dropped: u64,
    /// Connections ended because of bytes that are no message.
    pub garbage: u64,
    /// The last hello from or to this peer that was refused, since one from here was taken.
    pub refused: Option<Refused>,
    /// Where the last attempt to connect to it went, and why it came to nothing; `None` where it
    /// did not.
    pub unreached: Option<String>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown(code) => return write!(f, "for reason {code}, which is not known here"),
            Self::NoCommonProtocol => "it speaks no protocol that the other one speaks",
            Self::WrongCluster => "it belongs to another cluster",
            Self::UnknownReplica => "it is no member of this cluster",
            Self::WrongReceiver => "it meant to reach another replica",
            Self::SelfConnection => "the address leads back to this replica",
            Self::WrongIncarnation => {
                "its directory is not the one that the membership names: a new one takes a new id"
            }
            Self::Regressed => "its directory is a copy, or was set back to an earlier state",
            Self::TooManyStrangers => {
                "it is no member of this cluster, and too many others are not"
            }
        })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { why, by_peer } = self;
        if *by_peer { write!(f, "it says of this replica: {why}") } else { why.fmt(f) }
    }
}
