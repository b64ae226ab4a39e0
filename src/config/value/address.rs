//! IP addresses, prefixes and endpoints.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::base::{Family, Prefix};
use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::Diagnostic;
use crate::config::schema::{Args, Shape, Value, Words};
use crate::config::words::Word;

/// A numeric IPv4 or IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ip(pub IpAddr);

/// An IPv4 multicast address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Multicast4(pub Ipv4Addr);

/// An IPv6 multicast address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Multicast6(pub Ipv6Addr);

/// A multicast address of either family, an IPv6 one link-local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Multicast(pub IpAddr);

/// A mail server: a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MailServer {
    pub host: Box<str>,
    pub port: u16,
}

/// Reads a numeric address. Text after a '/' or '-' is ignored, as in keepalived.
pub(crate) fn host(word: &Word<'_>, cx: &mut Cx<'_>) -> Option<IpAddr> {
    let address = parse_host(word.bytes);
    if address.is_none() {
        report(word, "expected a numeric IPv4 or IPv6 address", cx);
    }
    address
}

/// The address before a '/' or '-', or none.
pub(crate) fn parse_host(bytes: &[u8]) -> Option<IpAddr> {
    parse(bytes.split(|b| matches!(b, b'/' | b'-')).next()?)
}

/// Reads a numeric address.
pub(crate) fn ip(word: &Word<'_>, cx: &mut Cx<'_>) -> Option<IpAddr> {
    let address = parse(word.bytes);
    if address.is_none() {
        report(word, "expected a numeric IPv4 or IPv6 address", cx);
    }
    address
}

/// A numeric address, or none.
pub(crate) fn parse(bytes: &[u8]) -> Option<IpAddr> {
    core::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Reports a word that is not an address.
pub(crate) fn report(word: &Word<'_>, expected: &str, cx: &mut Cx<'_>) {
    let message = format!("'{}' is not an address", word.shown());
    let mut new = Diagnostic::error(&codes::ADDRESS, message).at(word.span()).label(expected);
    let text = word.text();
    if let Some(bare) = text.strip_prefix('<').and_then(|t| t.strip_suffix('>'))
        && parse(bare.as_bytes()).is_some()
    {
        new = new.replacement(bare);
    }
    if let Some(bare) = text.strip_suffix([',', ';'])
        && parse(bare.split('/').next().unwrap_or_default().as_bytes()).is_some()
    {
        new = new.help("entries are separated by blanks and line ends").replacement(bare);
    } else if text.contains('/')
        && parse(text.split('/').next().unwrap_or_default().as_bytes()).is_some()
    {
        new = new.help("a prefix length is not allowed here");
    }
    cx.report(new);
}

/// Reads an address of a known family.
pub(crate) fn ip_of(word: &Word<'_>, family: Option<Family>, cx: &mut Cx<'_>) -> Option<IpAddr> {
    let address = ip(word, cx)?;
    match family {
        Some(wanted) if wanted != Family::of(&address) => {
            let message = format!("'{}' is not an {wanted} address", word.shown());
            let new = Diagnostic::error(&codes::FAMILY, message).at(word.span());
            cx.report(new.label(format!("expected an {wanted} address")));
            None
        }
        _ => Some(address),
    }
}

/// An address with a prefix length, a host without. A bad length is reported, and the whole address used.
pub(crate) fn prefix(word: &Word<'_>, cx: &mut Cx<'_>) -> Option<Prefix> {
    let slash = memchr::memchr(b'/', word.bytes);
    let head = word.slice(0, slash.unwrap_or(word.bytes.len()));
    let Some(address) = parse(head.bytes) else {
        if let Some(slash) = slash {
            let _ = length(&word.slice(slash + 1, word.bytes.len()), 128, cx);
        }
        report(word, "expected a numeric IPv4 or IPv6 address, with an optional /length", cx);
        return None;
    };
    let whole = Prefix::host(address);
    let Some(slash) = slash else {
        return Some(whole);
    };
    let bits = Family::of(&address).bits();
    let length = length(&word.slice(slash + 1, word.bytes.len()), bits, cx);
    length.and_then(|l| Prefix::new(address, l)).or(Some(whole))
}

/// The length of a prefix; a bad one is reported. The digits before other text count, as in keepalived's daemon.
fn length(word: &Word<'_>, bits: u8, cx: &mut Cx<'_>) -> Option<u8> {
    let text = word.str().unwrap_or_default();
    let digits = text.strip_prefix('+').unwrap_or(text);
    let rest = digits.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = digits.get(..digits.len() - rest.len()).unwrap_or_default();
    // keepalived takes 0x18 for 0.
    let hexadecimal = rest.starts_with(['x', 'X']);
    let mask = mask_length(word.bytes);
    let length = number.parse::<u8>().ok().filter(|l| *l <= bits && !hexadecimal && mask.is_none());
    let Some(length) = length else {
        let message = format!("'{}' is not a prefix length", word.shown());
        let mut new = Diagnostic::error(&codes::RANGE, message)
            .at(word.span())
            .label(format!("expected 0 to {bits}; {bits} is used"));
        if let Some(length) = mask {
            new = new.help("a netmask is written as its length").replacement(length.to_string());
        }
        cx.report(new);
        return None;
    };
    if !rest.is_empty() {
        let expected = format!("expected 0 to {bits}, and nothing after it");
        super::number::report_rest(word, &length.to_string(), expected, cx);
    }
    Some(length)
}

/// The length of a prefix that is written as an IPv4 netmask.
pub(crate) fn mask_length(bytes: &[u8]) -> Option<u8> {
    let Some(IpAddr::V4(mask)) = parse(bytes) else {
        return None;
    };
    let bits = mask.to_bits();
    let length = bits.leading_ones();
    (length > 0 && bits.count_ones() == length).then(|| u8::try_from(length).unwrap_or(32))
}

impl Value for Ip {
    fn shape() -> Shape {
        Shape::Text("an IPv4 or IPv6 address")
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        host(&word, cx).map(Self)
    }

    fn words(&self, out: &mut Words) {
        out.show(self.0);
    }
}

impl Value for Multicast4 {
    fn shape() -> Shape {
        Shape::Text("an IPv4 multicast address")
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        match parse(word.bytes) {
            Some(IpAddr::V4(group)) if group.is_multicast() => Some(Self(group)),
            _ => {
                report(
                    &word,
                    "expected an IPv4 multicast address, 224.0.0.0 to 239.255.255.255",
                    cx,
                );
                None
            }
        }
    }

    fn words(&self, out: &mut Words) {
        out.show(self.0);
    }
}

impl Value for Multicast6 {
    fn shape() -> Shape {
        Shape::Text("an IPv6 multicast address")
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        match parse(word.bytes) {
            Some(IpAddr::V6(group)) if group.is_multicast() => {
                if !link_local_group(&group) {
                    let message = format!("'{group}' is not link-local");
                    let new = Diagnostic::warning(&codes::ADDRESS, message).at(word.span());
                    cx.report(new.label("VRRP groups have link-local scope, ff02::/16"));
                }
                Some(Self(group))
            }
            _ => {
                report(&word, "expected an IPv6 multicast address, ff00::/8", cx);
                None
            }
        }
    }

    fn words(&self, out: &mut Words) {
        out.show(self.0);
    }
}

/// Whether a multicast address is of link-local scope (RFC 4291 2.7).
fn link_local_group(group: &Ipv6Addr) -> bool {
    group.octets().get(1).is_some_and(|s| s & 0x0f == 2)
}

impl Value for Multicast {
    fn shape() -> Shape {
        Shape::Text("an IPv4 multicast address or an IPv6 link-local multicast address")
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        match parse(word.bytes) {
            Some(IpAddr::V4(group)) if group.is_multicast() => Some(Self(group.into())),
            Some(IpAddr::V6(group)) if group.is_multicast() && link_local_group(&group) => {
                Some(Self(group.into()))
            }
            _ => {
                report(&word, "expected an IPv4 multicast address or an IPv6 one in ff02::/16", cx);
                None
            }
        }
    }

    fn words(&self, out: &mut Words) {
        out.show(self.0);
    }
}

impl Value for MailServer {
    fn shape() -> Shape {
        Shape::Words("a host name or address, and an optional port".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        let host = super::text::text_of(&word, cx);
        let mut port = 25;
        if let Some(word) = args.next() {
            let number = super::number::integer(&word, 1, 65535, true, cx);
            port = number.and_then(|n| u16::try_from(n).ok()).unwrap_or(port);
        }
        let known = parse(word.bytes).is_some() || cx.resolves(&host);
        if !known {
            let message = format!("the name of mail server '{}' cannot be resolved", word.shown());
            cx.report(
                Diagnostic::environment(&codes::NO_HOST, message)
                    .at(word.span())
                    .note("mail is queued until it can be resolved"),
            );
        }
        Some(Self { host, port })
    }

    fn words(&self, out: &mut Words) {
        out.push(self.host.as_bytes());
        if self.port != 25 {
            out.show(self.port);
        }
    }
}
