//! Lines of `virtual_routes` and `static_routes`, in the words of `ip route`.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::entry::{number_or_name, value};
use super::number::{decimal, integer};
use super::text::{decode, interface};
use crate::base::{Family, IfName, Name, Prefix};
use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::Diagnostic;
use crate::config::schema::{Args, Shape, Value, Words};
use crate::config::words::Word;
use crate::model::route::{Encap, MetricKind, NextHop, Route, RouteMetric, RouteMode};

/// A route with the group that tracks its interface.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RouteEntry {
    pub route: Route,
    pub track_group: Option<Name>,
}

const FORM: &str = "[inet|inet6] [TYPE] [to] PREFIX|default [via ADDRESS] [dev IFNAME] [src ADDRESS] [from PREFIX] \
    [tos TOS] [table TABLE] [protocol PROTO] [scope SCOPE] [metric NUMBER] [onlink] [expires SECONDS] [mtu [lock] N] \
    [advmss [lock] N] [hoplimit N] [rtt [lock] TIME] [rttvar [lock] TIME] [rto_min [lock] TIME] [reordering [lock] N] \
    [window N] [cwnd [lock] N] [ssthresh [lock] N] [initcwnd N] [initrwnd N] [features ecn] [quickack 0|1] \
    [fastopen_no_cookie 0|1] [congctl [lock] NAME] [realms [FROM/]TO] [pref low|medium|high|N] \
    [ttl-propagate enabled|disabled] [encap ip|ip6|mpls|ila OPTIONS] [add|prepend|append] [vrf IFNAME] [no_track] \
    [track_group NAME] [nexthop [via ADDRESS] [dev IFNAME] [weight N] [onlink] [encap ...] [realms ...]]...";

const TYPES: &[(&str, u8)] = &[
    ("unicast", 1),
    ("local", 2),
    ("broadcast", 3),
    ("anycast", 4),
    ("multicast", 5),
    ("blackhole", 6),
    ("unreachable", 7),
    ("prohibit", 8),
    ("throw", 9),
    ("nat", 10),
];

/// Word, kernel's number, whether `lock` is possible, largest value.
const METRICS: &[(&str, MetricKind, bool, i64)] = &[
    ("mtu", MetricKind::Mtu, true, U32),
    ("window", MetricKind::Window, false, U32),
    ("ssthresh", MetricKind::SsThresh, true, U32),
    ("cwnd", MetricKind::Cwnd, true, U32),
    ("advmss", MetricKind::AdvMss, true, U32),
    ("reordering", MetricKind::Reordering, true, U32),
    ("hoplimit", MetricKind::HopLimit, false, 255),
    ("initcwnd", MetricKind::InitCwnd, false, U32),
    ("initrwnd", MetricKind::InitRwnd, false, U32),
    ("quickack", MetricKind::QuickAck, false, 1),
    ("fastopen_no_cookie", MetricKind::FastOpenNoCookie, false, 1),
];

/// Word, kernel's number, units in a millisecond.
const TIMES: &[(&str, MetricKind, u64)] = &[
    ("rtt", MetricKind::Rtt, 8),
    ("rttvar", MetricKind::RttVar, 4),
    ("rto_min", MetricKind::RtoMin, 1),
];

const U32: i64 = u32::MAX as i64;
/// The number of `keepalived` in rt_protos.
const KEEPALIVED: u8 = 18;

/// A route as far as it was read.
struct Draft {
    family: Option<Family>,
    destination: Option<Option<Prefix>>,
    route: Route,
    protocol: Option<(u8, crate::config::span::Span)>,
    second: Option<IpAddr>,
    track_group: Option<Name>,
}

impl Value for RouteEntry {
    fn shape() -> Shape {
        Shape::Words(FORM.into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let mut draft = Draft {
            family: None,
            destination: None,
            route: empty(),
            protocol: None,
            second: None,
            track_group: None,
        };
        let whole = args.statement.span();
        while let Some(word) = args.next() {
            if option(&mut draft, &word, args, cx).is_none() {
                args.finish();
                return None;
            }
        }
        finish(draft, whole, cx)
    }

    fn words(&self, out: &mut Words) {
        write(&self.route, out);
        if let Some(group) = &self.track_group {
            out.push("track_group");
            out.push(group.as_str());
        }
        write_hops(&self.route, out);
    }
}

fn empty() -> Route {
    Route {
        family: Family::V4,
        kind: 1,
        destination: Prefix::host(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        from: None,
        source: None,
        gateway: None,
        interface: None,
        table: 254,
        tos: 0,
        scope: 0,
        protocol: KEEPALIVED,
        metric: None,
        onlink: false,
        encap: None,
        expires: None,
        metrics: Vec::new(),
        congestion: None,
        realms: None,
        preference: None,
        ttl_propagate: None,
        mode: RouteMode::default(),
        nexthops: Vec::new(),
        vrf: None,
        no_track: false,
    }
}

fn dropped(text: String, at: &Word<'_>, cx: &mut Cx<'_>) {
    let message = format!("{text}, the route is left out");
    cx.report(Diagnostic::error(&codes::VALUE, message).at(at.span()));
}

/// The value of an option; a missing one ends keepalived.
fn need<'a>(args: &mut Args<'a>, cx: &mut Cx<'_>) -> Option<Word<'a>> {
    args.need_or_end(cx)
}

/// Carries out one word of a route. None: the route is left out, which was reported.
fn option(draft: &mut Draft, word: &Word<'_>, args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<()> {
    let route = &mut draft.route;
    match word.bytes {
        b"inet" => family(&mut draft.family, Family::V4, word, cx)?,
        b"inet6" => family(&mut draft.family, Family::V6, word, cx)?,
        b"to" => {
            let word = need(args, cx)?;
            destination(draft, &word, args, cx)?;
        }
        b"src" => {
            let word = need(args, cx)?;
            route.source = Some(address(&mut draft.family, &word, cx)?);
        }
        b"via" | b"gw" => {
            if word.bytes == b"gw" {
                let message = "'gw' of a route is deprecated, use 'via'";
                let new = Diagnostic::warning(&codes::DEPRECATED, message).at(word.span());
                cx.report(new.replacement("via"));
            }
            route.gateway = Some(gateway(&mut draft.family, args, cx)?);
        }
        b"or" => {
            let message = "'or' of a route is deprecated, use 'nexthop'";
            cx.report(Diagnostic::warning(&codes::DEPRECATED, message).at(word.span()));
            let word = need(args, cx)?;
            let gateway = address(&mut draft.family, &word, cx)?;
            if draft.second.is_some() {
                let message = "a route has at most two gateways with 'or', this one is ignored";
                cx.report(Diagnostic::error(&codes::SET_TWICE, message).at(word.span()));
            } else {
                draft.second = Some(gateway);
            }
        }
        b"as" => {
            let message = "'as' of a route is for MPLS only, ignored";
            cx.report(Diagnostic::error(&codes::OPTION, message).at(word.span()));
            if args.peek().is_some_and(|w| w.bytes == b"to") {
                args.next();
            }
            need(args, cx)?;
        }
        b"from" => {
            let word = need(args, cx)?;
            let prefix = super::address::prefix(&word, cx)?;
            if prefix.family() == Family::V4 {
                dropped("'from' of a route is for IPv6 only".into(), &word, cx);
                return None;
            }
            family(&mut draft.family, Family::V6, &word, cx)?;
            route.from = Some(prefix);
        }
        b"tos" | b"dsfield" => {
            route.tos = small(&need(args, cx)?, "rt_dsfield", cx)?;
        }
        b"table" => {
            route.table = number_or_name(&need(args, cx)?, "rt_tables", u32::MAX, cx)?;
        }
        b"protocol" => {
            let word = need(args, cx)?;
            draft.protocol = Some((small(&word, "rt_protos", cx)?, word.span()));
        }
        b"scope" => route.scope = small(&need(args, cx)?, "rt_scopes", cx)?,
        b"metric" | b"priority" | b"preference" => {
            route.metric = u32::try_from(integer(&need(args, cx)?, 0, U32, false, cx)?).ok();
        }
        b"dev" | b"oif" => route.interface = Some(device(args, cx)?),
        b"onlink" => route.onlink = true,
        b"encap" => route.encap = encap(word, args, cx),
        b"expires" => {
            let word = need(args, cx)?;
            let seconds = integer(&word, 0, U32, false, cx)?;
            family(&mut draft.family, Family::V6, &word, cx)?;
            route.expires = u32::try_from(seconds).ok();
        }
        b"features" => {
            let word = need(args, cx)?;
            if word.bytes == b"ecn" {
                set(route, MetricKind::Features, 1, false);
            } else {
                super::text::report_choice(&word, &["ecn"], cx);
            }
        }
        b"congctl" => {
            let locked = lock(args);
            route.congestion = Some((decode(need(args, cx)?.bytes), locked));
        }
        b"realms" => {
            let word = need(args, cx)?;
            family(&mut draft.family, Family::V4, &word, cx)?;
            route.realms = Some(realms(&word, cx)?);
        }
        b"pref" => {
            let word = need(args, cx)?;
            family(&mut draft.family, Family::V6, &word, cx)?;
            route.preference = Some(match word.bytes {
                b"low" => 3,
                b"medium" => 0,
                b"high" => 1,
                _ => u8::try_from(integer(&word, 0, 255, false, cx)?).ok()?,
            });
        }
        b"ttl-propagate" => {
            let word = need(args, cx)?;
            match word.bytes {
                b"enabled" => route.ttl_propagate = Some(true),
                b"disabled" => route.ttl_propagate = Some(false),
                _ => super::text::report_choice(&word, &["enabled", "disabled"], cx),
            }
        }
        b"add" => route.mode = RouteMode::Add,
        b"prepend" => route.mode = RouteMode::Prepend,
        b"append" => route.mode = RouteMode::Append,
        b"no_track" => route.no_track = true,
        b"track_group" => {
            draft.track_group = Some(Name::from(decode(need(args, cx)?.bytes)));
        }
        b"vrf" => route.vrf = Some(device(args, cx)?),
        b"nexthop" => hops(draft, args, cx),
        other => {
            if metric(route, other, args, cx)? {
                return Some(());
            }
            destination(draft, word, args, cx)?;
        }
    }
    Some(())
}

/// `mtu`, `rtt` and their like. False if the word is none of them.
fn metric(route: &mut Route, word: &[u8], args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<bool> {
    if let Some((_, kind, lockable, max)) = METRICS.iter().find(|m| m.0.as_bytes() == word) {
        let locked = *lockable && lock(args);
        let number = integer(&need(args, cx)?, 0, *max, false, cx)?;
        set(route, *kind, u32::try_from(number).unwrap_or(0), locked);
        return Some(true);
    }
    if let Some((name, kind, units)) = TIMES.iter().find(|m| m.0.as_bytes() == word) {
        let locked = lock(args);
        let word = need(args, cx)?;
        let Some(value) = round_trip(&word, *units) else {
            dropped(format!("invalid {name} '{}'", word.text()), &word, cx);
            return None;
        };
        set(route, *kind, value, locked);
        return Some(true);
    }
    Some(false)
}

/// A time of a metric: in units of the kernel, or with the suffix s, sec, secs or ms.
fn round_trip(word: &Word<'_>, units: u64) -> Option<u32> {
    let text = word.str()?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let value = match text.get(digits.len()..)? {
        "" => text.parse::<u64>().ok()?,
        "ms" => digits.parse::<u64>().ok()?.checked_mul(units)?,
        "s" | "sec" | "secs" => decimal(digits.as_bytes(), 3)?.value.checked_mul(units)?,
        _ => return None,
    };
    u32::try_from(value).ok()
}

fn lock(args: &mut Args<'_>) -> bool {
    let locked = args.peek().is_some_and(|w| w.bytes == b"lock");
    if locked {
        args.next();
    }
    locked
}

fn set(route: &mut Route, kind: MetricKind, value: u32, locked: bool) {
    route.metrics.retain(|m| m.kind != kind);
    route.metrics.push(RouteMetric { kind, value, locked });
    route.metrics.sort_by_key(|m| m.kind);
}

/// Settles the family, or reports that it is another one.
fn family(
    known: &mut Option<Family>,
    wanted: Family,
    at: &Word<'_>,
    cx: &mut Cx<'_>,
) -> Option<()> {
    match known {
        Some(known) if *known != wanted => {
            let message = format!(
                "'{}' is for {wanted}, and the line is for {known}: it is left out",
                at.text()
            );
            cx.report(Diagnostic::error(&codes::FAMILY, message).at(at.span()));
            None
        }
        _ => {
            *known = Some(wanted);
            Some(())
        }
    }
}

fn address(known: &mut Option<Family>, word: &Word<'_>, cx: &mut Cx<'_>) -> Option<IpAddr> {
    let address = super::address::ip(word, cx)?;
    family(known, Family::of(&address), word, cx)?;
    Some(address)
}

/// `[inet|inet6] ADDRESS` behind `via`. The family word is for gateways of another family than the route.
fn gateway(known: &mut Option<Family>, args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<IpAddr> {
    let word = need(args, cx)?;
    match word.bytes {
        b"inet" | b"inet6" => {
            let wanted = if word.bytes == b"inet" { Family::V4 } else { Family::V6 };
            let word = need(args, cx)?;
            super::address::ip_of(&word, Some(wanted), cx)
        }
        _ => address(known, &word, cx),
    }
}

fn device(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<IfName> {
    let word = need(args, cx)?;
    let name = interface(&word, cx)?;
    cx.check_interface(Some(&name), word.span(), "for a route");
    Some(name)
}

/// A number up to 255, or a name.
pub(super) fn small(word: &Word<'_>, table: &'static str, cx: &mut Cx<'_>) -> Option<u8> {
    number_or_name(word, table, 255, cx).and_then(|n| u8::try_from(n).ok())
}

/// `[FROM/]TO`
pub(super) fn realms(word: &Word<'_>, cx: &mut Cx<'_>) -> Option<u32> {
    let slash = memchr::memchr(b'/', word.bytes);
    let (from, to) = match slash {
        Some(at) => (Some(word.slice(0, at)), word.slice(at + 1, word.bytes.len())),
        None => (None, *word),
    };
    let to = number_or_name(&to, "rt_realms", 0xffff, cx)?;
    let from = match from {
        Some(from) => number_or_name(&from, "rt_realms", 0xffff, cx)?,
        None => 0,
    };
    Some(from << 16 | to)
}

fn destination(
    draft: &mut Draft,
    word: &Word<'_>,
    args: &mut Args<'_>,
    cx: &mut Cx<'_>,
) -> Option<()> {
    let mut word = *word;
    if let Some((_, kind)) = TYPES.iter().find(|t| t.0.as_bytes() == word.bytes) {
        draft.route.kind = *kind;
        word = need(args, cx)?;
    }
    match word.bytes {
        b"default" | b"any" | b"all" => draft.destination = Some(None),
        b"default6" => {
            let message = "'default6' is deprecated, use 'inet6 default'";
            cx.report(Diagnostic::warning(&codes::DEPRECATED, message).at(word.span()));
            family(&mut draft.family, Family::V6, &word, cx)?;
            draft.destination = Some(None);
        }
        _ => {
            let prefix = super::address::prefix(&word, cx)?;
            family(&mut draft.family, prefix.family(), &word, cx)?;
            draft.destination = Some(Some(prefix));
        }
    }
    Some(())
}

fn finish(draft: Draft, at: crate::config::span::Span, cx: &mut Cx<'_>) -> Option<RouteEntry> {
    let mut route = draft.route;
    let refuse = |text: &str, cx: &mut Cx<'_>| {
        cx.report(Diagnostic::error(&codes::INCOMPLETE, text).at(at));
        None
    };
    let Some(destination) = draft.destination else {
        return refuse("a route must have a destination, it is left out", cx);
    };
    route.family = draft.family.unwrap_or(Family::V4);
    route.destination = match destination {
        Some(prefix) => prefix,
        None => {
            let any = match route.family {
                Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            Prefix::new(any, 0)?
        }
    };
    if let Some(second) = draft.second {
        for gateway in route.gateway.take().into_iter().chain([second]) {
            route.nexthops.push(NextHop {
                gateway: Some(gateway),
                interface: route.interface.clone(),
                ..hop()
            });
        }
    }
    if let Some((protocol, at)) = draft.protocol {
        if protocol != KEEPALIVED && !route.no_track {
            let message = "a tracked route has the protocol of keepalived (18), which is used";
            let new = Diagnostic::warning(&codes::ADJUSTED, message).at(at);
            cx.report(new.help("say 'no_track' to keep the protocol"));
        } else {
            route.protocol = protocol;
        }
    }
    if route.interface.is_none() && !route.no_track {
        let message =
            format!("route {} names no interface, so it is not tracked", route.destination);
        let new = Diagnostic::warning(&codes::NO_EFFECT_HERE, message).at(at);
        cx.report(new.help("say 'dev IFNAME', or 'no_track'"));
        route.no_track = true;
    }
    let mut track_group = draft.track_group;
    if track_group.is_some() && route.interface.is_none() {
        let message = "'track_group' needs 'dev', ignored";
        cx.report(Diagnostic::error(&codes::CONFLICT, message).at(at));
        track_group = None;
    }
    Some(RouteEntry { route, track_group })
}

fn hop() -> NextHop {
    NextHop { gateway: None, interface: None, weight: 1, onlink: false, encap: None, realms: None }
}

/// `nexthop` parts up to the end of the line. What is wrong with one loses it and those after it.
fn hops(draft: &mut Draft, args: &mut Args<'_>, cx: &mut Cx<'_>) {
    let mut current = hop();
    while let Some(word) = args.next() {
        if word.bytes == b"nexthop" {
            draft.route.nexthops.push(core::mem::replace(&mut current, hop()));
            continue;
        }
        if hop_option(&mut current, &mut draft.family, &word, args, cx).is_none() {
            args.finish();
            return;
        }
    }
    draft.route.nexthops.push(current);
}

fn hop_option(
    hop: &mut NextHop,
    family: &mut Option<Family>,
    word: &Word<'_>,
    args: &mut Args<'_>,
    cx: &mut Cx<'_>,
) -> Option<()> {
    match word.bytes {
        b"via" => hop.gateway = Some(gateway(family, args, cx)?),
        b"dev" => hop.interface = Some(device(args, cx)?),
        b"weight" => {
            let number = integer(&need(args, cx)?, 1, 256, false, cx)?;
            hop.weight = u16::try_from(number).unwrap_or(1);
        }
        b"onlink" => hop.onlink = true,
        b"encap" => hop.encap = encap(word, args, cx),
        b"realms" => hop.realms = Some(realms(&need(args, cx)?, cx)?),
        _ => {
            const OPTIONS: &[&str] =
                &["via", "dev", "weight", "onlink", "encap", "realms", "nexthop"];
            super::entry::unknown_option(word, OPTIONS, "a next hop", cx);
            return None;
        }
    }
    Some(())
}

/// A tunnel with its options. None if it is malformed, which is reported.
fn encap(option: &Word<'_>, args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Encap> {
    const KINDS: &[&str] = &["ip", "ip6", "mpls", "ila"];
    let kind = value(option, args, cx)?;
    match kind.bytes {
        b"ip" => ip_tunnel(option, args, cx),
        b"ip6" => ip6_tunnel(option, args, cx),
        b"mpls" => {
            let word = value(option, args, cx)?;
            let labels: Option<Vec<u32>> = word
                .text()
                .split('/')
                .map(|l| any_base(l).and_then(|l| u32::try_from(l).ok()).filter(|l| *l < 1 << 20))
                .collect();
            if labels.is_none() {
                let message = format!("'{}' is no list of MPLS labels", word.text());
                cx.report(Diagnostic::error(&codes::VALUE, message).at(word.span()));
            }
            labels.map(Encap::Mpls)
        }
        b"ila" => {
            let word = value(option, args, cx)?;
            let text = word.text();
            let groups: Vec<Option<u64>> =
                text.split(':').map(|g| u16::from_str_radix(g, 16).ok().map(u64::from)).collect();
            match groups.as_slice() {
                [Some(a), Some(b), Some(c), Some(d)] => {
                    Some(Encap::Ila(a << 48 | b << 32 | c << 16 | d))
                }
                _ => {
                    let message = format!("'{text}' is no ILA locator of four groups");
                    cx.report(Diagnostic::error(&codes::VALUE, message).at(word.span()));
                    None
                }
            }
        }
        _ => {
            super::text::report_choice(&kind, KINDS, cx);
            None
        }
    }
}

fn ip_tunnel(option: &Word<'_>, args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Encap> {
    let (mut id, mut destination, mut source, mut tos, mut ttl, mut flags) =
        (None, None, None, None, None, None);
    while let Some(word) = args.peek() {
        match word.bytes {
            b"id" => id = Some(wide(option, args, cx)?),
            b"dst" => destination = Some(v4(option, args, cx)?),
            b"src" => source = Some(v4(option, args, cx)?),
            b"tos" => tos = Some(named_byte(option, args, cx)?),
            b"ttl" => ttl = Some(byte(option, args, cx)?),
            b"flags" => flags = Some(short(option, args, cx)?),
            _ => break,
        }
    }
    if id.is_none() && destination.is_none() {
        let message = "'encap ip' needs 'id' or 'dst'";
        cx.report(Diagnostic::error(&codes::INCOMPLETE, message).at(option.span()));
        return None;
    }
    Some(Encap::Ip { id, destination, source, tos, ttl, flags })
}

fn ip6_tunnel(option: &Word<'_>, args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Encap> {
    let (mut id, mut destination, mut source, mut class, mut hop_limit, mut flags) =
        (None, None, None, None, None, None);
    while let Some(word) = args.peek() {
        match word.bytes {
            b"id" => id = Some(wide(option, args, cx)?),
            b"dst" => destination = Some(v6(option, args, cx)?),
            b"src" => source = Some(v6(option, args, cx)?),
            b"tc" => class = Some(named_byte(option, args, cx)?),
            b"hoplimit" => hop_limit = Some(byte(option, args, cx)?),
            b"flags" => flags = Some(short(option, args, cx)?),
            _ => break,
        }
    }
    if id.is_none() && destination.is_none() {
        let message = "'encap ip6' needs 'id' or 'dst'";
        cx.report(Diagnostic::error(&codes::INCOMPLETE, message).at(option.span()));
        return None;
    }
    Some(Encap::Ip6 { id, destination, source, class, hop_limit, flags })
}

/// The value behind an option that was only looked at so far.
fn after<'a>(option: &Word<'_>, args: &mut Args<'a>, cx: &mut Cx<'_>) -> Option<Word<'a>> {
    args.next();
    value(option, args, cx)
}

fn wide(option: &Word<'_>, args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<u64> {
    let word = after(option, args, cx)?;
    let number = any_base(&word.text());
    if number.is_none() {
        let message = format!("invalid number '{}'", word.text());
        cx.report(Diagnostic::error(&codes::NUMBER, message).at(word.span()));
    }
    number
}

fn v4(option: &Word<'_>, args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Ipv4Addr> {
    let word = after(option, args, cx)?;
    match super::address::ip_of(&word, Some(Family::V4), cx)? {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn v6(option: &Word<'_>, args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Ipv6Addr> {
    let word = after(option, args, cx)?;
    match super::address::ip_of(&word, Some(Family::V6), cx)? {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    }
}

fn named_byte(option: &Word<'_>, args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<u8> {
    small(&after(option, args, cx)?, "rt_dsfield", cx)
}

fn byte(option: &Word<'_>, args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<u8> {
    u8::try_from(integer(&after(option, args, cx)?, 0, 255, false, cx)?).ok()
}

fn short(option: &Word<'_>, args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<u16> {
    u16::try_from(integer(&after(option, args, cx)?, 0, 65535, false, cx)?).ok()
}

/// A number in any base that C knows.
pub(super) fn any_base(text: &str) -> Option<u64> {
    if let Some(hex) = text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        u64::from_str_radix(hex, 16).ok()
    } else if text.len() > 1 && text.starts_with('0') {
        u64::from_str_radix(text, 8).ok()
    } else {
        text.parse().ok()
    }
}

/// Writes a route without its next hops.
fn write(route: &Route, out: &mut Words) {
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
    if let Some(gateway) = route.gateway {
        out.push("via");
        if Family::of(&gateway) != route.family {
            out.push(match gateway {
                IpAddr::V4(_) => "inet",
                IpAddr::V6(_) => "inet6",
            });
        }
        out.show(gateway);
    }
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

fn write_hops(route: &Route, out: &mut Words) {
    for hop in &route.nexthops {
        out.push("nexthop");
        if let Some(gateway) = hop.gateway {
            out.push("via");
            if Family::of(&gateway) != route.family {
                out.push(match gateway {
                    IpAddr::V4(_) => "inet",
                    IpAddr::V6(_) => "inet6",
                });
            }
            out.show(gateway);
        }
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
