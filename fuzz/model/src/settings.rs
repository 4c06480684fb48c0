//! What is explored: how large the cluster's world is, and which mistake it makes.

use indelible::types::message::Doubt;

use crate::bugs::Bug;
use crate::past::Past;

/// How many replicas there are, at most.
pub const REPLICAS: usize = 5;

/// How many of them campaign, crash and read, at most: the first ones.
pub const ACTIVE: usize = 3;

/// One configuration. Where a bound is zero, what it bounds does not happen.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name in reports.
    pub name: &'static str,
    /// How many vote at first. Those who are to vote later observe till then.
    pub voters: usize,
    /// Slots that entries are proposed in: 1 to this number. Slot 0 holds the first membership.
    pub slots: u64,
    /// Who may vote after a change of the membership: any leader may ask for any of these, where it
    /// may follow. None where the membership stays as it is.
    pub successors: &'static [&'static [u64]],
    /// How many changes are asked for, by all leaders together.
    pub changes_max: u8,
    /// See [`Membership`](indelible::types::membership::Membership).
    pub alpha: u64,
    /// How often each replica campaigns.
    pub campaigns: [u8; ACTIVE],
    /// How often replicas campaign, all together.
    pub campaigns_max: u8,
    /// How often each replica crashes.
    pub crashes: [u8; ACTIVE],
    /// How often replicas crash, all together.
    pub crashes_max: u8,
    /// How many of those crashes damage a durable vote.
    pub damages_max: u8,
    /// What an opening makes of such damage.
    pub damages: &'static [Doubt],
    /// Whether a crash may tear what was being written.
    pub tears: bool,
    /// Whether the damage may be to the promise, instead of a vote.
    pub loses_promise: bool,
    /// How many states of peers each replica takes in.
    pub installs: [u8; REPLICAS],
    /// How many states are taken in, by all replicas together.
    pub installs_max: u8,
    /// How many linearizable reads begin at each replica.
    pub reads: [u8; ACTIVE],
    /// How many rounds of confirmation a leader begins in one opening. Copies of a question make
    /// it begin ever more of them.
    pub rounds_max: u64,
    /// At which replicas syncs are steps of their own: one record each. At the others every record
    /// is durable at once.
    pub syncs: [bool; ACTIVE],
    /// Which heartbeats travel.
    pub heartbeats: Heartbeats,
    /// Whether everything that is not answered may be sent again at any time.
    pub retransmits: bool,
    /// Whether the network forgets letters that can change nothing any more.
    pub forgets_stale: bool,
    /// Whether nothing counts but what is seen from outside: two outcomes, or a stale read.
    pub outcomes_only: bool,
    /// What happened before. The bounds include it.
    pub past: Vec<Past>,
    /// What is done wrong, on purpose.
    pub bug: Option<Bug>,
}

/// Which heartbeats travel. They carry ballots, and how far the log is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeats {
    /// None: all are lost.
    None,
    /// Those of leaders.
    OfLeaders,
    /// Those of everyone.
    All,
}

impl Settings {
    /// Two proposers, each with one campaign; no crash, no read, no heartbeat.
    #[must_use]
    pub fn new(name: &'static str, slots: u64) -> Self {
        Self {
            name,
            voters: 3,
            slots,
            successors: &[],
            changes_max: 1,
            alpha: slots,
            campaigns: [1, 1, 0],
            campaigns_max: 2,
            crashes: [0; ACTIVE],
            crashes_max: 0,
            damages_max: 0,
            damages: &[],
            tears: false,
            loses_promise: false,
            installs: [0; REPLICAS],
            installs_max: 0,
            reads: [0; ACTIVE],
            rounds_max: 2,
            syncs: [false; ACTIVE],
            heartbeats: Heartbeats::None,
            retransmits: false,
            forgets_stale: true,
            outcomes_only: false,
            past: Vec::new(),
            bug: None,
        }
    }

    /// Whether the membership changes.
    #[must_use]
    pub fn changes(&self) -> bool {
        !self.successors.is_empty()
    }

    /// Whether it is looked at who says that a change is established. Where a mistake is meant to
    /// break something else, it is not: what votes tell of it is left out then.
    #[must_use]
    pub fn retires(&self) -> bool {
        self.changes() && self.bug.is_none_or(Bug::retires)
    }

    /// Whether a leader has to say so somewhere: something must be chosen behind the change. Where
    /// nobody ever does, that who left is not needed holds of nothing.
    #[must_use]
    pub fn establishes(&self) -> bool {
        self.retires() && self.slots > 1
    }

    /// Whether a membership may govern from a later slot on than the one behind that which holds
    /// it, as a replica sees it that was opened there, or took in a state.
    #[must_use]
    pub fn governs_later(&self) -> bool {
        self.crashes_max > 0 || self.installs_max > 0
    }

    /// How many replicas something can happen to.
    #[must_use]
    pub fn replicas(&self) -> usize {
        let named = self.successors.iter().flat_map(|voters| voters.iter());
        named.map(|id| *id as usize).fold(self.voters, usize::max)
    }

    /// Whether reads begin.
    #[must_use]
    pub fn has_reads(&self) -> bool {
        self.reads.iter().any(|reads| *reads > 0)
    }
}
