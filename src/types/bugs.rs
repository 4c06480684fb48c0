//! Seeded bugs: mistakes that the simulator can switch on, to show that its checkers notice.
//!
//! Each is a mistake that a system like this one made once. A place in the code asks
//! [`is_on`]; without the feature `sim` the answer is a constant `false`, and the compiler removes
//! the question. With it, all bugs are off until a test switches one on for its own thread: it is
//! never a cargo feature, so that code built with all features is still correct.

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A mistake that can be switched on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug {
            $($(#[$doc])* $name,)*
        }

        impl Bug {
            /// All bugs there are.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name, as a command line spells it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

bugs! {
    /// A vote is acknowledged before its record is durable. (MongoDB, Redis and many more by
    /// default; Zookeeper's `forceSync=no`.)
    AckBeforeSync = "ack-before-sync",
    /// A repeated `Accept` is acknowledged at once, though the vote that the first one brought is
    /// still being synced. Model-checked: 19 steps to two chosen entries.
    AckDuplicateEarly = "ack-duplicate-early",
    /// An acknowledgement is stamped with what is promised when it leaves, and not with the ballot
    /// of its vote. Model-checked: 24 steps, and three ballots.
    AckCurrentPromise = "ack-current-promise",
    /// A promise is told before it is durable.
    PromiseBeforeSync = "promise-before-sync",
    /// A campaign begins before its own promise is durable: its ballot may be used again.
    PrepareBeforeSync = "prepare-before-sync",
    /// A candidate campaigns again at a ballot of its own, though an earlier opening may have
    /// proposed at it.
    ReuseBallot = "reuse-ballot",
    /// An opening takes the ballots of the votes for all that was promised.
    PromiseNotRecovered = "promise-not-recovered",
    /// An opening forgets the votes in slots that are not known to be chosen.
    VotesNotRecovered = "votes-not-recovered",
    /// A vote is cast below the promise.
    VoteBelowPromise = "vote-below-promise",
    /// Phase 1 tells nothing of the slots that are known to be chosen: it answers "none" there.
    /// Model-checked: 11 steps. (A compacted slot that is answered as an empty one.)
    PromiseWithoutChosen = "promise-without-chosen",
    /// A promise counts for whatever ballot the candidate has come to meanwhile.
    PromiseOfOtherBallot = "promise-of-other-ballot",
    /// A vote counts for whatever ballot the leader has come to meanwhile.
    VoteOfOtherBallot = "vote-of-other-ballot",
    /// A voter that answers twice counts twice.
    CountTwice = "count-twice",
    /// Phase 1 ends one promise too early: phase 1 and phase 2 need not intersect. Model-checked: 8
    /// steps.
    SmallPhase1 = "small-phase1",
    /// An entry counts as chosen one vote too early.
    SmallPhase2 = "small-phase2",
    /// A candidate goes on from the longest log instead of the highest ballot, slot by slot.
    AdoptLongestLog = "adopt-longest-log",
    /// A candidate adopts the first vote that it is told, not the one at the highest ballot.
    AdoptFirstVote = "adopt-first-vote",
    /// A slot becomes a no-op as soon as one voter says that it did not vote there.
    FillHoleEarly = "fill-hole-early",
    /// What is left to a voter that abstains counts as all it voted for.
    AdoptBelowAbstainer = "adopt-below-abstainer",
    /// A voter does not tell which slots it lost: FAULTY becomes "none". Model-checked: 11 steps.
    /// (What every protocol does whose log is truncated at the first bad checksum, as FAST'18
    /// shows.)
    AnswerNone = "answer-none",
    /// What is FAULTY counts as UNCERTAIN: with everyone's answer, the highest vote that is left
    /// stands for the one that is lost.
    CountFaulty = "count-faulty",
    /// A voter that lost its promise goes on promising and voting. Model-checked: 11 steps.
    AmnesiaVotes = "amnesia-votes",
    /// A follower takes its own vote for chosen because the leader's watermark is above, whatever
    /// the ballot of the vote.
    CommitWithoutMatch = "commit-without-match",
    /// A follower takes over the leader's watermark though it knows more.
    ProgressGoesBack = "progress-goes-back",
    /// An entry that a peer told is learned and not journaled.
    ChosenNotJournaled = "chosen-not-journaled",
    /// A leader goes on at its ballot though it was told that something else is chosen in a slot of
    /// its own.
    LeadOverruled = "lead-overruled",
    /// A new leader serves reads before it knows what may have been chosen before it. (etcd and
    /// others, before Raft's no-op at the beginning of a term.)
    ReadBeforeReady = "read-before-ready",
    /// A new leader serves reads once any entry is chosen at its ballot. Model-checked: 16 steps.
    ReadyAtFirstEntry = "ready-at-first-entry",
    /// A leader serves reads without asking whether it still leads.
    ReadUnconfirmed = "read-unconfirmed",
    /// A leadership is confirmed by one voter too few. Model-checked: 11 steps.
    SmallConfirm = "small-confirm",
    /// A voter confirms whoever asks, also below its promise.
    ConfirmDeposed = "confirm-deposed",
    /// Rounds of confirmation share a number: late answers to one confirm the next. Model-checked:
    /// 13 steps.
    NonceReused = "nonce-reused",
    /// A read joins the round that is under way, whose barrier was taken before it began.
    ReadJoinsRound = "read-joins-round",
    /// A read does not wait until what is below its barrier is applied.
    ReadBeforeApply = "read-before-apply",
    /// Who waits for a transaction is told before it is applied that it is.
    WaitCutShort = "wait-cut-short",
    /// A read takes the answer to a question of an earlier opening.
    AnswerToEarlierLife = "answer-to-earlier-life",
    /// A leader calls settled what it proposed itself and does not know to be chosen.
    SettleProposed = "settle-proposed",
    /// A leader that began to hand over never leads on, whatever becomes of its successor.
    HandOverForEver = "hand-over-for-ever",
    /// A leader hands over to the replica of a lower priority.
    PreferLower = "prefer-lower",
    /// A leader hands over to a replica of its own priority: two of them take turns for ever.
    PreferEqual = "prefer-equal",
    /// A condition on a version holds for later versions, too.
    CompareAtLeast = "compare-at-least",
    /// A key that was deleted counts as present.
    TombstonePresent = "tombstone-present",
    /// Of a transaction only the first operation is applied.
    ApplyFirstOnly = "apply-first-only",
    /// A transaction that changes nothing takes an id.
    IdForNothing = "id-for-nothing",
    /// A command that was here before is applied again.
    DedupeSkipped = "dedupe-skipped",
    /// A session that was evicted is taken for a new one, whenever it was opened.
    FloorIgnored = "floor-ignored",
    /// Each replica forgets sessions by a clock of its own.
    EvictByClock = "evict-by-clock",
    /// The order in which the commands of an entry are applied is a matter of luck, as with a hash
    /// map that draws its keys at random.
    ApplyByBoot = "apply-by-boot",
    /// A caller is told the verdict of the command before its own.
    VerdictOfOther = "verdict-of-other",
    /// A transaction that was proposed and is not known to have ended is told as one that did not
    /// happen. (Found in several systems by Jepsen.)
    UnknownToldAsFailed = "unknown-told-as-failed",
    /// A transaction that was forwarded again counts as one of which every attempt but the last was
    /// in vain.
    RetryToldAsFailed = "retry-told-as-failed",
    /// What a replica does not remember of a request is told as what became of it, without the log.
    ResolveWithoutLog = "resolve-without-log",
    /// A command that was taken from a peer is sent back as well.
    BounceTaken = "bounce-taken",
    /// A name is not made durable. (Pillai et al., *All File Systems Are Not Created Equal*,
    /// OSDI'14: LevelDB, HSQLDB and others.)
    SkipDirectorySync = "skip-directory-sync",
    /// A failed sync is tried again, and the second one believed. (PostgreSQL until 2018; Rebello
    /// et al., *Can Applications Recover from fsync Failures?*, ATC'20.)
    RetrySync = "retry-sync",
    /// A group counts when its own sync succeeded, though one that overlapped it failed. Where
    /// every file description is told of a failure (Linux since 4.13), a group's own sync would say
    /// so, and this is no mistake; it is one where only the first that asks is told.
    SyncAlone = "sync-alone",
    /// An opening trusts what it reads without making it durable. Model-checked: 19 steps.
    TailNotRewritten = "tail-not-rewritten",
    /// A new segment counts before what an opening wrote into it is durable.
    CountBeforeSync = "count-before-sync",
    /// Frames say that what is before them is durable when it is only written.
    EvidenceEarly = "evidence-early",
    /// A group says how far the log is chosen as soon as it is known, though the entries are
    /// written behind it.
    WatermarkEarly = "watermark-early",
    /// While the newest frame of a slot is being written, peers are given the one before.
    ServeOldFrame = "serve-old-frame",
    /// The checksum of a frame's payload is not looked at.
    PayloadUnchecked = "payload-unchecked",
    /// A length is used before its checksum is looked at.
    HeaderUnchecked = "header-unchecked",
    /// A journal ends at the first group that is bad, whatever is behind it. (Alagappan et al.,
    /// FAST'18: ZooKeeper, LogCabin and others.)
    CutAtBadGroup = "cut-at-bad-group",
    /// A journal ends where there are zeros.
    ZerosEndJournal = "zeros-end-journal",
    /// Behind the end only frames at the beginning of a block are looked at.
    LookAtBlocksOnly = "look-at-blocks-only",
    /// The best promise that is left is taken for the newest there was.
    BestPromiseLeft = "best-promise-left",
    /// That a promise is lost is written down once: where that one frame rots, it is forgotten.
    LossToldOnce = "loss-told-once",
    /// A checkpoint gets its name before it is synced. (Pillai et al., OSDI'14: a rename that
    /// overtakes the data.)
    CheckpointNotSynced = "checkpoint-not-synced",
    /// A checkpoint leaves out which keys were deleted.
    CheckpointWithoutTombstones = "checkpoint-without-tombstones",
    /// What became of requests is written to a checkpoint as it is by then, not as it was at the
    /// slot of the checkpoint.
    CheckpointOfLaterSessions = "checkpoint-of-later-sessions",
    /// A checkpoint counts before the journal is durable as far as it reaches.
    CheckpointBeforeJournal = "checkpoint-before-journal",
    /// Segments are removed before the identity says that they may be absent.
    TrimBeforeIdentity = "trim-before-identity",
    /// Slots are trimmed that are in no checkpoint yet.
    TrimBeyondCheckpoint = "trim-beyond-checkpoint",
    /// A state that is taken in takes the votes behind it with it.
    StateForgetsVotes = "state-forgets-votes",
    /// A state is taken in that is behind fewer slots than are known to be chosen.
    StateGoesBack = "state-goes-back",
    /// Who takes in a state goes on with the members that it knew.
    StateKeepsMembers = "state-keeps-members",
    /// Readers go on with the state that was replaced.
    StateKeptByReaders = "state-kept-by-readers",
    /// The next opening forgets what was in doubt.
    DoubtsForgotten = "doubts-forgotten",
    /// A leader proposes behind a membership that is not chosen yet.
    ProposeBehindChange = "propose-behind-change",
    /// A membership is proposed before its own voters promised the ballot.
    ChangeUnprepared = "change-unprepared",
    /// Who finds a membership in phase 1 does not ask its voters what they voted for behind it.
    FoundChangeTrusted = "found-change-trusted",
    /// A membership may follow another one than that of which it was made.
    OvertakenFollows = "overtaken-follows",
    /// Who campaigns while it learns a membership counts promises as before.
    CandidateKeepsQuorum = "candidate-keeps-quorum",
    /// A ledger is upgraded though a member's build does not know the edition.
    EditionUnasked = "edition-unasked",
    /// What is new is proposed as soon as the leader's own build knows it.
    EditionEarly = "edition-early",
    /// A lease counts from when it was granted, not from when it was asked for.
    LeaseFromReceipt = "lease-from-receipt",
    /// Clocks are taken to run equally fast: a lease ends for both sides when its length is over.
    DriftIgnored = "drift-ignored",
    /// A lease is measured by a clock that stands still while the machine sleeps.
    LeaseByTimers = "lease-by-timers",
    /// An opening does not wait for what earlier ones granted.
    LeaseForgotten = "lease-forgotten",
    /// How long a lease may be is not written down before one is granted.
    LeaseNotWritten = "lease-not-written",
    /// A voter promises others something while a lease lasts that it granted.
    PromiseDespiteGrant = "promise-despite-grant",
    /// A voter campaigns itself while a lease lasts that it granted.
    CampaignDespiteGrant = "campaign-despite-grant",
    /// A voter grants a lease to a leader below its promise.
    GrantDeposed = "grant-deposed",
    /// A lease is held by one voter too few: a phase-1 quorum may do without them.
    SmallLease = "small-lease",
    /// A lease is used by a leader that does not know yet what was chosen before it.
    LeaseBeforeReady = "lease-before-ready",
    /// A leader uses a lease that it gave up to hand over.
    LeaseKeptAtHandOver = "lease-kept-at-hand-over",
    /// A late copy of what gave a lease up ends one that was granted since.
    LateRelease = "late-release",
    /// A change is said to count as soon as it is chosen, whoever has it durably: where those who
    /// left are wiped, it may be forgotten.
    RetireEarly = "retire-early",
    /// One that was removed is told that it is not missed, before that is durable.
    DismissEarly = "dismiss-early",
    /// A time to try again is kept once it has come, though nothing is to be done: one turn follows
    /// another.
    AlarmKept = "alarm-kept",
}

impl Bug {
    /// The bug of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.name() == name)
    }
}

/// Whether this mistake is to be made.
#[cfg(not(feature = "sim"))]
#[inline(always)]
#[must_use]
pub const fn is_on(_: Bug) -> bool {
    false
}

/// Whether this mistake is to be made.
#[cfg(feature = "sim")]
#[inline]
#[must_use]
pub fn is_on(bug: Bug) -> bool {
    ON.get() == Some(bug)
}

/// Switches a mistake on, or all off, for this thread.
#[cfg(feature = "sim")]
pub fn switch(bug: Option<Bug>) {
    ON.set(bug);
}

#[cfg(feature = "sim")]
std::thread_local! {
    static ON: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}
