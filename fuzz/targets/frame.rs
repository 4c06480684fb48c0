//! Frame headers and superheaders of the journal, from any bytes. See `indelible_fuzz::frame`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| indelible_fuzz::frame::run(data));
