//! What the kernel is asked for and what it tells, over netlink.
//!
//! Writers carry out operations of `plan` in order, each with its answer; monitors tell what
//! others did. What to do about either is left to the engines.
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
