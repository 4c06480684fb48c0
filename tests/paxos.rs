//! The protocol core, step by step: the scripts in `tests/paxos`, each named after its claim.
//!
//! The commands are documented where they are interpreted.

mod support;

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use indelible::ReplicaId;
use indelible::sim::cluster::Cluster;
use indelible::sim::cores::Cores;
use indelible::sim::journal::Damage;
use indelible::sim::lines;
use indelible::sim::links::{Filter, Link};
use indelible::types::bugs::{self, Bug};
use indelible::types::edition::Edition;
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{Ballot, Boot, Chain, Incarnation, Slot, SlotRange};
use indelible::types::marks::{self, Mark};
use indelible::types::membership::Membership;
use indelible::types::message::{
    Accept, Accepted, Chosen, Heartbeat, Message, Promise, TakeOver, Vote,
};
use indelible::types::time::Time;
use support::script::{self, Command};

#[test]
fn scripts_hold() {
    for path in script::scripts("tests/paxos") {
        let mut cores = None;
        script::run(&path, &mut |command| interpret(&mut cores, command));
    }
}

/// Seeded bugs of which a script tells the story.
const NOTICED: &[(Bug, &str)] = &[
    (Bug::AnswerNone, "faulty_slot_abstains"),
    (Bug::AdoptBelowAbstainer, "faulty_slot_abstains"),
    (Bug::CountFaulty, "faulty_answer_forbids_to_count_floors"),
    (Bug::AmnesiaVotes, "lost_promise_is_silent_in_both_phases"),
    (Bug::StateForgetsVotes, "installed_state_keeps_later_votes"),
    (Bug::StateGoesBack, "an_older_state_is_not_taken_in"),
    (Bug::VoteOfOtherBallot, "late_acknowledgement_of_an_older_ballot_is_not_counted"),
    (Bug::LeadOverruled, "leader_told_of_another_entry_steps_down"),
    (Bug::ReadUnconfirmed, "returning_leader_serves_no_reads"),
    (Bug::SmallConfirm, "returning_leader_serves_no_reads"),
    (Bug::NonceReused, "late_confirmation_is_not_counted"),
    (Bug::PromiseOfOtherBallot, "late_promise_of_an_earlier_campaign_is_not_counted"),
    (Bug::AdoptFirstVote, "highest_ballot_is_adopted_whoever_answers_first"),
    (Bug::ReadyAtFirstEntry, "reads_wait_for_all_that_phase_1_found"),
    (Bug::ConfirmDeposed, "deposed_leader_is_not_confirmed"),
    (Bug::HandOverForEver, "hand_over_that_fails_is_given_up"),
    (Bug::PreferLower, "preferred_peer_has_the_highest_priority"),
    (Bug::PreferEqual, "preferred_peer_has_the_highest_priority"),
    (Bug::ProposeBehindChange, "nothing_is_proposed_behind_an_unchosen_membership"),
    (Bug::ChangeUnprepared, "change_of_voters_waits_for_their_promises"),
    (Bug::FoundChangeTrusted, "half_made_change_may_hide_a_choice"),
    (Bug::OvertakenFollows, "overtaken_change_changes_nothing"),
    (Bug::CandidateKeepsQuorum, "candidate_counts_by_what_it_learns"),
    (Bug::AnswerToEarlierLife, "barrier_of_an_earlier_opening_is_not_taken"),
    (Bug::DriftIgnored, "lease_counts_from_its_question"),
    (Bug::LeaseForgotten, "granter_waits_after_a_restart"),
    (Bug::PromiseDespiteGrant, "granter_answers_no_other_candidate"),
    (Bug::CampaignDespiteGrant, "granter_promises_nobody_else"),
    (Bug::GrantDeposed, "deposed_leader_is_granted_no_lease"),
    (Bug::SmallLease, "lease_needs_all_phase_1_quorums"),
    (Bug::LeaseBeforeReady, "lease_is_not_used_before_the_leader_is_ready"),
    (Bug::LeaseKeptAtHandOver, "lease_is_given_up_to_hand_over"),
    (Bug::LateRelease, "late_end_of_a_lease_ends_no_later_one"),
    (Bug::LeaseFromReceipt, "late_grant_counts_from_its_question"),
];

#[test]
fn scripts_notice_bugs() {
    for (bug, name) in NOTICED {
        let path = script::named("tests/paxos", name);
        bugs::switch(Some(*bug));
        // A broken invariant is a panic.
        let checked = std::panic::catch_unwind(|| {
            let mut cores = None;
            script::check(&path, false, &mut |command| interpret(&mut cores, command))
        });
        bugs::switch(None);
        assert!(!matches!(checked, Ok(Ok(()))), "{name} does not notice {}", bug.name());
    }
}

/// Places of which campaigns are not asked, and the script that comes there.
const REACHED: &[(Mark, &str)] = &[
    (Mark::LeaderOverruled, "leader_told_of_another_entry_steps_down"),
    (Mark::AcceptWithheld, "who_lags_too_far_is_sent_no_proposals"),
];

#[test]
fn scripts_reach_marks() {
    for (mark, name) in REACHED {
        let path = script::named("tests/paxos", name);
        drop(marks::take());
        let mut cores = None;
        script::check(&path, false, &mut |command| interpret(&mut cores, command)).unwrap();
        assert!(marks::take()[*mark as usize] > 0, "{name} does not reach {}", mark.name());
    }
}

fn interpret(slot: &mut Option<Cores>, command: &Command) -> String {
    if command.name == "cluster" {
        return slot.insert(cluster(command)).take_trace().join("\n");
    }
    let cores = slot.as_mut().expect("a script begins with a cluster");
    if let Some(told) = ask(cores, command) {
        return told;
    }
    let id = |index| ReplicaId(command.arg(index));
    let millis = || Duration::from_millis(command.arg(0));
    // Whether only what becomes of the replicas is shown, and not what they do for it.
    let mut brief = command.option("show").is_some_and(|show: String| show == "brief");
    match command.name.as_str() {
        // campaign REPLICA; handover REPLICA PEER: the replica lets the peer lead, if it can.
        "campaign" => cores.campaign(id(0)),
        "handover" => cores.hand_over(id(0), id(1), false),
        // propose REPLICA COMMAND...: an entry for each command.
        "propose" => {
            let texts = command.args_from::<String>(1);
            if let Some(text) = texts.iter().find(|text| !cores.propose(id(0), text)) {
                return format!("error: {} has no room for {text}", cores.name(id(0)));
            }
        }
        "change" => change(cores, command),
        // sync REPLICA... [count=]: of each, the oldest records, or all.
        "sync" => {
            let count = command.option_or("count", usize::MAX);
            command.args_from(0).into_iter().for_each(|id| cores.sync_some(ReplicaId(id), count));
        }
        // deliver [from=] [to=] [kind=]; also drop, and duplicate: deliver, and keep.
        "deliver" => drop(Some(cores.deliver(&filter(command)))),
        "drop" => cores.drop_messages(&filter(command)),
        "duplicate" => cores.duplicate(&filter(command)),
        // reverse from=F to=T: the newest message becomes the next.
        "reverse" => cores.links().reverse(link(command)),
        // cut A B: both ways. cut from=F to=T: one way. isolate A: all links of A.
        "cut" => each_link(cores, command, |cores, link| cores.links().cut(link)),
        "mend" => each_link(cores, command, |cores, link| cores.links().mend(link)),
        "hold" => each_link(cores, command, |cores, link| cores.links().hold(link)),
        "isolate" => isolate(cores, id(0)),
        // heal: no link is cut or held any more.
        "heal" => cores.links().heal(),
        "crash" => cores.crash(id(0)),
        // power REPLICA...: each loses power, and of what it had not synced pieces are left.
        "power" => command.args_from(0).into_iter().for_each(|id| cores.cut_power(ReplicaId(id))),
        // damage REPLICA slot=S | somewhere=S | end | promise: of a replica that is down.
        "damage" => damage(cores, command),
        "restart" => cores.restart(id(0)),
        // down REPLICA PEER: the connection to the peer ended.
        "down" => cores.peer_down(id(0), id(1)),
        // advance MS: cores tick, nothing is synced or delivered.
        "advance" => cores.advance(millis()),
        // run MS: cores tick, and all is synced and delivered at once.
        "run" => {
            brief = true;
            cores.run(millis());
        }
        "install" => install(cores, command),
        "stabilize" => cores.stabilize(),
        "read" => drop(Some(cores.read(id(0)))),
        // inject KIND from= to= ...: a message that nobody sent.
        "inject" => cores.inject(link(command), forged(command)),
        _ => command.reject("unknown command"),
    }
    told(cores, brief)
}

/// What happened since; `brief`: what became of the replicas, and not what they did for it.
fn told(cores: &mut Cores, brief: bool) -> String {
    let shown = |line: &String| {
        !brief || ["→", "⇥", "journal", "sync"].iter().all(|word| !line.contains(word))
    };
    cores.take_trace().into_iter().filter(shown).collect::<Vec<_>>().join("\n")
}

/// What a command tells that only looks.
fn ask(cores: &Cores, command: &Command) -> Option<String> {
    let id = || ReplicaId(command.arg(0));
    match command.name.as_str() {
        "status" => Some(status(cores)),
        // preferred REPLICA: whom this leader would rather have lead.
        "preferred" => Some(cores.preferred(id()).map_or("nobody".into(), |id| id.to_string())),
        // established REPLICA: whether the old voters may go, as this leader sees it.
        "established" => Some(cores.is_established(id()).to_string()),
        // members REPLICA: who belongs, as far as it knows.
        "members" => Some(cores.membership_of(id()).to_string()),
        // chosen REPLICA: what it knows to be chosen, from slot 1 on.
        "chosen" => {
            let entries = cores.chosen(id()).iter().skip(1).map(lines::entry);
            Some(entries.collect::<Vec<_>>().join(" "))
        }
        _ => None,
    }
}

/// cluster [replicas=] [observers=] [outsiders=] [phase1= phase2=] [alpha=] [bytes=] [inflight=]
/// [forgets=] [heartbeats=] [priorities=] [lease=MS] [rates=] [leader=]
fn cluster(command: &Command) -> Cores {
    command.expect(
        0,
        &[
            "replicas",
            "observers",
            "outsiders",
            "phase1",
            "phase2",
            "alpha",
            "bytes",
            "inflight",
            "forgets",
            "heartbeats",
            "priorities",
            "lease",
            "rates",
            "leader",
        ],
    );
    let count = command.option_or("replicas", 3);
    let majority = count as u32 / 2 + 1;
    let (phase1, phase2) =
        (command.option_or("phase1", majority), command.option_or("phase2", majority));
    let mut cluster = Cluster::flexible(count, phase1, phase2, command.option_or("alpha", 64))
        .observed(command.option_or("observers", 0));
    cluster.outsiders = command.option_or("outsiders", 0);
    cluster.message_bytes_max = command.option_or("bytes", cluster.message_bytes_max);
    cluster.inflight_slots_max = command.option_or("inflight", cluster.inflight_slots_max);
    cluster.remembers_chosen = !command.option_or("forgets", false);
    cluster.traces_heartbeats = command.option_or("heartbeats", false);
    cluster.priorities = command.list("priorities");
    cluster.read_lease = command.option("lease").map(Duration::from_millis);
    cluster.uptime_rates = command.list("rates");
    let mut cores = Cores::new(cluster);
    cores.stabilize();
    if let Some(leader) = command.option("leader") {
        cores.campaign(ReplicaId(leader));
        cores.stabilize();
        cores.take_trace();
    }
    cores
}

/// change REPLICA ID... [lose=] [observe=] [edition=]: these vote, the replica asks; who voted
/// before and is not named is gone, and so are the observers to be lost.
fn change(cores: &mut Cores, command: &Command) {
    let id = ReplicaId(command.arg(0));
    let voters = command.args_from::<u64>(1).into_iter().map(ReplicaId).collect::<Vec<_>>();
    let gone = command.list::<u64>("lose").into_iter().map(ReplicaId).collect::<Vec<_>>();
    let added = command.list::<u64>("observe");
    let mut present = cores.membership_of(id);
    for stranger in cores.cluster().strangers() {
        if added.contains(&stranger.id.0) {
            present = present.with_observer(stranger).expect("the script adds who is none");
        }
    }
    let edition = command.option("edition").map_or(present.edition(), Edition);
    let sessions = command.option_or("sessions", present.sessions_max());
    let next = succession(&present, &voters, &gone).with_edition(edition);
    let next = next.and_then(|next| next.with_sessions_max(sessions));
    cores.change(id, next.expect("the script does not lower the edition"));
}

/// install REPLICA from=PEER [older=]: it goes on behind the state of the peer; an older one it is
/// told of all the same.
fn install(cores: &mut Cores, command: &Command) {
    command.expect(1, &["from", "older"]);
    let (id, from) = (ReplicaId(command.arg(0)), ReplicaId(command.required("from")));
    match command.option_or("older", false) {
        true => assert!(cores.install_older(id, from), "it has less"),
        false => assert!(cores.install(id, from), "it has as much"),
    }
}

fn succession(before: &Membership, voters: &[ReplicaId], gone: &[ReplicaId]) -> Membership {
    let mut next = before.clone();
    for id in voters.iter().filter(|id| before.voter(**id).is_none()) {
        next = next.with_voter(*id).expect("the script promotes an observer");
    }
    let voters = before.voters().iter().map(|voter| voter.id).filter(|id| !voters.contains(id));
    for id in voters.chain(gone.iter().copied()) {
        next = next.without(id).expect("the script leaves some voters");
    }
    next
}

fn damage(cores: &mut Cores, command: &Command) {
    command.expect(2, &["slot", "somewhere"]);
    let damage = match (command.option("slot"), command.option("somewhere")) {
        (Some(slot), None) => Damage::Slot(Slot(slot)),
        (None, Some(slot)) => Damage::Somewhere(Slot(slot)),
        _ => match command.arg::<String>(1).as_str() {
            "end" => Damage::End,
            "promise" => Damage::Promise,
            other => command.reject(format!("no damage {other}")),
        },
    };
    cores.damage(ReplicaId(command.arg(0)), damage);
}

fn filter(command: &Command) -> Filter {
    command.expect(0, &["from", "to", "kind", "show"]);
    Filter {
        from: command.option("from").map(ReplicaId),
        to: command.option("to").map(ReplicaId),
        kind: command.option("kind"),
    }
}

fn isolate(cores: &mut Cores, id: ReplicaId) {
    for other in cores.ids() {
        cores.links().cut(Link { from: id, to: other });
        cores.links().cut(Link { from: other, to: id });
    }
}

fn link(command: &Command) -> Link {
    Link { from: ReplicaId(command.required("from")), to: ReplicaId(command.required("to")) }
}

fn each_link(cores: &mut Cores, command: &Command, act: impl Fn(&mut Cores, Link)) {
    if command.args.is_empty() {
        return act(cores, link(command));
    }
    let (from, to) = (ReplicaId(command.arg(0)), ReplicaId(command.arg(1)));
    act(cores, Link { from, to });
    act(cores, Link { from: to, to: from });
}

fn status(cores: &Cores) -> String {
    let line = |id: &ReplicaId| {
        let Some(view) = cores.view(*id) else { return format!("{id} down") };
        let ready = if view.ready { " ready" } else { "" };
        let leader = view.leader.map_or("none".into(), |ballot| ballot.to_string());
        let (promised, chosen) = (view.promised, view.slot_chosen);
        format!("{} promised={promised} chosen<{chosen} leader={leader}{ready}", cores.name(*id))
    };
    cores.ids().iter().map(line).collect::<Vec<_>>().join("\n")
}

/// ballot=ROUND.LEADER
struct BallotText(Ballot);

impl FromStr for BallotText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (round, leader) = text.split_once('.').ok_or("not ROUND.LEADER")?;
        let number = |text: &str| {
            text.parse::<u64>().map_err(|err: std::num::ParseIntError| err.to_string())
        };
        Ok(Self(Ballot { round: number(round)?, leader: ReplicaId(number(leader)?) }))
    }
}

fn entry(text: &str) -> Entry {
    let mut builder = EntryBuilder::new(Time(0), text.len());
    builder.push(text.as_bytes());
    builder.finish()
}

/// asked= part= parts= voted=: of a `Promise`, besides what all messages have.
fn promise(
    command: &Command,
    incarnation: Incarnation,
    (first, slot_chosen): (Slot, Slot),
    entries: Vec<Entry>,
) -> Promise {
    Promise {
        ballot: ballot(command, "ballot"),
        incarnation,
        boot: Boot::default(),
        from: Slot(command.option_or("asked", 1)),
        part: command.option_or("part", 0),
        parts: command.option_or("parts", 1),
        slot_chosen,
        votes: entries
            .into_iter()
            .map(|entry| Vote { slot: first, ballot: ballot(command, "voted"), entry })
            .collect(),
        abstained: Vec::new(),
        frontier: Default::default(),
    }
}

fn ballot(command: &Command, key: &str) -> Ballot {
    command.option(key).map_or(Ballot::ZERO, |BallotText(ballot)| ballot)
}

fn boot_of(replica: u64, sequence: u64) -> Boot {
    Boot { sequence, nonce: replica << 32 | sequence }
}

/// [nonce=] [millis=]: of a question that is numbered, or an answer to one.
fn numbered(command: &Command, incarnation: Incarnation) -> Message {
    let ballot = ballot(command, "ballot");
    let (nonce, millis) = (command.option_or("nonce", 1), command.option_or("millis", 0));
    match command.arg::<String>(0).as_str() {
        "Renew" => Message::Renew { ballot, nonce, millis },
        "Granted" => Message::Granted { ballot, incarnation, nonce, millis },
        _ => Message::Confirmed { ballot, incarnation, nonce },
    }
}

/// inject KIND from= to= [ballot=] [slot=] [end=] [entry=] [incarnation=] [chosen=] [promised=]
/// [chain=]
fn forged(command: &Command) -> Message {
    fn slot<T: FromStr<Err: Display> + Default>(command: &Command, key: &str) -> T {
        command.option_or(key, T::default())
    }
    let ballot = |key| ballot(command, key);
    let from = command.required::<u64>("from");
    let incarnation = Incarnation(u128::from(command.option_or("incarnation", from)));
    let first = Slot(slot(command, "slot"));
    let promises = u64::from(command.arg::<String>(0) == "Promise");
    let slot_chosen = Slot(command.option_or("chosen", promises));
    let entries =
        command.list::<String>("entry").iter().map(|text| entry(text)).collect::<Vec<_>>();
    match command.arg::<String>(0).as_str() {
        "Heartbeat" => Message::Heartbeat(Heartbeat {
            incarnation,
            boot: Boot { sequence: command.option_or("boot", 1), nonce: from },
            ballot: ballot("ballot"),
            leads: command.option_or("leads", false),
            hears_leader: false,
            priority: command.option_or("priority", 0),
            knows: Edition::KNOWN,
            promised: ballot("promised"),
            slot_chosen,
            chain: Default::default(),
            frontier: Default::default(),
            sent: command.option_or("sent", 1 << 20),
            echo: None,
        }),
        "Prepare" => Message::Prepare { ballot: ballot("ballot"), from: first },
        "Promise" => Message::Promise(promise(command, incarnation, (first, slot_chosen), entries)),
        "Accept" => Message::Accept(Accept {
            ballot: ballot("ballot"),
            first_slot: first,
            entries,
            slot_chosen,
            chain: Default::default(),
        }),
        "Accepted" => Message::Accepted(Accepted {
            ballot: ballot("ballot"),
            incarnation,
            slots: SlotRange { first, end: Slot(slot(command, "end")) },
            frontier: Default::default(),
            slot_durable: slot_chosen,
        }),
        // chain=: a number; 0 where the sender does not know it.
        "Chosen" => Message::Chosen(Chosen {
            first_slot: first,
            entries,
            slot_chosen,
            chain: Chain(command.option_or("chain", 0)),
        }),
        "Settled" => {
            let boot = boot_of(command.required("to"), command.required("boot"));
            Message::Settled { ballot: ballot("ballot"), boot, from: first }
        }
        "Reject" => Message::Reject { ballot: ballot("ballot"), promised: ballot("promised") },
        "Fetch" => Message::Fetch { from: first },
        "Fill" => Message::Fill { until: Slot(slot(command, "until")) },
        "TakeOver" => Message::TakeOver(TakeOver {
            ballot: ballot("ballot"),
            sent: command.option_or("sent", 1 << 20),
            stalled: command.option_or("stalled", false),
            slot_chosen,
            chain: Chain(command.option_or("chain", 0)),
        }),
        "Renew" | "Granted" | "Confirmed" => numbered(command, incarnation),
        other => command.reject(format!("no message {other} to inject")),
    }
}
