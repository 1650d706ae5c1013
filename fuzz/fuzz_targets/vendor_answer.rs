//! See `alovoice_gateway_fuzz::vendor_answer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| alovoice_gateway_fuzz::vendor_answer::check(input));
