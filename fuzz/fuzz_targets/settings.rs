//! See `alovoice_gateway_fuzz::settings`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| alovoice_gateway_fuzz::settings::check(input));
