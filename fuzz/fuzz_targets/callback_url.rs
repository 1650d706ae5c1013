//! See `alovoice_gateway_fuzz::callback_url`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| alovoice_gateway_fuzz::callback_url::check(input));
