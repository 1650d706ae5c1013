//! See `alovoice_gateway_fuzz::request_body`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| alovoice_gateway_fuzz::request_body::check(input));
