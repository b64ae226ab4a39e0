//! Routes as objects.

use core::fmt;
use core::net::IpAddr;

use super::object::{Difference, Object};
use crate::base::{Family, IfIndex, IfName, Prefix};
use crate::model::Route;
use crate::model::route::{NextHop, RouteMetric};

/// `RT_TABLE_MAIN`, also meant by table 0.
const MAIN: u32 = 254;
/// The metric that the kernel gives an IPv6 route without one (`IP6_RT_PRIO_USER`).
const METRIC_V6: u32 = 1024;

/// What identifies a route: several may lead to one destination, and differ in the way they take.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteIdentity<L> {
    /// What the kernel looks a route up by.
    pub slot: Slot,
    /// The way, empty for types that lead nowhere (`blackhole` and its like). The last field, so that routes of one
    /// slot stand together in order.
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
    /// The metric in force.
    pub metric: u32,
}

impl Slot {
    /// A slot by what the kernel tells or is told of a route.
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

/// What the kernel tells of a route beside its identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteAttributes {
    /// Its type as a number of the kernel.
    pub kind: u8,
    /// As a number of rt_scopes (IPv4).
    pub scope: u8,
    /// The preferred source.
    pub source: Option<IpAddr>,
    /// The gateway is taken to be reached directly, where there is one way.
    pub onlink: bool,
    /// All but the congestion control.
    pub metrics: Vec<RouteMetric>,
    /// `RTA_FLOW`, where there is one way (IPv4).
    pub realms: Option<u32>,
    /// The router preference (IPv6).
    pub preference: u8,
    /// The weights of the ways, where there are several (IPv4).
    pub weights: Vec<u16>,
}

impl RouteAttributes {
    /// What the kernel tells of a route that was added as `route` says.
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

    /// `wanted` with what the kernel has in the place of what it can be compared with.
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

/// One step of a route's way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hop<L> {
    /// To a router; the interface counts only where the address is no guide to it (link-local ones).
    Gateway(IpAddr, Option<L>),
    /// To an interface.
    Link(L),
}

impl<L> Hop<L> {
    /// The step to `gateway` by `link`; none if there is neither.
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

/// Whether a type of route takes no way: blackhole, unreachable, prohibit, throw.
#[must_use]
pub const fn leads_nowhere(kind: u8) -> bool {
    matches!(kind, 6..=9)
}

impl RouteIdentity<IfName> {
    pub(super) fn place(
        &self,
        number: impl Fn(&IfName) -> Option<IfIndex>,
    ) -> Option<RouteIdentity<IfIndex>> {
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
        Some(RouteIdentity { slot: self.slot, path })
    }
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
    RouteIdentity { slot, path }
}

pub(super) fn interfaces(route: &Route) -> Vec<&IfName> {
    route
        .interface
        .iter()
        .chain(route.nexthops.iter().filter_map(|h| h.interface.as_ref()))
        .collect()
}

pub(super) fn difference(old: &Route, new: &Route) -> Difference {
    // How it was added does not show in the kernel.
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
    if route.table != MAIN && route.table != 0 {
        write!(f, " table {}", route.table)?;
    }
    Ok(())
}

/// The objects of a route. The kernel keeps each way of an IPv6 route as a route of its own and tells of them one by
/// one; so they are told apart here, and losing one does not touch the others.
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
