//! Routes as objects.

use core::fmt;
use core::net::IpAddr;

use super::object::{Difference, Identity, Object};
use crate::base::{Family, IfIndex, IfName, Prefix};
use crate::model::Route;
use crate::model::route::{NextHop, RouteMetric};

/// `RT_TABLE_MAIN`, which table 0 also means.
const MAIN: u32 = 254;
/// The metric that the kernel gives an IPv6 route without one (`IP6_RT_PRIO_USER`).
const METRIC_V6: u32 = 1024;

/// What identifies a route: several may lead to one destination with different paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteIdentity<L> {
    /// The kernel's lookup key of a route.
    pub slot: Slot,
    /// The VRF whose table is meant, not that of the slot. None in the kernel.
    pub vrf: Option<IfName>,
    /// The path, empty for types without one (`blackhole` etc.). The last field, so that routes of one slot are
    /// adjacent in the order.
    pub path: Vec<Hop<L>>,
}

/// The place of a route in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    pub family: Family,
    pub table: u32,
    /// The destination, host bits zero.
    pub destination: Prefix,
    /// The source prefix (IPv6); none for all.
    pub from: Option<Prefix>,
    /// The type of service (IPv4).
    pub tos: u8,
    /// The effective metric.
    pub metric: u32,
}

impl Slot {
    /// The slot of a route, from attributes reported by or sent to the kernel.
    #[must_use]
    pub fn new(
        destination: Prefix,
        from: Option<Prefix>,
        table: u32,
        tos: u8,
        metric: u32,
    ) -> Self {
        let family = destination.family();
        let v6 = family == Family::V6;
        Self {
            family,
            table: if table == 0 { MAIN } else { table },
            destination: destination.network(),
            from: from.map(|from| from.network()).filter(|from| from.length() > 0),
            tos: if v6 { 0 } else { tos },
            metric: if v6 && metric == 0 { METRIC_V6 } else { metric },
        }
    }
}

/// The attributes of a route that the kernel reports, besides its identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteAttributes {
    /// Its type, as numbered by the kernel.
    pub kind: u8,
    /// Scope, as numbered in rt_scopes (IPv4).
    pub scope: u8,
    /// The preferred source.
    pub source: Option<IpAddr>,
    /// The gateway counts as directly reachable (`onlink`), for a route with one nexthop.
    pub onlink: bool,
    /// All metrics except the congestion control algorithm.
    pub metrics: Vec<RouteMetric>,
    /// `RTA_FLOW`, for a route with one nexthop (IPv4).
    pub realms: Option<u32>,
    /// The router preference (IPv6).
    pub preference: u8,
    /// The weights of several nexthops (IPv4).
    pub weights: Vec<u16>,
}

impl RouteAttributes {
    /// The attributes that the kernel reports for `route` after it was added.
    #[must_use]
    pub fn of(route: &Route) -> Self {
        let v4 = route.family == Family::V4;
        let mut metrics = route.metrics.clone();
        metrics.sort_by_key(|metric| metric.kind);
        let several = v4 && route.nexthops.len() > 1;
        let (onlink, realms) = match route.nexthops.as_slice() {
            [] => (route.onlink, route.realms),
            [hop] => (route.onlink || hop.onlink, hop.realms.or(route.realms)),
            _ => (false, None),
        };
        Self {
            kind: route.kind,
            scope: if v4 { route.scope } else { 0 },
            source: route.source,
            onlink,
            metrics,
            realms: realms.filter(|_| v4),
            preference: if v4 { 0 } else { route.preference.unwrap_or(0) },
            weights: route.nexthops.iter().filter(|_| several).map(|hop| hop.weight).collect(),
        }
    }

    /// `wanted` with the kernel's values for the attributes that can be compared.
    pub(super) fn applied_to(&self, wanted: &Route) -> Route {
        if *self == Self::of(wanted) {
            return wanted.clone();
        }
        let mut found = wanted.clone();
        (found.kind, found.scope, found.source) = (self.kind, self.scope, self.source);
        (found.onlink, found.realms) = (self.onlink, self.realms);
        (found.metrics, found.preference) = (self.metrics.clone(), Some(self.preference));
        for (hop, weight) in found.nexthops.iter_mut().zip(&self.weights) {
            hop.weight = *weight;
        }
        found
    }
}

/// One nexthop of a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hop<L> {
    /// A router; the interface only counts if the address does not determine it (link-local ones).
    Gateway(IpAddr, Option<L>),
    Link(L),
}

impl<L> Hop<L> {
    /// The nexthop `gateway` through `link`; none if there is neither.
    #[must_use]
    pub fn new(gateway: Option<IpAddr>, link: Option<L>) -> Option<Self> {
        match (gateway, link) {
            (Some(gateway), link) => {
                let local = match gateway {
                    IpAddr::V4(a) => a.is_link_local(),
                    IpAddr::V6(a) => a.is_unicast_link_local(),
                };
                Some(Self::Gateway(gateway, link.filter(|_| local)))
            }
            (None, Some(link)) => Some(Self::Link(link)),
            (None, None) => None,
        }
    }
}

/// Whether a type of route has no path: blackhole, unreachable, prohibit, throw.
#[must_use]
pub const fn leads_nowhere(kind: u8) -> bool {
    matches!(kind, 6..=9)
}

impl RouteIdentity<IfName> {
    pub(super) fn place(
        &self,
        number: impl Fn(&IfName) -> Option<IfIndex>,
        table: impl Fn(&IfName) -> Option<u32>,
    ) -> Option<RouteIdentity<IfIndex>> {
        let mut slot = self.slot;
        if let Some(vrf) = &self.vrf {
            slot.table = table(vrf)?;
        }
        let path = self
            .path
            .iter()
            .map(|hop| {
                Some(match hop {
                    Hop::Gateway(gateway, None) => Hop::Gateway(*gateway, None),
                    Hop::Gateway(gateway, Some(link)) => {
                        Hop::Gateway(*gateway, Some(number(link)?))
                    }
                    Hop::Link(link) => Hop::Link(number(link)?),
                })
            })
            .collect::<Option<_>>()?;
        Some(RouteIdentity { slot, vrf: None, path })
    }
}

/// The first of all routes in the order of identities.
pub(super) fn first() -> Identity<IfIndex> {
    let any = Prefix::host(IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED));
    let destination = Prefix::new(any.address, 0).unwrap_or(any);
    let slot = Slot { family: Family::V4, table: 0, destination, from: None, tos: 0, metric: 0 };
    Identity::Route(Box::new(RouteIdentity { slot, vrf: None, path: Vec::new() }))
}

pub(super) fn identity(route: &Route) -> RouteIdentity<IfName> {
    let slot =
        Slot::new(route.destination, route.from, route.table, route.tos, route.metric.unwrap_or(0));
    let path = if leads_nowhere(route.kind) {
        Vec::new()
    } else if route.nexthops.is_empty() {
        Hop::new(route.gateway, route.interface.clone()).into_iter().collect()
    } else {
        route.nexthops.iter().filter_map(|h| Hop::new(h.gateway, h.interface.clone())).collect()
    };
    RouteIdentity { slot, vrf: route.vrf.clone(), path }
}

pub(super) fn interfaces(route: &Route) -> Vec<&IfName> {
    route
        .interface
        .iter()
        .chain(route.nexthops.iter().filter_map(|h| h.interface.as_ref()))
        .chain(&route.vrf)
        .collect()
}

pub(super) fn difference(old: &Route, new: &Route) -> Difference {
    // These settings do not show in the kernel.
    let same = Route { no_track: new.no_track, mode: new.mode, ..old.clone() };
    if same == *new { Difference::None } else { Difference::InPlace }
}

pub(super) fn describe(route: &Route, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match route.destination.length() {
        0 => f.write_str("route default")?,
        _ => write!(f, "route {}", route.destination)?,
    }
    if let Some(gateway) = route.gateway {
        write!(f, " via {gateway}")?;
    }
    if let Some(interface) = &route.interface {
        write!(f, " dev {interface}")?;
    }
    for NextHop { gateway, interface, .. } in &route.nexthops {
        f.write_str(" nexthop")?;
        if let Some(gateway) = gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(interface) = interface {
            write!(f, " dev {interface}")?;
        }
    }
    if let Some(vrf) = &route.vrf {
        write!(f, " vrf {vrf}")?;
    } else if route.table != MAIN && route.table != 0 {
        write!(f, " table {}", route.table)?;
    }
    Ok(())
}

/// A route in the table of its VRF.
pub(super) fn in_table(route: &Route, table: u32) -> Route {
    Route { table, vrf: None, ..route.clone() }
}

/// The objects of a route. The kernel keeps each nexthop of an IPv6 route as a separate route and reports them one by
/// one; so they are separate objects here, and losing one does not affect the others.
#[must_use]
pub fn objects(route: &Route) -> Vec<Object> {
    if route.family == Family::V6 && route.nexthops.len() > 1 {
        route
            .nexthops
            .iter()
            .map(|hop| {
                Object::Route(Box::new(Route { nexthops: vec![hop.clone()], ..route.clone() }))
            })
            .collect()
    } else {
        vec![Object::Route(Box::new(route.clone()))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::IfName;
    use crate::model::route::{NextHop, RouteMode};
    use crate::model::sample;

    #[test]
    fn each_nexthop_of_an_ipv6_route_is_an_object_and_those_of_an_ipv4_route_are_one() {
        let ways = |destination: &str, gateways: [&str; 2]| {
            let prefix = sample::address(destination, &IfName::eth0()).prefix;
            let mut route = sample::route(prefix, None, None);
            route.nexthops = gateways
                .iter()
                .map(|gateway| NextHop {
                    gateway: gateway.parse().ok(),
                    interface: None,
                    weight: 1,
                    onlink: false,
                    encap: None,
                    realms: None,
                })
                .collect();
            let of = |object: Object| match object {
                Object::Route(route) => {
                    let gateways = route.nexthops.iter().filter_map(|hop| hop.gateway);
                    gateways.map(|gateway| gateway.to_string()).collect()
                }
                other => panic!("{other:?}"),
            };
            objects(&route).into_iter().map(of).collect::<Vec<Vec<String>>>()
        };
        assert_eq!(ways("2001:db8::/64", ["fe80::1", "fe80::2"]), [["fe80::1"], ["fe80::2"]]);
        assert_eq!(ways("10.1.0.0/16", ["10.0.0.1", "10.0.0.2"]), [["10.0.0.1", "10.0.0.2"]]);
    }

    #[test]
    fn only_what_the_kernel_sees_of_a_route_is_a_difference() {
        let prefix = sample::address("10.1.0.0/16", &IfName::eth0()).prefix;
        let old = sample::route(prefix, None, Some(IfName::eth0()));
        let with = |change: fn(&mut Route)| {
            let mut new = old.clone();
            change(&mut new);
            difference(&old, &new)
        };
        assert_eq!(with(|_| ()), Difference::None);
        assert_eq!(with(|r| r.no_track = true), Difference::None);
        assert_eq!(with(|r| r.mode = RouteMode::Append), Difference::None);
        assert_eq!(with(|r| r.metric = Some(7)), Difference::InPlace);
        assert_eq!(with(|r| r.onlink = true), Difference::InPlace);
    }
}
