//! What a medium does to the durable blocks of a journal that is closed: flipped bits, zeros, bad
//! sectors, blocks in the wrong place, files that end early, promises of which both copies rot,
//! stretches over several groups.
//!
//! Not done: to make zeros of what nothing written later speaks of. That looks like a journal that
//! ended before, and nobody can tell (`docs/format.md`, *What is assumed*).
//!
//! Not here: damage to running replicas, within what a cluster outlives (`rot`).

use crate::journal::frame::{FRAME_HEADER_BYTES, Header, Kind};
use crate::journal::segment::{BLOCK_BYTES, Superheader, segment_number};
use crate::types::codec;
use crate::types::ids::{Ballot, ContentHash, Lsn};
use crate::types::record::Doubts;

use super::disk::SimDisk;
use super::rng::Rng;

/// A frame on the medium.
struct Seen {
    file: String,
    at: usize,
    header: Header,
}

/// A block that is not all zeros.
struct Used {
    file: String,
    at: usize,
    /// How many bytes of it there are, and up to which they are not zeros.
    length: usize,
    used: usize,
}

/// What was done, and whether the promise must have outlived it.
pub(super) struct Ravaged {
    pub(super) lines: Vec<String>,
    /// Whether what is left tells of the promise in force that it was made, and was durable. It may
    /// be found all the same.
    pub(super) is_promise_known: bool,
}

/// One damage that was done.
struct Done {
    line: String,
    /// How many copies of a promise it may have reached.
    places: u64,
    /// Whether nothing else may be damaged beside.
    is_last: bool,
}

impl Done {
    fn new(line: String, places: u64) -> Self {
        Self { line, places, is_last: false }
    }
}

/// Damages something; `promised` was promised durably.
pub(super) fn ravage(disk: &SimDisk, promised: Ballot, rng: &mut Rng) -> Ravaged {
    if rng.per_mille(150) {
        let frames = frames(disk);
        let lines = rot_promise(disk, &frames, promised, rng);
        return Ravaged { lines, is_promise_known: is_spoken_of(disk, &frames, promised) };
    }
    if rng.per_mille(400) {
        let frames = frames(disk);
        let lines = rot_stretch(disk, rng).into_iter().collect();
        let left = self::frames(disk);
        let is_promise_known = is_shown(&left, promised) || is_proven(&left, &frames, promised);
        return Ravaged { lines, is_promise_known };
    }
    let (mut lines, mut places) = (Vec::new(), 0);
    for _ in 0..rng.within(1..=4) {
        let Some(done) = damage(disk, rng) else { continue };
        places += done.places;
        lines.push(done.line);
        if done.is_last {
            break;
        }
    }
    // Of two places, both can be copies of the promise where nothing speaks of it yet.
    Ravaged { lines, is_promise_known: places < 2 }
}

/// One stretch turns into noise: anywhere in what is used of a segment, or up to behind the head of
/// a group, so that of this one the rest is left.
pub(super) fn rot_stretch(disk: &SimDisk, rng: &mut Rng) -> Option<String> {
    let (blocks, frames) = (used_blocks(disk), frames(disk));
    let block = (!blocks.is_empty()).then(|| rng.pick(&blocks))?;
    let groups = frames.iter().filter(|seen| seen.header.kind == Kind::Group);
    let newest = groups.max_by_key(|seen| seen.header.lsn);
    let (file, end) = match newest.filter(|_| rng.per_mille(600)) {
        Some(seen) => (&seen.file, seen.at + FRAME_HEADER_BYTES + rng.below(2000) as usize),
        None => (&block.file, block.at + rng.below(block.used as u64) as usize + 1),
    };
    let length = rng.below(20 * 1024) as usize + 1;
    // Another version in a superheader is refused, and a matter of other tests.
    let range = end.saturating_sub(length).max(16)..end;
    let mut noise = rng.fork();
    let changed = disk.rot(file, range.clone(), |bytes| {
        bytes.iter_mut().for_each(|byte| *byte ^= noise.next_u64() as u8 | 1);
    });
    changed.then(|| format!("stretch {file}:{range:?}"))
}

/// Whether a superheader, or a frame with its payload, is left that tells that the promise is lost.
/// (No sector of such a disk is unreadable.)
pub(super) fn tells_of_lost_promise(disk: &SimDisk) -> bool {
    let segments = segments(disk);
    let mut superheaders = segments.iter().filter_map(|(_, it)| Superheader::decode(it).ok());
    let mut doubts = frames_of(&segments).filter_map(|(seen, rest)| doubts(&seen.header, rest));
    superheaders.any(|(it, _)| it.promise_lost) || doubts.any(|doubts| doubts.promise_lost)
}

/// What a frame says is in doubt, if it is one that does and its payload, the beginning of what
/// stands behind its header, is whole.
fn doubts(header: &Header, rest: &[u8]) -> Option<Doubts> {
    if header.kind != Kind::Doubts {
        return None;
    }
    let payload = rest.get(..header.payload_bytes as usize)?;
    let is_whole = ContentHash::of(payload) == header.content;
    is_whole.then(|| codec::decode("doubts", payload).ok()).flatten()
}

/// Whether a frame is left that shows the promise, or a higher one.
fn is_shown(left: &[Seen], promised: Ballot) -> bool {
    let mut promises = left.iter().filter(|seen| seen.header.kind == Kind::Promise);
    promises.any(|seen| promised <= seen.header.ballot)
}

/// Whether any frame is left that says of a promise that it was durable, and of its number.
fn is_proven(left: &[Seen], before: &[Seen], promised: Ballot) -> bool {
    let Some((number, lsn)) = promise_of(before, promised) else { return false };
    let proves = |header: &Header| number <= header.meta_seq && lsn <= header.durable_through;
    left.iter().any(|seen| proves(&seen.header))
}

/// The number of a promise, and of the last frame that shows it.
fn promise_of(frames: &[Seen], promised: Ballot) -> Option<(u64, Lsn)> {
    let promises = frames.iter().filter(|seen| seen.header.kind == Kind::Promise);
    let promises = promises.filter(|seen| seen.header.ballot == promised);
    promises.map(|seen| (seen.header.meta_seq, seen.header.lsn)).max()
}

/// Whether, though all frames that show `promised` are rotten, later ones that are read tell of its
/// number: what evidence covers, and seals.
fn is_spoken_of(disk: &SimDisk, before: &[Seen], promised: Ballot) -> bool {
    let Some((number, lsn)) = promise_of(before, promised) else { return false };
    let left = frames(disk);
    let groups = left.iter().filter(|seen| seen.header.kind == Kind::Group);
    let evidence = groups.clone().map(|seen| seen.header.durable_through).max();
    let speaks = |header: &Header| number <= header.meta_seq && lsn < header.lsn;
    let mut covered = groups.filter(|seen| Some(seen.header.lsn) <= evidence);
    let mut seals = left.iter().filter(|seen| seen.header.kind == Kind::Seal);
    covered.any(|seen| speaks(&seen.header))
        || seals.any(|seen| speaks(&seen.header) && lsn <= seen.header.durable_through)
}

/// Rots every frame that shows a ballot or a higher one. Others behind them still speak of the
/// number of its promise.
fn rot_promise(disk: &SimDisk, frames: &[Seen], promised: Ballot, rng: &mut Rng) -> Vec<String> {
    let mut lines = Vec::new();
    for Seen { file, at, .. } in frames.iter().filter(|seen| seen.header.ballot >= promised) {
        disk.flip(file, at + rng.below(FRAME_HEADER_BYTES as u64) as usize, 1);
        lines.push(format!("promise {promised} {file}:{at}"));
    }
    lines
}

/// Returns what it did, where it did something.
fn damage(disk: &SimDisk, rng: &mut Rng) -> Option<Done> {
    let blocks = used_blocks(disk);
    if blocks.is_empty() {
        return None;
    }
    let Used { file, at, length, used } = rng.pick(&blocks);
    match rng.below(6) {
        0 | 1 => {
            let place = at + rng.below(*used as u64) as usize;
            // Another version in a superheader is refused, and a matter of other tests.
            let is_version = (8..10).contains(&place);
            let flipped = !is_version && disk.flip(file, place, 1 << rng.below(8));
            flipped.then(|| Done::new(format!("flip {file}:{place}"), 1))
        }
        2 if is_covered(disk, file, *at) => {
            // What speaks of it must not be damaged either.
            let done = || Done { is_last: true, ..Done::new(format!("zero {file}:{at}"), 1) };
            disk.zero(file, *at..at + length).then(done)
        }
        3 => {
            let place = at + rng.below(8) as usize * 512;
            disk.make_unreadable(file, place..place + 512);
            Some(Done::new(format!("unreadable {file}:{place}"), 1))
        }
        4 => {
            let from = rng.pick(&blocks);
            let bytes = disk.durable(&from.file).unwrap_or_default();
            let bytes = &bytes[from.at..from.at + from.length.min(*length)];
            disk.rot(file, *at..at + bytes.len(), |block| block.copy_from_slice(bytes));
            Some(Done::new(format!("misdirect {}:{} {file}:{at}", from.file, from.at), 1))
        }
        5 => {
            let end = (*at).max(BLOCK_BYTES);
            // What is still to be written behind would leave zeros before it.
            let grows = disk.unsynced().iter().any(|it| it.name == *file && end < it.range.end);
            let cut = !grows && disk.truncate(file, end);
            cut.then(|| Done::new(format!("cut {file}:{end}"), 2))
        }
        _ => None,
    }
}

fn segments(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.durable_names().into_iter().filter(|name| segment_number(name).is_some());
    names.filter_map(|name| disk.durable(&name).map(|bytes| (name, bytes))).collect()
}

fn used_blocks(disk: &SimDisk) -> Vec<Used> {
    let mut blocks = Vec::new();
    for (file, bytes) in segments(disk) {
        for (index, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            let Some(last) = block.iter().rposition(|byte| *byte != 0) else { continue };
            let (at, length) = (index * BLOCK_BYTES, block.len());
            blocks.push(Used { file: file.clone(), at, length, used: last + 1 });
        }
    }
    blocks
}

/// All frames whose headers are whole.
fn frames(disk: &SimDisk) -> Vec<Seen> {
    frames_of(&segments(disk)).map(|(seen, _)| seen).collect()
}

/// All frames of these files whose headers are whole, each with what stands behind its header.
fn frames_of(segments: &[(String, Vec<u8>)]) -> impl Iterator<Item = (Seen, &[u8])> {
    segments.iter().flat_map(|(file, bytes)| {
        let places = (0..bytes.len().saturating_sub(FRAME_HEADER_BYTES)).step_by(8);
        places.filter_map(|at| {
            let (header, _) = Header::decode(&bytes[at..]).ok()?;
            let rest = &bytes[at + FRAME_HEADER_BYTES..];
            Some((Seen { file: file.clone(), at, header }, rest))
        })
    })
}

/// Whether a frame elsewhere says that all frames that reach into this block were durable.
fn is_covered(disk: &SimDisk, file: &str, block: usize) -> bool {
    let (mut last, mut evidence) = (0, 0);
    for Seen { file: other, at, header } in frames(disk) {
        let is_here = other == file;
        if is_here && at < block + BLOCK_BYTES {
            last = last.max(header.lsn.0);
        }
        if !is_here || at + FRAME_HEADER_BYTES <= block || at >= block + BLOCK_BYTES {
            evidence = evidence.max(header.durable_through.0);
        }
    }
    block >= BLOCK_BYTES && last <= evidence
}
