//! The kinds of objects that the daemon puts into the kernel, as the planner sees them: what identifies one, in which
//! phase it is added, what it depends on. A new kind is a variant of [`Object`] and of [`Identity`] and a file beside
//! this one that answers these questions; `kernel` writes and reads it.

use core::fmt;
use core::net::IpAddr;
use std::sync::Arc;

use crate::base::{Family, IfIndex, IfName, Prefix};
use crate::model::route::Rule;
use crate::model::{Address, Route};

use super::address::AddressAttributes;
use super::filter::{Filter, FilterTable, FilterTableId};
use super::link::{LinkAttributes, LinkObject, Setting, SettingObject};
use super::route::{RouteAttributes, RouteIdentity};
use super::sync::{SyncDaemon, SyncRole};

/// A wanted kernel object. Interfaces are given by name, since their index may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// An address on an interface.
    Address(Address),
    Route(Box<Route>),
    /// An interface on another one.
    Link(Box<LinkObject>),
    /// A setting of an interface.
    Setting(Box<SettingObject>),
    /// A policy rule.
    Rule(Box<Rule>),
    /// A table of packet filters.
    FilterTable(Box<FilterTable>),
    /// An element of a set of such a table.
    Filter(Box<Filter<IfName>>),
    /// A daemon that sends or receives IPVS connections.
    SyncDaemon(Box<SyncDaemon>),
}

/// What makes two objects the same one; everything else about them is an attribute. With `L` = [`IfName`] as in the
/// configuration, with `L` = [`IfIndex`] as in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity<L> {
    /// An address on an interface.
    Address(L, Prefix),
    Route(Box<RouteIdentity<L>>),
    /// An interface of this name on another one.
    Link(L, IfName),
    /// A setting of an interface.
    Setting(L, Setting),
    /// A policy rule, as [`super::rule::identity`] makes it.
    Rule(Box<Rule>),
    /// A table of packet filters.
    FilterTable(FilterTableId),
    /// An element of a set of such a table.
    Filter(Box<Filter<L>>),
    /// The daemon of this kind.
    SyncDaemon(SyncRole),
}

/// The order in which objects are added; removals are in reverse order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Tables of packet filters.
    FilterTable,
    /// Their elements for interfaces: an interface sends its first packets as soon as it is created.
    LinkFilter,
    /// Interfaces and their settings.
    Link,
    /// Elements for addresses: added before the addresses and removed after them, so that no packet is accepted in between.
    Filter,
    Address,
    /// Routes: their interface and their preferred source must exist.
    Route,
    /// Policy rules: the table they lead to is complete.
    Rule,
    /// Daemons of IPVS.
    SyncDaemon,
}

/// How the attributes of an existing object can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// The kernel sees no difference.
    None,
    /// The object can be changed.
    InPlace,
    /// The object must be deleted and added again.
    Anew,
}

impl Object {
    /// What identifies it.
    #[must_use]
    pub fn identity(&self) -> Identity<IfName> {
        match self {
            Self::Address(address) => super::address::identity(address),
            Self::Route(route) => Identity::Route(Box::new(super::route::identity(route))),
            Self::Link(new) => Identity::Link(new.link.parent.clone(), new.link.name.clone()),
            Self::Setting(new) => Identity::Setting(new.interface.clone(), new.setting),
            Self::Rule(rule) => Identity::Rule(super::rule::identity(rule)),
            Self::FilterTable(table) => Identity::FilterTable(table.id()),
            Self::Filter(filter) => Identity::Filter(filter.clone()),
            Self::SyncDaemon(daemon) => Identity::SyncDaemon(daemon.role),
        }
    }

    /// When it is added.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self {
            Self::Address(_) => Phase::Address,
            Self::Route(_) => Phase::Route,
            Self::Link(_) | Self::Setting(_) => Phase::Link,
            Self::Rule(_) => Phase::Rule,
            Self::FilterTable(_) => Phase::FilterTable,
            Self::Filter(filter) => filter.phase(),
            Self::SyncDaemon(_) => Phase::SyncDaemon,
        }
    }

    /// The interfaces it is on. It requires all of them, and disappears with any of them.
    #[must_use]
    pub fn interfaces(&self) -> Vec<&IfName> {
        match self {
            Self::Address(address) => vec![&address.interface],
            Self::Route(route) => super::route::interfaces(route),
            Self::Link(new) => vec![&new.link.parent],
            Self::Setting(new) => vec![&new.interface],
            // A daemon continues to run without its interface, so its existence does not depend on it.
            Self::Rule(_) | Self::FilterTable(_) | Self::SyncDaemon(_) => Vec::new(),
            Self::Filter(filter) => filter.interfaces(),
        }
    }

    /// A local address that it depends on.
    #[must_use]
    pub const fn source(&self) -> Option<IpAddr> {
        match self {
            Self::Route(route) => route.source,
            _ => None,
        }
    }

    /// The address, if it is one.
    #[must_use]
    pub const fn address(&self) -> Option<&Address> {
        match self {
            Self::Address(address) => Some(address),
            _ => None,
        }
    }

    /// Whether it is restored when another program removes it (no `no_track`).
    #[must_use]
    pub const fn is_tracked(&self) -> bool {
        match self {
            Self::Address(address) => !address.no_track,
            Self::Route(route) => !route.no_track,
            Self::Link(_) | Self::Setting(_) | Self::FilterTable(_) => true,
            Self::Filter(_) | Self::SyncDaemon(_) => true,
            Self::Rule(rule) => !rule.no_track,
        }
    }

    /// Whether the kernel removes it without an event when an interface goes down or an address that it depends on is
    /// removed: routes of IPv4 (`fib_sync_down_dev`, `fib_sync_down_addr`).
    pub(super) const fn vanishes(&self) -> bool {
        match self {
            Self::Route(route) => matches!(route.family, Family::V4),
            _ => false,
        }
    }

    /// This object with the kernel's attributes.
    pub(super) fn found(&self, attributes: &Attributes) -> Self {
        // An identity and attributes of different kinds never occur together.
        match attributes {
            Attributes::Address(found) => match self {
                Self::Address(address) => Self::Address(found.applied_to(address)),
                _ => self.clone(),
            },
            Attributes::Route(found) => match self {
                Self::Route(route) => Self::Route(Box::new(found.applied_to(route))),
                _ => self.clone(),
            },
            Attributes::Link(found) => match self {
                Self::Link(new) => Self::Link(Box::new(found.applied_to(new))),
                _ => self.clone(),
            },
            Attributes::SyncDaemon(found) => match self {
                Self::SyncDaemon(daemon) => Self::SyncDaemon(Box::new(found.applied_to(daemon))),
                _ => self.clone(),
            },
        }
    }

    /// How `old`, of the same identity, can be changed into this.
    pub(super) fn difference(&self, old: &Self) -> Difference {
        // A kind that is missing here does not compile: its objects would be deleted and added with each reload.
        match self {
            Self::Address(new) => match old {
                Self::Address(old) => super::address::difference(old, new),
                _ => Difference::Anew,
            },
            Self::Route(new) => match old {
                Self::Route(old) => super::route::difference(old, new),
                _ => Difference::Anew,
            },
            Self::Link(new) => match old {
                Self::Link(old) => super::link::difference(old, new),
                _ => Difference::Anew,
            },
            Self::Setting(new) => match old {
                Self::Setting(old) if old.value == new.value => Difference::None,
                Self::Setting(_) => Difference::InPlace,
                _ => Difference::Anew,
            },
            // All of it identifies it.
            Self::Rule(_) | Self::Filter(_) => Difference::None,
            Self::FilterTable(_) | Self::SyncDaemon(_) if old == self => Difference::None,
            Self::FilterTable(_) | Self::SyncDaemon(_) => Difference::Anew,
        }
    }
}

impl fmt::Display for Object {
    /// As in `address 10.0.0.100/24 on eth0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => {
                write!(f, "address {} on {}", address.prefix, address.interface)
            }
            Self::Route(route) => super::route::describe(route, f),
            Self::Link(new) => super::link::describe(new, f),
            Self::Setting(new) => {
                write!(f, "{} {} of {}", new.setting.word(), new.value, new.interface)
            }
            Self::Rule(rule) => super::rule::describe(rule, f),
            Self::FilterTable(table) => table.id().fmt(f),
            Self::Filter(filter) => filter.fmt(f),
            Self::SyncDaemon(daemon) => daemon.fmt(f),
        }
    }
}

impl Identity<IfName> {
    /// The identity with interface indices and the tables of VRFs; none if an interface does not exist.
    pub(super) fn place(
        &self,
        number: impl Fn(&IfName) -> Option<IfIndex>,
        table: impl Fn(&IfName) -> Option<u32>,
    ) -> Option<Identity<IfIndex>> {
        Some(match self {
            Self::Address(interface, prefix) => Identity::Address(number(interface)?, *prefix),
            Self::Route(route) => Identity::Route(Box::new(route.place(number, table)?)),
            Self::Link(parent, name) => Identity::Link(number(parent)?, name.clone()),
            Self::Setting(interface, setting) => Identity::Setting(number(interface)?, *setting),
            Self::Rule(rule) => Identity::Rule(rule.clone()),
            Self::FilterTable(table) => Identity::FilterTable(table.clone()),
            Self::Filter(filter) => Identity::Filter(Box::new(filter.place(number)?)),
            Self::SyncDaemon(role) => Identity::SyncDaemon(*role),
        })
    }
}

/// An observed object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    pub identity: Identity<IfIndex>,
    pub links: Vec<IfIndex>,
    /// Its attributes, if the kernel reported them.
    pub attributes: Option<Box<Attributes>>,
}

/// The reported attributes of an object that are compared with the wanted ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attributes {
    Address(AddressAttributes),
    Route(RouteAttributes),
    Link(LinkAttributes),
    /// The attributes of an IPVS sync daemon.
    SyncDaemon(SyncDaemon),
}

impl Sight {
    #[must_use]
    pub fn address(interface: IfIndex, prefix: Prefix) -> Self {
        let identity = Identity::Address(interface, prefix);
        Self { identity, links: vec![interface], attributes: None }
    }

    /// The interface and the address, if it is one.
    #[must_use]
    pub const fn as_address(&self) -> Option<(IfIndex, Prefix)> {
        match self.identity {
            Identity::Address(interface, prefix) => Some((interface, prefix)),
            _ => None,
        }
    }
}

/// A kernel event about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub sight: Sight,
    /// Added, removed, or replacing another one.
    pub kind: ChangeKind,
    /// It results from our own request.
    pub own: bool,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It exists: added or changed.
    Present,
    /// It was removed.
    Gone,
    /// It was added, and one that looks identical may have been removed (`ip route replace`).
    Replaces,
}

impl Change {
    /// An address that was added or removed.
    #[must_use]
    pub fn address(interface: IfIndex, prefix: Prefix, present: bool, own: bool) -> Self {
        let kind = if present { ChangeKind::Present } else { ChangeKind::Gone };
        Self { sight: Sight::address(interface, prefix), kind, own }
    }
}

/// One change of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// What to do with it.
    pub verb: Verb,
    pub object: Arc<Object>,
    /// The indices of the interfaces that it names; for an interface on another one, also its own if known.
    pub links: Vec<(IfName, IfIndex)>,
}

/// What to do with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Add it. If it exists already, this is success.
    Add,
    /// Change its attributes from `before`. If the kernel cannot do that, delete and add it in one request.
    Replace {
        /// The kernel's current attributes.
        before: Arc<Object>,
        /// The kernel can change it, and no other object would be affected.
        in_place: bool,
    },
    /// Remove it. If it does not exist, this is success.
    Delete {
        /// It is the first IPv4 address of a subnet, and the others, which the kernel would remove with it, must stay.
        keep_secondaries: bool,
    },
}

impl Verb {
    /// Whether the object exists afterwards.
    #[must_use]
    pub const fn adds(&self) -> bool {
        !matches!(self, Self::Delete { .. })
    }
}

impl Op {
    /// The index of an interface that the object names.
    #[must_use]
    pub fn number(&self, interface: &IfName) -> Option<IfIndex> {
        self.links.iter().find(|(name, _)| name == interface).map(|(_, index)| *index)
    }

    /// The identity of the object in the kernel.
    #[must_use]
    pub fn identity(&self) -> Option<Identity<IfIndex>> {
        // Routes of operations name the table of their VRF.
        self.object.identity().place(|name| self.number(name), |_| None)
    }

    /// The interface and the address, if it concerns one.
    #[must_use]
    pub fn as_address(&self) -> Option<(IfIndex, &Address)> {
        let address = self.object.address()?;
        Some((self.number(&address.interface)?, address))
    }
}

impl fmt::Display for Op {
    /// As in `add address 10.0.0.100/24 on eth0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.verb {
            Verb::Add => "add",
            Verb::Replace { .. } => "replace",
            Verb::Delete { .. } => "delete",
        };
        write!(f, "{verb} {}", self.object)
    }
}
