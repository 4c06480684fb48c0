//! The file that says whose directory this is, from any bytes.
//!
//! The bytes are taken as they are, and once more with magic, version, length, checksum and cluster
//! made right. Asserted: what decodes encodes to the same bytes; a directory with this file is
//! opened, and opened again with one boot more, or refused and left as it was. (The promise, the
//! other thing that a replica must not forget, stands in frames of the journal: target `recovery`.)

use indelible::journal::frame::FORMAT_VERSION;
use indelible::journal::identity::{IDENTITY_MAGIC, IDENTITY_NAME};
use indelible::journal::{Disk, File, Identity, Journal, MemoryDisk, Options};
use indelible::types::codec;
use indelible::types::ids::ContentHash;
use indelible::types::membership::Membership;

use crate::allocations::bounded;
use crate::checksum::{crc32, put_crc32};

const HEADER_BYTES: usize = 104;
/// What an opening needs beside the file: the segment that it makes, and what it reads through.
const OPEN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Takes `data` as the file, as it is and with right checksums.
pub fn run(data: &[u8]) {
    check(data);
    let mut sealed = data.to_vec();
    if sealed.len() >= HEADER_BYTES + 4 {
        seal(&mut sealed);
        check(&sealed);
    }
}

fn seal(bytes: &mut [u8]) {
    let end = bytes.len() - 4;
    bytes[..8].copy_from_slice(&IDENTITY_MAGIC);
    bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    let length = (end - HEADER_BYTES) as u32;
    bytes[12..16].copy_from_slice(&length.to_le_bytes());
    if codec::decode::<Membership>("membership", &bytes[HEADER_BYTES..end]).is_ok() {
        let cluster = ContentHash::of(&bytes[HEADER_BYTES..end]);
        bytes[16..32].copy_from_slice(&cluster.0.to_le_bytes());
    }
    put_crc32(bytes, end);
}

fn check(bytes: &[u8]) {
    let Ok(identity) = bounded(bytes.len(), || Identity::decode(bytes)) else { return };
    let (content, checksum) = bytes.split_at(bytes.len() - 4);
    assert_eq!(crc32(content).to_le_bytes(), checksum);
    assert_eq!(identity.encode(), bytes, "another encoding of {identity:?}");
    if let Some(membership) = &identity.membership {
        assert!(membership.check().is_ok());
    }
    open(bytes, &identity);
}

/// Opens a directory with nothing but this file.
fn open(bytes: &[u8], identity: &Identity) {
    let disk = MemoryDisk::new();
    let file = disk.create(IDENTITY_NAME).expect("the disk is empty");
    file.write_at(0, bytes).expect("a disk in memory takes writes");
    assert_eq!(Journal::peek(&disk).expect("it was decoded").as_ref(), Some(identity));
    let options = Options { segment_bytes: 64 * 1024, ..Options::default() };
    let open = || Journal::open(disk.clone(), options, identity.replica);
    let first = bounded(OPEN_BYTES_MAX / crate::allocations::TIMES_INPUT, open);
    let Ok(mut journal) = first else {
        assert_eq!(Journal::peek(&disk).expect("it is left as it was").as_ref(), Some(identity));
        return;
    };
    assert!(identity.segment_last == 0 && identity.segment_made == 0, "a segment is missing");
    let sequence = identity.boot.sequence.saturating_add(1);
    assert_eq!(journal.identity().boot.sequence, sequence);
    assert!(!identity.formed, "a formed directory has a segment");
    if let Some(membership) = &identity.membership {
        journal.agree(membership, true).expect("a disk in memory takes writes");
        assert!(journal.frontier().lsn().0 > 0, "the promise is durable");
    }
    drop(journal);
    let again = open().expect("what an opening left can be opened");
    assert_eq!(again.identity().boot.sequence, sequence.saturating_add(1));
    assert_eq!(again.identity().incarnation, identity.incarnation);
    assert_eq!(again.identity().formed, identity.membership.is_some());
}
