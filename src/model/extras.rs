//! Settings of virtual routers that most instances do not have.

use core::net::IpAddr;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::address::Address;
use super::link::VirtualLink;
use super::route::{Route, Rule};
use super::tracker::Tracked;
use crate::base::{IfName, Name, Secret};

/// Rare settings of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceExtras {
    /// `strict_mode`
    pub strict: bool,
    /// `accept` without `no_accept`: packets to the virtual addresses are accepted although this router does not own
    /// them. None: the default, which is yes unless strict.
    pub accept: Option<bool>,
    /// `use_vmac`, `use_ipvlan`: the interface that is created for the instance.
    pub own_link: Option<VirtualLink>,
    /// `vmac_xmit_base`: adverts are sent by the parent of that interface.
    pub vmac_xmit_base: bool,
    /// `use_vmac_addr`, `use_vmac` of an address: interfaces that are created for single addresses.
    pub address_links: Vec<VirtualLink>,
    /// Addresses that are on `own_link` as long as the instance exists, whatever its state.
    pub link_addresses: Vec<Address>,
    /// `interface` is missing: the instance has the default one, only for its addresses.
    pub without_interface: bool,
    /// `vrf`
    pub vrf: Option<IfName>,
    /// `unicast_peer` and related settings.
    pub unicast: Option<Unicast>,
    /// `authentication` of type AH: its key.
    pub ah_key: Option<Secret<[u8; 8]>>,
    /// `auth_hmac`
    pub hmac: Option<Hmac>,
    /// `track_src_ip`: FAULT while the source address is not on the interface.
    pub track_source: bool,
    /// `promote_secondaries`
    pub promote_secondaries: bool,
    /// `linkbeat_use_polling`
    pub linkbeat_polling: bool,
    /// `virtual_routes`
    pub routes: Vec<Route>,
    /// `virtual_rules`
    pub rules: Vec<Rule>,
    /// `track_file`
    pub track_files: Vec<Tracked>,
    /// `track_process`
    pub track_processes: Vec<Tracked>,
    /// `track_bfd`
    pub track_bfds: Vec<Tracked>,
    /// `timer_expired_backup`: highest priority of the other routers.
    pub timer_expired_backup: Option<u8>,
    /// `garp_extra_if`
    pub garp_extra: Option<GarpExtra>,
    /// `notify_priority_changes`
    pub notify_priority_changes: bool,
    /// `kernel_rx_buf_size` in bytes.
    pub receive_buffer: Option<u32>,
    /// `lvs_sync_daemon_interface`
    pub sync_daemon_interface: Option<IfName>,
}

/// Adverts to single routers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unicast {
    /// `unicast_peer`; empty with `unicast_fault_no_peer`.
    pub peers: Vec<UnicastPeer>,
    /// `unicast_ttl`
    pub ttl: Option<u8>,
    /// `check_unicast_src`: adverts of routers that are not peers are dropped.
    pub check_source: bool,
    /// `unicast_fault_no_peer`: FAULT rather than multicast without peers.
    pub fault_without_peer: bool,
    /// `old_unicast_checksum`
    pub old_checksum: OldChecksum,
}

/// One peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnicastPeer {
    pub address: IpAddr,
    /// `min_ttl`: lowest TTL accepted from it.
    pub min_ttl: u8,
    /// `max_ttl`: highest TTL accepted from it.
    pub max_ttl: u8,
}

/// The form of the version 3 checksum of unicast adverts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OldChecksum {
    /// The form that the peer uses.
    #[default]
    Detect,
    /// The old form, with the multicast group in the pseudo header.
    Always,
    /// The standard form.
    Never,
}

/// `auth_hmac`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hmac {
    /// Keys by id; all are accepted.
    pub keys: Vec<HmacKey>,
    /// Id of the key used for sending.
    pub active: u8,
    /// `time_window`: accepted difference of clocks, 1 to 300 s.
    pub window: Duration,
    /// `anti_replay monotonic`: only growth counts, not the clock.
    pub monotonic: bool,
    /// `mode`
    pub mode: HmacMode,
}

/// A key of `auth_hmac`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HmacKey {
    /// Its id, not 0.
    pub id: u8,
    /// 32 to 64 octets.
    pub key: SecretBytes,
}

/// Octets that must not reach a log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Wraps `bytes`.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The octets themselves. Call this only where they go into a key.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl core::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("***")
    }
}

/// What `auth_hmac` demands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HmacMode {
    /// Send a trailer and require one.
    #[default]
    Enforce,
    /// Send a trailer, accept adverts without.
    Permissive,
    /// Do not send a trailer, accept adverts without, verify existing ones.
    ReceiveOnly,
}

/// `garp_extra_if`: periodic gratuitous ARP on further interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarpExtra {
    /// Also on interfaces that are not VMACs.
    pub all: bool,
    /// Time between two of them.
    pub period: Duration,
}

/// `garp_group`: interfaces that share a minimum time between announcements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarpGroup {
    /// Between gratuitous ARPs.
    pub garp: Option<Duration>,
    /// Between neighbour adverts.
    pub na: Option<Duration>,
    pub interfaces: Vec<IfName>,
}

/// `track_group`: instances that also track the interfaces of static addresses, routes and rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackGroup {
    pub name: Name,
    /// Instances.
    pub members: Vec<Name>,
    /// Interfaces of the static items that name the group.
    pub interfaces: Vec<IfName>,
}

/// A line of `interface_up_down_delays`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceDelay {
    pub interface: IfName,
    /// Time before a loss of the link counts.
    pub down: Duration,
    /// Time before a return of the link counts.
    pub up: Duration,
}

/// A line of `linkbeat_interfaces`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linkbeat {
    pub interface: IfName,
    /// How the state of its link is read.
    pub method: LinkbeatMethod,
}

/// How the state of a link is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkbeatMethod {
    /// The first method that works.
    #[default]
    Auto,
    /// MII registers.
    Mii,
    Ethtool,
    /// Flags of the interface.
    Ioctl,
}

/// `bfd_instance`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bfd {
    /// Its name, at most 31 octets.
    pub name: Name,
    /// `neighbor_ip`
    pub neighbor: IpAddr,
    /// `source_ip`
    pub source: Option<IpAddr>,
    /// `min_rx`: shortest interval at which packets can be received, 1 ms to 4295 s.
    pub min_rx: Duration,
    /// `min_tx`: interval of packets while the session is up, 1 ms to 4295 s.
    pub min_tx: Duration,
    /// `idle_tx`: the same while it is not, 1 s to 4295 s.
    pub idle_tx: Duration,
    /// `multiplier`: packets that may be missed, at least 1.
    pub multiplier: u8,
    /// `passive`: nothing is sent until a packet of the neighbor is received.
    pub passive: bool,
    /// `ttl`, `hoplimit`: of packets that are sent.
    pub ttl: u8,
    /// The lowest accepted TTL or hop limit of received packets: the expected one less `max_hops`.
    pub least_ttl: u8,
    /// `multihop`: port 4784, not 3784.
    pub multihop: bool,
    /// Instances can track it.
    pub for_vrrp: bool,
    /// Checks can.
    pub for_checker: bool,
}
