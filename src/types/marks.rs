//! Marks: places that a campaign of the simulator must have been to.
//!
//! A rare branch that no run ever took is a branch that was never checked, whatever the checkers
//! are worth. So the places that matter are marked, each with a name, and a campaign says how often
//! it came to each, and fails where it never came. (TigerBeetle and FoundationDB mark theirs
//! likewise.)
//!
//! Without the feature `sim` a mark is nothing. With it, each counts for its own thread, until
//! [`take`] takes the counts.

macro_rules! marks {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A place that matters.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mark {
            $($(#[$doc])* $name,)*
        }

        impl Mark {
            /// All marks there are.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name in reports.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

marks! {
    // Phase 1.
    /// A candidate found a vote, and must propose its entry.
    VoteAdopted = "vote-adopted",
    /// A candidate found a hole before a vote, and fills it.
    HoleFilled = "hole-filled",
    /// A quorum spoke for a slot for which somebody abstained.
    QuorumBesideAbstainer = "quorum-beside-abstainer",
    /// So many say that they did not vote that nothing can be chosen, though no quorum speaks.
    ChoiceRuledOut = "choice-ruled-out",
    /// A membership was voted for, and so many say that they did not vote that it cannot be chosen.
    ChangeRuledOut = "change-ruled-out",
    /// Everyone answered, and what is left to the uncertain counts.
    EveryoneCounted = "everyone-counted",
    /// Too many abstain: a candidate waits for another answer.
    AnswersAwaited = "answers-awaited",
    /// A candidate lacks what its promisers know to be chosen.
    CandidateLags = "candidate-lags",
    /// A promise is told in several parts.
    PromiseInParts = "promise-in-parts",
    /// A part belongs to another answer than the parts before.
    AnswerBegunAnew = "answer-begun-anew",
    /// A ballot is below the promise.
    BallotRejected = "ballot-rejected",
    /// A replica that forgot its promise is asked for one, or for a vote.
    AmnesiacSilent = "amnesiac-silent",
    // Phase 2.
    /// A vote for an entry is cast again at a higher ballot.
    VotedAgain = "voted-again",
    /// A vote that precedes a doubt is journaled again, behind it.
    VoteRepeated = "vote-repeated",
    /// Who proposes is told that the slot is chosen.
    LaggingLeaderTold = "lagging-leader-told",
    /// What is not acknowledged is sent again.
    AcceptRepeated = "accept-repeated",
    /// A proposal is not sent to who lags too far to vote for it.
    AcceptWithheld = "accept-withheld",
    /// A leader that met a higher ballot takes one above it.
    LeaderOutbids = "leader-outbids",
    /// A leader, or a candidate, met a higher ballot and gives up.
    LeaderPreempted = "leader-preempted",
    /// Slots were chosen out of order: the first of a window brings others with it.
    WindowJumps = "window-jumps",
    // Learning.
    /// A follower's votes have the leader's chain, though not its ballot.
    LearnedByChain = "learned-by-chain",
    /// A peer sent an entry that this replica did not have.
    LearnedFromPeer = "learned-from-peer",
    /// Whoever was asked for entries did not answer, and another one is.
    FetchedElsewhere = "fetched-elsewhere",
    /// A leader learns that something else was chosen in a slot of its own.
    LeaderOverruled = "leader-overruled",
    // Doubts.
    /// A doubt ended by a vote, or because the slot was learned.
    DoubtEnded = "doubt-ended",
    /// A leader settled what a voter doubted.
    DoubtsSettled = "doubts-settled",
    /// A leader settled its own doubts.
    OwnDoubtsSettled = "own-doubts-settled",
    /// An answer to an earlier opening, or at a lower ballot, settles nothing.
    SettledIgnored = "settled-ignored",
    // Election.
    /// A leader that reaches no quorum steps down.
    LeaderUnheard = "leader-unheard",
    /// A replica would campaign, and does not reach a quorum.
    CampaignHeldBack = "campaign-held-back",
    /// A process that stood still waits anew.
    PauseNoticed = "pause-noticed",
    /// A heartbeat of an earlier opening comes late.
    OldHeartbeat = "old-heartbeat",
    /// The connection to the leader ended.
    LeaderHungUp = "leader-hung-up",
    // Handing over.
    /// A replica campaigns because the leader asked it to.
    TookOver = "took-over",
    /// A replica is asked to lead by one that it does not follow, or late, or again.
    TakeOverIgnored = "take-over-ignored",
    /// A replica is asked to lead, and could not be elected.
    TakeOverRefused = "take-over-refused",
    /// Nobody took over in time, and the leader leads on.
    HandOverGivenUp = "hand-over-given-up",
    /// A leader that is being closed hands over.
    ClosingLeaderHandsOver = "closing-leader-hands-over",
    /// A leader whose disk stands still hands over.
    StalledLeaderHandsOver = "stalled-leader-hands-over",
    /// A leader hands over to one that is preferred to it.
    PreferredAsked = "preferred-asked",
    /// A leader that handed over in vain to one that is preferred tries that again.
    PreferredAskedAgain = "preferred-asked-again",
    // Changes of the membership.
    /// A candidate found a membership that may or may not count already.
    ChangeFound = "change-found",
    /// A change is given up before it was proposed: too few of its voters answered.
    ChangeGivenUp = "change-given-up",
    /// The core is asked once more for a forced change that it gave up.
    ChangeAskedAgain = "change-asked-again",
    /// Who does not belong is told how far the log goes.
    StrangerTold = "stranger-told",
    /// A leader that does not vote any more hands over.
    RemovedLeaderHandsOver = "removed-leader-hands-over",
    // Reads.
    /// A round of confirmation is asked for again.
    ConfirmRepeated = "confirm-repeated",
    /// One round serves several that asked.
    RoundShared = "round-shared",
    /// Reads waited on a leader that leads no longer.
    ReadsLostLeader = "reads-lost-leader",
    /// A leader that was deposed is told so when it asks.
    ConfirmRefused = "confirm-refused",
    /// An answer to a read of an earlier opening comes late.
    BarrierIgnored = "barrier-ignored",
    /// A linearizable read goes on at a replica that does not vote.
    ReadAtObserver = "read-at-observer",
    /// A transaction that a caller waited for is applied.
    WaitReached = "wait-reached",
    // Leases.
    /// A leader that holds a lease answers a read without asking.
    LeasedRead = "leased-read",
    /// A leader gives its lease up.
    LeaseGivenUp = "lease-given-up",
    /// A candidate is not answered, since another one holds a lease or may.
    PrepareUnanswered = "prepare-unanswered",
    /// A replica would campaign, and another one holds a lease or may.
    CampaignBound = "campaign-bound",
    /// A leader that was deposed asks for a lease.
    LeaseRefused = "lease-refused",
    /// A leader asks for a lease while another one holds one still.
    LeaseOfOther = "lease-of-other",
    /// A question for a lease comes late, or again.
    OldRenewal = "old-renewal",
    /// A lease is granted that was not asked for, or given up since.
    GrantIgnored = "grant-ignored",
    /// A lease is granted for a shorter time than it was asked for.
    LeaseShortened = "lease-shortened",
    /// A replica that is closed forgets a lease that was longer than any it grants.
    LongerLeaseForgotten = "longer-lease-forgotten",
    /// A replica is closed before all is over that earlier openings may have granted.
    EarlierLeaseKept = "earlier-lease-kept",
    // The journal.
    /// A journal ends in a torn group.
    GroupTorn = "group-torn",
    /// A group that was durable is bad.
    RotFound = "rot-found",
    /// An opening found a vote behind what a peer had told of the slot.
    VotedBehindTold = "voted-behind-told",
    /// What is bad in the journal of one that is alone was fetched from others before.
    RotHealedBeforeAlone = "rot-healed-before-alone",
    /// A change of the membership may leave a replica alone that is not whole yet: it keeps silent.
    PromisedWhenWhole = "promised-when-whole",
    /// One that was removed is kept until the replica that it leaves alone has a second state.
    KeptWhoLeaves = "kept-who-leaves",
    /// Only the superheader of a segment is bad.
    SuperheaderLost = "superheader-lost",
    /// One copy of a promise is bad, and the other one counts.
    PromiseCopyLost = "promise-copy-lost",
    /// Chosen entries are missing.
    EntriesMissing = "entries-missing",
    /// Doubts that were written down account for bad regions.
    DoubtsRead = "doubts-read",
    /// A segment of an opening that did not end is removed.
    LeftoverRemoved = "leftover-removed",
    /// A group must wait: the next segment is not made, or the one before it not durable.
    RollAwaited = "roll-awaited",
    /// A group ended before an earlier one did.
    SyncOvertakes = "sync-overtakes",
    /// The newest frame of a slot is on its way when an older one ends.
    OldFrameHidden = "old-frame-hidden",
    /// A write or a sync failed.
    JournalPoisoned = "journal-poisoned",
    // The rest of a replica.
    /// There is no space for the next segment.
    DiskFull = "disk-full",
    /// There is space again.
    DiskHealed = "disk-healed",
    /// More messages wait for the disk than are kept.
    HeldDropped = "held-dropped",
    /// An attempt to forward a command comes a second time.
    ForwardSeen = "forward-seen",
    /// A command is forwarded again while it is under way here.
    ForwardUnderWay = "forward-under-way",
    /// What was forwarded is forwarded again: to another leader, or because no verdict came.
    ForwardedAgain = "forwarded-again",
    /// What was forwarded waits here again, since its replica has come to lead.
    ForwardedToItself = "forwarded-to-itself",
    /// A transaction of a forgotten session, which certainly did not happen, goes on under another.
    SessionRenewed = "session-renewed",
    /// A forwarded command for an earlier opening comes late.
    ForwardLate = "forward-late",
    /// A command that bounced waits again.
    BouncedQueued = "bounced-queued",
    /// A proposal of this replica's own caller lost its slot.
    TakenBack = "taken-back",
    /// A proposal of a follower's caller lost its slot.
    TakenBackForPeer = "taken-back-for-peer",
    /// A command arrives that was here before.
    CommandKnown = "command-known",
    /// A command arrives of which it is not known any more whether it was here.
    CommandForgotten = "command-forgotten",
    /// A session is evicted.
    SessionEvicted = "session-evicted",
    /// A request that had not arrived is burned.
    RequestBurned = "request-burned",
    /// A request arrives that was burned.
    BurnedArrives = "burned-arrives",
    /// A request is resolved that had arrived.
    RequestResolved = "request-resolved",
    /// Entries are fetched before the replica serves.
    RepairedBeforeServing = "repaired-before-serving",
    /// Entries are fetched beside serving.
    RepairedBesideServing = "repaired-beside-serving",
    /// A replica that repairs gives away what it has.
    ServedWhileRepairing = "served-while-repairing",
    // Checkpoints.
    /// A checkpoint was taken.
    CheckpointTaken = "checkpoint-taken",
    /// Entries were applied while one was taken.
    CheckpointBeside = "checkpoint-beside",
    /// One was given up: there was no space for it.
    CheckpointGivenUp = "checkpoint-given-up",
    /// There was no space to remove segments; it is tried again later.
    TrimGivenUp = "trim-given-up",
    /// An opening began with the state of one.
    CheckpointLoaded = "checkpoint-loaded",
    /// An opening passed over a damaged one.
    CheckpointPassed = "checkpoint-passed",
    /// A part of a checkpoint was sent.
    CheckpointPartSent = "checkpoint-part-sent",
    /// Who was removed was told that it is not missed.
    LeavingAnswered = "leaving-answered",
    /// What is known to be chosen was written down since one that was removed asked.
    NotedForLeaving = "noted-for-leaving",
    /// Who was left as the only voter judged its torn end anew.
    DoubtsOfOneAlone = "doubts-of-one-alone",
    /// A piece of a checkpoint was written later, so that commits beside it do not wait.
    PieceSpread = "piece-spread",
    /// A part of a checkpoint waited, so that commits beside it do not.
    PartPaced = "part-paced",
    /// A transfer of a checkpoint began anew with another one, or with another peer.
    TransferAnew = "transfer-anew",
    /// A replica that could not build its state took in one.
    StateInstalledOpening = "state-installed-opening",
    /// A command waits again whose slot is in a state that came from a peer.
    RetriedBehindState = "retried-behind-state",
    /// A core went on behind a state that came from a peer.
    StateInstalled = "state-installed",
    /// An opening found no checkpoint that reaches back to where its journal begins.
    CheckpointsLost = "checkpoints-lost",
    /// A piece of one that a peer sends is synced together with later ones.
    PieceSyncedLater = "piece-synced-later",
    /// What a peer sent as a checkpoint turned out to be none.
    CheckpointUnfit = "checkpoint-unfit",
    /// An opening removed one that was not ended.
    CheckpointLeft = "checkpoint-left",
    /// The front of a journal was removed.
    SegmentsTrimmed = "segments-trimmed",
    /// Somebody asked for slots that were trimmed.
    TrimmedTold = "trimmed-told",

    // Editions.
    /// An upgrade was refused: a member's build does not know the edition.
    EditionUnknown = "edition-unknown",
    /// Commands of a later edition were applied.
    EditionApplied = "edition-applied",
}

/// The run came to a marked place.
macro_rules! reached {
    ($name:ident) => {
        $crate::types::marks::reach($crate::types::marks::Mark::$name)
    };
}

pub(crate) use reached;

/// Counts a mark; see [`reached!`](reached).
#[cfg(not(feature = "sim"))]
#[inline(always)]
pub(crate) const fn reach(_: Mark) {}

/// Counts a mark; see [`reached!`](reached).
#[cfg(feature = "sim")]
#[inline]
pub(crate) fn reach(mark: Mark) {
    REACHED.with(|counts| {
        let count = &counts[mark as usize];
        count.set(count.get() + 1);
    });
}

/// Does `work` without counting the marks that it reaches: they are not of the run.
#[cfg(feature = "sim")]
pub(crate) fn unmarked<T>(work: impl FnOnce() -> T) -> T {
    let before = take();
    let done = work();
    REACHED.with(|counts| counts.iter().zip(before).for_each(|(count, before)| count.set(before)));
    done
}

/// How often this thread came to each mark since the last call, in the order of [`Mark::ALL`].
#[cfg(feature = "sim")]
#[must_use]
pub fn take() -> Vec<u64> {
    REACHED.with(|counts| counts.iter().map(|count| count.replace(0)).collect())
}

#[cfg(feature = "sim")]
std::thread_local! {
    static REACHED: [std::cell::Cell<u64>; Mark::ALL.len()] =
        const { [const { std::cell::Cell::new(0) }; Mark::ALL.len()] };
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    use super::*;

    #[test]
    fn a_mark_counts_until_it_is_taken() {
        drop(take());
        reached!(HoleFilled);
        reached!(HoleFilled);
        let counts = take();
        assert_eq!(counts[Mark::HoleFilled as usize], 2);
        assert_eq!(counts.iter().sum::<u64>(), 2);
        assert_eq!(take().iter().sum::<u64>(), 0);
    }
}
