//! The checks inside `real_server`.

use crate::config::schema::block;
use crate::config::slot::One;
use crate::config::value::address::Ip;
use crate::config::value::number::{Bool, Int, LONG_MAX, Seconds, TIMER_MAX, U32};
use crate::config::value::text::Interface;

/// A time that may be zero.
pub(crate) type Pause = Seconds<0, LONG_MAX>;
/// A time that may not be zero.
pub(crate) type Period = Seconds<1, LONG_MAX>;
/// A limit on a connection.
pub(crate) type Limit = Seconds<1, TIMER_MAX>;

block! {
    /// The server is up if a TCP connection to it can be made.
    pub struct TcpCheck(()) = "TCP_CHECK" {
        /// Address to connect to.
        connect_ip: One<Ip> = "connect_ip", Restart, default("that of the real server");
        /// Port to connect to.
        connect_port: One<Int<1, 65535>> = "connect_port", Restart, default("that of the real server");
        /// Source address.
        bindto: One<Ip> = "bindto", Restart;
        /// Source port.
        bind_port: One<Int<1, 65535>> = "bind_port", Restart;
        /// Interface that must be used; needed for link-local addresses.
        bind_if: One<Interface> = "bind_if", Restart;
        /// Seconds after which a connection counts as failed.
        connect_timeout: One<Limit> = "connect_timeout", Timers, default("that of the real server");
        /// Firewall mark of the packets.
        fwmark: One<Int<0, U32>> = "fwmark", Restart, default("0");
        /// Attempts after the first failed one before the server goes down.
        retry: One<Int<0, U32>> = "retry", Live, default("that of the real server, else 1");
        /// Seconds to such an attempt.
        delay_before_retry: One<Pause> = "delay_before_retry", Timers,
            default("that of the real server, else 1");
        /// Most seconds by which the first attempt is delayed at random, so that not all come at once.
        warmup: One<Pause> = "warmup", Timers, default("that of the real server, else delay_loop");
        /// Seconds from one attempt to the next.
        delay_loop: One<Period> = "delay_loop", Timers, default("that of the real server");
        /// Down until the first success.
        alpha: One<Bool> = "alpha", Restart, default("that of the real server");
        /// Log each failed attempt of a server that is up.
        log_all_failures: One<Bool> = "log_all_failures", Live, default("checker_log_all_failures");
    }
}
