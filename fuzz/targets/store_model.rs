//! The store against a naive model. See `indelible_fuzz::store_model`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| indelible_fuzz::store_model::run(data));
