//! The writer of objects, and the reader of the kernel's events about them: the common part of all kinds. The files of
//! this folder contain the messages of one kind each.

mod address;
pub(super) mod link;
mod route;
mod rule;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::Emitable;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::route::{RouteMessage, RouteProtocol};
use netlink_packet_route::rule::RuleMessage;

use super::netlink::{Message, Packed, RequestError, Requests, attributes};
use crate::plan::{Change, ChangeKind, Object, Op, Outcome, PROTOCOL_MARK, Phase, Sight};

/// Groups of events about addresses.
pub(super) const GROUPS: [u32; 2] = address::GROUPS;

/// The subscriptions besides links and addresses: only kinds of which some are ours. A host may have very many foreign
/// routes, and a kernel without policy rules lists none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    pub routes: bool,
    /// Policy rules.
    pub rules: bool,
}

impl Watch {
    /// Event groups of these, and whether each is to be joined.
    pub(super) fn groups(self) -> impl Iterator<Item = (u32, bool)> {
        let Self { routes, rules } = self;
        let of_routes = route::GROUPS.into_iter().map(move |group| (group, routes));
        of_routes.chain(rule::GROUPS.into_iter().map(move |group| (group, rules)))
    }
}

/// One request of an operation.
struct Step {
    packed: Packed,
    /// Error numbers meaning that nothing had to be done.
    already: &'static [i32],
    /// Its answer does not affect the operation.
    optional: bool,
}

impl Step {
    fn new(kind: u16, flags: u16, body: &impl Emitable, already: &'static [i32]) -> Self {
        Self { packed: Packed::new(kind, flags, body), already, optional: false }
    }

    fn optional(self) -> Self {
        Self { optional: true, ..self }
    }
}

/// Carries out operations in order and returns the kernel's answer to each. Many are packed into one datagram; each
/// takes some 10 us to 1 ms, and the wait for a lost answer up to 2 s.
pub fn carry_out(requests: &mut Requests, ops: &[Op]) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(ops.len());
    let mut rest = ops;
    while let Some(op) = rest.first() {
        // Operations on interfaces and settings depend on the existing state, so these are sent one by one.
        let alone = match op.object.as_ref() {
            Object::Link(object) => Some(link::carry_out(op, object, requests)),
            Object::Setting(object) => Some(link::change_setting(op, object, requests)),
            _ => None,
        };
        let count = match alone {
            Some(outcome) => {
                outcomes.push(outcome);
                1
            }
            None => {
                let packs = |op: &&Op| op.object.phase() != Phase::Link;
                let count = rest.iter().take_while(packs).count().max(1);
                outcomes.extend(carry_out_packed(requests, rest.get(..count).unwrap_or(rest)));
                count
            }
        };
        rest = rest.get(count..).unwrap_or_default();
    }
    outcomes
}

fn carry_out_packed(requests: &mut Requests, ops: &[Op]) -> Vec<Outcome> {
    let mut packed = Vec::new();
    let mut steps = Vec::new();
    for (position, op) in ops.iter().enumerate() {
        let all = match op.object.as_ref() {
            Object::Address(address) => address::steps(op, address, requests),
            Object::Route(route) => route::steps(op, route),
            Object::Rule(rule) => Some(rule::steps(op, rule)),
            // They are sent one by one, or over another socket, see `nft` and `ipvs::daemon`.
            Object::Link(_)
            | Object::Setting(_)
            | Object::FilterTable(_)
            | Object::Filter(_)
            | Object::SyncDaemon(_) => None,
        };
        for step in all.unwrap_or_default() {
            steps.push((position, step.already, step.optional));
            packed.push(step.packed);
        }
    }
    let results = requests.change(&packed);
    // An operation without a request cannot be encoded.
    let mut outcomes: Vec<Option<Outcome>> = vec![None; ops.len()];
    for ((position, already, optional), result) in steps.into_iter().zip(results) {
        let (Some(slot), Some(op)) = (outcomes.get_mut(position), ops.get(position)) else {
            continue;
        };
        if optional || matches!(slot, Some(Outcome::Refused(_))) {
            continue;
        }
        *slot = Some(match result {
            Ok(()) => Outcome::Done,
            Err(e) if already.contains(&e.errno()) => Outcome::Already,
            Err(e) => {
                if matches!(&e, RequestError::Refused { words, .. } if !words.is_empty()) {
                    tracing::debug!("{op}: {e}");
                }
                Outcome::Refused(e.errno())
            }
        });
    }
    outcomes.into_iter().map(|o| o.unwrap_or(Outcome::Refused(libc::EINVAL))).collect()
}

/// The changes of objects that a message reports; `own`: it results from our own request. Our own additions are known
/// from answers already.
pub(super) fn changes(message: &Message<'_>, own: bool) -> Vec<Change> {
    let all = match message.kind {
        address::NEW | address::DELETE => address::sight(message).into_iter().collect(),
        route::NEW | route::DELETE => route::sights(message),
        link::NEW | link::DELETE => link::sight(message).into_iter().collect(),
        rule::NEW | rule::DELETE => rule::sight(message).into_iter().collect(),
        _ => Vec::new(),
    };
    all.into_iter()
        .filter(|(_, kind)| !own || *kind == ChangeKind::Gone)
        .map(|(sight, kind)| Change { sight, kind, own })
        .collect()
}

/// Lists all addresses and other subscribed objects. False if they changed meanwhile: some may be missing or
/// duplicated.
///
/// # Errors
/// The kernel's error.
pub(super) fn list(
    requests: &mut Requests,
    watch: Watch,
    objects: &mut Vec<Sight>,
) -> Result<bool, RequestError> {
    let mut take = |all: Vec<(Sight, ChangeKind)>| {
        objects.extend(all.into_iter().filter(|(_, k)| *k != ChangeKind::Gone).map(|(s, _)| s));
    };
    let mut whole = requests.dump(address::GET, &AddressMessage::default(), |message| {
        take(address::sight(message).into_iter().collect());
    })?;
    let Watch { routes, rules } = watch;
    if rules {
        let every_family = RuleMessage::default();
        whole &= requests.dump(rule::GET, &every_family, |message| {
            take(rule::sight(message).into_iter().collect());
        })?;
    }
    if routes {
        for family in
            [netlink_packet_route::AddressFamily::Inet, netlink_packet_route::AddressFamily::Inet6]
        {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            // A kernel that supports this filter leaves out foreign routes.
            request.header.protocol = RouteProtocol::from(PROTOCOL_MARK);
            whole &= requests.dump(route::GET, &request, |message| take(route::sights(message)))?;
        }
    }
    Ok(whole)
}

fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))),
        libc::AF_INET6 => Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?))),
        _ => None,
    }
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests;
