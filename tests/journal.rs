//! The journal, as scripts: `tests/journal/*.txt`, each named after what it shows.
//!
//! | command | what it does |
//! |---|---|
//! | `open [as=1] [segment=65536]` | opens the directory, and says what it found |
//! | `form [voters=1] [alpha=4]` | agrees, formed, to a membership of so many |
//! | `agree [voters=1] [alpha=4]` | the same, not known to be formed |
//! | `append chosen=N RECORD...` | `p1.1` a promise, `v5@1.1:text` a vote, `c5:text` chosen |
//! | | `d5..7` what is faulty from now on, `s2:7` the opening of a peer that was seen |
//! | `job NAME`, `run NAME` | takes the next job; does it and tells the journal |
//! | `io NAME`, `tell NAME` | does the job; tells the journal |
//! | `write NAME` | does the job up to its sync, which never ends |
//! | `settle`, `seal` | does all jobs there are; asks for a seal |
//! | `close`, `crash keep=all\|none\|odd` | drops the journal; and cuts the power |
//! | `fail_sync`, `fail_after N` | the next sync of a file fails; so does all behind N operations |
//! | `frames N`, `files`, `read A B`, `syncs` | what is there |
//! | `flip FILE OFFSET`, `zero FILE OFFSET COUNT`, `lose FILE` | damage |
//! | `cut FILE COUNT`, `unreadable FILE OFFSET COUNT` | more damage |
//! | `plant FILE` | makes an empty file |
//! | `misdirect FILE FROM TO COUNT` | bytes that the disk put in another place too |
//! | `keep FILE`, `put_back FILE` | remembers a file; puts it back as it was |
//! | `space BYTES\|any` | how long all files together may be |
//! | `is_full`, `retry` | asks the journal; has it try again |
//! | `forget A B` | takes slots out of sight |
//! | `checkpoint SLOT PIECE...` | begins to take one, of such pieces |
//! | `pieces` | what is in the newest one |
//! | `trim LIMIT [keep=0]` | removes what holds no slot from there on, if there is any, by a job |
//! | `later FILE` | a checkpoint of the next version |
//! | `version FILE OFFSET N`, `foreign cluster\|incarnation\|replica` | what was never ours |

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

#[path = "support/faulty_disk.rs"]
mod faulty_disk;
#[path = "support/script.rs"]
#[allow(dead_code, reason = "other test programs use the rest")]
mod script;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use faulty_disk::{FaultyDisk, PIECE};
use indelible::journal::frame::{FRAME_HEADER_BYTES, Header};
use indelible::journal::segment::segment_name;
use indelible::journal::{Disk, Done, Job, Journal, JournalError, Options};
use indelible::types::bugs::{self, Bug};
use indelible::types::entry::{Entry, EntryBuilder};
use indelible::types::ids::{Ballot, Boot, Chain, Incarnation, Lsn, ReplicaId, Slot, SlotRange};
use indelible::types::marks::{self, Mark};
use indelible::types::membership::{Member, Membership};
use indelible::types::record::{Doubts, DurableFrontier, Record, Sighting};
use indelible::types::time::Time;
use script::Command;

#[derive(Default)]
struct State {
    disk: FaultyDisk,
    journal: Option<Journal<FaultyDisk>>,
    jobs: BTreeMap<String, Job<FaultyDisk>>,
    done: BTreeMap<String, Done<FaultyDisk>>,
    kept: Vec<u8>,
}

#[test]
fn scripts() {
    for path in script::scripts("tests/journal") {
        let mut state = State::default();
        script::run(&path, &mut |command| interpret(&mut state, command));
    }
}

/// Seeded bugs of which a script tells the story.
const NOTICED: &[(Bug, &str)] = &[
    (Bug::SyncAlone, "an_overlapping_sync_is_waited_for"),
    (Bug::CountBeforeSync, "failed_sync_poisons"),
    (Bug::EvidenceEarly, "torn_tail_is_cut"),
    (Bug::ServeOldFrame, "a_newer_vote_hides_the_older_one"),
    (Bug::ZerosEndJournal, "zeros_are_not_the_end"),
    (Bug::LookAtBlocksOnly, "what_stands_behind_a_lost_head_proves_as_much"),
    (Bug::BestPromiseLeft, "a_lost_promise_silences"),
    (Bug::DoubtsForgotten, "torn_tail_in_a_cluster_is_uncertain"),
];

#[test]
fn scripts_notice_bugs() {
    for (bug, name) in NOTICED {
        let path = script::named("tests/journal", name);
        bugs::switch(Some(*bug));
        // What cannot be read is a panic in some scripts.
        let checked = std::panic::catch_unwind(|| {
            let mut state = State::default();
            script::check(&path, false, &mut |command| interpret(&mut state, command))
        });
        bugs::switch(None);
        assert!(!matches!(checked, Ok(Ok(()))), "{name} does not notice {}", bug.name());
    }
}

#[test]
fn a_vote_behind_a_told_entry_is_marked() {
    let path = script::named("tests/journal", "a_vote_behind_a_told_entry_does_not_hide_it");
    drop(marks::take());
    let mut state = State::default();
    script::check(&path, false, &mut |command| interpret(&mut state, command)).unwrap();
    assert!(marks::take()[Mark::VotedBehindTold as usize] > 0);
}

fn interpret(state: &mut State, command: &Command) -> String {
    run(state, command).unwrap_or_else(|err| describe(&err))
}

fn run(state: &mut State, command: &Command) -> Result<String, JournalError> {
    Ok(match command.name.as_str() {
        "open" => {
            let segment_bytes = command.option_or("segment", 64 * 1024);
            let default = Options::default();
            let group_bytes_max = command.option_or("group", default.group_bytes_max);
            let options = Options { segment_bytes, group_bytes_max, ..default };
            let who = ReplicaId(command.option_or("as", 1));
            let journal = Journal::open(state.disk.clone(), options, who)?;
            opened(state.journal.insert(journal))
        }
        "form" | "agree" => {
            let journal = state.journal.as_mut().unwrap();
            let membership = membership(journal, command);
            let formed = command.name == "form";
            journal.agree(&membership, formed)?;
            format!("{} lsn={}", if formed { "formed" } else { "agreed" }, journal.last_lsn())
        }
        "append" => {
            let chosen = Slot(command.option_or("chosen", 0));
            format!("lsn={}", state.journal.as_mut().unwrap().append(&records(command), chosen)?)
        }
        // As the owner writes what it knows lazily, while what it learned last is not appended yet.
        "lazy" => {
            format!("lsn={}", state.journal.as_mut().unwrap().append_lazy(&records(command))?)
        }
        "job" => match state.journal.as_mut().unwrap().next_job()? {
            Some(job) => {
                let text = format!("{job:?}");
                state.jobs.insert(command.arg(0), job);
                text
            }
            None => "none".into(),
        },
        "run" | "io" | "write" | "tell" => do_job(state, command)?,
        "settle" => {
            while let Some(job) = state.journal.as_mut().unwrap().next_job()? {
                complete(state, job.run())?;
            }
            frontier(state.journal.as_ref().unwrap().frontier())
        }
        "is_full" => format!("{}", state.journal.as_ref().unwrap().is_full()),
        "retry" => {
            state.journal.as_mut().unwrap().retry_prepare();
            String::new()
        }
        "forget" => {
            let (first, end) = (Slot(command.arg(0)), Slot(command.arg(1)));
            state.journal.as_mut().unwrap().forget(SlotRange { first, end });
            String::new()
        }
        "seal" => format!("{}", state.journal.as_mut().unwrap().seal()?),
        "second_open" => {
            drop(Journal::open(state.disk.clone(), Options::default(), ReplicaId(1))?);
            "opened".into()
        }
        "checkpoint" | "trim" => checkpoint_or_trim(state, command),
        "close" => {
            state.journal = None;
            String::new()
        }
        _ => return look_or_damage(state, command),
    })
}

/// Begins to take a checkpoint, or to remove what such hold.
fn checkpoint_or_trim(state: &mut State, command: &Command) -> String {
    let (slot, journal) = (Slot(command.arg(0)), state.journal.as_mut().unwrap());
    if command.name == "checkpoint" {
        let pieces = command.args[1..].iter().map(|text| bytes_of(text)).collect::<Vec<_>>();
        journal.begin_checkpoint(slot, Chain(slot.0.into()), Box::new(pieces.into_iter()));
        return String::new();
    }
    let keep = command.option_or("keep", 0);
    let can = journal.can_trim(slot, keep);
    if can {
        journal.trim(slot, keep);
    }
    format!("{can}")
}

/// Does a job, or tells the journal, or both.
fn do_job(state: &mut State, command: &Command) -> Result<String, JournalError> {
    Ok(match command.name.as_str() {
        "run" => {
            let job = state.jobs.remove(&command.arg::<String>(0)).unwrap();
            complete(state, job.run())?
        }
        "io" => {
            let name = command.arg::<String>(0);
            let done = state.jobs.remove(&name).unwrap().run();
            let told = format!("{done:?}");
            state.done.insert(name, done);
            told
        }
        "write" => {
            state.disk.fail_after(1);
            drop(state.jobs.remove(&command.arg::<String>(0)).unwrap().run());
            String::new()
        }
        "tell" => {
            let done = state.done.remove(&command.arg::<String>(0)).unwrap();
            complete(state, done)?
        }
        other => unreachable!("{other} is no command about a job"),
    })
}

fn look_or_damage(state: &mut State, command: &Command) -> Result<String, JournalError> {
    let disk = &state.disk;
    Ok(match command.name.as_str() {
        "fail_sync" | "fail_after" | "space" | "exhausted" => {
            refuse(disk, command);
            String::new()
        }
        "syncs" => format!("{}", disk.syncs()),
        "frames" => frames(disk, command.arg(0)),
        "files" => {
            let mut names = disk.list().unwrap();
            names.sort();
            let size = |name: &String| format!("{name} {}", disk.content(name).len());
            names.iter().map(size).collect::<Vec<_>>().join("\n")
        }
        "pieces" => {
            let Some(newest) = state.journal.as_ref().unwrap().checkpoint() else {
                return Ok("none".into());
            };
            let mut text = format!("{newest:?}\n");
            for piece in newest.pieces() {
                writeln!(text, "{}", short(&piece?)).unwrap();
            }
            text
        }
        "read" => {
            let reader = state.journal.as_ref().unwrap().reader();
            let mut text = String::new();
            for item in reader.entries(Slot(command.arg(0)), Slot(command.arg(1))) {
                let (slot, entry) = item?;
                writeln!(text, "{slot} = {}", text_of(&entry)).unwrap();
            }
            text
        }
        _ => return Ok(damage(state, command)),
    })
}

/// What happens to files while nobody looks.
fn damage(state: &mut State, command: &Command) -> String {
    let disk = &state.disk;
    let file = || command.arg::<String>(0);
    match command.name.as_str() {
        "crash" => {
            state.journal = None;
            let keep: String = command.required("keep");
            let mut count = 0;
            state.disk.crash(&mut || {
                count += 1;
                keep == "all" || keep == "odd" && count % 2 == 1
            });
        }
        "keep" => state.kept = disk.content(&file()),
        "flip" => {
            let at: usize = command.arg(1);
            disk.rot(&file(), |bytes| bytes[at] ^= 1);
        }
        "plant" => disk.plant(&file(), Vec::new()),
        "zero" => {
            let (at, count): (usize, usize) = (command.arg(1), command.arg(2));
            disk.rot(&file(), |bytes| bytes[at..at + count].fill(0));
        }
        "cut" => {
            let length: usize = command.arg(1);
            disk.rot(&file(), |bytes| bytes.truncate(length));
        }
        "put_back" => disk.plant(&file(), state.kept.clone()),
        "unreadable" => disk.make_unreadable(&file(), command.arg(1), command.arg(2)),
        "misdirect" => {
            let (from, to, count): (usize, usize, usize) =
                (command.arg(1), command.arg(2), command.arg(3));
            disk.rot(&file(), |bytes| bytes.copy_within(from..from + count, to));
        }
        "version" => {
            let (at, version): (usize, u16) = (command.arg(1), command.arg(2));
            disk.rot(&file(), |bytes| bytes[at..at + 2].copy_from_slice(&version.to_le_bytes()));
        }
        "later" => disk.rot(&file(), |bytes| {
            bytes[8] += 1;
            let checksum = crc32fast::hash(&bytes[..124]);
            bytes[124..128].copy_from_slice(&checksum.to_le_bytes());
        }),
        "lose" => disk.lose(&file()),
        "foreign" => plant_foreign(disk, &command.arg::<String>(0)),
        _ => command.reject("unknown command"),
    }
    String::new()
}

/// Has the disk refuse something from now on.
fn refuse(disk: &FaultyDisk, command: &Command) {
    match command.name.as_str() {
        "fail_sync" => disk.fail_syncs(1),
        "fail_after" => disk.fail_after(command.arg(0)),
        "space" => disk.limit_space(command.arg::<String>(0).parse().ok()),
        "exhausted" => disk.exhaust(command.args.first().cloned()),
        other => unreachable!("{other} is nothing that a disk refuses"),
    }
}

fn records(command: &Command) -> Vec<Record> {
    command.args.iter().map(|word| record(word)).collect()
}

/// Replaces segment 1 by one of another directory.
fn plant_foreign(disk: &FaultyDisk, what: &str) {
    let name = segment_name(1);
    let mut bytes = disk.content(&name);
    match what {
        "cluster" => bytes[16] ^= 1,
        "incarnation" => bytes[32] ^= 1,
        other => panic!("unknown: {other}"),
    }
    let checksum = crc32fast::hash(&bytes[..124]);
    bytes[124..128].copy_from_slice(&checksum.to_le_bytes());
    disk.plant(&name, bytes);
}

fn complete(state: &mut State, done: Done<FaultyDisk>) -> Result<String, JournalError> {
    Ok(frontier(state.journal.as_mut().unwrap().complete(done)?))
}

fn frontier(frontier: DurableFrontier) -> String {
    format!("durable={}", frontier.lsn())
}

fn opened(journal: &mut Journal<FaultyDisk>) -> String {
    let recovered = journal.recovered();
    let mut text = format!(
        "boot={} formed={} promised={} chosen={} lsn={}",
        journal.identity().boot.sequence,
        journal.identity().formed,
        recovered.promised,
        recovered.slot_chosen,
        journal.last_lsn(),
    );
    if recovered.slot_checkpointed > Slot::ZERO {
        write!(text, "\ncheckpoint of {}", recovered.slot_checkpointed).unwrap();
    }
    for (slot, ballot, entry) in recovered.votes {
        write!(text, "\nvote {slot}@{ballot}={}", text_of(&entry)).unwrap();
    }
    for sighting in &recovered.sightings {
        let _ = write!(text, " saw {}:{}", sighting.replica, sighting.boot.sequence);
    }
    let Doubts { promise_lost, faulty, uncertain } = recovered.doubts;
    for (what, slots) in [
        ("missing", recovered.missing),
        ("unreadable", recovered.unreadable),
        ("faulty", faulty),
        ("uncertain", uncertain),
    ] {
        for range in slots.ranges() {
            write!(text, "\n{what} {range}").unwrap();
        }
    }
    text + if promise_lost { "\npromise lost" } else { "" }
}

/// A membership of this replica and others.
fn membership(journal: &Journal<FaultyDisk>, command: &Command) -> Membership {
    let (own, count) = (journal.identity(), command.option_or("voters", 1));
    let voter = |id| Member {
        id: ReplicaId(id),
        incarnation: if id == own.replica.0 { own.incarnation } else { Incarnation(id.into()) },
        address: if count == 1 { String::new() } else { format!("host-{id}") },
    };
    let majority = count as u32 / 2 + 1;
    let voters = (1..=count).map(voter).collect();
    Membership::flexible(voters, majority, majority, command.option_or("alpha", 4)).unwrap()
}

/// The frames of a segment, wherever they stand, valid for their place or not.
fn frames(disk: &FaultyDisk, number: u64) -> String {
    let bytes = disk.content(&segment_name(number));
    let mut text = String::new();
    let mut at = 0;
    while at + FRAME_HEADER_BYTES <= bytes.len() {
        let Ok((header, _)) = Header::decode(&bytes[at..]) else {
            at += 8;
            continue;
        };
        let Header { kind, lsn, slot, ballot, durable_through, .. } = header;
        writeln!(text, "{at} {lsn} {kind:?} slot={slot} {ballot} durable={durable_through}")
            .unwrap();
        at += header.frame_bytes();
    }
    text
}

fn record(word: &str) -> Record {
    let (kind, rest) = word.split_at(1);
    match kind {
        "p" => Record::Promise { ballot: ballot(rest) },
        "v" => {
            let (place, text) = rest.split_once(':').unwrap();
            let (slot, at) = place.split_once('@').unwrap();
            Record::Vote {
                slot: Slot(slot.parse().unwrap()),
                ballot: ballot(at),
                entry: entry(text),
            }
        }
        "c" => {
            let (slot, text) = rest.split_once(':').unwrap();
            Record::Chosen { slot: Slot(slot.parse().unwrap()), entry: entry(text) }
        }
        "d" => {
            let (first, end) = rest.split_once("..").unwrap();
            let slot = |text: &str| Slot(text.parse().unwrap());
            let faulty = [SlotRange { first: slot(first), end: slot(end) }].into_iter().collect();
            Record::Doubts(Doubts { faulty, ..Doubts::default() })
        }
        "s" => {
            let (replica, sequence) = rest.split_once(':').unwrap();
            let boot = Boot { sequence: sequence.parse().unwrap(), nonce: 0 };
            let replica = ReplicaId(replica.parse().unwrap());
            let (incarnation, frontier) = (Incarnation(1), Lsn(9));
            let fenced = false;
            Record::Sightings(vec![Sighting { replica, incarnation, boot, frontier, fenced }])
        }
        other => panic!("unknown record {other}"),
    }
}

fn ballot(text: &str) -> Ballot {
    let (round, leader) = text.split_once('.').unwrap();
    Ballot { round: round.parse().unwrap(), leader: ReplicaId(leader.parse().unwrap()) }
}

fn bytes_of(text: &str) -> Vec<u8> {
    match text.split_once('*') {
        Some((text, count)) => text.bytes().cycle().take(count.parse().unwrap()).collect(),
        None => text.as_bytes().to_vec(),
    }
}

/// `text` or `text*1000`: so many bytes of it.
fn entry(text: &str) -> Entry {
    let bytes = bytes_of(text);
    let mut builder = EntryBuilder::new(Time(0), bytes.len());
    builder.push(&bytes);
    builder.finish()
}

fn text_of(entry: &Entry) -> String {
    short(entry.commands().next().unwrap_or_default())
}

fn short(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    match text.len() {
        0..40 => text,
        length => format!("{}*{length}", &text[..1]),
    }
}

/// An error, without what is random in it.
fn describe(err: &JournalError) -> String {
    match err {
        JournalError::WrongCluster { file, .. } => format!("error: {file}: wrong cluster"),
        JournalError::ForeignSegment { file, .. } => format!("error: {file}: foreign incarnation"),
        err => format!("error: {err}"),
    }
}

const _: () = assert!(PIECE == 512, "the scripts speak of such pieces");
