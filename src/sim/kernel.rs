//! The kernel of a simulated host: links, addresses, routes, what goes with what, and calls that fail.

use core::time::Duration;
use std::collections::BTreeSet;

use crate::base::rng::Rng;
use crate::base::{Family, IfIndex, IfName, Mac, Prefix};
use crate::plan::route::RouteIdentity;
use crate::plan::{Change, ChangeKind, Identity, Op, Outcome, Sight, Verb};
use crate::vrrp::{Link, Snapshot};

/// EBUSY: what calls that fail now and then answer.
pub const BUSY: i32 = 16;
/// EINVAL: what calls that never work answer.
pub const INVALID: i32 = 22;

/// ENODEV: what is asked about an interface that does not exist.
const NO_DEVICE: i32 = 19;
/// ENETDOWN: a route by an interface that is down.
const NET_DOWN: i32 = 100;

/// Links and addresses of one host.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// The links.
    pub links: Vec<Link>,
    /// The addresses in the order they were added.
    pub addresses: Vec<(IfIndex, Prefix)>,
    /// The routes, as far as they bear our mark.
    pub routes: Vec<SimRoute>,
    events: Vec<Change>,
    /// Percentage of address changes that are refused.
    pub refusals: u64,
    /// Addresses that are always refused.
    pub impossible: BTreeSet<Prefix>,
    /// How long one address change takes.
    pub latency: Duration,
}

impl Kernel {
    /// A host with a link for each name, numbered from 2, each with its own address.
    #[must_use]
    pub fn new(host: u8, names: &[IfName]) -> Self {
        let mut kernel = Self { latency: Duration::from_micros(20), ..Self::default() };
        for (index, name) in (2u32..).zip(names) {
            let last = u8::try_from(index).unwrap_or(u8::MAX);
            kernel.links.push(Link {
                index: IfIndex(index),
                name: name.clone(),
                up: true,
                arp: true,
                mac: Mac([2, 0, 0, 0, last, host]),
                mtu: 1500,
            });
            for address in [
                std::net::IpAddr::from([10, 0, last, host.saturating_add(70)]),
                std::net::IpAddr::from([0xfe80, 0, 0, 0, 0, 0, u16::from(last), u16::from(host)]),
            ] {
                let length = if address.is_ipv4() { 24 } else { 64 };
                if let Some(prefix) = Prefix::new(address, length) {
                    kernel.addresses.push((IfIndex(index), prefix));
                }
            }
        }
        kernel
    }

    /// The link of this name.
    #[must_use]
    pub fn link(&self, name: &IfName) -> Option<&Link> {
        self.links.iter().find(|link| link.name == *name)
    }

    /// The link of this number.
    #[must_use]
    pub fn link_at(&self, index: IfIndex) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// Everything at once, as a dump.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let addresses = self.addresses.iter().map(|(link, prefix)| Sight::address(*link, *prefix));
        let routes = self.routes.iter().map(SimRoute::sight);
        Snapshot { links: self.links.clone(), objects: addresses.chain(routes).collect() }
    }

    /// Whether an address is on a link.
    #[must_use]
    pub fn has(&self, link: IfIndex, prefix: Prefix) -> bool {
        self.addresses.contains(&(link, prefix))
    }

    /// Carries out a change. What it drops beside what was asked is told by [`Self::take_events`].
    pub fn apply(&mut self, op: &Op, rng: &mut Rng) -> Outcome {
        let Some(identity) = op.identity() else { return Outcome::Refused(NO_DEVICE) };
        if op.links.iter().any(|(_, link)| self.link_at(*link).is_none()) {
            return Outcome::Refused(NO_DEVICE);
        }
        if rng.chance(self.refusals) {
            return Outcome::Refused(BUSY);
        }
        match identity {
            Identity::Address(link, prefix) => self.apply_address(op, link, prefix),
            Identity::Route(route) => self.apply_route(op, *route),
        }
    }

    fn apply_address(&mut self, op: &Op, link: IfIndex, prefix: Prefix) -> Outcome {
        let there = self.has(link, prefix);
        match &op.verb {
            Verb::Add | Verb::Replace { .. } if self.impossible.contains(&prefix) => {
                Outcome::Refused(INVALID)
            }
            Verb::Add if there => Outcome::Already,
            Verb::Replace { in_place: true, .. } if there => Outcome::Done,
            Verb::Add | Verb::Replace { .. } => {
                self.delete_address(link, prefix, true);
                self.addresses.push((link, prefix));
                Outcome::Done
            }
            Verb::Delete { .. } if !there => Outcome::Already,
            Verb::Delete { keep_secondaries } => {
                self.delete_address(link, prefix, *keep_secondaries);
                Outcome::Done
            }
        }
    }

    /// Takes an address away, and with the first one of an IPv4 subnet the others, as Linux does.
    pub fn delete_address(&mut self, link: IfIndex, prefix: Prefix, keep_secondaries: bool) {
        let mate = |a: &(IfIndex, Prefix)| {
            a.0 == link && a.1.family() == Family::V4 && a.1.network() == prefix.network()
        };
        let first = self.addresses.iter().find(|a| mate(a)) == Some(&(link, prefix));
        let (gone, left): (Vec<_>, Vec<_>) = core::mem::take(&mut self.addresses)
            .into_iter()
            .partition(|a| *a == (link, prefix) || (first && !keep_secondaries && mate(a)));
        self.addresses = left;
        for (link, prefix) in gone {
            self.events.push(Change::address(link, prefix, false, true));
            if self.addresses.iter().any(|(_, other)| other.address == prefix.address) {
                continue;
            }
            // Routes of IPv4 go without a word, those of IPv6 lose their source.
            let source = Some(prefix.address);
            self.routes.retain(|r| r.source != source || prefix.family() == Family::V6);
            for route in self.routes.iter_mut().filter(|r| r.source == source) {
                route.source = None;
            }
        }
    }

    fn apply_route(&mut self, op: &Op, identity: RouteIdentity<IfIndex>) -> Outcome {
        let there = self.routes.iter().position(|r| r.identity == identity);
        let links = op.links.iter().map(|(_, link)| *link).collect::<Vec<_>>();
        if let Verb::Delete { .. } = op.verb {
            return match there {
                Some(position) => {
                    let gone = self.routes.remove(position);
                    self.events.push(gone.change(ChangeKind::Gone, true));
                    Outcome::Done
                }
                None => Outcome::Already,
            };
        }
        if links.iter().any(|link| self.link_at(*link).is_some_and(|l| !l.up)) {
            return Outcome::Refused(NET_DOWN);
        }
        let source = op.object.source();
        if source.is_some_and(|s| self.addresses.iter().all(|(_, prefix)| prefix.address != s)) {
            return Outcome::Refused(INVALID);
        }
        match (&op.verb, there) {
            (Verb::Add, Some(_)) => return Outcome::Already,
            (Verb::Replace { .. }, Some(position)) => {
                self.routes.remove(position);
            }
            _ => {}
        }
        self.routes.push(SimRoute { identity, links, source });
        Outcome::Done
    }

    /// Drops routes of IPv4 by an interface that went down, as Linux does, without a word; those of IPv6 with one.
    pub fn went_down(&mut self, link: IfIndex) {
        let (gone, left): (Vec<_>, Vec<_>) = core::mem::take(&mut self.routes)
            .into_iter()
            .partition(|route| route.links.contains(&link));
        self.routes = left;
        let told = gone.iter().filter(|r| r.identity.slot.family == Family::V6);
        self.events.extend(told.map(|r| r.change(ChangeKind::Gone, false)));
    }

    /// Another program takes all routes away.
    pub fn flush_routes(&mut self) -> Vec<Change> {
        let gone = core::mem::take(&mut self.routes);
        gone.iter().map(|r| r.change(ChangeKind::Gone, false)).collect()
    }

    /// What happened since the last call and was not asked for as such, or was.
    pub fn take_events(&mut self) -> Vec<Change> {
        core::mem::take(&mut self.events)
    }
}

/// A route in the simulated kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimRoute {
    /// What identifies it.
    pub identity: RouteIdentity<IfIndex>,
    /// The interfaces it is on.
    pub links: Vec<IfIndex>,
    /// Its preferred source.
    pub source: Option<core::net::IpAddr>,
}

impl SimRoute {
    fn sight(&self) -> Sight {
        let identity = Identity::Route(Box::new(self.identity.clone()));
        Sight { identity, links: self.links.clone() }
    }

    fn change(&self, kind: ChangeKind, own: bool) -> Change {
        Change { sight: self.sight(), kind, own }
    }
}
