//! What checks have in common that send a datagram and judge what comes back.
//!
//! How long an answer is waited for is the engine's business: what silence means is in `Kind::unanswered`.

use super::{Failure, Step, Verdict, unconnected};

/// Datagrams that say nothing about the question, of one attempt. Whoever sends more of them holds up others.
pub const STRAYS: u32 = 1000;
/// Message too long: the kernel has learnt how long it may be, which is not the server's word.
const EMSGSIZE: i32 = 90;

/// What happened after the connection was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A datagram from the server.
    Datagram(&'a [u8]),
    /// The question could not be sent: error number, positive.
    Unsent(i32),
    /// An ICMP error came back, or receiving failed: error number, positive.
    Broken(i32),
}

impl<'a> Heard<'a> {
    /// The datagram, or what the error amounts to; nothing, if that says nothing.
    pub(super) fn datagram(self) -> Result<&'a [u8], Option<Verdict>> {
        match self {
            Self::Datagram(octets) => Ok(octets),
            Self::Unsent(errno) => Err(Some(unconnected(Step::Send, errno))),
            Self::Broken(EMSGSIZE) => Err(None),
            Self::Broken(errno) => Err(Some(Verdict::Failure(Failure::Connection(errno)))),
        }
    }
}

/// More than [`STRAYS`] came.
#[must_use]
pub fn flooded() -> Verdict {
    Verdict::Failure(Failure::Answer(
        format!("more than {STRAYS} datagrams without an answer").into(),
    ))
}
