//! The kernel's table of virtual servers: as a value, the differences of two, and the effect of one change.
//!
//! [`Table`] represents a dump of the kernel as well as what the check engine wants. [`plan`] finds the operations
//! between the two, [`Table::apply`] computes the effect of one of them and its answer: the engine tracks the kernel's
//! state with it, and the simulator plays the kernel with it. Ownership is not known here: pass `plan` a table without
//! foreign entries.

use core::fmt;
use core::net::IpAddr;
use std::collections::btree_map;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::base::{Family, Name};
use crate::model::service::{Forward, SorryServer};
use crate::model::{RealServer, Service, ServiceKey};

/// Flag of a service: sessions stay with their server (`IP_VS_SVC_F_PERSISTENT`).
pub const PERSISTENT: u32 = 0x01;
/// Flags that a configuration can set beside [`PERSISTENT`]: `ops` and the three flags of the scheduler.
/// The kernel reports more (it has hashed the service): they are left out of every comparison.
pub const SCHEDULER_FLAGS: u32 = 0x04 | 0x08 | 0x10 | 0x20;

/// No such entry.
pub(crate) const ENOENT: i32 = 2;
/// No such service.
pub(crate) const ESRCH: i32 = 3;

/// One change of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Empty the table, including foreign entries.
    Flush,
    /// Add a service.
    AddService { service: ServiceKey, settings: Settings },
    /// Change the settings of a service. Its servers, counters and connections stay.
    SetService { service: ServiceKey, settings: Settings },
    /// Remove a service with its servers.
    DeleteService { service: ServiceKey },
    /// Add a server to a service.
    AddDestination { service: ServiceKey, destination: DestinationKey, settings: Destination },
    /// Change the settings of a server. Its counters and connections stay.
    SetDestination { service: ServiceKey, destination: DestinationKey, settings: Destination },
    /// Remove a server from a service.
    DeleteDestination { service: ServiceKey, destination: DestinationKey },
}

impl Op {
    /// The service it concerns; none for [`Op::Flush`].
    #[must_use]
    pub const fn service(&self) -> Option<ServiceKey> {
        match self {
            Self::Flush => None,
            Self::AddService { service, .. }
            | Self::SetService { service, .. }
            | Self::DeleteService { service }
            | Self::AddDestination { service, .. }
            | Self::SetDestination { service, .. }
            | Self::DeleteDestination { service, .. } => Some(*service),
        }
    }

    /// The server it concerns; none for operations on a service as a whole.
    #[must_use]
    pub const fn destination(&self) -> Option<DestinationKey> {
        match self {
            Self::Flush
            | Self::AddService { .. }
            | Self::SetService { .. }
            | Self::DeleteService { .. } => None,
            Self::AddDestination { destination, .. }
            | Self::SetDestination { destination, .. }
            | Self::DeleteDestination { destination, .. } => Some(*destination),
        }
    }
}

/// Settings of a service, as the kernel keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    pub scheduler: Name,
    /// [`PERSISTENT`] and [`SCHEDULER_FLAGS`], nothing else.
    pub flags: u32,
    /// Seconds that a session lasts; 0 unless persistent.
    pub timeout: u32,
    /// Which clients count as one: an IPv4 mask as a number (255.255.255.0 is 0xffffff00) or the length of an IPv6
    /// prefix. That of a single host unless persistent.
    pub netmask: u32,
    /// The persistence engine, only with persistence.
    pub engine: Option<Name>,
}

impl Settings {
    /// The settings of the first key of `service`.
    #[must_use]
    pub fn of(service: &Service) -> Self {
        Self::at(service, &service.key)
    }

    /// The settings of one key of `service`. A mask applies to the family of the first key: for keys of the other
    /// family each host is a separate client.
    #[must_use]
    pub fn at(service: &Service, key: &ServiceKey) -> Self {
        let flags = service.flags & SCHEDULER_FLAGS;
        let host = host_mask(key.family());
        let alike = key.family() == service.key.family();
        let (flags, timeout, netmask, engine) = match &service.persistence {
            Some(p) => {
                let mask = if alike { p.granularity } else { host };
                (flags | PERSISTENT, p.timeout, mask, p.engine.clone())
            }
            None => (flags, 0, host, None),
        };
        Self { scheduler: service.scheduler.clone(), flags, timeout, netmask, engine }
    }

    /// These settings without values that have no effect (flags of the kernel's own, a mask without persistence), so
    /// that equal behaviour means equal values.
    #[must_use]
    pub fn normalised(mut self, family: Family) -> Self {
        self.flags &= PERSISTENT | SCHEDULER_FLAGS;
        if self.flags & PERSISTENT == 0 {
            self.timeout = 0;
            self.netmask = host_mask(family);
            self.engine = None;
        }
        self
    }
}

/// What identifies a server within a service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DestinationKey {
    pub address: IpAddr,
    /// Its port, 0 for a service by mark.
    pub port: u16,
}

impl DestinationKey {
    /// The key of a real server of a service that is not a group.
    #[must_use]
    pub const fn of(server: &RealServer) -> Self {
        Self { address: server.address, port: server.port }
    }

    /// The key of a sorry server of a service that is not a group.
    #[must_use]
    pub const fn of_sorry(server: &SorryServer) -> Self {
        Self { address: server.address, port: server.port }
    }

    /// The key of a real server in the service `key`.
    #[must_use]
    pub const fn at(server: &RealServer, key: &ServiceKey) -> Self {
        Self { address: server.address, port: key.entry_port(server.forward, server.port) }
    }

    /// The key of a sorry server in the service `key`.
    #[must_use]
    pub const fn sorry_at(server: &SorryServer, key: &ServiceKey) -> Self {
        Self { address: server.address, port: key.entry_port(server.forward, server.port) }
    }
}

impl fmt::Display for DestinationKey {
    /// `10.0.0.71:80`, an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::net::SocketAddr::new(self.address, self.port).fmt(f)
    }
}

impl fmt::Debug for DestinationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Settings of a server, as the kernel keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The forwarding method.
    pub forward: Forward,
    /// Its weight, 0 to 2,147,483,647; 0: no new connections.
    pub weight: u32,
    /// Number of connections above which it gets no new ones; 0 for no limit.
    pub upper_threshold: u32,
    /// Number of connections below which it gets new ones again.
    pub lower_threshold: u32,
}

impl Destination {
    /// The settings of `server` with `weight`.
    #[must_use]
    pub const fn of(server: &RealServer, weight: u32) -> Self {
        Self {
            forward: server.forward,
            weight,
            upper_threshold: server.upper_threshold,
            lower_threshold: server.lower_threshold,
        }
    }

    /// The settings of a sorry server with `weight`.
    #[must_use]
    pub const fn of_sorry(server: &SorryServer, weight: u32) -> Self {
        Self { forward: server.forward, weight, upper_threshold: 0, lower_threshold: 0 }
    }
}

/// One service with its servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub settings: Settings,
    /// Its servers.
    pub destinations: Destinations,
}

/// The servers of one service: sorted pairs, because most services have a handful and there are many services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destinations(Vec<(DestinationKey, Destination)>);

impl Destinations {
    /// The settings of `key`.
    #[must_use]
    pub fn get(&self, key: &DestinationKey) -> Option<&Destination> {
        let at = self.find(key).ok()?;
        self.0.get(at).map(|(_, settings)| settings)
    }

    /// Sets the settings of `key`.
    pub fn insert(&mut self, key: DestinationKey, settings: Destination) {
        match self.find(&key) {
            Ok(at) => {
                if let Some(pair) = self.0.get_mut(at) {
                    pair.1 = settings;
                }
            }
            Err(at) => self.0.insert(at, (key, settings)),
        }
    }

    /// Removes `key`; false if it was not there.
    pub fn remove(&mut self, key: &DestinationKey) -> bool {
        match self.find(key) {
            Ok(at) => {
                self.0.remove(at);
                true
            }
            Err(_) => false,
        }
    }

    /// All servers, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (DestinationKey, &Destination)> {
        self.0.iter().map(|(key, settings)| (*key, settings))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, key: &DestinationKey) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(key))
    }
}

impl FromIterator<(DestinationKey, Destination)> for Destinations {
    fn from_iter<I: IntoIterator<Item = (DestinationKey, Destination)>>(pairs: I) -> Self {
        let mut list = Self::default();
        for (key, settings) in pairs {
            list.insert(key, settings);
        }
        list
    }
}

/// Services with their servers: the kernel's table, or a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    pub services: BTreeMap<ServiceKey, Entry>,
    /// Servers that the kernel reports as local instead of with the requested forwarding method (kernels before
    /// 2.6.37, and servers made for it).
    pub local: BTreeSet<(ServiceKey, DestinationKey)>,
}

impl Table {
    /// Removes an entry that was read. For a local server the known forwarding method is used, because the kernel
    /// does not report it.
    pub fn take(&mut self, key: &ServiceKey, known: Option<&Entry>) -> Option<Entry> {
        let mut entry = self.services.remove(key)?;
        for (_, destination) in self.local.iter().filter(|(service, _)| service == key) {
            let known = known.and_then(|known| known.destinations.get(destination));
            let found = entry.destinations.get(destination);
            if let (Some(known), Some(found)) = (known, found) {
                let forward = known.forward;
                entry.destinations.insert(*destination, Destination { forward, ..*found });
            }
        }
        Some(entry)
    }

    /// Carries out `op` as the kernel does, and answers as it does.
    pub fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Flush => {
                self.services.clear();
                Outcome::Done
            }
            Op::AddService { service, settings } => match self.services.entry(*service) {
                btree_map::Entry::Occupied(_) => Outcome::Already,
                btree_map::Entry::Vacant(place) => {
                    place.insert(Entry {
                        settings: settings.clone(),
                        destinations: Destinations::default(),
                    });
                    Outcome::Done
                }
            },
            Op::SetService { service, settings } => match self.services.get_mut(service) {
                Some(entry) => {
                    entry.settings = settings.clone();
                    Outcome::Done
                }
                None => Outcome::Refused(ESRCH),
            },
            Op::DeleteService { service } => match self.services.remove(service) {
                Some(_) => Outcome::Done,
                None => Outcome::Already,
            },
            Op::AddDestination { service, destination, settings } => match self
                .services
                .get_mut(service)
            {
                Some(entry) if entry.destinations.get(destination).is_some() => Outcome::Already,
                Some(entry) => {
                    entry.destinations.insert(*destination, *settings);
                    Outcome::Done
                }
                None => Outcome::Refused(ESRCH),
            },
            Op::SetDestination { service, destination, settings } => {
                match self.services.get_mut(service) {
                    Some(entry) if entry.destinations.get(destination).is_some() => {
                        entry.destinations.insert(*destination, *settings);
                        Outcome::Done
                    }
                    Some(_) => Outcome::Refused(ENOENT),
                    None => Outcome::Refused(ESRCH),
                }
            }
            Op::DeleteDestination { service, destination } => {
                let entry = self.services.get_mut(service);
                if entry.is_some_and(|entry| entry.destinations.remove(destination)) {
                    Outcome::Done
                } else {
                    Outcome::Already
                }
            }
        }
    }

    /// The settings of one server.
    #[must_use]
    pub fn destination(
        &self,
        service: &ServiceKey,
        destination: &DestinationKey,
    ) -> Option<&Destination> {
        self.services.get(service)?.destinations.get(destination)
    }
}

/// The operations that turn `have` into `want`: first additions and changes, service by service with its servers, then
/// removals of servers and services. Entries that are equal in both are not touched.
#[must_use]
pub fn plan(have: &Table, want: &Table) -> Vec<Op> {
    let mut ops = Vec::new();
    for (service, wanted) in &want.services {
        let present = have.services.get(service);
        ops.extend(service_op(
            *service,
            present.map(|entry| &entry.settings),
            Some(&wanted.settings),
        ));
        for (destination, settings) in wanted.destinations.iter() {
            let now = present.and_then(|entry| entry.destinations.get(&destination));
            ops.extend(destination_op(*service, destination, now, Some(settings)));
        }
    }
    for (service, entry) in &have.services {
        let Some(wanted) = want.services.get(service) else {
            continue;
        };
        for (destination, settings) in entry.destinations.iter() {
            if wanted.destinations.get(&destination).is_none() {
                ops.extend(destination_op(*service, destination, Some(settings), None));
            }
        }
    }
    for (service, entry) in &have.services {
        if !want.services.contains_key(service) {
            ops.extend(service_op(*service, Some(&entry.settings), None));
        }
    }
    ops
}

/// The operation that gives one service the wanted settings; none if it has them.
#[must_use]
pub fn service_op(
    service: ServiceKey,
    have: Option<&Settings>,
    want: Option<&Settings>,
) -> Option<Op> {
    match (have, want) {
        (None, Some(want)) => Some(Op::AddService { service, settings: want.clone() }),
        (Some(have), Some(want)) if have != want => {
            Some(Op::SetService { service, settings: want.clone() })
        }
        (Some(_), None) => Some(Op::DeleteService { service }),
        _ => None,
    }
}

/// The operation that makes one server as wanted; none if it is.
#[must_use]
pub fn destination_op(
    service: ServiceKey,
    destination: DestinationKey,
    have: Option<&Destination>,
    want: Option<&Destination>,
) -> Option<Op> {
    match (have, want) {
        (None, Some(want)) => Some(Op::AddDestination { service, destination, settings: *want }),
        (Some(have), Some(want)) if have != want => {
            Some(Op::SetDestination { service, destination, settings: *want })
        }
        (Some(_), None) => Some(Op::DeleteDestination { service, destination }),
        _ => None,
    }
}

const fn host_mask(family: Family) -> u32 {
    match family {
        Family::V4 => u32::MAX,
        Family::V6 => 128,
    }
}

#[cfg(test)]
mod tests;
