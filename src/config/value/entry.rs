//! Lines of `virtual_ipaddress`, `virtual_ipaddress_excluded` and `static_ipaddress`.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use crate::base::{Family, IfName, Name, Prefix};
use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::Diagnostic;
use crate::config::schema::{Args, Shape, Value, Words};
use crate::config::value::address::{mask_length, parse, prefix, report};
use crate::config::value::number::{any_base, integer};
use crate::config::value::text::{interface, report_length, text_of};
use crate::config::words::Word;
use crate::model::Lifetime;
use crate::model::address::AddressFlags;

/// A line of a list of addresses.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AddressEntry {
    pub prefix: Prefix,
    pub interface: Option<IfName>,
    pub scope: u8,
    pub broadcast: Option<Ipv4Addr>,
    pub peer: Option<IpAddr>,
    pub label: Option<Box<str>>,
    pub preferred: Option<Lifetime>,
    pub flags: AddressFlags,
    pub no_track: bool,
    pub track_group: Option<Name>,
    pub use_vmac: bool,
}

const FORM: &str = "ADDRESS[/LENGTH] [dev IFNAME] [scope NAME|NUMBER] [brd ADDRESS|+|-] [label TEXT] [peer ADDRESS] \
    [home] [-nodad] [mngtmpaddr] [noprefixroute] [autojoin] [no_track] [preferred_lft SECONDS|forever] \
    [track_group NAME] [use_vmac]";

impl AddressEntry {
    fn new(prefix: Prefix) -> Self {
        Self {
            prefix,
            interface: None,
            scope: 0,
            broadcast: None,
            peer: None,
            label: None,
            preferred: None,
            flags: AddressFlags::default(),
            no_track: false,
            track_group: None,
            use_vmac: false,
        }
    }
}

impl Value for AddressEntry {
    fn shape() -> Shape {
        Shape::Words(FORM.into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        let mut entry = Self::new(prefix(&word, cx)?);
        while let Some(option) = args.next() {
            // An option without its value invalidates the whole line, as in keepalived.
            option_of(&mut entry, &option, args, cx)?;
        }
        if entry.peer.is_some() {
            if let Some(address) = entry.broadcast.take() {
                let message =
                    format!("broadcast address {address} cannot be combined with a peer, ignored");
                cx.report(Diagnostic::error(&codes::CONFLICT, message).at(args.statement.span()));
            }
            if entry.prefix.length() != entry.prefix.family().bits() {
                let message =
                    format!("the prefix length of {} cannot be combined with a peer", entry.prefix);
                let new = Diagnostic::error(&codes::CONFLICT, message).at(word.span());
                cx.report(new.label("the whole address is used"));
                entry.prefix = Prefix::host(entry.prefix.address);
            }
        }
        Some(entry)
    }

    fn words(&self, out: &mut Words) {
        if self.prefix.length() == self.prefix.family().bits() {
            out.show(self.prefix.address);
        } else {
            out.show(self.prefix);
        }
        let mut pair = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                out.push(name);
                out.push(value);
            }
        };
        pair("dev", self.interface.as_ref().map(ToString::to_string));
        pair("scope", (self.scope != 0).then(|| self.scope.to_string()));
        pair("brd", self.broadcast.map(|b| b.to_string()));
        pair("label", self.label.as_ref().map(ToString::to_string));
        pair("peer", self.peer.map(|p| p.to_string()));
        let lifetime = self.preferred.map(|p| match p {
            Lifetime::Forever => "forever".to_owned(),
            Lifetime::For(time) => time.as_secs().to_string(),
        });
        pair("preferred_lft", lifetime);
        pair("track_group", self.track_group.as_ref().map(ToString::to_string));
        for (name, on) in [
            ("home", self.flags.home),
            ("-nodad", self.flags.dad),
            ("mngtmpaddr", self.flags.manage_temporary),
            ("noprefixroute", self.flags.no_prefix_route),
            ("autojoin", self.flags.autojoin),
            ("no_track", self.no_track),
            ("use_vmac", self.use_vmac),
        ] {
            if on {
                out.push(name);
            }
        }
    }
}

/// The words of options, for suggestions.
const OPTIONS: &[&str] = &[
    "dev",
    "scope",
    "broadcast",
    "brd",
    "label",
    "peer",
    "home",
    "-nodad",
    "mngtmpaddr",
    "noprefixroute",
    "autojoin",
    "no_track",
    "preferred_lft",
    "track_group",
    "use_vmac",
];

/// Those with a value.
const VALUED: &[&str] =
    &["dev", "scope", "broadcast", "brd", "label", "peer", "preferred_lft", "track_group"];

/// Processes one option. None: the line is ignored.
fn option_of(
    entry: &mut AddressEntry,
    option: &Word<'_>,
    args: &mut Args<'_>,
    cx: &mut Cx<'_>,
) -> Option<()> {
    match option.bytes {
        b"dev" => {
            let word = value(option, args, cx)?;
            if entry.interface.is_some() {
                let message = "'dev' is set twice, the address is left out";
                cx.report(Diagnostic::error(&codes::SET_TWICE, message).at(option.span()));
                return None;
            }
            entry.interface = Some(interface(&word, cx)?);
            cx.check_interface(entry.interface.as_ref(), word.span(), "for an address");
        }
        b"scope" => {
            let word = value(option, args, cx)?;
            let scope = number_or_name(&word, "rt_scopes", 255, cx);
            match scope {
                _ if entry.prefix.family() == Family::V6 => only_ipv4(option, cx),
                Some(scope) => entry.scope = u8::try_from(scope).unwrap_or(0),
                None => {}
            }
        }
        b"broadcast" | b"brd" => {
            let word = value(option, args, cx)?;
            broadcast(entry, option, &word, cx)?;
        }
        b"label" => {
            let word = value(option, args, cx)?;
            if word.bytes.len() > 15 {
                report_length(&word, 15, "the address is left out", cx);
                return None;
            }
            if entry.prefix.family() == Family::V6 {
                only_ipv4(option, cx);
            } else {
                entry.label = Some(text_of(&word, cx));
            }
        }
        b"peer" => {
            let word = value(option, args, cx)?;
            match parse(word.bytes) {
                Some(peer) if Family::of(&peer) == entry.prefix.family() => {
                    entry.peer = Some(peer);
                }
                Some(_) => {
                    let message = "the peer is of a different family, ignored";
                    cx.report(Diagnostic::error(&codes::FAMILY, message).at(word.span()));
                }
                None => report(&word, "expected an address; the peer is ignored", cx),
            }
        }
        b"preferred_lft" => {
            let word = value(option, args, cx)?;
            if word.bytes == b"forever" {
                entry.preferred = Some(Lifetime::Forever);
            } else if let Some(seconds) = integer(&word, 0, i64::from(u32::MAX), true, cx) {
                let seconds = u64::try_from(seconds).unwrap_or(0);
                entry.preferred = Some(Lifetime::For(Duration::from_secs(seconds)));
            }
        }
        b"track_group" => {
            let word = value(option, args, cx)?;
            entry.track_group = Some(Name::from(text_of(&word, cx)));
        }
        b"home" => entry.flags.home = true,
        b"-nodad" => entry.flags.dad = true,
        b"mngtmpaddr" => entry.flags.manage_temporary = true,
        b"noprefixroute" => entry.flags.no_prefix_route = true,
        b"autojoin" => entry.flags.autojoin = true,
        b"no_track" => entry.no_track = true,
        b"use_vmac" => entry.use_vmac = true,
        other => {
            if let Some(length) = mask_length(other) {
                let message = format!("'{}' is not an address option, ignored", option.shown());
                let address = entry.prefix.address;
                let new = Diagnostic::error(&codes::OPTION, message).at(option.span());
                cx.report(new.help(format!("for a netmask write {address}/{length}")));
            } else {
                unknown_option(option, OPTIONS, "an address", cx);
                skip_value(option, OPTIONS, VALUED, args);
            }
        }
    }
    Some(())
}

fn broadcast(
    entry: &mut AddressEntry,
    option: &Word<'_>,
    word: &Word<'_>,
    cx: &mut Cx<'_>,
) -> Option<()> {
    let IpAddr::V4(address) = entry.prefix.address else {
        let message = "IPv6 addresses have no broadcast address, it is ignored";
        cx.report(Diagnostic::error(&codes::FAMILY, message).at(option.span()));
        return None;
    };
    let length = entry.prefix.length();
    let host = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
    let bits = match word.bytes {
        b"+" => address.to_bits() | host,
        b"-" => address.to_bits() & !host,
        _ => match parse(word.bytes) {
            Some(IpAddr::V4(given)) => given.to_bits(),
            _ => {
                report(word, "expected an IPv4 address, '+' or '-'; the address is left out", cx);
                return None;
            }
        },
    };
    if matches!(word.bytes, b"+" | b"-") && length > 30 {
        let message = format!("prefix length {length} is too long for a broadcast address");
        cx.report(Diagnostic::error(&codes::RANGE, message).at(word.span()));
    } else {
        entry.broadcast = Some(Ipv4Addr::from_bits(bits));
    }
    Some(())
}

fn only_ipv4(option: &Word<'_>, cx: &mut Cx<'_>) {
    // The kernel has no such attribute for IPv6, so nothing is lost.
    let message = format!("'{}' is for IPv4 addresses only, ignored", option.shown());
    cx.report(Diagnostic::warning(&codes::FAMILY, message).at(option.span()));
}

/// The value of an option; a missing one is reported.
pub(crate) fn value<'a>(
    option: &Word<'_>,
    args: &mut Args<'a>,
    cx: &mut Cx<'_>,
) -> Option<Word<'a>> {
    let word = args.next();
    if word.is_none() {
        let message = format!("'{}' needs a value, the line is ignored", option.shown());
        cx.report(Diagnostic::error(&codes::MISSING_PARAMETER, message).at(option.span()));
    }
    word
}

/// A number, or the name of an entry in one of iproute2's tables.
pub(crate) fn number_or_name(
    word: &Word<'_>,
    table: &'static str,
    max: u32,
    cx: &mut Cx<'_>,
) -> Option<u32> {
    let text = word.text();
    let number = any_base(&text)
        .and_then(|n| u32::try_from(n).ok())
        .or_else(|| cx.number_of(table, &text))
        .filter(|n| *n <= max);
    if number.is_none() {
        let shown = word.shown();
        let message = format!("'{shown}' is neither a number up to {max} nor a name in {table}");
        cx.report(Diagnostic::error(&codes::VALUE, message).at(word.span()));
    }
    number
}

/// Passes over the value of a misspelt option, unless it is an option itself.
pub(crate) fn skip_value(
    option: &Word<'_>,
    options: &[&'static str],
    valued: &[&str],
    args: &mut Args<'_>,
) {
    let near = crate::base::near::nearest(&option.text(), options.iter().copied());
    let is_option = |word: Word<'_>| options.iter().any(|o| o.as_bytes() == word.bytes);
    if near.is_some_and(|near| valued.contains(&near)) && !args.peek().is_some_and(is_option) {
        args.next();
    }
}

/// Reports a word that is not an option of a line.
pub(crate) fn unknown_option(
    option: &Word<'_>,
    options: &'static [&'static str],
    what: &str,
    cx: &mut Cx<'_>,
) {
    let message = format!("'{}' is not {what} option, ignored", option.shown());
    let mut new = Diagnostic::error(&codes::OPTION, message).at(option.span());
    if let Some(near) = crate::base::near::nearest(&option.text(), options.iter().copied()) {
        new = new.label(format!("did you mean '{near}'?")).replacement(near);
    }
    cx.report(new);
}
