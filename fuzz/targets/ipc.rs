//! The target `ipc`, implemented in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| evervip_fuzz::process::ipc(data));
