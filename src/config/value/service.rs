//! Virtual and real servers: their addresses, schedulers, forwarding methods and persistence.

use core::net::{IpAddr, SocketAddr};

use crate::base::{Family, Name};
use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::{Class, Diagnostic};
use crate::config::schema::{Args, Shape, Value, Words};
use crate::config::value::address::{parse, report};
use crate::config::value::number::integer;
use crate::config::value::text::{choice, report_choice, text_of};
use crate::config::words::Word;
use crate::model::Forward;
use crate::model::service::{GroupEntry, Protocol, Tunnel, TunnelChecksum};

/// The words between `virtual_server` and its brace.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ServerName {
    Address(SocketAddr),
    Mark(u32),
    Group(Name),
}

/// An address with an optional port; no port and port 0 are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub address: IpAddr,
    pub port: u16,
}

/// `lvs_method`, `lb_kind`
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Method(pub Forward);

/// `persistence_timeout`: seconds, 360 without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PersistenceTimeout(pub u32);

/// `quorum`: a weight. A bad one counts as 1, also after a good one, as in keepalived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quorum(pub u32);

/// `persistence_granularity`: an IPv4 mask or an IPv6 prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Granularity {
    Mask(core::net::Ipv4Addr),
    Length(u8),
}

choice! {
    /// The schedulers of IPVS.
    pub enum Scheduler {
        RoundRobin = "rr",
        WeightedRoundRobin = "wrr",
        LeastConnection = "lc",
        WeightedLeastConnection = "wlc",
        Locality = "lblc",
        SourceHashing = "sh",
        Maglev = "mh",
        DestinationHashing = "dh",
        Failover = "fo",
        Overflow = "ovf",
        LocalityReplication = "lblcr",
        ShortestDelay = "sed",
        NeverQueue = "nq",
        TwoChoices = "twos",
    }
}

choice! {
    /// The protocols of IPVS.
    pub enum ProtocolWord {
        Tcp = "TCP",
        Udp = "UDP",
        Sctp = "SCTP",
    }
    ignore_case
}

choice! {
    /// The family of a service.
    pub enum FamilyWord {
        V4 = "inet",
        V6 = "inet6",
    }
}

impl From<ProtocolWord> for Protocol {
    fn from(word: ProtocolWord) -> Self {
        match word {
            ProtocolWord::Tcp => Self::Tcp,
            ProtocolWord::Udp => Self::Udp,
            ProtocolWord::Sctp => Self::Sctp,
        }
    }
}

impl From<FamilyWord> for Family {
    fn from(word: FamilyWord) -> Self {
        match word {
            FamilyWord::V4 => Self::V4,
            FamilyWord::V6 => Self::V6,
        }
    }
}

/// The port after an address: 0 for none or for zeros. A bad one is reported. The digits before other text count, as in
/// keepalived's daemon.
pub(crate) fn port(word: Option<Word<'_>>, cx: &mut Cx<'_>) -> Option<u16> {
    let Some(word) = word else {
        return Some(0);
    };
    if !word.bytes.is_empty() && word.bytes.iter().all(|b| *b == b'0') {
        return Some(0);
    }
    let number = integer(&word, 1, 65535, true, cx)?;
    u16::try_from(number).ok()
}

impl Value for ServerName {
    fn shape() -> Shape {
        Shape::Words("ADDRESS [PORT], 'fwmark' NUMBER or 'group' NAME".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        match word.bytes {
            b"group" => {
                let word = args.need_or_end(cx)?;
                Some(Self::Group(Name::from(text_of(&word, cx))))
            }
            b"fwmark" => {
                let word = args.need_or_end(cx)?;
                let mark = integer(&word, 0, i64::from(u32::MAX), true, cx)?;
                Some(Self::Mark(u32::try_from(mark).unwrap_or(0)))
            }
            _ => {
                let cut = word.bytes.iter().position(|b| matches!(b, b'-' | b'/'));
                let head = word.slice(0, cut.unwrap_or(word.bytes.len()));
                let Some(address) = parse(head.bytes) else {
                    report(
                        &word,
                        "expected an address, 'fwmark' or 'group'; the block is left out",
                        cx,
                    );
                    return None;
                };
                let port = port(args.next(), cx)?;
                Some(Self::Address(SocketAddr::new(address, port)))
            }
        }
    }

    fn words(&self, out: &mut Words) {
        match self {
            Self::Address(endpoint) => {
                out.show(endpoint.ip());
                if endpoint.port() != 0 {
                    out.show(endpoint.port());
                }
            }
            Self::Mark(mark) => {
                out.push("fwmark");
                out.show(mark);
            }
            Self::Group(name) => {
                out.push("group");
                out.push(name.as_str());
            }
        }
    }
}

impl Value for Endpoint {
    fn shape() -> Shape {
        Shape::Words("ADDRESS [PORT]".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        let cut = word.bytes.iter().position(|b| matches!(b, b'-' | b'/'));
        let head = word.slice(0, cut.unwrap_or(word.bytes.len()));
        let Some(address) = parse(head.bytes) else {
            report(&word, "expected an IPv4 or IPv6 address; the server is left out", cx);
            return None;
        };
        let port = port(args.next(), cx)?;
        Some(Self { address, port })
    }

    fn words(&self, out: &mut Words) {
        out.show(self.address);
        if self.port != 0 {
            out.show(self.port);
        }
    }
}

impl Value for Method {
    fn shape() -> Shape {
        Shape::Words(
            "NAT, DR or TUN [type ipip|gue|gre] [port NUMBER] [nocsum|csum|remcsum]".into(),
        )
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        const METHODS: &[&str] = &["NAT", "DR", "TUN"];
        let word = args.need(cx)?;
        let method = match word.bytes {
            b"NAT" => Forward::Nat,
            b"DR" => Forward::Dr,
            b"TUN" => Forward::Tun(Tunnel::Ipip),
            _ => {
                report_choice(&word, METHODS, cx);
                args.finish();
                return None;
            }
        };
        let tunnel = tunnel(args, cx);
        Some(Self(match (method, tunnel) {
            (Forward::Tun(_), Some(tunnel)) => Forward::Tun(tunnel),
            (other, _) => other,
        }))
    }

    fn words(&self, out: &mut Words) {
        let tunnel = match self.0 {
            Forward::Nat => return out.push("NAT"),
            Forward::Dr => return out.push("DR"),
            Forward::Tun(tunnel) => tunnel,
        };
        out.push("TUN");
        let checksum = match tunnel {
            Tunnel::Ipip => return,
            Tunnel::Gue { port, checksum } => {
                for word in ["type", "gue", "port"] {
                    out.push(word);
                }
                out.show(port);
                checksum
            }
            Tunnel::Gre { checksum } => {
                out.push("type");
                out.push("gre");
                checksum
            }
        };
        out.push(match checksum {
            TunnelChecksum::None => "nocsum",
            TunnelChecksum::Checksum => "csum",
            TunnelChecksum::Remote => "remcsum",
        });
    }
}

/// The options of TUN. None if they do not fit together, which is reported.
fn tunnel(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Tunnel> {
    const OPTIONS: &[&str] = &["type", "port", "nocsum", "csum", "remcsum"];
    const KINDS: &[&str] = &["ipip", "gue", "gre"];
    let whole = args.statement.span();
    let mut kind = "ipip";
    let mut port: Option<u16> = None;
    let mut checksum: Option<TunnelChecksum> = None;
    while let Some(option) = args.next() {
        match option.bytes {
            b"type" => {
                let word = super::entry::value(&option, args, cx)?;
                match KINDS.iter().find(|k| k.as_bytes() == word.bytes) {
                    Some(known) => kind = known,
                    None => {
                        report_choice(&word, KINDS, cx);
                        return None;
                    }
                }
            }
            b"port" => {
                let word = super::entry::value(&option, args, cx)?;
                port = u16::try_from(integer(&word, 1, 65535, false, cx)?).ok();
            }
            b"nocsum" => checksum = Some(TunnelChecksum::None),
            b"csum" => checksum = Some(TunnelChecksum::Checksum),
            b"remcsum" => checksum = Some(TunnelChecksum::Remote),
            _ => {
                super::entry::unknown_option(&option, OPTIONS, "a forwarding method", cx);
                return None;
            }
        }
    }
    let refuse = |text: &str, cx: &mut Cx<'_>| {
        cx.report(Diagnostic::error(&codes::CONFLICT, text).at(whole));
        None
    };
    let sum = checksum.unwrap_or(TunnelChecksum::None);
    match (kind, port) {
        ("gue", Some(port)) => Some(Tunnel::Gue { port, checksum: sum }),
        ("gue", None) => refuse("tunnel type gue needs a port, the options are ignored", cx),
        (_, Some(_)) => refuse("only tunnel type gue has a port, the options are ignored", cx),
        ("gre", None) if sum == TunnelChecksum::Remote => {
            refuse("tunnel type gre does not support remcsum, the options are ignored", cx)
        }
        ("gre", None) => Some(Tunnel::Gre { checksum: sum }),
        _ if !matches!(checksum, None | Some(TunnelChecksum::None)) => {
            refuse("tunnel type ipip has no checksum, the options are ignored", cx)
        }
        _ => Some(Tunnel::Ipip),
    }
}

impl Value for Quorum {
    fn shape() -> Shape {
        Shape::Integer { min: 1, max: i64::from(u32::MAX) }
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        let number = integer(&word, 1, i64::from(u32::MAX), true, cx);
        if number.is_none()
            && let Some(last) = cx.reports.last_mut().filter(|last| last.span == word.span())
        {
            last.message.push_str(", a quorum of 1 is used");
        }
        Some(Self(number.and_then(|n| u32::try_from(n).ok()).unwrap_or(1)))
    }

    fn words(&self, out: &mut Words) {
        out.show(self.0);
    }
}

impl Value for PersistenceTimeout {
    fn shape() -> Shape {
        Shape::Words("nothing, or an integer from 1 to 2678400".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let Some(word) = args.next() else {
            return Some(Self(360));
        };
        let seconds = integer(&word, 1, 2_678_400, false, cx);
        super::number::without_unit(&word, cx);
        let seconds = seconds?;
        Some(Self(u32::try_from(seconds).unwrap_or(360)))
    }

    fn words(&self, out: &mut Words) {
        out.show(self.0);
    }
}

impl Value for Granularity {
    fn shape() -> Shape {
        Shape::Words("an IPv4 mask or an IPv6 prefix length".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        if word.bytes.contains(&b'.') {
            return match parse(word.bytes) {
                Some(IpAddr::V4(mask)) => Some(Self::Mask(mask)),
                _ => {
                    report(&word, "expected a mask such as 255.255.255.0", cx);
                    None
                }
            };
        }
        let length = integer(&word, 1, 128, false, cx)?;
        Some(Self::Length(u8::try_from(length).unwrap_or(128)))
    }

    fn words(&self, out: &mut Words) {
        match self {
            Self::Mask(mask) => out.show(mask),
            Self::Length(length) => out.show(length),
        }
    }
}

/// A line of `virtual_server_group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupLine(pub GroupEntry);

impl Value for GroupLine {
    fn shape() -> Shape {
        Shape::Words("ADDRESS[-LAST][/LENGTH] [PORT], or 'fwmark' NUMBER [inet|inet6]".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        if word.bytes == b"fwmark" {
            let word = args.need_or_end(cx)?;
            // The kernel treats a service with mark 0 as one without a mark.
            let mark = integer(&word, 1, i64::from(u32::MAX), true, cx)?;
            let family = match args.next() {
                Some(word) => match FamilyWord::of(word.bytes) {
                    Some(family) => Some(Family::from(family)),
                    None => {
                        report_choice(&word, FamilyWord::WORDS, cx);
                        return None;
                    }
                },
                None => None,
            };
            let mark = u32::try_from(mark).unwrap_or(0);
            return Some(Self(GroupEntry::Mark { mark, family }));
        }
        let (first, last) = addresses(&word, cx)?;
        let port = port(args.next(), cx)?;
        Some(Self(GroupEntry::Addresses { first, last, port }))
    }

    fn words(&self, out: &mut Words) {
        match self.0 {
            GroupEntry::Addresses { first, last, port } => {
                if first == last {
                    out.show(first);
                } else {
                    out.show(format_args!("{first}-{last}"));
                }
                if port != 0 {
                    out.show(port);
                }
            }
            GroupEntry::Mark { mark, family } => {
                out.push("fwmark");
                out.show(mark);
                match family {
                    Some(Family::V4) => out.push("inet"),
                    Some(Family::V6) => out.push("inet6"),
                    None => {}
                }
            }
        }
    }
}

/// An address, a range with a short or a complete end, or a prefix: returns the first and the last
/// address.
fn addresses(word: &Word<'_>, cx: &mut Cx<'_>) -> Option<(IpAddr, IpAddr)> {
    const EXPECTED: &str = "expected an address, a range such as 10.0.0.1-9, a prefix, or 'fwmark'; the line is ignored";
    let cut = word.bytes.iter().position(|b| matches!(b, b'-' | b'/'));
    let head = word.slice(0, cut.unwrap_or(word.bytes.len()));
    let Some(first) = parse(head.bytes) else {
        report(word, EXPECTED, cx);
        return None;
    };
    let Some(cut) = cut else {
        return Some((first, first));
    };
    let tail = word.slice(cut + 1, word.bytes.len());
    let refuse = |what: &str, cx: &mut Cx<'_>| {
        let message = format!("'{}': {what}, the line is ignored", word.shown());
        cx.report(Diagnostic::error(&codes::RANGE, message).at(tail.span()));
        None
    };
    if word.bytes.get(cut) == Some(&b'/') {
        let length = tail.str().and_then(|t| t.parse::<u8>().ok());
        let bits = Family::of(&first).bits();
        let Some(length) = length.filter(|l| (1..=bits).contains(l)) else {
            let what = match tail.bytes {
                b"" => "the prefix length is missing".into(),
                _ => format!("the prefix length must be a number from 1 to {bits}"),
            };
            return refuse(&what, cx);
        };
        let (low, high) = ends(first, length);
        if low != first {
            return refuse("the address has bits beyond its prefix", cx);
        }
        return Some((low, high));
    }
    let (last, whole) = match parse(tail.bytes) {
        Some(last) if Family::of(&last) == Family::of(&first) => (last, true),
        _ => match short_end(first, &tail, cx) {
            Ok(last) => (last, false),
            Err(what) => return refuse(&what, cx),
        },
    };
    if last > first || (whole && last == first) {
        Some((first, last))
    } else {
        refuse("the end is not above the start", cx)
    }
}

/// The last address of a range that gives only its last part: a decimal octet, or a hexadecimal group of IPv6. Text after
/// it is reported and ignored, as in keepalived. The error says what is wrong.
fn short_end(first: IpAddr, tail: &Word<'_>, cx: &mut Cx<'_>) -> Result<IpAddr, String> {
    let (radix, most, kind) = match first {
        IpAddr::V4(_) => (10, u64::from(u8::MAX), "an address or a number up to 255"),
        IpAddr::V6(_) => (16, u64::from(u16::MAX), "an address or hexadecimal digits up to ffff"),
    };
    let text = tail.text();
    if text.is_empty() {
        return Err("the end of the range is missing".into());
    }
    let rest = text.trim_start_matches(|c: char| c.is_digit(radix));
    let digits = text.get(..text.len() - rest.len()).unwrap_or_default();
    // The beginning of an address that is none, or a number of C.
    if digits.is_empty() || rest.starts_with(['.', ':', 'x', 'X']) {
        return Err(format!("the end of the range, '{text}', is not {kind}"));
    }
    let number = u64::from_str_radix(digits, radix).ok().filter(|n| *n <= most);
    let Some(number) = number else {
        return Err(format!("the end of the range, '{digits}', is too large"));
    };
    if !rest.is_empty() {
        super::number::report_rest(tail, digits, format!("expected {kind}"), cx);
    }
    Ok(match first {
        IpAddr::V4(first) => {
            let [a, b, c, _] = first.octets();
            IpAddr::from([a, b, c, u8::try_from(number).unwrap_or(u8::MAX)])
        }
        IpAddr::V6(first) => {
            let [a, b, c, d, e, f, g, _] = first.segments();
            IpAddr::from([a, b, c, d, e, f, g, u16::try_from(number).unwrap_or(u16::MAX)])
        }
    })
}

/// First and last address of a prefix.
fn ends(address: IpAddr, length: u8) -> (IpAddr, IpAddr) {
    match address {
        IpAddr::V4(a) => {
            let host = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            let low = a.to_bits() & !host;
            (
                core::net::Ipv4Addr::from_bits(low).into(),
                core::net::Ipv4Addr::from_bits(low | host).into(),
            )
        }
        IpAddr::V6(a) => {
            let host = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            let low = a.to_bits() & !host;
            (
                core::net::Ipv6Addr::from_bits(low).into(),
                core::net::Ipv6Addr::from_bits(low | host).into(),
            )
        }
    }
}

/// Reports a keyword in a wrong position.
pub(crate) fn misplaced(
    text: &str,
    statement: &crate::config::words::Statement<'_>,
    cx: &mut Cx<'_>,
) {
    cx.report(Diagnostic::error(&codes::CONFLICT, text).at(statement.span()).class(Class::Problem));
}
