//! Next hops of a route, and the tunnels of routes and next hops.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::entry::value;
use super::super::number::{any_base, integer};
use super::{Draft, device, gateway, need, realms, small};
use crate::base::Family;
use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::Diagnostic;
use crate::config::schema::Args;
use crate::config::words::Word;
use crate::model::route::{Encap, NextHop};

pub(super) fn hop() -> NextHop {
    NextHop { gateway: None, interface: None, weight: 1, onlink: false, encap: None, realms: None }
}

/// `nexthop` parts up to the end of the line. An error in one drops it and those after it.
pub(super) fn hops(draft: &mut Draft, args: &mut Args<'_>, cx: &mut Cx<'_>) {
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
            super::super::entry::unknown_option(word, OPTIONS, "a next hop", cx);
            return None;
        }
    }
    Some(())
}

/// A tunnel with its options. None if it is malformed, which is reported.
pub(super) fn encap(option: &Word<'_>, args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Encap> {
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
                let message = format!("'{}' is not a list of MPLS labels", word.shown());
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
                    let shown = word.shown();
                    let message = format!("'{shown}' is not an ILA locator of four groups");
                    cx.report(Diagnostic::error(&codes::VALUE, message).at(word.span()));
                    None
                }
            }
        }
        _ => {
            super::super::text::report_choice(&kind, KINDS, cx);
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

/// The value after an option that was only peeked at so far.
fn after<'a>(option: &Word<'_>, args: &mut Args<'a>, cx: &mut Cx<'_>) -> Option<Word<'a>> {
    args.next();
    value(option, args, cx)
}

fn wide(option: &Word<'_>, args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<u64> {
    let word = after(option, args, cx)?;
    let number = any_base(&word.text());
    if number.is_none() {
        let message = format!("invalid number '{}'", word.shown());
        cx.report(Diagnostic::error(&codes::NUMBER, message).at(word.span()));
    }
    number
}

fn v4(option: &Word<'_>, args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Ipv4Addr> {
    let word = after(option, args, cx)?;
    match super::super::address::ip_of(&word, Some(Family::V4), cx)? {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn v6(option: &Word<'_>, args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Ipv6Addr> {
    let word = after(option, args, cx)?;
    match super::super::address::ip_of(&word, Some(Family::V6), cx)? {
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
