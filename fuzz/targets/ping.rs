//! The target `ping`; what it does is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| evervip_fuzz::probe::ping(data));
