//! The target `scripts`, implemented in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| evervip_fuzz::scripts::walk(data));
