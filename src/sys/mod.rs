//! The operating system, as thin safe wrappers. The only part of this crate with `unsafe`, each block with the reason
//! why it is sound.
//!
//! Nothing here takes decisions: which packet to send, what to run and what an error means is left to the callers.
#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is where clocks, files, sockets and processes are touched"
)]

pub mod account;
pub mod aio;
pub mod bpf;
pub mod caps;
pub mod channel;
pub mod clock;
pub mod host;
pub mod inotify;
pub mod landlock;
pub mod memfd;
pub mod netns;
pub mod packet;
pub mod poll;
pub mod process;
pub mod raw;
pub mod ring;
pub mod sched;
pub mod seccomp;
pub mod socket;
pub mod spawn;
pub mod tap;
#[cfg(test)]
pub(crate) mod testing;
pub mod tls;
pub mod udp;

/// The size of a structure in the type of the socket calls.
fn size<T>() -> libc::socklen_t {
    // No structure of the kernel's comes near the limit.
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}

/// An address family in the type of socket addresses.
fn family(number: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).unwrap_or(0)
}
