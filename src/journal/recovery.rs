//! Opening a journal: check everything, then make what was read durable again, then go on.
//!
//! Every opening that finds segments starts a new one:
//!
//! 1. Read and check everything (`scan`). Up to here nothing is written, so a refused directory is
//!    left as it was.
//! 2. Prepare a segment. Write into it the promise, once more every frame that no evidence covers
//!    (but for what stands before a bad region, see `salvage`), and what is in doubt; sync. The
//!    doubts come last: a frame behind them would settle them.
//! 3. Write its superheader, which says where the kept part of the segments before it ends; sync.
//!    *This* is the moment from which the tail counts as cut.
//! 4. Replace the identity: one boot more, and the number of the new segment.
//! 5. Give back what is no longer counted: the rest of the last segment, segments without a
//!    place in the chain, and a checkpoint that was begun or is old.
//!
//! Why the tail is written again rather than synced where it stands: if this process, or the one
//! before, was told that a sync failed, the kernel may hold the lost blocks as clean. They read
//! back well and are not on the disk, and a second sync writes nothing. New blocks in a new file
//! are the only ones of which a sync says anything.
//!
//! A crash between two steps leaves what the next opening reads as the same journal: before step 3
//! the new segment has no superheader and is not in the chain; after it, the old tail is not.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::types::bugs::{self, Bug};
use crate::types::entry::Entry;
use crate::types::ids::{Ballot, Chain, Lsn, ReplicaId, Slot, SlotRange};
use crate::types::marks::reached;
use crate::types::membership::Membership;
use crate::types::record::Recovered;

use super::chain::{Known, Rot};
use super::checkpoint::{self, Checkpoint, CheckpointHeader};
use super::checkpointing;
use super::collector::Collector;
use super::disk::{Disk, File};
use super::error::JournalError;
use super::findings::Damage;
use super::frame::{Home, Kind};
use super::group::{Context, Group, Item};
use super::identity::{self, Identity};
use super::index::{Index, Place, Shared};
use super::listing::{names, no_segment, segment_numbers, segments_among, sign_of_use};
use super::scan::Scan;
use super::segment::{End, Options, Superheader, prepare, segment_name};
use super::segments::{Ended, Segments};
use super::sharing;
use super::walk::Seen;
use super::writer::{Start, Writer};

/// What an opened directory consists of.
pub(super) struct Opened<D: Disk> {
    pub(super) lock: D::Lock,
    pub(super) identity: Identity,
    /// By what others have what is in the directory, if they do (`sharing`).
    pub(super) shared_from: Option<Slot>,
    pub(super) shared: Arc<Shared<D::File>>,
    pub(super) recovered: Recovered,
    /// The last frame that was found.
    pub(super) found_through: Lsn,
    /// `None` where no segment was ever in use.
    pub(super) writer: Option<Writer<D>>,
    /// The whole checkpoints, newest first.
    pub(super) checkpoints: Vec<Checkpoint<D>>,
}

/// What a new segment begins with.
struct Head {
    number: u64,
    first_lsn: Lsn,
    previous: End,
    promised: Ballot,
    meta_seq: u64,
    slot_chosen: Slot,
    slot_end: Slot,
    tail: Vec<Item>,
    damage: Damage,
}

/// Opens the directory for `who`.
pub(super) fn open<D: Disk>(
    disk: &Arc<D>,
    options: Options,
    who: ReplicaId,
) -> Result<Opened<D>, JournalError> {
    let lock = lock(&**disk)?;
    let names = names(&**disk)?;
    let numbers = segments_among(&names)?;
    let mut identity = identity_of(&**disk, who, &names, &numbers)?;
    let shared_from = sharing::shared_from(&names, &identity);
    let alone = shared_from.is_none();
    let (checkpoints, begins_behind) = find_checkpoints(&**disk, &mut identity, alone)?;
    let newest = checkpoints.whole.first().map(Checkpoint::header);
    let scan = |rot| scan(&**disk, &identity, rot, newest, &numbers);
    let mut scan = match alone {
        false => scan(Rot::Told)?,
        true => scan(Rot::Refused).or_else(|refusal| {
            let slot_checkpointed = newest.map_or(Slot::ZERO, |newest| newest.slot);
            let had = sharing::alone_from(&names);
            sharing::healed(refusal, had, slot_checkpointed, || scan(Rot::Passed))
        })?,
    };
    let recovered = recovered(&mut scan, newest)?;
    let tail = tail_items(&mut scan)?;
    // All checks have passed; from here on the directory is written to.
    let shared = Arc::new(Shared {
        home: RwLock::new(identity.home()),
        index: RwLock::new(std::mem::take(&mut scan.found.index)),
        files: RwLock::new(BTreeMap::new()),
    });
    if begins_behind {
        // Said before a segment says what is chosen that rests on it; and again where it was: the
        // name of what was read may be lost yet.
        identity::replace(&**disk, &identity)?;
    }
    let mut writer = match scan.is_begun {
        true => Some(go_on(disk, &shared, options, (&mut scan, &numbers, tail), &mut identity)?),
        false => None,
    };
    identity.boot = identity.next_boot(&**disk)?;
    identity::replace(&**disk, &identity)?;
    if scan.is_begun {
        give_back(&**disk, &shared, &numbers, scan.kept)?;
    }
    let checkpoints = checkpointing::tidy(&**disk, checkpoints)?;
    if let Some(writer) = &mut writer {
        writer.count_bytes()?;
        writer.set_identity(&identity);
    }
    let found_through = scan.lsn_seen;
    Ok(Opened {
        lock,
        identity,
        shared_from,
        shared,
        recovered,
        found_through,
        writer,
        checkpoints,
    })
}

/// Makes the segment with which a journal goes on behind what was found.
fn go_on<D: Disk>(
    disk: &Arc<D>,
    shared: &Arc<Shared<D::File>>,
    options: Options,
    (scan, numbers, tail): (&mut Scan<D::File>, &[u64], Vec<Item>),
    identity: &mut Identity,
) -> Result<Writer<D>, JournalError> {
    let segments = Segments::new(identity.front, ended(scan), scan.damage.segments);
    let head = head(scan, numbers, tail);
    let files = &scan.source.files;
    let chain = scan.chain.iter().map(|number| (*number, Arc::clone(&files[number])));
    shared.files.write().extend(chain);
    identity.segment_last = head.number;
    identity.segment_made = head.number;
    let start = begin_segment(&**disk, shared, options, head)?;
    Ok(Writer::new(Arc::clone(disk), Arc::clone(shared), options, start, segments))
}

/// Makes the first segment of a directory that has just become part of a cluster.
pub(super) fn begin<D: Disk>(
    disk: &Arc<D>,
    shared: &Arc<Shared<D::File>>,
    options: Options,
) -> Result<Writer<D>, JournalError> {
    // What a crash in here left has no superheader, and its number is not used again.
    let numbers = segment_numbers(&**disk)?;
    let head = Head {
        number: numbers.last().map_or(1, |number| number + 1),
        first_lsn: Lsn(1),
        previous: End::default(),
        promised: Ballot::ZERO,
        meta_seq: 1,
        slot_chosen: Slot::ZERO,
        slot_end: Slot::ZERO,
        tail: Vec::new(),
        damage: Damage::default(),
    };
    let start = begin_segment(&**disk, shared, options, head)?;
    give_back(&**disk, shared, &numbers, End::default())?;
    let (disk, shared, segments) = (Arc::clone(disk), Arc::clone(shared), Segments::default());
    let mut writer = Writer::new(disk, shared, options, start, segments);
    writer.count_bytes()?;
    Ok(writer)
}

/// Whose directory it is, drawn where it is blank; the segments that there are fit what it says.
fn identity_of<D: Disk>(
    disk: &D,
    who: ReplicaId,
    names: &[String],
    numbers: &[u64],
) -> Result<Identity, JournalError> {
    let identity = match (identity::read(disk)?, sign_of_use(names)) {
        (Some(identity), _) => identity,
        (None, None) => Identity::draw(disk, who)?,
        (None, Some(file)) => return Err(JournalError::IdentityLost { file: file.clone() }),
    };
    if identity.replica != who {
        return Err(JournalError::IdentityMismatch { wanted: who, found: identity.replica });
    }
    let (last, made) = (numbers.last().copied(), identity.segment_made);
    if made > 0 && last.is_none_or(|last| last < made) {
        return Err(JournalError::MissingSegment { file: segment_name(made) });
    }
    match last.filter(|last| *last > made.saturating_add(UNNAMED_SEGMENTS_MAX)) {
        Some(last) => Err(no_segment(last)),
        None => Ok(identity),
    }
}

/// Takes the directory for this caller alone.
pub(super) fn lock<D: Disk>(disk: &D) -> Result<D::Lock, JournalError> {
    disk.lock().map_err(|err| match err.kind() {
        io::ErrorKind::WouldBlock => JournalError::Locked,
        _ => JournalError::io("lock", ".")(err),
    })
}

/// The checkpoints, of which one reaches back to where the journal begins; in a cluster, what is
/// lost with such a one comes from the others. That the journal begins behind one that came from a
/// peer, that one says, and nothing else needs to; returned with them is whether it does.
fn find_checkpoints<D: Disk>(
    disk: &D,
    identity: &mut Identity,
    alone: bool,
) -> Result<(checkpoint::Found<D>, bool), JournalError> {
    let found = checkpoint::find(disk, identity.home(), identity.replica)?;
    let newest = found.whole.first().map_or(Slot::ZERO, |newest| newest.header().slot);
    if newest < identity.front.slot {
        // Without what was trimmed the state cannot be built.
        if alone {
            let missing = JournalError::MissingCheckpoint { slot: identity.front.slot };
            return Err(found.damaged.map_or(missing, |(_, err)| err));
        }
        reached!(CheckpointsLost);
    }
    let from = found.whole.iter().map(|whole| whole.header().journal_from).max();
    let from = from.unwrap_or_default();
    identity.front.slot = identity.front.slot.max(from);
    Ok((found, from > Slot::ZERO && from == identity.front.slot))
}

/// Reads and checks everything.
fn scan<D: Disk>(
    disk: &D,
    identity: &Identity,
    rot: Rot,
    checkpoint: Option<CheckpointHeader>,
    numbers: &[u64],
) -> Result<Scan<D::File>, JournalError> {
    let slot_checkpointed = checkpoint.map_or(Slot::ZERO, |newest| newest.slot);
    let known = Known {
        home: identity.home(),
        rot,
        segment_last: identity.segment_last,
        segment_made: identity.segment_made,
        slot_checkpointed,
        durable_through: checkpoint.map_or(Lsn::ZERO, |newest| newest.durable_through),
        front: identity.front,
        slot_first: identity.front.slot.min(slot_checkpointed),
    };
    Scan::run(disk, known, identity.membership.as_ref().map(Membership::alpha), numbers)
}

fn recovered<F: File>(
    scan: &mut Scan<F>,
    newest: Option<CheckpointHeader>,
) -> Result<Recovered, JournalError> {
    let known = newest.map_or((Slot::ZERO, Chain::EMPTY), |newest| (newest.slot, newest.chain));
    let (slot_checkpointed, chain) = known;
    let mut votes = Vec::with_capacity(scan.found.votes.len());
    for (slot, (ballot, place)) in std::mem::take(&mut scan.found.votes) {
        let entry = entry(scan, slot, place)?;
        votes.push((slot, ballot, entry));
    }
    let told = std::mem::take(&mut scan.damage.told).into_iter();
    let told = told.map(|(slot, place)| Ok((slot, entry(scan, slot, place)?)));
    let told = told.collect::<Result<_, _>>()?;
    let (promised, slot_chosen) = (scan.promised, scan.found.slot_chosen);
    let (mut missing, mut unreadable) = (scan.damage.missing.clone(), scan.damage.missing.clone());
    missing.remove_below(slot_checkpointed);
    unreadable.remove(SlotRange { first: slot_checkpointed, end: Slot(u64::MAX) });
    Ok(Recovered {
        promised,
        slot_chosen,
        slot_checkpointed,
        chain,
        votes,
        told,
        missing,
        unreadable,
        doubts: scan.damage.doubts.clone(),
        sightings: scan.found.sightings.clone(),
    })
}

/// What no evidence covers, to be written again, and what is in doubt. The promise is not in it: it
/// is at the head of every segment anyway.
fn tail_items<F: File>(scan: &mut Scan<F>) -> Result<Vec<Item>, JournalError> {
    let (mut items, chosen) = (Vec::new(), scan.found.slot_chosen);
    let doubts = scan.damage.record();
    // That none are left of the damage that there is must be written down too: frames that told so
    // may be among those that are written again, as part of other groups.
    let mut says_doubts = !doubts.is_empty() || scan.damage.digest > 0;
    for Seen(header) in std::mem::take(&mut scan.tail) {
        let Some(place) = Place::new(header.segment, header.offset) else { continue };
        let slot = header.slot;
        match header.kind {
            // It is not what is known to be chosen, and must not pass for it.
            Kind::Vote if slot < chosen && scan.found.index.get(slot) != Some(place) => {}
            Kind::Vote => {
                let entry = entry(scan, slot, place)?;
                items.push(Item::Vote { slot, ballot: header.ballot, entry });
            }
            Kind::Chosen => items.push(Item::Chosen { slot, entry: entry(scan, slot, place)? }),
            Kind::Verdicts => {
                items.push(Item::Verdicts { slot, bytes: scan.source.payload(place)? });
            }
            Kind::Sightings => items.push(Item::Sightings { bytes: scan.source.payload(place)? }),
            // Those below say it all; but they must not be left out where they say: none.
            Kind::Doubts => says_doubts = true,
            Kind::Group | Kind::Promise | Kind::Seal => {}
        }
    }
    for (slot, place) in scan.found.hidden() {
        items.push(Item::Chosen { slot, entry: entry(scan, slot, place)? });
    }
    if says_doubts {
        items.push(Item::doubts(&doubts, scan.damage.digest));
    }
    Ok(items)
}

fn entry<F: File>(scan: &mut Scan<F>, slot: Slot, place: Place) -> Result<Entry, JournalError> {
    let bytes = scan.source.payload(place)?;
    Entry::decode(bytes).map_err(|_| JournalError::Corrupt {
        file: segment_name(place.segment()),
        offset: place.offset(),
        slot: Some(slot),
        reason: "not an entry",
    })
}

/// The segments that are kept, each with its last frame and one behind the highest slot in it or
/// before it.
fn ended<F: File>(scan: &Scan<F>) -> BTreeMap<u64, Ended> {
    let last = (scan.kept.last_lsn, scan.found.slot_end);
    let ended = |number: &u64| {
        let is_last = *number == scan.kept.number;
        let known = scan.ended.get(number).copied().filter(|_| !is_last);
        let (last_lsn, slot_end) = known.unwrap_or(last);
        (*number, Ended { last_lsn, slot_end, bytes: 0 })
    };
    scan.chain.iter().map(ended).collect()
}

fn head<F: File>(scan: &mut Scan<F>, numbers: &[u64], tail: Vec<Item>) -> Head {
    let (number, ballot) = scan.found.promise;
    let damage = std::mem::take(&mut scan.damage);
    // One that is lost has a number too: nothing else may pass for it.
    let is_heard = number < scan.found.heard_of;
    let is_new = scan.promised > ballot || is_heard || damage.doubts.promise_lost;
    Head {
        // Never a number that was used: what a lost file left behind must stay foreign.
        number: numbers.last().map_or(1, |number| number + 1),
        first_lsn: scan.lsn_seen.next(),
        previous: scan.kept,
        promised: scan.promised,
        meta_seq: if is_new { scan.found.next_promise() } else { number },
        slot_chosen: scan.found.slot_chosen,
        // What may be lost counts too: no later group may say that there was nothing.
        slot_end: scan.found.slot_end.max(scan.found.slot_chosen).max(damage.end()),
        tail,
        damage,
    }
}

/// Writes a segment that begins with the promise and the tail. When this returns, both are durable
/// and the segment counts.
fn begin_segment<D: Disk>(
    disk: &D,
    shared: &Shared<D::File>,
    options: Options,
    mut head: Head,
) -> Result<Start<D::File>, JournalError> {
    let (promised, meta_seq) = (head.promised, head.meta_seq);
    let groups = plan(&mut head, &options);
    let last = groups.back().expect("there is a group for the promise");
    let end = last.offset + last.padded_bytes() as u64;
    let last_lsn = Lsn(last.end_lsn.0 - 1);
    let length = options.segment_bytes.max(end);
    let home: Home = *shared.home.read();
    let superheader = Superheader {
        home,
        number: head.number,
        length,
        first_lsn: head.first_lsn,
        // It is written after the groups are synced, so it can vouch for them.
        durable_through: last_lsn,
        previous: head.previous,
        promised,
        promise_lost: head.damage.doubts.promise_lost,
    };
    assert!(superheader.is_of(head.number), "the next opening would refuse it: {superheader:?}");
    let (block, checksum) = superheader.encode();
    let lanes = prepare(disk, head.number, length, options.inflight_max)?;
    let file = &lanes[0];
    let name = segment_name(head.number);
    let (mut link, mut places) = (checksum, Vec::new());
    for group in &groups {
        let mut bytes = Vec::with_capacity(group.padded_bytes());
        let (durable_through, slot_end) = (head.previous.last_lsn, head.slot_end);
        let context = Context { home, durable_through, slot_end, link };
        link = group.encode(context, &mut bytes, &mut places);
        file.write_at(group.offset, &bytes).map_err(JournalError::io("write", &name))?;
    }
    if !bugs::is_on(Bug::CountBeforeSync) {
        file.sync().map_err(JournalError::io("sync", &name))?;
    }
    file.write_at(0, &block).map_err(JournalError::io("write", &name))?;
    file.sync().map_err(JournalError::io("sync", &name))?;
    shared.files.write().insert(head.number, Arc::clone(file));
    // A vote that is written again need not be what was chosen: of a slot that is missing nothing
    // is read.
    places.retain(|(slot, ..)| !head.damage.missing.contains(*slot));
    show(&mut shared.index.write(), head.number, &places);
    // For groups behind the first one the superheader vouches alone, and may rot with them.
    let vouched = if groups.len() == 1 { last_lsn } else { head.previous.last_lsn };
    Ok(Start {
        lanes,
        end: End { number: head.number, offset: end, last_lsn, link },
        length,
        promised,
        meta_seq,
        evidence: (vouched, head.slot_chosen),
        slot_end: head.slot_end,
        damage: head.damage,
    })
}

fn show(index: &mut Index, segment: u64, places: &[(Slot, Lsn, u64)]) {
    for &(slot, _, offset) in places {
        let place = Place::new(segment, offset);
        index.set(slot, place.expect("segments are bounded in number and length"));
    }
}

/// The groups that hold the promise and the tail.
fn plan(head: &mut Head, options: &Options) -> VecDeque<Group> {
    let promise = Item::Promise { ballot: head.promised, meta_seq: head.meta_seq };
    let mut collector = Collector::of_segment(head.number, head.first_lsn, promise, options);
    for item in std::mem::take(&mut head.tail) {
        collector.push(item);
    }
    // The watermark needs the whole tail, so only the last group may say it.
    collector.set_chosen(head.slot_chosen);
    collector.into_groups()
}

/// Cuts the last segment to what is kept of it and removes the segments that are not in the chain.
fn give_back<D: Disk>(
    disk: &D,
    shared: &Shared<D::File>,
    numbers: &[u64],
    kept: End,
) -> Result<(), JournalError> {
    let files = shared.files.read();
    if let Some(file) = files.get(&kept.number) {
        let name = segment_name(kept.number);
        let length = file.len().map_err(JournalError::io("measure", &name))?;
        if length > kept.offset {
            file.set_len(kept.offset).map_err(JournalError::io("truncate", &name))?;
        }
    }
    let mut removed = false;
    for number in numbers.iter().filter(|number| !files.contains_key(number)) {
        let name = segment_name(*number);
        disk.remove(&name).map_err(JournalError::io("remove", &name))?;
        removed = true;
    }
    if removed {
        reached!(LeftoverRemoved);
    }
    match removed {
        true => disk.sync_directory().map_err(JournalError::io("sync", ".")),
        false => Ok(()),
    }
}

/// How far a number may be above that of the newest segment which the identity names. Openings that
/// did not end leave such segments, one each, and the next one that does removes them.
const UNNAMED_SEGMENTS_MAX: u64 = 1 << 20;
