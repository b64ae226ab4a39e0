//! Routes and rules, each as one line.

use core::net::IpAddr;
use std::fmt::Write as _;

use super::words::prefix;
use crate::base::IfName;
use crate::model::route::{Encap, MetricKind, NextHop, Route, RouteMode, Rule, RuleAction};

/// The types of routes by number, from 1.
const KINDS: [&str; 10] = [
    "unicast",
    "local",
    "broadcast",
    "anycast",
    "multicast",
    "blackhole",
    "unreachable",
    "prohibit",
    "throw",
    "nat",
];
/// `main`, which needs no mention.
const MAIN: u32 = 254;
/// The scope that needs no mention.
const UNIVERSE: u8 = 0;

/// A line that is being written, a word at a time.
struct Line(String);

impl Line {
    fn put(&mut self, text: core::fmt::Arguments<'_>) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        // Writing to a string cannot fail.
        let _ = self.0.write_fmt(text);
    }

    /// A word and a value, if there is one.
    fn some(&mut self, word: &str, value: Option<impl core::fmt::Display>) {
        if let Some(value) = value {
            self.put(format_args!("{word} {value}"));
        }
    }

    fn when(&mut self, given: bool, word: &str) {
        if given {
            self.put(format_args!("{word}"));
        }
    }
}

/// A route as one line.
pub fn route(route: &Route) -> String {
    let mut line = Line(String::new());
    line.put(format_args!(
        "{}",
        match route.mode {
            // Types without a next hop are always added.
            RouteMode::Add => "add",
            RouteMode::Prepend if matches!(route.kind, 6..=9) => "add",
            RouteMode::Prepend => "prepend",
            RouteMode::Append => "append",
        }
    ));
    if route.kind != 1 {
        match KINDS.get(usize::from(route.kind).wrapping_sub(1)) {
            Some(kind) => line.put(format_args!("{kind}")),
            None => line.put(format_args!("{}", route.kind)),
        }
    }
    line.put(format_args!("{}", prefix(&route.destination)));
    line.some("from", route.from.as_ref().map(prefix));
    line.some("tos", (route.tos != 0).then_some(route.tos));
    line.some("src", route.source);
    hop(&mut line, route.encap.as_ref(), route.gateway, route.interface.as_ref());
    line.when(route.onlink, "onlink");
    line.some("table", (route.table != MAIN).then_some(route.table));
    line.some("proto", (route.protocol != 0).then_some(route.protocol));
    line.some("scope", (route.scope != UNIVERSE).then_some(route.scope));
    line.some("metric", route.metric);
    line.some(
        "congctl",
        route
            .congestion
            .as_ref()
            .map(|(name, locked)| if *locked { format!("lock {name}") } else { name.to_string() }),
    );
    line.some("realms", route.realms.map(realms));
    let mut metrics: Vec<_> = route.metrics.iter().collect();
    metrics.sort_by_key(|metric| place(metric.kind));
    for metric in metrics {
        let lock = if metric.locked { "lock " } else { "" };
        let value = metric.value;
        match metric.kind {
            MetricKind::Rtt => line.put(format_args!("rtt {lock}{}ms", value / 8)),
            MetricKind::RttVar => line.put(format_args!("rttvar {lock}{}ms", value / 4)),
            MetricKind::RtoMin => line.put(format_args!("rto_min {lock}{value}ms")),
            MetricKind::Features if value == 1 => line.put(format_args!("features {lock}ecn")),
            kind => line.put(format_args!("{} {lock}{value}", name(kind))),
        }
    }
    line.some("pref", route.preference.map(preference));
    line.some(
        "ttl-propagate",
        route.ttl_propagate.map(|on| if on { "enabled" } else { "disabled" }),
    );
    if let Some(expires) = route.expires {
        line.put(format_args!("expires {expires}sec"));
    }
    route.nexthops.iter().for_each(|one| next_hop(&mut line, one));
    line.some("vrf", route.vrf.as_ref());
    // Only one with an interface is tracked.
    line.when(route.no_track || route.interface.is_none(), "no_track");
    line.0
}

/// Where a metric stands: those that have a form of their own come first.
const fn place(kind: MetricKind) -> u8 {
    match kind {
        MetricKind::Rtt => 0,
        MetricKind::RttVar => 1,
        MetricKind::RtoMin => 2,
        MetricKind::Features => 3,
        other => 16 + other as u8,
    }
}

fn hop(
    line: &mut Line,
    encap: Option<&Encap>,
    gateway: Option<IpAddr>,
    interface: Option<&IfName>,
) {
    if let Some(encap) = encap {
        encapsulation(line, encap);
    }
    match gateway {
        Some(IpAddr::V4(gateway)) => line.put(format_args!("via inet {gateway}")),
        Some(IpAddr::V6(gateway)) => line.put(format_args!("via inet6 {gateway}")),
        None => {}
    }
    line.some("dev", interface);
}

fn next_hop(line: &mut Line, one: &NextHop) {
    line.put(format_args!("nexthop"));
    hop(line, one.encap.as_ref(), one.gateway, one.interface.as_ref());
    line.put(format_args!("weight {}", one.weight));
    line.when(one.onlink, "onlink");
    line.some("realms", one.realms.map(realms));
}

fn encapsulation(line: &mut Line, encap: &Encap) {
    match encap {
        Encap::Ip { id, destination, source, tos, ttl, flags } => {
            line.put(format_args!("encap ip"));
            line.some("id", *id);
            line.some("dst", *destination);
            line.some("src", *source);
            line.some("tos", *tos);
            line.some("ttl", *ttl);
            line.some("flags", flags.map(|flags| format!("0x{flags:x}")));
        }
        Encap::Ip6 { id, destination, source, class, hop_limit, flags } => {
            line.put(format_args!("encap ip6"));
            line.some("id", *id);
            line.some("dst", *destination);
            line.some("src", *source);
            line.some("tc", *class);
            line.some("hoplimit", *hop_limit);
            line.some("flags", flags.map(|flags| format!("0x{flags:x}")));
        }
        Encap::Mpls(labels) => {
            let labels: Vec<String> = labels.iter().map(u32::to_string).collect();
            line.put(format_args!("encap mpls {}", labels.join("/")));
        }
        Encap::Ila(locator) => {
            let [a, b, c, d, e, f, g, h] = locator.to_be_bytes().map(u16::from);
            let groups = [a << 8 | b, c << 8 | d, e << 8 | f, g << 8 | h];
            let groups: Vec<String> = groups.iter().map(|group| format!("{group:x}")).collect();
            line.put(format_args!("encap ila {}", groups.join(":")));
        }
    }
}

/// `FROM/TO`, or `TO` alone.
fn realms(realms: u32) -> String {
    match (realms >> 16, realms & 0xffff) {
        (0, to) => to.to_string(),
        (from, to) => format!("{from}/{to}"),
    }
}

fn preference(number: u8) -> String {
    match number {
        0 => "medium".into(),
        1 => "high".into(),
        3 => "low".into(),
        other => other.to_string(),
    }
}

const fn name(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Mtu => "mtu",
        MetricKind::Window => "window",
        MetricKind::Rtt => "rtt",
        MetricKind::RttVar => "rttvar",
        MetricKind::SsThresh => "ssthresh",
        MetricKind::Cwnd => "cwnd",
        MetricKind::AdvMss => "advmss",
        MetricKind::Reordering => "reordering",
        MetricKind::HopLimit => "hoplimit",
        MetricKind::InitCwnd => "initcwnd",
        MetricKind::Features => "features",
        MetricKind::RtoMin => "rto_min",
        MetricKind::InitRwnd => "initrwnd",
        MetricKind::QuickAck => "quickack",
        MetricKind::FastOpenNoCookie => "fastopen_no_cookie",
    }
}

/// A rule as one line.
pub fn rule(rule: &Rule) -> String {
    let mut line = Line(String::new());
    line.when(rule.invert, "not");
    line.put(format_args!("from {}", rule.from.as_ref().map_or_else(|| "all".into(), prefix)));
    line.some("to", rule.to.as_ref().map(prefix));
    line.put(format_args!("priority {}", rule.preference));
    line.put(format_args!("tos 0x{:x}", rule.tos.unwrap_or(0)));
    if let Some((mark, mask)) = rule.mark {
        match mask {
            u32::MAX => line.put(format_args!("fwmark 0x{mark:x}")),
            mask => line.put(format_args!("fwmark 0x{mark:x}/0x{mask:x}")),
        }
    }
    line.some("iif", rule.input.as_ref());
    line.some("oif", rule.output.as_ref());
    if let RuleAction::Table { suppress_length, suppress_group, .. } = &rule.action {
        line.some("suppress_prefixlen", *suppress_length);
        line.some("suppress_ifgroup", *suppress_group);
    }
    line.some("tunnel-id", rule.tunnel);
    line.some("uidrange", rule.users.map(|(first, last)| format!("{first}-{last}")));
    line.when(rule.action == RuleAction::MasterDevice, "l3mdev");
    line.some("protocol", (rule.protocol != 0).then_some(rule.protocol));
    line.some("ipproto", rule.ip_protocol);
    line.some("sport", rule.source_ports.map(|(first, last)| format!("{first}-{last}")));
    line.some("dport", rule.destination_ports.map(|(first, last)| format!("{first}-{last}")));
    match &rule.action {
        RuleAction::Table { table, realms: of, .. } => {
            line.some("realms", of.map(realms));
            line.put(format_args!("lookup {table}"));
        }
        RuleAction::MasterDevice => line.put(format_args!("lookup 0")),
        RuleAction::Goto(target) => line.put(format_args!("goto {target}")),
        RuleAction::Nop => line.put(format_args!("nop")),
        RuleAction::Blackhole => line.put(format_args!("type blackhole")),
        RuleAction::Unreachable => line.put(format_args!("type unreachable")),
        RuleAction::Prohibit => line.put(format_args!("type prohibit")),
    }
    line.when(rule.no_track, "no_track");
    line.0
}
