//! The messages between the processes of one daemon, and their transport.
//!
//! The supervisor creates a pair of connected sockets for each two roles that communicate. A message is one packet: one
//! octet for its form, the value in postcard's encoding, and attached descriptors. No process waits for a peer that is
//! slow or gone; the sender decides what to do with a message that cannot be sent. Received data is not trusted: a
//! message that cannot be decoded is counted and dropped.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "part of the shell: works on sockets"
)]

pub mod catalogue;
pub mod difference;
pub mod frame;
pub mod message;
pub mod peer;

pub use crate::status::Ask;
pub use catalogue::{Announced, Catalogue, Change, Chosen, Index};
pub use difference::Difference;
pub use frame::SendError;
pub use message::{
    Answer, Asked, CheckerPart, Deliver, DumpFile, FromConfig, FromRole, FromRunner, LoadReport,
    LoadRequest, Memory, Needs, Question, Remark, RoleName, RunnerPart, ToRole, ToRunner, Told,
    VrrpPart,
};
pub use peer::Peer;
