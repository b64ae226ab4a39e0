//! The target `mailer`; what it does is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| evervip_fuzz::probe::mailer(data));
