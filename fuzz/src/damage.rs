//! What happens to a directory between two openings.
//!
//! *Damage* is what a medium does: bits flip, blocks are zeroed, written to the wrong place or kept
//! from before, files are cut, grow, vanish. *Forgery* is what no medium does: fields of headers
//! are set to any value, and then all checksums, hashes and links are made right again, so that
//! what reads the fields has to cope with them.

use indelible::journal::frame::{FRAME_HEADER_BYTES, Header, Kind};
use indelible::journal::identity::IDENTITY_NAME;
use indelible::journal::segment::{BLOCK_BYTES, SUPERHEADER_BYTES, segment_name, segment_number};
use indelible::types::ids::ContentHash;

use crate::checksum::put_crc32;
use crate::image::{Files, Image};
use crate::input::Input;

/// Most edits of one input.
const EDITS_MAX: usize = 24;
const PIECE_BYTES: usize = 512;

/// The fields of a frame header: offset and length.
const FRAME_FIELDS: [(usize, usize); 20] = [
    (4, 2),
    (6, 1),
    (7, 1),
    (8, 4),
    (12, 4),
    (16, 8),
    (24, 8),
    (32, 8),
    (48, 8),
    (56, 8),
    (64, 8),
    (72, 8),
    (72, 8),
    (80, 8),
    (88, 8),
    (96, 8),
    (104, 8),
    (112, 8),
    (136, 4),
    (144, 8), // The payload: of a group frame how many frames it has, then how many bytes.
];
const SUPERHEADER_FIELDS: [(usize, usize); 14] = [
    (8, 2),
    (10, 4),
    (16, 8),
    (32, 8),
    (48, 8),
    (56, 8),
    (64, 8),
    (72, 8),
    (80, 8),
    (88, 8),
    (96, 8),
    (104, 4),
    (108, 8),
    (116, 8),
];
const IDENTITY_FIELDS: [(usize, usize); 11] = [
    (8, 2),
    (10, 1),
    (11, 1),
    (12, 4),
    (16, 8),
    (32, 8),
    (48, 8),
    (56, 8),
    (64, 8),
    (72, 8),
    (80, 8),
];

/// Damages `files`, which are those of `image`, as a medium would.
pub fn damage(files: &mut Files, image: &Image, input: &mut Input<'_>) {
    for _ in 0..EDITS_MAX {
        if input.is_empty() {
            return;
        }
        match input.byte() % 14 {
            0..3 => flip(files, image, input),
            12 | 13 => rot_stretch(files, input),
            3 => zero(files, input, BLOCK_BYTES),
            4 => zero(files, input, PIECE_BYTES),
            5 => copy(files, input, BLOCK_BYTES, false),
            6 => copy(files, input, BLOCK_BYTES, true),
            7 => copy(files, input, PIECE_BYTES, false),
            8 => resize(files, input),
            9 => drop(any(files, input).and_then(|name| files.remove(&name))),
            10 => rename(files, input),
            _ => zero_group(files, image, input),
        }
    }
}

/// Changes `files` as nobody would but a forger, then makes all checksums right.
pub fn forge(files: &mut Files, image: &Image, input: &mut Input<'_>) {
    for _ in 0..EDITS_MAX {
        if input.is_empty() {
            break;
        }
        match input.byte() % 12 {
            0..4 => set_in_frame(files, image, input),
            4 | 5 => set_in_superheader(files, input),
            6 => {
                let fields = &IDENTITY_FIELDS;
                if let Some(bytes) = files.get_mut(IDENTITY_NAME) {
                    set(bytes, 0, fields, input);
                }
            }
            7 => overwrite(files, image, input),
            8 => shift(files, image, input),
            9 => renumber(files, input),
            10 => resize(files, input),
            _ => rename(files, input),
        }
    }
    // Mostly everything is made right; what is left wrong is found where it is checked.
    let left = input.byte();
    let left = if left < 0xc0 { 0 } else { left };
    seal(files, image, left);
}

fn any(files: &Files, input: &mut Input<'_>) -> Option<String> {
    files.keys().nth(input.below(files.len())).cloned()
}

/// The bytes of a frame, from its header to the end of its payload.
fn frame<'f>(files: &'f mut Files, image: &Image, at: usize) -> Option<&'f mut [u8]> {
    let header = image.frames.get(at)?;
    let offset = header.offset as usize;
    let end = offset + FRAME_HEADER_BYTES + header.payload_bytes as usize;
    files.get_mut(&segment_name(header.segment))?.get_mut(offset..end)
}

fn flip(files: &mut Files, image: &Image, input: &mut Input<'_>) {
    let (at, bit) = (input.byte(), usize::from(input.word()));
    // One of the frames, or one of the files at its beginning.
    let bytes = match usize::from(at) {
        at if at < image.frames.len() => frame(files, image, at),
        at => files.values_mut().nth(at % 4).map(Vec::as_mut_slice),
    };
    let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { return };
    let byte = bit / 8 % bytes.len();
    bytes[byte] ^= 1 << (bit % 8);
}

fn zero(files: &mut Files, input: &mut Input<'_>, length: usize) {
    let name = any(files, input);
    let at = input.below(256) * length;
    let bytes = name.and_then(|name| files.get_mut(&name));
    if let Some(rest) = bytes.and_then(|bytes| bytes.get_mut(at..)) {
        let end = rest.len().min(length);
        rest[..end].fill(0);
    }
}

/// Several pieces in a row become zeros, or noise.
fn rot_stretch(files: &mut Files, input: &mut Input<'_>) {
    let name = any(files, input);
    let (at, length) = (input.below(128) * PIECE_BYTES, (input.below(40) + 1) * PIECE_BYTES);
    let noise = input.byte();
    let bytes = name.and_then(|name| files.get_mut(&name));
    if let Some(rest) = bytes.and_then(|bytes| bytes.get_mut(at..)) {
        let end = rest.len().min(length);
        rest[..end].iter_mut().for_each(|byte| *byte = if noise > 0 { *byte ^ noise } else { 0 });
    }
}

fn zero_group(files: &mut Files, image: &Image, input: &mut Input<'_>) {
    let at = input.below(image.frames.len());
    if let Some(bytes) = frame(files, image, at) {
        bytes.fill(0);
    }
}

/// A block is written where another one should be, or they change places.
fn copy(files: &mut Files, input: &mut Input<'_>, length: usize, swap: bool) {
    let mut place = || Some((any(files, input)?, input.below(32) * length));
    let (Some((from, from_at)), Some((to, to_at))) = (place(), place()) else { return };
    let get = |files: &Files, name: &str, at: usize| {
        files.get(name).and_then(|bytes| bytes.get(at..at + length)).map(<[u8]>::to_vec)
    };
    let (Some(source), Some(target)) = (get(files, &from, from_at), get(files, &to, to_at)) else {
        return;
    };
    let mut put = |name: &str, at: usize, block: &[u8]| {
        if let Some(bytes) = files.get_mut(name) {
            bytes[at..at + length].copy_from_slice(block);
        }
    };
    put(&to, to_at, &source);
    if swap {
        put(&from, from_at, &target);
    }
}

fn resize(files: &mut Files, input: &mut Input<'_>) {
    let name = any(files, input);
    let length = input.below(20) * BLOCK_BYTES + usize::from(input.byte()) * 8;
    if let Some(bytes) = name.and_then(|name| files.get_mut(&name)) {
        bytes.resize(length, 0);
    }
}

/// A file gets the name of a segment, or a copy with it.
fn rename(files: &mut Files, input: &mut Input<'_>) {
    let Some(name) = any(files, input) else { return };
    let number = match input.byte() {
        byte @ 0..0xf0 => u64::from(byte % 12) + 1,
        _ => input.number().max(1),
    };
    let bytes = match input.byte() % 3 {
        0 => files.remove(&name),
        1 => files.get(&name).cloned(),
        _ => Some(Vec::new()),
    };
    files.insert(segment_name(number), bytes.unwrap_or_default());
}

fn set(bytes: &mut [u8], base: usize, fields: &[(usize, usize)], input: &mut Input<'_>) {
    let (at, length) = fields[input.below(fields.len())];
    let number = input.number();
    let Some(field) = bytes.get_mut(base + at..base + at + length) else { return };
    let mut before = [0; 8];
    before[..length].copy_from_slice(field);
    let number = match input.byte() % 2 {
        0 => number,
        _ => number.wrapping_add(u64::from_le_bytes(before)),
    };
    field.copy_from_slice(&number.to_le_bytes()[..length]);
}

fn set_in_frame(files: &mut Files, image: &Image, input: &mut Input<'_>) {
    let Some(header) = image.frames.get(input.below(image.frames.len())) else { return };
    if let Some(bytes) = files.get_mut(&segment_name(header.segment)) {
        set(bytes, header.offset as usize, &FRAME_FIELDS, input);
    }
}

fn set_in_superheader(files: &mut Files, input: &mut Input<'_>) {
    if let Some(bytes) = any(files, input).and_then(|name| files.get_mut(&name)) {
        set(bytes, 0, &SUPERHEADER_FIELDS, input);
    }
}

/// Bytes of the input instead of a part of a payload.
fn overwrite(files: &mut Files, image: &Image, input: &mut Input<'_>) {
    let (at, from) = (input.below(image.frames.len()), input.byte());
    let count = usize::from(input.byte() % 64);
    let bytes = input.take(count);
    let payload = frame(files, image, at).and_then(|frame| frame.get_mut(FRAME_HEADER_BYTES..));
    let target = payload.and_then(|payload| payload.get_mut(usize::from(from)..));
    target.into_iter().flatten().zip(bytes).for_each(|(to, from)| *to = *from);
}

/// Adds a number to every LSN, or to every number of a promise.
fn shift(files: &mut Files, image: &Image, input: &mut Input<'_>) {
    let (what, by) = (input.byte() % 2, input.number());
    let mut add = |name: &str, at: usize| {
        let bytes = files.get_mut(name).and_then(|bytes| bytes.get_mut(at..at + 8));
        let Some(field) = bytes.and_then(|bytes| bytes.first_chunk_mut::<8>()) else { return };
        *field = u64::from_le_bytes(*field).wrapping_add(by).to_le_bytes();
    };
    let mut last = 0;
    for header in &image.frames {
        let (name, offset) = (segment_name(header.segment), header.offset as usize);
        let fields: &[usize] = if what == 0 { &[64, 104] } else { &[96] };
        fields.iter().for_each(|field| add(&name, offset + field));
        if what == 0 && header.segment > last {
            [64, 72].into_iter().for_each(|field| add(&name, field));
            if last > 0 {
                add(&name, 96);
            }
            last = header.segment;
        }
    }
}

/// Adds to the number of every segment.
fn renumber(files: &mut Files, input: &mut Input<'_>) {
    let by = input.number();
    let mut renamed = Files::new();
    for (name, mut bytes) in std::mem::take(files) {
        let mut add = |at: usize| {
            if let Some(field) = bytes.get_mut(at..at + 8).and_then(|field| field.first_chunk_mut())
            {
                let number = u64::from_le_bytes(*field);
                let number = if number == 0 { 0 } else { number.wrapping_add(by).max(1) };
                *field = number.to_le_bytes();
            }
        };
        let Some(number) = segment_number(&name) else {
            [64, 72].into_iter().for_each(add);
            renamed.insert(name, bytes);
            continue;
        };
        [48, 80].into_iter().for_each(&mut add);
        for offset in (BLOCK_BYTES..bytes.len()).step_by(8) {
            if Header::decode(&bytes[offset..]).is_ok()
                && let Some(field) = bytes[offset + 48..].first_chunk_mut::<8>()
            {
                *field = u64::from_le_bytes(*field).wrapping_add(by).max(1).to_le_bytes();
            }
        }
        renamed.insert(segment_name(number.wrapping_add(by).max(1)), bytes);
    }
    *files = renamed;
}

/// Makes right what depends on other bytes, but for what the bits of `left` name.
fn seal(files: &mut Files, image: &Image, left: u8) {
    if let Some(bytes) = files.get_mut(IDENTITY_NAME).filter(|bytes| bytes.len() >= 84) {
        let end = bytes.len() - 4;
        put_crc32(bytes, end);
    }
    let mut last = [0; 4];
    let segments = files.iter_mut().filter(|(name, _)| segment_number(name).is_some());
    // The frames stand where they stood, but their segment may have another number by now; the
    // order of the files is that of the numbers.
    let mut numbers: Vec<u64> = image.frames.iter().map(|header| header.segment).collect();
    numbers.dedup();
    for ((_, bytes), number) in segments.zip(numbers) {
        if bytes.len() < SUPERHEADER_BYTES {
            continue;
        }
        if left & 1 == 0 && bytes[80..88] != [0; 8] {
            bytes[104..108].copy_from_slice(&last);
        }
        put_crc32(bytes, SUPERHEADER_BYTES - 4);
        last.copy_from_slice(&bytes[SUPERHEADER_BYTES - 4..SUPERHEADER_BYTES]);
        for header in image.frames.iter().filter(|header| header.segment == number) {
            let Some(frame) = bytes.get_mut(header.offset as usize..) else { break };
            seal_frame(frame, &mut last, left);
        }
    }
}

fn seal_frame(frame: &mut [u8], last: &mut [u8; 4], left: u8) {
    let Some((header, payload)) = frame.split_first_chunk_mut::<FRAME_HEADER_BYTES>() else {
        return;
    };
    let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
    if left & 2 == 0
        && header[6] != Kind::Promise as u8
        && let Some(payload) = payload.get(..length)
    {
        header[120..136].copy_from_slice(&ContentHash::of(payload).0.to_le_bytes());
    }
    if left & 4 == 0 {
        header[12..16].copy_from_slice(last);
    }
    put_crc32(header, FRAME_HEADER_BYTES - 4);
    last.copy_from_slice(&header[FRAME_HEADER_BYTES - 4..]);
}
