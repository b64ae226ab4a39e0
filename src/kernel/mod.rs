//! Requests to the kernel and its events, over netlink.
//!
//! Writers carry out operations of `plan` in order, each with its answer; monitors report changes
//! by other programs. The engines decide what to do about them.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "part of the shell: works on sockets"
)]

pub mod connector;
pub mod ipvs;
pub mod monitor;
pub mod netlink;
pub mod nft;
pub mod object;
