//! Values used only by virtual routers: VMACs, ipvlans, unicast peers, HMAC keys, extra
//! announcements.

use super::address::{parse, parse_host, prefix, report};
use super::entry::{number_or_name, unknown_option, value};
use super::number::integer;
use super::text::{choice, decode, interface, report_choice};
use crate::base::{IfName, Mac};
use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::{Class, Diagnostic};
use crate::config::schema::{Args, Shape, Value, Words};
use crate::config::secret::{FILE, mark};
use crate::config::words::Word;
use crate::model::extras::{LinkbeatMethod, OldChecksum, SecretBytes, UnicastPeer};
use crate::model::link::IpvlanMode;

/// The five or six octets of a VMAC's address; the virtual router id completes five.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VmacAddress {
    Five([u8; 5]),
    Six(Mac),
}

/// `use_vmac [[name] IFNAME] [MAC] [netlink_notify_msg] [group GROUP]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UseVmac {
    pub name: Option<IfName>,
    pub address: Option<VmacAddress>,
    pub notify: bool,
    pub group: Option<u32>,
}

/// `use_ipvlan [[name] IFNAME] [ADDRESS[/LEN]] [bridge|private|vepa] [group GROUP]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UseIpvlan {
    pub name: Option<IfName>,
    pub address: Option<crate::base::Prefix>,
    pub mode: Option<IpvlanMode>,
    pub group: Option<u32>,
}

/// A line of `unicast_peer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub peer: UnicastPeer,
    /// Whether a limit on the TTL was given.
    pub limited: bool,
}

/// `old_unicast_checksum [never]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OldChecksumWord(pub OldChecksum);

/// `garp_extra_if [all] SECONDS`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExtraGarp<const MIN: i64> {
    pub all: bool,
    pub seconds: u32,
}

/// `timer_expired_backup [PRIORITY]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HighestOther(pub u8);

/// A key of `auth_hmac`: its id and its octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub id: u8,
    pub octets: SecretBytes,
    /// Its original form: the words after the id.
    written: Box<[u8]>,
}

/// A line of `linkbeat_interfaces`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkbeatEntry {
    pub interface: IfName,
    pub method: LinkbeatMethod,
}

/// A line of `interface_up_down_delays`: interface, then down and up in microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DelayEntry {
    pub interface: IfName,
    pub down: u64,
    pub up: u64,
}

choice! {
    /// `anti_replay`
    pub enum AntiReplay {
        Time = "time",
        Monotonic = "monotonic",
    }
}

choice! {
    /// `mode` of `auth_hmac`
    pub enum HmacModeWord {
        Enforce = "enforce",
        Permissive = "permissive",
        ReceiveOnly = "receive-only",
    }
}

impl VmacAddress {
    /// The whole address for a virtual router id.
    pub(crate) fn complete(self, vrid: u8) -> Mac {
        match self {
            Self::Five([a, b, c, d, e]) => Mac([a, b, c, d, e, vrid]),
            Self::Six(mac) => mac,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let octets: Option<Vec<u8>> = text
            .split(':')
            .map(|o| u8::from_str_radix(o, 16).ok().filter(|_| o.len() <= 2))
            .collect();
        match octets?.as_slice() {
            [a, b, c, d, e] => Some(Self::Five([*a, *b, *c, *d, *e])),
            [a, b, c, d, e, f] => Some(Self::Six(Mac([*a, *b, *c, *d, *e, *f]))),
            _ => None,
        }
    }
}

fn group(option: &Word<'_>, args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<u32> {
    let word = value(option, args, cx)?;
    number_or_name(&word, "group", u32::MAX, cx)
}

/// The name of an interface to create; a second one is reported.
fn new_name(slot: &mut Option<IfName>, word: &Word<'_>, cx: &mut Cx<'_>) {
    if slot.is_some() {
        let message = format!("the interface name is already set, '{}' is ignored", word.shown());
        cx.report(Diagnostic::error(&codes::SET_TWICE, message).at(word.span()));
    } else {
        *slot = interface(word, cx);
    }
}

impl Value for UseVmac {
    fn shape() -> Shape {
        Shape::Words("[[name] IFNAME] [MAC] [netlink_notify_msg] [group GROUP]".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let mut new = Self::default();
        while let Some(word) = args.next() {
            match word.bytes {
                b"name" => {
                    if let Some(name) = value(&word, args, cx) {
                        new_name(&mut new.name, &name, cx);
                    }
                }
                b"netlink_notify_msg" => new.notify = true,
                b"group" => new.group = group(&word, args, cx).or(new.group),
                _ => match VmacAddress::parse(&word.text()) {
                    Some(address) => vmac_address(&mut new.address, address, &word, cx),
                    None if word.bytes.contains(&b':') => {
                        let message = format!("'{}' is not a MAC address, ignored", word.shown());
                        cx.report(Diagnostic::error(&codes::VALUE, message).at(word.span()));
                    }
                    None => new_name(&mut new.name, &word, cx),
                },
            }
        }
        Some(new)
    }

    fn words(&self, out: &mut Words) {
        if let Some(name) = &self.name {
            // keepalived 2.2.7 takes the word 'name' for the name, so it is written only where it must be.
            if is_word_of_vmac(name.as_str()) {
                out.push("name");
            }
            out.push(name.as_str());
        }
        match self.address {
            Some(VmacAddress::Five([a, b, c, d, e])) => {
                out.push(format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}"));
            }
            Some(VmacAddress::Six(mac)) => out.show(mac),
            None => {}
        }
        if self.notify {
            out.push("netlink_notify_msg");
        }
        if let Some(group) = self.group {
            out.push("group");
            out.show(group);
        }
    }
}

/// Whether `use_vmac` takes a word for something else than a name.
fn is_word_of_vmac(word: &str) -> bool {
    matches!(word, "name" | "netlink_notify_msg" | "group")
        || word.contains(':')
        || VmacAddress::parse(word).is_some()
}

fn vmac_address(
    slot: &mut Option<VmacAddress>,
    address: VmacAddress,
    word: &Word<'_>,
    cx: &mut Cx<'_>,
) {
    let Mac(octets) = address.complete(0);
    let reserved =
        octets.starts_with(&[0, 0, 0x5e, 0, 1]) || octets.starts_with(&[0, 0, 0x5e, 0, 2]);
    let problem = if slot.is_some() {
        "a VMAC can have only one address"
    } else if octets.first().is_some_and(|o| o & 1 != 0) {
        "the address is a multicast address"
    } else if reserved {
        "the address is reserved for the protocol itself"
    } else {
        *slot = Some(address);
        return;
    };
    let message = format!("{problem}, '{}' is ignored", word.shown());
    cx.report(Diagnostic::error(&codes::VALUE, message).at(word.span()));
}

impl Value for UseIpvlan {
    fn shape() -> Shape {
        Shape::Words(
            "[[name] IFNAME] [ADDRESS[/LENGTH]] [bridge|private|vepa] [group GROUP]".into(),
        )
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let mut new = Self::default();
        while let Some(word) = args.next() {
            let mode = match word.bytes {
                b"bridge" => Some(IpvlanMode::Bridge),
                b"private" => Some(IpvlanMode::Private),
                b"vepa" => Some(IpvlanMode::Vepa),
                _ => None,
            };
            let host = word.bytes.split(|b| *b == b'/').next().unwrap_or_default();
            match (word.bytes, mode) {
                (_, Some(_)) if new.mode.is_some() => {
                    let message = format!("the type is already set, '{}' is ignored", word.shown());
                    cx.report(Diagnostic::error(&codes::SET_TWICE, message).at(word.span()));
                }
                (_, Some(mode)) => new.mode = Some(mode),
                (b"name", _) => {
                    if let Some(name) = value(&word, args, cx) {
                        new_name(&mut new.name, &name, cx);
                    }
                }
                (b"group", _) => new.group = group(&word, args, cx).or(new.group),
                _ if parse(host).is_some() => {
                    if new.address.is_some() {
                        let message =
                            format!("the address is already set, '{}' is ignored", word.shown());
                        cx.report(Diagnostic::error(&codes::SET_TWICE, message).at(word.span()));
                    } else {
                        new.address = prefix(&word, cx);
                    }
                }
                _ => new_name(&mut new.name, &word, cx),
            }
        }
        Some(new)
    }

    fn words(&self, out: &mut Words) {
        if let Some(name) = &self.name {
            // As with `use_vmac`.
            let other = ["name", "group", "bridge", "private", "vepa"].contains(&name.as_str());
            if other || parse(name.as_str().as_bytes()).is_some() {
                out.push("name");
            }
            out.push(name.as_str());
        }
        if let Some(address) = self.address {
            out.show(address);
        }
        match self.mode {
            Some(IpvlanMode::Bridge) => out.push("bridge"),
            Some(IpvlanMode::Private) => out.push("private"),
            Some(IpvlanMode::Vepa) => out.push("vepa"),
            None => {}
        }
        if let Some(group) = self.group {
            out.push("group");
            out.show(group);
        }
    }
}

impl Value for Peer {
    fn shape() -> Shape {
        Shape::Words("ADDRESS [min_ttl 0..255] [max_ttl 0..255]".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        let Some(address) = parse_host(word.bytes) else {
            report(&word, "expected the address of a router; the line is ignored", cx);
            args.finish();
            return None;
        };
        let mut peer = UnicastPeer { address, min_ttl: 0, max_ttl: 255 };
        let mut limited = false;
        while let Some(option) = args.next() {
            if !matches!(option.bytes, b"min_ttl" | b"max_ttl") {
                unknown_option(&option, &["min_ttl", "max_ttl"], "a peer", cx);
                args.finish();
                break;
            }
            let Some(word) = args.next() else {
                let message = format!("'{}' needs a value, ignored", option.shown());
                cx.report(Diagnostic::error(&codes::MISSING_PARAMETER, message).at(option.span()));
                break;
            };
            let Some(ttl) = integer(&word, 0, 255, true, cx).and_then(|n| u8::try_from(n).ok())
            else {
                continue;
            };
            limited = true;
            match option.bytes {
                b"min_ttl" => peer.min_ttl = ttl,
                _ => peer.max_ttl = ttl,
            }
        }
        if peer.min_ttl > peer.max_ttl {
            let message = format!(
                "min_ttl {} is above max_ttl {}: all adverts of {} are dropped",
                peer.min_ttl, peer.max_ttl, peer.address
            );
            cx.report(Diagnostic::warning(&codes::CONFLICT, message).at(args.statement.span()));
        }
        Some(Self { peer, limited })
    }

    fn words(&self, out: &mut Words) {
        out.show(self.peer.address);
        if self.limited {
            out.push("min_ttl");
            out.show(self.peer.min_ttl);
            out.push("max_ttl");
            out.show(self.peer.max_ttl);
        }
    }
}

impl Value for OldChecksumWord {
    fn shape() -> Shape {
        Shape::Words("nothing, or 'never'".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        match args.next() {
            None => Some(Self(OldChecksum::Always)),
            Some(word) if word.bytes == b"never" => Some(Self(OldChecksum::Never)),
            Some(word) => {
                report_choice(&word, &["never"], cx);
                None
            }
        }
    }

    fn words(&self, out: &mut Words) {
        if self.0 == OldChecksum::Never {
            out.push("never");
        }
    }
}

impl<const MIN: i64> Value for ExtraGarp<MIN> {
    fn shape() -> Shape {
        Shape::Words(format!("[all] {MIN}..86400"))
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let mut word = args.need(cx)?;
        let all = word.bytes == b"all";
        if all {
            match args.next() {
                Some(time) => word = time,
                None => {
                    let message = format!("'{}' needs a time, ignored", args.keyword.name);
                    cx.report(
                        Diagnostic::error(&codes::MISSING_PARAMETER, message).at(word.span()),
                    );
                    return None;
                }
            }
        }
        let seconds = integer(&word, MIN, 86400, true, cx)?;
        Some(Self { all, seconds: u32::try_from(seconds).unwrap_or(0) })
    }

    fn words(&self, out: &mut Words) {
        if self.all {
            out.push("all");
        }
        out.show(self.seconds);
    }
}

impl Value for HighestOther {
    fn shape() -> Shape {
        Shape::Words("nothing, or an integer from 1 to 254".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        match args.next() {
            None => Some(Self(254)),
            Some(word) => {
                let number = integer(&word, 1, 254, true, cx)?;
                u8::try_from(number).ok().map(Self)
            }
        }
    }

    fn words(&self, out: &mut Words) {
        out.show(self.0);
    }
}

impl Value for Key {
    fn shape() -> Shape {
        Shape::Words(
            "an id from 1 to 255, and the key: text, hex:DIGITS or file:PATH of 32 to 64 bytes"
                .into(),
        )
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let id = args.need(cx)?;
        // Without an id this word is the key, which must not occur in a message.
        if id.bytes.len() > 3 || !id.bytes.iter().all(u8::is_ascii_digit) {
            let message = "a key needs an id before it: key ID KEY";
            let new = Diagnostic::error(&codes::NUMBER, message).at(id.span());
            cx.report(new.label("expected an integer from 1 to 255"));
            return None;
        }
        let id = u8::try_from(integer(&id, 1, 255, false, cx)?).ok()?;
        let word = args.need(cx)?;
        let octets = key_octets(&word, cx)?;
        if !(32..=64).contains(&octets.len()) {
            // How long it is must not be in a message.
            let message = format!("key {id} must be 32 to 64 bytes long, it is left out");
            let new = Diagnostic::error(&codes::TOO_LONG, message).at(word.span());
            cx.report(new.label("too short or too long"));
            return None;
        }
        Some(Self { id, octets: SecretBytes::new(octets), written: word.bytes.into() })
    }

    fn words(&self, out: &mut Words) {
        out.show(self.id);
        out.push(&self.written);
    }
}

fn key_octets(word: &Word<'_>, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
    const LARGEST: usize = 139;
    let Some(path) = word.bytes.strip_prefix(FILE) else {
        return key_text(word.bytes, word, cx);
    };
    let path_shown = mark::text(&decode(path), word.span());
    let refuse = |reason: &str, cx: &mut Cx<'_>| {
        let message = format!("key file '{path_shown}' {reason}, the key is left out");
        // Routers with different keys do not hear each other, so a reload must not apply the rest.
        let mut new = Diagnostic::error(&codes::NO_FILE, message).at(word.span());
        new.environment = true;
        cx.report(new);
        None
    };
    let Some(text) = cx.host.read_start(path, LARGEST + 1) else {
        return refuse("cannot be read", cx);
    };
    if text.len() > LARGEST {
        return refuse("is too large", cx);
    }
    if let Some(info) = cx.host.inspect(path).filter(|i| i.mode & 0o077 != 0) {
        let message = format!(
            "key file '{path_shown}' can be read by other users (mode {:04o})",
            info.mode & 0o7777
        );
        cx.report(
            Diagnostic::environment(&codes::INSECURE_KEY, message)
                .at(word.span())
                .class(Class::Security)
                .help(format!("correct it with: chmod 600 '{path_shown}'")),
        );
    }
    let end = text.iter().rposition(|b| !matches!(b, b'\n' | b'\r')).map_or(0, |at| at + 1);
    key_text(text.get(..end).unwrap_or_default(), word, cx)
}

fn key_text(text: &[u8], word: &Word<'_>, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
    let Some(digits) = text.strip_prefix(b"hex:") else {
        return Some(text.to_vec());
    };
    let octets = hex(digits);
    if octets.is_none() {
        let message = "the key is not hexadecimal, it is left out";
        cx.report(Diagnostic::error(&codes::HEX, message).at(word.span()));
    }
    octets
}

/// Pairs of hexadecimal digits.
pub(super) fn hex(digits: &[u8]) -> Option<Vec<u8>> {
    let value = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks_exact(2)
        .map(|pair| match pair {
            [a, b] => Some(value(a)? << 4 | value(b)?),
            _ => None,
        })
        .collect()
}

impl Value for LinkbeatEntry {
    fn shape() -> Shape {
        Shape::Words("IFNAME [MII|ETHTOOL|IOCTL]".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        let interface = interface(&word, cx)?;
        if !cx.check_interface(Some(&interface), word.span(), "for linkbeat") {
            args.finish();
        }
        let mut method = LinkbeatMethod::Auto;
        if let Some(word) = args.next() {
            match word.bytes {
                b"MII" => method = LinkbeatMethod::Mii,
                b"ETHTOOL" => method = LinkbeatMethod::Ethtool,
                b"IOCTL" => method = LinkbeatMethod::Ioctl,
                _ => report_choice(&word, &["MII", "ETHTOOL", "IOCTL"], cx),
            }
        }
        Some(Self { interface, method })
    }

    fn words(&self, out: &mut Words) {
        out.push(self.interface.as_str());
        match self.method {
            LinkbeatMethod::Auto => {}
            LinkbeatMethod::Mii => out.push("MII"),
            LinkbeatMethod::Ethtool => out.push("ETHTOOL"),
            LinkbeatMethod::Ioctl => out.push("IOCTL"),
        }
    }
}

impl Value for DelayEntry {
    fn shape() -> Shape {
        Shape::Words("IFNAME DOWN [UP], seconds up to 255".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        const MOST: u64 = 255_000_000;
        let word = args.need(cx)?;
        let interface = interface(&word, cx)?;
        cx.check_interface(Some(&interface), word.span(), "for delays");
        let Some(word) = args.next() else {
            let message =
                format!("no delay is given for interface {interface}, the line is ignored");
            cx.report(
                Diagnostic::error(&codes::MISSING_PARAMETER, message)
                    .at(word.span())
                    .class(Class::Quiet),
            );
            return None;
        };
        let down = super::number::time(&word, 0, MOST, 6, cx)?;
        let up = match args.next() {
            Some(word) => super::number::time(&word, 0, MOST, 6, cx)?,
            None => 0,
        };
        Some(Self { interface, down, up })
    }

    fn words(&self, out: &mut Words) {
        out.push(self.interface.as_str());
        out.push(super::number::show_micros(self.down));
        if self.up != 0 {
            out.push(super::number::show_micros(self.up));
        }
    }
}
