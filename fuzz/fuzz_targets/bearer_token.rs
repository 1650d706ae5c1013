//! See `alovoice_gateway_fuzz::bearer_token`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| alovoice_gateway_fuzz::bearer_token::check(input));
