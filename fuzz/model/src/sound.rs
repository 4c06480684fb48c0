//! What must hold: configurations that are explored to their end, and some that are too large.
//!
//! In all of them letters are lost, late, doubled and reordered, also across crashes.

use indelible::types::message::Doubt;

use crate::past::{self, Past};
use crate::runs::Sound;
use crate::settings::{Heartbeats, REPLICAS, Settings};

/// So many states are explored with every change.
const SMALL_STATES_MAX: usize = 700_000;

/// What must hold, explored to its end.
#[must_use]
pub fn full() -> Vec<Sound> {
    [
        ballots(),
        reads(),
        crashes(),
        damage(),
        settled(),
        changes(),
        additions(),
        behind_changes(),
        states(),
        states_behind_changes(),
    ]
    .concat()
}

/// What must hold, small enough for every change.
#[must_use]
pub fn small() -> Vec<Sound> {
    let is_small = |sound: &Sound| sound.expected.is_some_and(|states| states <= SMALL_STATES_MAX);
    full().into_iter().filter(is_small).collect()
}

/// What must hold, and is too large to be explored to its end here.
#[must_use]
pub fn deep() -> Vec<Sound> {
    let reads = |reads, settings| Settings { reads, ..settings };
    let voter = |settings| crash([0, 0, 1], settings);
    let two = |name| Settings::new(name, 2);
    let settings = vec![
        Settings::new("a: 3 slots, 2 ballots", 3),
        heard(two("a: 2 slots, 2 ballots, heartbeats of leaders")),
        reads([1, 0, 0], two("a: a read, 2 slots")),
        reads([0, 0, 2], at_once(voter(one("b: two reads at a follower that crashes")))),
        faulty(voter(two("c: a voter's slot is FAULTY, 2 slots"))),
        three(at_once(faulty(voter(two("c: a voter's slot is FAULTY, 2 slots, 3 ballots"))))),
        reads([1, 0, 0], at_once(faulty(voter(two("c: a read, FAULTY, 2 slots"))))),
        heard(uncertain(voter(one("c: settled, UNCERTAIN, late syncs")))),
        heard(twice(at_once(both(crash([0, 0, 2], one("c: settled, then damaged again")))))),
        Settings { alpha: 1, ..at_once(both(voter(two("c: settled, 2 slots, alpha 1")))) },
        once(to(&[&[1, 2, 3, 4]], "d: ABC -> ABCD, 2 slots, 1 ballot")),
        to(&[&[1, 4]], "d: ABC -> AD, 2 slots, alpha 1"),
        to(&[&[1, 2, 4]], "d: ABC -> ABD, 2 slots, alpha 1"),
        added(2, C_OR_D, "d: AB -> ABC or ABD, 2 slots, alpha 1"),
        added(2, C_THEN_D, "d: AB -> ABC -> ABCD, 2 slots, alpha 1"),
        behind(past::chosen_by_who_stays(), ABCD, "d: behind ABC -> ABCD, 2 slots"),
        slots(3, 1, behind(past::chosen(), ADE, "d: behind ABC -> ADE, 3 slots, alpha 1")),
        slots(3, 2, behind(alone(), ABD, "d: behind ABC -> ABD, unheard, 3 slots")),
    ];
    settings.into_iter().map(|settings| Sound { settings, expected: None }).collect()
}

/// (a) Proposers against each other.
fn ballots() -> Vec<Sound> {
    let two = || Settings::new("a: 2 slots, 2 ballots", 2);
    vec![
        sound(1_032, one("a: 1 slot, 2 ballots")),
        sound(14_119, three(one("a: 1 slot, 3 ballots"))),
        sound(227_401, four(one("a: 1 slot, 4 ballots"))),
        sound(12_645, syncs(one("a: 1 slot, 2 ballots, late syncs"))),
        sound(271_634, syncs(three(one("a: 1 slot, 3 ballots, late syncs")))),
        sound(61_947, heard(one("a: 1 slot, 2 ballots, heartbeats of leaders"))),
        sound(131_247, all_heard(one("a: 1 slot, 2 ballots, all heartbeats"))),
        sound(107_867, resent(heard(one("a: 1 slot, 2 ballots, heartbeats, retransmission")))),
        sound(62_152, two()),
        sound(56_065, Settings { alpha: 1, name: "a: 2 slots, 2 ballots, alpha 1", ..two() }),
        sound(312_295, resent(Settings { name: "a: 2 slots, 2 ballots, retransmission", ..two() })),
        sound(2_822_068, syncs(Settings { name: "a: 2 slots, 2 ballots, late syncs", ..two() })),
        sound(1_423_276, three(Settings { name: "a: 2 slots, 3 ballots", ..two() })),
    ]
}

/// (a) Reads beside them.
fn reads() -> Vec<Sound> {
    let reads = |reads, settings| Settings { reads, ..settings };
    let crash = |settings| at_once(crash([0, 0, 1], settings));
    vec![
        sound(45_344, reads([1, 0, 0], one("a: a read at the first proposer"))),
        sound(479_470, reads([2, 0, 0], one("a: two reads at the first proposer"))),
        sound(433_954, reads([0, 0, 1], one("a: a read at a follower"))),
        sound(129_739, reads([1, 0, 0], crash(one("b: a read, a voter crashes")))),
        sound(1_172_725, reads([0, 0, 1], crash(one("b: a read at a follower that crashes")))),
        sound(208_886, reads([1, 0, 0], faulty(crash(one("c: a read, a voter's slot is FAULTY"))))),
    ]
}

/// (b) Crashes: what is not durable is lost.
fn crashes() -> Vec<Sound> {
    let anyone = |settings| crash([1, 1, 1], settings);
    let two = |name| Settings::new(name, 2);
    vec![
        sound(8_662, crash([0, 0, 1], one("b: a voter crashes"))),
        sound(5_877, crash([1, 0, 0], one("b: the first proposer crashes"))),
        sound(77_544, syncs(anyone(one("b: anyone crashes")))),
        sound(95_103, three(at_once(anyone(one("b: anyone crashes, 3 ballots, no late syncs"))))),
        sound(189_085, three(crash([0, 0, 1], one("b: a voter crashes, 3 ballots")))),
        sound(2_200_288, heard(crash([0, 0, 1], one("b: a voter crashes, heartbeats")))),
        sound(5_183_243, crash([0, 0, 1], two("b: a voter crashes, 2 slots"))),
        sound(588_538, at_once(anyone(two("b: anyone crashes, 2 slots, no late syncs")))),
        sound(1_163_675, crash([1, 0, 0], two("b: the first proposer crashes, 2 slots"))),
        sound(256_018, twice(syncs(crash([2, 2, 2], one("b: two crashes"))))),
    ]
}

/// (c) Damage: an opening finds that votes, or the promise, are lost.
fn damage() -> Vec<Sound> {
    let anyone = |settings| crash([1, 1, 1], settings);
    let voter = |settings| crash([0, 0, 1], settings);
    let two = |name| Settings::new(name, 2);
    let promise = |settings| Settings { damages_max: 1, loses_promise: true, ..settings };
    vec![
        sound(12_110, faulty(voter(one("c: a voter's slot is FAULTY")))),
        sound(122_580, faulty(syncs(anyone(one("c: anyone's slot is FAULTY"))))),
        sound(416_723, uncertain(syncs(anyone(one("c: anyone's slot is UNCERTAIN"))))),
        sound(
            161_789,
            three(at_once(faulty(anyone(one("c: anyone's slot is FAULTY, 3 ballots"))))),
        ),
        sound(318_593, three(at_once(uncertain(anyone(one("c: UNCERTAIN, 3 ballots")))))),
        sound(
            49_698,
            Settings {
                damages_max: 2,
                ..twice(at_once(faulty(crash([2, 2, 2], one("c: two slots are FAULTY")))))
            },
        ),
        sound(
            137_486,
            twice(at_once(uncertain(crash([2, 2, 2], one("c: UNCERTAIN, two crashes"))))),
        ),
        sound(2_176_919, faulty(at_once(anyone(two("c: FAULTY, 2 slots, no late syncs"))))),
        sound(5_386_269, uncertain(at_once(anyone(two("c: UNCERTAIN, 2 slots, no late syncs"))))),
        sound(8_745, promise(at_once(anyone(one("c: a promise is lost"))))),
    ]
}

/// (c) Doubts that a leader ends: heartbeats make voters ask.
fn settled() -> Vec<Sound> {
    let voter = |settings| crash([0, 0, 1], settings);
    vec![
        sound(874_704, heard(at_once(faulty(voter(one("c: settled, FAULTY")))))),
        sound(3_722_775, heard(at_once(uncertain(voter(one("c: settled, UNCERTAIN")))))),
    ]
}

/// (d) A change of the membership, by any leader. More of four replicas is in `deep`.
fn changes() -> Vec<Sound> {
    let slot = |settings| Settings { slots: 1, ..settings };
    let twice = |settings| Settings { changes_max: 2, ..settings };
    let read = |settings| Settings { reads: [1, 0, 0], ..settings };
    let without_c = |name| to(&[&[1, 2]], name);
    vec![
        sound(683_420, without_c("d: ABC -> AB, 2 slots, alpha 1")),
        sound(1_143_506, Settings { alpha: 2, ..without_c("d: ABC -> AB, 2 slots") }),
        sound(12_933, slot(twice(to(&[&[1, 2], &[2, 3]], "d: ABC -> AB or BC, 1 slot")))),
        sound(3_827_597, twice(to(&[&[1, 2], &[2, 3]], "d: ABC -> AB or BC, 2 slots, alpha 1"))),
        sound(735_404, to(&[&[1]], "d: ABC -> A, 2 slots, alpha 1")),
        sound(1_862_578, twice(to(&[&[1, 2], &[1]], "d: ABC -> AB -> A, 2 slots, alpha 1"))),
        sound(111_248, slot(read(without_c("d: a read, ABC -> AB, 1 slot")))),
        sound(204_270, once(read(without_c("d: a read, ABC -> AB, 2 slots, 1 ballot")))),
        sound(1_617_472, crash([0, 1, 0], once(without_c("d: ABC -> AB, 1 ballot, B crashes")))),
        sound(97_673, slot(to(&[&[1, 2, 4]], "d: ABC -> ABD, 1 slot"))),
        sound(191_469, slot(to(&[&[1, 2, 3, 4]], "d: ABC -> ABCD, 1 slot"))),
        sound(2_940_598, once(to(&[&[1, 2, 4]], "d: ABC -> ABD, 2 slots, 1 ballot"))),
    ]
}

/// (d) Two replicas are added: one behind the other, or each by another leader. More is in `deep`.
fn additions() -> Vec<Sound> {
    let slot = |settings| Settings { slots: 1, ..settings };
    vec![
        sound(23_744, slot(added(2, C_OR_D, "d: AB -> ABC or ABD, 1 slot"))),
        sound(19_188, once(added(1, B_THEN_C, "d: A -> AB -> ABC, 2 slots, 1 ballot"))),
        sound(351_756, added(1, B_THEN_C, "d: A -> AB -> ABC, 2 slots, alpha 1")),
        sound(922_076, once(added(2, C_THEN_D, "d: AB -> ABC -> ABCD, 2 slots, 1 ballot"))),
        sound(2_304_233, slot(added(3, D_OR_E, "d: ABC -> ABCD or ABCE, 1 slot"))),
    ]
}

const B_THEN_C: &[&[u64]] = &[&[1, 2], &[1, 2, 3]];
const C_THEN_D: &[&[u64]] = &[&[1, 2, 3], &[1, 2, 3, 4]];
const C_OR_D: &[&[u64]] = &[&[1, 2, 3], &[1, 2, 4]];
const D_OR_E: &[&[u64]] = &[&[1, 2, 3, 4], &[1, 2, 3, 5]];

/// Of so many voters at first, two changes are made.
fn added(voters: usize, successors: &'static [&'static [u64]], name: &'static str) -> Settings {
    Settings { voters, changes_max: 2, ..to(successors, name) }
}

/// (d) Behind a change, or half way through one: A leads and made it, B may campaign and does not
/// know of it. All is explored that can follow.
fn behind_changes() -> Vec<Sound> {
    let joined = || past::unheard(past::chosen_by_who_stays());
    let overtaken = behind(past::overtaken(), A_OR_AB, "d: behind ABC -> A, overtaken by AB");
    vec![
        sound(3_658_101, behind(past::proposed(), ABD, "d: half way ABC -> ABD, 2 slots")),
        sound(1_591_147, behind(past::chosen(), ABD, "d: behind ABC -> ABD, 2 slots")),
        sound(188_321, behind(alone(), ABD, "d: behind ABC -> ABD, unheard, 2 slots")),
        sound(
            6_175_225,
            slots(3, 1, behind(alone(), ABD, "d: behind ABC -> ABD, unheard, 3 slots, alpha 1")),
        ),
        sound(
            6_682_164,
            slots(3, 2, behind(past::found(), ABD, "d: behind ABC -> ABD, found, 3 slots")),
        ),
        sound(
            5_188_045,
            three(behind(alone(), ABD, "d: behind ABC -> ABD, unheard, 2 slots, 3 ballots")),
        ),
        sound(743_085, behind(past::chosen(), ADE, "d: behind ABC -> ADE, 2 slots")),
        sound(
            344_650,
            three(behind(alone(), ADE, "d: behind ABC -> ADE, unheard, 2 slots, 3 ballots")),
        ),
        sound(
            100_279,
            slots(3, 1, behind(alone(), ADE, "d: behind ABC -> ADE, unheard, 3 slots, alpha 1")),
        ),
        sound(
            1_390_784,
            slots(3, 2, behind(alone(), ADE, "d: behind ABC -> ADE, unheard, 3 slots")),
        ),
        sound(678_641, behind(joined(), ABCD, "d: behind ABC -> ABCD, unheard, 2 slots")),
        sound(191_088, four(slots(3, 2, Settings { changes_max: 2, ..overtaken }))),
    ]
}

fn behind(past: Vec<Past>, successors: &'static [&'static [u64]], name: &'static str) -> Settings {
    Settings { past, ..to(successors, name) }
}

/// A and C chose a change by which C goes, and A alone knows.
fn alone() -> Vec<Past> {
    past::unheard(past::chosen())
}

fn slots(slots: u64, alpha: u64, settings: Settings) -> Settings {
    Settings { slots, alpha, ..settings }
}

const ABD: &[&[u64]] = &[&[1, 2, 4]];
const ADE: &[&[u64]] = &[&[1, 4, 5]];
const ABCD: &[&[u64]] = &[&[1, 2, 3, 4]];
const A_OR_AB: &[&[u64]] = &[&[1], &[1, 2]];

/// (e) Anyone takes in the state of a peer, once, at any time.
fn states() -> Vec<Sound> {
    let anyone = |settings| crash([1, 1, 1], settings);
    let two = |name| installs(Settings::new(name, 2));
    let one = |name| installs(one(name));
    vec![
        sound(2_449, one("e: a state, 1 slot, 2 ballots")),
        sound(41_025, three(one("e: a state, 1 slot, 3 ballots"))),
        sound(229_599, two("e: a state, 2 slots, 2 ballots")),
        sound(22_466, crash([0, 0, 1], one("e: a state, a voter crashes"))),
        sound(145_940, syncs(anyone(one("e: a state, anyone crashes")))),
        sound(25_950, at_once(faulty(anyone(one("e: a state, anyone's slot is FAULTY"))))),
        sound(1_211_114, at_once(crash([0, 0, 1], two("e: a state, a voter crashes, 2 slots")))),
    ]
}

/// (e) The same beside a change: who takes in a state behind it never sees the slot that holds it.
fn states_behind_changes() -> Vec<Sound> {
    let slot = |settings| Settings { slots: 1, ..settings };
    let without_c = |name| installs(to(&[&[1, 2]], name));
    let crashes = |crashes, name| at_once(crash(crashes, once(without_c(name))));
    let damaged = |name| at_once(faulty(crash([1, 1, 1], without_c(name))));
    let joined = |name| slot(installs(to(&[&[1, 2, 4]], name)));
    vec![
        sound(69_789, once(without_c("e: a state, ABC -> AB, 2 slots, 1 ballot"))),
        sound(583_202, crashes([0, 0, 1], "e: a state, ABC -> AB, 1 ballot, C crashes")),
        sound(1_777_256, crashes([0, 1, 0], "e: a state, ABC -> AB, 1 ballot, B crashes")),
        sound(2_953_723, installs(to(&[&[1]], "e: a state, ABC -> A, 2 slots, alpha 1"))),
        sound(2_796_840, without_c("e: a state, ABC -> AB, 2 slots, alpha 1")),
        sound(97_758, slot(damaged("e: a state, ABC -> AB, 1 slot, anyone's slot is FAULTY"))),
        sound(225_702, joined("e: a state, ABC -> ABD, 1 slot")),
    ]
}

fn to(successors: &'static [&'static [u64]], name: &'static str) -> Settings {
    Settings { successors, alpha: 1, ..Settings::new(name, 2) }
}

fn once(settings: Settings) -> Settings {
    Settings { campaigns: [1, 0, 0], campaigns_max: 1, ..settings }
}

fn installs(settings: Settings) -> Settings {
    Settings { installs: [1; REPLICAS], installs_max: 1, ..settings }
}

fn sound(expected: usize, settings: Settings) -> Sound {
    Sound { settings, expected: Some(expected) }
}

fn one(name: &'static str) -> Settings {
    Settings::new(name, 1)
}

fn three(settings: Settings) -> Settings {
    Settings { campaigns: [2, 1, 0], campaigns_max: 3, ..settings }
}

fn four(settings: Settings) -> Settings {
    Settings { campaigns: [2, 2, 0], campaigns_max: 4, ..settings }
}

fn heard(settings: Settings) -> Settings {
    Settings { heartbeats: Heartbeats::OfLeaders, ..settings }
}

fn all_heard(settings: Settings) -> Settings {
    Settings { heartbeats: Heartbeats::All, ..settings }
}

fn resent(settings: Settings) -> Settings {
    Settings { retransmits: true, ..settings }
}

fn syncs(settings: Settings) -> Settings {
    Settings { syncs: [true; 3], ..settings }
}

fn at_once(settings: Settings) -> Settings {
    Settings { syncs: [false; 3], ..settings }
}

/// One crash, of one of these, whose syncs are late.
fn crash(crashes: [u8; 3], settings: Settings) -> Settings {
    let syncs = crashes.map(|crashes| crashes > 0);
    Settings { crashes, crashes_max: 1, syncs, ..settings }
}

fn twice(settings: Settings) -> Settings {
    Settings { crashes_max: 2, ..settings }
}

fn faulty(settings: Settings) -> Settings {
    Settings { damages_max: 1, damages: &[Doubt::Faulty], ..settings }
}

fn uncertain(settings: Settings) -> Settings {
    Settings { damages_max: 1, damages: &[Doubt::Uncertain], tears: true, ..settings }
}

fn both(settings: Settings) -> Settings {
    let damages = &[Doubt::Faulty, Doubt::Uncertain];
    Settings { damages_max: 1, damages, tears: true, ..settings }
}
