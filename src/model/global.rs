//! Settings of the daemon as a whole.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::notify::{Command, User};
use crate::base::Name;

/// `global_defs`, except the defaults that are already part of other objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Global {
    /// `router_id`: names this router in mails; the host name by default.
    pub router_id: Box<str>,
    /// Where and how mails are sent; none if the configuration asks for none.
    pub mail: Option<Mail>,
    /// `child_wait_time`: how long the supervisor waits for the other processes to stop.
    pub child_wait: Option<Duration>,
    /// `notify_max_delay`: how long a running notify script may delay the next one of its subject before it is
    /// terminated; 5 s by default.
    pub notify_max_delay: Duration,
    /// `vrrp_rt_priority`: SCHED_RR priority of the VRRP thread, 1 to 99.
    pub vrrp_rt_priority: Option<u8>,
    /// `vrrp_priority`: nice value of the VRRP role, -20 to 19.
    pub vrrp_nice: Option<i8>,
    /// `vrrp_no_swap`: lock the memory of the VRRP role.
    pub vrrp_no_swap: bool,
    /// Other settings of the daemon's processes and interfaces.
    pub settings: Box<Settings>,
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
    /// `notification_email_from`, as in the header.
    pub from: Box<str>,
    /// `notification_email`, as in the header. Never empty.
    pub to: Vec<Box<str>>,
}

/// Settings of the daemon that most configurations do not have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `instance`: distinguishes this daemon from others on the machine.
    pub instance: Option<Name>,
    /// `net_namespace`
    pub namespace: Option<Name>,
    /// `net_namespace_ipvs`; an empty name is the first namespace of the machine.
    pub ipvs_namespace: Option<Name>,
    /// `use_pid_dir`
    pub use_pid_directory: bool,
    /// `process_names`: processes have names of their own.
    pub process_names: bool,
    /// `process_name`
    pub process_name: Option<Box<str>>,
    /// The VRRP role; its nice value, priority and memory lock are in [`Global`].
    pub vrrp: ProcessSettings,
    /// The checker role.
    pub checker: ProcessSettings,
    /// The BFD role.
    pub bfd: ProcessSettings,
    /// `max_auto_priority`
    pub max_auto_priority: i8,
    /// `min_auto_priority_delay`
    pub min_auto_priority_delay: Duration,
    /// `startup_script`
    pub startup: Option<TimedCommand>,
    /// `shutdown_script`
    pub shutdown: Option<TimedCommand>,
    /// `notify_fifo` and its script.
    pub fifo: Option<Fifo>,
    /// `vrrp_notify_fifo` and its script.
    pub vrrp_fifo: Option<Fifo>,
    /// `lvs_notify_fifo` and its script.
    pub lvs_fifo: Option<Fifo>,
    /// Packet filters.
    pub firewall: Firewall,
    pub snmp: Snmp,
    /// `enable_dbus`
    pub dbus: Option<Dbus>,
    /// Buffers of netlink sockets.
    pub buffers: NetlinkBuffers,
    /// `umask`
    pub umask: Option<u16>,
    /// `reload_check_config`: log of the test before a reload.
    pub reload_check: Option<Box<[u8]>>,
    /// `reload_time_file`
    pub reload_time_file: Option<Box<[u8]>>,
    /// `reload_repeat`
    pub reload_repeat: bool,
    /// `reload_file`; an empty path is the default one.
    pub reload_file: Option<Box<[u8]>>,
    /// `config_save_dir`
    pub save_directory: Option<Box<[u8]>>,
    /// `tmp_config_directory`
    pub temporary_directory: Option<Box<[u8]>>,
    /// `data_use_instance`
    pub dump_with_instance: bool,
    /// `state_dump_file`
    pub state_file: Option<Box<[u8]>>,
    /// `json_version`: 1 or 2.
    pub json_version: u8,
}

/// Settings of one of the processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSettings {
    /// Its name, at most 15 octets.
    pub name: Option<Box<str>>,
    /// Nice value.
    pub nice: Option<i8>,
    /// SCHED_RR priority.
    pub rt_priority: Option<u8>,
    /// Lock its memory.
    pub no_swap: bool,
    /// Processors it may use; all if empty.
    pub cpus: Vec<u32>,
    /// Limit on processor time without a pause, in microseconds; none for keepalived's 10 ms.
    pub rt_limit: Option<u32>,
}

/// A command with a time limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedCommand {
    pub command: Command,
    pub timeout: Duration,
}

/// A named pipe that receives lines on changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fifo {
    /// The pipe.
    pub path: Box<[u8]>,
    pub account: Option<User>,
    /// The program that reads it.
    pub script: Option<Command>,
}

/// Chains of iptables: for incoming and for outgoing packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chains {
    /// For packets to the addresses.
    pub input: Option<Box<str>>,
    /// For packets from them.
    pub output: Option<Box<str>>,
}

/// Packet filters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firewall {
    /// `vrrp_iptables`
    pub iptables: Option<Chains>,
    /// `vrrp_ipsets`: names of the sets; empty to use none.
    pub ipsets: Option<Vec<Box<str>>>,
    /// `nftables`: name of the table.
    pub nftables: Option<Box<str>>,
    /// `nftables_priority`
    pub nftables_priority: Option<i32>,
    /// `nftables_ifindex`
    pub nftables_ifindex: bool,
    /// `nftables_counters`
    pub nftables_counters: bool,
    /// `nftables_ipvs`: name of the table.
    pub ipvs_table: Option<Box<str>>,
    /// `nftables_ipvs_priority`
    pub ipvs_priority: Option<i32>,
    /// `nftables_ipvs_start_fwmark`
    pub ipvs_first_mark: Option<u32>,
}

/// SNMP over AgentX.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snmp {
    /// `snmp_socket`
    pub socket: Option<Box<str>>,
    /// `enable_traps`
    pub traps: bool,
    /// `enable_snmp_vrrp`
    pub vrrp: bool,
    /// `enable_snmp_rfcv2`
    pub rfc_v2: bool,
    /// `enable_snmp_rfcv3`
    pub rfc_v3: bool,
    /// `enable_snmp_checker`
    pub checker: bool,
    /// `snmp_vs_stats_update_interval`
    pub services: Option<Duration>,
    /// `snmp_rs_stats_update_interval`
    pub servers: Option<Duration>,
}

/// D-Bus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dbus {
    /// `dbus_service_name`
    pub service: Option<Box<str>>,
    /// `dbus_no_interface_name`
    pub no_interface: Option<Box<str>>,
}

/// Receive buffers of netlink sockets in bytes, and whether system limits are overridden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetlinkBuffers {
    /// `vrrp_netlink_cmd_rcv_bufs`
    pub vrrp_requests: Option<u32>,
    /// `vrrp_netlink_cmd_rcv_bufs_force`
    pub vrrp_requests_force: bool,
    /// `vrrp_netlink_monitor_rcv_bufs`
    pub vrrp_monitor: Option<u32>,
    /// `vrrp_netlink_monitor_rcv_bufs_force`
    pub vrrp_monitor_force: bool,
    /// `lvs_netlink_cmd_rcv_bufs`
    pub lvs_requests: Option<u32>,
    /// `lvs_netlink_cmd_rcv_bufs_force`
    pub lvs_requests_force: bool,
    /// `lvs_netlink_monitor_rcv_bufs`
    pub lvs_monitor: Option<u32>,
    /// `lvs_netlink_monitor_rcv_bufs_force`
    pub lvs_monitor_force: bool,
    /// `process_monitor_rcv_bufs`
    pub process_monitor: Option<u32>,
    /// `process_monitor_rcv_bufs_force`
    pub process_monitor_force: bool,
}
