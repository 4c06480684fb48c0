//! An image of the state, from any bytes. See `indelible_fuzz::state_image`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| indelible_fuzz::state_image::run(data));
