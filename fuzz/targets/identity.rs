//! The file that says whose directory this is, from any bytes. See `indelible_fuzz::identity`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| indelible_fuzz::identity::run(data));
