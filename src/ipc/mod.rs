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

pub mod catalogue;
pub mod frame;
pub mod message;
pub mod peer;

pub use catalogue::{Announced, Catalogue, Change, Chosen, Index};
pub use frame::{ReceiveError, SendError};
pub use message::{
    Answer, Ask, CheckerPart, Deliver, FromConfig, FromRole, FromRunner, LoadReport, LoadRequest,
    Memory, Needs, Question, Remark, RoleName, RunnerPart, ToRole, ToRunner, Told, VrrpPart,
};
pub use peer::Peer;
