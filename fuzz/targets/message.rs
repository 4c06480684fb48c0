//! What a peer sends: streams of frames, and bodies of messages. See `indelible_fuzz::message`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| indelible_fuzz::message::run(data));
