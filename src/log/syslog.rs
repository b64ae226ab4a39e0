//! The classic syslog socket.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Settings;
use super::record::Record;
use crate::base::Instant;
use crate::sys::clock::{self, LocalTime};
use crate::sys::process;

/// Where syslog daemons listen.
const SOCKET: &str = "/dev/log";

/// The kind of program that logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facility(u8);

impl Facility {
    /// `daemon`
    pub const DAEMON: Self = Self(3);

    /// Its number in syslog.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// A text that is not a facility.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a log facility is a number from 0 to 7, local0 to local7, user or daemon")]
pub struct BadFacility;

impl FromStr for Facility {
    type Err = BadFacility;

    /// As keepalived's `--log-facility`: `0` to `7` and `local0` to `local7`, `user`, `daemon`.
    fn from_str(text: &str) -> Result<Self, BadFacility> {
        match text {
            "user" => Ok(Self(1)),
            "daemon" => Ok(Self::DAEMON),
            _ => match text.strip_prefix("local").unwrap_or(text).as_bytes() {
                [digit @ b'0'..=b'7'] => Ok(Self(16 + digit - b'0')),
                _ => Err(BadFacility),
            },
        }
    }
}

impl fmt::Display for Facility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("user"),
            n @ 16..=23 => write!(f, "local{}", n - 16),
            _ => f.write_str("daemon"),
        }
    }
}

/// A connection to the syslog daemon, opened when needed.
pub(super) struct Syslog {
    path: PathBuf,
    identity: String,
    facility: Facility,
    socket: Option<UnixDatagram>,
    /// Number of lines that the daemon did not accept.
    dropped: u64,
    /// No daemon listens: when to try again, and the pause after that.
    absent: Option<(Instant, Duration)>,
}

/// First pause after an attempt without a listening daemon, which may never exist (a container). The pause grows with
/// the absence, so that no more lines are lost after its return than before.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

impl Syslog {
    pub fn new(settings: &Settings) -> Self {
        Self::at(SOCKET.as_ref(), settings)
    }

    pub fn at(path: &Path, settings: &Settings) -> Self {
        Self {
            path: path.into(),
            identity: settings.identity.clone(),
            facility: settings.facility,
            socket: None,
            dropped: 0,
            absent: None,
        }
    }

    pub fn write(&mut self, record: &Record) {
        self.write_at(record, clock::now());
    }

    pub fn write_at(&mut self, record: &Record, now: Instant) {
        if self.absent.is_some_and(|(until, _)| now < until) {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 {
            let text = format!("{} lines were dropped: syslog did not take them", self.dropped);
            let note = Record::plain(tracing::Level::WARN, text);
            if self.send(&note, now).is_ok() {
                self.dropped = 0;
            }
        }
        // Not if the attempt for the note has just failed.
        let absent = self.absent.is_some_and(|(until, _)| now < until);
        if absent || self.send(record, now).is_err() {
            self.dropped += 1;
        }
    }

    /// One attempt, and a second one with a new connection if the daemon was restarted.
    fn send(&mut self, record: &Record, now: Instant) -> io::Result<()> {
        let line = line(record, &self.identity, self.facility);
        for _ in 0..2 {
            let socket = match &self.socket {
                Some(socket) => socket,
                None => {
                    let socket = UnixDatagram::unbound()?;
                    socket.set_nonblocking(true)?;
                    if let Err(e) = socket.connect(&self.path) {
                        let wait = self.absent.map_or(FIRST_WAIT, |(_, last)| {
                            last.saturating_mul(2).min(LONGEST_WAIT)
                        });
                        self.absent = Some((now + wait, wait));
                        return Err(e);
                    }
                    self.absent = None;
                    self.socket.insert(socket)
                }
            };
            match socket.send(line.as_bytes()) {
                Ok(_) => return Ok(()),
                // Busy: no second attempt, since waiting would delay the other destinations.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(e),
                Err(_) => self.socket = None,
            }
        }
        Err(io::ErrorKind::NotConnected.into())
    }
}

/// A record in the format of syslog daemons (RFC 3164, local time).
pub(super) fn line(record: &Record, identity: &str, facility: Facility) -> String {
    let t = LocalTime::at(record.time);
    format!(
        "<{}>{} {:2} {:02}:{:02}:{:02} {identity}[{}]: {}",
        facility.number() * 8 + record.severity(),
        t.month_name(),
        t.day,
        t.hour,
        t.minute,
        t.second,
        process::own_pid(),
        record.text
    )
}
