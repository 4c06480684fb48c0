//! Opening a journal that was damaged or forged.
//!
//! The first byte chooses a valid directory ([`crate::image`]) and what is done to it
//! ([`crate::damage`]); the rest says where. Asserted, whatever was done:
//!
//! * The directory is opened, or refused and left as it was. Neither takes more memory than the
//!   files twice, and a bound.
//! * What is opened can be read and appended to, and the next opening finds what was appended, and
//!   the rest as it was.
//!
//! And where it was damage, which every check must see: what any whole frame that is left calls
//! durable is found as it was, or newer, or named as lost, or the opening is refused. What is
//! worked out here for that comes from the image's bytes alone: a frame is left where all of its
//! header is as it was.

use indelible::journal::frame::{FRAME_HEADER_BYTES, Header, Kind};
use indelible::journal::identity::IDENTITY_NAME;
use indelible::journal::segment::{
    SEGMENT_NUMBER_MAX, SUPERHEADER_BYTES, Superheader, segment_name, segment_number,
};
use indelible::journal::{Journal, JournalError, MemoryDisk};
use indelible::types::ids::{Ballot, Lsn, Slot};
use indelible::types::record::{Record, Recovered};

use crate::allocations::peak;
use crate::damage::{damage, forge};
use crate::image::{Files, Image, OPTIONS, WHO, alone, chosen, entry, load, settle, store};
use crate::input::Input;

/// What an opening may hold beside twice the files: the new segment, what it is read and written
/// through, and an index that a far slot makes long.
const OPEN_BYTES_MAX: usize = 30 * 1024 * 1024;

/// Takes `data` as what happened to a directory.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte();
    let image = chosen(how >> 1);
    let mut files = image.files.clone();
    let forged = how & 1 == 1;
    match forged {
        true => forge(&mut files, image, &mut input),
        false => damage(&mut files, image, &mut input),
    }
    let disk = store(&files);
    let mut journal = match open(&disk, &files) {
        Ok(journal) => journal,
        Err(err) => {
            assert!(load(&disk) == files, "a directory that is refused is left as it was");
            assert!(files != image.files, "nothing happened to it");
            assert!(forged || !is_for_forgers(&err), "a medium does not do that: {err}");
            return;
        }
    };
    let recovered = journal.recovered();
    if !forged && !is_blank(&files) {
        compare(image, &files, &journal, &recovered);
    }
    let slots = journal.reader().entries(Slot::ZERO, recovered.slot_chosen);
    let read = slots.take_while(Result::is_ok).count() as u64;
    let is_told = forged || recovered.missing.contains(Slot(read));
    assert!(is_told || read == recovered.slot_chosen.0, "slot {read} is chosen, and lost");
    let newest = files.keys().filter_map(|name| segment_number(name)).max();
    let is_far = newest.is_some_and(|number| number > SEGMENT_NUMBER_MAX - 8);
    if forged && is_far {
        // All numbers are used up: what is opened now cannot be opened again. No journal gets so
        // far.
        return;
    }
    go_on(disk, journal, &recovered, forged);
}

/// Whether a directory is refused for what only a forger makes of it.
fn is_for_forgers(err: &JournalError) -> bool {
    let reason = "numbers of frames that do not grow";
    matches!(err, JournalError::Corrupt { reason: found, .. } if *found == reason)
}

fn is_blank(files: &Files) -> bool {
    !files.contains_key(IDENTITY_NAME)
}

fn open(disk: &MemoryDisk, files: &Files) -> Result<Journal<MemoryDisk>, JournalError> {
    let (journal, bytes) = peak(|| Journal::open(disk.clone(), OPTIONS, WHO));
    let most = 2 * files.values().map(Vec::len).sum::<usize>() + OPEN_BYTES_MAX;
    assert!(bytes <= most, "{bytes} bytes allocated for an opening, wanted at most {most}");
    journal
}

/// Compares what was found with what must be.
fn compare(image: &Image, files: &Files, journal: &Journal<MemoryDisk>, found: &Recovered) {
    let forgets = image.promise_lost && !found.doubts.promise_lost;
    assert!(!forgets || !tells_of_lost_promise(files), "it is forgotten that the promise is lost");
    let evidence = evidence(image, files);
    let durable = image.frames.iter().filter(|header| header.lsn <= evidence);
    for header in durable.clone() {
        let kept = found.promised >= header.ballot || found.doubts.promise_lost;
        assert!(kept, "the promise {} is lost", header.ballot);
        let is_sure = found.doubts.is_empty() && found.missing.is_empty();
        assert!(found.slot_chosen >= header.slot_chosen || !is_sure, "what is chosen is forgotten");
    }
    for header in durable.filter(|header| is_of_slot(header)) {
        let slot = header.slot;
        // A loss that is told is no lie.
        if found.missing.contains(slot) || found.doubts.contains(slot) {
            continue;
        }
        let read = journal.reader().read(slot, slot.next(), 0).expect("it is durable");
        assert!(!read.is_empty(), "slot {slot} is lost");
        // This one, or whatever the image has for the slot behind it.
        let later = image.frames.iter().filter(|other| other.lsn >= header.lsn);
        let mut same = later.filter(|other| is_of_slot(other) && other.slot == slot);
        let is_expected = same.any(|other| other.content == read[0].hash());
        assert!(is_expected, "slot {slot} holds something else");
        if slot >= found.slot_chosen && header.kind == Kind::Vote {
            let vote = found.votes.iter().find(|(voted, ..)| *voted == slot);
            let (_, ballot, _) = vote.expect("a durable vote is lost");
            assert!(*ballot >= header.ballot, "an older vote for slot {slot}");
        }
    }
}

/// Whether a superheader is left in its place that tells that the promise is lost.
fn tells_of_lost_promise(files: &Files) -> bool {
    files.iter().any(|(name, bytes)| match Superheader::decode(bytes) {
        Ok((it, _)) => it.promise_lost && segment_number(name) == Some(it.number),
        Err(_) => false,
    })
}

fn is_of_slot(header: &Header) -> bool {
    matches!(header.kind, Kind::Vote | Kind::Chosen)
}

/// Up to where a frame or a superheader that is left says that everything was durable.
fn evidence(image: &Image, files: &Files) -> Lsn {
    let is_left = |number: u64, offset: usize, length: usize| {
        let name = segment_name(number);
        let range = offset..offset + length;
        let now = files.get(&name).and_then(|bytes| bytes.get(range.clone()));
        now.is_some() && now == image.files.get(&name).and_then(|bytes| bytes.get(range))
    };
    let mut evidence = Lsn::ZERO;
    for header in &image.frames {
        if is_left(header.segment, header.offset as usize, FRAME_HEADER_BYTES) {
            evidence = evidence.max(header.durable_through);
        }
        if is_left(header.segment, 0, SUPERHEADER_BYTES)
            && let Some(bytes) = files.get(&segment_name(header.segment))
            && let Ok((superheader, _)) = Superheader::decode(bytes)
        {
            evidence = evidence.max(superheader.durable_through);
        }
    }
    evidence
}

/// Appends to what was opened, and opens it again.
fn go_on(disk: MemoryDisk, mut journal: Journal<MemoryDisk>, found: &Recovered, forged: bool) {
    let identity = journal.identity().clone();
    if journal.frontier().lsn() == Lsn::ZERO {
        let membership = identity.membership.unwrap_or_else(|| alone(identity.incarnation));
        journal.agree(&membership, true).expect("a disk in memory takes writes");
    }
    let ballot = found.promised.next_for(WHO).unwrap_or(found.promised);
    let slot = found.slot_chosen;
    let voted = entry(7, 100);
    let vote = Record::Vote { slot, ballot, entry: voted.clone() };
    let appended = journal.append(&[Record::Promise { ballot }, vote], slot);
    let frontier = journal.frontier().lsn();
    let last = appended.expect("nothing failed");
    assert!(last > frontier, "frames have growing numbers");
    settle(&mut journal);
    assert_eq!(journal.frontier().lsn(), last);
    drop(journal);
    let mut again = match open(&disk, &load(&disk)) {
        Ok(again) => again,
        // So with numbers of frames, and of promises.
        Err(JournalError::Corrupt { reason: "a number of a frame out of range", .. }) if forged => {
            return;
        }
        Err(err) => panic!("what an opening left cannot be opened: {err}"),
    };
    let recovered = again.recovered();
    check_again(found, &recovered, (slot, ballot));
    assert_eq!(again.identity().boot.sequence, identity.boot.sequence.saturating_add(1));
    assert!(again.frontier().lsn() >= last, "the frontier went back over an opening");
    let read = again.reader().read(slot, slot.next(), 0).expect("it was just written");
    assert_eq!(read, [voted]);
}

fn check_again(found: &Recovered, again: &Recovered, (slot, ballot): (Slot, Ballot)) {
    assert_eq!(again.promised, ballot);
    assert_eq!(again.slot_chosen, found.slot_chosen);
    // What is in doubt stays so, and of its votes none is promised to be found again.
    let is_sure = |voted: &Slot| *voted == slot || !found.doubts.contains(*voted);
    let votes = |recovered: &Recovered| -> Vec<_> {
        let votes = recovered.votes.iter().filter(|(voted, ..)| is_sure(voted));
        votes.map(|(voted, ballot, _)| (*voted, *ballot)).collect()
    };
    let mut wanted = votes(found);
    wanted.retain(|(voted, _)| *voted != slot);
    wanted.insert(0, (slot, ballot));
    assert_eq!(votes(again), wanted);
    let doubts = found.doubts.faulty.ranges().iter().chain(found.doubts.uncertain.ranges());
    let kept = |at| Slot(at) == slot || again.doubts.contains(Slot(at));
    for range in doubts {
        assert!(kept(range.first.0) && kept(range.end.0 - 1), "a doubt of {range:?} is forgotten");
    }
    assert!(again.doubts.promise_lost >= found.doubts.promise_lost, "a loss is forgotten");
}
