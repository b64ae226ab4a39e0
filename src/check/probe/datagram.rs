//! Common parts of checks that send a datagram and judge the reply.
//!
//! The engine limits the time; `Kind::unanswered` defines the result of silence.

use super::{Failure, Step, Verdict, unconnected};

/// Limit of unrelated datagrams per attempt: more of them would delay other checks.
pub const STRAYS: u32 = 1000;
/// Message too long: the kernel has learnt the path MTU, which says nothing about the server.
const EMSGSIZE: i32 = 90;

/// An event of an attempt after the socket was connected.
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
    /// The datagram, or the verdict for the error; nothing if the error proves nothing.
    pub(super) fn datagram(self) -> Result<&'a [u8], Option<Verdict>> {
        match self {
            Self::Datagram(octets) => Ok(octets),
            Self::Unsent(errno) => Err(Some(unconnected(Step::Send, errno))),
            Self::Broken(EMSGSIZE) => Err(None),
            Self::Broken(errno) => Err(Some(Verdict::Failure(Failure::Connection(errno)))),
        }
    }
}

/// The verdict when more than [`STRAYS`] unrelated datagrams arrived.
#[must_use]
pub fn flooded() -> Verdict {
    Verdict::Failure(Failure::Answer(
        format!("more than {STRAYS} datagrams without an answer").into(),
    ))
}
