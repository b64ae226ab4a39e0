//! The kernel of a simulated host: links, addresses, memberships, and calls that fail.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::filter::SimFilters;
use super::stacked::{News, Stacked};
use crate::base::rng::Rng;
use crate::base::{Family, IfIndex, IfName, Mac, Prefix};
use crate::model::route::Rule;
use crate::plan::route::{RouteAttributes, RouteIdentity};
use crate::plan::sync::{SyncDaemon, SyncRole};
use crate::plan::{
    AddressAttributes, Attributes, Change, ChangeKind, Identity, Object, Op, Outcome, Setting,
    Settings, Sight, Verb,
};
use crate::vrrp::{Link, Snapshot};

/// EBUSY: the error of calls that fail occasionally.
pub const BUSY: i32 = 16;
/// EINVAL: the error of calls that never work.
pub const INVALID: i32 = 22;
/// EEXIST
pub const EXISTS: i32 = 17;
/// ENOBUFS: the limit of memberships is reached.
pub const NO_BUFFERS: i32 = 105;
/// ENODEV
pub const NO_DEVICE: i32 = 19;
/// ENETDOWN: a route through an interface that is down.
const NET_DOWN: i32 = 100;

/// Links and addresses of one host.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    pub links: Vec<Link>,
    /// The addresses in the order they were added.
    pub addresses: Vec<(IfIndex, Prefix)>,
    /// Their attributes that differ from the defaults.
    pub attributes: BTreeMap<(IfIndex, Prefix), AddressAttributes>,
    /// The routes with our mark.
    pub routes: Vec<SimRoute>,
    /// Our tables of packet filters.
    pub filters: SimFilters,
    /// Sync daemons of IPVS.
    pub daemons: BTreeMap<SyncRole, SyncDaemon>,
    /// The policy rules with our mark.
    pub rules: BTreeSet<Rule>,
    /// Removals of routes and rules that were not reported yet.
    events: Vec<Change>,
    /// Stacked interfaces.
    pub(super) stacked: BTreeMap<IfIndex, Stacked>,
    /// Settings that are not 0.
    pub(super) settings: BTreeMap<(IfIndex, Setting), u32>,
    /// Changes of interfaces that were not reported yet.
    pub(super) news: Vec<News>,
    /// The segment that each link is plugged into, independent of its name.
    plugs: BTreeMap<IfIndex, IfName>,
    /// The addresses of the host itself, by the segment of their link.
    home: Vec<(IfName, Prefix)>,
    /// Groups joined by the daemon.
    joined: BTreeSet<(IfIndex, IpAddr)>,
    next_index: u32,
    /// `promote_secondaries`: whether the secondary addresses of a subnet outlive the primary one.
    pub promote: bool,
    /// Whether no group can be joined.
    pub refuses_joins: bool,
    /// Percentage of address changes that are refused.
    pub refusals: u64,
    /// Addresses that are always refused.
    pub impossible: BTreeSet<Prefix>,
    /// How long one address change takes.
    pub latency: Duration,
}

impl Kernel {
    /// A host with a link for each name, numbered from 2, each with its own address and on a segment of the same
    /// name. Secondary addresses are promoted.
    #[must_use]
    pub fn new(host: u8, names: &[IfName]) -> Self {
        let mut kernel = Self {
            latency: Duration::from_micros(20),
            promote: true,
            next_index: 2,
            ..Self::default()
        };
        for (segment, name) in (2u8..).zip(names) {
            for address in [Family::V4, Family::V6].map(|family| home(segment, host, family)) {
                let length = if address.is_ipv4() { 24 } else { 64 };
                kernel.home.extend(Prefix::new(address, length).map(|p| (name.clone(), p)));
            }
            let link = kernel.make_link(name, Mac([2, 0, 0, 0, segment, host]));
            let home: Vec<Prefix> = kernel.home_of(name).collect();
            kernel.addresses.extend(home.into_iter().map(|prefix| (link, prefix)));
        }
        kernel
    }

    /// Creates a link that is up, without addresses, and returns its index, which no link had before.
    pub fn make_link(&mut self, name: &IfName, mac: Mac) -> IfIndex {
        let index = IfIndex(self.next_index);
        self.next_index += 1;
        self.plugs.insert(index, name.clone());
        let name = name.clone();
        let settings = Settings::default();
        let (up, arp, mtu, vrf) = (true, true, 1500, None);
        self.links.push(Link { index, name, up, arp, mac, mtu, settings, vrf });
        self.note_settings(index);
        index
    }

    /// Plugs a link into a segment.
    pub(super) fn plug(&mut self, index: IfIndex, segment: IfName) {
        self.plugs.insert(index, segment);
    }

    /// Removes a link with its addresses, which are returned, and memberships.
    pub fn remove_link(&mut self, index: IfIndex) -> Vec<Prefix> {
        self.went_down(index);
        // Interfaces stacked on it are removed with it.
        for above in self.on_parent(index) {
            let change = self.link_change(above, false);
            let addresses = self.remove_link(above);
            self.news.extend(change.map(|change| News::Gone(above, addresses, change)));
        }
        self.stacked.remove(&index);
        self.settings.retain(|(link, _), _| *link != index);
        self.links.retain(|link| link.index != index);
        self.plugs.remove(&index);
        self.joined.retain(|(link, _)| *link != index);
        let (gone, left) = core::mem::take(&mut self.addresses)
            .into_iter()
            .partition::<Vec<_>, _>(|(link, _)| *link == index);
        self.addresses = left;
        for (_, prefix) in &gone {
            self.lose_source(prefix.address);
        }
        gone.into_iter().map(|(_, prefix)| prefix).collect()
    }

    #[must_use]
    pub fn link(&self, name: &IfName) -> Option<&Link> {
        self.links.iter().find(|link| link.name == *name)
    }

    #[must_use]
    pub fn link_at(&self, index: IfIndex) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The link that is plugged into a segment.
    #[must_use]
    pub fn on_segment(&self, segment: &IfName) -> Option<&Link> {
        let is_on = |link: &&Link| {
            self.plugs.get(&link.index) == Some(segment) && !self.stacked.contains_key(&link.index)
        };
        self.links.iter().find(is_on)
    }

    /// The segment that a link is plugged into.
    #[must_use]
    pub fn segment_of(&self, index: IfIndex) -> Option<&IfName> {
        self.plugs.get(&index)
    }

    /// The host's own addresses on the link of a segment.
    pub fn home_of(&self, segment: &IfName) -> impl Iterator<Item = Prefix> {
        self.home.iter().filter(move |(on, _)| on == segment).map(|(_, prefix)| *prefix)
    }

    /// Whether an address is the host's own and belongs on this link.
    #[must_use]
    pub fn is_home_on(&self, link: IfIndex, prefix: Prefix) -> bool {
        self.segment_of(link).is_some_and(|segment| self.home_of(segment).any(|own| own == prefix))
    }

    /// A snapshot of everything, as from a dump.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let addresses = self.addresses.iter().map(|(link, prefix)| self.sight(*link, *prefix));
        let routes = self.routes.iter().map(SimRoute::sight);
        let rules = self.rules.iter().map(rule_sight);
        let objects = addresses.chain(routes).chain(rules).chain(self.stacked_sights());
        let daemons = self.daemons.values().cloned().map(SyncDaemon::sight);
        let objects = objects.chain(self.filters.sights()).chain(daemons).collect();
        Snapshot { links: self.links.clone(), objects, ..Snapshot::default() }
    }

    /// An address as the kernel reports it.
    #[must_use]
    pub fn sight(&self, link: IfIndex, prefix: Prefix) -> Sight {
        let attributes = self.attributes.get(&(link, prefix)).cloned().unwrap_or_default();
        let attributes = Some(Box::new(Attributes::Address(attributes)));
        Sight { attributes, ..Sight::address(link, prefix) }
    }

    /// Whether an address is on a link.
    #[must_use]
    pub fn has(&self, link: IfIndex, prefix: Prefix) -> bool {
        self.addresses.contains(&(link, prefix))
    }

    /// The links that have an address.
    pub fn holders(&self, prefix: Prefix) -> impl Iterator<Item = IfIndex> {
        self.addresses.iter().filter(move |(_, p)| *p == prefix).map(|(link, _)| *link)
    }

    /// Adds an address to a link. Returns whether it is new.
    pub fn add(&mut self, link: IfIndex, prefix: Prefix) -> bool {
        let new = self.link_at(link).is_some() && !self.has(link, prefix);
        if new {
            self.addresses.push((link, prefix));
            self.attributes.remove(&(link, prefix));
        }
        new
    }

    /// Removes an address from a link and returns everything removed: together with the first IPv4 address of a subnet
    /// the others are removed, unless they are promoted. Routes are removed with their preferred source.
    pub fn remove(&mut self, link: IfIndex, prefix: Prefix) -> Vec<Prefix> {
        self.remove_some(link, prefix, self.promote)
    }

    fn remove_some(&mut self, link: IfIndex, prefix: Prefix, promote: bool) -> Vec<Prefix> {
        if !self.has(link, prefix) {
            return Vec::new();
        }
        let subnet =
            |other: &Prefix| other.length() == prefix.length() && prefix.contains(&other.address);
        let first = self.addresses.iter().find(|(on, other)| *on == link && subnet(other));
        let cascade = !promote
            && prefix.family() == Family::V4
            && first.is_some_and(|(_, first)| *first == prefix);
        let (gone, left) = core::mem::take(&mut self.addresses).into_iter().partition::<Vec<_>, _>(
            |(on, other)| *on == link && (*other == prefix || cascade && subnet(other)),
        );
        self.addresses = left;
        for (_, prefix) in &gone {
            self.lose_source(prefix.address);
        }
        gone.into_iter().map(|(_, prefix)| prefix).collect()
    }

    /// An address was removed: IPv4 routes that have it as preferred source disappear without an event, IPv6 routes
    /// lose it.
    fn lose_source(&mut self, address: IpAddr) {
        if self.addresses.iter().any(|(_, other)| other.address == address) {
            return;
        }
        self.routes.retain(|r| r.source != Some(address) || address.is_ipv6());
        for route in self.routes.iter_mut().filter(|r| r.source == Some(address)) {
            route.source = None;
        }
    }

    /// Carries out a change. [`Kernel::change`] also returns the other removed addresses.
    pub fn apply(&mut self, op: &Op, rng: &mut Rng) -> Outcome {
        self.change(op, rng).0
    }

    /// Carries out a change: its outcome, and the addresses that it removed.
    pub fn change(&mut self, op: &Op, rng: &mut Rng) -> (Outcome, Vec<Prefix>) {
        let own = match op.object.as_ref() {
            Object::Link(object) => op.number(&object.link.name),
            _ => None,
        };
        let mut links = op.links.iter().filter(|(_, link)| Some(*link) != own);
        let there = links.all(|(_, link)| self.link_at(*link).is_some());
        let Some(identity) = op.identity().filter(|_| there) else {
            return (Outcome::Refused(NO_DEVICE), Vec::new());
        };
        if rng.chance(self.refusals) {
            return (Outcome::Refused(BUSY), Vec::new());
        }
        let (link, prefix) = match identity {
            Identity::Address(link, prefix) => (link, prefix),
            Identity::Route(route) => return (self.change_route(op, *route), Vec::new()),
            Identity::Link(link, _) | Identity::Setting(link, _) => {
                let outcome = match op.object.as_ref() {
                    Object::Link(object) => self.change_link(&op.verb, object, link, own),
                    Object::Setting(object) => self.change_setting(&op.verb, object, link),
                    _ => Outcome::Refused(INVALID),
                };
                return (outcome, Vec::new());
            }
            Identity::Rule(rule) => return (self.change_rule(op, *rule), Vec::new()),
            Identity::FilterTable(_) | Identity::Filter(_) => {
                return (self.filters.change(op, &identity), Vec::new());
            }
            Identity::SyncDaemon(role) => {
                let before = match (&op.verb, op.object.as_ref()) {
                    (Verb::Delete { .. }, _) => self.daemons.remove(&role).is_none(),
                    (_, Object::SyncDaemon(daemon)) => {
                        self.daemons.insert(role, (**daemon).clone()).as_ref() == Some(&**daemon)
                    }
                    _ => return (Outcome::Refused(INVALID), Vec::new()),
                };
                return (if before { Outcome::Already } else { Outcome::Done }, Vec::new());
            }
        };
        match &op.verb {
            Verb::Add | Verb::Replace { .. } if self.impossible.contains(&prefix) => {
                (Outcome::Refused(INVALID), Vec::new())
            }
            Verb::Replace { in_place: false, .. } => {
                let gone = self.remove_some(link, prefix, true);
                self.add(link, prefix);
                self.set_attributes(link, prefix, op);
                (Outcome::Done, gone)
            }
            Verb::Add | Verb::Replace { .. } => {
                let new = self.add(link, prefix);
                if new || op.verb != Verb::Add {
                    self.set_attributes(link, prefix, op);
                }
                (if new { Outcome::Done } else { Outcome::Already }, Vec::new())
            }
            Verb::Delete { keep_secondaries } => {
                let gone = self.remove_some(link, prefix, self.promote || *keep_secondaries);
                (if gone.is_empty() { Outcome::Already } else { Outcome::Done }, gone)
            }
        }
    }

    fn set_attributes(&mut self, link: IfIndex, prefix: Prefix, op: &Op) {
        let attributes = op.object.address().map(AddressAttributes::of);
        self.attributes.extend(attributes.map(|new| ((link, prefix), new)));
    }

    fn change_route(&mut self, op: &Op, identity: RouteIdentity<IfIndex>) -> Outcome {
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
        let attributes = match op.object.as_ref() {
            Object::Route(route) => RouteAttributes::of(route),
            _ => RouteAttributes::default(),
        };
        self.routes.push(SimRoute { identity, links, source, attributes });
        Outcome::Done
    }

    fn change_rule(&mut self, op: &Op, rule: Rule) -> Outcome {
        let done = match op.verb {
            Verb::Delete { .. } => {
                let gone = self.rules.remove(&rule);
                if gone {
                    self.events.push(rule_gone(&rule, true));
                }
                gone
            }
            Verb::Add | Verb::Replace { .. } => self.rules.insert(rule),
        };
        if done { Outcome::Done } else { Outcome::Already }
    }

    /// Another program removes all rules.
    pub fn flush_rules(&mut self) {
        let gone = core::mem::take(&mut self.rules);
        self.events.extend(gone.iter().map(|rule| rule_gone(rule, false)));
    }

    /// Removes the routes of an interface that went down: those of IPv4 without an event, as in Linux.
    pub fn went_down(&mut self, link: IfIndex) {
        self.follow_parent(link, false);
        let (gone, left): (Vec<_>, Vec<_>) = core::mem::take(&mut self.routes)
            .into_iter()
            .partition(|route| route.links.contains(&link));
        self.routes = left;
        let told = gone.iter().filter(|r| r.identity.slot.family == Family::V6);
        self.events.extend(told.map(|r| r.change(ChangeKind::Gone, false)));
    }

    /// The changes of routes and rules since the last call that Linux reports.
    pub fn take_events(&mut self) -> Vec<Change> {
        let filters = self.filters.take_events();
        core::mem::take(&mut self.events).into_iter().chain(filters).collect()
    }

    /// Another program removes all routes.
    pub fn flush_routes(&mut self) {
        let gone = core::mem::take(&mut self.routes);
        self.events.extend(gone.iter().map(|r| r.change(ChangeKind::Gone, false)));
    }

    /// Joins a group. Returns whether the link exists.
    pub fn join(&mut self, link: IfIndex, group: IpAddr) -> bool {
        let there = self.link_at(link).is_some();
        if there {
            self.joined.insert((link, group));
        }
        there
    }

    /// Whether a group is joined, or could be.
    #[must_use]
    pub fn may_listen(&self, link: IfIndex, group: IpAddr) -> bool {
        !self.refuses_joins || self.joined.contains(&(link, group))
    }

    pub fn leave(&mut self, link: IfIndex, group: IpAddr) {
        self.joined.remove(&(link, group));
    }

    /// The sockets of the daemon are closed.
    pub fn leave_all(&mut self) {
        self.joined.clear();
    }

    /// The multicast groups that the daemon has joined.
    pub fn memberships(&self) -> impl Iterator<Item = (IfIndex, IpAddr)> {
        self.joined.iter().copied().filter(|(_, group)| group.is_multicast())
    }

    /// Whether a packet for this address is received on a link.
    #[must_use]
    pub fn receives(&self, link: IfIndex, destination: IpAddr) -> bool {
        if destination.is_multicast() {
            return self.joined.contains(&(link, destination));
        }
        self.addresses.iter().any(|(_, prefix)| prefix.address == destination)
    }
}

/// The address of a host, from 1 on, on a segment, from 2 on.
pub(super) fn home(segment: u8, host: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, 0, segment, host.saturating_add(70)]),
        Family::V6 => IpAddr::from([0xfe80, 0, 0, 0, 0, 0, u16::from(segment), u16::from(host)]),
    }
}

/// A rule as the kernel reports it.
fn rule_sight(rule: &Rule) -> Sight {
    let identity = Identity::Rule(Box::new(rule.clone()));
    Sight { identity, links: Vec::new(), attributes: None }
}

fn rule_gone(rule: &Rule, own: bool) -> Change {
    Change { sight: rule_sight(rule), kind: ChangeKind::Gone, own }
}

/// A route in the simulated kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimRoute {
    pub identity: RouteIdentity<IfIndex>,
    pub links: Vec<IfIndex>,
    /// Its preferred source.
    pub source: Option<IpAddr>,
    pub attributes: RouteAttributes,
}

impl SimRoute {
    /// The route as the kernel reports it.
    #[must_use]
    pub fn sight(&self) -> Sight {
        let identity = Identity::Route(Box::new(self.identity.clone()));
        let attributes = RouteAttributes { source: self.source, ..self.attributes.clone() };
        let attributes = Some(Box::new(Attributes::Route(attributes)));
        Sight { identity, links: self.links.clone(), attributes }
    }

    fn change(&self, kind: ChangeKind, own: bool) -> Change {
        Change { sight: self.sight(), kind, own }
    }
}
