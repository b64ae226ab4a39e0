//! The operating system, as thin safe wrappers.
#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is where clocks, files, sockets and processes are touched"
)]

pub mod netns;
pub mod tap;
