//! Routes: the messages that add and delete them, and the kernel's events about them.

use core::net::IpAddr;

use netlink_packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::route::{
    MplsLabel, RouteAttribute, RouteIp6Tunnel, RouteIp6TunnelFlags, RouteIpTunnel,
    RouteIpTunnelFlags, RouteLwEnCapType, RouteLwTunnelEncap, RouteMessage, RouteMetric,
    RouteMplsIpTunnel, RouteNextHop, RouteRealm, RouteScope,
};
use netlink_packet_route::{AddressFamily, route::RouteNextHopFlags};
use rtnetlink::{RouteMessageBuilder, RouteNextHopBuilder};

use super::{Step, number};
use crate::base::{Family, IfIndex, Prefix};
use crate::kernel::netlink::{Message, attributes};
use crate::model::Route;
use crate::model::route::{self, Encap, MetricKind, NextHop, RouteMode};
use crate::plan::route::{Hop, RouteAttributes, RouteIdentity, Slot, leads_nowhere};
use crate::plan::{Attributes, ChangeKind, Identity, Op, PROTOCOL_MARK, Sight, Verb};

/// Message types.
pub(in crate::kernel) const NEW: u16 = 24;
pub(in crate::kernel) const DELETE: u16 = 25;
pub(in crate::kernel) const GET: u16 = 26;
/// Groups of events: routes of IPv4 and of IPv6 (`RTNLGRP_IPV4_ROUTE`, `RTNLGRP_IPV6_ROUTE`).
pub(in crate::kernel) const GROUPS: [u32; 2] = [7, 11];

/// `RTM_F_CLONED`: an entry of a cache.
const CLONED: u32 = 0x200;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_FLOW: u16 = 11;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_PREF: u16 = 20;
/// `RTAX_LOCK`: the bits of the metrics that are locked.
const LOCK: u16 = 1;
/// `RTNH_F_ONLINK`
const ONLINK: u32 = 4;

/// The requests that carry out an operation on a route; none if it cannot be encoded.
pub(super) fn steps(op: &Op, route: &Route) -> Option<Vec<Step>> {
    let add = |flags: u16| {
        let already: &[i32] = if route.mode == RouteMode::Add { &[] } else { &[libc::EEXIST] };
        Some(Step::new(NEW, flags, &message(op, route, true)?, already))
    };
    let delete = |old: &Route| {
        // If the interface is gone, the route is gone as well.
        let absent = &[libc::ESRCH, libc::ENODEV];
        Some(Step::new(DELETE, 0, &message(op, old, false)?, absent))
    };
    let mode = match route.mode {
        RouteMode::Add => NLM_F_CREATE | NLM_F_EXCL,
        RouteMode::Prepend => NLM_F_CREATE,
        RouteMode::Append => NLM_F_CREATE | NLM_F_APPEND,
    };
    Some(match &op.verb {
        Verb::Add => vec![add(mode)?],
        Verb::Replace { in_place: true, .. } => vec![add(NLM_F_CREATE | NLM_F_REPLACE)?],
        Verb::Replace { before, .. } => match before.as_ref() {
            crate::plan::Object::Route(old) => vec![delete(old)?.optional(), add(mode)?],
            _ => vec![add(mode)?],
        },
        Verb::Delete { .. } => vec![delete(route)?],
    })
}

/// The message that adds or deletes a route.
fn message(op: &Op, route: &Route, add: bool) -> Option<RouteMessage> {
    let link = |name: &crate::base::IfName| op.number(name).map(|index| index.0);
    let destination = route.destination.network();
    let mut new = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(destination.address, destination.length())
        .ok()?
        .kind(route.kind.into())
        .protocol(route.protocol.into())
        .tos(route.tos)
        // Lets a deletion match a route of any scope.
        .scope(if add { route.scope.into() } else { RouteScope::NoWhere })
        .table_id(route.table);
    if let Some(from) = route.from {
        let from = from.network();
        new = new.source_prefix(from.address, from.length()).ok()?;
    }
    if let Some(metric) = route.metric {
        new = new.priority(metric);
    }
    if let Some(gateway) = route.gateway {
        new = new.gateway(gateway).ok()?;
    }
    if let Some(interface) = &route.interface
        // With several nexthops the kernel takes the interfaces from these.
        && route.nexthops.is_empty()
    {
        new = new.output_interface(link(interface)?);
    }
    if !route.nexthops.is_empty() {
        let family = match route.family {
            Family::V4 => AddressFamily::Inet,
            Family::V6 => AddressFamily::Inet6,
        };
        let hops = route.nexthops.iter().map(|hop| next_hop(op, family, hop));
        new = new.multipath(hops.collect::<Option<_>>()?);
    }
    if route.onlink {
        new = new.onlink();
    }
    if !add {
        return Some(new.build());
    }
    if let Some(source) = route.source {
        new = new.pref_source(source).ok()?;
    }
    if let Some(realms) = route.realms {
        new = new.realm(realm(realms));
    }
    if let Some(seconds) = route.expires {
        new = new.expires(seconds);
    }
    if let Some(on) = route.ttl_propagate {
        new = new.ttl_propagate(on);
    }
    let attributes = &mut new.get_mut().attributes;
    if let Some(preference) = route.preference {
        attributes.push(RouteAttribute::Preference(preference.into()));
    }
    let metrics = metrics(route);
    if !metrics.is_empty() {
        attributes.push(RouteAttribute::Metrics(metrics));
    }
    if let Some(tunnel) = &route.encap {
        attributes.extend(encap(tunnel));
    }
    Some(new.build())
}

fn next_hop(op: &Op, family: AddressFamily, hop: &NextHop) -> Option<RouteNextHop> {
    let mut new = RouteNextHopBuilder::new(family);
    if let Some(interface) = &hop.interface {
        new = new.interface(op.number(interface)?.0);
    }
    if let Some(gateway) = hop.gateway {
        new = new.via(gateway).ok()?;
    }
    if hop.onlink {
        new = new.flags(RouteNextHopFlags::Onlink);
    }
    let mut new = new.build();
    // On the wire it counts from 0.
    new.hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
    new.attributes.extend(hop.realms.map(|realms| RouteAttribute::Realm(realm(realms))));
    new.attributes.extend(hop.encap.iter().flat_map(encap));
    Some(new)
}

pub(super) fn realm(realms: u32) -> RouteRealm {
    let [a, b, c, d] = realms.to_be_bytes();
    RouteRealm { source: u16::from_be_bytes([a, b]), destination: u16::from_be_bytes([c, d]) }
}

fn metrics(route: &Route) -> Vec<RouteMetric> {
    let mut all = Vec::new();
    let mut locked = 0;
    for metric in &route.metrics {
        if metric.locked {
            locked |= 1 << metric.kind as u32;
        }
        let new = match metric.kind {
            MetricKind::Mtu => RouteMetric::Mtu,
            MetricKind::Window => RouteMetric::Window,
            MetricKind::Rtt => RouteMetric::Rtt,
            MetricKind::RttVar => RouteMetric::RttVar,
            MetricKind::SsThresh => RouteMetric::SsThresh,
            MetricKind::Cwnd => RouteMetric::Cwnd,
            MetricKind::AdvMss => RouteMetric::Advmss,
            MetricKind::Reordering => RouteMetric::Reordering,
            MetricKind::HopLimit => RouteMetric::Hoplimit,
            MetricKind::InitCwnd => RouteMetric::InitCwnd,
            MetricKind::Features => RouteMetric::Features,
            MetricKind::RtoMin => RouteMetric::RtoMin,
            MetricKind::InitRwnd => RouteMetric::InitRwnd,
            MetricKind::QuickAck => RouteMetric::QuickAck,
            MetricKind::FastOpenNoCookie => RouteMetric::FastopenNoCookie,
        };
        all.push(new(metric.value));
    }
    if let Some((algorithm, lock)) = &route.congestion {
        // RTAX_CC_ALGO
        locked |= u32::from(*lock) << 16;
        all.push(RouteMetric::CcAlgo(algorithm.to_string()));
    }
    if locked != 0 {
        all.insert(0, RouteMetric::Lock(locked));
    }
    all
}

/// The attributes of a lightweight tunnel.
fn encap(tunnel: &Encap) -> [RouteAttribute; 2] {
    let (kind, content): (_, Vec<RouteLwTunnelEncap>) = match tunnel {
        Encap::Ip { id, destination, source, tos, ttl, flags } => {
            let all = [
                id.map(RouteIpTunnel::Id),
                destination.map(RouteIpTunnel::Destination),
                source.map(RouteIpTunnel::Source),
                tos.map(RouteIpTunnel::Tos),
                ttl.map(RouteIpTunnel::Ttl),
                flags.map(|f| RouteIpTunnel::Flags(RouteIpTunnelFlags::from_bits_retain(f))),
            ];
            let all = all.into_iter().flatten().map(RouteLwTunnelEncap::Ip);
            (RouteLwEnCapType::Ip, all.collect())
        }
        Encap::Ip6 { id, destination, source, class, hop_limit, flags } => {
            let all = [
                id.map(RouteIp6Tunnel::Id),
                destination.map(RouteIp6Tunnel::Destination),
                source.map(RouteIp6Tunnel::Source),
                class.map(RouteIp6Tunnel::Tc),
                hop_limit.map(RouteIp6Tunnel::Hoplimit),
                flags.map(|f| RouteIp6Tunnel::Flags(RouteIp6TunnelFlags::from_bits_retain(f))),
            ];
            let all = all.into_iter().flatten().map(RouteLwTunnelEncap::Ip6);
            (RouteLwEnCapType::Ip6, all.collect())
        }
        Encap::Mpls(labels) => {
            let last = labels.len().saturating_sub(1);
            let labels = labels.iter().enumerate().map(|(position, label)| {
                let bottom_of_stack = position == last;
                MplsLabel { label: *label, traffic_class: 0, bottom_of_stack, ttl: 0 }
            });
            let stack = RouteMplsIpTunnel::Destination(labels.collect());
            (RouteLwEnCapType::Mpls, vec![RouteLwTunnelEncap::Mpls(stack)])
        }
        Encap::Ila(locator) => {
            // ILA_ATTR_LOCATOR
            let locator = DefaultNla::new(1, locator.to_be_bytes().to_vec());
            (RouteLwEnCapType::Ila, vec![RouteLwTunnelEncap::Other(locator)])
        }
    };
    [RouteAttribute::EncapType(kind), RouteAttribute::Encap(content)]
}

/// The routes of a message with our mark; others only if they may have replaced one of them. The kernel reports the
/// nexthops of an IPv6 route in one message, although each is a separate route.
pub(in crate::kernel) fn sights(message: &Message<'_>) -> Vec<(Sight, ChangeKind)> {
    sights_of(message).unwrap_or_default()
}

fn sights_of(message: &Message<'_>) -> Option<Vec<(Sight, ChangeKind)>> {
    let [family, to_length, from_length, tos, table, protocol, scope, kind, a, b, c, d, ..] =
        *message.body
    else {
        return None;
    };
    let replaces = message.kind == NEW && message.flags & NLM_F_REPLACE != 0;
    let flags = u32::from_ne_bytes([a, b, c, d]);
    if (protocol != PROTOCOL_MARK && !replaces) || flags & CLONED != 0 {
        return None;
    }
    let zero = match i32::from(family) {
        libc::AF_INET => IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED),
        libc::AF_INET6 => IpAddr::V6(core::net::Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let (mut to, mut from, mut table, mut metric) = (zero, zero, u32::from(table), 0);
    let mut ways = vec![Way { onlink: flags & ONLINK != 0, ..Way::default() }];
    let mut rest = RouteAttributes { kind, ..RouteAttributes::default() };
    for (kind, value) in attributes(message.body.get(12..)?) {
        match kind {
            RTA_DST => to = super::ip(family, value)?,
            RTA_SRC => from = super::ip(family, value)?,
            RTA_TABLE => table = number(value)?,
            RTA_PRIORITY => metric = number(value)?,
            RTA_PREFSRC => rest.source = super::ip(family, value),
            RTA_METRICS => rest.metrics = told(value),
            RTA_FLOW => rest.realms = number(value),
            RTA_PREF => rest.preference = value.first().copied().unwrap_or(0),
            RTA_MULTIPATH => ways = multipath(family, value),
            kind => ways.iter_mut().for_each(|way| way.take(family, kind, value)),
        }
    }
    let slot =
        Slot::new(Prefix::new(to, to_length)?, Prefix::new(from, from_length), table, tos, metric);
    let change = match message.kind {
        DELETE => ChangeKind::Gone,
        _ if replaces => ChangeKind::Replaces,
        _ => ChangeKind::Present,
    };
    match slot.family {
        Family::V4 => {
            rest.scope = scope;
            if let [_, _, ..] = *ways {
                rest.weights = ways.iter().map(|way| way.weight).collect();
            }
        }
        Family::V6 => rest.realms = None,
    }
    let sight = |ways: &[Way]| {
        let path = if leads_nowhere(kind) {
            Vec::new()
        } else {
            ways.iter().filter_map(|way| Hop::new(way.gateway, way.link)).collect()
        };
        let links = ways.iter().filter_map(|way| way.link).collect();
        let identity = Identity::Route(Box::new(RouteIdentity { slot, vrf: None, path }));
        let attributes = Some(Box::new(Attributes::Route(RouteAttributes {
            onlink: matches!(ways, [way] if way.onlink),
            ..rest.clone()
        })));
        (Sight { identity, links, attributes }, change)
    };
    Some(match slot.family {
        Family::V4 => vec![sight(&ways)],
        Family::V6 => ways.chunks(1).map(sight).collect(),
    })
}

/// The metrics of a route in the order of their numbers.
fn told(value: &[u8]) -> Vec<route::RouteMetric> {
    let all: Vec<(u16, u32)> =
        attributes(value).filter_map(|(kind, value)| Some((kind, number(value)?))).collect();
    let locked = all.iter().find(|(kind, _)| *kind == LOCK).map_or(0, |(_, bits)| *bits);
    let mut metrics: Vec<_> = all
        .into_iter()
        .filter_map(|(number, value)| {
            let kind = MetricKind::from_number(number)?;
            Some(route::RouteMetric { kind, value, locked: locked & 1 << number != 0 })
        })
        .collect();
    metrics.sort_by_key(|metric| metric.kind);
    metrics
}

#[derive(Clone, Copy, Default)]
struct Way {
    gateway: Option<IpAddr>,
    link: Option<IfIndex>,
    weight: u16,
    onlink: bool,
}

impl Way {
    fn take(&mut self, family: u8, kind: u16, value: &[u8]) {
        match kind {
            RTA_OIF => self.link = number(value).map(IfIndex),
            RTA_GATEWAY => self.gateway = super::ip(family, value),
            RTA_VIA => {
                let [a, b, address @ ..] = value else { return };
                let family = u16::from_ne_bytes([*a, *b]);
                self.gateway = u8::try_from(family).ok().and_then(|f| super::ip(f, address));
            }
            _ => {}
        }
    }
}

/// The nexthops in an `RTA_MULTIPATH`: length, flags, weight and interface of each, then its attributes.
fn multipath(family: u8, mut value: &[u8]) -> Vec<Way> {
    let mut ways = Vec::new();
    while let [a, b, flags, hops, c, d, e, f, ..] = *value {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let Some(rest) = value.get(8..length) else { break };
        let link = IfIndex(u32::from_ne_bytes([c, d, e, f]));
        // On the wire it counts from 0.
        let weight = u16::from(hops) + 1;
        let onlink = u32::from(flags) & ONLINK != 0;
        let mut way = Way { gateway: None, link: Some(link), weight, onlink };
        for (kind, value) in attributes(rest) {
            way.take(family, kind, value);
        }
        ways.push(way);
        value = value.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    ways
}
