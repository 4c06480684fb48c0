//! What a replica tells about itself, on one line or field by field.

use std::fmt;
use std::time::Duration;

use crate::runtime::report::{PeerReport, Report, RoleName};
use crate::store::Store;
use crate::transport::{PeerCounters, Refused};
use crate::types::edition::Edition;
use crate::types::ids::{ReplicaId, Slot, TxId};
use crate::types::membership::{Member, Membership};

/// What a replica tells about itself at one moment. [`Display`](fmt::Display) puts it on one line.
///
/// ```
/// use indelible::{Replica, Role};
///
/// # fn main() -> indelible::Result<()> {
/// let replica = Replica::in_memory()?;
/// replica.wait_ready(std::time::Duration::from_secs(10))?;
/// let status = replica.status();
/// assert_eq!(status.role, Role::Leader);
/// println!("{status}");
/// # replica.close()
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// This replica.
    pub id: ReplicaId,
    /// What it does besides voting.
    pub role: Role,
    /// The leader that it follows or is; `None` while it knows none.
    pub leader: Option<ReplicaId>,
    /// The round of the leader's ballot: it grows with every change of the leader. 0 while none is
    /// known.
    pub round: u64,
    /// Whether it leads, and may serve reads.
    pub ready: bool,
    /// Its [priority](crate::Config::priority).
    pub priority: u32,
    /// The [edition](crate::Edition) of the ledger; 0 before the cluster is formed.
    pub edition: Edition,
    /// The slots below are known to be chosen here.
    pub slot_chosen: u64,
    /// The slots below are applied here.
    pub slot_applied: u64,
    /// The slots below were trimmed: their transactions cannot be read here any more.
    pub slot_trimmed: u64,
    /// The newest of the transactions that were trimmed: given to
    /// [`transactions`](crate::Replica::transactions), it has all read that there are.
    pub txid_trimmed: TxId,
    /// The state below this slot is in a checkpoint: an opening applies only what is behind it.
    pub slot_checkpointed: u64,
    /// The newest transaction that is applied here.
    pub txid: TxId,
    /// The digest of the state: replicas with the same `slot_applied` have the same digest.
    pub digest: u128,
    /// How many more voters may fall silent so that a leader can still be elected, and write; of
    /// those that reach this replica and are reached by it. `None` where those are too few for that
    /// already, or the cluster is not formed. With other quorums than majorities, one that leads
    /// may go on with fewer.
    pub failures_tolerated: Option<usize>,
    /// The other members, voters and observers.
    pub peers: Vec<PeerStatus>,
    /// Who was opened to [join](crate::Builder::join), or is here though it is no member (any
    /// more): [`add_observer`](crate::Replica::add_observer) takes it in. At most 16.
    pub applicants: Vec<Member>,
    /// How many connections from replicas that were not let in, or that never said who they are,
    /// were ended because of bytes that are no message.
    pub strangers_garbage: u64,
    /// Why the last hello from a replica that was not let in was refused, or one from another
    /// directory or cluster under the id of a peer that is connected; `None` if none was.
    pub strangers_refused: Option<String>,
    /// A replica that reached this one, is no member, and cannot be connected to at the address
    /// that it was opened with: its id, that address, and why. It is no applicant before that
    /// works. One of them, if there are several; `None` if there is none.
    pub strangers_unreached: Option<String>,
    /// Bytes of transactions that wait for a slot.
    pub queued_bytes: usize,
    /// Calls that wait for their answer, but for those that wait for another leader or for a
    /// backup.
    pub waiting: usize,
    /// How many rounds of confirmation this opening began as a leader, each for all reads that
    /// waited. Under a [lease](crate::Config::read_lease) there are none.
    pub read_rounds: u64,
    /// How long a [lease](crate::Config::read_lease) still keeps this replica from campaigning and
    /// from promising: one that it granted, to anybody but its holder; one that it may have granted
    /// before it was opened, to anybody. Zero where none does. As of its last turn.
    pub bound_for: Duration,
    /// Bytes of the journal's files, those made ahead included; 0 before the cluster is formed.
    pub journal_bytes: u64,
    /// Why this replica stopped; or what is in its way: it fetches what its journal lost, or a
    /// checkpoint where it lags too far behind, its disk is full, its directory was set back or
    /// copied, its promise is lost, an entry cannot be read, the cluster does not form, it is no
    /// member yet, or was removed and waits until the others know. While it knows no leader, also
    /// which peers refuse it or cannot be connected to. Of several reasons of its own, the gravest.
    /// That a checkpoint could not be read for a peer may be told longer than it is so. `None`
    /// where nothing is in the way.
    pub trouble: Option<String>,
}

/// What a replica knows of a peer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerStatus {
    /// The peer.
    pub id: ReplicaId,
    /// Whether it was heard within the election timeout.
    pub heard: bool,
    /// The [priority](crate::Config::priority) that it told; 0 while it was not heard.
    pub priority: u32,
    /// The highest [edition](crate::Edition) that its build knows, as it told; 0 while it was not
    /// heard.
    pub knows: Edition,
    /// How far it said that it knows the log.
    pub slot_chosen: u64,
    /// Whether connections stand both ways.
    pub connected: bool,
    /// Bytes that wait to be sent to it.
    pub queued_bytes: u64,
    /// Messages to it that were dropped: it was not connected, or did not keep up. What matters of
    /// them is sent again.
    pub dropped: u64,
    /// Connections that were ended because of bytes that are no message.
    pub garbage: u64,
    /// Why the last hello from it or to it was refused, if one was since a connection to it was
    /// made. One from another directory or cluster under its id, while it is connected, is told in
    /// [`strangers_refused`](Status::strangers_refused).
    pub refused: Option<String>,
    /// At which address the last attempt to connect to it was made, and why it came to nothing;
    /// `None` where it did not.
    pub unreached: Option<String>,
}

/// What a replica does besides voting and learning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// The cluster is not formed yet: not all voters were seen.
    Forming,
    /// It fetches what its journal lost, before it takes part again.
    Repairing,
    /// It follows a leader, or waits for one.
    Follower,
    /// It tries to lead.
    Candidate,
    /// It leads.
    Leader,
    /// It was closed, was removed from the cluster, knows too little of a later release's format,
    /// or failed for good; [`trouble`](Status::trouble) says which.
    Stopped,
}

impl Status {
    pub(crate) fn new(
        report: &Report,
        counters: &[PeerCounters],
        applicants: Vec<Member>,
        store: &Store,
    ) -> Self {
        let (Slot(slot_applied), txid, digest) = store.digest();
        let view = report.view;
        let role = match (&report.stopped, view) {
            (Some(_), _) => Role::Stopped,
            (None, None) if report.cluster.is_some() => Role::Repairing,
            (None, None) => Role::Forming,
            (None, Some(view)) => view.role.into(),
        };
        let peers = report.peers.iter().map(|peer| {
            let counters = counters.iter().find(|counters| counters.peer == peer.id).cloned();
            PeerStatus::new(peer, counters.unwrap_or_default())
        });
        let strangers = counters.iter().find(|counters| counters.peer == ReplicaId(0));
        let serving = view.filter(|_| report.stopped.is_none());
        let leader = serving.and_then(|view| view.leader);
        Self {
            id: report.id,
            role,
            leader: leader.map(|ballot| ballot.leader),
            round: leader.map_or(0, |ballot| ballot.round),
            ready: serving.is_some_and(|view| view.ready),
            priority: report.priority,
            edition: report.membership.as_ref().map_or(Edition(0), Membership::edition),
            slot_chosen: view.map_or(0, |view| view.slot_chosen.0),
            slot_applied,
            slot_trimmed: report.slot_trimmed.0,
            txid_trimmed: store.floor(),
            slot_checkpointed: report.slot_checkpointed.0,
            txid,
            digest,
            failures_tolerated: report.failures_tolerated,
            peers: peers.collect(),
            applicants,
            strangers_garbage: strangers.map_or(0, |strangers| strangers.garbage),
            strangers_refused: strangers
                .and_then(|strangers| strangers.refused.as_ref())
                .map(ToString::to_string),
            strangers_unreached: counters.iter().filter(|row| row.stranger).find_map(|row| {
                Some(format!("replica {} at {}", row.peer, row.unreached.as_ref()?))
            }),
            queued_bytes: report.queued_bytes,
            waiting: report.waiting,
            read_rounds: report.read_rounds,
            bound_for: report.bound_for,
            journal_bytes: report.journal_bytes,
            trouble: trouble(report, counters),
        }
    }
}

impl PeerStatus {
    fn new(report: &PeerReport, counters: PeerCounters) -> Self {
        let PeerReport { id, heard, priority, knows, slot_chosen: Slot(slot_chosen) } = *report;
        let PeerCounters { connected, queued_bytes, dropped, garbage, .. } = counters;
        let PeerCounters { refused, unreached, .. } = counters;
        let refused = refused.map(|refusal: Refused| refusal.to_string());
        Self {
            id,
            heard,
            priority,
            knows,
            slot_chosen,
            connected,
            queued_bytes,
            dropped,
            garbage,
            refused,
            unreached,
        }
    }
}

/// What is in the way: as the replica sees it, or as its peers told it; and whom it cannot reach,
/// where it knows no leader.
fn trouble(report: &Report, counters: &[PeerCounters]) -> Option<String> {
    let leaderless = report.view.is_none_or(|view| view.leader.is_none());
    let is_peer =
        |row: &&PeerCounters| row.peer != ReplicaId::default() && !row.stranger && !row.connected;
    let peers = counters.iter().filter(is_peer);
    let peers = peers.filter(|_| leaderless && report.stopped.is_none()).collect::<Vec<_>>();
    let refused = peers.iter().find_map(|row| {
        let refusal = row.refused.as_ref()?;
        Some(format!("no connection with replica {}: {refusal}", row.peer))
    });
    let unreached = peers.iter().filter(|row| row.refused.is_none()).filter_map(|row| {
        let why = row.unreached.as_ref()?;
        Some(format!("cannot connect to replica {} at {why}", row.peer))
    });
    let all = refused.or_else(|| report.in_the_way()).into_iter().chain(unreached);
    let all = all.collect::<Vec<_>>();
    (!all.is_empty()).then(|| all.join("; "))
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, role, round, slot_chosen, slot_applied, txid, .. } = self;
        write!(f, "replica {id} {role}")?;
        match self.leader {
            Some(leader) => write!(f, " leader={leader} round={round}")?,
            None => f.write_str(" leader=none")?,
        }
        if self.priority > 0 {
            write!(f, " priority={}", self.priority)?;
        }
        write!(f, " txid={txid} chosen={slot_chosen} applied={slot_applied}")?;
        write!(f, " checkpointed={} trimmed={}", self.slot_checkpointed, self.slot_trimmed)?;
        match self.failures_tolerated {
            Some(more) => write!(f, " tolerates={more}")?,
            None => f.write_str(" tolerates=none, no quorum")?,
        }
        write!(f, " waiting={} journal={}B", self.waiting, self.journal_bytes)?;
        write!(f, " edition={}", self.edition)?;
        if self.leader.is_none() && !self.bound_for.is_zero() {
            write!(f, " bound_for={:?}", self.bound_for)?;
        }
        for peer in &self.peers {
            let heard = if peer.heard { "heard" } else { "silent" };
            write!(f, " peer {}={heard}@{}", peer.id, peer.slot_chosen)?;
            if peer.priority > 0 {
                write!(f, " (priority {})", peer.priority)?;
            }
            if peer.heard && peer.knows != self.edition {
                write!(f, " (knows edition {})", peer.knows)?;
            }
            if let Some(refused) = &peer.refused {
                write!(f, " (refused: {refused})")?;
            } else if let Some(unreached) = &peer.unreached {
                write!(f, " (not reached: {unreached})")?;
            }
        }
        for applicant in &self.applicants {
            write!(f, " applicant {}={}", applicant.id, applicant.address)?;
        }
        if self.strangers_garbage > 0 {
            write!(f, " strangers' garbage={}", self.strangers_garbage)?;
        }
        if let Some(refused) = &self.strangers_refused {
            write!(f, " stranger refused: {refused}")?;
        }
        if let Some(unreached) = &self.strangers_unreached {
            write!(f, " stranger not reached: {unreached}")?;
        }
        match &self.trouble {
            Some(trouble) => write!(f, " trouble: {trouble}"),
            None => Ok(()),
        }
    }
}

impl From<RoleName> for Role {
    fn from(role: RoleName) -> Self {
        match role {
            RoleName::Follower => Self::Follower,
            RoleName::Candidate => Self::Candidate,
            RoleName::Leader => Self::Leader,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forming => "forming",
            Self::Repairing => "repairing",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Stopped => "stopped",
        })
    }
}
