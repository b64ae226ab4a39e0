//! Lines of `virtual_routes` and `static_routes`, in the words of `ip route`.

mod hop;
mod write;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use self::hop::{encap, hop, hops};
use self::write::{write, write_hops};
use super::entry::number_or_name;
use super::number::{decimal, integer};
use super::text::{interface, text_of};
use crate::base::{Family, IfName, Name, Prefix};
use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::Diagnostic;
use crate::config::schema::{Args, Shape, Value, Words};
use crate::config::words::Word;
use crate::model::route::{MetricKind, NextHop, Route, RouteMetric, RouteMode};

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

/// A partially parsed route.
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

/// The value of an option; keepalived exits if it is missing.
fn need<'a>(args: &mut Args<'a>, cx: &mut Cx<'_>) -> Option<Word<'a>> {
    args.need_or_end(cx)
}

/// Processes one word of a route. None: the route is left out, which was reported.
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
                let message = "route option 'gw' is deprecated, use 'via'";
                let new = Diagnostic::warning(&codes::DEPRECATED, message).at(word.span());
                cx.report(new.replacement("via"));
            }
            route.gateway = Some(gateway(&mut draft.family, args, cx)?);
        }
        b"or" => {
            let message = "route option 'or' is deprecated, use 'nexthop'";
            cx.report(Diagnostic::warning(&codes::DEPRECATED, message).at(word.span()));
            let word = need(args, cx)?;
            let gateway = address(&mut draft.family, &word, cx)?;
            if draft.second.is_some() {
                let message =
                    "a route can have at most two gateways with 'or', this one is ignored";
                cx.report(Diagnostic::error(&codes::SET_TWICE, message).at(word.span()));
            } else {
                draft.second = Some(gateway);
            }
        }
        b"as" => {
            let message = "route option 'as' is for MPLS only, ignored";
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
                dropped("route option 'from' is for IPv6 only".into(), &word, cx);
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
            let word = need(args, cx)?;
            route.congestion = Some((text_of(&word, cx), locked));
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
            let word = need(args, cx)?;
            draft.track_group = Some(Name::from(text_of(&word, cx)));
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

/// `mtu`, `rtt` and other metrics. False if the word is not one of them.
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
            dropped(format!("invalid {name} '{}'", word.shown()), &word, cx);
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

/// Sets the family, or reports that it differs from the known one.
fn family(
    known: &mut Option<Family>,
    wanted: Family,
    at: &Word<'_>,
    cx: &mut Cx<'_>,
) -> Option<()> {
    match known {
        Some(known) if *known != wanted => {
            let message = format!(
                "'{}' is for {wanted}, but the route is for {known}: the route is left out",
                at.shown()
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

/// `[inet|inet6] ADDRESS` after `via`. The family word is for gateways of a different family than the route.
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
        return refuse("a route needs a destination, it is left out", cx);
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
            let message = "a tracked route must have protocol keepalived (18), which is used";
            let new = Diagnostic::warning(&codes::ADJUSTED, message).at(at);
            cx.report(new.help("add 'no_track' to keep the protocol"));
        } else {
            route.protocol = protocol;
        }
    }
    if route.interface.is_none() && !route.no_track {
        let message = format!(
            "route {} has no interface, so no interface is tracked for it",
            route.destination
        );
        let new = Diagnostic::warning(&codes::NO_EFFECT_HERE, message).at(at);
        cx.report(new.help("write 'dev IFNAME', or 'no_track'"));
    }
    let mut track_group = draft.track_group;
    if track_group.is_some() && route.interface.is_none() {
        let message = "'track_group' needs 'dev', ignored";
        cx.report(Diagnostic::error(&codes::CONFLICT, message).at(at));
        track_group = None;
    }
    Some(RouteEntry { route, track_group })
}
