//! Lines of `virtual_rules` and `static_rules`, in the words of `ip rule`.

use super::entry::number_or_name;
use super::number::{any_base, integer};
use super::route::{realms, small};
use super::text::{interface, text_of};
use crate::base::{Family, IfName, Name, Prefix};
use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::Diagnostic;
use crate::config::schema::{Args, Shape, Value, Words};
use crate::config::span::Span;
use crate::config::words::Word;
use crate::model::route::{Rule, RuleAction};

/// A rule with the group that tracks its interface. Its preference may still be missing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RuleEntry {
    pub rule: Rule,
    pub has_preference: bool,
    pub track_group: Option<Name>,
}

const FORM: &str = "[inet|inet6] [not] [from PREFIX] [to PREFIX] [preference N] [tos TOS] [fwmark N[/MASK]] \
    [iif IFNAME] [oif IFNAME] [ipproto PROTO] [sport A-B] [dport A-B] [uidrange A-B] [tunnel-id N] [protocol N] \
    [no_track] [track_group NAME] table TABLE [realms [FROM/]TO] [suppress_prefixlength N] [suppress_ifgroup GROUP] \
    | l3mdev | [type] goto N | [type] nop|blackhole|unreachable|prohibit";

const OPTIONS: &[&str] = &[
    "inet",
    "inet6",
    "not",
    "from",
    "to",
    "preference",
    "order",
    "priority",
    "tos",
    "dsfield",
    "fwmark",
    "realms",
    "suppress_prefixlength",
    "sup_pl",
    "suppress_ifgroup",
    "sup_group",
    "dev",
    "iif",
    "oif",
    "tunnel-id",
    "uidrange",
    "l3mdev",
    "protocol",
    "ipproto",
    "sport",
    "dport",
    "no_track",
    "track_group",
    "type",
    "table",
    "lookup",
    "goto",
    "nop",
    "blackhole",
    "unreachable",
    "prohibit",
];

const KEEPALIVED: u8 = 18;
const U32: i64 = u32::MAX as i64;

/// A partially parsed rule.
#[derive(Default)]
struct Draft {
    family: Option<Family>,
    preference: Option<u32>,
    invert: bool,
    from: Option<Prefix>,
    to: Option<Prefix>,
    input: Option<IfName>,
    output: Option<IfName>,
    tos: Option<u8>,
    mark: Option<(u32, u32)>,
    tunnel: Option<u64>,
    users: Option<(u32, u32)>,
    ip_protocol: Option<u8>,
    source_ports: Option<(u16, u16)>,
    destination_ports: Option<(u16, u16)>,
    action: Option<RuleAction>,
    realms: Option<u32>,
    suppress_length: Option<u32>,
    suppress_group: Option<u32>,
    protocol: Option<(u8, Span)>,
    no_track: bool,
    track_group: Option<Name>,
}

impl Value for RuleEntry {
    fn shape() -> Shape {
        Shape::Words(FORM.into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let mut draft = Draft::default();
        let at = args.statement.span();
        while let Some(word) = args.next() {
            if option(&mut draft, &word, args, cx).is_none() {
                args.finish();
                return None;
            }
        }
        finish(draft, at, cx)
    }

    fn words(&self, out: &mut Words) {
        write(self, out);
    }
}

fn refuse(text: &str, at: Span, cx: &mut Cx<'_>) {
    let message = format!("{text}, the rule is left out");
    cx.report(Diagnostic::error(&codes::VALUE, message).at(at));
}

fn option(draft: &mut Draft, word: &Word<'_>, args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<()> {
    match word.bytes {
        b"inet" => family(draft, Family::V4, word, cx)?,
        b"inet6" => family(draft, Family::V6, word, cx)?,
        b"not" => draft.invert = true,
        b"from" => draft.from = selector(draft, args, cx)?,
        b"to" => draft.to = selector(draft, args, cx)?,
        b"preference" | b"order" | b"priority" => {
            draft.preference = Some(number(args, cx)?);
        }
        b"tos" | b"dsfield" => draft.tos = Some(small(&args.need_or_end(cx)?, "rt_dsfield", cx)?),
        b"fwmark" => draft.mark = Some(mark(&args.need_or_end(cx)?, cx)?),
        b"realms" => {
            let word = args.need_or_end(cx)?;
            family(draft, Family::V4, &word, cx)?;
            draft.realms = Some(realms(&word, cx)?);
        }
        b"suppress_prefixlength" | b"sup_pl" => {
            let word = args.need_or_end(cx)?;
            let number = integer(&word, 0, 2_147_483_647, false, cx)?;
            draft.suppress_length = u32::try_from(number).ok();
        }
        b"suppress_ifgroup" | b"sup_group" => {
            let word = args.need_or_end(cx)?;
            draft.suppress_group = Some(number_or_name(&word, "group", u32::MAX, cx)?);
        }
        b"dev" | b"iif" => draft.input = Some(device(args, cx)?),
        b"oif" => draft.output = Some(device(args, cx)?),
        b"tunnel-id" => {
            let word = args.need_or_end(cx)?;
            let number = any_base(&word.text());
            if number.is_none() {
                refuse(&format!("invalid tunnel-id '{}'", word.shown()), word.span(), cx);
            }
            draft.tunnel = Some(number?);
        }
        b"uidrange" => {
            let word = args.need_or_end(cx)?;
            let range = range(&word).filter(|(a, b)| *a <= U32 && *b <= U32);
            let Some((first, last)) = range else {
                refuse(&format!("invalid uidrange '{}'", word.shown()), word.span(), cx);
                return None;
            };
            draft.users = Some((u32::try_from(first).ok()?, u32::try_from(last).ok()?));
        }
        b"protocol" => {
            let word = args.need_or_end(cx)?;
            if let Some(number) = integer(&word, 0, 255, false, cx) {
                draft.protocol = Some((u8::try_from(number).unwrap_or(0), word.span()));
            }
        }
        b"ipproto" => {
            let word = args.need_or_end(cx)?;
            let text = word.text();
            let number = text.parse::<u8>().ok().filter(|n| *n < 128);
            let named = |cx: &mut Cx<'_>| cx.number_of("protocols", &text)?.try_into().ok();
            draft.ip_protocol = number.or_else(|| named(cx));
            if draft.ip_protocol.is_none() {
                let message = format!("unknown IP protocol '{}', ignored", word.shown());
                cx.report(Diagnostic::error(&codes::VALUE, message).at(word.span()));
            }
        }
        b"sport" => draft.source_ports = ports(args, cx)?,
        b"dport" => draft.destination_ports = ports(args, cx)?,
        b"no_track" => draft.no_track = true,
        b"track_group" => {
            let word = args.need_or_end(cx)?;
            draft.track_group = Some(Name::from(text_of(&word, cx)));
        }
        b"type" => {
            let word = args.need_or_end(cx)?;
            if !matches!(word.bytes, b"goto" | b"nop" | b"blackhole" | b"unreachable" | b"prohibit")
            {
                refuse(&format!("'{}' is not a rule type", word.shown()), word.span(), cx);
                return None;
            }
            return option(draft, &word, args, cx);
        }
        b"table" | b"lookup" => {
            let word = args.need_or_end(cx)?;
            let table = number_or_name(&word, "rt_tables", u32::MAX, cx)?;
            if table == 0 {
                refuse("table 0 is not valid", word.span(), cx);
                return None;
            }
            let action = RuleAction::Table {
                table,
                realms: None,
                suppress_length: None,
                suppress_group: None,
            };
            act(draft, action, &word, cx)?;
        }
        b"goto" => {
            let target = number(args, cx)?;
            act(draft, RuleAction::Goto(target), word, cx)?;
        }
        b"l3mdev" => act(draft, RuleAction::MasterDevice, word, cx)?,
        b"nop" => act(draft, RuleAction::Nop, word, cx)?,
        b"blackhole" => act(draft, RuleAction::Blackhole, word, cx)?,
        b"unreachable" => act(draft, RuleAction::Unreachable, word, cx)?,
        b"prohibit" => act(draft, RuleAction::Prohibit, word, cx)?,
        _ => {
            let message = format!("unknown rule option '{}', ignored", word.shown());
            let mut new = Diagnostic::error(&codes::OPTION, message).at(word.span());
            if word.bytes == b"ip_proto" {
                new = new.replacement("ipproto");
            } else if let Some(near) =
                crate::base::near::nearest(&word.text(), OPTIONS.iter().copied())
            {
                new = new.replacement(near);
            }
            cx.report(new);
            return None;
        }
    }
    Some(())
}

fn act(draft: &mut Draft, action: RuleAction, at: &Word<'_>, cx: &mut Cx<'_>) -> Option<()> {
    if draft.action.is_some() {
        refuse("a rule can have only one action", at.span(), cx);
        return None;
    }
    draft.action = Some(action);
    Some(())
}

fn family(draft: &mut Draft, wanted: Family, at: &Word<'_>, cx: &mut Cx<'_>) -> Option<()> {
    match draft.family {
        Some(known) if known != wanted => {
            refuse("a rule cannot mix IPv4 and IPv6", at.span(), cx);
            None
        }
        _ => {
            draft.family = Some(wanted);
            Some(())
        }
    }
}

fn number(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<u32> {
    let word = args.need_or_end(cx)?;
    let number = any_base(&word.text()).and_then(|n| u32::try_from(n).ok());
    if number.is_none() {
        refuse(&format!("invalid number '{}'", word.shown()), word.span(), cx);
    }
    number
}

/// A prefix, or all: none inside.
fn selector(draft: &mut Draft, args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Option<Prefix>> {
    let word = args.need_or_end(cx)?;
    if matches!(word.bytes, b"all" | b"any" | b"default") {
        return Some(None);
    }
    let prefix = super::address::prefix(&word, cx)?;
    family(draft, prefix.family(), &word, cx)?;
    Some(Some(prefix))
}

fn mark(word: &Word<'_>, cx: &mut Cx<'_>) -> Option<(u32, u32)> {
    let text = word.text();
    let (mark, mask) = match text.split_once('/') {
        Some((mark, mask)) => (mark, Some(mask)),
        None => (&*text, None),
    };
    let number = |t: &str| any_base(t).and_then(|n| u32::try_from(n).ok());
    let read = match mask {
        Some(mask) => number(mark).zip(number(mask)),
        None => number(mark).map(|m| (m, u32::MAX)),
    };
    if read.is_none() {
        refuse(&format!("invalid fwmark '{}'", word.shown()), word.span(), cx);
    }
    read
}

fn device(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<IfName> {
    let word = args.need_or_end(cx)?;
    let name = interface(&word, cx)?;
    cx.check_interface(Some(&name), word.span(), "for a rule");
    Some(name)
}

/// `A-B`
fn range(word: &Word<'_>) -> Option<(i64, i64)> {
    let text = word.text();
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (0 <= first && first <= last).then_some((first, last))
}

/// `A-B`, or one port, which keepalived refuses. A bad one is reported and ignored.
fn ports(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Option<(u16, u16)>> {
    let word = args.need_or_end(cx)?;
    let single = word.str().and_then(|t| t.parse::<u16>().ok());
    let both = range(&word)
        .and_then(|(a, b)| Some((u16::try_from(a).ok()?, u16::try_from(b).ok()?)))
        .or(single.map(|p| (p, p)));
    if both.is_none() {
        let message = format!("invalid port range '{}', ignored", word.shown());
        let new = Diagnostic::error(&codes::VALUE, message).at(word.span());
        cx.report(new.label("expected A-B"));
    } else if single.is_some() {
        let message = format!("one port, '{}': keepalived requires a range", word.shown());
        let new = Diagnostic::warning(&codes::VALUE, message).at(word.span());
        cx.report(new.replacement(format!("{0}-{0}", word.text())));
    }
    Some(both)
}

fn finish(draft: Draft, at: Span, cx: &mut Cx<'_>) -> Option<RuleEntry> {
    let Some(mut action) = draft.action else {
        refuse("a rule needs an action", at, cx);
        return None;
    };
    let extra =
        draft.realms.is_some() || draft.suppress_length.is_some() || draft.suppress_group.is_some();
    match &mut action {
        RuleAction::Table { realms, suppress_length, suppress_group, .. } => {
            *realms = draft.realms;
            *suppress_length = draft.suppress_length;
            *suppress_group = draft.suppress_group;
        }
        _ if extra => {
            refuse("realms and suppressors require 'table'", at, cx);
            return None;
        }
        RuleAction::Goto(target) => match draft.preference {
            None => {
                refuse("'goto' needs a preference", at, cx);
                return None;
            }
            Some(own) if own >= *target => {
                refuse("'goto' leads backwards", at, cx);
                return None;
            }
            Some(_) => {}
        },
        _ => {}
    }
    let mut protocol = KEEPALIVED;
    if let Some((number, at)) = draft.protocol {
        if number != KEEPALIVED && !draft.no_track {
            let message = "a tracked rule must have protocol keepalived (18), which is used";
            let new = Diagnostic::warning(&codes::ADJUSTED, message).at(at);
            cx.report(new.help("add 'no_track' to keep the protocol"));
        } else {
            protocol = number;
        }
    }
    let mut track_group = draft.track_group;
    if track_group.is_some() && draft.input.is_none() {
        let message = "'track_group' needs 'iif', ignored";
        cx.report(Diagnostic::error(&codes::CONFLICT, message).at(at));
        track_group = None;
    }
    Some(RuleEntry {
        has_preference: draft.preference.is_some(),
        track_group,
        rule: Rule {
            family: draft.family.unwrap_or(Family::V4),
            preference: draft.preference.unwrap_or(0),
            invert: draft.invert,
            from: draft.from,
            to: draft.to,
            input: draft.input,
            output: draft.output,
            tos: draft.tos,
            mark: draft.mark,
            tunnel: draft.tunnel,
            users: draft.users,
            ip_protocol: draft.ip_protocol,
            source_ports: draft.source_ports,
            destination_ports: draft.destination_ports,
            action,
            protocol,
            no_track: draft.no_track,
        },
    })
}

fn write(entry: &RuleEntry, out: &mut Words) {
    let rule = &entry.rule;
    if rule.invert {
        out.push("not");
    }
    let mut pair = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            out.push(name);
            out.push(value);
        }
    };
    let ports = |p: Option<(u16, u16)>| p.map(|(a, b)| format!("{a}-{b}"));
    pair("from", rule.from.map(|p| p.to_string()));
    pair("to", rule.to.map(|p| p.to_string()));
    pair("preference", entry.has_preference.then(|| rule.preference.to_string()));
    pair("iif", rule.input.as_ref().map(ToString::to_string));
    pair("oif", rule.output.as_ref().map(ToString::to_string));
    pair("tos", rule.tos.map(|n| n.to_string()));
    let mark = rule.mark.map(|(mark, mask)| match mask {
        u32::MAX => mark.to_string(),
        mask => format!("{mark}/{mask}"),
    });
    pair("fwmark", mark);
    pair("tunnel-id", rule.tunnel.map(|n| n.to_string()));
    pair("uidrange", rule.users.map(|(a, b)| format!("{a}-{b}")));
    pair("ipproto", rule.ip_protocol.map(|n| n.to_string()));
    pair("sport", ports(rule.source_ports));
    pair("dport", ports(rule.destination_ports));
    pair("protocol", (rule.protocol != KEEPALIVED).then(|| rule.protocol.to_string()));
    match rule.action {
        RuleAction::Table { table, realms, suppress_length, suppress_group } => {
            pair("table", Some(table.to_string()));
            pair(
                "realms",
                realms.map(|r| match r >> 16 {
                    0 => r.to_string(),
                    from => format!("{from}/{}", r & 0xffff),
                }),
            );
            pair("suppress_prefixlength", suppress_length.map(|n| n.to_string()));
            pair("suppress_ifgroup", suppress_group.map(|n| n.to_string()));
        }
        RuleAction::MasterDevice => out.push("l3mdev"),
        RuleAction::Goto(target) => pair("goto", Some(target.to_string())),
        RuleAction::Nop => out.push("nop"),
        RuleAction::Blackhole => out.push("blackhole"),
        RuleAction::Unreachable => out.push("unreachable"),
        RuleAction::Prohibit => out.push("prohibit"),
    }
    if rule.no_track {
        out.push("no_track");
    }
    if let Some(group) = &entry.track_group {
        out.push("track_group");
        out.push(group.as_str());
    }
    // keepalived ignores the word after it, so it comes last.
    if rule.from.is_none() && rule.to.is_none() && rule.family == Family::V6 {
        out.push("inet6");
    }
}
