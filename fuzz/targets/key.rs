//! Keys of tables: their encoding, its order, and its decoding. See `indelible_fuzz::key`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| indelible_fuzz::key::run(data));
