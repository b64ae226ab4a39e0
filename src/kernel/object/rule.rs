//! Policy rules: the messages that add and delete them, and the kernel's events about them.

use netlink_packet_core::{Emitable, NLM_F_CREATE, NLM_F_EXCL, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{self, RuleAttribute, RuleMessage, RulePortRange, RuleUidRange};

use super::Step;
use super::route::realm;
use crate::base::{Family, IfName, Prefix};
use crate::kernel::netlink::Message;
use crate::model::route::{Rule, RuleAction};
use crate::plan::{ChangeKind, Identity, Op, PROTOCOL_MARK, Sight, Verb};

/// Message types.
pub(in crate::kernel) const NEW: u16 = 32;
pub(in crate::kernel) const DELETE: u16 = 33;
pub(in crate::kernel) const GET: u16 = 34;
/// Groups of events: rules of IPv4 and of IPv6 (`RTNLGRP_IPV4_RULE`, `RTNLGRP_IPV6_RULE`).
pub(in crate::kernel) const GROUPS: [u32; 2] = [8, 19];

/// The requests that carry out an operation on a rule; none if it cannot be encoded. No attribute of a rule can be
/// changed.
pub(super) fn steps(op: &Op, rule: &Rule) -> Vec<Step> {
    vec![match op.verb {
        Verb::Add | Verb::Replace { .. } => {
            Step::new(NEW, NLM_F_CREATE | NLM_F_EXCL, &message(rule), &[libc::EEXIST])
        }
        Verb::Delete { .. } => Step::new(DELETE, 0, &message(rule), &[libc::ENOENT]),
    }]
}

fn message(rule: &Rule) -> impl Emitable + use<> {
    // As the kernel reports it.
    let rule = crate::plan::rule::identity(rule);
    let mut new = RuleMessage::default();
    let all = &mut new.attributes;
    new.header.family = match rule.family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    all.push(RuleAttribute::Protocol(RouteProtocol::from(rule.protocol)));
    all.push(RuleAttribute::Priority(rule.preference));
    if rule.invert {
        new.header.flags |= rule::RuleFlags::Invert;
    }
    if let Some(from) = rule.from {
        new.header.src_len = from.length();
        all.push(RuleAttribute::Source(from.address));
    }
    if let Some(to) = rule.to {
        new.header.dst_len = to.length();
        all.push(RuleAttribute::Destination(to.address));
    }
    all.extend(rule.input.as_ref().map(|name| RuleAttribute::Iifname(name.to_string())));
    all.extend(rule.output.as_ref().map(|name| RuleAttribute::Oifname(name.to_string())));
    new.header.tos = rule.tos.unwrap_or(0);
    if let Some((mark, mask)) = rule.mark {
        all.extend([RuleAttribute::FwMark(mark), RuleAttribute::FwMask(mask)]);
    }
    all.extend(rule.tunnel.map(RuleAttribute::TunId));
    all.extend(rule.users.map(|(start, end)| RuleAttribute::UidRange(RuleUidRange { start, end })));
    all.extend(rule.ip_protocol.map(|number| RuleAttribute::IpProtocol(i32::from(number).into())));
    let ports = |(start, end)| RulePortRange { start, end };
    all.extend(rule.source_ports.map(ports).map(RuleAttribute::SourcePortRange));
    all.extend(rule.destination_ports.map(ports).map(RuleAttribute::DestinationPortRange));
    new.header.action = match rule.action {
        RuleAction::Table { table, realms, suppress_length, suppress_group } => {
            all.push(RuleAttribute::Table(table));
            all.extend(realms.map(|realms| RuleAttribute::Realm(realm(realms))));
            all.extend(suppress_length.map(RuleAttribute::SuppressPrefixLen));
            all.extend(suppress_group.map(RuleAttribute::SuppressIfGroup));
            rule::RuleAction::ToTable
        }
        RuleAction::MasterDevice => {
            all.push(RuleAttribute::L3MDev(true));
            rule::RuleAction::ToTable
        }
        RuleAction::Goto(target) => {
            all.push(RuleAttribute::Goto(target));
            rule::RuleAction::Goto
        }
        RuleAction::Nop => rule::RuleAction::Nop,
        RuleAction::Blackhole => rule::RuleAction::Blackhole,
        RuleAction::Unreachable => rule::RuleAction::Unreachable,
        RuleAction::Prohibit => rule::RuleAction::Prohibit,
    };
    new
}

/// The rule of a message, if it has our mark.
pub(in crate::kernel) fn sight(message: &Message<'_>) -> Option<(Sight, ChangeKind)> {
    let rule = told(&RuleMessage::parse(message.body).ok()?)?;
    let kind = if message.kind == DELETE { ChangeKind::Gone } else { ChangeKind::Present };
    let identity = Identity::Rule(crate::plan::rule::identity(&rule));
    Some((Sight { identity, links: Vec::new(), attributes: None }, kind))
}

fn told(message: &RuleMessage) -> Option<Rule> {
    let family = match message.header.family {
        AddressFamily::Inet => Family::V4,
        AddressFamily::Inet6 => Family::V6,
        _ => return None,
    };
    let mut rule = Rule {
        family,
        preference: 0,
        invert: message.header.flags.contains(rule::RuleFlags::Invert),
        from: None,
        to: None,
        input: None,
        output: None,
        tos: Some(message.header.tos),
        mark: None,
        tunnel: None,
        users: None,
        ip_protocol: None,
        source_ports: None,
        destination_ports: None,
        action: RuleAction::Nop,
        protocol: 0,
        no_track: false,
    };
    let (mut mark, mut mask) = (0, 0);
    let (mut table, mut realms) = (u32::from(message.header.table), None);
    let (mut suppress_length, mut suppress_group) = (None, None);
    let (mut master_device, mut target) = (false, None);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(a) => rule.from = Prefix::new(*a, message.header.src_len),
            RuleAttribute::Destination(a) => rule.to = Prefix::new(*a, message.header.dst_len),
            RuleAttribute::Iifname(name) => rule.input = Some(name.parse::<IfName>().ok()?),
            RuleAttribute::Oifname(name) => rule.output = Some(name.parse::<IfName>().ok()?),
            RuleAttribute::Goto(number) => target = Some(*number),
            RuleAttribute::Priority(number) => rule.preference = *number,
            RuleAttribute::FwMark(number) => mark = *number,
            RuleAttribute::FwMask(number) => mask = *number,
            RuleAttribute::Realm(realm) => {
                realms = Some(u32::from(realm.source) << 16 | u32::from(realm.destination));
            }
            RuleAttribute::TunId(id) => rule.tunnel = Some(*id),
            // All bits set: none.
            RuleAttribute::SuppressIfGroup(group) => {
                suppress_group = Some(*group).filter(|group| *group != u32::MAX);
            }
            RuleAttribute::SuppressPrefixLen(length) => {
                suppress_length = Some(*length).filter(|length| *length != u32::MAX);
            }
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::L3MDev(on) => master_device = *on,
            RuleAttribute::UidRange(range) => rule.users = Some((range.start, range.end)),
            RuleAttribute::Protocol(protocol) => rule.protocol = u8::from(*protocol),
            RuleAttribute::IpProtocol(number) => {
                rule.ip_protocol = u8::try_from(i32::from(*number)).ok();
            }
            RuleAttribute::SourcePortRange(r) => rule.source_ports = Some((r.start, r.end)),
            RuleAttribute::DestinationPortRange(r) => {
                rule.destination_ports = Some((r.start, r.end));
            }
            _ => {}
        }
    }
    if rule.protocol != PROTOCOL_MARK {
        return None;
    }
    rule.mark = Some((mark, mask));
    rule.action = match message.header.action {
        rule::RuleAction::ToTable if master_device => RuleAction::MasterDevice,
        rule::RuleAction::ToTable => {
            RuleAction::Table { table, realms, suppress_length, suppress_group }
        }
        rule::RuleAction::Goto => RuleAction::Goto(target.unwrap_or(0)),
        rule::RuleAction::Nop => RuleAction::Nop,
        rule::RuleAction::Blackhole => RuleAction::Blackhole,
        rule::RuleAction::Unreachable => RuleAction::Unreachable,
        rule::RuleAction::Prohibit => RuleAction::Prohibit,
        _ => return None,
    };
    Some(rule)
}
