//! Probes: what is said to a server, and how its answer is judged, without sockets.
//!
//! One file a kind. A kind is fed with what its connection did and gives a [`Verdict`]; sockets, time limits
//! and the life of a connection are left to the shell (`drive::probe`), the schedule and what follows from a
//! verdict to the engine.

use core::fmt;
use core::time::Duration;
use std::io;

use serde::{Deserialize, Serialize};

use crate::model::{CheckerKind, Connection};

pub mod tcp;

/// Which attempt of which check a result belongs to. The serial number is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProbeId {
    /// The check; stable as long as it exists.
    pub checker: u32,
    /// The attempt.
    pub serial: u64,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The server is good.
    Success,
    /// It is not.
    Failure(Failure),
    /// It could not be tried, for a reason on this side: this says nothing about the server.
    Untried {
        /// What failed.
        step: Step,
        /// Error number, positive.
        errno: i32,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => f.write_str("success"),
            Self::Failure(failure) => failure.fmt(f),
            Self::Untried { step, errno } => write!(f, "not tried: {step}: {}", Errno(*errno)),
        }
    }
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// No answer in time.
    Timeout,
    /// The connection could not be made: error number, positive.
    Connection(i32),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("timeout"),
            Self::Connection(errno) => Errno(*errno).fmt(f),
        }
    }
}

/// What a connection needs before it can be tried, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// A socket.
    Socket,
    /// The mark of its packets.
    Mark,
    /// The interface it is to use.
    Device,
    /// Its source address.
    Source,
    /// The connection itself.
    Connect,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Socket => "cannot make a socket",
            Self::Mark => "cannot set the firewall mark",
            Self::Device => "cannot bind to the interface",
            Self::Source => "cannot bind to the source address",
            Self::Connect => "cannot connect",
        })
    }
}

/// What happened to the connection of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum In {
    /// It is established.
    Connected,
    /// It could not be made.
    Failed {
        /// What failed.
        step: Step,
        /// Error number, positive.
        errno: i32,
    },
}

/// How a connection ends once the verdict is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Closing {
    /// With FIN: servers see an ordinary end. The socket stays in TIME_WAIT for a minute.
    Orderly,
    /// With RST: nothing stays, neither here nor in connection tracking.
    Reset,
}

/// What an attempt tries, for the kinds of check that this version carries out. Checks of other kinds count as
/// not configured; whoever reads the configuration says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `TCP_CHECK`
    Tcp(Connection),
}

impl Request {
    /// What a check tries; none if it is of a kind that is not carried out.
    #[must_use]
    pub fn of(kind: &CheckerKind) -> Option<Self> {
        Kind::of(kind)?;
        match kind {
            CheckerKind::Tcp(connection) => Some(Self::Tcp(connection.clone())),
            _ => None,
        }
    }

    /// The limit on one attempt.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        match self {
            Self::Tcp(connection) => connection.timeout,
        }
    }

    /// How the connection is to end, where nothing else decides. One from a fixed port must leave nothing
    /// behind that the next one would collide with.
    pub(super) fn closing(&self, usual: Closing) -> Closing {
        match self {
            Self::Tcp(connection) if connection.from.is_some_and(|from| from.port != 0) => {
                Closing::Reset
            }
            Self::Tcp(_) => usual,
        }
    }
}

/// A kind of check that this version carries out: its words in logs and mails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp,
}

impl Kind {
    pub const fn of(kind: &CheckerKind) -> Option<Self> {
        match kind {
            CheckerKind::Tcp(_) => Some(Self::Tcp),
            _ => None,
        }
    }

    /// The keyword of the check.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Tcp => "TCP_CHECK",
        }
    }

    /// The body of the mail when a check changes its mind.
    pub fn mail_body(self, up: bool) -> String {
        match self {
            Self::Tcp => tcp::mail_body(up).into(),
        }
    }

    /// The log line of a first success or a recovery.
    pub fn success_line(self, server: &str) -> String {
        match self {
            Self::Tcp => tcp::success_line(server),
        }
    }

    /// The log line of the failure that decides, after so many retries.
    pub fn failure_line(self, server: &str, retries: Option<u32>) -> String {
        match self {
            Self::Tcp => tcp::failure_line(server, retries),
        }
    }

    /// The log line of any failure, for `log_all_failures`.
    pub fn attempt_line(self, server: &str, failure: Failure) -> String {
        match self {
            Self::Tcp => tcp::attempt_line(server, failure),
        }
    }
}

/// Judges a connection that could not be made. Some errors are the server's or the network's answer, the rest
/// is trouble of our own and says nothing about the server.
#[must_use]
pub fn unconnected(step: Step, errno: i32) -> Verdict {
    use io::ErrorKind as Kind;
    /// Host is down; the standard library has no kind for it.
    const EHOSTDOWN: i32 = 112;
    let kind = io::Error::from_raw_os_error(errno).kind();
    match (step, kind) {
        (Step::Connect, Kind::TimedOut) => Verdict::Failure(Failure::Timeout),
        (
            Step::Connect,
            Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown,
        ) => Verdict::Failure(Failure::Connection(errno)),
        (Step::Connect, _) if errno == EHOSTDOWN => Verdict::Failure(Failure::Connection(errno)),
        _ => Verdict::Untried { step, errno },
    }
}

/// An error number in words.
pub(super) struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = io::Error::from_raw_os_error(self.0).to_string();
        let end = text.rfind(" (os error").unwrap_or(text.len());
        f.write_str(text.get(..end).unwrap_or(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_networks_answers_are_failures_our_own_troubles_are_not() {
        for errno in [101, 113, 111, 112, 100, 104, 103] {
            assert_eq!(
                unconnected(Step::Connect, errno),
                Verdict::Failure(Failure::Connection(errno)),
                "{errno}"
            );
            for step in [Step::Socket, Step::Mark, Step::Device, Step::Source] {
                assert_eq!(unconnected(step, errno), Verdict::Untried { step, errno });
            }
        }
        assert_eq!(unconnected(Step::Connect, 110), Verdict::Failure(Failure::Timeout));
        // EMFILE, EADDRNOTAVAIL, EACCES, EINVAL.
        for errno in [24, 99, 13, 22] {
            let step = Step::Connect;
            assert_eq!(unconnected(step, errno), Verdict::Untried { step, errno }, "{errno}");
        }
    }

    #[test]
    fn verdicts_in_words() {
        assert_eq!(Verdict::Failure(Failure::Connection(111)).to_string(), "Connection refused");
        assert_eq!(
            Verdict::Untried { step: Step::Source, errno: 99 }.to_string(),
            "not tried: cannot bind to the source address: Cannot assign requested address"
        );
    }
}
