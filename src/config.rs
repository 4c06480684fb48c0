//! Limits and timings, with what happens at each of them.
//!
//! The maxima of the format itself (a key, a value, a transaction, a message) are in
//! `types/limits.rs`: they cannot be set, since all replicas and all files share them.

use std::time::Duration;

use crate::types::error::{Error, ErrorKind, Result};
use crate::types::limits::{ALPHA, COMMAND_BYTES_MAX, ENTRY_COMMANDS_MAX, MESSAGE_BYTES_MAX};

/// Settings of one replica. They are its own: replicas of a cluster may differ in them.
///
/// ```
/// use std::time::Duration;
/// use indelible::{Config, Replica};
///
/// # fn main() -> indelible::Result<()> {
/// # let directory = tempfile::tempdir().expect("a temporary directory");
/// let config = Config { request_timeout: Duration::from_secs(1), ..Config::default() };
/// let replica = Replica::builder(directory.path()).config(config).open()?;
/// # replica.close()
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Every call that does not say otherwise is answered within this time: with its outcome, or as
    /// timed out where it certainly did not happen, or as unknown where it may have. Until then a
    /// transaction is handed on again where its leader is lost. Default 5 s, not zero.
    pub request_timeout: Duration,

    /// How long [`Replica::close`](crate::Replica::close) waits for transactions that were
    /// proposed or handed to a leader; then they end as unknown. Default 2 s.
    pub close_timeout: Duration,

    /// A replica that heard no leader campaigns after a random time between half of this and this.
    /// Shorter finds a lost leader sooner; shorter than a slow sync or a stalled process makes
    /// replicas campaign for nothing. Default 500 ms, at least four heartbeat intervals.
    pub election_timeout: Duration,

    /// How often a replica tells the others that it is there. Default 50 ms, not zero.
    pub heartbeat_interval: Duration,

    /// What a peer has not acknowledged after this time is sent again. Default 100 ms, not zero.
    pub retransmit_interval: Duration,

    /// Which replica is to lead, if it can: a leader hands over to the one with the highest
    /// priority above its own, once it has heard that one for ten election timeouts without a
    /// break. Where that fails it waits twice as long the next time, at most eight times. Between
    /// equal ones nobody moves. Default 0 on all: no preference.
    ///
    /// ```
    /// use indelible::Config;
    ///
    /// // On the machine that the service would rather have lead:
    /// let config = Config { priority: 1, ..Config::default() };
    /// ```
    pub priority: u32,

    /// With a lease, [`Replica::get`](crate::Replica::get) on the leader asks nobody: for so long,
    /// a quorum lets no other leader be elected, and the leader asks for that again and again in
    /// the background. Where the lease is not held, reads are confirmed as without one. Default
    /// `None`: no lease is asked for, and none is granted. At least a heartbeat interval and 10 ms;
    /// what is below a millisecond is left out. A leader is granted the shorter one of its own and
    /// of the voter's; set all replicas to the same.
    ///
    /// **What it rests on.** While a second passes, the clock of every replica must move by 0.9 to
    /// 1.1 seconds (a *drift bound* of one tenth), also while its machine is suspended. It is
    /// `CLOCK_BOOTTIME`, which is on Linux only: elsewhere the setting is refused when the replica
    /// is opened. A virtual machine that is paused, restored, or moved while it runs may break the
    /// bound. Outside of it a read may be stale; no write is ever lost or reordered by it.
    ///
    /// **What it costs.** A leader that is lost without giving the lease up is replaced only once
    /// the lease is over, on top of the election timeout: by 1.1 times this later at most. A
    /// replica that is opened takes part in no election for as long. And in the background, a
    /// question and an answer for each other voter, four times in a lease.
    ///
    /// ```
    /// use std::time::Duration;
    /// use indelible::Config;
    ///
    /// let config = Config { read_lease: Some(Duration::from_secs(1)), ..Config::default() };
    /// ```
    pub read_lease: Option<Duration>,

    /// A batch of transactions ends before it would pass this many bytes, or about 4 MiB; a larger
    /// transaction gets a slot of its own. Default 256 KiB.
    pub batch_bytes_max: usize,

    /// A batch ends at this many transactions. Default 4096, which is also the maximum.
    pub batch_transactions_max: usize,

    /// Most slots that a leader has in flight; further transactions wait. Default 2048, at most
    /// 4096 (the protocol's alpha).
    pub inflight_slots_max: u64,

    /// A leader with this many bytes in flight lets further transactions wait. Default 16 MiB.
    pub inflight_bytes_max: usize,

    /// Where this many bytes of transactions wait for a slot, further ones are refused as busy. On
    /// top come those that came back: what was in flight when the lead was lost, and of what was
    /// handed to a leader up to 4 MiB, each counted with 256 bytes besides its own. Default 64 MiB.
    pub queued_bytes_max: usize,

    /// Where this many transactions wait for a slot, further ones are refused as busy, however
    /// small they are. Default 131,072, which take about as much memory as the bytes above.
    pub queued_transactions_max: usize,

    /// Where this many calls wait for a read to be confirmed, or for a transaction to be applied,
    /// further ones are refused as busy. Default 131,072.
    pub waiting_reads_max: usize,

    /// Where this many bytes wait for this replica's own disk, it proposes nothing as a leader, and
    /// as a voter drops what it is sent to vote for, which is sent again later. On top comes what
    /// one message holds. Default 64 MiB.
    pub journal_backlog_bytes_max: usize,

    /// Most bytes that wait to be sent to a peer, half of them for new entries and half for
    /// catching it up; further messages to it are dropped, and sent again later. On top come about
    /// 1 MiB for small messages and one message of any size. Default 32 MiB. For TCP only.
    pub peer_queue_bytes_max: usize,

    /// How long a segment of the journal is, in bytes. A segment is zeroed before it is used, and a
    /// replica begins a new one at each opening; the next one is made ahead of time, so about twice
    /// this much is taken beyond what was written. Default 16 MiB; brought to whole blocks of
    /// 4 KiB, between 64 KiB and 1 GiB.
    pub segment_bytes: u64,

    /// A checkpoint of the state is written, in the background, when this many bytes of
    /// transactions were applied behind the newest one: an opening reads the checkpoint, and
    /// applies what is behind it. Smaller makes openings faster, and writes more; a checkpoint is
    /// about as large as all keys and values. Two are kept. Default 256 MiB, not zero.
    pub checkpoint_bytes: u64,

    /// At least this many bytes of the journal are kept for [`Replica::transactions`], whether they
    /// are needed otherwise or not. What is older is removed, segment by segment, once two
    /// checkpoints of this replica hold what it did. A replica that was away for longer, or
    /// [joins](crate::Builder::join), gets a checkpoint and what came behind it, and does not have
    /// the transactions from before. The default, [`u64::MAX`], keeps all history, and the journal
    /// grows for ever.
    ///
    /// [`Replica::transactions`]: crate::Replica::transactions
    pub history_bytes_min: u64,

    /// A journal that was idle for so long writes down that it is durable; then damage to its end
    /// can be told from a torn write. Default 100 ms.
    pub seal_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(2),
            election_timeout: Duration::from_millis(500),
            heartbeat_interval: Duration::from_millis(50),
            retransmit_interval: Duration::from_millis(100),
            priority: 0,
            read_lease: None,
            batch_bytes_max: 256 * 1024,
            batch_transactions_max: ENTRY_COMMANDS_MAX,
            inflight_slots_max: ALPHA / 2,
            inflight_bytes_max: 16 * 1024 * 1024,
            queued_bytes_max: 64 * 1024 * 1024,
            queued_transactions_max: 128 * 1024,
            waiting_reads_max: 128 * 1024,
            journal_backlog_bytes_max: 64 * 1024 * 1024,
            peer_queue_bytes_max: 32 * 1024 * 1024,
            segment_bytes: 16 * 1024 * 1024,
            checkpoint_bytes: 256 * 1024 * 1024,
            history_bytes_min: u64::MAX,
            seal_after: Duration::from_millis(100),
        }
    }
}

/// How many bytes of entries a message carries: far below what a message may hold, so that catching
/// up comes in small steps.
pub(crate) const ENTRIES_PER_MESSAGE_BYTES: usize = 1024 * 1024;

/// Longest time between two signs of life, and longest election timeout.
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// Shortest lease: a shorter one would be over before it is granted.
const READ_LEASE_MIN: Duration = Duration::from_millis(10);

/// Longest lease: so long nobody may lead when a leader is lost.
const READ_LEASE_MAX: Duration = Duration::from_secs(3600);

const _: () = assert!(ENTRIES_PER_MESSAGE_BYTES + COMMAND_BYTES_MAX < MESSAGE_BYTES_MAX);

impl Config {
    /// Whether a replica can work with these settings.
    pub(crate) fn check(&self) -> Result<()> {
        let nonzero = [
            ("request_timeout", self.request_timeout),
            ("heartbeat_interval", self.heartbeat_interval),
            ("retransmit_interval", self.retransmit_interval),
        ];
        for (field, value) in nonzero {
            if value.is_zero() {
                return Err(invalid(field, "is zero, wanted a time"));
            }
        }
        let bounded = [
            ("election_timeout", self.election_timeout),
            ("heartbeat_interval", self.heartbeat_interval),
            ("retransmit_interval", self.retransmit_interval),
        ];
        // Multiples of them are taken, so they must not be near the end of time.
        for (field, value) in bounded {
            if value > INTERVAL_MAX {
                let found = format!("is {value:?}, wanted at most {INTERVAL_MAX:?}");
                return Err(invalid(field, &found));
            }
        }
        if let Some(lease) = self.read_lease {
            let least = self.heartbeat_interval.max(READ_LEASE_MIN);
            if lease < least || READ_LEASE_MAX < lease {
                let found = format!("is {lease:?}, wanted {least:?} to {READ_LEASE_MAX:?}");
                return Err(invalid("read_lease", &found));
            }
        }
        if self.election_timeout < 4 * self.heartbeat_interval {
            let found = format!(
                "is {:?}, wanted at least four heartbeat intervals of {:?}",
                self.election_timeout, self.heartbeat_interval
            );
            return Err(invalid("election_timeout", &found));
        }
        let positive = [
            ("batch_bytes_max", self.batch_bytes_max),
            ("batch_transactions_max", self.batch_transactions_max),
            ("inflight_bytes_max", self.inflight_bytes_max),
            ("queued_bytes_max", self.queued_bytes_max),
            ("queued_transactions_max", self.queued_transactions_max),
            ("waiting_reads_max", self.waiting_reads_max),
            ("journal_backlog_bytes_max", self.journal_backlog_bytes_max),
            ("peer_queue_bytes_max", self.peer_queue_bytes_max),
        ];
        for (field, value) in positive {
            if value == 0 {
                return Err(invalid(field, "is 0, wanted a positive number"));
            }
        }
        if self.checkpoint_bytes == 0 {
            return Err(invalid("checkpoint_bytes", "is 0, wanted a positive number"));
        }
        if self.inflight_slots_max == 0 || self.inflight_slots_max > ALPHA {
            let found = format!("is {}, wanted 1 to {ALPHA}", self.inflight_slots_max);
            return Err(invalid("inflight_slots_max", &found));
        }
        if self.batch_transactions_max > ENTRY_COMMANDS_MAX {
            let found = self.batch_transactions_max;
            let found = format!("is {found}, wanted at most {ENTRY_COMMANDS_MAX}");
            return Err(invalid("batch_transactions_max", &found));
        }
        Ok(())
    }
}

fn invalid(field: &str, found: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("config: {field} {found}"))
}
