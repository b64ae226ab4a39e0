//! Packet filters: our own tables of nftables, one for each family, and the elements of their sets. The chains and
//! rules of a table follow from its settings, so a table is one object; the elements are objects of their own, added
//! and removed with the states of instances.
//!
//! Every change of the table itself affects its elements: table and elements are recreated as a whole.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr};

use super::object::{Identity, Object, Phase, Verb};
use super::table::{ObjectId, Table, Waits};
use crate::base::{Family, IfIndex, IfName, Name};
use crate::model::{FilterSettings, LinkKind, VirtualLink};

/// What identifies a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilterTableId {
    /// The family of its packets.
    pub family: Family,
    pub name: Name,
}

/// A table of nftables with its chains, sets and rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterTable {
    /// The family of its packets.
    pub family: Family,
    /// Its name and the settings of its chains and rules.
    pub settings: FilterSettings,
    /// It has rules for virtual MACs.
    pub vmacs: bool,
}

impl FilterTable {
    /// What identifies it.
    #[must_use]
    pub fn id(&self) -> FilterTableId {
        FilterTableId { family: self.family, name: self.settings.table.clone() }
    }
}

/// What an element matches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element<L> {
    /// Packets to and from an address.
    Address(IpAddr),
    /// The same for a link-local address: on the interface with this index.
    OnLink(IpAddr, L),
    /// The same, on the interface with this name.
    OnNamed(IpAddr, IfName),
    /// Membership reports sent by an interface with a virtual MAC: they must leave by its parent.
    Vmac {
        /// The interface, by name: the filter must be there before it sends anything.
        vmac: IfName,
        parent: L,
    },
}

/// An element of a set of a table. All of it identifies it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Filter<L> {
    pub table: FilterTableId,
    /// What is matched.
    pub element: Element<L>,
}

impl Filter<IfName> {
    /// The filter of a virtual address that is on an interface.
    #[must_use]
    pub fn of_address(settings: &FilterSettings, address: IpAddr, interface: &IfName) -> Self {
        let family = Family::of(&address);
        let element = match address {
            IpAddr::V6(v6) if v6.is_unicast_link_local() && settings.by_index => {
                Element::OnLink(address, interface.clone())
            }
            IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                Element::OnNamed(address, interface.clone())
            }
            _ => Element::Address(address),
        };
        Self { table: FilterTableId { family, name: settings.table.clone() }, element }
    }

    /// The filter of an interface with a virtual MAC; none if it needs none. Reports of IPv4 memberships are a setting
    /// of the host (`disable_local_igmp`).
    #[must_use]
    pub fn of_link(settings: &FilterSettings, link: &VirtualLink) -> Option<Self> {
        let needed = link.carries_v6 && matches!(link.kind, LinkKind::Macvlan { .. });
        let table = FilterTableId { family: Family::V6, name: settings.table.clone() };
        let element = Element::Vmac { vmac: link.name.clone(), parent: link.parent.clone() };
        needed.then_some(Self { table, element })
    }

    /// When it is added.
    pub(super) const fn phase(&self) -> Phase {
        match self.element {
            Element::Vmac { .. } => Phase::LinkFilter,
            Element::Address(_) | Element::OnLink(..) | Element::OnNamed(..) => Phase::Filter,
        }
    }

    /// The interfaces it requires.
    pub(super) fn interfaces(&self) -> Vec<&IfName> {
        match &self.element {
            Element::Address(_) | Element::OnNamed(..) => Vec::new(),
            Element::OnLink(_, link) => vec![link],
            Element::Vmac { parent, .. } => vec![parent],
        }
    }

    pub(super) fn place(
        &self,
        number: impl Fn(&IfName) -> Option<IfIndex>,
    ) -> Option<Filter<IfIndex>> {
        let element = match &self.element {
            Element::Address(address) => Element::Address(*address),
            Element::OnNamed(address, name) => Element::OnNamed(*address, name.clone()),
            Element::OnLink(address, link) => Element::OnLink(*address, number(link)?),
            Element::Vmac { vmac, parent } => {
                Element::Vmac { vmac: vmac.clone(), parent: number(parent)? }
            }
        };
        Some(Filter { table: self.table.clone(), element })
    }
}

impl<L> Filter<L> {
    /// The address whose packets it drops.
    const fn address(&self) -> Option<IpAddr> {
        match &self.element {
            Element::Address(address)
            | Element::OnLink(address, _)
            | Element::OnNamed(address, _) => Some(*address),
            Element::Vmac { .. } => None,
        }
    }

    /// The smallest element of a table: where its elements begin in the order.
    fn first(table: &FilterTableId) -> Self {
        let element = Element::Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Self { table: table.clone(), element }
    }
}

/// The elements of a table in a sorted list of identities.
pub(super) fn elements<'a, L: Ord + 'a>(
    all: impl Iterator<Item = &'a Identity<L>> + 'a,
    table: &'a FilterTableId,
) -> impl Iterator<Item = &'a Identity<L>> + 'a {
    all.take_while(move |i| matches!(i, Identity::Filter(filter) if filter.table == *table))
}

/// Where the elements of a table begin in the order of identities.
pub(super) fn begin<L>(table: &FilterTableId) -> Identity<L> {
    Identity::Filter(Box::new(Filter::first(table)))
}

impl<C: Copy + PartialEq> Table<C> {
    /// What an element waits for: its table.
    pub(super) fn waits_for_table(&self, object: &Object) -> Option<Waits> {
        let Object::Filter(filter) = object else { return None };
        let table = self.by_key.get(&Identity::FilterTable(filter.table.clone()))?;
        let coming = match &self.entry(*table)?.in_flight {
            Some(operation) => operation.verb.adds(),
            None => self.is_present(*table),
        };
        (!coming).then(|| Waits::FilterTable(filter.table.clone(), *table))
    }

    /// A table was removed or changed: its elements are gone. Adds their entries to `affected`.
    pub(super) fn lost_elements(
        &mut self,
        identity: &Identity<IfIndex>,
        affected: &mut Vec<ObjectId>,
    ) {
        let Identity::FilterTable(table) = identity else { return };
        for element in self.observed.elements(table) {
            self.observed.lost(&element);
        }
        affected.extend(self.elements_of(table));
    }

    /// An entry and, if it is a table, its elements: they are added together.
    #[must_use]
    pub fn with_elements(&self, id: ObjectId) -> Vec<ObjectId> {
        let mut all = vec![id];
        if let Some(Object::FilterTable(table)) = self.entry(id).map(|e| e.object.as_ref()) {
            let table = table.id();
            let keys = self.by_key.range(begin(&table)..);
            all.extend(
                keys.take_while(|(key, _)| matches!(key, Identity::Filter(f) if f.table == table))
                    .map(|(_, id)| *id),
            );
        }
        all
    }

    /// Entries that are elements of a table.
    fn elements_of(&mut self, table: &FilterTableId) -> Vec<ObjectId> {
        let keys = self.by_key.range(begin(table)..).map(|(key, _)| key);
        let count = elements(keys, table).count();
        let all: Vec<ObjectId> =
            self.by_key.range(begin(table)..).take(count).map(|(_, id)| *id).collect();
        for id in &all {
            // Elements that were refused because the table was missing can be added now.
            if let Some(entry) = self.entry_mut(*id) {
                entry.refused = None;
            }
        }
        all
    }

    /// Whether the removal of an element must wait for that of an address. If the address is being added, the element
    /// is removed first.
    pub(super) fn waits_for_address(&self, object: &Object) -> bool {
        let Object::Filter(filter) = object else { return false };
        let Some(address) = filter.address() else { return false };
        let all = (address, ObjectId(0))..=(address, ObjectId(u32::MAX));
        let operation = |id: ObjectId| self.entry(id).and_then(|entry| entry.in_flight.as_ref());
        let coming = |id: ObjectId| operation(id).is_some_and(|operation| operation.verb.adds());
        self.by_address.range(all).any(|(_, id)| coming(*id))
    }

    /// The entries of elements that drop packets of an address.
    pub(super) fn filters_of(&self, object: &Object) -> Vec<ObjectId> {
        let Object::Address(address) = object else { return Vec::new() };
        let (ip, name) = (address.prefix.address, &address.interface);
        let elements = [
            Element::Address(ip),
            Element::OnLink(ip, name.clone()),
            Element::OnNamed(ip, name.clone()),
        ];
        let tables = self.tables().into_iter().filter(|(id, _)| id.family == Family::of(&ip));
        let filter = |(table, element): (&FilterTableId, &Element<IfName>)| {
            let filter = Filter { table: table.clone(), element: element.clone() };
            self.by_key.get(&Identity::Filter(Box::new(filter))).copied()
        };
        let tables: Vec<FilterTableId> = tables.map(|(id, _)| id).collect();
        let all = tables.iter().flat_map(|table| elements.iter().map(move |e| (table, e)));
        all.filter_map(filter).collect()
    }

    /// A filter of an address that somebody claims and whose removal is under way: the address may not be there without
    /// it.
    pub(super) fn leaving_filter(&self, object: &Object) -> Option<ObjectId> {
        self.filters_of(object).into_iter().find(|filter| {
            let Some(entry) = self.entry(*filter).filter(|entry| !entry.claimants.is_empty())
            else {
                return false;
            };
            entry.in_flight.as_ref().is_some_and(|asked| matches!(asked.verb, Verb::Delete { .. }))
        })
    }

    /// The entries of the address whose packets an element drops.
    pub(super) fn addresses_of(&self, filter: &Filter<IfName>) -> Vec<ObjectId> {
        let Some(ip) = filter.address() else { return Vec::new() };
        let all = (ip, ObjectId(0))..=(ip, ObjectId(u32::MAX));
        self.by_address.range(all).map(|(_, id)| *id).collect()
    }

    /// The tables that entries refer to.
    fn tables(&self) -> Vec<(FilterTableId, ObjectId)> {
        let least = FilterTableId { family: Family::V4, name: Name::default() };
        let tables = self.by_key.range(Identity::FilterTable(least)..);
        let table = |(key, id): (&Identity<IfName>, &ObjectId)| match key {
            Identity::FilterTable(table) => Some((table.clone(), *id)),
            _ => None,
        };
        tables.map_while(table).collect()
    }

    /// The entry of the table that contains a foreign element, which no entry wants.
    pub(super) fn intruded(&self, identity: &Identity<IfIndex>) -> Option<ObjectId> {
        let Identity::Filter(filter) = identity else { return None };
        self.by_key.get(&Identity::FilterTable(filter.table.clone())).copied()
    }

    /// Marks tables with elements that no entry names, left by another process: they are recreated. Returns the entries
    /// to compare again.
    pub fn drop_strays(&mut self) -> Vec<ObjectId> {
        let mut affected = Vec::new();
        for (table, id) in self.tables() {
            let stray =
                self.observed.elements(&table).iter().any(|e| !self.by_place.contains_key(e));
            if stray {
                self.lost(&Identity::FilterTable(table), &mut affected);
                affected.push(id);
            }
        }
        affected
    }
}

impl fmt::Display for FilterTableId {
    /// As in `nftables table ip keepalived`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        write!(f, "nftables table {family} {}", self.name)
    }
}

impl<L: fmt::Display> fmt::Display for Filter<L> {
    /// As in `filter of 10.0.0.100` and `filter of fe80::100 on eth0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.element {
            Element::Address(address) => write!(f, "filter of {address}"),
            Element::OnLink(address, link) => write!(f, "filter of {address} on {link}"),
            Element::OnNamed(address, name) => write!(f, "filter of {address} on {name}"),
            Element::Vmac { vmac, .. } => write!(f, "filter of virtual MAC interface {vmac}"),
        }
    }
}
