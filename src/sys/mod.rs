//! The operating system, as thin safe wrappers. The only place of this crate with `unsafe`, each block with the
//! reason why it is sound.
//!
//! Nothing here decides anything: which packet to send, whom to run and what an error means is the business of
//! the callers.
#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is where clocks, files, sockets and processes are touched"
)]

pub mod host;
pub mod netns;
pub mod tap;
