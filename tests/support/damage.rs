//! What a disk does to blocks that were durable: flipped bits, zeros, bad sectors, blocks in the
//! wrong place, files that end early.
//!
//! Not done: to make zeros of what nothing written later speaks of. That looks like a journal that
//! ended before, and nobody can tell (docs/format.md, *What is assumed*).

use indelible::journal::Disk;
use indelible::journal::frame::{FRAME_HEADER_BYTES, Header};
use indelible::journal::segment::BLOCK_BYTES;

use crate::faulty_disk::FaultyDisk;

/// Damages something, and says in how many places; `below` draws a number below its argument.
pub fn damage(disk: &FaultyDisk, below: &mut dyn FnMut(u64) -> u64) -> u64 {
    let mut names = disk.list().unwrap();
    names.retain(|name| name.starts_with("segment-"));
    names.sort();
    let mut pick = |count: usize| below(count as u64) as usize;
    let blocks = names.iter().flat_map(|name| {
        let bytes = disk.content(name);
        let used = bytes.chunks(BLOCK_BYTES).enumerate().filter(|(_, block)| !is_zero(block));
        used.map(|(index, _)| (name.clone(), index * BLOCK_BYTES)).collect::<Vec<_>>()
    });
    let blocks = blocks.collect::<Vec<_>>();
    if blocks.is_empty() {
        return 0;
    }
    let (name, offset) = blocks[pick(blocks.len())].clone();
    let length = disk.content(&name).len().min(offset + BLOCK_BYTES) - offset;
    match pick(6) {
        0 | 1 => {
            let used = used(&disk.content(&name)[offset..offset + length]);
            let at = offset + pick(used);
            // Another version in a superheader is refused, and a matter of other tests.
            if !(8..10).contains(&at) {
                let bit = pick(8);
                disk.rot(&name, |bytes| bytes[at] ^= 1 << bit);
            }
        }
        2 if is_covered(disk, &names, &name, offset) => {
            disk.rot(&name, |bytes| bytes[offset..offset + length].fill(0));
        }
        3 => disk.make_unreadable(&name, offset + pick(8) * 512, 512),
        4 => {
            let (from, at) = blocks[pick(blocks.len())].clone();
            let block = disk.content(&from)[at..].iter().copied().take(length).collect::<Vec<_>>();
            disk.rot(&name, |bytes| bytes[offset..offset + block.len()].copy_from_slice(&block));
        }
        5 => {
            disk.rot(&name, |bytes| bytes.truncate(offset.max(BLOCK_BYTES)));
            return 2;
        }
        _ => return 0,
    }
    1
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

fn used(block: &[u8]) -> usize {
    block.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1)
}

/// Whether a frame elsewhere says that all frames that reach into this block were durable.
fn is_covered(disk: &FaultyDisk, names: &[String], name: &str, offset: usize) -> bool {
    let (mut last, mut evidence) = (0, 0);
    for other in names {
        let bytes = disk.content(other);
        for at in (0..bytes.len().saturating_sub(FRAME_HEADER_BYTES)).step_by(8) {
            let Ok((header, _)) = Header::decode(&bytes[at..]) else { continue };
            let here = other == name;
            if here && at < offset + BLOCK_BYTES {
                last = last.max(header.lsn.0);
            }
            if !here || at + FRAME_HEADER_BYTES <= offset || at >= offset + BLOCK_BYTES {
                evidence = evidence.max(header.durable_through.0);
            }
        }
    }
    offset >= BLOCK_BYTES && last <= evidence
}
