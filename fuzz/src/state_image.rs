//! An image of the state, from any bytes.
//!
//! The bytes are pieces, each behind its length (2 bytes). They are taken as they are; and once
//! more with an end whose sum is right and, where that is all that is wrong then, the digest of
//! what was read. Asserted: nothing but an error comes of what is no image; what is read of one
//! stands where it says, with that digest, can be asked for every slot and id, goes on, and has an
//! image itself, which is the same state.

use std::sync::Arc;

use indelible::store::Store;
use indelible::store::image::{IMAGE_VERSION, Image, ImageError, ImageFault, ImageReader};
use indelible::types::entry::Entry;
use indelible::types::ids::{ContentHash, Slot};

use crate::allocations::bounded;

/// Where the digest stands in a head: behind the version, the kind, and three numbers.
const DIGEST_AT: usize = 1 + 4 + 8 + 8 + 8;
/// The kind of the last piece.
const END: u32 = 6;

/// Takes `data` as pieces, as they are and with a right end.
pub fn run(data: &[u8]) {
    let mut pieces = pieces(data);
    drop(check(data.len(), &pieces));
    pieces.retain(|piece| piece.get(1..5) != Some(&END.to_le_bytes()));
    seal(&mut pieces);
    if let Err(ImageError { fault: ImageFault::Digest { found, .. }, .. }) =
        check(data.len(), &pieces)
        && let Some(place) = pieces[0].get_mut(DIGEST_AT..DIGEST_AT + 16)
    {
        place.copy_from_slice(&found.to_le_bytes());
        pieces.pop();
        seal(&mut pieces);
        let digests = check(data.len(), &pieces);
        assert!(!matches!(digests, Err(ImageError { fault: ImageFault::Digest { .. }, .. })));
    }
}

fn pieces(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk() {
        let (piece, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        pieces.push(piece.to_vec());
        data = rest;
    }
    pieces
}

/// Adds an end with the right sum.
fn seal(pieces: &mut Vec<Vec<u8>>) {
    let mut hash = 0_u128;
    for piece in &*pieces {
        let both = [hash.to_le_bytes(), ContentHash::of(piece).0.to_le_bytes()].concat();
        hash = ContentHash::of(&both).0;
    }
    let mut end = vec![IMAGE_VERSION];
    end.extend_from_slice(&END.to_le_bytes());
    end.extend_from_slice(&(pieces.len() as u64).to_le_bytes());
    end.extend_from_slice(&hash.to_le_bytes());
    pieces.push(end);
}

fn read(pieces: &[Vec<u8>]) -> Result<Store, ImageError> {
    let mut reader = ImageReader::new();
    for piece in pieces {
        reader.take(piece)?;
    }
    reader.finish()
}

fn check(bytes: usize, pieces: &[Vec<u8>]) -> Result<(), ImageError> {
    let store = Arc::new(bounded(bytes, || read(pieces))?);
    let applied = store.applied();
    let image = Image::of(&store, Slot::ZERO).collect::<Vec<_>>();
    let again = read(&image).expect("an image of a state is one");
    assert_eq!(again.applied(), applied);
    let known = (0..applied.slot.0.min(1 << 16)).map(Slot);
    for outcome in known.filter_map(|slot| store.outcome(slot)) {
        let slots = store.slots_after(outcome.after);
        assert_eq!(again.slots_after(outcome.after), slots);
    }
    if applied.slot.0 < u64::MAX {
        store.apply(applied.slot, &Entry::no_op()).expect("a no-op can be applied anywhere");
        again.apply(applied.slot, &Entry::no_op()).expect("a no-op can be applied anywhere");
        assert_eq!(store.applied(), again.applied());
    }
    Ok(())
}
