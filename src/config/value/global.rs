//! Values used only by `global_defs` and the keywords outside blocks.

use core::net::IpAddr;

use super::entry::value;
use super::number::{any_base, integer};
use super::text::{report_choice, report_length, text_of};
use crate::base::{IfName, Name};
use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::Diagnostic;
use crate::config::schema::{Args, Shape, Value, Words};
use crate::config::secret::mark;
use crate::config::words::Word;
use crate::model::SyncSettings;
use crate::model::service::Timeouts;

/// `umask`: a number in C's notation, or names of bits joined by `|`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Umask(pub u16);

/// `max_auto_priority [PRIORITY]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AutoPriority(pub i8);

/// Numbers of processors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpus(pub Vec<u32>);

/// `lvs_timeouts [tcp N] [tcpfin N] [udp N]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LvsTimeouts(pub Timeouts);

/// `lvs_sync_daemon IFNAME [inst NAME] [id N] [maxlen N] [port N] [ttl N] [group ADDRESS]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sync(pub SyncSettings);

/// `vrrp_rx_bufs_policy [MTU] [ADVERT] | BYTES`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BufferPolicy {
    Mtu,
    Advert,
    Bytes(u32),
}

/// `vrrp_iptables [IN [OUT]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chains(pub Option<Box<str>>, pub Option<Box<str>>);

/// `vrrp_ipsets [NAME ...]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sets(pub Vec<Box<str>>);

/// A name that may be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OptionalName<const MAX: usize>(pub Option<Box<str>>);

/// A path that may be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OptionalPath(pub Option<Box<[u8]>>);

/// One path and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OnlyPath(pub Box<[u8]>);

/// An absolute path and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AbsolutePath(pub Box<[u8]>);

/// A signed number of 32 bits.
pub(crate) type Signed = super::number::Exact<-2_147_483_648, 2_147_483_647>;

impl Value for Umask {
    fn shape() -> Shape {
        Shape::Words("a number, octal with a leading 0, or bits such as IRUSR joined by '|'".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let mut text = String::new();
        let first = args.need(cx)?;
        text.push_str(&first.text());
        while let Some(word) = args.next() {
            text.push_str(&word.text());
        }
        let number = any_base(&text).filter(|n| *n <= 0o777);
        let mask = match number {
            Some(number) => u16::try_from(number).ok(),
            None => text.split('|').try_fold(0, |mask, name| Some(mask | bit(name)?)),
        };
        if mask.is_none() {
            let shown = mark::text(&text, args.span());
            let message = format!("'{shown}' is not a file mode, ignored");
            let new = Diagnostic::error(&codes::VALUE, message).at(args.span());
            cx.report(
                new.label("expected 0 to 0777, or bits such as IRUSR, IWGRP, IRWXO joined by '|'"),
            );
        }
        mask.map(Self)
    }

    fn words(&self, out: &mut Words) {
        out.push(format!("0{:o}", self.0));
    }
}

fn bit(name: &str) -> Option<u16> {
    let name = name.trim();
    let (bits, who) = name
        .strip_prefix("IRWX")
        .map(|who| (7, who))
        .or(name.strip_prefix("IR").map(|who| (4, who)))
        .or(name.strip_prefix("IW").map(|who| (2, who)))
        .or(name.strip_prefix("IX").map(|who| (1, who)))?;
    let shift = match who {
        "USR" | "U" => 6,
        "GRP" | "G" => 3,
        "OTH" | "O" => 0,
        _ => return None,
    };
    Some(bits << shift)
}

impl Value for AutoPriority {
    fn shape() -> Shape {
        Shape::Words("nothing for the highest, or an integer from -1 to 99".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        match args.next() {
            None => Some(Self(99)),
            Some(word) => i8::try_from(integer(&word, -1, 99, true, cx)?).ok().map(Self),
        }
    }

    fn words(&self, out: &mut Words) {
        out.show(self.0);
    }
}

impl Value for Cpus {
    fn shape() -> Shape {
        Shape::Words("numbers of processors".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let mut word = args.need(cx)?;
        let last = i64::from(cx.host.processors()) - 1;
        let mut list = Vec::new();
        loop {
            // One that does not exist invalidates all.
            let Some(number) = integer(&word, 0, last, true, cx) else {
                args.finish();
                return None;
            };
            list.extend(u32::try_from(number));
            match args.next() {
                Some(next) => word = next,
                None => break,
            }
        }
        list.sort_unstable();
        list.dedup();
        Some(Self(list))
    }

    fn words(&self, out: &mut Words) {
        for cpu in &self.0 {
            out.show(cpu);
        }
    }
}

impl Value for LvsTimeouts {
    fn shape() -> Shape {
        Shape::Words("[tcp SECONDS] [tcpfin SECONDS] [udp SECONDS], each from 0 to 2678400".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        const OPTIONS: &[&str] = &["tcp", "tcpfin", "udp"];
        let mut timeouts = Timeouts::default();
        if args.statement.len() < 3 {
            let message = "'lvs_timeouts' needs at least one option with a value";
            cx.report(Diagnostic::error(&codes::MISSING_PARAMETER, message).at(args.span()));
            args.finish();
            return None;
        }
        while let Some(option) = args.next() {
            if !OPTIONS.iter().any(|o| o.as_bytes() == option.bytes) {
                super::entry::unknown_option(&option, OPTIONS, "an lvs_timeouts", cx);
                super::entry::skip_value(&option, OPTIONS, OPTIONS, args);
                continue;
            }
            let word = value(&option, args, cx)?;
            let Some(seconds) = integer(&word, 0, 2_678_400, false, cx) else {
                continue;
            };
            let seconds = u32::try_from(seconds).unwrap_or(0);
            match option.bytes {
                b"tcp" => timeouts.tcp = seconds,
                b"tcpfin" => timeouts.tcp_fin = seconds,
                _ => timeouts.udp = seconds,
            }
        }
        Some(Self(timeouts))
    }

    fn words(&self, out: &mut Words) {
        for (name, seconds) in
            [("tcp", self.0.tcp), ("tcpfin", self.0.tcp_fin), ("udp", self.0.udp)]
        {
            out.push(name);
            out.show(seconds);
        }
    }
}

impl Value for Sync {
    fn shape() -> Shape {
        Shape::Words(
            "IFNAME [inst INSTANCE] [id 0..255] [maxlen 1..65507] [port 1..65535] [ttl 1..255] [group ADDRESS]"
                .into(),
        )
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        let interface: IfName = super::text::interface(&word, cx)?;
        let mut sync = SyncSettings {
            interface,
            instance: None,
            id: None,
            max_length: None,
            port: None,
            ttl: None,
            group: None,
        };
        let mut position = 0;
        while let Some(option) = args.next() {
            position += 1;
            sync_option(&mut sync, &option, position, args, cx)?;
        }
        Some(Self(sync))
    }

    fn words(&self, out: &mut Words) {
        out.push(self.0.interface.as_str());
        let mut pair = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                out.push(name);
                out.push(value);
            }
        };
        pair("inst", self.0.instance.as_ref().map(ToString::to_string));
        pair("id", self.0.id.map(|n| n.to_string()));
        pair("maxlen", self.0.max_length.map(|n| n.to_string()));
        pair("port", self.0.port.map(|n| n.to_string()));
        pair("ttl", self.0.ttl.map(|n| n.to_string()));
        pair("group", self.0.group.map(|a| a.to_string()));
    }
}

fn sync_option(
    sync: &mut SyncSettings,
    option: &Word<'_>,
    position: u32,
    args: &mut Args<'_>,
    cx: &mut Cx<'_>,
) -> Option<()> {
    const OPTIONS: &[&str] = &["inst", "id", "maxlen", "port", "ttl", "group"];
    let number = |args: &mut Args<'_>, low: i64, high: i64, cx: &mut Cx<'_>| {
        let word = value(option, args, cx)?;
        Some(integer(&word, low, high, false, cx))
    };
    match option.bytes {
        b"inst" => {
            let word = args.need_or_end(cx)?;
            if sync.instance.is_some() {
                let message = format!("the instance is already set, '{}' is ignored", word.shown());
                cx.report(Diagnostic::error(&codes::SET_TWICE, message).at(word.span()));
            } else {
                sync.instance = Some(Name::from(text_of(&word, cx)));
            }
        }
        b"id" => {
            sync.id = number(args, 0, 255, cx)?.and_then(|n| u8::try_from(n).ok()).or(sync.id);
        }
        b"maxlen" => {
            let length = number(args, 1, 65507, cx)?;
            sync.max_length = length.and_then(|n| u16::try_from(n).ok()).or(sync.max_length);
        }
        b"port" => {
            let port = number(args, 1, 65535, cx)?;
            sync.port = port.and_then(|n| u16::try_from(n).ok()).or(sync.port);
        }
        b"ttl" => {
            sync.ttl = number(args, 1, 255, cx)?.and_then(|n| u8::try_from(n).ok()).or(sync.ttl);
        }
        b"group" => {
            let word = value(option, args, cx)?;
            match super::address::parse(word.bytes) {
                Some(group) if is_multicast(&group) => sync.group = Some(group),
                _ => super::address::report(&word, "expected a multicast address", cx),
            }
        }
        // The old form: instance and id by position.
        _ if position == 1 => sync.instance = Some(Name::from(text_of(option, cx))),
        _ if position == 2 && option.bytes.iter().all(u8::is_ascii_digit) => {
            let message = "the id by position is deprecated, use 'id'";
            cx.report(Diagnostic::warning(&codes::DEPRECATED, message).at(option.span()));
            sync.id = integer(option, 0, 255, false, cx).and_then(|n| u8::try_from(n).ok());
        }
        _ => super::entry::unknown_option(option, OPTIONS, "an lvs_sync_daemon", cx),
    }
    Some(())
}

fn is_multicast(address: &IpAddr) -> bool {
    address.is_multicast()
}

impl Value for BufferPolicy {
    fn shape() -> Shape {
        Shape::Words("MTU, ADVERT or a number of bytes".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let mut policy = None;
        let mut word = args.need(cx)?;
        loop {
            let new = if word.bytes.eq_ignore_ascii_case(b"MTU") {
                Self::Mtu
            } else if word.bytes.eq_ignore_ascii_case(b"ADVERT") {
                Self::Advert
            } else {
                let bytes = integer(&word, 0, i64::from(u32::MAX), false, cx)?;
                Self::Bytes(u32::try_from(bytes).unwrap_or(0))
            };
            // A size takes precedence over MTU, and MTU over ADVERT.
            let rank = |p: &Self| match p {
                Self::Bytes(_) => 2,
                Self::Mtu => 1,
                Self::Advert => 0,
            };
            match &policy {
                Some(old) => {
                    let message = "only one policy is used: a size before MTU, MTU before ADVERT";
                    cx.report(Diagnostic::warning(&codes::CONFLICT, message).at(word.span()));
                    if rank(&new) > rank(old) {
                        policy = Some(new);
                    }
                }
                None => policy = Some(new),
            }
            match args.next() {
                Some(next) => word = next,
                None => return policy,
            }
        }
    }

    fn words(&self, out: &mut Words) {
        match self {
            Self::Mtu => out.push("MTU"),
            Self::Advert => out.push("ADVERT"),
            Self::Bytes(bytes) => out.show(bytes),
        }
    }
}

/// A name of 1 to `max` bytes. None if it is not, which is reported.
fn short(word: &Word<'_>, max: usize, cx: &mut Cx<'_>) -> Option<Box<str>> {
    if word.bytes.is_empty() || word.bytes.len() > max {
        report_length(word, max, "the line is ignored", cx);
        return None;
    }
    Some(text_of(word, cx))
}

impl Value for Chains {
    fn shape() -> Shape {
        Shape::Words(
            "nothing for INPUT and OUTPUT, or a chain for incoming and one for outgoing packets"
                .into(),
        )
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let Some(incoming) = args.next() else {
            return Some(Self(Some("INPUT".into()), Some("OUTPUT".into())));
        };
        let incoming = short(&incoming, 27, cx)?;
        let outgoing = match args.next() {
            Some(word) => Some(short(&word, 27, cx)?),
            None => None,
        };
        Some(Self(Some(incoming), outgoing))
    }

    fn words(&self, out: &mut Words) {
        for chain in [&self.0, &self.1].into_iter().flatten() {
            out.push(chain.as_bytes());
        }
    }
}

impl Value for Sets {
    fn shape() -> Shape {
        Shape::Words("nothing for none, or up to six names".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let mut list: Vec<Box<str>> = Vec::new();
        while let Some(word) = args.next() {
            let name = short(&word, 30, cx)?;
            if list.contains(&name) || list.len() == 6 {
                let message =
                    format!("set '{name}' is listed twice or is one too many, the line is ignored");
                cx.report(Diagnostic::error(&codes::DUPLICATE_ENTRY, message).at(word.span()));
                args.finish();
                return None;
            }
            list.push(name);
        }
        Some(Self(list))
    }

    fn words(&self, out: &mut Words) {
        for set in &self.0 {
            out.push(set.as_bytes());
        }
    }
}

impl<const MAX: usize> Value for OptionalName<MAX> {
    fn shape() -> Shape {
        Shape::Words(format!("nothing, or a name of up to {MAX} characters"))
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        match args.next() {
            Some(word) => short(&word, MAX, cx).map(|n| Self(Some(n))),
            None => Some(Self(None)),
        }
    }

    fn words(&self, out: &mut Words) {
        if let Some(name) = &self.0 {
            out.push(name.as_bytes());
        }
    }
}

impl Value for OptionalPath {
    fn shape() -> Shape {
        Shape::Words("nothing, or a path".into())
    }

    fn read(args: &mut Args<'_>, _cx: &mut Cx<'_>) -> Option<Self> {
        Some(Self(args.next().map(|w| w.bytes.into())))
    }

    fn words(&self, out: &mut Words) {
        if let Some(path) = &self.0 {
            out.push(path);
        }
    }
}

/// The one word of a statement. More or none are reported.
fn only<'a>(args: &mut Args<'a>, cx: &mut Cx<'_>) -> Option<Word<'a>> {
    let word = args.need(cx)?;
    if word.bytes.is_empty() || args.peek().is_some() {
        args.finish();
        let message = format!("'{}' takes one word, the line is ignored", args.keyword.name);
        cx.report(Diagnostic::error(&codes::VALUE, message).at(args.span()));
        return None;
    }
    Some(word)
}

impl Value for OnlyPath {
    fn shape() -> Shape {
        Shape::Text("a path")
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        only(args, cx).map(|w| Self(w.bytes.into()))
    }

    fn words(&self, out: &mut Words) {
        out.push(&self.0);
    }
}

impl Value for AbsolutePath {
    fn shape() -> Shape {
        Shape::Text("an absolute path")
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = only(args, cx)?;
        if word.bytes.first() != Some(&b'/') {
            let message = format!("'{}' is not an absolute path, ignored", word.shown());
            cx.report(Diagnostic::error(&codes::VALUE, message).at(word.span()));
            return None;
        }
        Some(Self(word.bytes.into()))
    }

    fn words(&self, out: &mut Words) {
        out.push(&self.0);
    }
}

/// `json_version`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JsonVersion(pub u8);

impl Value for JsonVersion {
    fn shape() -> Shape {
        Shape::Choice(&["1", "2"])
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        match word.bytes {
            b"1" => Some(Self(1)),
            b"2" => Some(Self(2)),
            _ => {
                report_choice(&word, &["1", "2"], cx);
                None
            }
        }
    }

    fn words(&self, out: &mut Words) {
        out.show(self.0);
    }
}
