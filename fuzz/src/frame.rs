//! Frame headers and superheaders of the journal, from any bytes.
//!
//! Asserted: decoding allocates nothing; what decodes encodes to the same bytes and checksum, so
//! there is one encoding of each header; a checksum that is wrong is never accepted.

use indelible::journal::frame::{FORMAT_VERSION, FRAME_HEADER_BYTES, FRAME_MAGIC, Header, Kind};
use indelible::journal::segment::{SEGMENT_MAGIC, SUPERHEADER_BYTES, Superheader};
use indelible::types::ids::ContentHash;

use crate::allocations::peak;
use crate::checksum::{crc32, put_crc32};

const CONTENT: std::ops::Range<usize> = 120..136;

/// Takes `data` as a frame and as a superheader, as it is and with right checksums.
pub fn run(data: &[u8]) {
    header(data);
    superheader(data);
    let mut sealed = data.to_vec();
    if sealed.len() >= FRAME_HEADER_BYTES {
        seal_header(&mut sealed);
        header(&sealed);
        fill(&mut sealed);
        seal_header(&mut sealed);
        header(&sealed);
    }
    if sealed.len() >= SUPERHEADER_BYTES {
        sealed.copy_from_slice(data);
        sealed[..8].copy_from_slice(&SEGMENT_MAGIC);
        sealed[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        put_crc32(&mut sealed, SUPERHEADER_BYTES - 4);
        superheader(&sealed);
    }
}

fn header(bytes: &[u8]) {
    let (decoded, allocated) = peak(|| Header::decode(bytes));
    assert_eq!(allocated, 0, "decoding a header allocates");
    let Ok((header, checksum)) = decoded else { return };
    let encoded = &bytes[..FRAME_HEADER_BYTES];
    assert_eq!(crc32(&encoded[..FRAME_HEADER_BYTES - 4]), checksum);
    assert_eq!(header.encode(), (array(encoded), checksum), "another encoding of {header:?}");
    assert!(header.stands_at(header.home, header.segment, header.offset));
    assert!(!header.stands_at(header.home, header.segment ^ 1, header.offset));
    assert!(header.frame_bytes() >= FRAME_HEADER_BYTES + header.payload_bytes as usize);
    assert!(header.frame_bytes().is_multiple_of(8));
    let length = header.payload_bytes as usize;
    if let Some(payload) = bytes[FRAME_HEADER_BYTES..].get(..length) {
        let same = ContentHash::of(payload) == header.content;
        assert_eq!(header.holds(payload), same || header.kind == Kind::Promise);
    }
}

fn superheader(bytes: &[u8]) {
    let (decoded, allocated) = peak(|| Superheader::decode(bytes));
    assert_eq!(allocated, 0, "decoding a superheader allocates");
    let Ok((superheader, checksum)) = decoded else { return };
    let encoded = &bytes[..SUPERHEADER_BYTES];
    assert_eq!(crc32(&encoded[..SUPERHEADER_BYTES - 4]), checksum);
    let (block, again) = superheader.encode();
    assert_eq!(again, checksum, "another encoding of {superheader:?}");
    assert_eq!(&block[..SUPERHEADER_BYTES], encoded);
    assert!(block[SUPERHEADER_BYTES..].iter().all(|byte| *byte == 0));
}

fn seal_header(bytes: &mut [u8]) {
    bytes[..4].copy_from_slice(&FRAME_MAGIC);
    bytes[4..6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    put_crc32(bytes, FRAME_HEADER_BYTES - 4);
}

/// Makes all that follows the header its payload.
fn fill(bytes: &mut [u8]) {
    let (header, payload) = bytes.split_at_mut(FRAME_HEADER_BYTES);
    header[8..12].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[CONTENT].copy_from_slice(&ContentHash::of(payload).0.to_le_bytes());
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the slice has N bytes")
}
