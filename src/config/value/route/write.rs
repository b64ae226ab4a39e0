//! Routes as words, for dumps and conversion.

use core::net::IpAddr;

use super::{KEEPALIVED, METRICS, TIMES, TYPES};
use crate::base::Family;
use crate::config::schema::Words;
use crate::model::route::{Encap, Route, RouteMode};

/// Writes a route without its next hops.
pub(super) fn write(route: &Route, out: &mut Words) {
    let destination = route.destination;
    let default = route.family == Family::V4
        && destination.length() == 0
        && destination.address.is_unspecified();
    if let Some((name, _)) = TYPES.iter().find(|t| t.1 == route.kind && t.1 != 1) {
        out.push(name);
    }
    if default {
        out.push("default");
    } else {
        out.show(destination);
    }
    let mut pair = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            out.push(name);
            out.push(value);
        }
    };
    let show_realms = |r: u32| match r >> 16 {
        0 => r.to_string(),
        from => format!("{from}/{}", r & 0xffff),
    };
    pair("from", route.from.map(|p| p.to_string()));
    pair("src", route.source.map(|a| a.to_string()));
    write_via(route.gateway, route.family, out);
    let mut pair = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            out.push(name);
            out.push(value);
        }
    };
    pair("dev", route.interface.as_ref().map(ToString::to_string));
    pair("table", (route.table != 254).then(|| route.table.to_string()));
    pair("tos", (route.tos != 0).then(|| route.tos.to_string()));
    pair("scope", (route.scope != 0).then(|| route.scope.to_string()));
    pair("protocol", (route.protocol != KEEPALIVED).then(|| route.protocol.to_string()));
    pair("metric", route.metric.map(|n| n.to_string()));
    pair("expires", route.expires.map(|n| n.to_string()));
    pair("realms", route.realms.map(show_realms));
    pair("pref", route.preference.map(|n| n.to_string()));
    pair(
        "ttl-propagate",
        route.ttl_propagate.map(|on| if on { "enabled".into() } else { "disabled".into() }),
    );
    pair("vrf", route.vrf.as_ref().map(ToString::to_string));
    for metric in &route.metrics {
        let name = METRICS.iter().find(|m| m.1 == metric.kind).map(|m| m.0);
        let name = name.or(TIMES.iter().find(|m| m.1 == metric.kind).map(|m| m.0));
        out.push(name.unwrap_or("features"));
        if metric.locked {
            out.push("lock");
        }
        match name {
            Some(_) => out.show(metric.value),
            None => out.push("ecn"),
        }
    }
    if let Some((name, locked)) = &route.congestion {
        out.push("congctl");
        if *locked {
            out.push("lock");
        }
        out.push(name.as_bytes());
    }
    if let Some(encap) = &route.encap {
        write_encap(encap, out);
    }
    for (name, on) in [
        ("onlink", route.onlink),
        ("add", route.mode == RouteMode::Add),
        ("append", route.mode == RouteMode::Append),
        ("no_track", route.no_track),
    ] {
        if on {
            out.push(name);
        }
    }
}

/// The family is written if it differs from that of the route.
fn write_via(gateway: Option<IpAddr>, family: Family, out: &mut Words) {
    let Some(gateway) = gateway else { return };
    out.push("via");
    if Family::of(&gateway) != family {
        out.push(if gateway.is_ipv4() { "inet" } else { "inet6" });
    }
    out.show(gateway);
}

pub(super) fn write_hops(route: &Route, out: &mut Words) {
    for hop in &route.nexthops {
        out.push("nexthop");
        write_via(hop.gateway, route.family, out);
        if let Some(interface) = &hop.interface {
            out.push("dev");
            out.push(interface.as_str());
        }
        if hop.weight != 1 {
            out.push("weight");
            out.show(hop.weight);
        }
        if hop.onlink {
            out.push("onlink");
        }
        if let Some(encap) = &hop.encap {
            write_encap(encap, out);
        }
        if let Some(realms) = hop.realms {
            out.push("realms");
            out.push(match realms >> 16 {
                0 => realms.to_string(),
                from => format!("{from}/{}", realms & 0xffff),
            });
        }
    }
}

fn write_encap(encap: &Encap, out: &mut Words) {
    out.push("encap");
    let mut parts: Vec<(&str, Option<String>)> = Vec::new();
    let show = |n: Option<u8>| n.map(|n| n.to_string());
    match encap {
        Encap::Ip { id, destination, source, tos, ttl, flags } => {
            out.push("ip");
            parts.push(("id", id.map(|n| n.to_string())));
            parts.push(("dst", destination.map(|a| a.to_string())));
            parts.push(("src", source.map(|a| a.to_string())));
            parts.push(("tos", show(*tos)));
            parts.push(("ttl", show(*ttl)));
            parts.push(("flags", flags.map(|n| n.to_string())));
        }
        Encap::Ip6 { id, destination, source, class, hop_limit, flags } => {
            out.push("ip6");
            parts.push(("id", id.map(|n| n.to_string())));
            parts.push(("dst", destination.map(|a| a.to_string())));
            parts.push(("src", source.map(|a| a.to_string())));
            parts.push(("tc", show(*class)));
            parts.push(("hoplimit", show(*hop_limit)));
            parts.push(("flags", flags.map(|n| n.to_string())));
        }
        Encap::Mpls(labels) => {
            out.push("mpls");
            let labels: Vec<String> = labels.iter().map(u32::to_string).collect();
            out.push(labels.join("/"));
        }
        Encap::Ila(locator) => {
            out.push("ila");
            let group = |shift: u32| format!("{:x}", (locator >> shift) & 0xffff);
            out.push([group(48), group(32), group(16), group(0)].join(":"));
        }
    }
    for (name, value) in parts {
        if let Some(value) = value {
            out.push(name);
            out.push(value);
        }
    }
}
