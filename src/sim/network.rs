//! The simulated network: messages that are late, lost, doubled, held back, and come again.
//!
//! Every message is a [`Parcel`] with a fate: it leaves now or never, in up to three copies, each
//! after a delay of its own, so that later ones may overtake it. Links are directed and are cut in
//! one direction at a time. On top of chance stand rules, which decide about the parcels that they
//! match: hold them until they are released, lose them, double them, delay them.
//!
//! A parcel bears the hello of the opening that sent it. The receiver lets it in as its transport
//! would: by the gate of the shipped runtime.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use crate::types::hello::Hello;
use crate::types::ids::ReplicaId;
use crate::types::message::Message;

use super::links::Link;
use super::rng::Rng;

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// From whom to whom.
    pub link: Link,
    /// What the sender said of itself when it connected.
    pub hello: Hello,
    /// The message.
    pub message: Message,
}

/// How chance treats messages.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Shortest and longest time on the way.
    pub delay: (Duration, Duration),
    /// Of a thousand messages, so many take up to thirty times as long.
    pub straggle: u64,
    /// Of a thousand messages, so many are lost.
    pub loss: u64,
    /// Of a thousand messages, so many arrive twice.
    pub duplicate: u64,
    /// Of a thousand messages, so many are remembered and may come again much later.
    pub remember: u64,
}

impl Default for Weather {
    /// A good network: nothing is lost, half a millisecond each way.
    fn default() -> Self {
        Self {
            delay: (Duration::from_micros(200), Duration::from_micros(800)),
            straggle: 0,
            loss: 0,
            duplicate: 0,
            remember: 0,
        }
    }
}

/// What a rule does with the parcels that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They wait until they are released.
    Hold,
    /// They are lost.
    Drop,
    /// They arrive twice.
    Duplicate,
    /// They take so much longer.
    Delay(Duration),
}

/// The number of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleId(pub u64);

/// Decides about the parcels that it matches.
struct Rule {
    id: RuleId,
    fate: Fate,
    matches: Box<dyn Fn(&Parcel) -> bool + Send>,
}

/// All links.
#[derive(Default)]
pub struct Network {
    weather: Weather,
    cut: BTreeSet<Link>,
    clogged: BTreeMap<Link, Duration>,
    rules: Vec<Rule>,
    rule_ids: u64,
    held: Vec<(RuleId, Parcel)>,
    /// Old messages that may come again, a few for each link.
    remembered: BTreeMap<Link, VecDeque<Parcel>>,
}

/// Most copies of one message: a rule doubles it, and then chance adds one.
const COPIES_MAX: usize = 3;

/// Most old messages that are remembered for a link.
const REMEMBERED_MAX: usize = 64;

impl Network {
    /// How chance treats messages from now on.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// From now on, what is sent on the link is lost.
    pub fn cut(&mut self, link: Link) -> bool {
        self.cut.insert(link)
    }

    /// The link works again.
    pub fn mend(&mut self, link: Link) {
        self.cut.remove(&link);
        self.clogged.remove(&link);
    }

    /// Whether the link is cut.
    #[must_use]
    pub fn is_cut(&self, link: Link) -> bool {
        self.cut.contains(&link)
    }

    /// From now on, what is sent on the link takes so much longer.
    pub fn clog(&mut self, link: Link, delay: Duration) {
        self.clogged.insert(link, delay);
    }

    /// All links work, and no rule is left. What was held is lost.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.clogged.clear();
        self.rules.clear();
        self.held.clear();
    }

    /// A rule for the parcels that match, before all older ones.
    pub fn add_rule(
        &mut self,
        fate: Fate,
        matches: impl Fn(&Parcel) -> bool + Send + 'static,
    ) -> RuleId {
        self.rule_ids += 1;
        let id = RuleId(self.rule_ids);
        self.rules.insert(0, Rule { id, fate, matches: Box::new(matches) });
        id
    }

    /// The rule is no more; what it held is returned, in the order in which it was sent.
    pub fn remove_rule(&mut self, id: RuleId) -> Vec<Parcel> {
        self.rules.retain(|rule| rule.id != id);
        let (released, held) = self.held.drain(..).partition(|(by, _)| *by == id);
        self.held = held;
        Vec::into_iter(released).map(|(_, parcel)| parcel).collect()
    }

    /// What is held, and by which rule.
    #[must_use]
    pub fn held(&self) -> &[(RuleId, Parcel)] {
        &self.held
    }

    /// A message leaves: how long each of its copies takes, of which there may be none.
    pub fn send(
        &mut self,
        parcel: &Parcel,
        rng: &mut Rng,
    ) -> impl DoubleEndedIterator<Item = Duration> + use<> {
        let (delays, copies) = self.delays(parcel, rng);
        delays.into_iter().take(copies)
    }

    fn delays(&mut self, parcel: &Parcel, rng: &mut Rng) -> ([Duration; COPIES_MAX], usize) {
        let none = ([Duration::ZERO; COPIES_MAX], 0);
        if self.is_cut(parcel.link) {
            return none;
        }
        let mut copies = 1;
        let mut extra = self.clogged.get(&parcel.link).copied().unwrap_or_default();
        if let Some(rule) = self.rules.iter().find(|rule| (rule.matches)(parcel)) {
            match rule.fate {
                Fate::Hold => {
                    self.held.push((rule.id, parcel.clone()));
                    return none;
                }
                Fate::Drop => return none,
                Fate::Duplicate => copies = 2,
                Fate::Delay(delay) => extra += delay,
            }
        }
        if self.weather.loss > 0 && rng.per_mille(self.weather.loss) {
            return none;
        }
        if self.weather.duplicate > 0 && rng.per_mille(self.weather.duplicate) {
            copies += 1;
        }
        if self.weather.remember > 0 && rng.per_mille(self.weather.remember) {
            let remembered = self.remembered.entry(parcel.link).or_default();
            remembered.push_back(parcel.clone());
            if remembered.len() > REMEMBERED_MAX {
                remembered.pop_front();
            }
        }
        let mut delays = [Duration::ZERO; COPIES_MAX];
        for delay in &mut delays[..copies] {
            *delay = extra + self.delay(rng);
        }
        (delays, copies)
    }

    /// An old message that comes again, if one is remembered.
    pub fn recall(&mut self, rng: &mut Rng) -> Option<Parcel> {
        let links = self.remembered.iter().filter(|(_, parcels)| !parcels.is_empty());
        let links = links.map(|(link, _)| *link).collect::<Vec<_>>();
        if links.is_empty() {
            return None;
        }
        let parcels = self.remembered.get(rng.pick(&links))?;
        parcels.get(rng.below(parcels.len() as u64) as usize).cloned()
    }

    fn delay(&self, rng: &mut Rng) -> Duration {
        let (least, most) = self.weather.delay;
        let delay = rng.time(least..=most);
        let straggles = self.weather.straggle > 0 && rng.per_mille(self.weather.straggle);
        if straggles { delay * rng.within(2..=30) as u32 } else { delay }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("weather", &self.weather)
            .field("cut", &self.cut)
            .field("rules", &self.rules.len())
            .field("held", &self.held.len())
            .finish_non_exhaustive()
    }
}

/// All links between the replicas, in order.
#[must_use]
pub fn links_among(ids: &[ReplicaId]) -> Vec<Link> {
    let pairs = ids.iter().flat_map(|from| ids.iter().map(move |to| (*from, *to)));
    pairs.filter(|(from, to)| from != to).map(|(from, to)| Link { from, to }).collect()
}
