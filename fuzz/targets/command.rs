//! Entries and commands from any bytes, and what applying them does. See `indelible_fuzz::command`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| indelible_fuzz::command::run(data));
