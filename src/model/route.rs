//! Routes and policy rules that the daemon adds to the kernel's tables.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::base::{Family, IfName, Prefix};

/// A line of `virtual_routes` or `static_routes` (`ip route`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Family of the route.
    pub family: Family,
    /// Type as numbered by the kernel: 1 unicast, 2 local, 3 broadcast, 4 anycast, 5 multicast, 6 blackhole, 7
    /// unreachable, 8 prohibit, 9 throw, 10 nat.
    pub kind: u8,
    /// `to`: the destination; a length of 0 is the default route.
    pub destination: Prefix,
    /// `from`: source prefix, IPv6 only.
    pub from: Option<Prefix>,
    /// `src`: preferred source.
    pub source: Option<IpAddr>,
    /// `via`
    pub gateway: Option<IpAddr>,
    /// `dev`
    pub interface: Option<IfName>,
    /// `table`; 254 is main.
    pub table: u32,
    /// `tos`
    pub tos: u8,
    /// `scope` as a number of rt_scopes.
    pub scope: u8,
    /// `protocol` as a number of rt_protos.
    pub protocol: u8,
    /// `metric`
    pub metric: Option<u32>,
    /// `onlink`: the gateway counts as directly reachable.
    pub onlink: bool,
    /// `encap`
    pub encap: Option<Encap>,
    /// `expires` in seconds, IPv6 only.
    pub expires: Option<u32>,
    /// `mtu`, `rtt` and other metrics.
    pub metrics: Vec<RouteMetric>,
    /// `congctl`: congestion control algorithm, and whether it is locked.
    pub congestion: Option<(Box<str>, bool)>,
    /// `realms` in the kernel's form: `from` in the upper half, `to` in the lower.
    pub realms: Option<u32>,
    /// `pref`: IPv6 router preference.
    pub preference: Option<u8>,
    /// `ttl-propagate`
    pub ttl_propagate: Option<bool>,
    /// `add`, `prepend`, `append`
    pub mode: RouteMode,
    /// `nexthop` parts, and the two gateways of `or`.
    pub nexthops: Vec<NextHop>,
    /// `vrf`: the table of this device is used.
    pub vrf: Option<IfName>,
    /// `no_track`: do not follow the interface and do not react when another program removes it.
    pub no_track: bool,
}

/// How a route is added to others with the same destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteMode {
    /// `add`: fails if there is one.
    Add,
    /// `prepend`: before others.
    #[default]
    Prepend,
    /// `append`: after others.
    Append,
}

/// A metric of a route (`RTAX_...`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteMetric {
    pub kind: MetricKind,
    /// Its value in the kernel's unit.
    pub value: u32,
    /// The kernel may not change it.
    pub locked: bool,
}

/// The metrics of a route, as numbered by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MetricKind {
    /// `mtu`
    Mtu = 2,
    /// `window`
    Window = 3,
    /// `rtt`, in eighths of a millisecond.
    Rtt = 4,
    /// `rttvar`, in quarters of a millisecond.
    RttVar = 5,
    /// `ssthresh`
    SsThresh = 6,
    /// `cwnd`
    Cwnd = 7,
    /// `advmss`
    AdvMss = 8,
    /// `reordering`
    Reordering = 9,
    /// `hoplimit`
    HopLimit = 10,
    /// `initcwnd`
    InitCwnd = 11,
    /// `features`
    Features = 12,
    /// `rto_min`, in milliseconds.
    RtoMin = 13,
    /// `initrwnd`
    InitRwnd = 14,
    /// `quickack`
    QuickAck = 15,
    /// `fastopen_no_cookie`
    FastOpenNoCookie = 17,
}

impl MetricKind {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Mtu,
        Self::Window,
        Self::Rtt,
        Self::RttVar,
        Self::SsThresh,
        Self::Cwnd,
        Self::AdvMss,
        Self::Reordering,
        Self::HopLimit,
        Self::InitCwnd,
        Self::Features,
        Self::RtoMin,
        Self::InitRwnd,
        Self::QuickAck,
        Self::FastOpenNoCookie,
    ];

    /// The metric with this kernel number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number)
    }
}

/// One of several nexthops of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHop {
    /// `via`
    pub gateway: Option<IpAddr>,
    /// `dev`
    pub interface: Option<IfName>,
    /// `weight`, 1 to 256.
    pub weight: u16,
    /// `onlink`
    pub onlink: bool,
    /// `encap`
    pub encap: Option<Encap>,
    /// `realms`, as in the route.
    pub realms: Option<u32>,
}

/// A lightweight tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encap {
    /// `encap ip`
    Ip {
        /// Tunnel id.
        id: Option<u64>,
        /// Tunnel destination.
        destination: Option<Ipv4Addr>,
        /// Tunnel source.
        source: Option<Ipv4Addr>,
        /// Type of service.
        tos: Option<u8>,
        /// Time to live.
        ttl: Option<u8>,
        flags: Option<u16>,
    },
    /// `encap ip6`
    Ip6 {
        /// Tunnel id.
        id: Option<u64>,
        /// Tunnel destination.
        destination: Option<Ipv6Addr>,
        /// Tunnel source.
        source: Option<Ipv6Addr>,
        /// Traffic class.
        class: Option<u8>,
        hop_limit: Option<u8>,
        flags: Option<u16>,
    },
    /// `encap mpls`: labels of 20 bits, outermost first.
    Mpls(Vec<u32>),
    /// `encap ila`: the locator.
    Ila(u64),
}

/// A line of `virtual_rules` or `static_rules` (`ip rule`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    /// Family of the rule.
    pub family: Family,
    /// `preference`: rules are evaluated in ascending order.
    pub preference: u32,
    /// `not`: inverts the match.
    pub invert: bool,
    /// `from`; none for all.
    pub from: Option<Prefix>,
    /// `to`; none for all.
    pub to: Option<Prefix>,
    /// `iif`
    pub input: Option<IfName>,
    /// `oif`
    pub output: Option<IfName>,
    /// `tos`
    pub tos: Option<u8>,
    /// `fwmark` with its mask.
    pub mark: Option<(u32, u32)>,
    /// `tunnel-id`
    pub tunnel: Option<u64>,
    /// `uidrange`
    pub users: Option<(u32, u32)>,
    /// `ipproto`
    pub ip_protocol: Option<u8>,
    /// `sport`
    pub source_ports: Option<(u16, u16)>,
    /// `dport`
    pub destination_ports: Option<(u16, u16)>,
    /// The action for matching packets.
    pub action: RuleAction,
    /// `protocol`: which program the rule is from.
    pub protocol: u8,
    /// `no_track`: do not follow interfaces and do not react when another program removes it.
    pub no_track: bool,
}

/// What a rule does with the packets that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RuleAction {
    /// `table`
    Table {
        table: u32,
        /// `realms`
        realms: Option<u32>,
        /// `suppress_prefixlength`
        suppress_length: Option<u32>,
        /// `suppress_ifgroup`
        suppress_group: Option<u32>,
    },
    /// `l3mdev`: the table of the layer 3 master device.
    MasterDevice,
    /// `goto`
    Goto(u32),
    /// `nop`
    Nop,
    /// `blackhole`
    Blackhole,
    /// `unreachable`
    Unreachable,
    /// `prohibit`
    Prohibit,
}
