//! Addresses: the messages that add and delete them, and the kernel's events about them.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, CacheInfo,
};
use netlink_packet_route::link::LinkMessage;
use rtnetlink::LinkUnspec;

use super::link::{
    GET as RTM_GETLINK, PROMOTE_SECONDARIES, SET as RTM_SETLINK, devconf, devconf_of,
};
use super::{Step, number};
use crate::base::{Family, IfIndex, Prefix};
use crate::kernel::netlink::{Message, Requests};
use crate::model::address::{self, Address, Lifetime};
use crate::plan::{
    AddressAttributes, Attributes, ChangeKind, Object, Op, PROTOCOL_MARK, Sight, Verb,
};

/// Message types.
pub(in crate::kernel) const NEW: u16 = 20;
pub(in crate::kernel) const DELETE: u16 = 21;
pub(in crate::kernel) const GET: u16 = 22;
/// Groups of events: IPv4 and IPv6 addresses (`RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV6_IFADDR`).
pub(in crate::kernel) const GROUPS: [u32; 2] = [5, 9];

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_BROADCAST: u16 = 4;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_F_OPTIMISTIC: u32 = 0x04;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;

/// The requests that carry out an operation on an address.
pub(super) fn steps(op: &Op, address: &Address, requests: &mut Requests) -> Option<Vec<Step>> {
    let interface = op.number(&address.interface)?;
    let add = |flags: u16| {
        let new = message(interface, address, true);
        Step::new(NEW, NLM_F_CREATE | flags, &new, &[libc::EEXIST])
    };
    // If the interface is gone, the address is gone as well.
    let absent = &[libc::EADDRNOTAVAIL, libc::ENOENT, libc::ENODEV];
    let delete = |old: &Address| Step::new(DELETE, 0, &message(interface, old, false), absent);
    Some(match &op.verb {
        Verb::Add => vec![add(NLM_F_EXCL)],
        Verb::Replace { in_place: true, .. } => vec![add(NLM_F_REPLACE)],
        Verb::Replace { before, .. } => {
            let old = match before.as_ref() {
                Object::Address(old) => old,
                _ => address,
            };
            // The other addresses of its subnet are not affected.
            let mut steps = spare(interface, address, delete(old).optional(), requests);
            steps.push(add(NLM_F_EXCL));
            steps
        }
        Verb::Delete { keep_secondaries: false } => vec![delete(address)],
        Verb::Delete { keep_secondaries: true } => {
            spare(interface, address, delete(address), requests)
        }
    })
}

/// Sets `promote_secondaries` of an interface while the first IPv4 address of a subnet is deleted: the kernel would
/// remove the others with it. In one datagram, so that no other program sees the setting; if it is refused, the others
/// are restored when the kernel reports that they are gone.
fn spare(
    interface: IfIndex,
    address: &Address,
    delete: Step,
    requests: &mut Requests,
) -> Vec<Step> {
    if address.prefix.family() == Family::V6 {
        return vec![delete];
    }
    match promotes(interface, requests) {
        Some(false) => vec![
            Step::new(RTM_SETLINK, 0, &promote(interface, true), &[]).optional(),
            delete,
            Step::new(RTM_SETLINK, 0, &promote(interface, false), &[]).optional(),
        ],
        Some(true) | None => vec![delete],
    }
}

/// Whether an interface promotes secondary addresses; none if the kernel does not report it.
fn promotes(interface: IfIndex, requests: &mut Requests) -> Option<bool> {
    let message = LinkUnspec::new_with_index(interface.0).build();
    let mut answer = None;
    requests
        .get(RTM_GETLINK, &message, |message| {
            let body = message.body.get(16..).unwrap_or_default();
            answer = devconf_of(body, PROMOTE_SECONDARIES).map(|value| value != 0);
        })
        .ok()?;
    answer
}

fn promote(interface: IfIndex, on: bool) -> LinkMessage {
    devconf(interface, &[(PROMOTE_SECONDARIES, u32::from(on))])
}

/// The message that adds or deletes `address`.
fn message(interface: IfIndex, address: &Address, add: bool) -> AddressMessage {
    let local = address.prefix.address;
    let mut message = AddressMessage::default();
    let header = &mut message.header;
    header.index = interface.0;
    header.family = match address.prefix.family() {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    // With a peer the prefix is that of the peer.
    let far = address.peer.unwrap_or(address.prefix);
    header.prefix_len = far.length();
    message.attributes.push(AddressAttribute::Local(local));
    message.attributes.push(AddressAttribute::Address(far.address));
    if !add {
        return message;
    }
    message.header.scope = address.scope.into();
    if let Some(broadcast) = address.broadcast {
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
    }
    if let Some(label) = &address.label {
        message.attributes.push(AddressAttribute::Label(label.to_string()));
    }
    let flags = flags(address);
    // The header has room only for the first eight.
    message.header.flags =
        AddressHeaderFlags::from_bits_retain(u8::try_from(flags.bits() & 0xff).unwrap_or(0));
    message.attributes.push(AddressAttribute::Flags(flags));
    if let (IpAddr::V6(_), Lifetime::For(time)) = (local, address.preferred) {
        let mut lifetimes = CacheInfo::default();
        lifetimes.ifa_preferred = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        lifetimes.ifa_valid = u32::MAX;
        message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
    }
    let mark = AddressProtocol::Other(PROTOCOL_MARK);
    message.attributes.push(AddressAttribute::Protocol(mark));
    message
}

fn flags(address: &Address) -> AddressFlags {
    let wanted = &address.flags;
    let mut flags = AddressFlags::empty();
    flags.set(AddressFlags::Nodad, address.prefix.family() == Family::V6 && !wanted.dad);
    flags.set(AddressFlags::Homeaddress, wanted.home);
    flags.set(AddressFlags::Managetempaddr, wanted.manage_temporary);
    flags.set(AddressFlags::Noprefixroute, wanted.no_prefix_route);
    flags.set(AddressFlags::Mcautojoin, wanted.autojoin);
    flags
}

/// The reverse of `flags`.
fn told(flags: u32) -> address::AddressFlags {
    let flags = AddressFlags::from_bits_retain(flags);
    address::AddressFlags {
        dad: false,
        home: flags.contains(AddressFlags::Homeaddress),
        manage_temporary: flags.contains(AddressFlags::Managetempaddr),
        no_prefix_route: flags.contains(AddressFlags::Noprefixroute),
        autojoin: flags.contains(AddressFlags::Mcautojoin),
    }
}

fn text(value: &[u8]) -> Option<Box<str>> {
    core::str::from_utf8(value).ok().map(|text| text.trim_end_matches('\0').into())
}

/// Seconds; all bits set means forever.
fn lifetime(value: Option<&[u8]>) -> Lifetime {
    match value.and_then(number) {
        None | Some(u32::MAX) => Lifetime::Forever,
        Some(seconds) => Lifetime::For(Duration::from_secs(seconds.into())),
    }
}

/// The address of a message. None for one that is being checked for duplicates: it is reported again when it is usable.
pub(in crate::kernel) fn sight(message: &Message<'_>) -> Option<(Sight, ChangeKind)> {
    let [family, length, flags, scope, a, b, c, d, ..] = *message.body else { return None };
    let (mut local, mut far, mut flags) = (None, None, u32::from(flags));
    let mut attributes = AddressAttributes { scope, ..AddressAttributes::default() };
    for (kind, value) in super::attributes(message.body.get(8..)?) {
        match kind {
            IFA_LOCAL => local = super::ip(family, value),
            IFA_ADDRESS => far = super::ip(family, value),
            IFA_FLAGS => flags = number(value)?,
            IFA_BROADCAST => {
                attributes.broadcast = <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from);
            }
            IFA_LABEL => attributes.label = text(value),
            IFA_CACHEINFO => {
                let [preferred, valid] = [value.get(0..4), value.get(4..8)].map(lifetime);
                (attributes.preferred, attributes.valid) = (preferred, valid);
            }
            _ => {}
        }
    }
    let address = local.or(far)?;
    attributes.peer = far.filter(|far| *far != address);
    attributes.flags = told(flags);
    let interface = IfIndex(u32::from_ne_bytes([a, b, c, d]));
    let attributes = Some(Box::new(Attributes::Address(attributes)));
    let sight = Sight { attributes, ..Sight::address(interface, Prefix::new(address, length)?) };
    let kind = if message.kind == DELETE || flags & IFA_F_DADFAILED != 0 {
        ChangeKind::Gone
    } else if flags & IFA_F_TENTATIVE != 0 && flags & IFA_F_OPTIMISTIC == 0 {
        return None;
    } else {
        ChangeKind::Present
    };
    Some((sight, kind))
}
