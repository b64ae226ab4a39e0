//! Virtual servers, as IPVS knows them.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::Shared;
use super::checker::Checker;
use super::notify::Command;
use crate::base::{Family, Name, Secret};

/// The configuration of the checker role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lvs {
    /// The virtual servers in the order of the configuration. No two have a key in common, those of groups included.
    pub services: Vec<Shared<Service>>,
    /// `lvs_flush`: empty the kernel's table at start instead of adopting its entries.
    pub flush: bool,
    /// `lvs_flush_on_stop`
    pub flush_on_stop: bool,
    /// `no_checker_emails`: mail only when a real server as a whole goes up or down.
    pub no_checker_emails: bool,
    /// `rs_init_notifies`: run `notify_up` for servers put in service at start.
    pub init_notifies: bool,
    /// `lvs_flush_on_stop VS`: only configured services are removed.
    pub flush_services_only: bool,
    /// `lvs_audit_interval`: how often the kernel's table is compared with what it should be, at least 1 s; none for
    /// never.
    pub audit_interval: Option<Duration>,
    /// `checker_close_by_reset`: connections of checks are closed by a reset.
    pub close_by_reset: bool,
    /// `lvs_timeouts`
    pub timeouts: Timeouts,
    /// `SSL`: client certificate and key for TLS servers.
    pub tls: Option<Tls>,
}

/// The `virtual_server_group` of a virtual server: one pool of real servers behind many kernel services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceGroup {
    pub name: Name,
    /// The position of the virtual server among those that use the group, from 0: `[group]:0` in logs.
    pub index: u32,
    /// Its entries as configured. Never empty.
    pub entries: Vec<GroupEntry>,
    /// The services of the kernel, each once: addresses before marks, in the order of the entries. Never empty.
    pub keys: Vec<ServiceKey>,
}

/// An entry of a `virtual_server_group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupEntry {
    /// Addresses from the first to the last, of one family.
    Addresses {
        first: IpAddr,
        last: IpAddr,
        /// Port, 0 for every port.
        port: u16,
    },
    Mark {
        mark: u32,
        /// Its family; none for that of the service.
        family: Option<Family>,
    },
}

impl GroupEntry {
    /// As in logs: `FWM 7`, `[10.0.0.1]:tcp:80` or `[10.0.0.1]:tcp:80-10.0.0.9`, with the word of the protocol.
    #[must_use]
    pub fn display(&self, protocol: &str) -> String {
        match self {
            Self::Mark { mark, .. } => format!("FWM {mark}"),
            Self::Addresses { first, last, port } if first == last => {
                format!("[{first}]:{protocol}:{port}")
            }
            Self::Addresses { first, last, port } => format!("[{first}]:{protocol}:{port}-{last}"),
        }
    }
}

/// Timeouts of IPVS connections in seconds; 0 leaves the kernel's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// `tcp`
    pub tcp: u32,
    /// `tcpfin`
    pub tcp_fin: u32,
    /// `udp`
    pub udp: u32,
}

/// The `SSL` block: what checks present to servers that ask for a certificate. The contents of its files, in PEM form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// `password` of the key.
    pub password: Option<Secret<Box<str>>>,
    /// `ca`
    pub ca: Option<Box<[u8]>>,
    /// `certificate`
    pub certificate: Option<Box<[u8]>>,
    /// `key`
    pub key: Option<Secret<Box<[u8]>>>,
}

/// A `virtual_server`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its key in the kernel; of a group the first one.
    pub key: ServiceKey,
    /// `lvs_sched`, `lb_algo`: the kernel's scheduler.
    pub scheduler: Name,
    /// Scheduler flags: `ops` 0x04, `flag-1` 0x08, `flag-2` 0x10, `flag-3` 0x20.
    pub flags: u32,
    /// `persistence_timeout` and related settings; none if connections are scheduled one by one.
    pub persistence: Option<Persistence>,
    /// `quorum`: live weight at which the service is up, at least 1 unless all weights are 0.
    pub quorum: u32,
    /// `hysteresis`: dead band around the quorum, below it.
    pub hysteresis: u32,
    /// `quorum_up`
    pub quorum_up: Option<Command>,
    /// `quorum_down`
    pub quorum_down: Option<Command>,
    /// `sorry_server`: in service while the quorum is lost.
    pub sorry_server: Option<SorryServer>,
    /// `omega`: run the down notifiers when the daemon stops.
    pub omega: bool,
    /// `smtp_alert` of the service: mail when the quorum changes.
    pub smtp_alert: bool,
    /// `notify_fifo`, `lvs_notify_fifo`: a line is written for every change of it and its servers.
    pub notify_fifo: bool,
    /// The real servers. Several may have the same kernel key, because DR, TUN and marks set their ports.
    pub servers: Vec<RealServer>,
    /// Rare settings of a service.
    pub extras: Option<Box<ServiceExtras>>,
}

/// Rare settings of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceExtras {
    /// `ha_suspend`: check only while this machine holds the address.
    pub ha_suspend: bool,
    /// `snmp_name`
    pub snmp_name: Option<Box<str>>,
    /// `virtual_server group`
    pub group: Option<ServiceGroup>,
}

impl Service {
    /// Its identity across configurations, and in logs.
    #[must_use]
    pub fn id(&self) -> ServiceId {
        match self.group() {
            Some(group) => ServiceId::Group { name: group.name.clone(), index: group.index },
            None => ServiceId::Single(self.key),
        }
    }

    /// Its group, if it has one.
    #[must_use]
    pub fn group(&self) -> Option<&ServiceGroup> {
        self.extras.as_ref()?.group.as_ref()
    }

    /// Whether its checks run only while this machine holds one of its addresses.
    #[must_use]
    pub fn is_suspendable(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.ha_suspend)
            && self.keys().iter().all(|key| key.address().is_some())
    }

    /// Its addresses; firewall marks have none.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.keys().iter().filter_map(ServiceKey::address)
    }

    /// Its kernel services. Never empty.
    #[must_use]
    pub fn keys(&self) -> &[ServiceKey] {
        self.group().map_or(core::slice::from_ref(&self.key), |group| &group.keys)
    }
}

/// The identity of a configured virtual server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ServiceId {
    /// One service of the kernel.
    Single(ServiceKey),
    /// All entries of a group.
    Group {
        /// Name of the group.
        name: Name,
        /// Position among the virtual servers that use it, from 0.
        index: u32,
    },
}

impl fmt::Display for ServiceId {
    /// As in logs, mails and FIFO lines: `[10.0.0.1]:tcp:80`, `FWM 123` or `[group]:0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(key) => key.fmt(f),
            Self::Group { name, index } => write!(f, "[{name}]:{index}"),
        }
    }
}

/// The key of a kernel service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ServiceKey {
    /// An address, a port (0: every port) and a protocol.
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// Address and port.
        endpoint: SocketAddr,
    },
    /// Packets with this mark (`iptables -j MARK`).
    Mark {
        /// The mark, not 0.
        mark: u32,
        /// Family of the packets.
        family: Family,
    },
}

impl ServiceKey {
    /// The port of a real server's entry in the kernel. Only NAT can change a port: otherwise it is that of the service, or
    /// none if the service has none.
    #[must_use]
    pub const fn entry_port(&self, forward: Forward, own: u16) -> u16 {
        match (forward, self) {
            (Forward::Nat, _) => own,
            (_, Self::Address { endpoint, .. }) => endpoint.port(),
            (_, Self::Mark { .. }) => 0,
        }
    }

    /// Its address; none if it is a mark.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address { endpoint, .. } => Some(endpoint.ip()),
            Self::Mark { .. } => None,
        }
    }

    /// The family of the service.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::Address { endpoint, .. } => match endpoint {
                SocketAddr::V4(_) => Family::V4,
                SocketAddr::V6(_) => Family::V6,
            },
            Self::Mark { family, .. } => *family,
        }
    }

    /// The word for the protocol in `[10.0.0.1]:tcp:80`: `none` for a mark.
    #[must_use]
    pub const fn protocol_word(&self) -> &'static str {
        match self {
            Self::Address { protocol, .. } => protocol.word(),
            Self::Mark { .. } => "none",
        }
    }
}

impl fmt::Display for ServiceKey {
    /// As in logs, mails and FIFO lines: `[10.0.0.1]:tcp:80` or `FWM 123`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { protocol, endpoint } => {
                write!(f, "[{}]:{}:{}", endpoint.ip(), protocol.word(), endpoint.port())
            }
            Self::Mark { mark, .. } => write!(f, "FWM {mark}"),
        }
    }
}

/// A transport protocol that IPVS balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// `tcp`, `udp` or `sctp`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The IP protocol number.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// Persistence: sessions that stay with their server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// `persistence_timeout` in seconds, 1 to 2,678,400.
    pub timeout: u32,
    /// `persistence_granularity`: an IPv4 mask as a number (255.255.255.0 is 0xffffff00), or an IPv6 prefix
    /// length 1 to 128.
    pub granularity: u32,
    /// `persistence_engine`
    pub engine: Option<Name>,
}

/// The forwarding method of a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Forward {
    /// `NAT`: addresses are rewritten, answers come back through the director.
    Nat,
    /// `DR`: the frame gets the server's hardware address, answers go directly to the client.
    Dr,
    /// `TUN`: the packet is encapsulated.
    Tun(Tunnel),
}

/// The form of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tunnel {
    /// IP in IP.
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// UDP port, not 0.
        port: u16,
        checksum: TunnelChecksum,
    },
    /// Generic routing encapsulation; never with `remcsum`.
    Gre { checksum: TunnelChecksum },
}

/// The checksum of a tunnel header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TunnelChecksum {
    /// `nocsum`
    None,
    /// `csum`
    Checksum,
    /// `remcsum`
    Remote,
}

/// A `real_server`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RealServer {
    pub address: IpAddr,
    /// Its port in IPVS: the configured one for NAT, the service's for DR and TUN, 0 for a mark. In a group the
    /// configured one, 0 for none: there DR and TUN follow each entry.
    pub port: u16,
    /// `lvs_method`, `lb_kind`
    pub forward: Forward,
    /// `weight`, 0 to 2,147,483,647.
    pub weight: u32,
    /// `uthreshold`: no new connections above this number; 0 for no limit.
    pub upper_threshold: u32,
    /// `lthreshold`: new connections again below this number.
    pub lower_threshold: u32,
    /// `inhibit_on_failure`: a dead server keeps its entry with weight 0.
    pub inhibit_on_failure: bool,
    /// `notify_up`
    pub notify_up: Option<Command>,
    /// `notify_down`
    pub notify_down: Option<Command>,
    /// `smtp_alert` of the server: mail when a check of it changes.
    pub smtp_alert: bool,
    /// Its checks; without any it is always in service.
    pub checkers: Vec<Checker>,
    /// Rare settings of a server.
    pub extras: Option<Box<ServerExtras>>,
}

/// Rare settings of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerExtras {
    /// `snmp_name`
    pub snmp_name: Option<Box<str>>,
}

impl RealServer {
    /// As in logs, mails and FIFO lines: `[10.0.0.71]:tcp:80`.
    #[must_use]
    pub fn display(&self, service: &ServiceKey) -> String {
        format!("[{}]:{}:{}", self.address, service.protocol_word(), self.port)
    }
}

/// A `sorry_server`. Its weight is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SorryServer {
    pub address: IpAddr,
    /// Its port in IPVS.
    pub port: u16,
    /// Its forwarding method.
    pub forward: Forward,
    /// `sorry_server_inhibit`: keep its entry with weight 0 while it is not needed.
    pub inhibit: bool,
}
