//! What the processes of one daemon say to each other, and how it travels.
//!
//! The supervisor makes a pair of connected sockets for each two roles that talk. A message is one packet: one
//! octet for its form and the value in postcard's encoding, descriptors beside it. Nobody waits for a peer that
//! is slow or gone; what to do with a message that cannot be sent is the sender's business. What a peer sends is
//! not trusted: a message that cannot be decoded is counted and dropped.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "part of the shell: works on sockets"
)]

pub mod frame;
pub mod link;
pub mod message;

pub use frame::{ReceiveError, SendError};
pub use link::Link;
pub use message::{
    CheckerPart, Deliver, FromConfig, FromRole, FromRunner, LoadReport, LoadRequest, Needs, Remark,
    RoleName, RunnerPart, ToRole, ToRunner, VrrpPart,
};
