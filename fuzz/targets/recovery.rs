//! Opening a journal that was damaged or forged. See `indelible_fuzz::recovery`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| indelible_fuzz::recovery::run(data));
