//! Virtual routers.

use core::net::IpAddr;
use core::num::NonZeroU8;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::address::Address;
use super::extras::{
    Bfd, GarpExtra, GarpGroup, Hmac, InstanceExtras, InterfaceDelay, Linkbeat, TrackGroup, Unicast,
};
use super::filter::FilterSettings;
use super::group::SyncGroup;
use super::link::VirtualLink;
use super::notify::NotifyCommands;
use super::route::{Route, Rule};
use super::tracker::{Script, TrackFile, TrackProcess, TrackedInterface, TrackedScript};
use crate::base::{Family, IfName, Name, Secret};

/// The configuration of the VRRP role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Vrrp {
    /// The instances, names unique, in the order of the configuration.
    pub instances: Vec<Instance>,
    pub groups: Vec<SyncGroup>,
    /// The tracking scripts that at least one instance or group uses.
    pub scripts: Vec<Script>,
    /// `static_ipaddress`: on their interfaces for as long as the daemon runs.
    pub static_addresses: Vec<Address>,
    /// `vrrp_startup_delay`: for this long after the start no instance becomes master; adverts are received.
    pub startup_delay: Duration,
    /// `log_unknown_vrids`
    pub log_unknown_vrids: bool,
    /// There are virtual servers, and without `vrrp_without_ipvs` no instance takes part while they cannot be served.
    pub needs_ipvs: bool,
    /// `static_routes`
    pub static_routes: Vec<Route>,
    /// `static_rules`
    pub static_rules: Vec<Rule>,
    /// `track_group`
    pub track_groups: Vec<TrackGroup>,
    /// `garp_group`
    pub garp_groups: Vec<GarpGroup>,
    /// `track_file`
    pub track_files: Vec<TrackFile>,
    /// `vrrp_track_process`
    pub track_processes: Vec<TrackProcess>,
    /// `bfd_instance`
    pub bfds: Vec<Bfd>,
    /// `interface_up_down_delays`
    pub interface_delays: Vec<InterfaceDelay>,
    /// `linkbeat_interfaces`
    pub linkbeat: Vec<Linkbeat>,
    /// `linkbeat_use_polling`
    pub linkbeat_polling: bool,
    /// `no_email_faults`: no mail for FAULT.
    pub no_mail_for_faults: bool,
    /// `disable_local_igmp`
    pub disable_local_igmp: bool,
    /// Tables of packet filters.
    pub filters: FilterSettings,
    /// `lvs_sync_daemon`, `lvs_sync_daemon_interface`
    pub sync_daemon: Option<SyncSettings>,
    /// `fifo_write_vrrp_states_on_reload`
    pub fifo_states_on_reload: bool,
    /// `vrrp_rx_bufs_policy`
    pub receive_buffers: ReceiveBuffers,
    /// `allow_if_changes`: an interface may come back with another type.
    pub allow_interface_changes: bool,
    /// The mark of interfaces that this daemon creates, which no other one of the host has. Set where the daemon runs;
    /// empty: none.
    pub mark: Box<str>,
}

/// `lvs_sync_daemon`: connections are synchronized with other directors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncSettings {
    /// Interface of its packets.
    pub interface: IfName,
    /// `inst`: the instance that decides between master and backup; none for both at once.
    pub instance: Option<Name>,
    /// `id`; none for the router id of the instance.
    pub id: Option<u8>,
    /// `maxlen` in bytes.
    pub max_length: Option<u16>,
    /// `port`
    pub port: Option<u16>,
    /// `ttl`
    pub ttl: Option<u8>,
    /// `group`
    pub group: Option<IpAddr>,
}

impl SyncSettings {
    /// Synchronization over this interface, by the daemon that corresponds to the state of this instance.
    #[must_use]
    pub const fn following(instance: Name, interface: IfName) -> Self {
        Self {
            interface,
            instance: Some(instance),
            id: None,
            max_length: None,
            port: None,
            ttl: None,
            group: None,
        }
    }
}

impl Vrrp {
    /// The shortest advert interval of the instances.
    #[must_use]
    pub fn shortest_interval(&self) -> Option<Duration> {
        self.instances.iter().map(|instance| instance.advert_int).min()
    }
}

/// The size of a receive buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReceiveBuffers {
    /// The kernel's default.
    #[default]
    Kernel,
    /// A multiple of the interface's MTU.
    Mtu(u32),
    /// A multiple of the length of our own advert.
    Advert(u32),
    Bytes(u32),
}

/// A `vrrp_instance` with every default filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Its name, unique among instances.
    pub name: Name,
    /// `interface`
    pub interface: IfName,
    /// `virtual_router_id`, 1 to 255.
    pub vrid: Vrid,
    /// Family of the advertised addresses and of the adverts.
    pub family: Family,
    /// `version`
    pub version: Version,
    /// `state`: the desired state at start. Below priority 255 all start as backup.
    pub state: InitialState,
    /// `priority`, 1 to 255; 255 is the owner of the addresses.
    pub priority: Priority,
    /// `advert_int`: whole seconds from 1 to 255 in version 2, multiples of 10 ms up to 40.95 s in version 3.
    pub advert_int: Duration,
    /// `down_timer_adverts`: adverts that must be missed before a backup takes over, 1 to 100.
    pub down_timer_adverts: u8,
    /// `authentication` (version 2 only).
    pub authentication: Authentication,
    /// `mcast_src_ip`, `unicast_src_ip`: source of the adverts; none means the first address of the interface.
    pub source: Option<IpAddr>,
    /// `mcast_dst_ip` or `vrrp_mcast_group4/6`: destination of adverts.
    pub destination: IpAddr,
    /// `virtual_ipaddress`: of one family, advertised in this order.
    pub addresses: Vec<Address>,
    /// `virtual_ipaddress_excluded`: of any family, not advertised.
    pub excluded: Vec<Address>,
    /// `nopreempt` and `preempt_delay`
    pub preempt: Preempt,
    /// `dont_track_primary`: stay out of FAULT when the instance's own interface is down.
    pub dont_track_primary: bool,
    /// `track_interface`, and interfaces of addresses that are not `no_track`; not the own interface.
    pub track_interfaces: Vec<TrackedInterface>,
    /// `track_script`
    pub track_scripts: Vec<TrackedScript>,
    /// Settings of gratuitous ARP and unsolicited neighbour adverts.
    pub garp: Garp,
    /// `lower_prio_no_advert`: do not answer an advert of lower priority with one at once.
    pub lower_prio_no_advert: bool,
    /// `higher_prio_send_advert`: send one more advert before yielding.
    pub higher_prio_send_advert: bool,
    /// `skip_check_adv_addr`: compare advertised addresses only when the sender changes.
    pub skip_check_adv_addr: bool,
    /// `owner_ignore_adverts`: an instance of priority 255 drops all adverts.
    pub owner_ignore_adverts: bool,
    /// `v3_checksum_as_v2`: leave the pseudo header out of the version 3 IPv4 checksum.
    pub v3_checksum_as_v2: bool,
    /// The programs to run when the state changes.
    pub notify: NotifyCommands,
    /// `notify_deleted`: announce DELETED instead of FAULT when a reload removes the instance.
    pub notify_deleted: bool,
    /// `smtp_alert`: whether a change of state is mailed.
    pub smtp_alert: bool,
    /// Rare settings.
    pub extras: Option<Box<InstanceExtras>>,
}

impl Instance {
    /// `unicast_peer` and related settings, if adverts are sent by unicast.
    #[must_use]
    pub fn unicast(&self) -> Option<&Unicast> {
        self.extras.as_ref()?.unicast.as_ref()
    }

    /// The number of packets that one advert takes: by unicast one for each peer.
    #[must_use]
    pub fn copies(&self) -> usize {
        self.unicast().map_or(1, |unicast| unicast.peers.len())
    }

    /// The VRF that its interface is to be in.
    #[must_use]
    pub fn vrf(&self) -> Option<&IfName> {
        self.extras.as_ref()?.vrf.as_ref()
    }

    /// The interface that is created for it (`use_vmac`, `use_ipvlan`).
    #[must_use]
    pub fn own_link(&self) -> Option<&VirtualLink> {
        self.extras.as_ref()?.own_link.as_ref()
    }

    /// All interfaces that are created for it and for its addresses.
    pub fn links(&self) -> impl Iterator<Item = &VirtualLink> {
        let extras = self.extras.iter();
        extras.flat_map(|extras| extras.own_link.iter().chain(&extras.address_links))
    }

    /// `garp_extra_if`
    #[must_use]
    pub fn garp_extra(&self) -> Option<GarpExtra> {
        self.extras.as_ref()?.garp_extra
    }

    /// Whether adverts are sent by [`Self::own_link`].
    #[must_use]
    pub fn sends_by_own_link(&self) -> bool {
        let extras = self.extras.as_ref();
        extras.is_some_and(|extras| extras.own_link.is_some() && !extras.vmac_xmit_base)
    }

    /// The key of `auth_type AH`.
    #[must_use]
    pub fn ah_key(&self) -> Option<&[u8; 8]> {
        self.extras.as_ref()?.ah_key.as_ref().map(Secret::reveal)
    }

    /// Frames that announce all addresses after an advert of lower priority.
    #[must_use]
    pub fn frames_after_lower(&self) -> u32 {
        let addresses = self.addresses.len().saturating_add(self.excluded.len());
        let addresses = u32::try_from(addresses).unwrap_or(u32::MAX);
        addresses.saturating_mul(self.garp.lower_prio_repeat)
    }

    /// Whether packets to and from its addresses are dropped while it is master: with `no_accept`, and in strict mode
    /// without `accept`, unless it owns them.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.extras.as_ref().is_some_and(|e| e.accept == Some(false))
    }

    /// `auth_hmac`
    #[must_use]
    pub fn hmac(&self) -> Option<&Hmac> {
        self.extras.as_ref()?.hmac.as_ref()
    }

    /// Whether the configured source address must be on this host: `track_src_ip`, and with unicast, because other
    /// routers send adverts to it.
    #[must_use]
    pub fn needs_source(&self) -> bool {
        self.unicast().is_some() || self.extras.as_ref().is_some_and(|e| e.track_source)
    }
}

/// A virtual router id, 1 to 255 (RFC 9568 5.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Vrid(pub NonZeroU8);

impl Vrid {
    /// The id as a number; none for 0.
    #[must_use]
    pub const fn new(id: u8) -> Option<Self> {
        match NonZeroU8::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The id as in a packet.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

impl core::fmt::Display for Vrid {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// A configured priority, 1 to 255 (RFC 9568 5.2.4). 0 only exists on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(pub NonZeroU8);

impl Priority {
    /// 255: the priority of the owner of the addresses.
    pub const OWNER: Self = Self(NonZeroU8::MAX);
    /// The highest priority of a router that does not own the addresses.
    pub const MAX: u8 = 254;

    /// The priority as a number; none for 0.
    #[must_use]
    pub const fn new(priority: u8) -> Option<Self> {
        match NonZeroU8::new(priority) {
            Some(priority) => Some(Self(priority)),
            None => None,
        }
    }

    /// The priority as in a packet.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0.get()
    }

    /// Whether this is the owner's priority.
    #[must_use]
    pub const fn is_owner(self) -> bool {
        self.0.get() == u8::MAX
    }
}

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Version {
    /// RFC 3768.
    V2,
    /// RFC 5798 and RFC 9568.
    V3,
}

impl Version {
    /// 2 or 3.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// The `state` keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InitialState {
    /// `MASTER`
    Master,
    /// `BACKUP`
    Backup,
}

/// How version 2 adverts are authenticated (RFC 2338 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Authentication {
    /// Type 0.
    None,
    /// Type 1: a password in clear text, padded with zeros.
    Pass(Secret<[u8; 8]>),
}

/// When a backup of higher priority displaces a master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Preempt {
    /// After this delay, zero by default: `preempt_delay`, up to 1000 s.
    After(Duration),
    /// Not at all: `nopreempt`.
    Never,
}

/// Gratuitous ARP and unsolicited neighbour adverts of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Garp {
    /// `garp_master_repeat`: frames for each address at once on becoming master, at least 1.
    pub repeat: u32,
    /// `garp_master_delay`: time to the second set; zero for none.
    pub delay: Duration,
    /// `garp_master_refresh`: time between later sets; zero for none.
    pub refresh: Duration,
    /// `garp_master_refresh_repeat`: frames for each address in a later set, at least 1.
    pub refresh_repeat: u32,
    /// `garp_lower_prio_repeat`: frames for each address after an advert of lower priority; 0 for none.
    pub lower_prio_repeat: u32,
    /// `garp_lower_prio_delay`: time to the second set after such an advert; zero for none.
    pub lower_prio_delay: Duration,
    /// `vrrp_garp_interval`: minimum time between two gratuitous ARPs on one interface.
    pub interval: Duration,
    /// `vrrp_gna_interval`: the same for neighbour adverts.
    pub na_interval: Duration,
}

impl Default for Garp {
    /// keepalived's: 5 frames at once, 5 more after 5 s, no refresh, no spacing.
    fn default() -> Self {
        Self {
            repeat: 5,
            delay: Duration::from_secs(5),
            refresh: Duration::ZERO,
            refresh_repeat: 1,
            lower_prio_repeat: 5,
            lower_prio_delay: Duration::from_secs(5),
            interval: Duration::ZERO,
            na_interval: Duration::ZERO,
        }
    }
}
