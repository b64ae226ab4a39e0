//! The IP authentication header (RFC 2402) of adverts: its sequence numbers increase from one advert to the next,
//! regardless of the sender. No process sends a number that its predecessor has sent.

use core::net::IpAddr;
use std::collections::BTreeMap;

use super::hear::Flaw;
use super::wire::Router;
use super::{Oracle, Wire, wire_of};
use crate::base::{Family, IfIndex};
use crate::model::Instance;
use crate::sim::World;
use crate::sim::world::NodeId;
use crate::wire::ah::{self, Ah};
use crate::wire::ip;

/// The last sequence number known to a router.
#[derive(Clone, Copy, Debug)]
pub(in crate::sim) struct Last {
    pub number: u32,
    /// The router sent this number itself, so it has not received it.
    pub own: bool,
    /// Whether the number is certain; false if the router may know a later one.
    pub exact: bool,
}

impl Last {
    /// The state of a router that has just started.
    const NONE: Self = Self { number: 0, own: false, exact: true };

    const fn is_old(self, number: u32) -> bool {
        number < self.number || number == self.number && !self.own
    }
}

/// The fault in the header of a packet for an instance with a key; `last`: the last number known to it.
pub(super) fn flaw(
    instance: &Instance,
    source: IpAddr,
    (header, packet): (Ah, &[u8]),
    last: Option<Last>,
) -> Option<Flaw> {
    let key = instance.ah_key()?;
    let genuine = ah::verify(packet, key, instance.unicast().is_some())
        && matches!(source, IpAddr::V4(source) if source.to_bits() == header.spi);
    (!genuine || last.is_some_and(|last| last.is_old(header.sequence))).then_some(Flaw::Password)
}

impl Oracle {
    /// Numbers may have been used in packets that the oracle did not see.
    pub(super) fn loosen_ah(&mut self, id: NodeId) {
        for (_, last) in self.ah.iter_mut().filter(|((node, _), _)| *node == id) {
            last.exact = false;
        }
    }
}

impl World {
    /// The last number that a router sent or accepted.
    pub(super) fn last_ah(&self, id: NodeId, wire: &Wire) -> Last {
        self.oracle.ah.get(&(id, wire.clone())).copied().unwrap_or(Last::NONE)
    }

    /// A number unknown to all routers of a wire.
    pub(in crate::sim) fn next_ah(&self, id: NodeId, instance: &Instance) -> u32 {
        let wire = self.node(id).and_then(|node| wire_of(node, instance));
        let known = self.oracle.ah.iter().filter(|((_, of), _)| Some(of) == wire.as_ref());
        known.map(|(_, last)| last.number).max().unwrap_or(0).saturating_add(1)
    }

    /// A router accepted an advert with this number.
    pub(super) fn took_ah(&mut self, id: NodeId, wire: &Wire, number: u32) {
        let last = Last { number, own: false, exact: true };
        self.oracle.ah.insert((id, wire.clone()), last);
    }

    /// A master received a lower-priority advert, and leaves the next number to the sender's adverts.
    pub(super) fn went_past_ah(&mut self, id: NodeId, wire: &Wire) {
        if let Some(last) = self.oracle.ah.get_mut(&(id, wire.clone())) {
            (last.number, last.own) = (last.number.saturating_add(1), false);
        }
    }

    /// A process continues from the numbers that its predecessor reported.
    pub(in crate::sim) fn resume_ah(&mut self, id: NodeId) {
        let Some(node) = self.node(id) else { return };
        let told = node.config.instances.iter().filter_map(|i| {
            let known = node.summary.instances.iter().find(|known| known.name == i.name)?;
            let last = Last { number: known.ah.last, own: false, exact: false };
            Some(((id, wire_of(node, i)?), last))
        });
        let told: BTreeMap<_, _> = told.collect();
        // A process with a new configuration does not know under which name its predecessor reported a router.
        self.oracle.ah_sent.retain(|place, _| place.0 != id || told.contains_key(place));
        self.oracle.ah.extend(told);
    }

    /// A router failed to send an advert, but has used its number.
    pub(in crate::sim) fn unsent_ah(&mut self, id: NodeId, link: IfIndex, octets: &[u8]) {
        let header = ip::decode(octets).ok().filter(|(header, _)| header.protocol == ah::PROTOCOL);
        let Some((header, rest)) = header.and_then(|(_, rest)| ah::decode(rest)) else { return };
        let Some(vrid) = rest.get(1).copied() else { return };
        let segment = self.node(id).and_then(|node| node.kernel.segment_of(link).cloned());
        // Of an interface that is gone the router is known by its id, if that is on one segment only.
        let mut known = self
            .oracle
            .ah
            .keys()
            .filter(|(node, wire)| *node == id && (wire.1, wire.2) == (Family::V4, vrid));
        let place = match (segment, known.next(), known.next()) {
            (Some(segment), ..) => Some((id, (segment, Family::V4, vrid))),
            (None, Some(only), None) => Some(only.clone()),
            _ => None,
        };
        match place {
            Some(place) => {
                let last = Last { number: header.sequence, own: true, exact: true };
                self.oracle.ah.insert(place, last);
            }
            None => self.oracle.loosen_ah(id),
        }
    }

    /// A router sends an advert with this header; `copy`: to a peer other than the first.
    pub(super) fn judge_ah(
        &mut self,
        id: NodeId,
        (wire, instance): (&Wire, &Instance),
        source: IpAddr,
        (header, packet): (Ah, &[u8]),
        (copy, farewell): (bool, bool),
    ) {
        let name = &instance.name;
        if flaw(instance, source, (header, packet), None).is_some() {
            self.violated_by(id, &format!("{name} sends a wrong authentication header"));
        }
        let last = self.last_ah(id, wire);
        let number = header.sequence;
        let place = (id, wire.clone());
        // Numbers follow the time of day, in half seconds since 2020. A new master may continue from any later one.
        let time = crate::sim::time_of_day(self.now());
        let halves = (time.secs - 1_577_836_800) * 2 + u64::from(time.nanos >= 500_000_000);
        let next = halves.max(u64::from(last.number) + 1);
        let begins = !self.oracle.routers.get(&place).is_some_and(Router::is_sending);
        let sent = self.oracle.ah_sent.get(&place).copied().unwrap_or_default();
        let right = match copy {
            true => number == last.number,
            false if !last.exact || begins => number > last.number.max(sent),
            false => u64::from(number) == next,
        };
        if !right {
            self.violated_by(
                id,
                &format!("{name} sends the number {number} after {} and {sent}", last.number),
            );
        }
        self.oracle.ah_sent.insert(place.clone(), number);
        self.oracle.ah.insert(place, Last { number, own: true, exact: !farewell });
    }
}
