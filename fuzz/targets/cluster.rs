//! Bytes as a schedule of protocol cores. See `indelible_fuzz::cluster`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| indelible_fuzz::cluster::run(data));
