//! CRC32 as in zlib, written here once more: what the format promises is checked against a second
//! implementation, and inputs are given right checksums by it.

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
}

/// The checksum of `bytes`.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| sum >> 8 ^ TABLE[(sum as u8 ^ byte) as usize];
    !bytes.iter().fold(u32::MAX, step)
}

/// Writes the checksum of `bytes[..at]` to `at`; does nothing where there is no room.
pub fn put_crc32(bytes: &mut [u8], at: usize) {
    if let Some((content, rest)) = bytes.split_at_mut_checked(at)
        && let Some(place) = rest.first_chunk_mut::<4>()
    {
        *place = crc32(content).to_le_bytes();
    }
}
