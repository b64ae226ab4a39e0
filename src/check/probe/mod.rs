//! Probes: requests to a server and the evaluation of its answers, without sockets.
//!
//! One file per kind. A kind processes the events of its connection and gives a [`Verdict`]; sockets, time limits and
//! connection handling are left to the shell (`drive::probe`), the schedule and the consequences of a verdict to the
//! engine.

use core::fmt;
use core::time::Duration;
use std::io;

use serde::{Deserialize, Serialize};

use super::CheckerSlot;
use crate::base::Name;
use crate::model::checker::{
    DnsCheck, FileCheck, HttpCheck, MiscCheck, SmtpCheck, UdpCheck, Unusable, Url,
};
use crate::model::{CheckerKind, Connection, ServiceId};

pub(super) mod bfd;
pub mod datagram;
pub mod dns;
pub(super) mod file;
pub mod http;
pub mod misc;
pub mod ping;
pub mod smtp;
pub mod tcp;
pub mod udp;

/// Which attempt of which check a result belongs to. The serial number is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProbeId {
    /// The check; stable as long as it exists.
    pub checker: CheckerSlot,
    /// The attempt.
    pub serial: u64,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The server is good, and can take this share.
    Success(Share),
    /// The server is bad.
    Failure(Failure),
    /// It could not be tried, for a local reason: no statement about the server.
    Untried {
        /// What failed.
        step: Step,
        /// Error number, positive.
        errno: i32,
    },
}

impl Verdict {
    /// The server is good, without a statement about its weight.
    pub const SUCCESS: Self = Self::Success(Share::Configured);
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success(Share::Configured) => f.write_str("success"),
            Self::Success(Share::Instead(weight)) => write!(f, "success, weight {weight}"),
            Self::Success(Share::Added(weight)) => write!(f, "success, weight {weight:+}"),
            Self::Failure(failure) => failure.fmt(f),
            Self::Untried { step, errno } => write!(f, "not tried: {step}: {}", Errno(*errno)),
        }
    }
}

/// How much of the traffic a server can take, as a check found it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// The configured weight.
    #[default]
    Configured,
    /// This weight in place of the configured one, 0 to 2,147,483,647.
    Instead(u32),
    /// The server's weight is the configured one plus this.
    Added(i32),
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// The time limit passed.
    Timeout,
    /// The connection could not be made: error number, positive.
    Connection(i32),
    /// A program exited with this status.
    Exited(i32),
    /// A signal ended a program.
    Killed(i32),
    /// The answer is not as expected; the reason in words.
    Answer(Box<str>),
    /// A page is not as expected.
    Page {
        path: Box<str>,
        /// What is wrong with it.
        fault: http::Fault,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("timeout"),
            Self::Connection(errno) => Errno(*errno).fmt(f),
            Self::Exited(status) => write!(f, "exited with status {status}"),
            Self::Killed(signal) => write!(f, "due to signal {signal}"),
            Self::Answer(text) => f.write_str(text),
            Self::Page { path, fault } => write!(f, "{fault} from url({path})"),
        }
    }
}

/// The steps of making a connection, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    Socket,
    /// Setting the firewall mark of its packets.
    Mark,
    /// Binding to the interface.
    Device,
    /// Binding to the source address.
    Source,
    /// Asking for the connection.
    Connect,
    /// Waiting for it: from here on errors are what the network answers.
    Await,
    /// Running the program of a check.
    Program,
    /// The datagram of a check.
    Send,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Socket => "cannot create a socket",
            Self::Mark => "cannot set the firewall mark",
            Self::Device => "cannot bind to the interface",
            Self::Source => "cannot bind to the source address",
            Self::Connect | Self::Await => "cannot connect",
            Self::Program => "cannot run the program",
            Self::Send => "cannot send",
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
    /// With FIN: an orderly end for the server. The socket stays in TIME_WAIT for a minute.
    Orderly,
    /// With RST: nothing remains, neither here nor in connection tracking.
    Reset,
}

/// The request of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `TCP_CHECK`
    Tcp(Connection),
    /// `MISC_CHECK`; judged by [`misc::Misc`].
    Misc(Box<MiscCheck>),
    /// A page of `HTTP_GET` or `SSL_GET`; judged by [`http::Http`].
    Http(Box<http::Page>),
    /// `UDP_CHECK`; judged by [`udp::Udp`].
    Udp(Box<UdpCheck>),
    /// `PING_CHECK`; judged by [`ping::Ping`]. Its ports have no meaning.
    Ping(Connection),
    /// `DNS_CHECK`; judged by [`dns::Dns`].
    Dns(Box<DnsCheck>),
    /// `SMTP_CHECK`; judged by [`smtp::Smtp`].
    Smtp(Box<SmtpCheck>),
}

/// The server and service of a check, for texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    /// `[10.0.0.71]:tcp:80`
    pub server: String,
    /// Its virtual server.
    pub service: ServiceId,
}

/// The state of a series of failed attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tries {
    /// Retries before this attempt.
    pub so_far: u32,
    /// Configured number of retries.
    pub all: u32,
    /// Another attempt follows before the series decides.
    pub again: bool,
}

impl Tries {
    /// The retries before the deciding failure; none if there were none.
    fn made(self) -> Option<u32> {
        (self.so_far > 0).then_some(self.so_far)
    }
}

/// A kind of check with its settings.
///
/// A new kind is a file beside `tcp.rs` with its protocol and texts, and a line in each method here.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<'c> {
    Tcp(&'c Connection),
    Misc(&'c MiscCheck),
    Http(&'c HttpCheck),
    Udp(&'c UdpCheck),
    Ping(&'c Connection),
    Dns(&'c DnsCheck),
    Smtp(&'c SmtpCheck),
    File(&'c FileCheck),
    /// The name of a session.
    Bfd(&'c Name),
    Unusable(&'c Unusable),
}

impl<'c> Kind<'c> {
    pub const fn of(kind: &'c CheckerKind) -> Self {
        match kind {
            CheckerKind::Tcp(connection) => Self::Tcp(connection),
            CheckerKind::Misc(check) => Self::Misc(check),
            CheckerKind::Http(check) => Self::Http(check),
            CheckerKind::Udp(check) => Self::Udp(check),
            CheckerKind::Ping(connection) => Self::Ping(connection),
            CheckerKind::Dns(check) => Self::Dns(check),
            CheckerKind::Smtp(check) => Self::Smtp(check),
            CheckerKind::File(check) => Self::File(check),
            CheckerKind::Bfd(session) => Self::Bfd(session),
            CheckerKind::Unusable(check) => Self::Unusable(check),
        }
    }

    /// It has no attempts and waits for reports.
    pub const fn is_told(self) -> bool {
        matches!(self, Self::File(_) | Self::Bfd(_))
    }

    /// The request of an attempt at that page. None if there is no such page, or a check without attempts.
    pub fn request(self, page: usize) -> Option<Request> {
        Some(match self {
            Self::Tcp(connection) => Request::Tcp(connection.clone()),
            Self::Misc(check) => Request::Misc(Box::new(check.clone())),
            Self::Http(check) => Request::Http(Box::new(http::Page::of(check, self.url(page)?))),
            Self::Udp(check) => Request::Udp(Box::new(check.clone())),
            Self::Ping(connection) => Request::Ping(connection.clone()),
            Self::Dns(check) => Request::Dns(Box::new(check.clone())),
            Self::Smtp(check) => Request::Smtp(Box::new(check.clone())),
            Self::File(_) | Self::Bfd(_) | Self::Unusable(_) => return None,
        })
    }

    /// Number of consecutive successful attempts, each at a different page, that count as a success.
    pub fn pages(self) -> usize {
        match self {
            Self::Http(check) => check.urls.len(),
            _ => 1,
        }
    }

    fn url(self, page: usize) -> Option<&'c Url> {
        match self {
            Self::Http(check) => check.urls.get(page),
            _ => None,
        }
    }

    /// Whether a check that is not known to be good continues with the next page without a pause.
    pub const fn hurries(self) -> bool {
        match self {
            Self::Http(check) => check.fast_recovery,
            _ => false,
        }
    }

    /// Whether a check that is down waits for at least `delay_before_retry`.
    pub const fn waits_while_down(self) -> bool {
        matches!(self, Self::Http(_))
    }

    /// The verdict if an attempt gives no result within [`Request::limit`].
    pub const fn unanswered(self) -> Verdict {
        match self {
            Self::Misc(_) => misc::UNANSWERED,
            Self::Udp(check) => udp::unanswered(check),
            _ => Verdict::Failure(Failure::Timeout),
        }
    }

    /// Whether a check of the next configuration is the same, so that its state stays.
    pub fn matches(self, other: Kind<'_>) -> bool {
        // A kind that is missing here does not compile: its checks would begin anew with each reload.
        match self {
            Self::Tcp(a) => matches!(other, Kind::Tcp(b) if a == b),
            Self::Misc(a) => matches!(other, Kind::Misc(b) if misc::matches(a, b)),
            Self::Http(a) => matches!(other, Kind::Http(b) if a == b),
            Self::Udp(a) => matches!(other, Kind::Udp(b) if a.connection == b.connection),
            Self::Ping(a) => matches!(other, Kind::Ping(b) if a == b),
            Self::Dns(a) => matches!(other, Kind::Dns(b) if a == b),
            Self::Smtp(a) => matches!(other, Kind::Smtp(b) if a == b),
            Self::File(a) => matches!(other, Kind::File(b) if a.file == b.file),
            Self::Bfd(a) => matches!(other, Kind::Bfd(b) if a == b),
            Self::Unusable(a) => matches!(other, Kind::Unusable(b) if a == b),
        }
    }

    /// Whether its verdicts carry a weight.
    pub const fn weighs(self) -> bool {
        match self {
            Self::Misc(check) => check.dynamic,
            _ => false,
        }
    }

    /// Whether the first success is mailed.
    pub const fn mails_first_success(self) -> bool {
        matches!(self, Self::Misc(_))
    }

    /// The keyword of the check.
    pub fn keyword(self) -> &'c str {
        match self {
            Self::Unusable(check) => &check.check,
            Self::Tcp(_) => "TCP_CHECK",
            Self::Misc(_) => "MISC_CHECK",
            Self::Http(check) if check.tls => "SSL_GET",
            Self::Http(_) => "HTTP_GET",
            Self::Udp(_) => "UDP_CHECK",
            Self::Ping(_) => "PING_CHECK",
            Self::Dns(_) => "DNS_CHECK",
            Self::Smtp(_) => "SMTP_CHECK",
            Self::File(_) => "FILE_CHECK",
            Self::Bfd(_) => "BFD_CHECK",
        }
    }

    /// The body of the mail about a change of a check's result; none for checks that send no mail.
    pub fn mail_body(self, last: Option<&Verdict>) -> Option<String> {
        Some(match self {
            Self::Tcp(_) => tcp::mail_body(last).into(),
            Self::Misc(_) => misc::mail_body(last).into(),
            Self::Http(_) => http::mail_body(last).into(),
            Self::Udp(_) => udp::mail_body(last).into(),
            Self::Ping(_) => ping::mail_body(last).into(),
            Self::Dns(_) => dns::mail_body(last).into(),
            Self::Smtp(_) => smtp::mail_body(last),
            Self::Bfd(session) => bfd::mail_body(session, last),
            Self::Unusable(check) => format!("=> {} failed: {} <=", check.check, check.reason),
            Self::File(_) => return None,
        })
    }

    /// The log line of a first success or a recovery.
    pub fn success_line(self, subject: &Subject) -> String {
        match self {
            Self::Tcp(_) => tcp::success_line(&subject.server),
            Self::Misc(check) => misc::success_line(check, subject),
            Self::Http(_) => http::success_line(&subject.server),
            Self::Udp(_) => udp::success_line(&subject.server),
            Self::Ping(_) => ping::success_line(&subject.server),
            Self::Dns(_) => dns::success_line(&subject.server),
            Self::Smtp(_) => smtp::success_line(&subject.server),
            Self::File(check) => file::success_line(check, &subject.server),
            Self::Bfd(session) => bfd::success_line(session, &subject.server),
            // It has no success.
            Self::Unusable(check) => format!("{} on service {}", check.check, subject.server),
        }
    }

    /// The log line of a page that is good, of a check that is down.
    pub fn page_line(self, subject: &Subject, page: usize) -> Option<String> {
        self.url(page).map(|url| http::page_line(url, &subject.server))
    }

    /// The log line of the failure that decides.
    pub fn failure_line(self, subject: &Subject, failure: &Failure, tries: Tries) -> String {
        match self {
            Self::Tcp(_) => tcp::failure_line(&subject.server, tries.made()),
            Self::Misc(check) => misc::failure_line(check, subject, failure, tries),
            Self::Http(check) => http::failure_line(check, &subject.server, failure, tries),
            Self::Udp(_) => udp::failure_line(&subject.server, failure, tries.made()),
            Self::Ping(_) => ping::failure_line(subject, failure, tries.made()),
            Self::Dns(_) => dns::failure_line(&subject.server, failure, tries.made()),
            Self::Smtp(check) => smtp::failure_line(check.connection.to, failure),
            Self::File(check) => file::failure_line(check, &subject.server, failure),
            Self::Bfd(session) => bfd::failure_line(session, &subject.server),
            Self::Unusable(check) => {
                let Unusable { check, reason } = check;
                format!("{check} on service {} failed ({reason}).", subject.server)
            }
        }
    }

    /// The log line of any failure, for `log_all_failures`; none if the line of the deciding failure is sufficient.
    pub fn attempt_line(
        self,
        subject: &Subject,
        failure: &Failure,
        tries: Tries,
    ) -> Option<String> {
        let again = || tries.again;
        match self {
            Self::Tcp(_) => Some(tcp::attempt_line(&subject.server, failure)),
            Self::Misc(check) => {
                again().then(|| misc::failure_line(check, subject, failure, tries))
            }
            Self::Http(check) => Some(http::attempt_line(check, &subject.server, failure)),
            Self::Udp(_) => Some(udp::attempt_line(&subject.server, failure)),
            Self::Ping(_) => Some(ping::attempt_line(subject, failure)),
            Self::Dns(_) => again().then(|| dns::failure_line(&subject.server, failure, None)),
            Self::Smtp(check) => again().then(|| smtp::failure_line(check.connection.to, failure)),
            Self::File(_) | Self::Bfd(_) | Self::Unusable(_) => None,
        }
    }
}

impl Request {
    /// The time limit of one attempt.
    #[must_use]
    pub fn limit(&self) -> Duration {
        match self {
            Self::Tcp(connection) | Self::Ping(connection) => connection.timeout,
            Self::Misc(check) => check.timeout + misc::GRACE,
            Self::Http(page) => page.limit(),
            Self::Udp(check) => check.connection.timeout,
            Self::Dns(check) => check.connection.timeout,
            Self::Smtp(check) => smtp::limit(check),
        }
    }

    /// Where and how it connects; none for a program.
    #[must_use]
    pub fn connection(&self) -> Option<&Connection> {
        match self {
            Self::Tcp(connection) | Self::Ping(connection) => Some(connection),
            Self::Http(page) => Some(&page.connection),
            Self::Udp(check) => Some(&check.connection),
            Self::Dns(check) => Some(&check.connection),
            Self::Smtp(check) => Some(&check.connection),
            Self::Misc(_) => None,
        }
    }

    /// How to close the connection, `usual` by default. A connection from a fixed port must leave nothing behind that
    /// conflicts with the next one.
    pub(super) fn closing(&self, usual: Closing) -> Closing {
        let from = self.connection().and_then(|connection| connection.from);
        let fixed = from.is_some_and(|from| from.port != 0);
        if fixed { Closing::Reset } else { usual }
    }
}

/// The verdict on a connection that could not be made. Some errors are answers of the server or the network; the others
/// are local and say nothing about the server.
#[must_use]
pub fn unconnected(step: Step, errno: i32) -> Verdict {
    use io::ErrorKind as Kind;
    /// Host is down; the standard library has no kind for it.
    const EHOSTDOWN: i32 = 112;
    let kind = io::Error::from_raw_os_error(errno).kind();
    match (step, kind) {
        (Step::Connect | Step::Await | Step::Send, Kind::TimedOut) => {
            Verdict::Failure(Failure::Timeout)
        }
        // ICMP errors come as errors of any number, EACCES for a prohibited destination.
        (Step::Await, _) => Verdict::Failure(Failure::Connection(errno)),
        (
            Step::Connect | Step::Send,
            Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown,
        ) => Verdict::Failure(Failure::Connection(errno)),
        (Step::Connect | Step::Send, _) if errno == EHOSTDOWN => {
            Verdict::Failure(Failure::Connection(errno))
        }
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
            let answered = Verdict::Failure(Failure::Connection(errno));
            assert_eq!(unconnected(Step::Await, errno), answered, "{errno}");
        }
        assert_eq!(unconnected(Step::Await, 110), Verdict::Failure(Failure::Timeout));
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
