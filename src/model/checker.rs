//! Health checks of real servers.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::IfName;

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
