//! Health checks of real servers.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::notify::Command;
pub use super::pattern::Pattern;
use crate::base::{IfName, Name};

/// One check of a real server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checker {
    /// What is tried.
    pub kind: CheckerKind,
    /// `delay_loop`: time from one attempt to the next, at least 1 µs.
    pub delay_loop: Duration,
    /// `retry`: attempts after the first failed one before a server that is up goes down.
    pub retry: u32,
    /// `delay_before_retry`: time to such an attempt.
    pub delay_before_retry: Duration,
    /// `warmup`: the first attempt comes 1 s plus a random part of this after the start.
    pub warmup: Duration,
    /// `alpha`: down until the first success.
    pub alpha: bool,
    /// `log_all_failures`: log each failed attempt of a server that is up.
    pub log_all_failures: bool,
}

/// The kinds of check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CheckerKind {
    /// `TCP_CHECK`: a connection can be made.
    Tcp(Connection),
    /// `HTTP_GET`, `SSL_GET`: pages are as expected.
    Http(Box<HttpCheck>),
    /// `SMTP_CHECK`: a mail server sends its greeting.
    Smtp(Box<SmtpCheck>),
    /// `DNS_CHECK`: a question is answered.
    Dns(Box<DnsCheck>),
    /// `PING_CHECK`: an echo comes back.
    Ping(Connection),
    /// `UDP_CHECK`: a datagram is answered, or at least not refused.
    Udp(Box<UdpCheck>),
    /// `MISC_CHECK`: a program succeeds.
    Misc(Box<MiscCheck>),
    /// `FILE_CHECK`: the content of a tracked file.
    File(FileCheck),
    /// `BFD_CHECK`: the state of a BFD session, by name.
    Bfd(Name),
    /// Any of them: a setting that decides about the server cannot be used, so each attempt fails without being made.
    Unusable(Box<Unusable>),
}

/// A check that always fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unusable {
    /// Its keyword: `TCP_CHECK`.
    pub check: Box<str>,
    /// Why it fails.
    pub reason: Box<str>,
}

impl CheckerKind {
    /// Whether another process makes the attempts or the observation: it runs a program or reads a file.
    #[must_use]
    pub const fn needs_runner(&self) -> bool {
        match self {
            Self::Misc(_) | Self::File(_) => true,
            Self::Tcp(_) | Self::Http(_) | Self::Smtp(_) | Self::Dns(_) => false,
            Self::Ping(_) | Self::Udp(_) | Self::Bfd(_) | Self::Unusable(_) => false,
        }
    }
}

/// `HTTP_GET` and `SSL_GET`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpCheck {
    /// Where and how it connects.
    pub connection: Connection,
    /// Over TLS.
    pub tls: bool,
    /// `http_protocol`
    pub protocol: HttpProtocol,
    /// `enable_sni`
    pub sni: bool,
    /// `sni_name`
    pub sni_name: Option<Box<str>>,
    /// `fast_recovery`: no pause between pages while starting or recovering.
    pub fast_recovery: bool,
    /// `tls_compliant`: send close_notify.
    pub tls_compliant: bool,
    /// `virtualhost` of the check, of its real server, or of its virtual server.
    pub virtualhost: Option<Box<str>>,
    /// Pages, all of which must be as expected. Never empty.
    pub urls: Vec<Url>,
}

/// The version in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HttpProtocol {
    /// 1.0
    #[default]
    V1_0,
    /// 1.0 with `Connection: close`
    V1_0Close,
    /// 1.1 with `Connection: close`
    V1_1,
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Url {
    /// `path`
    pub path: Box<str>,
    /// `digest`: the expected MD5 of the page.
    pub digest: Option<[u8; 16]>,
    /// `status_code`: ranges of codes, both ends included.
    pub status: Vec<(u16, u16)>,
    /// `virtualhost`
    pub virtualhost: Option<Box<str>>,
    /// `regex`
    pub pattern: Option<Box<Pattern>>,
    /// `tls_compliant`
    pub tls_compliant: Option<bool>,
}

/// `SMTP_CHECK`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmtpCheck {
    /// Where and how it connects.
    pub connection: Connection,
    /// `helo_name`
    pub helo: Option<Box<str>>,
}

/// `DNS_CHECK`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsCheck {
    /// Where and how it sends its query.
    pub connection: Connection,
    /// `type` as a number: 6 is SOA.
    pub kind: u16,
    /// `name`; empty for the root.
    pub name: Box<str>,
}

/// `UDP_CHECK`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpCheck {
    /// Where and how it sends.
    pub connection: Connection,
    /// `payload`; keepalived's text if none.
    pub payload: Option<Box<[u8]>>,
    /// `require_reply`: an answer is required, with this beginning.
    pub reply: Option<ReplyPattern>,
    /// `min_reply_length`
    pub min_reply: u16,
    /// `max_reply_length`
    pub max_reply: u16,
}

/// The beginning of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyPattern {
    /// Octets to compare.
    pub octets: Box<[u8]>,
    /// Bits of them that count.
    pub mask: Box<[u8]>,
}

/// `MISC_CHECK`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MiscCheck {
    pub command: Command,
    /// `misc_timeout`
    pub timeout: Duration,
    /// `misc_dynamic`: the exit status sets the weight.
    pub dynamic: bool,
}

/// `FILE_CHECK`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCheck {
    /// Name of the `track_file`.
    pub file: Name,
    /// The factor of its content; 0: a content other than 0 means down.
    pub weight: i32,
    /// `reverse`
    pub reverse: bool,
}

/// Where and how a check connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// `connect_ip` and `connect_port`; those of the real server by default.
    pub to: SocketAddr,
    /// `bindto` and `bind_port`: source of the connection.
    pub from: Option<Source>,
    /// `bind_if`: the interface that must be used.
    pub interface: Option<IfName>,
    /// `connect_timeout`: limit on the connection, 1 µs to 4294.967295 s.
    pub timeout: Duration,
    /// `fwmark` of the packets, 0 for none.
    pub mark: u32,
}

/// The source of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `bindto`
    pub address: IpAddr,
    /// `bind_port`; 0 lets the kernel choose.
    pub port: u16,
}
