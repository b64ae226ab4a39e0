//! Addresses that the daemon adds to interfaces.

use core::net::Ipv4Addr;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{IfName, Prefix};

/// A virtual or static address and its attributes in the kernel (`ip address`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address and the length of its prefix.
    pub prefix: Prefix,
    /// The interface it belongs to.
    pub interface: IfName,
    /// `brd`: the broadcast address to set; none is set without it.
    pub broadcast: Option<Ipv4Addr>,
    /// `peer`: the address of the remote end of a point-to-point link.
    pub peer: Option<Prefix>,
    /// `scope` as a number of rt_scopes: 0 global, 200 site, 253 link, 254 host.
    pub scope: u8,
    /// `label`: the name shown by `ip address`, at most 15 octets.
    pub label: Option<Box<str>>,
    /// `preferred_lft`: how long an IPv6 address may be selected as a source.
    pub preferred: Lifetime,
    /// Flags of `ip address`.
    pub flags: AddressFlags,
    /// `no_track`: do not restore it when another program removes it.
    pub no_track: bool,
}

impl Address {
    /// `prefix` on `interface` with nothing else set.
    #[must_use]
    pub const fn new(prefix: Prefix, interface: IfName) -> Self {
        Self {
            prefix,
            interface,
            broadcast: None,
            peer: None,
            scope: 0,
            label: None,
            preferred: Lifetime::Forever,
            flags: AddressFlags {
                dad: false,
                home: false,
                manage_temporary: false,
                no_prefix_route: false,
                autojoin: false,
            },
            no_track: false,
        }
    }
}

/// How long an address may be used for new connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifetime {
    /// Always.
    #[default]
    Forever,
    /// For this long, in whole seconds. Zero: never (deprecated).
    For(Duration),
}

/// Flags of an address; all off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressFlags {
    /// Duplicate address detection for IPv6. Off unless the configuration says `-nodad`: a virtual address must answer
    /// at once, and the previous master may still have it for a moment.
    pub dad: bool,
    /// `home`: mobile IPv6 home address.
    pub home: bool,
    /// `mngtmpaddr`: create temporary addresses for this prefix.
    pub manage_temporary: bool,
    /// `noprefixroute`: do not add a route for the prefix.
    pub no_prefix_route: bool,
    /// `autojoin`: join multicast groups added with `ip maddr`.
    pub autojoin: bool,
}
