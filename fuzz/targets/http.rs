//! The target `http`, implemented in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| evervip_fuzz::http::answer(data));
