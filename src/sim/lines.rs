//! How an event of the cores reads: names, entries, records and messages as text.
//!
//! ```text
//! 1@1.1 leads                               a replica that leads is shown with its ballot,
//! 1~2.1 → 2 Prepare ballot=2.1 from=1       a candidate with the one that it tries
//! 2 journal vote slot=1 ballot=1.1 a
//! 2 sync
//! 2 learns slot=1 a
//! 1 ⇥ 2 Accept …                            lost
//! ```

use std::fmt::Write as _;

use crate::paxos::Paxos;
use crate::paxos::step::RoleName;
use crate::types::entry::{Entry, EntryKind};
use crate::types::ids::{ReplicaId, Slot, SlotRange};
use crate::types::membership::{Member, Membership};
use crate::types::message::{Abstention, Doubt, Message, TakeOver, Vote};
use crate::types::record::{Doubts, Record};
use crate::types::slots::SlotSet;

use super::journal::Damage;

/// The replica, with its ballot where it leads or campaigns.
#[must_use]
pub fn name(id: ReplicaId, core: Option<&Paxos>) -> String {
    let Some(view) = core.map(Paxos::view) else { return id.to_string() };
    match view.role {
        RoleName::Follower => id.to_string(),
        RoleName::Candidate => format!("{id}~{}", view.promised),
        RoleName::Leader => format!("{id}@{}", view.promised),
    }
}

/// The commands as text, `no-op`, or who belongs.
#[must_use]
pub fn entry(entry: &Entry) -> String {
    match entry.kind() {
        EntryKind::NoOp => "no-op".into(),
        EntryKind::Later => format!("edition {}", entry.edition()),
        EntryKind::Membership => entry.as_membership().map_or_else(String::new, membership),
        EntryKind::Commands => {
            let text = entry.commands().map(text).collect::<Vec<_>>().join("+");
            match text.char_indices().nth(24) {
                Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
                None => text,
            }
        }
    }
}

/// Who belongs: voters, then observers.
fn membership(membership: Membership) -> String {
    let ids = |members: &[Member]| {
        members.iter().map(|member| member.id.to_string()).collect::<Vec<_>>().join(",")
    };
    let observers = match membership.observers() {
        [] => String::new(),
        observers => format!(" observers={}", ids(observers)),
    };
    format!("voters={}{observers}", ids(membership.voters()))
}

/// A command: itself where it can be printed.
fn text(bytes: &[u8]) -> String {
    let text = std::str::from_utf8(bytes).ok();
    let printed = text.filter(|text| !text.chars().any(char::is_control));
    printed.map_or_else(|| format!("({} bytes)", bytes.len()), str::to_owned)
}

/// A record as it is appended.
#[must_use]
pub fn record(record: &Record) -> String {
    match record {
        Record::Promise { ballot } => format!("promise ballot={ballot}"),
        Record::Vote { slot, ballot, entry: voted } => {
            format!("vote slot={slot} ballot={ballot} {}", entry(voted))
        }
        Record::Chosen { slot, entry: chosen } => format!("chosen slot={slot} {}", entry(chosen)),
        Record::Verdicts(verdicts) => format!("verdicts {}", verdicts.slots),
        Record::Sightings(seen) => format!("sightings {}", seen.len()),
        Record::Doubts(noted) => format!("doubts{}", doubts(noted)),
    }
}

/// What a replica doubts, each doubt behind a space.
#[must_use]
pub fn doubts(doubts: &Doubts) -> String {
    let slots = |name: &str, set: &SlotSet| {
        set.ranges().iter().map(|slots| format!(" {name}={}", range(*slots))).collect::<String>()
    };
    let promise = if doubts.promise_lost { " promise-lost" } else { "" };
    let (faulty, uncertain) = (&doubts.faulty, &doubts.uncertain);
    format!("{promise}{}{}", slots("faulty", faulty), slots("uncertain", uncertain))
}

/// What is damaged.
#[must_use]
pub fn damage(damage: Damage) -> String {
    match damage {
        Damage::Slot(slot) => format!("its record of slot={slot}"),
        Damage::Somewhere(slot) => format!("a record, which was of slot={slot}"),
        Damage::End => "its last group".into(),
        Damage::Promise => "its promise".into(),
    }
}

/// The slots; where they reach far, only where they begin.
fn range(slots: SlotRange) -> String {
    match slots.first.count_to(slots.end) < 1 << 16 {
        true => slots.to_string(),
        false => format!("{}..", slots.first),
    }
}

fn abstained(abstained: &[Abstention]) -> String {
    let shown = abstained.iter().map(|Abstention { slots, doubt }| {
        let name = match doubt {
            Doubt::Faulty => "faulty",
            Doubt::Uncertain => "uncertain",
        };
        format!(" {name}={}", range(*slots))
    });
    shown.collect()
}

/// A message with what matters in it.
#[must_use]
pub fn message(message: &Message) -> String {
    let mut text = message.name().to_owned();
    let told = match message {
        Message::Heartbeat(heartbeat) => {
            let leads = if heartbeat.leads { " leads" } else { "" };
            let hears = if heartbeat.hears_leader { " hears" } else { "" };
            let priority = match heartbeat.priority {
                0 => String::new(),
                priority => format!(" priority={priority}"),
            };
            write!(text, "{leads}{hears}{priority} chosen<{}", heartbeat.slot_chosen)
        }
        Message::Prepare { ballot, from } => write!(text, " ballot={ballot} from={from}"),
        Message::Promise(promise) => {
            let part = match promise.parts {
                1 => String::new(),
                parts => format!(" part={}/{parts}", promise.part),
            };
            let (ballot, chosen) = (promise.ballot, promise.slot_chosen);
            let (voted, abstained) = (votes(&promise.votes), abstained(&promise.abstained));
            write!(text, " ballot={ballot}{part} chosen<{chosen} voted={voted}{abstained}")
        }
        Message::Accept(accept) => {
            let (ballot, entries) = (accept.ballot, entries(accept.first_slot, &accept.entries));
            write!(text, " ballot={ballot} {entries} chosen<{}", accept.slot_chosen)
        }
        Message::Accepted(accepted) => {
            write!(text, " ballot={} slots={}", accepted.ballot, accepted.slots)
        }
        Message::Reject { ballot, promised } => {
            write!(text, " ballot={ballot} promised={promised}")
        }
        Message::Fetch { from } | Message::Unsure { from, .. } => write!(text, " from={from}"),
        Message::Settled { ballot, from, .. } => write!(text, " ballot={ballot} from={from}"),
        Message::Trimmed { first } => write!(text, " first={first}"),
        Message::FetchCheckpoint { slot, offset } => {
            let slot = slot.map(|slot| format!(" slot={slot}")).unwrap_or_default();
            write!(text, "{slot} offset={offset}")
        }
        Message::CheckpointPart(part) => {
            let (slot, end) = (part.slot, part.offset + part.bytes.len() as u64);
            write!(text, " slot={slot} bytes={}..{end}/{}", part.offset, part.bytes_total)
        }
        Message::Fill { until } => write!(text, " until={until}"),
        Message::Leaving { slot } => write!(text, " slot={slot}"),
        Message::Dismissed { slot, .. } | Message::Lost { slot } => write!(text, " slot={slot}"),
        Message::TakeOver(TakeOver { ballot, slot_chosen, stalled, .. }) => {
            let stalled = if *stalled { " stalled" } else { "" };
            write!(text, " ballot={ballot} chosen<{slot_chosen}{stalled}")
        }
        Message::Chosen(chosen) => {
            let entries = entries(chosen.first_slot, &chosen.entries);
            write!(text, " {entries} chosen<{}", chosen.slot_chosen)
        }
        Message::Confirm { ballot, nonce } | Message::Confirmed { ballot, nonce, .. } => {
            write!(text, " ballot={ballot} nonce={nonce}")
        }
        Message::Renew { ballot, nonce, millis }
        | Message::Granted { ballot, nonce, millis, .. } => {
            write!(text, " ballot={ballot} nonce={nonce} millis={millis}")
        }
        Message::Barrier { read, .. } => write!(text, " read={read}"),
        Message::BarrierAt { read, slot, .. } => write!(text, " read={read} slot<{slot}"),
        Message::Introduce(introduce) => write!(text, " voters={:?}", introduce.voters),
        Message::Agreed { formed, .. } => write!(text, " formed={formed}"),
        Message::Forward(_) | Message::Bounced { .. } => Ok(()),
    };
    told.expect("a string takes what is written to it");
    text
}

fn votes(votes: &[Vote]) -> String {
    let shown = votes.iter().map(|vote| {
        let Vote { slot, ballot, entry: voted } = vote;
        format!("{slot}:{ballot} {}", entry(voted))
    });
    format!("[{}]", shown.collect::<Vec<_>>().join(", "))
}

fn entries(first: Slot, entries: &[Entry]) -> String {
    let slots = (0..).map(|count| first.plus(count)).zip(entries);
    let shown = slots.map(|(slot, shown)| format!("{slot}:{}", entry(shown)));
    format!("[{}]", shown.collect::<Vec<_>>().join(", "))
}
