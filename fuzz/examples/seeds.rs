//! Writes the seeds of every target into a directory: `cargo run --example seeds -- DIRECTORY`.
//!
//! Real encodings wherever there are some: the golden files of the format, one message of each
//! kind, frames, superheaders and identities of the images that `recovery` starts from. For targets
//! whose input is a list of choices, runs of bytes that differ in kind. The committed corpus is
//! what libFuzzer made of them.

#[path = "../../tests/transport/samples.rs"]
#[allow(dead_code, missing_docs, clippy::unwrap_used, reason = "shared with the tests")]
mod samples;

use std::fs;
use std::path::{Path, PathBuf};

use indelible::Key;
use indelible::journal::frame::FRAME_HEADER_BYTES;
use indelible::journal::identity::IDENTITY_NAME;
use indelible::journal::segment::{SUPERHEADER_BYTES, segment_name};
use indelible::transport::Refusal;
use indelible::transport::wire::{encode_hello, encode_message, encode_refusal};
use indelible::types::codec;
use indelible_fuzz::image::images;

/// One target's directory, and how many files were written to it.
struct Seeds {
    directory: PathBuf,
    count: usize,
}

impl Seeds {
    fn new(root: &Path, target: &str) -> Self {
        let directory = root.join(target);
        fs::create_dir_all(&directory).expect("the directory can be made");
        Self { directory, count: 0 }
    }

    fn add(&mut self, parts: &[&[u8]]) {
        let path = self.directory.join(format!("seed-{:03}", self.count));
        fs::write(path, parts.concat()).expect("the directory can be written to");
        self.count += 1;
    }
}

fn main() {
    let root = std::env::args_os().nth(1).expect("wanted: the directory to write to");
    let root = PathBuf::from(root);
    frames(Seeds::new(&root, "frame"));
    messages(Seeds::new(&root, "message"));
    identities(Seeds::new(&root, "identity"));
    commands(Seeds::new(&root, "command"));
    keys(Seeds::new(&root, "key"));
    state_images(Seeds::new(&root, "image"));
    for (target, lengths) in [
        ("recovery", [2, 12, 40, 120]),
        ("store_model", [8, 40, 200, 800]),
        ("cluster", [20, 200, 700, 2000]),
    ] {
        choices(Seeds::new(&root, target), lengths);
    }
}

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name);
    let text = fs::read_to_string(path.with_extension("hex")).expect("the golden file is there");
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("it is one") as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn frames(mut seeds: Seeds) {
    for kind in ["group", "promise", "vote", "chosen", "verdicts", "seal"] {
        seeds.add(&[&golden(&format!("frame_{kind}")), &golden("entry_commands")]);
    }
    seeds.add(&[&golden("superheader")]);
    for image in images() {
        for header in image.frames.iter().take(6) {
            let bytes = &image.files[&segment_name(header.segment)];
            let offset = header.offset as usize;
            let length = FRAME_HEADER_BYTES + header.payload_bytes.min(200) as usize;
            seeds.add(&[&bytes[offset..offset + length]]);
            seeds.add(&[&bytes[..SUPERHEADER_BYTES]]);
        }
    }
}

fn messages(mut seeds: Seeds) {
    let mut stream = encode_hello(&samples::hello(2));
    let hello = stream.clone();
    for message in samples::one_of_each() {
        let body = codec::encode(&message).expect("plain data always encodes");
        seeds.add(&[&[0], &body]);
        let mut frame = Vec::new();
        encode_message(&message, samples::CLUSTER, &mut frame).expect("it is small");
        seeds.add(&[&[5], &hello, &frame]);
        stream.extend_from_slice(&frame);
    }
    seeds.add(&[&[0xfd], &stream]);
    seeds.add(&[&[1], &encode_refusal(&Refusal::Regressed, samples::CLUSTER)]);
    seeds.add(&[&[3], &hello[36..]]);
    seeds.add(&[&[3], &golden("hello")]);
}

fn identities(mut seeds: Seeds) {
    seeds.add(&[&golden("identity")]);
    for image in images() {
        seeds.add(&[&image.files[IDENTITY_NAME]]);
    }
}

fn commands(mut seeds: Seeds) {
    for name in ["command", "entry_commands", "entry_membership", "entry_no_op"] {
        seeds.add(&[&golden(name)]);
    }
    let command = golden("command");
    let length = (command.len() as u16).to_le_bytes();
    seeds.add(&[&length, &command, &length, &command]);
    seeds.add(&[samples::entry(&[&command, &command]).bytes()]);
    seeds.add(&[samples::entry(&[&command, b"no command"]).bytes()]);
}

fn state_images(mut seeds: Seeds) {
    let pieces = ["head", "table", "keys", "ledger", "sessions", "membership", "end"];
    let pieces = pieces.map(|name| golden(&format!("image_{name}")));
    let lengths = pieces.each_ref().map(|piece| (piece.len() as u16).to_le_bytes());
    let all = lengths.iter().zip(&pieces).flat_map(|(length, piece)| [&length[..], &piece[..]]);
    let all = all.collect::<Vec<_>>();
    seeds.add(&all);
    for piece in (0..all.len()).step_by(2) {
        let others = (0..all.len()).filter(|place| place / 2 != piece / 2).map(|place| all[place]);
        seeds.add(&others.collect::<Vec<_>>());
    }
    // Without the end, which is made right, and without an index.
    seeds.add(&all[..6]);
}

fn keys(mut seeds: Seeds) {
    let mut pair = Vec::new();
    <(String, u32)>::encode(("orders\0", 7), &mut pair);
    let mut triple = Vec::new();
    <(Vec<u8>, String, i16)>::encode((&[0, 1, 0xff], "ab", -2), &mut triple);
    let mut nested = Vec::new();
    <((Vec<u8>, i8), bool, Vec<u8>, [u8; 2])>::encode(
        ((&[0], -1), true, &[0xff, 0], &[3, 4]),
        &mut nested,
    );
    for (kind, key) in [(12, &pair), (14, &triple), (15, &nested)] {
        seeds.add(&[&[kind, key.len() as u8], key, key]);
    }
    for kind in 0..12 {
        for length in [1, 2, 3, 4, 8, 16] {
            seeds.add(&[&[kind, length], &[0; 16][..length.into()], &[1; 16][..length.into()]]);
        }
    }
}

/// Runs of bytes from a fixed generator (SplitMix64), of four lengths.
fn choices(mut seeds: Seeds, lengths: [usize; 4]) {
    let mut state = 0_u64;
    let mut random = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) as u8
    };
    for first in 0..16 {
        for length in lengths {
            let rest: Vec<u8> = (1..length).map(|_| random()).collect();
            seeds.add(&[&[first], &rest]);
        }
    }
}
