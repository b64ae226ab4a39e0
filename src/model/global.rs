//! What belongs to the daemon as a whole.

use core::time::Duration;

use serde::{Deserialize, Serialize};

/// `global_defs`, as far as it is not spread over the objects it gives defaults to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Global {
    /// `router_id`: names this router in mails; the host name by default.
    pub router_id: Box<str>,
    /// Where and how mails are sent; none if the configuration asks for none.
    pub mail: Option<Mail>,
    /// `child_wait_time`: how long the supervisor waits for the other processes to stop.
    pub child_wait: Option<Duration>,
    /// `vrrp_rt_priority`: SCHED_RR priority of the VRRP thread, 1 to 99.
    pub vrrp_rt_priority: Option<u8>,
    /// `vrrp_priority`: nice value of the VRRP role, -20 to 19.
    pub vrrp_nice: Option<i8>,
    /// `vrrp_no_swap`: lock the memory of the VRRP role.
    pub vrrp_no_swap: bool,
}

/// Mail alerts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// `smtp_server`: host name or address.
    pub server: Box<str>,
    /// Port of the server, 25 by default.
    pub port: u16,
    /// `smtp_helo_name`; the host name by default.
    pub helo: Box<str>,
    /// `smtp_connect_timeout`: limit on the connection and on each answer, 30 s by default.
    pub timeout: Duration,
    /// `notification_email_from`, as it is to stand in the header.
    pub from: Box<str>,
    /// `notification_email`, as they are to stand in the header. Never empty.
    pub to: Vec<Box<str>>,
}
