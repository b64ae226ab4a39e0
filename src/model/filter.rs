//! Filters of packets to and from virtual addresses that do not accept them.

use serde::{Deserialize, Serialize};

use crate::base::Name;

/// Settings of the daemon's own nftables tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterSettings {
    /// `nftables`: their name, the same in both families; at most 30 octets from a configuration.
    pub table: Name,
    /// `nftables_priority`: that of their chains among others at the same hook.
    pub priority: i32,
    /// `nftables_ifindex`: interfaces of link-local addresses are matched by number, not by name.
    pub by_index: bool,
    /// `nftables_counters`: each rule has a counter.
    pub counters: bool,
    /// Packets from the addresses are dropped as well. Not with a `vrrp_iptables` that names only a chain for incoming
    /// packets.
    pub output: bool,
}

impl Default for FilterSettings {
    fn default() -> Self {
        Self {
            table: Name::from("keepalived"),
            priority: -1,
            by_index: false,
            counters: false,
            output: true,
        }
    }
}
