//! Members that come and go in a swarm: an operator opens outsiders to join, and asks whoever leads
//! to make them observers and voters, to remove and to replace members, to let other quorums
//! decide, and to note where a member is to be reached from now on, whatever else goes on.
//!
//! What the operator is told is held against what is chosen (I9): a change that is said to count is
//! chosen, and one that is said to be refused never is.
//!
//! A part of the seeds has an operator, and those have no damage to media and no disks that are set
//! back: what a cluster outlives of that is said for voters who stay (`rot`, `strike/image`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use crate::runtime::pending::Pending;
use crate::types::edition::Edition;
use crate::types::error::{Error, ErrorKind};
use crate::types::ids::ReplicaId;
use crate::types::membership::{Member, Membership, MembershipError};
use crate::types::time::Moment;

use super::checkers::Violation;
use super::faults::Kind;
use super::rng::Rng;
use super::simulation::Simulation;

/// How a seed churns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habit {
    /// How many outsiders there are.
    pub(super) outsiders: u64,
    /// How long the operator waits at most before the next step.
    pause: Duration,
    /// Whether the replicas begin with a build that the operator exchanges for a later one.
    pub(super) upgrades: bool,
}

impl Habit {
    /// Whether the members of a seed come and go, and how.
    pub(super) fn of(seed: u64) -> Option<Self> {
        let mut rng = Rng::new(seed ^ SALT);
        let outsiders = rng.within(2..=5);
        let pause = rng.time(Duration::from_secs(1)..=Duration::from_secs(20));
        let upgrades = Rng::new(seed ^ UPGRADES_SALT).per_mille(500);
        rng.per_mille(CHURNING).then_some(Self { outsiders, pause, upgrades })
    }
}

/// Whether a fault may happen where members come and go.
pub(super) fn may_strike(kind: Kind) -> bool {
    let damages = matches!(
        kind,
        Kind::BitRot | Kind::Zeroed | Kind::Unreadable | Kind::Swapped | Kind::TailRot
    );
    !damages && kind != Kind::SetBack
}

/// The operator.
pub(super) struct Churn {
    habit: Habit,
    rng: Rng,
    /// Who was not opened yet.
    outsiders: Vec<ReplicaId>,
    /// Who has the build that all began with.
    old: Vec<ReplicaId>,
    asked: Option<Asked>,
    next: Moment,
    /// What was refused, by its bytes: it must not be chosen, unless it was asked for once more.
    refused: BTreeSet<u128>,
    /// What was asked for, and may be chosen.
    open: BTreeSet<u128>,
}

/// What the operator did, as far as it concerns who strikes.
pub(super) enum Step {
    /// This one has another build from its next opening on, and is restarted for it.
    Rebuilt(ReplicaId),
    /// This one was opened to join.
    Joined(ReplicaId),
    /// This one was asked for a change, and dies or is cut off in the middle of it.
    Interrupted { id: ReplicaId, at: Moment, seed: u64 },
}

/// A change that the operator waits for.
struct Asked {
    pending: Pending<Membership>,
    /// What the leader is asked for, once it looked at it.
    made: Arc<Mutex<Option<Membership>>>,
}

impl Churn {
    pub(super) fn new(seed: u64, habit: Habit, outsiders: Vec<ReplicaId>) -> Self {
        let mut rng = Rng::new(seed ^ SALT ^ 1);
        // The cluster forms meanwhile.
        let next = Moment::ZERO + rng.time(Duration::from_secs(3)..=Duration::from_secs(20));
        let (refused, open) = (BTreeSet::new(), BTreeSet::new());
        let first = outsiders.first().map_or(1, |first| first.0);
        let old = (1..first).map(ReplicaId).filter(|_| habit.upgrades).collect();
        Self { habit, rng, outsiders, old, asked: None, next, refused, open }
    }

    /// When the operator does something.
    pub(super) fn next(&self) -> Moment {
        self.next
    }

    /// Whether a change is not answered yet.
    pub(super) fn waits(&self) -> bool {
        self.asked.is_some()
    }

    /// The operator looks at the answer, or takes the next step.
    pub(super) fn act(&mut self, sim: &Simulation) -> Option<Step> {
        self.look();
        if self.asked.is_some() {
            self.next = sim.now() + LOOK_EVERY;
            return None;
        }
        self.next = sim.now() + self.rng.time(Duration::ZERO..=self.habit.pause * 2);
        let present = sim.membership()?;
        if !self.outsiders.is_empty() && self.rng.per_mille(250) {
            return self.open(sim, &present).map(Step::Joined);
        }
        if !self.old.is_empty() && self.rng.per_mille(300) {
            let id = self.old.swap_remove(self.rng.below(self.old.len() as u64) as usize);
            sim.change_settings(id, |settings| settings.driver.knows = NEXT);
            return Some(Step::Rebuilt(id));
        }
        let asked = self.ask(sim, &present).filter(|_| self.rng.per_mille(INTERRUPTED));
        asked.map(|id| {
            let at = sim.now() + self.rng.time(Duration::ZERO..=Duration::from_millis(30));
            Step::Interrupted { id, at, seed: self.rng.next_u64() }
        })
    }

    /// Takes in the answer, if it is there.
    pub(super) fn look(&mut self) {
        let Some(Asked { pending, made }) = &mut self.asked else { return };
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(answer) = std::pin::pin!(pending).poll(&mut context) else { return };
        let made = made.lock().take();
        self.asked = None;
        let content = made.as_ref().map(|made| made.cluster_id().0);
        match answer {
            Err(err) if is_refusal(&err) => self.refused.extend(content),
            // Of those that count, the witness is told.
            Ok(_) | Err(_) => self.open.extend(content),
        }
    }

    /// Whether nothing is chosen that was refused.
    pub(super) fn check_refused(&self, sim: &Simulation) -> Result<(), Violation> {
        let chosen = sim.memberships();
        let is_wrong = |membership: &&Membership| {
            let content = membership.cluster_id().0;
            self.refused.contains(&content) && !self.open.contains(&content)
        };
        match chosen.iter().skip(1).find(is_wrong) {
            Some(membership) => {
                Err(Violation::new("I9", format!("{membership:?} was refused, and is chosen")))
            }
            None => Ok(()),
        }
    }

    fn open(&mut self, sim: &Simulation, present: &Membership) -> Option<ReplicaId> {
        let id = self.outsiders.remove(0);
        if self.habit.upgrades {
            sim.change_settings(id, |settings| settings.driver.knows = NEXT);
        }
        let mut known = present.members().map(|member| member.id).collect::<Vec<_>>();
        if self.rng.per_mille(300) {
            known = vec![*self.rng.pick(&known)];
        }
        sim.join(id, &known).then_some(id)
    }

    /// Asks for a change; mostly whoever leads. Returns who was asked.
    fn ask(&mut self, sim: &Simulation, present: &Membership) -> Option<ReplicaId> {
        let up = sim.ids().into_iter().filter(|id| sim.is_up(*id)).collect::<Vec<_>>();
        let asks_any = self.rng.per_mille(50) && !up.is_empty();
        let of = if asks_any { Some(*self.rng.pick(&up)) } else { sim.leader() };
        let of = of?;
        let replica = sim.replica(of);
        let strangers = sim.strangers(of);
        let edit = match self.upgrade(present) {
            Some(edit) => edit,
            None => self.draw(present, &strangers)?,
        };
        let made = Arc::new(Mutex::new(None));
        let told = Arc::clone(&made);
        let edit = move |present: &Membership| {
            let next = edit(present)?;
            *told.lock() = Some(next.clone()).filter(|next| next != present);
            Ok(next)
        };
        let pending = match self.rng.per_mille(FORCED) {
            true => replica.force_membership(edit),
            false => replica.change_membership(edit),
        };
        self.asked = Some(Asked { pending, made });
        self.next = sim.now() + LOOK_EVERY;
        Some(of)
    }

    /// Sometimes, the ledger is to be upgraded: also while members do not know the edition, which
    /// the leader must see; but not while a replica does not that is no member, whom nobody asks.
    fn upgrade(&mut self, present: &Membership) -> Option<Edit> {
        let due = self.habit.upgrades && present.edition() < NEXT && self.rng.per_mille(250);
        let asks_all = self.old.iter().all(|id| present.member(*id).is_some());
        (due && asks_all).then(|| -> Edit { Box::new(|present| present.with_edition(NEXT)) })
    }

    /// A change that may do something, as the operator knows the membership. The leader may know
    /// another one.
    fn draw(&mut self, present: &Membership, strangers: &[Member]) -> Option<Edit> {
        let rng = &mut self.rng;
        let ids = |members: &[Member]| members.iter().map(|member| member.id).collect::<Vec<_>>();
        let (voters, observers) = (ids(present.voters()), ids(present.observers()));
        let count = voters.len() as u64;
        let gone = *rng.pick(&voters);
        let may_shrink = count > 3 || count > 1 && rng.per_mille(200);
        Some(match rng.below(13) {
            0..=3 if !strangers.is_empty() => {
                let stranger = rng.pick(strangers).clone();
                Box::new(move |present| present.with_observer(stranger))
            }
            4 | 5 if !observers.is_empty() => {
                let observer = *rng.pick(&observers);
                Box::new(move |present| present.with_voter(observer))
            }
            6 | 7 if !observers.is_empty() => {
                let observer = *rng.pick(&observers);
                Box::new(move |present| present.with_voter(observer)?.without(gone))
            }
            // All who came vote, and as many others go.
            8 if !observers.is_empty() => {
                let leaving = voters.into_iter().take(observers.len()).collect::<Vec<_>>();
                Box::new(move |present| {
                    let mut next = present.clone();
                    for id in observers {
                        next = next.with_voter(id)?;
                    }
                    leaving.into_iter().try_fold(next, |next, id| next.without(id))
                })
            }
            9 if may_shrink => Box::new(move |present| present.without(gone)),
            10 if !observers.is_empty() && rng.per_mille(300) => {
                let observer = *rng.pick(&observers);
                Box::new(move |present| present.without(observer))
            }
            11 => {
                let phase2 = rng.within(1..=count);
                let phase1 = rng.within(count + 1 - phase2..=count);
                Box::new(move |present| present.with_quorums(phase1 as u32, phase2 as u32))
            }
            // Sometimes where somebody is already.
            12 => {
                let moves = rng.pick(&[voters, observers].concat()).to_owned();
                let address = match rng.per_mille(100) {
                    true => present.voters()[0].address.clone(),
                    false => format!("moved-{}:1", rng.below(1000)),
                };
                Box::new(move |present| present.with_address(moves, &address))
            }
            _ => return None,
        })
    }
}

type Edit = Box<dyn FnOnce(&Membership) -> Result<Membership, MembershipError> + Send>;

/// Whether an answer says that nothing was changed, and will not be.
fn is_refusal(err: &Error) -> bool {
    matches!(
        err.kind(),
        ErrorKind::InvalidArgument
            | ErrorKind::NotLeader
            | ErrorKind::NotCaughtUp
            | ErrorKind::Outdated
            | ErrorKind::Unreachable
    )
}

/// Of a thousand seeds, in so many members come and go.
const CHURNING: u64 = 250;

/// Of a thousand changes, so many are forced.
const FORCED: u64 = 150;

/// Of a thousand changes, so many are interrupted.
const INTERRUPTED: u64 = 200;

/// The edition that only later builds know.
pub(super) const NEXT: Edition = Edition(Edition::FIRST.0 + 1);

/// Which seeds upgrade is drawn apart.
const UPGRADES_SALT: u64 = 0x5afe_0f5e_ed00_0011;

/// So that what the operator draws depends on nothing else.
const SALT: u64 = 0x5afe_0f5e_ed00_0010;

const LOOK_EVERY: Duration = Duration::from_millis(200);
