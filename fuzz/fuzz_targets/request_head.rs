//! See `alovoice_gateway_fuzz::request_head`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| alovoice_gateway_fuzz::request_head::check(input));
